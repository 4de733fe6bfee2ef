"""What a container is now: derived from its journal and /proc, never stored."""

from __future__ import annotations

import posix as os

from ocirun import SPEC_VERSION, journal
from ocirun.cgroup.files import is_frozen
from ocirun.errors import StateError
from ocirun.journal import Journal
from ocirun.lifecycle.process import WAITING_COMM, look, pid_namespace
from ocirun.lifecycle.store import state_io, unknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.lifecycle.store import Store

CREATING, CREATED, RUNNING, STOPPED, UNKNOWN = "creating", "created", "running", "stopped", "unknown"
#: A created or running container whose cgroup is frozen: not of the specification, but of runc and crun.
PAUSED = "paused"


class State:
    """The state of the specification (runtime.md#state) with what runc and crun add: rootfs, created, owner.

    ``pid`` is 0 for a stopped container.  ``start`` is the start time of init in clock ticks, "" before it is
    born.
    """

    __slots__ = ("annotations", "bundle", "created", "id", "owner", "pid", "rootfs", "start", "status")

    def __init__(self, container: str, entries: Journal) -> None:
        head = entries.head
        self.id = container
        self.status = _status(entries)
        self.pid = 0 if self.status == STOPPED else entries.pid
        self.start = entries.start
        self.bundle = str(head.get("bundle", ""))
        self.rootfs = str(head.get("rootfs", ""))
        self.created = str(head.get("created", ""))
        self.owner = str(head.get("owner", ""))
        annotations = head.get("annotations", {})
        assert isinstance(annotations, dict)
        self.annotations: dict[str, str] = annotations

    def as_dict(self) -> dict[str, object]:
        """The members in runc's order; annotations only where there are some."""
        members: dict[str, object] = {
            "ociVersion": SPEC_VERSION,
            "id": self.id,
            "pid": self.pid,
            "status": self.status,
            "bundle": self.bundle,
            "rootfs": self.rootfs,
            "created": self.created,
        }
        if self.annotations:
            members["annotations"] = self.annotations
        members["owner"] = self.owner
        return members


def check_same_pids(entries: Journal) -> None:
    """Raises StateError where the pids of the journal are those of another pid namespace than ours."""
    if entries.head.get("pids") != pid_namespace():
        raise StateError(
            "the container was created in another pid namespace: its processes cannot be told from here",
            hint="run the command in the namespace that created it, or `delete --force`",
        )


def _status(entries: Journal) -> str:
    """The comm of init tells created from running, whatever a command that died in between wrote."""
    if not entries.pid:
        return CREATING
    check_same_pids(entries)
    process = look(entries.pid)
    if process is None or process.dead or process.start != entries.start:
        return STOPPED
    if not entries.created:
        return CREATING
    if is_frozen(entries.cgroup):
        return PAUSED
    if process.comm == WAITING_COMM and not entries.started:
        return CREATED
    return RUNNING


def state(store: Store, container: str) -> State:
    """The state of ``container``; raises StateError when there is none of that id."""
    return State(container, entries_of(store, container))


def entries_of(store: Store, container: str) -> Journal:
    """The journal of ``container``; raises StateError when there is none of that id."""
    directory = store.directory(container)
    try:
        os.stat(f"{directory}/.")
    except (FileNotFoundError, NotADirectoryError):
        raise unknown(container) from None
    except OSError as error:
        raise state_io(error, "open the state directory", directory) from error
    return journal.read(directory)


def containers(store: Store) -> list[State]:
    """The states of all containers, sorted by id; one that vanishes meanwhile is left out.

    One whose state cannot be told (a damaged journal, another version, another pid namespace) has the status
    unknown, and hides nobody else.
    """
    found: list[State] = []
    for container in store.ids():
        try:
            found.append(state(store, container))
        except StateError as error:
            if error.code not in ("container-unknown", "container-id-invalid"):
                found.append(State(container, Journal()))
                found[-1].status = UNKNOWN
    return found
