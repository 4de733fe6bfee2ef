"""Compiled filters on disk: every container of one engine has the same profile.

    ROOT/.seccomp/KEY   a digest, a line about what made it, the program

The key is a digest of the profile, of the kernel and machine it is for, and of the version of our tables.
What is read is believed only if the directory and the file are ours alone, if the digest over key and content
holds, and if the libseccomp that compiled it is still the same file; else it is as if nothing were there.
Nothing that is wrong here stops a container: it is compiled then.
"""

from __future__ import annotations

import posix as os

from ocirun import paths
from ocirun.digest import SIZE, digest
from ocirun.files import read_whole, write_whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun_spec.types import Seccomp

    from ocirun.seccomp.compile import Compiled
    from ocirun.waiting import Task

#: Raise it when the same profile would be compiled into something else, or the files look otherwise.
VERSION = b"1"
NAME = ".seccomp"
#: The annotation, crun's, by which a name that libseccomp does not know is an error; "0" asks for nothing.
FAIL_UNKNOWN = "run.oci.seccomp_fail_unknown_syscall"
#: How many filters are kept; a host has a few profiles.
MOST = 64
_LONGEST = 4096 * 8 + 8192
_S_IFMT, _S_IFREG, _S_IFDIR = 0o170000, 0o100000, 0o040000
#: open(2) of what is no directory: ENOTDIR, or ELOOP for a link.
_NO_DIRECTORY = (20, 40)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_FILE = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Cached:
    """A program with the number of its rules and its key in hexadecimal; ``fresh`` says that it was compiled
    just now."""

    __slots__ = ("fresh", "key", "program", "rules")

    def __init__(self, program: bytes, rules: int, key: str, *, fresh: bool) -> None:
        self.program = program
        self.rules = rules
        self.key = key
        self.fresh = fresh


def look_up(
    root: str,
    profile: Seccomp,
    make: Callable[[Seccomp], Task[Compiled]],
    *,
    keep: bool = True,
    strict: bool = False,
) -> Task[Cached]:
    """The program for ``profile`` as it is kept below ``root``, or as ``make`` compiles it.

    With ``keep`` a new one is kept; that of a ``strict`` compiler is another.  Raises what ``make`` raises,
    and nothing else.
    """
    key = key_of(profile, strict=strict)
    directory = _opened(root, make=False)
    try:
        found = _read(directory, key) if directory >= 0 else None
    finally:
        if directory >= 0:
            os.close(directory)
    if found is not None:
        return found
    made = yield from make(profile)
    if keep:
        _keep(root, key, made)
    return Cached(made.program, made.rules, key, fresh=True)


def key_of(profile: Seccomp, *, strict: bool = False) -> str:
    """The name under which the program for ``profile`` is kept on this host."""
    host = os.uname()
    parts = [VERSION, host.machine.encode(), host.release.encode(), ascii(profile).encode()]
    return digest(b"\0".join([*parts, b"strict"] if strict else parts)).hex()


def _opened(root: str, *, make: bool) -> int:
    """The directory of the cache, -1 when it is not there or others could write to it."""
    path = paths.join(root, NAME)
    try:
        if make:
            _make(root, path)
        fd = _trusted(path)
        if fd < 0 and make:
            _replace(root, path)
            fd = _trusted(path)
    except OSError:
        return -1
    return fd


def _trusted(path: str) -> int:
    """The directory ``path``, -1 where it is none or others could write to it; raises OSError where it is
    not there."""
    try:
        fd = os.open(path, _DIRECTORY)
    except OSError as error:
        if error.errno in _NO_DIRECTORY:
            return -1
        raise
    if _is_ours(os.fstat(fd)):
        return fd
    os.close(fd)
    return -1


def _replace(root: str, path: str) -> None:
    """Moves what is in the way aside and makes the directory anew; what was ours is removed.

    It is renamed first: nobody may read in it while it is emptied, and a rename follows no link.
    """
    aside = f"{path}.{os.getpid()}"
    os.rename(path, aside)
    _make(root, path)
    facts = os.stat(aside, follow_symlinks=False)
    if facts.st_uid != os.geteuid():
        return
    if facts.st_mode & _S_IFMT != _S_IFDIR:
        os.unlink(aside)
        return
    _empty(aside)
    os.rmdir(aside)


def _empty(path: str) -> None:
    fd = os.open(path, _DIRECTORY)
    try:
        for name in os.listdir(fd):
            os.unlink(name, dir_fd=fd)
    finally:
        os.close(fd)


def _make(root: str, path: str) -> None:
    from os import makedirs

    makedirs(root, 0o711, exist_ok=True)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return


def _is_ours(facts: os.stat_result) -> bool:
    return facts.st_uid == os.geteuid() and not facts.st_mode & 0o077


def _read(directory: int, key: str) -> Cached | None:
    """What is kept under ``key``, None when that is nothing to rely on."""
    try:
        fd = os.open(key, os.O_RDONLY | _FILE, dir_fd=directory)
    except OSError:
        return None
    try:
        facts = os.fstat(fd)
        if facts.st_mode & _S_IFMT != _S_IFREG or not _is_ours(facts):
            return None
        content = read_whole(fd, _LONGEST)
    except OSError:
        return None
    finally:
        os.close(fd)
    if len(content) > _LONGEST or digest(key.encode() + content[SIZE:]) != content[:SIZE]:
        return None
    line, _, program = content[SIZE:].partition(b"\n")
    rules, _, library = line.partition(b" ")
    if not library or library != _identity(library.partition(b" ")[2]):
        return None
    return Cached(program, int(rules), key, fresh=False)


def _identity(path: bytes) -> bytes:
    """A library as the file it is now: another one may compile otherwise.  b"" where it is gone."""
    try:
        facts = os.stat(path)
    except OSError:
        return b""
    numbers = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)
    return ":".join(map(str, numbers)).encode() + b" " + path


def _keep(root: str, key: str, made: Compiled) -> None:
    """Puts a program in place at once, and the oldest away; a full or read-only disk only means that the next
    container compiles again."""
    directory = _opened(root, make=True)
    if directory < 0:
        return
    library = _identity(made.library.encode("utf-8", "surrogateescape"))
    content = b"%d %s\n%s" % (made.rules, library, made.program)
    temporary = f".{key}.{os.getpid()}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE, 0o600, dir_fd=directory)
        try:
            write_whole(fd, digest(key.encode() + content) + content)
        finally:
            os.close(fd)
        os.replace(temporary, key, src_dir_fd=directory, dst_dir_fd=directory)
        _evict(directory)
    except OSError:
        _discard(temporary, directory)
    finally:
        os.close(directory)


def _discard(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except OSError:
        return


def _evict(directory: int) -> None:
    """Removes the oldest files beyond MOST, those that a killed process has not finished among them."""
    names = os.listdir(directory)
    if len(names) <= MOST:
        return
    ages = {name: os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime_ns for name in names}
    for name in sorted(names, key=lambda one: ages[one])[: len(names) - MOST]:
        os.unlink(name, dir_fd=directory)
