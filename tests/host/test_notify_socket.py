"""NOTIFY_SOCKET: what a container says of itself reaches who started us, as below systemd (sd_notify(3))."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.datagrams import fill
from tests.host import observe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

_PATIENCE = 30


class Manager:
    """Listens as systemd does: ``told`` are the datagrams, but for barriers, which it lets go."""

    def __init__(self, address: str) -> None:
        self.told: list[list[str]] = []
        self._heard = threading.Condition()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            data, descriptors, _, _ = socket.recv_fds(self._socket, 65536, 4)
            for fd in descriptors:
                os.close(fd)
            if data == b"stop":
                return
            if data.startswith(b"BARRIER="):
                continue
            with self._heard:
                self.told.append(data.decode().split())
                self._heard.notify_all()

    def words(self, count: int) -> list[str]:
        """All that was said, as soon as it is so many assignments."""
        with self._heard:
            self._heard.wait_for(lambda: sum(map(len, self.told)) >= count, _PATIENCE)
        return [word for one in self.told for word in one]

    def end(self, address: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.sendto(b"stop", address)
        self._thread.join(_PATIENCE)
        self._socket.close()


@pytest.fixture
def manager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Manager]:
    abstract = getattr(request, "param", "") == "abstract"
    name = f"ocirun-{os.getpid()}-{tmp_path.name}"
    address = f"\0{name}" if abstract else str(tmp_path / "manager")
    made = Manager(address)
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if abstract else address)
    yield made
    made.end(address)


@pytest.fixture(autouse=True)
def runtimes_environment(
    manager: Manager, ocirun: Runtime, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    del manager
    found = request.getfixturevalue("runtime") if "runtime" in request.fixturenames else ocirun
    monkeypatch.setitem(found.environment, "NOTIFY_SOCKET", os.environ["NOTIFY_SOCKET"])


def telling(bundle: Bundle, *words: str) -> Bundle:
    source, program = Path(__file__).with_name("teller.c"), bundle.rootfs / "bin/teller"
    subprocess.run(["gcc", "-O2", "-static", "-o", program, source], check=True)
    return bundle.args("/bin/teller", *words)


def test_what_is_said_before_the_end_is_heard(ocirun: Runtime, bundle: Bundle, manager: Manager) -> None:
    """In the foreground; crun sometimes misses it."""
    ocirun.run(telling(bundle, "READY=1", "end")).ok()
    assert manager.words(1) == ["READY=1"]


def test_a_detached_run_tells_whom_to_watch(runtime: Runtime, bundle: Bundle, manager: Manager) -> None:
    container = runtime.detach(telling(bundle, "READY=1"))
    assert manager.words(2) == ["READY=1", f"MAINPID={container.pid}"]


def test_start_waits_until_it_is_ready(runtime: Runtime, bundle: Bundle, manager: Manager) -> None:
    container = runtime.create(telling(bundle, "READY=1"))
    assert manager.told == []
    container.start()
    assert manager.words(2) == ["READY=1", f"MAINPID={container.pid}"]


@pytest.mark.parametrize("runtime", ["ocirun", "runc"], indirect=True)
def test_a_start_that_was_refused_is_not_the_last_to_tell(
    runtime: Runtime, bundle: Bundle, manager: Manager
) -> None:
    """crun's waits for the paused container."""
    container = runtime.create(telling(bundle, "READY=1"))
    runtime.call("pause", container.id).ok()
    assert runtime.call("start", container.id).code != 0
    runtime.call("resume", container.id).ok()
    container.start()
    assert manager.words(2) == ["READY=1", f"MAINPID={container.pid}"]


@pytest.mark.parametrize("manager", ["abstract"], indirect=True)
def test_an_abstract_name(runtime: Runtime, bundle: Bundle, manager: Manager) -> None:
    container = runtime.detach(telling(bundle, "READY=1"))
    assert manager.words(2) == ["READY=1", f"MAINPID={container.pid}"]


def test_only_what_is_allowed_goes_on(ocirun: Runtime, bundle: Bundle, manager: Manager) -> None:
    """Nobody in the container says whom to watch, and no descriptor is kept for it."""
    words = ["STATUS=nearly", "MAINPID=1", "FDSTORE=1\\nSTATUS=there", "BUSERROR=a", "READY=1\\nMAINPID=1"]
    container = ocirun.detach(telling(bundle, *words))
    assert manager.words(4) == ["STATUS=nearly", "STATUS=there", "READY=1", f"MAINPID={container.pid}"]


