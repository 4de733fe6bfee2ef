"""Output and standard input of a process in the shim, against real pipes and FIFOs, on the real loop."""

from __future__ import annotations

import itertools
import os
import select
import signal
import stat
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ocirun_shim.copying import CHUNK
from ocirun_shim.stdio import Streams, open_stdio

from tests.unit.shim_streams import EXIT_AFTER_WRITING, PIPE, Reader, Runner, pattern, python, spawn

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("descriptors")

# -- output --------------------------------------------------------------------------------------------------


def test_both_streams_arrive_apart_and_end(runner: Runner, fifos: dict[str, str], tmp_path: Path) -> None:
    out, err = Reader(tmp_path / "stdout"), Reader(tmp_path / "stderr")
    stdio = open_stdio(runner.loop, Streams("", fifos["stdout"], fifos["stderr"]))
    with spawn(stdio, "sh", "-c", "echo out; echo err >&2; cat"):
        runner.until(lambda: stdio.drained)
        assert (out.all(), err.all()) == (b"out\n", b"err\n")
    stdio.close()
    assert stdio.lost == 0


def test_eight_mebibytes_and_an_exit_arrive_whole(
    runner: Runner, fifos: dict[str, str], tmp_path: Path
) -> None:
    size = 8 << 20
    out = Reader(tmp_path / "stdout")
    stdio = open_stdio(runner.loop, Streams("", fifos["stdout"], ""))
    code = "import os, struct, sys\ndata = b''.join(struct.pack('<I', n) for n in range(1 << 21))\n"
    with python(stdio, code + "while data: data = data[os.write(1, data):]"):
        runner.until(lambda: stdio.drained)
    assert out.all() == pattern(size)
    stdio.close()
    assert stdio.lost == 0


def test_a_client_that_never_reads_blocks_the_container_and_nobody_else(
    runner: Runner, fifos: dict[str, str], wakeups: list[int], tmp_path: Path
) -> None:
    stdio = open_stdio(runner.loop, Streams("", fifos["stdout"], ""))
    size = 1 << 20
    with python(stdio, EXIT_AFTER_WRITING, str(size)) as process:
        # Python holds one chunk besides; what is in the pipe and in the FIFO fills both.
        runner.until_blocked(stdio)
        assert process.poll() is None
        wakeups.clear()
        runner.run(0.5)
        assert wakeups == [], "it spins while everything is full"
        assert not stdio.drained
        out = Reader(tmp_path / "stdout")
        runner.until(lambda: stdio.drained)
        assert out.all() == b"x" * size
    stdio.close()


def test_many_short_lines_fill_a_fifo_no_sooner_than_its_bytes(
    runner: Runner, fifos: dict[str, str], tmp_path: Path
) -> None:
    """A spliced buffer takes a whole slot of a pipe: sixteen lines would block the container."""
    stdio = open_stdio(runner.loop, Streams("", fifos["stdout"], ""))
    assert stdio.child is not None
    pipe = stdio.child[1]
    os.set_blocking(pipe, False)
    line = b"thirty-two characters, as logs\r\n"
    lines = 0
    while lines < 2 * PIPE // len(line) and select.select((), (pipe,), (), 0)[1]:
        lines += os.write(pipe, line) // len(line)
        runner.run(0.0)
    assert lines * len(line) > 2 * PIPE - 8192  # a page that has begun does not count as room
    out = Reader(tmp_path / "stdout")
    stdio.started()
    runner.until(lambda: stdio.drained)
    assert out.all() == line * lines
    stdio.close()


