"""What a container says of itself: which of it goes on, and how much at a time (lifecycle/notify.py)."""

from __future__ import annotations

import os
import posix
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from ocirun.lifecycle import notify
from ocirun.lifecycle.notify import Notifications, listen, prepare
from ocirun.waiting import Wait, drive, wait
from tests.datagrams import fill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import TypeAlias

    _Waiter: TypeAlias = Callable[[Wait], tuple[int, ...]]


OF_ANOTHER = b"STATUS=of another"


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


class Scene:
    """A manager who reads when he is told to, a container that says things, and what is between them."""

    def __init__(self, directory: Path) -> None:
        prepare(str(directory))
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.manager.bind(f"\0ocirun-{os.getpid()}-{directory.name}")
        self.container = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.told = listen(str(directory), f"@ocirun-{os.getpid()}-{directory.name}")
        self.container.connect(str(directory / "notify" / "notify.sock"))

    def fill(self) -> None:
        """Until the queue of the manager has no room."""
        fill(self.manager.getsockname(), OF_ANOTHER)

    def heard(self) -> list[bytes]:
        """What the manager reads now, less what others have said; of barriers he lets go."""
        found: list[bytes] = []
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(self.manager, 4096, 4)
            except BlockingIOError:
                return found
            for fd in descriptors:
                os.close(fd)
            found += [data] if data != OF_ANOTHER else []

    def reads_late(self, found: list[bytes]) -> _Waiter:
        """Waits, and has the manager read as soon as somebody wants to write to him."""

        def waiter(what: Wait) -> tuple[int, ...]:
            assert what.until is not None or what.reads, "a deadline"
            found.extend(self.heard() if what.writes or len(what.reads) == 1 else ())
            return wait(what)

        return waiter


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    for one in (made.manager, made.container, made.told):
        one.close()


def test_a_manager_who_has_no_room_hears_it_later(scene: Scene) -> None:
    """As systemd, which reads nothing while it reloads: whom to watch is said once, and must not be lost."""
    scene.fill()
    scene.container.send(b"READY=1")
    scene.container.send(b"STATUS=b")
    scene.told.move(7)
    reads, writes = scene.told.wants()
    assert (reads, len(writes)) == ((), 1), "nothing more is read meanwhile"
    assert wait(Wait(writes=writes, until=0.0)) == (), "there is no room"
    assert scene.heard() == []
    assert wait(Wait(writes=writes)) == writes
    scene.told.move(7)
    assert scene.heard() == [b"READY=1\nMAINPID=7", b"STATUS=b"]
    assert scene.told.wants() == ((scene.told.wants()[0][0],), ())


def test_nobody_returns_before_the_manager_had_room(scene: Scene) -> None:
    scene.fill()
    scene.container.send(b"READY=1")
    found: list[bytes] = []
    own = os.pidfd_open(os.getpid())
    drive(scene.told.until_ready(own, 7), scene.reads_late(found))
    os.close(own)
    assert found == [b"READY=1\nMAINPID=7", b"BARRIER=1"]


def test_the_last_words_have_time_as_well(scene: Scene) -> None:
    scene.fill()
    scene.container.send(b"STOPPING=1")
    found: list[bytes] = []
    drive(scene.told.finish(), scene.reads_late(found))
    assert found + scene.heard() == [b"STOPPING=1"]


def test_a_manager_who_never_reads_is_given_up(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "_PATIENCE", 0.05)
    monkeypatch.setattr(notify, "_BARRIER", 0.05)
    scene.fill()
    scene.container.send(b"READY=1")
    own = os.pidfd_open(os.getpid())
    drive(scene.told.until_ready(own, 7))
    os.close(own)
    assert scene.heard() == []
    assert scene.told.ready


def test_the_socket_is_anybodys_from_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is not taken a second time, as for chmod(2)."""
    monkeypatch.setattr(posix, "chmod", None)
    before = os.umask(0o077)
    try:
        prepare(str(tmp_path))
        listen(str(tmp_path), "/not/there").close()
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    modes = [stat.filemode((tmp_path / name).stat().st_mode) for name in ("notify", "notify/notify.sock")]
    assert modes == ["drwxr-xr-x", "srwxrwxrwx"]
