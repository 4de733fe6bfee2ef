"""Terminals of the shim, against the kernel's."""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import subprocess
import sys
import termios
import threading
import tty
from typing import TYPE_CHECKING

import pytest
from ocirun_shim.stdio import Stdio, Streams, open_stdio

from tests.unit.shim_streams import Reader, Runner, pattern

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("descriptors")

# -- terminals -----------------------------------------------------------------------------------------------


class Terminal:
    """A process on a terminal, the master of which the shim has."""

    def __init__(self, stdio: Stdio, *argv: str, raw: bool = False) -> None:
        master, slave = os.openpty()
        if raw:
            tty.setraw(slave)
        self.process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        stdio.attach_terminal(master)


def test_a_terminal_echoes_and_ends(runner: Runner, fifos: dict[str, str], tmp_path: Path) -> None:
    out = Reader(tmp_path / "stdout")
    stdio = open_stdio(runner.loop, Streams(fifos["stdin"], fifos["stdout"], "", terminal=True))
    assert stdio.child is None
    assert not stdio.drained
    fd = os.open(fifos["stdin"], os.O_WRONLY | os.O_NONBLOCK)
    process = Terminal(stdio, "cat").process
    os.write(fd, b"hello\n")
    runner.until(lambda: out.data == b"hello\r\nhello\r\n")
    os.close(fd)
    stdio.close_stdin()
    runner.until(lambda: "stdin fifo" not in stdio.descriptors())
    assert process.poll() is None
    assert "master" in stdio.descriptors()
    process.kill()
    process.wait()
    runner.until(lambda: stdio.drained)
    assert out.all() == b"hello\r\nhello\r\n"
    stdio.close()


def test_all_output_before_the_terminal_hangs_up_arrives(
    runner: Runner, fifos: dict[str, str], tmp_path: Path
) -> None:
    out = Reader(tmp_path / "stdout")
    stdio = open_stdio(runner.loop, Streams("", fifos["stdout"], "", terminal=True))
    process = Terminal(stdio, "seq", "1", "100000", raw=True).process
    runner.until(lambda: stdio.drained)
    assert process.wait() == 0
    assert out.all().split() == [b"%d" % number for number in range(1, 100001)]
    stdio.close()


def test_a_terminal_nobody_reads_blocks_its_process_without_spinning(
    runner: Runner, fifos: dict[str, str], tmp_path: Path, wakeups: list[int]
) -> None:
    stdio = open_stdio(runner.loop, Streams(fifos["stdin"], fifos["stdout"], "", terminal=True))
    process = Terminal(stdio, "seq", "1", "100000", raw=True).process
    runner.until_blocked(stdio)
    wakeups.clear()
    runner.run(0.3)
    assert wakeups == []
    assert process.poll() is None
    out = Reader(tmp_path / "stdout")
    runner.until(lambda: stdio.drained)
    assert len(out.all().split()) == 100000
    process.wait()
    stdio.close()


def test_input_for_a_terminal_comes_whole_through_a_slow_reader(
    runner: Runner, fifos: dict[str, str], tmp_path: Path, wakeups: list[int]
) -> None:
    size = 300_000
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)
    out = Reader(tmp_path / "stdout")
    stdio = open_stdio(runner.loop, Streams(fifos["stdin"], fifos["stdout"], "", terminal=True))
    code = (
        "import hashlib, os, sys\nopen(sys.argv[1]).close()\nh, n = hashlib.sha256(), 0\n"
        f"while n < {size}:\n d = os.read(0, 4096); n += len(d); h.update(d)\nprint(h.hexdigest())"
    )
    process = Terminal(stdio, sys.executable, "-I", "-S", "-c", code, gate, raw=True).process

    def write() -> None:
        with open(fifos["stdin"], "wb") as fifo:
            fifo.write(pattern(size))

    writer = threading.Thread(target=write)
    writer.start()
    runner.until_blocked(stdio)
    runner.until(lambda: _is_quiet(runner, wakeups))  # the kernel moves a little on, in a thread of its own
    os.close(os.open(gate, os.O_WRONLY))  # now it reads
    runner.until(lambda: stdio.drained)
    assert out.all().split() == [hashlib.sha256(pattern(size)).hexdigest().encode()]
    process.wait()
    writer.join()
    stdio.close()


def _is_quiet(runner: Runner, wakeups: list[int]) -> bool:
    wakeups.clear()
    runner.run(0.1)
    return wakeups == []


def test_the_size_of_a_terminal_is_set_even_before_there_is_one(
    runner: Runner, fifos: dict[str, str]
) -> None:
    stdio = open_stdio(runner.loop, Streams("", fifos["stdout"], "", terminal=True))
    stdio.resize(101, 41)
    master, slave = os.openpty()
    stdio.attach_terminal(master)
    assert _size(slave) == (101, 41)
    stdio.resize(70000, 30)
    assert _size(slave) == (65535, 30)
    os.close(slave)
    runner.until(lambda: stdio.drained)
    stdio.resize(10, 10)
    stdio.close()


def _size(fd: int) -> tuple[int, int]:
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8))
    return columns, rows


def test_a_terminal_without_a_client_is_read_all_the_same(runner: Runner) -> None:
    stdio = open_stdio(runner.loop, Streams(terminal=True))
    process = Terminal(stdio, "seq", "1", "100000").process
    runner.until(lambda: stdio.drained)
    assert process.wait() == 0
    stdio.close()
    assert stdio.lost == 0
