"""Classes of service and monitoring groups of resctrl (resctrl.rst), after config-linux.md, IntelRdt.

Written from these two texts; no machine of ours has such a CPU, so the tests simulate the tree.
"""

from __future__ import annotations

import posix as os
from errno import EBUSY, EEXIST, EINVAL, ENODEV, ENOENT, ENOSPC

from ocirun.errors import DriverError, words_of
from ocirun.files import is_there, read_file, write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_HERE = "/linux/intelRdt"
_HINTS = {
    EINVAL: "the kernel does not take it: see info/ of resctrl for what this CPU can do",
    ENODEV: "this CPU has no such resource: see info/ of resctrl",
    ENOSPC: "no class or group is left: see num_closids and num_rmids below info/ of resctrl",
    EEXIST: "it is somebody else's: give the container another id, or name the class that it is to share by "
    "closID",
    EBUSY: "resctrl is being set up by somebody else (pseudo-locking)",
}


class Wanted:
    """A class: its directory ``group`` below ``mount`` ("" is the default class), whether it is the
    container's ``own`` one, the lines, and the name of the group that monitors, "" for none."""

    __slots__ = ("bandwidth", "group", "l3", "monitor", "mount", "own", "schemata")

    def __init__(
        self,
        mount: str,
        group: str,
        l3: str = "",
        bandwidth: str = "",
        schemata: Sequence[str] = (),
        monitor: str = "",
        *,
        own: bool = False,
    ) -> None:
        self.mount = mount
        self.group = group
        self.l3 = l3
        self.bandwidth = bandwidth
        self.schemata = schemata
        self.monitor = monitor
        self.own = own

    @property
    def place(self) -> str:
        """The directory of the class."""
        return f"{self.mount}/{self.group}" if self.group else self.mount

    @property
    def lines(self) -> Sequence[tuple[str, str]]:
        """The members that are lines, in the order in which they are written."""
        listed = [(f"schemata/{number}", line) for number, line in enumerate(self.schemata)]
        both = [("l3CacheSchema", self.l3), ("memBwSchema", self.bandwidth)]
        return [*(one for one in both if one[1]), *listed]


def make(wanted: Wanted, note: Callable[[str], object], refused: Callable[[str], object] = str) -> None:
    """Makes the class and the group, and writes or compares the lines; a named class may be there.

    ``note`` is told of each directory that goes with the container, before it is made, and ``refused`` of one
    that could not be made, so that somebody else's of that name stays.  Raises DriverError.
    """
    made = _make_class(wanted, note, refused)
    for member, line in wanted.lines:
        if made or member.startswith("schemata"):
            _write(wanted, f"{wanted.place}/schemata", line, member)
        else:
            _compare(wanted, line, member)
    if wanted.monitor:
        group = f"{wanted.place}/mon_groups/{wanted.monitor}"
        _check_free(group, "enableMonitoring")
        note(group)
        _mkdir(wanted, group, "enableMonitoring", refused)


def rewrite(wanted: Wanted) -> bytes:
    """Writes the lines to a class that is there; gives what it was, for ``write_back``.

    Raises DriverError for a line that is refused, and has then changed nothing.
    """
    path = f"{wanted.place}/schemata"
    try:
        before = read_file(path)
    except OSError as error:
        raise _refused(error, "read", path, "") from error
    try:
        for member, line in wanted.lines:
            _write(wanted, path, line, member)
    except DriverError as error:
        write_back(wanted, before, error)
        raise
    return before


def write_back(wanted: Wanted, before: bytes, error: BaseException) -> None:
    """Makes of the class what it was after ``error``, which gets a note where that is refused."""
    try:
        _write(wanted, f"{wanted.place}/schemata", before.decode().rstrip("\n"), "")
    except DriverError as trouble:
        error.add_note(f"not as before: {trouble}")


def enter(places: Sequence[str], pid: int) -> None:
    """Puts a process into the class and the group of these directories; raises DriverError."""
    for place in places:
        try:
            write_file(f"{place}/tasks", b"%d\n" % pid, os.O_NOFOLLOW)
        except OSError as error:
            raise _refused(error, f"write {pid} to", f"{place}/tasks", "") from error


