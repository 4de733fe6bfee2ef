"""Shims that rest: making a container, waiting until its worker is gone, and reading its streams."""

from __future__ import annotations

import os
import select
from pathlib import Path
from typing import TYPE_CHECKING

from tests.host import observe, shims

if TYPE_CHECKING:
    from tests.host.serving import Serving, Task


def made(served: Serving, *args: str, group: str = "") -> Task:
    """A container that will run a program."""
    task = served.task(group)
    task.bundle.args(*args).write()
    return task.shim()


def rested(task: Task) -> int:
    """Waits until the shim of the container rests: the keeper's pid."""
    keeper = shims.the_shim(task.id)
    observe.eventually(lambda: shims.workers(keeper) == [], "the worker has handed over")
    return keeper


def streams(served: Serving, fds: dict[str, int], *names: str) -> dict[str, str]:
    """FIFOs for the streams of a container: their paths; our ends go into ``fds``."""
    paths = {name: served.fifo() for name in names}
    fds.update({name: os.open(path, os.O_RDWR | os.O_NONBLOCK) for name, path in paths.items()})
    return paths


def full(fifo: str) -> bool:
    """Whether no page of a FIFO is free: few bytes fill it, as each splice leaves a page of its own."""
    writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    try:
        return not select.select([], [writer], [], 0)[1]
    finally:
        os.close(writer)


def stuck(task: Task, stdout: str) -> bool:
    """Whether the shim has output that goes nowhere: the FIFO is full, and so is the pipe of the program, and
    that is more than still fits into the last page."""
    return full(stdout) and full(f"/proc/{task.state().pid}/fd/1")


def read(fd: int, text: bytes) -> None:
    """Waits until a FIFO has given ``text``."""
    got = bytearray()

    def there() -> bool:
        try:
            got.extend(os.read(fd, 65536))
        except BlockingIOError:
            return False
        return text in got

    observe.eventually(there, f"{text!r} comes")


def left_to(keeper: int) -> list[int]:
    """The children of a keeper, alive or not reaped, without its worker."""
    found = [int(child) for child in Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()]
    return [child for child in found if child not in shims.workers(keeper)]


def zombies_of(pid: int) -> list[int]:
    """The children of a process that have ended and were not reaped; a worker that has just ended, too."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if observe.state_letter(int(child)) == "Z"]
