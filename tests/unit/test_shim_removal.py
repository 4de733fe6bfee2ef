"""What is on its way for a container that is being removed: each job is told once, and undoes in peace."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

import pytest
from ocirun_shim.container import Container
from ocirun_shim.loop import Loop
from ocirun_shim.processes import Process
from ocirun_shim.stdio import Streams

from ocirun.errors import RemovalError
from ocirun.lifecycle import restore
from ocirun.lifecycle.create import CreateOptions
from ocirun.lifecycle.store import Store
from ocirun.waiting import Wait

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ocirun_shim.events import Publisher

    from ocirun.criu.requests import Restore
    from ocirun.waiting import Task


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop with nothing in it."""
    made = Loop()
    yield made
    made.close()


def test_who_undoes_already_is_not_disturbed(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready, end = os.pipe()
    told: list[str] = []

    def hanging(*_: object) -> Task[None]:
        try:
            yield Wait()
        except RemovalError as error:
            told.append(str(error))
            yield Wait(reads=(ready,))  # its undo takes time
            told.append("undone")
            raise

    def restored(error: BaseException | None) -> None:
        told.append(f"restored: {type(error).__name__}")
        loop.stop()

    monkeypatch.setattr(restore, "restore", hanging)
    init = Process(loop, "", Streams())
    container = Container(loop, cast("Publisher", None), Store(str(tmp_path)), "one", str(tmp_path), init)
    container.await_restore(CreateOptions(str(tmp_path)), cast("Restore", None))
    container.start(restored)
    container.interrupt()
    container.interrupt()
    assert told == ["container one is being removed"]
    os.write(end, b".")
    loop.run()
    assert told[1:] == ["undone", "restored: RemovalError"]
    assert init.exit is not None
    os.close(ready)
    os.close(end)
