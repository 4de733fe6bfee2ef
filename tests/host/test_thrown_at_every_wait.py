"""An exception thrown into the lifecycle at any of its waits, as a shim ends a call that nobody wants."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from ocirun.errors import Interrupted
from ocirun.lifecycle import orphans
from ocirun.lifecycle.create import CreateOptions, create
from ocirun.lifecycle.delete import delete
from ocirun.lifecycle.start import start
from ocirun.lifecycle.state import CREATED, RUNNING, state
from ocirun.lifecycle.store import Store
from ocirun.waiting import Wait, drive, wait
from tests.host.inprocess import Made, making
from tests.host.runtimes import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ocirun.lifecycle.create import Container
    from ocirun.waiting import Task
    from tests.host.bundles import Bundle
    from tests.host.view import View

    T = TypeVar("T")


@pytest.fixture
def made(scratch: Path) -> Iterator[Made]:
    """Containers of this process."""
    yield from making(scratch / "state")


def _children() -> set[str]:
    tasks = Path("/proc/self/task").iterdir()
    return {pid for task in tasks for pid in (task / "children").read_text().split()}


def _descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def _thrower(at: int) -> Callable[[Wait], tuple[int, ...]]:
    """Waits as usual, but throws at the wait number ``at``."""
    seen = 0

    def waiter(what: Wait) -> tuple[int, ...]:
        nonlocal seen
        seen += 1
        if seen == at:
            raise Interrupted(2)
        return wait(what)

    return waiter


def _every(task: Callable[[], Task[T]], undone: Callable[[int], None]) -> T:
    """Throws at each wait in turn and checks what is left, until one was not reached: what came of that."""
    for at in range(1, 50):
        before = _children(), _descriptors()
        notes: list[str] = []
        try:
            return drive(task(), _thrower(at))
        except Interrupted as error:
            notes = getattr(error, "__notes__", notes)
        assert not notes, f"thrown at wait {at}: {notes}"
        assert (_children(), _descriptors()) == before, f"thrown at wait {at}"
        undone(at)
    pytest.fail("it waits for ever")


def test_create_undoes_everything(bundle: Bundle, scratch: Path, view: View) -> None:
    store, ident, path = Store(str(scratch / "state")), new_id(), str(bundle.sleeping().write().path)
    count = 0

    def undone(at: int) -> None:
        nonlocal count
        count = at
        assert store.ids() == [], f"thrown at wait {at}"
        assert not (view.cgroup2 / "ocirun" / ident).exists(), f"thrown at wait {at}"

    made: Container = _every(lambda: create(store, ident, CreateOptions(path)), undone)
    assert count >= 2, "before init was reported, and after"
    drive(delete(store, ident, force=True))
    os.close(made.pidfd)


def test_start_leaves_a_container_that_was_started_or_was_not(made: Made, bundle: Bundle) -> None:
    containers = [made.create(bundle.sleeping())]

    def undone(at: int) -> None:
        assert state(made.store, containers[-1].id).status in (CREATED, RUNNING), f"thrown at wait {at}"
        made.delete(containers[-1])
        containers.append(made.create(bundle))

    def started() -> Task[None]:
        return start(made.store, containers[-1].id)

    _every(started, undone)
    assert state(made.store, containers[-1].id).status == RUNNING


def test_delete_can_be_done_again(made: Made, bundle: Bundle) -> None:
    containers = [made.create(bundle.sleeping())]

    def undone(at: int) -> None:
        drive(delete(made.store, containers[-1].id, force=True))
        assert made.store.ids() == [], f"thrown at wait {at}"
        containers.append(made.create(bundle))

    # what stays is the zombie of an init that delete has not come to reap; here we do not look at children
    for at in range(1, 50):
        try:
            drive(delete(made.store, containers[-1].id, force=True), _thrower(at))
        except Interrupted:
            undone(at)
        else:
            break
    assert made.store.ids() == []


def test_a_create_that_is_closed_leaves_the_rest_to_delete(bundle: Bundle, scratch: Path) -> None:
    store, ident, path = Store(str(scratch / "state")), new_id(), str(bundle.sleeping().write().path)
    before = _descriptors()
    for waits in range(1, 50):
        task = create(store, ident, CreateOptions(path))
        try:
            what = next(task)
            for _ in range(waits):
                what = task.send(wait(what))
        except StopIteration as end:
            container: Container = end.value
            os.close(container.pidfd)
            break
        task.close()
        assert _descriptors() == before, f"closed at wait {waits}"
        drive(delete(store, ident, force=True))
        assert store.ids() == [], f"closed at wait {waits}"
    drive(delete(store, ident, force=True))


def _child_in(cgroup: Path) -> int:
    """A child of ours that joined ``cgroup`` and ended: a zombie of it."""
    pid = os.fork()
    if not pid:
        (cgroup / "cgroup.procs").write_text("0")
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


def test_an_init_that_was_not_reported_is_found_by_its_cgroup_alone(view: View) -> None:
    path = f"/ocirun/{new_id()}"
    wanted, other = Path(f"{view.cgroup2}{path}"), Path(f"{view.cgroup2}/ocirun{path}")
    for cgroup in (wanted, other):
        cgroup.mkdir(parents=True)
    pids = _child_in(wanted), _child_in(other)
    for cgroup in (wanted, other, other.parent):
        cgroup.rmdir()
    pidfds = orphans.unreported(str(view.cgroup2), path)
    found = [os.waitid(os.P_PIDFD, pidfd, os.WEXITED) for pidfd in pidfds]
    for pidfd in pidfds:
        os.close(pidfd)
    os.waitpid(pids[1], 0)
    assert [one.si_pid for one in found if one] == [pids[0]]
