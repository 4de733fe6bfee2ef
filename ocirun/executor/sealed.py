"""The helper's own file: a sealed copy, so that no container can reach the installed one (CVE-2019-5736).

A process that enters a container can be asked for /proc/PID/exe by what runs there.  So the helper runs from
a memfd sealed against every change; where the system refuses executable memfds (vm.memfd_noexec=2), from a
detached read-only mount of the installed file.
"""

from __future__ import annotations

import errno
import fcntl
import posix as os

import ocirun
from ocirun import paths
from ocirun.errors import HelperError, HostError, words_of
from ocirun.files import read_whole, write_whole

_MFD_CLOEXEC, _MFD_ALLOW_SEALING, _MFD_NOEXEC_SEAL, _MFD_EXEC = 1, 2, 8, 0x10
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def sealed(content: bytes, name: str, *, executable: bool) -> int:
    """A memfd of that name with ``content``, sealed: nobody can change it any more (memfd_create(2)).

    Raises OSError; EACCES for an executable one where vm.memfd_noexec is 2.
    """
    kind = _MFD_EXEC if executable else _MFD_NOEXEC_SEAL
    try:
        fd = os.memfd_create(name, _MFD_CLOEXEC | _MFD_ALLOW_SEALING | kind)
    except OSError as error:
        if error.errno != errno.EINVAL:  # before Linux 6.3 neither flag is known
            raise
        fd = os.memfd_create(name, _MFD_CLOEXEC | _MFD_ALLOW_SEALING)
    try:
        write_whole(fd, content)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _read_helper(path: str) -> bytes:
    from ocirun.native.build_id import HELPER_BUILD_ID

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise HelperError(
            f"open the helper: {words_of(error.errno or 0)}",
            path=path,
            errno=error.errno or 0,
            hint="it is built with the package: reinstall ocirun, or run `make build`",
        ) from error
    try:
        content = read_whole(fd)
    finally:
        os.close(fd)
    if bytes.fromhex(HELPER_BUILD_ID) not in content:
        raise HelperError(
            f"the helper {path} is not the one this ocirun was built with",
            path=path,
            code="helper-protocol",
            hint="it was replaced or the upgrade is half done: reinstall ocirun, or run `make build`",
        )
    return content


def installed() -> str:
    """Where the build puts the helper: in this package, which in the core has a place but no file."""
    return paths.absolute(f"{ocirun.__path__[0]}/native/bin/ocirun-helper")


def open_helper(path: str = "") -> int:
    """A descriptor to execute the helper from, checked against the build id of this package.

    Raises HelperError when it is missing or another build's, HostError when no safe copy can be made.
    """
    path = path or installed()
    content = _read_helper(path)
    try:
        return sealed(content, "ocirun-helper", executable=True)
    except OSError as error:
        if error.errno != errno.EACCES:
            raise HostError(f"memfd_create: {words_of(error.errno or 0)}", errno=error.errno or 0) from error
    from ocirun.executor.detached import open_detached

    return open_detached(path)
