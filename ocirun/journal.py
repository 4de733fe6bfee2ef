"""The journal of a container: what was made on the host and how to undo it, written before it is made.

One JSON object a line, appended, in ``journal`` of the state directory.  The first line is the head: version,
id, bundle, rootfs, creation time, annotations.  Then ``{"step": N, "undo": VERB, "args": [...]}`` for each
step that leaves a trace, and events: ``{"cgroups_made": N, "note": NAME}``,
``{"resctrl": PATH}`` for each directory of resctrl that is to go with the container,
``{"born": PID, "start": TICKS}``, ``{"hook": PID, "start": TICKS}``, ``{"created": true}``,
``{"started": true}`` and ``{"restored": true}``.
A crash can cut the last line short; what was cut had not begun.
"""

from __future__ import annotations

import posix as os

from ocirun import paths
from ocirun.errors import StateError
from ocirun.files import read_file
from ocirun.jsontext import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeGuard

    from ocirun.plan.model import Argument

#: Of the journal and the start handshake: a newer ocirun reads every older version, an older one says no.
VERSION = 1
#: The most that the numbers in it can be: a pid_t, directories in a path, steps in a plan.
_MOST_PIDS, _DEEPEST, _LONGEST = (1 << 31) - 1, 2048, 65535


def _is_entry(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


def _is_arguments(value: object) -> TypeGuard[list[Argument]]:
    return isinstance(value, list)


class Trace:
    """Something made on the host: the step that made it, the verb that undoes it and the arguments."""

    __slots__ = ("args", "step", "undo")

    def __init__(self, step: int, undo: str, args: tuple[Argument, ...]) -> None:
        self.step = step
        self.undo = undo
        self.args = args


class Journal:
    """What a journal says: the head, the traces in the order they were made, and how far the container came.

    ``pid`` is 0 and ``start`` "" before init was born; ``start`` is its start time in clock ticks after boot,
    as /proc/PID/stat has it: with it a pid that was used again is told apart (proc_pid_stat(5)).  ``hook`` is
    the same of the last hook that was run.
    """

    __slots__ = (
        "cgroups_made",
        "created",
        "head",
        "hook",
        "note",
        "pid",
        "resctrl",
        "restored",
        "start",
        "started",
        "traces",
    )

    def __init__(self) -> None:
        self.head: dict[str, object] = {}
        self.traces: list[Trace] = []
        self.pid = 0
        self.start = ""
        self.hook = (0, "")
        #: How many directories make_cgroup made, from the last one up, 1 for a scope of systemd; -1 where
        #: nobody came to tell.
        self.cgroups_made = -1
        #: The attribute of the cgroup that says whom it serves, "" where it has none.
        self.note = ""
        #: Directories of resctrl that were to be made for this container alone, in this order.
        self.resctrl: list[str] = []
        self.created = False
        self.started = False
        #: Whether it was not created but restored from a checkpoint.
        self.restored = False

    @property
    def cgroup(self) -> str:
        """The directory of the container's cgroup on the host, "" before it was to be made."""
        for trace in self.traces:
            if trace.undo in ("remove_cgroup", "stop_scope"):
                return f"{trace.args[0]!s}{trace.args[1]!s}"
        return ""

    @property
    def counting(self) -> str:
        """The cgroup where create made it, so that what it counts is of this container alone; else ""."""
        return self.cgroup if self.cgroups_made > 0 else ""

    @property
    def home(self) -> str:
        """The directory of the cgroup in which init was born: below a scope of systemd it can be another."""
        scope = self.scope
        return "/".join(filter(None, (self.cgroup, str(scope.args[2]) if scope else "")))

    @property
    def scope(self) -> Trace | None:
        """The scope that systemd made, None where the cgroup is our own."""
        return next((trace for trace in self.traces if trace.undo == "stop_scope"), None)

    def has_hooks(self, kind: str) -> bool:
        """Whether the container has hooks of that kind, by the head."""
        kinds = self.head.get("hooks", ())
        return isinstance(kinds, list) and kind in kinds

    def add(self, entry: dict[str, object]) -> None:
        """Takes one line in; raises ValueError or KeyError for one that we have not written."""
        args = entry.get("args")
        if _is_arguments(args):
            self.traces.append(_trace(entry, args))
        elif "born" in entry:
            self.pid, self.start = _number(entry["born"], _MOST_PIDS), str(entry["start"])
        elif "hook" in entry:
            self.hook = (_number(entry["hook"], _MOST_PIDS), str(entry["start"]))
        elif "cgroups_made" in entry:
            self.cgroups_made = _number(entry["cgroups_made"], _DEEPEST)
            self.note = str(entry.get("note", ""))
        elif "resctrl" in entry:
            path = str(entry["resctrl"])
            _expect(path[:1] == "/" and ".." not in path.split("/"))
            self.resctrl.append(path)
        elif "resctrl_refused" in entry:
            self.resctrl = [path for path in self.resctrl if path != entry["resctrl_refused"]]
        elif "cgroup_refused" in entry:  # nothing was made: what is there was there, and stays
            self.traces = [trace for trace in self.traces if trace.undo != "remove_cgroup"]
        elif "version" in entry:
            _expect(isinstance(entry.get("annotations", {}), dict))
            self.head = entry
        # the head has a time of this name
        self.created = self.created or entry.get("created") is True
        self.started = self.started or entry.get("started") is True
        self.restored = self.restored or entry.get("restored") is True


def _expect(holds: bool) -> None:
    if not holds:
        raise ValueError("not what ocirun writes")


def _number(value: object, most: int) -> int:
    _expect(isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most)
    return int(str(value))


def _trace(entry: dict[str, object], args: list[Argument]) -> Trace:
    """What is undone by a damaged path could be anybody's: killed are all in a cgroup."""
    trace = Trace(_number(entry["step"], _LONGEST), str(entry["undo"]), tuple(args))
    if trace.undo == "remove_cgroup":
        # ValueError: too few or too many.  The last of make_cgroup's, its controllers, has nothing to undo;
        # older journals do not have it.
        mount, path, parents = args[:3]
        _expect(len(args) <= 4)
        _expect(str(mount)[:1] == "/" and ".." not in str(path).split("/"))
        _expect(str(path)[:1] == "/" and str(path).strip("/") != "")
        _number(parents, _DEEPEST)
    elif trace.undo == "stop_scope":
        mount, path, inner, unit, user, properties = args
        _expect(str(mount)[:1] == "/" and ".." not in f"{path!s}/{inner!s}".split("/"))
        _expect(str(path)[:1] == "/" and str(path).strip("/") != "")
        _expect(str(unit).endswith(".scope") and user in (0, 1) and isinstance(properties, list))
    return trace


def read(directory: str, *, lenient: bool = False) -> Journal:
    """The journal in ``directory``; an empty one where the creator died before it wrote the head.

    Raises StateError when it cannot be read, is damaged or was written by another version; ``lenient`` passes
    over damaged lines, for a delete that must go on with what is left.
    """
    journal = Journal()
    for line in _lines(directory):
        try:
            _take(journal, line)
        except (ValueError, KeyError) as error:
            if not lenient:
                raise _damaged(directory, line) from error
    version = journal.head.get("version", VERSION)
    if version != VERSION:
        raise StateError(
            f"the container was made by another version of ocirun (journal {version}, this reads {VERSION})",
            code="state-io",
            hint="delete it with the version that made it",
        )
    return journal


def _take(journal: Journal, line: str) -> None:
    entry = loads(line)
    if not _is_entry(entry):
        raise ValueError("no JSON object")
    journal.add(entry)


def _damaged(directory: str, line: str) -> StateError:
    return StateError(
        f"the journal in {directory} is damaged: {line[:80]}",
        path=directory,
        code="state-io",
        hint="`ocirun delete --force` undoes what its other lines tell",
    )


def _lines(directory: str) -> list[str]:
    path = paths.join(directory, "journal")
    try:
        # O_NONBLOCK: whatever is in its place must give an error, not hang us
        content = read_file(path, os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StateError(
            f"read {path}: {os.strerror(error.errno or 0)}",
            operation="read",
            errno=error.errno or 0,
            path=path,
            code="state-io",
        ) from error
    whole, _, _cut_short = content.rpartition(b"\n")
    return whole.decode("utf-8", "surrogateescape").split("\n") if whole else []


class Writer:
    """Appends to the journal of one container; keep it open no longer than a command runs."""

    __slots__ = ("_fd",)

    def __init__(self, directory: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(paths.join(directory, "journal"), flags, 0o600)

    def write(self, entry: dict[str, object]) -> None:
        """Appends one line whole; raises OSError when the disk is full."""
        line = (dumps(entry) + "\n").encode("utf-8", "surrogateescape")
        if os.write(self._fd, line) != len(line):
            raise OSError(28, "No space left on device")

    def trace(self, trace: Trace) -> None:
        """Says that a step is about to leave its trace, and how it is undone."""
        self.write({"step": trace.step, "undo": trace.undo, "args": list(trace.args)})

    def close(self) -> None:
        """Closes the file."""
        os.close(self._fd)
