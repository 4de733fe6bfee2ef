"""Pauses and resumes a container: the freezer of its cgroup (cgroup-v2.rst, cgroup.freeze)."""

from __future__ import annotations

import time

from ocirun.cgroup.files import is_frozen, is_gone, set_frozen
from ocirun.errors import StateError, words_of
from ocirun.lifecycle.process import not_running
from ocirun.lifecycle.state import CREATED, PAUSED, RUNNING, State, entries_of
from ocirun.waiting import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.lifecycle.store import Store
    from ocirun.waiting import Task

#: Seconds for the kernel to stop every process, and between two looks: kernfs says of cgroup.events that it
#: is always readable, so that nothing but a look tells.
_PATIENCE, _FIRST_LOOK, _LONGEST_LOOK = 10.0, 0.001, 0.05


def pause(store: Store, container: str) -> Task[None]:
    """Stops every process of ``container`` until ``resume``; returns when all are stopped.

    Takes no lock, as ``kill``.  Raises StateError for a container that is neither created nor running, and
    for one whose processes do not stop in time: it runs on then.
    """
    where = _cgroup_of(store, container, (CREATED, RUNNING))
    _write(where, container, frozen=True)
    try:
        yield from _await(where, frozen=True)
    except BaseException:
        _write(where, container, frozen=False)
        raise


def resume(store: Store, container: str) -> Task[None]:
    """Lets the processes of a paused ``container`` go on; raises StateError for one that is not paused."""
    where = _cgroup_of(store, container, (PAUSED,))
    _write(where, container, frozen=False)
    yield from _await(where, frozen=False)


def _cgroup_of(store: Store, container: str, wanted: tuple[str, ...]) -> str:
    entries = entries_of(store, container)
    status = State(container, entries).status
    if status not in wanted:
        raise _refusal(container, status, wanted)
    if not entries.cgroup:
        from ocirun.lifecycle.members import without_cgroup

        raise without_cgroup("pause")
    return entries.cgroup


def _refusal(container: str, status: str, wanted: tuple[str, ...]) -> StateError:
    """In the words engines look for, with what is so."""
    if PAUSED in wanted:
        return StateError("container not paused", hint=f"`ocirun state {container}` tells what it is")
    if status == PAUSED:
        hint = f"it is paused already: `ocirun resume {container}` lets it go on"
        return StateError("container not running", hint=hint)
    return not_running()


def _write(where: str, container: str, *, frozen: bool) -> None:
    try:
        set_frozen(where, frozen=frozen)
    except OSError as error:
        if is_gone(error):
            raise not_running() from None
        raise StateError(
            f"write {where}/cgroup.freeze: {words_of(error.errno or 0)}",
            errno=error.errno or 0,
            hint=f"is the cgroup of {container} writable for you?",
        ) from error


def _await(where: str, *, frozen: bool) -> Task[None]:
    until = time.monotonic() + _PATIENCE
    look = _FIRST_LOOK
    while is_frozen(where) is not frozen:
        if time.monotonic() > until:
            raise StateError(
                f"the cgroup {where} is not {'frozen' if frozen else 'thawed'} after {_PATIENCE:.0f} seconds",
                hint="a process hangs in the kernel" if frozen else "is a cgroup above it frozen?",
            )
        yield Wait(until=time.monotonic() + look)
        look = min(2 * look, _LONGEST_LOOK)
