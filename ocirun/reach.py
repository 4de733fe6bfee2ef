"""How far somebody reaches who is not root of the host: which cgroup he may divide, who maps ids for him.

Cold: loaded for an ordinary user, inside a user namespace, and for ``--rootless true``.
"""

from __future__ import annotations

import posix as os

from ocirun.files import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_WRITE_AND_SEARCH, _WRITE = 3, 2  # W_OK | X_OK, W_OK
#: Below a cgroup that was delegated: where the processes go that were in it (planner/cgroup.py).
LEAF = "ocirun-callers"
_UNITS = (".scope", ".service")
#: Slices whose units no user's manager has.
_SYSTEMS = ("system.slice", "machine.slice")


class Reach:
    """What an unprivileged process may do.

    ``cgroup`` is the cgroup below the mount of cgroup2 in which it may make others ("" is the root of it),
    None where there is none; ``crowded`` says that processes are in that one, ``controllers`` are those that
    it offers.  ``gid`` is the effective group.  ``newuidmap`` and ``newgidmap`` are the programs of shadow
    that map the ids of /etc/subuid and /etc/subgid, "" where PATH has none.  ``setgroups`` says whether its
    user namespace lets groups be set (user_namespaces(7)), ``denied_there`` whether that one does not which
    the config wants joined.  ``uids`` and ``gids`` are the ranges in /etc/subuid and /etc/subgid, first and
    count, where somebody asked for them.
    """

    __slots__ = (
        "cgroup",
        "controllers",
        "crowded",
        "denied_there",
        "gid",
        "gids",
        "newgidmap",
        "newuidmap",
        "setgroups",
        "uids",
    )

    def __init__(
        self,
        *,
        cgroup: str | None = None,
        crowded: bool = False,
        controllers: frozenset[str] = frozenset(),
        gid: int = 0,
        newuidmap: str = "",
        newgidmap: str = "",
        setgroups: bool = True,
        denied_there: bool = False,
        uids: Sequence[tuple[int, int]] = (),
        gids: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.cgroup = cgroup
        self.crowded = crowded
        self.controllers = controllers
        self.gid = gid
        self.newuidmap = newuidmap
        self.newgidmap = newgidmap
        self.setgroups = setgroups
        self.denied_there = denied_there
        self.uids = uids
        self.gids = gids


def gather(mount: str, joined: str = "", *, ranges: bool = False) -> Reach:
    """The facts as they are now, with cgroup2 at ``mount``, "" where it is nowhere.

    ``joined`` is the path of the user namespace that is to be joined; of one that is not at /proc/PID/ns
    nobody tells its rule.  ``ranges`` asks for those of ids.
    """
    cgroup = _delegated(mount) if mount else None
    where = f"{mount}{cgroup}"
    offered = "" if cgroup is None else _text(f"{where}/cgroup.controllers")
    return Reach(
        cgroup=cgroup,
        crowded=cgroup is not None and cgroup != "" and bool(_text(f"{where}/cgroup.procs")),
        controllers=frozenset(offered.split()),
        gid=os.getegid(),
        newuidmap=program("newuidmap"),
        newgidmap=program("newgidmap"),
        setgroups=_text("/proc/self/setgroups") != "deny\n",
        denied_there=_text(joined.removesuffix("/ns/user") + "/setgroups") == "deny\n" if joined else False,
        uids=_ranges("/etc/subuid") if ranges else (),
        gids=_ranges("/etc/subgid") if ranges else (),
    )


def _ranges(file: str) -> list[tuple[int, int]]:
    """Those of groups go by the user, too (subgid(5))."""
    from ocirun.subids import name_of, ranges_of

    uid = os.geteuid()
    return ranges_of(_text(file), name_of(_text("/etc/passwd"), uid), uid)


def program(name: str) -> str:
    """The program of that name on PATH, "" where there is none."""
    for directory in os.environ.get(b"PATH", b"/usr/local/bin:/usr/bin:/bin").split(b":"):
        path = directory.decode("utf-8", "surrogateescape") + f"/{name}"
        if path[0] == "/" and os.access(path, 1):
            return path
    return ""


def _delegated(mount: str) -> str | None:
    """The nearest of: the one whose leaf we are in because somebody has vacated it; our own; the root."""
    own = own_cgroup(_text("/proc/self/cgroup"))
    candidates = [own.removesuffix(f"/{LEAF}")] if own.endswith(f"/{LEAF}") else []
    for candidate in (*candidates, own, "/"):
        where = f"{mount}{candidate.rstrip('/')}"
        # Who puts a process into a cgroup must be able to write to cgroup.procs there and in the nearest
        # cgroup above both the old and the new place (cgroup-v2.rst, Delegation Containment).
        if (
            _may(where, _WRITE_AND_SEARCH)
            and _may(f"{where}/cgroup.procs", _WRITE)
            and _is_given_away(candidate)
        ):
            return candidate.rstrip("/")
    return None


def _is_given_away(cgroup: str) -> bool:
    """Whether systemd keeps its hands off the cgroup.

    The scope of a user's terminal belongs to the user as well, but systemd manages it: only a unit with
    Delegate= is somebody else's, with all below it (CGROUP_DELEGATION.md).  The manager of a user notes
    nothing on its cgroups, but what its units are made of lies in files.  Whoever is in none, or in one
    without a file, may divide what he may write to: the system's manager gives nothing away but by Delegate=.
    """
    parts = cgroup.split("/")
    managers = [at for at, name in enumerate(parts) if name.startswith("user@")]
    units = [name for name in parts[managers[-1] + 1 if managers else 0 :] if name.endswith(_UNITS)]
    if not units or (not managers and parts[1] in _SYSTEMS):
        return True
    from ocirun.units import delegate

    return delegate(units[0], parts[managers[-1]] if managers else "")


def own_cgroup(text: str) -> str:
    """The cgroup2 cgroup in the text of a /proc/PID/cgroup (cgroups(7)); "/" where none is told."""
    lines = [line[3:] for line in text.split("\n") if line.startswith("0::/")]
    return lines[0] if lines else "/"


def _may(path: str, mode: int) -> bool:
    return os.access(path, mode, effective_ids=True)


def _text(path: str) -> str:
    try:
        return read_file(path).decode("utf-8", "surrogateescape")
    except OSError:
        return ""
