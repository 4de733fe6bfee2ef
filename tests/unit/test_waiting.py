"""The loop that drives generators."""

from __future__ import annotations

import os
import time

import pytest

from ocirun.waiting import Wait, drive, wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.waiting import Task


def test_wait_names_the_ready_descriptor() -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, b"x")
        assert wait(Wait(reads=(reader,), writes=(writer,))) == (reader, writer)
    finally:
        os.close(reader)
        os.close(writer)


def test_wait_gives_nothing_at_its_deadline() -> None:
    reader, writer = os.pipe()
    try:
        assert wait(Wait(reads=(reader,), until=time.monotonic() + 0.01)) == ()
    finally:
        os.close(reader)
        os.close(writer)


def test_drive_sends_what_became_ready_and_gives_the_value() -> None:
    def task() -> Task[str]:
        ready = yield Wait(reads=(7,))
        return f"ready {ready}"

    assert drive(task(), lambda what: what.reads) == "ready (7,)"


def test_an_exception_of_the_waiter_lets_the_task_undo_first() -> None:
    done: list[str] = []

    def task() -> Task[None]:
        try:
            yield Wait(reads=(0,))
        finally:
            yield Wait(until=0.0)
            done.append("undone")

    def waiter(what: Wait) -> tuple[int, ...]:
        if what.reads:
            raise KeyboardInterrupt
        return ()

    with pytest.raises(KeyboardInterrupt):
        drive(task(), waiter)
    assert done == ["undone"]
