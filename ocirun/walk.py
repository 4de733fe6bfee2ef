"""Why a path is denied: it is resolved by hand, and each directory on the way is looked at.

Cold: imported after something failed.  A walk never leaves its root: every name is opened below a descriptor
that is held, without following a link; ``..`` goes back to the one before.  Nothing is opened but as a place
(O_PATH), so neither a FIFO nor a device can do anything to us.  Who may search is judged by the mode, the
capabilities and the id mappings of a process (path_resolution(7)); a directory with an access control list is
never blamed.
"""

from __future__ import annotations

import errno
import os
import stat

from ocirun.errors import escaped
from ocirun.files import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

READ, WRITE, SEARCH, NOTHING_MORE = 4, 2, 1, 0
_LINKS, _DEPTH = 40, 256
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1 << 1, 1 << 2
_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_VERBS = {READ: "read", WRITE: "write", SEARCH: "search"}
_LONGEST = 300


def shown(text: str) -> str:
    """``text`` from a source that is not trusted, fit for a terminal and a log: escaped and cut."""
    return escaped(text[:_LONGEST]) + "…" * (len(text) > _LONGEST)


class Identity:
    """Who a process is for the file system: ids as the host counts them, effective capabilities, id maps.

    Raises OSError when there is no such process, or it is not ours to look at.
    """

    __slots__ = ("_capabilities", "_gids", "_maps", "names", "uid")

    def __init__(self, pid: int | str = "self") -> None:
        status = dict(line.split(":", 1) for line in _text(f"/proc/{pid}/status").split("\n") if ":" in line)
        #: Whether the owners of files have the names that the host's passwd(5) gives them.
        self.names = pid == "self"
        self.uid = int(status["Uid"].split()[3])
        self._gids = {int(status["Gid"].split()[3]), *map(int, status["Groups"].split())}
        self._capabilities = int(status["CapEff"], 16)
        self._maps = [_map(pid, kind) for kind in ("uid", "gid")]

    def __str__(self) -> str:
        inside = _inside(self._maps[0], self.uid)
        return (
            f"uid {self.uid}" if inside in (self.uid, -1) else f"uid {self.uid} ({inside} in the container)"
        )

    def may(self, want: int, facts: os.stat_result) -> bool:
        """Whether the mode and the capabilities grant ``want`` (inode(7), capabilities(7))."""
        shift = 6 if facts.st_uid == self.uid else 3 if facts.st_gid in self._gids else 0
        if (facts.st_mode >> shift) & want == want:
            return True
        mapped = _inside(self._maps[0], facts.st_uid) >= 0 and _inside(self._maps[1], facts.st_gid) >= 0
        if not mapped:  # capabilities hold for files whose owner the user namespace knows
            return False
        if stat.S_ISDIR(facts.st_mode) and want != WRITE and self._capabilities & _CAP_DAC_READ_SEARCH:
            return True
        executable = stat.S_ISDIR(facts.st_mode) or facts.st_mode & 0o111
        return bool(self._capabilities & _CAP_DAC_OVERRIDE and (want != SEARCH or executable))


def _map(pid: int | str, kind: str) -> Sequence[tuple[int, int, int]]:
    rows = (line.split() for line in _text(f"/proc/{pid}/{kind}_map").split("\n"))
    return [(int(row[0]), int(row[1]), int(row[2])) for row in rows if len(row) == 3]


def _inside(rows: Sequence[tuple[int, int, int]], number: int) -> int:
    """The id in the user namespace that is ``number`` on the host; -1 for one that has no mapping."""
    return next((first + number - host for first, host, count in rows if host <= number < host + count), -1)


def _text(path: str) -> str:
    return read_file(path).decode("utf-8", "surrogateescape")


