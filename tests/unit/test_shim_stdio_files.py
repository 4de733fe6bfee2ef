"""Log files, and paths that cannot be a stream."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

import pytest
from ocirun_shim.stdio import Stdio, Streams, open_stdio
from ocirun_shim.stdio_paths import INVALID_ARGUMENT, StdioError

from tests.unit.shim_streams import EXIT_AFTER_WRITING, Runner, pattern, python, spawn

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("descriptors")

# -- bad paths -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_a_missing_fifo_is_named_and_nothing_leaks(
    runner: Runner, fifos: dict[str, str], stream: str
) -> None:
    os.unlink(fifos[stream])
    with pytest.raises(StdioError, match=f"{stream}: No such file") as caught:
        open_stdio(runner.loop, Streams(*fifos.values()))
    assert caught.value.code == INVALID_ARGUMENT
    assert caught.value.hint


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("binary:///bin/logger?a=b", "scheme binary"),
        ("ttrpc+unix:///run/x?streaming_id=1", "scheme ttrpc"),
        ("file://host/path", "absolute"),
        ("relative/path", "absolute"),
        ("/with\0null", "null byte"),
        ("/dev/null", "not a FIFO"),
        ("/", "not a FIFO"),
    ],
)
def test_what_cannot_be_a_stream_is_refused(runner: Runner, uri: str, words: str) -> None:
    with pytest.raises(StdioError, match=words):
        open_stdio(runner.loop, Streams("", uri, ""))


def test_standard_input_from_a_file_is_refused(runner: Runner, tmp_path: Path) -> None:
    with pytest.raises(StdioError, match="standard input"):
        open_stdio(runner.loop, Streams(f"file://{tmp_path}/x"))


# -- files --------------------------------------------------------------------------------------------------


def _is_drained(stdio: Stdio) -> bool:
    return stdio.drained


def test_both_streams_go_to_one_file_that_grows(runner: Runner, tmp_path: Path) -> None:
    path = tmp_path / "new" / "directories" / "a log%"
    uri = f"file://{tmp_path}/new/directories/a%20log%?ignored=1"
    for _ in range(2):
        stdio = open_stdio(runner.loop, Streams("", uri, uri))
        with spawn(stdio, "sh", "-c", "echo out; echo err >&2"):
            runner.until(partial(_is_drained, stdio))
        assert stdio.descriptors() == {}
        stdio.close()
    assert sorted(path.read_text().split()) == ["err", "err", "out", "out"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_burst_into_a_file_arrives_whole(runner: Runner, tmp_path: Path) -> None:
    path = tmp_path / "log"
    stdio = open_stdio(runner.loop, Streams("", f"file://{path}", f"file://{tmp_path}/other"))
    code = "import os, struct\ndata = b''.join(struct.pack('<I', n) for n in range(1 << 21))\n"
    with python(stdio, code + "while data: data = data[os.write(1, data):]"):
        runner.until(lambda: stdio.drained)
    stdio.close()
    assert path.read_bytes() == pattern(8 << 20)


def test_a_terminal_can_go_to_a_file(runner: Runner, tmp_path: Path) -> None:
    path = tmp_path / "log"
    stdio = open_stdio(runner.loop, Streams("", f"file://{path}", terminal=True))
    master, slave = os.openpty()
    stdio.attach_terminal(master)
    os.write(slave, b"line\n")
    os.close(slave)
    runner.until(lambda: stdio.drained)
    stdio.close()
    assert path.read_bytes() == b"line\r\n"


def test_a_device_that_is_full_never_stops_the_container(runner: Runner) -> None:
    stdio = open_stdio(runner.loop, Streams("", "file:///dev/full", "file:///dev/full"))
    with python(stdio, EXIT_AFTER_WRITING, str(1 << 20)) as process:
        runner.until(lambda: stdio.drained)
        assert process.wait() == 0
    stdio.close()
    assert stdio.lost == 1 << 20


def test_a_fifo_that_nobody_reads_is_refused_as_a_file(runner: Runner, fifos: dict[str, str]) -> None:
    with pytest.raises(StdioError, match="nobody reads"):
        open_stdio(runner.loop, Streams("", "file://" + fifos["stdout"], ""))


_DISK = """
import os, subprocess, sys
from ocirun_shim.loop import Loop
from ocirun_shim.stdio import Streams, open_stdio

def run(loop, seconds):
    loop.call_at(loop.now() + seconds, loop.stop)
    loop.run()

mount, = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "none", mount], check=True)
ballast = os.path.join(mount, "ballast")
with open(ballast, "wb") as file:
    file.write(b"b" * 4096)
loop = Loop()
uri = f"file://{mount}/log"
stdio = open_stdio(loop, Streams("", uri, uri))
out = stdio.child[1]
os.write(out, b"before\\n")
run(loop, 0.05)
os.write(out, b"x" * 10000)
run(loop, 0.05)
os.write(out, b"y" * 5000)
run(loop, 0.05)
assert stdio.lost == 7 + 10000 + 5000 - 4096, stdio.lost
os.unlink(ballast)
subprocess.run(["mount", "-o", "remount,size=64k", mount], check=True)
os.write(out, b"after\\n")
run(loop, 0.05)
stdio.close()
with open(os.path.join(mount, "log"), "rb") as file:
    data = file.read()
assert data[:4096] == b"before\\n" + b"x" * 4089, data[:100]
sys.stdout.write(data[4096:].decode())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="a disk of two pages needs root to mount it")
def test_what_a_full_disk_lost_is_told_once_there_is_room(tmp_path: Path) -> None:
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", _DISK, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "\nocirun: 10911 bytes of output were lost: No space left on device\nafter\n"
