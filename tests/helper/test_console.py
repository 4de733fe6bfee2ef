"""The terminal: made inside, its master handed out at a meeting, the controlling one of the program."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

import pytest

from ocirun.executor import wire
from ocirun.plan import steps as verb
from tests.helper import plans
from tests.helper.driver import start

if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun.plan.model import Step
    from tests.helper.driver import Run
    from tests.helper.plans import Place

pytestmark = pytest.mark.root

SCRIPT = """
trap 'echo interrupted; exit 3' INT
tty; stty size; ls -ln /dev/console; echo ready; read line; echo "got $line"; while :; do sleep 1; done
"""


def _until(master: int, word: bytes) -> bytes:
    """What comes out of the terminal up to ``word``."""
    said = b""
    while word not in said:
        assert select.select([master], [], [], 30)[0], said
        said += os.read(master, 4096)
    return said


def _steps(place: Place) -> list[Step]:
    inside = [
        plans.mount("proc", "/proc", plain=True),
        plans.mount("tmpfs", "/dev", "mode=755"),
        plans.mount("devpts", "/dev/pts", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        verb.make_console(columns=123, rows=45, bind=1, console="console", terminal="terminal", pointer=""),
    ]
    before = [
        verb.new_session(pointer=""),
        verb.send_console(console="console", pointer=""),
        verb.take_terminal(terminal="terminal", owner=1000, pointer=""),
    ]
    return [*plans.stage(place), *plans.root(), *inside, *plans.end(["sh", "-c", SCRIPT], before=before)]


def test_terminal(place: Place, launch: Callable[..., Run]) -> None:
    run = launch(_steps(place))
    run.until(wire.MEET)
    (master,) = run.fds
    run.answer()
    run.until(wire.READY)
    assert start(place.state) == b"R"
    said = _until(master, b"ready\r\n").decode().split("\r\n")
    assert said[0] == "/dev/pts/0"
    assert said[1] == "45 123"
    assert said[2].startswith("crw--w----")
    assert said[2].split()[2:6] == ["1000", "5", "136,", "0"]
    os.write(master, b"hello\n")
    _until(master, b"got hello\r\n")
    os.write(master, b"\x03")
    _until(master, b"interrupted\r\n")
    assert run.wait() == 3
