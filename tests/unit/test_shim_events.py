"""Events to containerd: in order, none lost, whatever containerd does; against a server on a real socket."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ocirun_shim import events, events_spool
from ocirun_shim.events import METHOD, SERVICE, Publisher, replay
from ocirun_shim.messages.events_pb2 import ForwardRequest, TaskExit, TaskStart
from ocirun_shim.ttrpc import codes
from ocirun_shim.ttrpc.server import ServerConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ocirun_shim.loop import Watch
    from ocirun_shim.messages.types_pb2 import Envelope
    from ocirun_shim.ttrpc.server import Call

    from tests.unit.shim_streams import Runner

pytestmark = pytest.mark.usefixtures("descriptors")

#: What the server does with a call: answers, hangs up without an answer, or says nothing.
TAKE, HANG_UP, LOSE_ANSWER, SILENCE = "take", "hang up", "lose answer", "silence"


class Containerd:
    """The Events service at a socket, on the loop of the test; ``script`` says what becomes of calls.

    A word of the script is one of the above or the code of a status; when it is at its end, all are taken.
    """

    def __init__(self, runner: Runner, path: Path) -> None:
        self._loop = runner.loop
        self.path = path
        self.script: list[str | int] = []
        self.taken: list[Envelope] = []
        self.calls: list[Call] = []
        self._clients: dict[socket.socket, Watch] = {}
        self._listener: socket.socket | None = None

    @property
    def pids(self) -> list[int]:
        """The pids of the start events, in the order in which they were taken."""
        return [TaskStart.FromString(one.event.value).pid for one in self.taken]

    @property
    def connected(self) -> int:
        return len(self._clients)

    def start(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._listener.bind(str(self.path))
        self._listener.listen(1)
        self._accepting = self._loop.watch(self._listener.fileno(), select.EPOLLIN, lambda _: self._accept())

    def stop(self) -> None:
        if self._listener is not None:
            self._accepting.close()
            self._listener.close()
            self.path.unlink()
            self._listener = None
        for sock in tuple(self._clients):
            self._hang_up(sock)

    def _accept(self) -> None:
        assert self._listener is not None
        sock, _ = self._listener.accept()
        protocol = ServerConnection()
        self._clients[sock] = self._loop.watch(
            sock.fileno(), select.EPOLLIN, lambda _: self._serve(sock, protocol)
        )

    def _hang_up(self, sock: socket.socket) -> None:
        self._clients.pop(sock).close()
        sock.close()

    def _serve(self, sock: socket.socket, protocol: ServerConnection) -> None:
        data = sock.recv(65536)
        if not data:
            self._hang_up(sock)
        for call in protocol.feed(data):
            self.calls.append(call)
            self._answer(sock, protocol, call, self.script.pop(0) if self.script else TAKE)

    def _answer(self, sock: socket.socket, protocol: ServerConnection, call: Call, what: str | int) -> None:
        if isinstance(what, int):
            protocol.fail(call.stream, what, "no")
        elif what in {TAKE, LOSE_ANSWER}:
            self.taken.append(ForwardRequest.FromString(call.payload).envelope)
            protocol.reply(call.stream, b"")
        if what in {HANG_UP, LOSE_ANSWER}:
            self._hang_up(sock)
        else:
            sock.sendall(protocol.take())


@pytest.fixture
def containerd(runner: Runner, tmp_path: Path) -> Iterator[Containerd]:
    server = Containerd(runner, tmp_path / "ttrpc")
    yield server
    server.stop()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "bundle"
    path.mkdir()
    return path


@pytest.fixture
def publisher(runner: Runner, containerd: Containerd) -> Iterator[Publisher]:
    publisher = Publisher(runner.loop, str(containerd.path), "moby")
    yield publisher
    publisher.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same waits, a hundred times shorter; for an answer two seconds, as this process may be slow."""
    for name in ("_SOON", "_SELDOM"):
        monkeypatch.setattr(events, name, getattr(events, name) / 100)
    monkeypatch.setattr(events, "_CALL", 2.0)