def test_output_of_a_process_that_ended_waits_for_its_reader(
    runner: Runner, fifos: dict[str, str], wakeups: list[int], tmp_path: Path
) -> None:
    """Nobody reads while containerd restarts; the FIFO ends once somebody has come."""
    stdio = open_stdio(runner.loop, Streams("", fifos["stdout"], ""))
    with spawn(stdio, "echo", "last words"):
        runner.until(lambda: stdio.drained)
    wakeups.clear()
    runner.run(0.3)
    assert wakeups == []
    assert list(stdio.descriptors()) == ["stdout fifo"]
    out = Reader(tmp_path / "stdout")
    runner.until(lambda: not stdio.descriptors())
    assert out.all() == b"last words\n"
    stdio.close()


def test_a_full_fifo_of_an_ended_process_does_not_spin(
    runner: Runner, fifos: dict[str, str], wakeups: list[int], tmp_path: Path
) -> None:
    """EPOLLHUP of the pipe is there all the time, and cannot be masked."""
    stdio = open_stdio(runner.loop, Streams("", fifos["stdout"], ""))
    with python(stdio, EXIT_AFTER_WRITING, str(2 * PIPE)) as process:
        runner.until(lambda: process.poll() is not None)
    runner.run(0.05)
    wakeups.clear()
    runner.run(0.3)
    assert wakeups == []
    assert stdio.drained == (list(stdio.descriptors()) == ["stdout fifo"])
    out = Reader(tmp_path / "stdout")
    runner.until(lambda: not stdio.descriptors())
    assert out.all() == b"x" * (2 * PIPE)
    stdio.close()


def test_the_end_comes_through_a_full_fifo(runner: Runner, fifos: dict[str, str], wakeups: list[int]) -> None:
    """Everything was passed on: that nobody read it yet is no reason to wait with Delete."""
    stdio = open_stdio(runner.loop, Streams("", fifos["stdout"], ""))
    with python(stdio, EXIT_AFTER_WRITING, str(PIPE)):
        runner.until(lambda: stdio.drained)
    stdio.close()


def test_a_reader_that_goes_and_comes_back_misses_nothing(
    runner: Runner, fifos: dict[str, str], tmp_path: Path
) -> None:
    stdio = open_stdio(runner.loop, Streams("", fifos["stdout"], ""))
    code = "import time\nfor n in range(200): print(n, flush=True); time.sleep(0.002)"
    seen = b""
    with python(stdio, code):
        while stdio.descriptors():
            fd = os.open(fifos["stdout"], os.O_RDONLY | os.O_NONBLOCK)
            runner.run(0.03)
            seen += _available(fd)
            os.close(fd)
            runner.run(0.03)
    assert seen == b"".join(b"%d\n" % number for number in range(200))
    stdio.close()


def _available(fd: int) -> bytes:
    data = b""
    try:
        while chunk := os.read(fd, 1 << 20):
            data += chunk
    except BlockingIOError:
        pass
    return data


def test_a_grandchild_keeps_the_streams_open(runner: Runner, fifos: dict[str, str], tmp_path: Path) -> None:
    out = Reader(tmp_path / "stdout")
    stdio = open_stdio(runner.loop, Streams("", fifos["stdout"], ""))
    with spawn(stdio, "sh", "-c", "sleep 30 & echo $!") as process:
        runner.until(lambda: process.poll() is not None)
    runner.until(lambda: out.data)
    told: list[bool] = []
    stdio.when_drained(lambda: told.append(stdio.drained))
    runner.run(0.1)
    assert not stdio.drained
    assert told == []
    stdio.close()
    assert told == [True]
    os.kill(int(out.all()), signal.SIGKILL)


def test_close_passes_on_what_is_there_and_counts_what_is_not(runner: Runner, fifos: dict[str, str]) -> None:
    fd = os.open(fifos["stdout"], os.O_RDONLY | os.O_NONBLOCK)
    stdio = open_stdio(runner.loop, Streams("", fifos["stdout"], ""))
    assert stdio.child is not None
    writer = os.dup(stdio.child[1])
    os.set_blocking(writer, False)
    written = os.write(writer, b"y" * PIPE)
    stdio.close()
    assert _available(fd) == b"y" * written
    assert stdio.lost == 0
    with pytest.raises(BrokenPipeError):
        os.write(writer, b"z")
    os.close(writer)
    os.close(fd)


