"""Deletes a container: what stopped is undone, what was created and never started is killed first."""

from __future__ import annotations

from ocirun import journal
from ocirun.errors import StateError
from ocirun.lifecycle.state import PAUSED, RUNNING, State
from ocirun.lifecycle.undo import end_awaited, ignore, undo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun.errors import Fault
    from ocirun.lifecycle.store import Lock, Store
    from ocirun.waiting import Task

#: Seconds for another command to come to its end by itself, before a forced delete ends what it waits for.
_GRACE = 2.0


def delete(
    store: Store,
    container: str,
    force: bool,
    warn: Callable[[Fault], None] = ignore,
    *,
    at_once: bool = False,
) -> Task[None]:
    """Removes ``container`` and all it left on the host, then runs its poststop hooks.

    A created container is killed first, as runc and crun do because shims rely on it, though the
    specification admits only a stopped one.  ``force`` kills a running one, also one that another command
    still works on, and takes an unknown id as deleted.  ``warn`` is told of hooks that fail; ``at_once`` is
    for who has nothing else to wait for.

    Raises StateError for a running container without ``force``, or an unknown id.
    """
    try:
        lock = yield from (_forced(store, container) if force else store.lock(container))
    except StateError as error:
        if force and error.code == "container-unknown":
            return
        raise
    try:
        if not force:
            _check_stopped(State(container, journal.read(lock.path)))
        yield from undo(lock, lenient=force, at_once=at_once, warn=warn)
    finally:
        lock.close()


def _forced(store: Store, container: str) -> Task[Lock]:
    """The lock, also from a command that would wait for init or a hook for ever."""
    try:
        return (yield from store.lock(container, _GRACE))
    except StateError as error:
        if error.code != StateError.code:
            raise
    end_awaited(store.directory(container))
    return (yield from store.lock(container))


def _check_stopped(now: State) -> None:
    if now.status in (PAUSED, RUNNING):
        raise StateError(
            f"cannot delete container {now.id} that is not stopped: {now.status}",
            hint=f"stop it with `ocirun kill {now.id} KILL`, or use --force",
        )