def start(publisher: Publisher, bundle: Path, *pids: int) -> None:
    for pid in pids:
        publisher.publish("/tasks/start", TaskStart(container_id="c", pid=pid), str(bundle))


def spooled(bundle: Path) -> int:
    return len(events_spool.unmarked(str(bundle)))


def test_an_event_arrives_in_its_envelope(
    runner: Runner, containerd: Containerd, publisher: Publisher, bundle: Path
) -> None:
    containerd.start()
    before = time.time()
    message = TaskExit(container_id="c", id="c", pid=7, exit_status=137)
    publisher.publish("/tasks/exit", message, str(bundle))
    assert not publisher.idle
    assert spooled(bundle) == 1
    assert stat.S_IMODE((bundle / "events").stat().st_mode) == 0o600
    runner.until(lambda: publisher.idle)
    (call,), (envelope,) = containerd.calls, containerd.taken
    assert (call.service, call.method, call.timeout_nano) == (SERVICE, METHOD, 5_000_000_000)
    assert (envelope.namespace, envelope.topic) == ("moby", "/tasks/exit")
    assert envelope.event.type_url == "containerd.events.TaskExit"
    assert TaskExit.FromString(envelope.event.value) == message
    assert before - 1 < envelope.timestamp.seconds <= time.time()
    assert spooled(bundle) == 0


def test_events_wait_for_a_containerd_that_is_away(
    runner: Runner, containerd: Containerd, publisher: Publisher, bundle: Path, hasty: None
) -> None:
    start(publisher, bundle, 1, 2, 3)
    told: list[bool] = []
    publisher.when_idle(lambda: told.append(publisher.idle))
    runner.run(0.05)
    assert not publisher.idle
    assert spooled(bundle) == 3
    containerd.start()
    runner.until(lambda: told)
    assert (containerd.pids, told, spooled(bundle)) == ([1, 2, 3], [True], 0)


@pytest.mark.parametrize(
    "script",
    [
        [HANG_UP, HANG_UP],
        [SILENCE],
        [TAKE, HANG_UP, TAKE, SILENCE],
        [codes.UNAVAILABLE, TAKE, codes.DEADLINE_EXCEEDED],
        [codes.INTERNAL, codes.UNKNOWN, codes.UNIMPLEMENTED],
    ],
)
def test_trouble_delays_events_and_changes_no_order(
    runner: Runner,
    containerd: Containerd,
    publisher: Publisher,
    bundle: Path,
    hasty: None,
    script: list[str | int],
) -> None:
    containerd.script = list(script)
    containerd.start()
    start(publisher, bundle, *range(20))
    runner.until(lambda: publisher.idle)
    assert containerd.pids == list(range(20))
    assert spooled(bundle) == 0


def test_an_answer_that_was_lost_is_asked_for_again(
    runner: Runner, containerd: Containerd, publisher: Publisher, bundle: Path, hasty: None
) -> None:
    containerd.script = [TAKE, LOSE_ANSWER]
    containerd.start()
    start(publisher, bundle, 1, 2, 3)
    runner.until(lambda: publisher.idle)
    assert containerd.pids == [1, 2, 2, 3]


@pytest.mark.parametrize("script", [[codes.INVALID_ARGUMENT], [codes.PERMISSION_DENIED] * events._TRIES])
def test_what_containerd_refuses_gives_way(
    runner: Runner,
    containerd: Containerd,
    publisher: Publisher,
    bundle: Path,
    hasty: None,
    capfd: pytest.CaptureFixture[str],
    script: list[str | int],
) -> None:
    containerd.script = list(script)
    containerd.start()
    start(publisher, bundle, 1, 2)
    runner.until(lambda: publisher.idle)
    assert containerd.pids == [2]
    assert len(containerd.calls) == len(script) + 1
    assert "does not take the event /tasks/start: no" in capfd.readouterr().err
    assert spooled(bundle) == 0


