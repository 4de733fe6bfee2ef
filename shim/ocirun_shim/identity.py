"""Who a zygote is for: a user in these namespaces, with this label, of this containerd and this build.

The C stub composes the same name (ocirun/native/shim_stub.c, find_zygote).
"""

from __future__ import annotations

import os

from ocirun.files import read_file
from ocirun.native.build_id import HELPER_BUILD_ID

_NAMESPACES = ("user", "mnt", "net", "pid")
#: Lines of /proc/PID/status that must be equal, for the zygote lends its own powers to whoever it serves.
_POWERS = (
    b"Uid", b"Gid", b"Groups", b"NoNewPrivs", b"Seccomp", b"Seccomp_filters", b"CapInh", b"CapPrm", b"CapEff",
    b"CapBnd", b"CapAmb",
)  # fmt: skip
_FNV_START, _FNV_PRIME, _64_BITS = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1


class Identity:
    """What a process is, as far as a zygote's choice depends on it.

    ``namespaces`` are inode numbers (namespaces(7)), ``label`` the one of a security module, ``root`` device
    and inode of its root directory, ``powers`` the lines of its status about ids, capabilities and filters.
    """

    __slots__ = ("label", "namespaces", "powers", "root", "umask")

    def __init__(self, pid: int | str) -> None:
        self.namespaces = tuple(os.stat(f"/proc/{pid}/ns/{kind}").st_ino for kind in _NAMESPACES)
        self.label = _label(pid)
        root = os.stat(f"/proc/{pid}/root/")
        self.root = (root.st_dev, root.st_ino)
        status = dict(line.split(b":", 1) for line in read_file(f"/proc/{pid}/status").splitlines())
        self.powers = tuple(status.get(name) for name in _POWERS)
        self.umask = int(status.get(b"Umask", b"022"), 8)

    def is_as(self, other: Identity) -> bool:
        """Whether both are equal in everything but the umask."""
        return (self.namespaces, self.label, self.root, self.powers) == (
            other.namespaces, other.label, other.root, other.powers,
        )  # fmt: skip


def _label(pid: int | str) -> bytes:
    """proc_pid_attr(5); EINVAL where no module gives labels."""
    try:
        return read_file(f"/proc/{pid}/attr/current").partition(b"\0")[0]
    except OSError:
        return b""


def zygote_name(identity: Identity, containerd: str, programs: str) -> str:
    """The name of the socket of the zygote for ``identity``.

    ``containerd`` is the value of -address, ``programs`` the directory of the stub, with its last "/".
    """
    total = _FNV_START
    for text in (os.fsencode(containerd), identity.label, HELPER_BUILD_ID.encode(), os.fsencode(programs)):
        for byte in text + b"\0":
            total = (total ^ byte) * _FNV_PRIME & _64_BITS
    return "-".join(f"{inode:x}" for inode in identity.namespaces) + f"-{total:016x}"


def zygote_directory() -> str:
    """Where the sockets of this user's zygotes are; raises FileNotFoundError where there is no place."""
    runtime = "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR")
    if not runtime:
        raise FileNotFoundError("XDG_RUNTIME_DIR names no directory")
    return f"{runtime}/ocirun-shim"
