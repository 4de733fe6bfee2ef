"""Why the kernel maps the ids of no file in a mount: mount_setattr(2) with MOUNT_ATTR_IDMAP says EINVAL or
EPERM for all reasons (cold)."""

from __future__ import annotations

import errno
import os

from ocirun.files import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ocirun.plan.model import Step

#: Since when the kernel maps a file system (FS_ALLOW_IDMAP); of what is not here we know nothing.
_SINCE = {
    "ext4": "5.12", "vfat": "5.12", "xfs": "5.12", "btrfs": "5.15", "ntfs3": "5.15", "f2fs": "5.18",
    "erofs": "5.19", "squashfs": "6.2", "tmpfs": "6.3", "ceph": "6.7", "fuse": "6.12", "virtiofs": "6.12",
}  # fmt: skip
NOT_OURS = "its file system belongs to another user namespace: only who is root there may map it"
_KNOWN_TO_HAVE_NONE = frozenset(
    "overlay proc sysfs cgroup cgroup2 nfs nfs4 9p devtmpfs devpts mqueue".split()
)


class Mount:
    """A line of mountinfo: where it is, of which type, and whether its ids are mapped already."""

    __slots__ = ("mapped", "place", "type")

    def __init__(self, line: bytes) -> None:
        words = line.split(b" ")
        kind = words[words.index(b"-", 6) + 1]
        self.place = os.fsdecode(words[4].replace(b"\\040", b" "))
        self.mapped = b"idmapped" in words[5].split(b",")
        self.type = os.fsdecode(kind)


def told(steps: Iterable[Step], step: Step, number: int) -> tuple[str, str]:
    """What the map_ids among ``steps`` that failed was about, and why, as far as the mounts of this process
    tell, with the way out."""
    opened = next(one for one in steps if one.args[-1:] == step.args[:1])
    source, kind = str(opened.args[0]), opened.verb
    what = f"map the ids of {source}"
    if number not in (errno.EPERM, errno.EINVAL):
        return what, ""
    if kind == "open_filesystem":
        return f"{what} file system", _of_type(source) if number == errno.EINVAL else NOT_OURS
    mounts = [Mount(line) for line in read_file("/proc/self/mountinfo").splitlines()]
    found = concerned(mounts, os.path.realpath(source), below=bool(step.args[2]))
    return what, explain(found, number, joined=str(step.args[1]) == "namespace.user")


def concerned(mounts: Sequence[Mount], source: str, *, below: bool) -> list[Mount]:
    """The mount that ``source`` is on, and those ``below`` it."""
    found = [one for one in mounts if _is_below(source, one.place)]
    deepest = max(found, key=lambda one: len(one.place), default=None)
    last = [one for one in found if deepest is not None and one.place == deepest.place][-1:]
    return [*last, *(one for one in mounts if below and one not in last and _is_below(one.place, source))]


def explain(mounts: Sequence[Mount], number: int, *, joined: bool) -> str:
    """The cause as far as the mounts tell; ``joined`` is a mapping of a user namespace that exists."""
    if number == errno.EINVAL:
        # the first whose type we know not to be fit, else any: the kernel does not tell which one it was
        guilty = sorted(mounts, key=lambda one: (one.type in _SINCE, one.type not in _KNOWN_TO_HAVE_NONE))
        return f"{guilty[0].place} {_of_type(guilty[0].type)}" if guilty else ""
    for one in mounts:
        if one.mapped:
            return f"{one.place} is mapped already, which is done once: bind what that was made from"
    if joined:
        return "the user namespace that is joined is the host's own, which maps nothing"
    return NOT_OURS


def _is_below(path: str, place: str) -> bool:
    return path == place or path.startswith(place.rstrip("/") + "/")


def _of_type(kind: str) -> str:
    base = kind.partition(".")[0]
    if base in _SINCE:
        rest = "since FUSE servers ask for it, Linux " if base == "fuse" else "since Linux "
        return f"is {kind}, whose ids can be mapped {rest}{_SINCE[base]}, and this one cannot"
    return f"is {kind}, whose ids this kernel cannot map: bind from another file system, or leave idmap out"
