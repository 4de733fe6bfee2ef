"""Checkpoints as people take them of the containers of containerd, with ctr, by our shim and by runc's."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from conformance.image import IMAGE, write_image
from tests.host import observe

if TYPE_CHECKING:
    from collections.abc import Iterator

#: criu waits for the kernel, which is slow in an emulated machine.
SECONDS = 120.0
SHIMS = ("io.containerd.ocirun.v2", "io.containerd.runc.v2")
COUNTING = "exec </dev/null >/count 2>&1; n=0; while true; do n=$((n+1)); echo $n; sleep 0.02; done"


def _ctr(*words: str) -> str:
    done = subprocess.run(
        ("ctr", *words),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, f"ctr {' '.join(words)}: {done.returncode}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """containerd runs and has the image."""
    scratch = tmp_path_factory.mktemp("containerd")
    config, log = scratch / "config.toml", scratch / "log"
    config.write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    write_image(scratch / "image.tar")
    with log.open("wb") as output:
        words = ("containerd", "--config", str(config))
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        observe.eventually(_answers, "containerd answers", SECONDS)
        _ctr("images", "import", str(scratch / "image.tar"))
        yield
    finally:
        process.terminate()
        process.wait(SECONDS)


def _answers() -> bool:
    return subprocess.run(("ctr", "version"), capture_output=True, check=False).returncode == 0


def _task(name: str) -> tuple[int, str]:
    """The pid and the status of a task."""
    rows = [line.split() for line in _ctr("task", "ls").splitlines()]
    ((_, pid, status),) = [row for row in rows if row[0] == name]
    return int(pid), status


def _numbers(pid: int) -> list[int]:
    """What a container of COUNTING has written."""
    text = observe.inside(pid, "/count").read_text()
    return [int(word) for word in text.rpartition("\n")[0].split()]


def _counts_on(pid: int, stood: int) -> None:
    observe.eventually(lambda: len(_numbers(pid)) > stood + 3, "it counts on", SECONDS)
    numbers = _numbers(pid)
    assert numbers == [*range(1, len(numbers) + 1)]


@pytest.mark.parametrize("shim", SHIMS)
def test_a_container_is_checkpointed_and_restored(shim: str) -> None:
    name, again = f"one-{shim.split('.')[2]}", f"two-{shim.split('.')[2]}"
    image = f"example.com/{name}:taken"
    _ctr("run", "--detach", f"--runtime={shim}", IMAGE, name, "sh", "-c", COUNTING)
    pid, _ = _task(name)
    observe.eventually(lambda: observe.inside(pid, "/count").exists(), "it has begun", SECONDS)
    _counts_on(pid, 0)
    _ctr("containers", "checkpoint", "--image", "--task", "--rw", name, image)
    pid, status = _task(name)
    assert status == "RUNNING"
    stood = len(_numbers(pid))
    _counts_on(pid, stood)
    _ctr("task", "rm", "--force", name)
    _ctr("containers", "rm", name)
    _ctr("containers", "restore", "--live", "--rw", again, image)
    pid, status = _task(again)
    assert status == "RUNNING"
    _counts_on(pid, len(_numbers(pid)))
    _ctr("task", "rm", "--force", again)
    _ctr("containers", "rm", again)
    observe.eventually(lambda: not observe.alive(pid), "the program is gone")
