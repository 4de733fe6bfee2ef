"""What a container says of itself: which of it goes on, and how much at a time (lifecycle/notify.py)."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from ocirun.lifecycle.notify import Notifications, listen, prepare

if TYPE_CHECKING:
    from pathlib import Path


class Endless(socket.socket):
    """Has always one more message, and fails the test when somebody wants to have them all."""

    asked = 0

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        del bufsize, flags
        self.asked += 1
        assert self.asked < 5000
        return b"STATUS=still here"


def test_one_that_never_stops_to_tell_keeps_nobody() -> None:
    endless = Endless(socket.AF_UNIX, socket.SOCK_DGRAM)
    told = Notifications(endless, "/not/there")
    told.move()
    assert endless.asked
    told.close()


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (b"STATUS=a\rMAINPID=1", b"STATUS=a"),
        (b"READY=1\r\nMAINPID=1\r\n", b"READY=1\nMAINPID=7"),
        (b"\rFDSTORE=1\rSTATUS=b", b"STATUS=b"),
        (b"STATUS=a\x0bMAINPID=1", b"STATUS=a\x0bMAINPID=1"),
    ],
)
def test_a_line_ends_where_systemd_ends_it(tmp_path: Path, said: bytes, heard: bytes) -> None:
    prepare(str(tmp_path))
    manager, container = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    manager.bind(f"\0ocirun-{os.getpid()}-{tmp_path.name}")
    told = listen(str(tmp_path), f"@ocirun-{os.getpid()}-{tmp_path.name}")
    container.sendto(said, str(tmp_path / "notify" / "notify.sock"))
    manager.setblocking(False)
    told.move(7)
    assert manager.recv(4096) == heard
    told.close()
    manager.close()
    container.close()
