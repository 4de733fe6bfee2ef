"""Pauses and resumes a container: the freezer of its cgroup (cgroup-v2.rst, cgroup.freeze)."""

from __future__ import annotations

import os
import time

from ocirun.cgroup.files import is_frozen, set_frozen
from ocirun.errors import StateError
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
    where = _cgroup_of(store, container, (CREATED, RUNNING), not_running())
    _write(where, container, frozen=True)
    try:
        yield from _await(where, frozen=True)
    except BaseException:
        _write(where, container, frozen=False)
        raise


def resume(store: Store, container: str) -> Task[None]:
    """Lets the processes of a paused ``container`` go on; raises StateError for one that is not paused."""
    refusal = StateError("container not paused", hint=f"`ocirun state {container}` tells what it is")
    where = _cgroup_of(store, container, (PAUSED,), refusal)
    _write(where, container, frozen=False)
    yield from _await(where, frozen=False)


def _cgroup_of(store: Store, container: str, wanted: tuple[str, ...], refusal: StateError) -> str:
    entries = entries_of(store, container)
    if State(container, entries).status not in wanted:
        raise refusal
    return entries.cgroup


def _write(where: str, container: str, *, frozen: bool) -> None:
    try:
        set_frozen(where, frozen=frozen)
    except FileNotFoundError:
        raise not_running() from None
    except OSError as error:
        raise StateError(
            f"write {where}/cgroup.freeze: {os.strerror(error.errno or 0)}",
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