def test_what_a_full_fifo_cannot_take_is_counted_at_close(runner: Runner, fifos: dict[str, str]) -> None:
    stdio = open_stdio(runner.loop, Streams("", fifos["stdout"], ""))
    with python(stdio, EXIT_AFTER_WRITING, str(2 * PIPE - 1)) as process:
        runner.until(lambda: process.poll() is not None)
        fd = os.open(fifos["stdout"], os.O_RDONLY | os.O_NONBLOCK)
        stdio.close()
    arrived = len(_available(fd))
    assert arrived + stdio.lost == 2 * PIPE - 1
    assert stdio.lost > 0
    os.close(fd)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.one_of(st.integers(1, 300), st.integers(1, 3 * CHUNK), st.just(PIPE)), max_size=20),
    reads=st.integers(4000, 80000),
)
def test_any_chunking_arrives_equal(runner: Runner, tmp_path: Path, sizes: list[int], reads: int) -> None:
    chunks = _chunks(pattern(sum(sizes)), sizes)
    path = str(tmp_path / f"fifo-{time.monotonic_ns()}")
    os.mkfifo(path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    stdio = open_stdio(runner.loop, Streams("", path, ""))
    assert stdio.child is not None
    pipe = os.dup(stdio.child[1])
    os.set_blocking(pipe, False)
    stdio.started()
    seen = b""
    for chunk in chunks:
        rest = chunk
        while rest:
            try:
                rest = rest[os.write(pipe, rest) :]
            except BlockingIOError:
                runner.run(0.0)
                seen += _some(fd, reads)
    os.close(pipe)
    while stdio.descriptors():
        runner.run(0.0)
        seen += _some(fd, reads)
    assert seen + _available(fd) == b"".join(chunks)
    os.close(fd)
    stdio.close()


def _chunks(data: bytes, sizes: list[int]) -> list[bytes]:
    ends = list(itertools.accumulate(sizes))
    return [data[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def _some(fd: int, size: int) -> bytes:
    try:
        return os.read(fd, size)
    except BlockingIOError:
        return b""


def test_one_chatty_container_leaves_time_for_another(
    runner: Runner, fifos: dict[str, str], tmp_path: Path
) -> None:
    out, quiet = Reader(tmp_path / "stdout"), Reader(tmp_path / "stderr")
    chatty = open_stdio(runner.loop, Streams("", fifos["stdout"], ""))
    other = open_stdio(runner.loop, Streams("", fifos["stderr"], ""))
    with spawn(chatty, "sh", "-c", "exec cat /dev/zero") as flood:
        runner.until(lambda: len(out.data) > 1 << 20)
        with spawn(other, "echo", "me too"):
            runner.until(lambda: other.drained)
        flood.kill()
    assert quiet.all() == b"me too\n"
    runner.until(lambda: chatty.drained)
    assert set(out.all()) == {0}
    chatty.close()
    other.close()


# -- input ---------------------------------------------------------------------------------------------------


def test_everything_written_before_close_io_is_delivered(
    runner: Runner, fifos: dict[str, str], tmp_path: Path
) -> None:
    size = 3 << 20
    out = Reader(tmp_path / "stdout")
    stdio = open_stdio(runner.loop, Streams(fifos["stdin"], fifos["stdout"], ""))

    def write() -> None:
        with open(fifos["stdin"], "wb") as fifo:
            fifo.write(pattern(size))

    writer = threading.Thread(target=write)
    writer.start()
    with spawn(stdio, "cat"):
        runner.until(lambda: not writer.is_alive())
        stdio.close_stdin()
        runner.until(lambda: stdio.drained)
    assert out.all() == pattern(size)
    writer.join()
    stdio.close()


def test_a_client_that_detaches_and_comes_back_is_no_end_of_file(
    runner: Runner, fifos: dict[str, str], tmp_path: Path, wakeups: list[int]
) -> None:
    out = Reader(tmp_path / "stdout")
    stdio = open_stdio(runner.loop, Streams(fifos["stdin"], fifos["stdout"], ""))
    with spawn(stdio, "cat") as process:
        for word in (b"one ", b"two ", b"three"):
            fd = os.open(fifos["stdin"], os.O_WRONLY | os.O_NONBLOCK)
            os.write(fd, word)
            os.close(fd)
            runner.until(partial(out.data.endswith, word))
            wakeups.clear()
            runner.run(0.1)
            assert wakeups == []
            assert process.poll() is None
        stdio.close_stdin()
        runner.until(lambda: process.poll() == 0)
        runner.until(lambda: stdio.drained)
    assert out.all() == b"one two three"
    stdio.close()


def test_close_io_waits_for_the_clients_end(runner: Runner, fifos: dict[str, str], tmp_path: Path) -> None:
    out = Reader(tmp_path / "stdout")
    stdio = open_stdio(runner.loop, Streams(fifos["stdin"], fifos["stdout"], ""))
    fd = os.open(fifos["stdin"], os.O_WRONLY | os.O_NONBLOCK)
    with spawn(stdio, "cat") as process:
        stdio.close_stdin()
        runner.run(0.1)
        os.write(fd, b"still here")
        runner.until(lambda: out.data)
        assert process.poll() is None
        os.close(fd)
        runner.until(lambda: process.poll() == 0)
        runner.until(lambda: stdio.drained)
    assert out.all() == b"still here"
    stdio.close()


def test_a_container_that_reads_no_input_stops_the_client_only(
    runner: Runner, fifos: dict[str, str], wakeups: list[int]
) -> None:
    stdio = open_stdio(runner.loop, Streams(fifos["stdin"], fifos["stdout"], ""))
    fd = os.open(fifos["stdin"], os.O_WRONLY | os.O_NONBLOCK)
    with spawn(stdio, "sleep", "60") as process:
        written = 0
        for _ in range(20):
            runner.run(0.01)
            try:
                written += os.write(fd, b"z" * PIPE)
            except BlockingIOError:
                break
        assert written >= 2 * PIPE
        wakeups.clear()
        runner.run(0.2)
        assert wakeups == []
        process.kill()
        process.wait()
        # Its end of the pipe is closed: the client is told, as the writer of a shell's pipe is.
        runner.until(lambda: "stdin fifo" not in stdio.descriptors())
        with pytest.raises(BrokenPipeError):
            os.write(fd, b"z")
    os.close(fd)
    stdio.close()


def test_no_paths_are_dev_null(runner: Runner) -> None:
    stdio = open_stdio(runner.loop, Streams())
    assert stdio.child is not None
    assert [os.readlink(f"/proc/self/fd/{fd}") for fd in stdio.child] == ["/dev/null"] * 3
    told: list[int] = []
    stdio.when_drained(lambda: told.append(1))
    assert stdio.drained
    assert told == [1]
    with spawn(stdio, "sh", "-c", 'echo x; echo y >&2; test -z "$(cat)"') as process:
        assert process.wait() == 0
    stdio.resize(80, 24)
    stdio.close_stdin()
    stdio.close()
    stdio.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="giving away a pipe needs root")
def test_the_pipes_belong_to_whom_the_options_say(runner: Runner, fifos: dict[str, str]) -> None:
    stdio = open_stdio(runner.loop, Streams(*fifos.values()), uid=1234, gid=4321)
    assert stdio.child is not None
    for fd in stdio.child:
        found = os.fstat(fd)
        assert (found.st_uid, found.st_gid) == (1234, 4321)
        assert stat.S_ISFIFO(found.st_mode)
        assert os.get_blocking(fd)
    stdio.close()