def test_a_carriage_return_hides_nothing(ocirun: Runtime, bundle: Bundle, manager: Manager) -> None:
    """systemd ends a line there, too, and would take the rest for ours: root may name any process."""
    words = ["STATUS=a\rMAINPID=1", "STATUS=b\r\nFDSTORE=1", "STOPPING=1\rREADY=1\rMAINPID=1"]
    container = ocirun.detach(telling(bundle, *words))
    expected = ["STATUS=a", "STATUS=b", "STOPPING=1", "READY=1", f"MAINPID={container.pid}"]
    assert manager.words(5) == expected


def test_one_that_ends_is_not_waited_for(ocirun: Runtime, bundle: Bundle, manager: Manager) -> None:
    """runc waits for it for ever."""
    container = ocirun.create(telling(bundle, "end"))
    container.start()
    assert container.exit_status() == 0
    assert manager.told == []


def test_the_socket_is_for_any_user_and_its_place_is_not_to_be_written_to(
    ocirun: Runtime, bundle: Bundle, manager: Manager
) -> None:
    container = ocirun.detach(telling(bundle, "READY=1").user(1000, 1000).mapped(100000, 65536))
    assert manager.words(2) == ["READY=1", f"MAINPID={container.pid}"]
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(observe.mount_at(container.pid, "/run/notify").options)


def test_a_manager_that_is_gone_stops_nobody(
    ocirun: Runtime, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ocirun.environment, "NOTIFY_SOCKET", "/not/there")
    ocirun.run(telling(bundle, "READY=1", "end")).ok()


def test_a_foreground_run_passes_on_what_comes_after_ready(
    ocirun: Runtime, bundle: Bundle, manager: Manager
) -> None:
    """Detached, nobody of ours is left to do so."""
    words = ["READY=1", "WATCHDOG=1", "EXTEND_TIMEOUT_USEC=5", "RELOADING=1\\nMONOTONIC_USEC=9", "READY=1"]
    ocirun.run(telling(bundle, *words, "end")).ok()
    assert manager.words(6) == " ".join(words).replace("\\n", " ").split()


def test_a_full_queue_loses_nothing(
    ocirun: Runtime, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "late")
    monkeypatch.setitem(ocirun.environment, "NOTIFY_SOCKET", address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as late:
        late.bind(address)
        fill(address, b"STATUS=of another")
        container = ocirun.create(telling(bundle, "READY=1"))
        starting, _ = ocirun.popen("start", container.id)
        _told_all(container.pid)
        late.settimeout(_PATIENCE)
        told = b""
        while not told.startswith(b"READY"):
            told = late.recv(4096)
        barrier, descriptors, _, _ = socket.recv_fds(late, 4096, 4)
        for fd in descriptors:
            os.close(fd)
        assert starting.wait(_PATIENCE) == 0
    assert (told.decode().split(), barrier) == (["READY=1", f"MAINPID={container.pid}"], b"BARRIER=1")


def _told_all(pid: int) -> None:
    """Until the program has said all that it says, and sleeps."""
    observe.eventually(lambda: observe.words(pid, "cmdline")[:1] == ["/bin/teller"], "it runs")
    observe.eventually(lambda: observe.state_letter(pid) == "S", "it has told all")


def test_what_root_of_the_container_makes_there_goes_with_it(
    ocirun: Runtime, bundle: Bundle, manager: Manager
) -> None:
    del manager
    script = "mount -o remount,bind,rw /run/notify && mkdir -p /run/notify/a/b && exec sleep 1000"
    bundle.args("sh", "-c", script)
    mounting = ["CAP_SYS_ADMIN"]
    bundle.capabilities(bounding=mounting, permitted=mounting, effective=mounting)
    container = ocirun.create(bundle)
    starting, _ = ocirun.popen("start", container.id)
    place = ocirun.root / container.id / "notify"
    observe.eventually((place / "a/b").is_dir, "it was made")
    container.delete("--force").ok()
    assert starting.wait(_PATIENCE) in (0, 1)