class Walk:
    """Where ``path`` leads below the directory ``root``, for ``who``; ``close`` lets go.

    ``fd`` is what it names, -1 where it leads nowhere: ``errno`` is why, and ``at`` how far it came.
    ``blocked`` tells of the first directory on the way that may not be searched, "" where there is none.
    ``link`` is the last symbolic link that was followed, ``above`` the directory that it ended in.
    """

    __slots__ = ("_names", "_stack", "_who", "above", "at", "blocked", "errno", "fd", "link")

    def __init__(self, root: int, path: str, who: Identity) -> None:
        self.fd, self.errno, self.blocked, self.link = -1, 0, "", ""
        self._who = who
        self._stack = [os.dup(root)]
        self._names: list[str] = []
        try:
            self._follow([*reversed(path.split("/"))])
        except OSError as error:
            self.errno = error.errno or errno.EIO
        else:
            self.fd = self._stack[-1]
        self.at = "/" + "/".join(self._names)
        self.above = self._stack[-2] if self.fd >= 0 and len(self._stack) > 1 else self._stack[-1]

    def _follow(self, pending: list[str]) -> None:
        links = 0
        while pending:
            name = pending.pop()
            if name == "..":
                self._back(1)
            elif name not in ("", "."):
                target = self._enter(name)
                if target is None:
                    continue
                links += 1
                if links > _LINKS:
                    raise OSError(errno.ELOOP, "")
                if target[:1] == "/":
                    self._back(len(self._names))
                pending += reversed(target.split("/"))

    def _back(self, steps: int) -> None:
        for _ in range(min(steps, len(self._stack) - 1)):
            os.close(self._stack.pop())
            self._names.pop()

    def _enter(self, name: str) -> str | None:
        """Goes down to ``name``; gives the target of a symbolic link instead, which is not entered."""
        if len(self._stack) > _DEPTH:
            raise OSError(errno.ENAMETOOLONG, "")
        self._search()
        self._names.append(name)
        fd = os.open(name, _PLACE, dir_fd=self._stack[-1])
        if not stat.S_ISLNK(os.fstat(fd).st_mode):
            self._stack.append(fd)
            return None
        try:
            self.link = "/" + "/".join(self._names)
            self._names.pop()
            return os.readlink("", dir_fd=fd)
        finally:
            os.close(fd)

    def _search(self) -> None:
        """Notes the directory we stand in when it is the first that may not be searched."""
        facts = os.fstat(self._stack[-1])
        if self.blocked or not stat.S_ISDIR(facts.st_mode) or self._who.may(SEARCH, facts):
            return
        if not _has_list(self._stack[-1]):
            self.blocked = denial("/" + "/".join(self._names), facts, SEARCH, self._who)

    def facts(self) -> os.stat_result:
        """The file that the path names."""
        return os.fstat(self.fd)

    def reopen(self, flags: int) -> int:
        """A descriptor to read from, of a regular file or a directory."""
        return os.open(f"/proc/self/fd/{self.fd}", flags | os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)

    def close(self) -> None:
        """Lets go of all descriptors."""
        for fd in self._stack:
            os.close(fd)


def _has_list(fd: int) -> bool:
    """Whether the file has an access control list, beside which the mode says little (acl(5))."""
    try:
        return bool(os.getxattr(f"/proc/self/fd/{fd}", "system.posix_acl_access"))
    except OSError:
        return False


def denial(path: str, facts: os.stat_result, want: int, who: Identity, verb: str = "") -> str:
    """``PATH (drwx------ alice:alice 1000:1000) has no search permission for uid 100000``."""
    owner = f"{_named('passwd', facts.st_uid)}:{_named('group', facts.st_gid)} "
    names = "" if owner == ": " or not who.names else owner
    mode = stat.filemode(facts.st_mode)
    where = f"{shown(path)} ({mode} {names}{facts.st_uid}:{facts.st_gid})"
    return f"{where} has no {verb or _VERBS[want]} permission for {who}"


def _named(table: str, number: int) -> str:
    """The name of a uid or gid in the host's own file; "" where it has none (no name service is asked)."""
    try:
        rows = [line.split(":") for line in _text(f"/etc/{table}").split("\n")]
    except OSError:
        return ""
    return next((row[0] for row in rows if len(row) > 2 and row[2] == str(number)), "")


def why_denied(path: str, want: int = READ) -> str:
    """Why this process may not ``want`` the ``path`` of the host: the first directory that it may not search,
    else the file itself, or the directory where it should be made; "" where the modes do not tell.

    Without a ``want`` only directories on the way are blamed.
    """
    try:
        who, root = Identity(), os.open("/", _PLACE)
    except OSError:
        return ""
    try:
        walk = Walk(root, os.path.abspath(path), who)
    finally:
        os.close(root)
    try:
        return reason(walk, want, who)
    finally:
        walk.close()


def reason(walk: Walk, want: int, who: Identity) -> str:
    """Why ``who`` may not ``want`` what ``walk`` has come to, as ``why_denied``."""
    if walk.blocked or not want:
        return walk.blocked
    where, asked = (walk.fd, want) if walk.fd >= 0 else (walk.above, WRITE)
    facts = os.fstat(where)
    if who.may(asked, facts) or _has_list(where):
        return ""
    return denial(walk.at if walk.fd >= 0 else os.path.dirname(walk.at), facts, asked, who)
