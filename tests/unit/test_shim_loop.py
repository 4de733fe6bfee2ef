"""The loop of the shim: shared descriptors, timers in order, generators, faults that stay local."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

import pytest
from ocirun_shim import log
from ocirun_shim.loop import Loop

from ocirun.waiting import Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ocirun.waiting import Task


#: As ``what`` of ``noting``: note the arguments as well.
ARGUMENTS = "arguments"


def noting(heard: list[object], what: object, *after: Callable[[], None]) -> Callable[..., None]:
    """A callback that notes that it came, and then calls others."""

    def callback(*arguments: object) -> None:
        heard.extend((what, *arguments) if what is ARGUMENTS else (what,))
        for one in after:
            one()

    return callback


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def test_two_watches_of_one_descriptor_both_hear(loop: Loop, pipe: tuple[int, int]) -> None:
    heard: list[object] = []
    loop.watch(pipe[0], select.EPOLLIN, noting(heard, "first"))
    loop.watch(pipe[0], select.EPOLLIN, noting(heard, "second", loop.stop))
    os.write(pipe[1], b"x")
    loop.run()
    assert heard == ["first", "second"]


def test_a_watch_that_wants_nothing_is_not_woken_by_a_hang_up(loop: Loop) -> None:
    read, write = os.pipe()
    heard: list[int] = []
    watch = loop.watch(read, select.EPOLLIN, heard.append)
    watch.change(0)
    os.close(write)
    loop.call_at(loop.now() + 0.02, loop.stop)
    loop.run()
    assert heard == []
    watch.change(select.EPOLLIN)
    loop.call_at(loop.now() + 0.02, loop.stop)
    loop.run()
    assert heard
    watch.close()
    watch.close()
    os.close(read)


def test_one_watch_may_end_another(loop: Loop, pipe: tuple[int, int]) -> None:
    heard: list[object] = []
    first = loop.watch(pipe[0], select.EPOLLIN, noting(heard, 1, lambda: second.close(), loop.stop))  # noqa: PLW0108
    second = loop.watch(pipe[0], select.EPOLLIN, noting(heard, 2))
    os.write(pipe[1], b"x")
    loop.run()
    first.close()
    assert heard == [1]


def test_timers_ring_in_the_order_of_their_times(loop: Loop) -> None:
    rung: list[object] = []
    now = loop.now()
    loop.call_at(now + 0.02, noting(rung, 2, loop.stop))
    loop.call_at(now + 0.01, noting(rung, 1))
    loop.call_at(now + 0.005, noting(rung, 0)).cancel()
    loop.run()
    assert rung == [1, 2]


def test_a_regular_file_cannot_be_watched(loop: Loop) -> None:
    with open(__file__, "rb") as file, pytest.raises(PermissionError):
        loop.watch(file.fileno(), select.EPOLLIN, lambda _: None)


def test_a_task_gets_what_is_ready_or_nothing_at_its_deadline(loop: Loop, pipe: tuple[int, int]) -> None:
    def task() -> Task[list[tuple[int, ...]]]:
        late = yield Wait(reads=(pipe[0],), until=loop.now() + 0.01)
        os.write(pipe[1], b"x")
        ready = yield Wait(reads=(pipe[0],), writes=(), until=loop.now() + 10)
        return [late, ready]

    ended: list[object] = []
    loop.spawn(task(), noting(ended, ARGUMENTS, loop.stop))
    loop.run()
    assert ended == [ARGUMENTS, [(), (pipe[0],)], None]


def test_what_a_task_raises_comes_to_whoever_spawned_it(loop: Loop) -> None:
    def task() -> Task[None]:
        yield Wait(until=loop.now())
        raise KeyError("it")

    ended: list[object] = []
    loop.spawn(task(), noting(ended, ARGUMENTS, loop.stop))
    loop.run()
    assert ended[1] is None
    assert repr(ended[2]) == "KeyError('it')"


def test_a_task_that_waits_for_the_impossible_hears_of_it_and_undoes(loop: Loop) -> None:
    undone: list[str] = []

    def task() -> Task[None]:
        try:
            with open(__file__, "rb") as file:
                yield Wait(reads=(file.fileno(),))
        except PermissionError as error:
            undone.append(str(error.errno))
            yield Wait(until=loop.now())
            undone.append("later")

    loop.spawn(task(), noting([], "", loop.stop))
    loop.run()
    assert undone == ["1", "later"]


def test_a_fault_of_one_callback_ends_nothing_else(
    loop: Loop, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def tell(message: str, error: BaseException) -> None:
        told.append(f"{message}: {error!r}")

    monkeypatch.setattr(log, "exception", tell)

    def fault(_events: int) -> None:
        watch.close()
        raise ValueError("it")

    watch = loop.watch(pipe[0], select.EPOLLIN, fault)
    os.write(pipe[1], b"x")
    loop.call_at(loop.now() + 0.02, loop.stop)
    loop.run()
    assert told == ["a callback failed: ValueError('it')"]