def test_what_fits_into_no_frame_gives_way(
    runner: Runner, containerd: Containerd, publisher: Publisher, bundle: Path
) -> None:
    containerd.start()
    publisher.publish("/tasks/start", TaskStart(container_id="x" * (5 << 20)), str(bundle))
    start(publisher, bundle, 2)
    runner.until(lambda: publisher.idle)
    assert containerd.pids == [2]


def test_a_large_event_goes_through_a_small_buffer(
    runner: Runner, containerd: Containerd, publisher: Publisher, bundle: Path
) -> None:
    containerd.start()
    publisher.publish("/tasks/start", TaskStart(container_id="x" * (3 << 20), pid=1), str(bundle))
    start(publisher, bundle, 2)
    runner.until(lambda: publisher.idle)
    assert containerd.pids == [1, 2]


def test_a_restart_of_containerd_between_events_costs_nothing(
    runner: Runner,
    containerd: Containerd,
    publisher: Publisher,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("_SOON", "_SELDOM"):  # who waits at all waits too long
        monkeypatch.setattr(events, name, 1000.0)
    for pid in (1, 2, 3):
        containerd.start()
        start(publisher, bundle, pid)
        runner.until(lambda: publisher.idle)
        containerd.stop()
        runner.run(0.01)
    assert containerd.pids == [1, 2, 3]


def test_one_connection_serves_all(
    runner: Runner, containerd: Containerd, publisher: Publisher, bundle: Path
) -> None:
    containerd.start()
    for pid in range(10):
        start(publisher, bundle, pid)
        runner.until(lambda: publisher.idle)
    assert containerd.connected == 1


def test_a_bundle_that_is_gone_is_no_obstacle(
    runner: Runner, containerd: Containerd, publisher: Publisher, bundle: Path, tmp_path: Path
) -> None:
    start(publisher, bundle, 1)
    shutil.rmtree(bundle)
    start(publisher, bundle, 2)
    start(publisher, tmp_path / "never was", 3)
    containerd.start()
    runner.until(lambda: publisher.idle)
    assert containerd.pids == [1, 2, 3]
    assert not bundle.exists()


def test_a_link_in_the_place_of_the_spool_is_not_followed(
    runner: Runner, containerd: Containerd, publisher: Publisher, bundle: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (bundle / "events").symlink_to(victim)
    containerd.start()
    start(publisher, bundle, 1)
    runner.until(lambda: publisher.idle)
    assert containerd.pids == [1]
    assert victim.read_bytes() == b"precious"


def test_no_address_is_no_containerd(runner: Runner, bundle: Path) -> None:
    publisher = Publisher(runner.loop, "", "moby")
    start(publisher, bundle, 1)
    told: list[int] = []
    publisher.when_idle(lambda: told.append(1))
    assert publisher.idle
    assert told == [1]
    assert not (bundle / "events").exists()
    assert replay(str(bundle), "", "moby") == 0
    publisher.close()


def test_the_spool_does_not_grow_with_what_was_taken(
    runner: Runner, containerd: Containerd, publisher: Publisher, bundle: Path
) -> None:
    containerd.start()
    for pid in range(50):
        start(publisher, bundle, pid)
        runner.until(lambda: publisher.idle)
    assert (bundle / "events").stat().st_size == 0


def test_waiting_for_containerd_costs_next_to_nothing(
    runner: Runner, publisher: Publisher, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []
    connect = events._Link.__init__

    def counting(link: events._Link, *arguments: object) -> None:
        tries.append(time.monotonic())
        connect(link, *arguments)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(events._Link, "__init__", counting)
    start(publisher, bundle, 1)
    runner.run(1.0)
    assert 2 <= len(tries) <= 5
    assert publisher._delay > events._SOON


# -- after a kill --------------------------------------------------------------------------------------------

_SHIM = """
import sys
from ocirun_shim.events import Publisher
from ocirun_shim.loop import Loop
from ocirun_shim.messages.events_pb2 import TaskStart

loop = Loop()
publisher = Publisher(loop, sys.argv[1], "moby")
for pid in range(200):
    publisher.publish("/tasks/start", TaskStart(container_id="c", pid=pid), sys.argv[2])
print("published", flush=True)
loop.run()
"""


def _in_a_thread(runner: Runner, job: Callable[[], int]) -> int:
    """What ``job`` gives, which blocks, while the server is served."""
    import threading

    given: list[int] = []
    thread = threading.Thread(target=lambda: given.append(job()))
    thread.start()
    runner.until(lambda: not thread.is_alive())
    thread.join()
    return given[0]


@pytest.mark.parametrize("taken", [0, 1, 100])
def test_what_a_killed_shim_left_is_replayed_in_order(
    runner: Runner, containerd: Containerd, bundle: Path, taken: int
) -> None:
    containerd.script = [*[TAKE] * taken, SILENCE]
    containerd.start()
    with subprocess.Popen(
        [sys.executable, "-c", _SHIM, str(containerd.path), str(bundle)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
    ) as shim:
        assert shim.stdout
        assert shim.stdout.readline() == b"published\n"
        runner.until(lambda: not containerd.script)
        shim.send_signal(signal.SIGKILL)
    assert spooled(bundle) == 200 - taken
    count = _in_a_thread(runner, lambda: replay(str(bundle), str(containerd.path), "moby", patience=10))
    assert count == 200 - taken
    assert containerd.pids == list(range(200))
    assert replay(str(bundle), str(containerd.path), "moby") == 0


def test_replay_gives_up_in_time_and_keeps_what_is_left(
    runner: Runner, containerd: Containerd, publisher: Publisher, bundle: Path
) -> None:
    start(publisher, bundle, 1, 2)
    publisher.close()
    before = time.monotonic()
    assert replay(str(bundle), str(containerd.path), "moby", patience=0.3) == 0
    assert time.monotonic() - before < 10
    assert spooled(bundle) == 2


# -- the spool -----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    records=st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.binary(max_size=50)), max_size=15),
    cut=st.integers(0, 60),
)
def test_a_spool_cut_short_gives_the_records_before_the_cut(
    bundle: Path, records: list[tuple[bool, int, bytes]], cut: int
) -> None:
    spool, path = bundle / "events", str(bundle)
    spool.unlink(missing_ok=True)
    sizes = [0]
    model: list[dict[int, bytes]] = [{}]
    for is_event, number, payload in records:
        latest = dict(model[-1])
        if is_event:
            latest[number] = payload
            assert events_spool.append(path, number, payload)
        else:
            latest.pop(number, None)
            events_spool.mark(path, number)
        if spool.exists():
            sizes.append(spool.stat().st_size)
            model.append(latest)
    if not spool.exists():
        assert events_spool.unmarked(path) == []
        return
    size = max(0, sizes[-1] - cut)
    os.truncate(spool, size)
    whole = max(index for index, end in enumerate(sizes) if end <= size)
    assert events_spool.unmarked(path) == list(model[whole].items())


def test_damage_hides_what_follows_and_nothing_else(bundle: Path) -> None:
    path = str(bundle)
    for number in range(3):
        events_spool.append(path, number, b"payload")
    data = bytearray((bundle / "events").read_bytes())
    data[-1] ^= 1
    (bundle / "events").write_bytes(data)
    assert events_spool.unmarked(path) == [(0, b"payload"), (1, b"payload")]


_FULL = """
import os, subprocess, sys
from ocirun_shim import events_spool

bundle, = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", bundle], check=True)
assert events_spool.append(bundle, 1, b"x" * 3000)
assert not events_spool.append(bundle, 2, b"x" * 3000)
assert events_spool.append(bundle, 3, b"x" * 100)
print([number for number, _ in events_spool.unmarked(bundle)])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="a disk of one page needs root to mount it")
def test_half_a_record_on_a_full_disk_is_taken_back(bundle: Path) -> None:
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", _FULL, str(bundle)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "[1, 3]\n"), done.stderr