def remove(place: str) -> None:
    """Removes a directory that ``make`` has told of; who is in there falls back to what is above it.  Raises
    DriverError."""
    try:
        make_removed(place)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _refused(error, "remove", place, "") from error


def make_directory(path: str) -> None:
    """One directory, which the kernel fills with its files; for tests to stand in for the kernel."""
    os.mkdir(path)


def make_removed(path: str) -> None:
    """As ``make_directory``: the kernel takes the files with it."""
    os.rmdir(path)


def _check_free(path: str, member: str) -> None:
    """What is there serves others, of another store perhaps: its lines are theirs, and noted it would be
    removed with us."""
    if is_there(path):
        raise _refused(OSError(EEXIST, ""), "make", path, member)


def _make_class(wanted: Wanted, note: Callable[[str], object], refused: Callable[[str], object]) -> bool:
    """Whether it was made: a class that the config names may be there, and then has to be as it asks for."""
    if wanted.own:
        _check_free(wanted.place, "")
        note(wanted.place)
        _mkdir(wanted, wanted.place, "", refused)
        return True
    if is_there(wanted.place):
        return False
    if not wanted.lines:
        raise DriverError(
            f"there is no class of service {wanted.group}",
            pointer=f"{_HERE}/closID",
            operation="make_resctrl",
            errno=ENOENT,
            path=wanted.place,
            hint="make it before, or say by l3CacheSchema, memBwSchema or schemata what it is to be",
        )
    _mkdir(wanted, wanted.place, "closID")
    return True


def _mkdir(wanted: Wanted, path: str, member: str, refused: Callable[[str], object] = str) -> None:
    try:
        make_directory(path)
    except OSError as error:
        refused(path)
        raise _refused(error, "make", path, member, wanted.mount) from error


def _write(wanted: Wanted, path: str, line: str, member: str) -> None:
    """The kernel takes whole lines alone."""
    try:
        write_file(path, f"{line}\n".encode(), os.O_NOFOLLOW)
    except OSError as error:
        raise _refused(error, f"write {line!r} to", path, member, wanted.mount) from error


def _compare(wanted: Wanted, text: str, member: str) -> None:
    try:
        there = parse(read_file(f"{wanted.place}/schemata").decode())
    except OSError as error:
        raise _refused(error, "read", f"{wanted.place}/schemata", member) from error
    for resource, domains in parse(text).items():
        has = there.get(resource, {})
        if any(has.get(domain) != value for domain, value in domains.items()):
            told = ";".join(f"{domain}={value}" for domain, value in has.items())
            raise DriverError(
                f"the class of service {wanted.group or '/'} has {resource}:{told or 'nothing'}",
                pointer=f"{_HERE}/{member}",
                operation="make_resctrl",
                path=f"{wanted.place}/schemata",
                hint="ask for what it has, for another class, or for no closID, which makes one",
            )


def parse(text: str) -> dict[str, dict[str, str]]:
    """Resources with their domains in lines such as ``L3:0=ff;1=0f``; masks without the zeros in front, as
    the kernel writes them with some."""
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        resource, _, rest = line.strip().partition(":")
        pairs = (part.partition("=") for part in rest.split(";") if part.strip())
        found[resource] = {one.strip(): value.strip().lower().lstrip("0") or "0" for one, _, value in pairs}
    return found


def _refused(error: OSError, doing: str, path: str, member: str, mount: str = "") -> DriverError:
    number = error.errno or 0
    told = _last_status(mount) if mount else ""
    return DriverError(
        f"{doing} {path}: {words_of(number)}{f': {told}' if told else ''}",
        pointer=f"{_HERE}/{member}" if member else _HERE,
        operation="make_resctrl",
        errno=number,
        path=path,
        hint=_HINTS.get(number, ""),
    )


def _last_status(mount: str) -> str:
    """What the kernel says of the last refusal."""
    try:
        told = read_file(f"{mount}/info/last_cmd_status").decode("utf-8", "replace").strip()
    except OSError:
        return ""
    return "" if told == "ok" else told
