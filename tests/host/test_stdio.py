"""The descriptors that a caller of the lifecycle gives a container as 0, 1 and 2."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

import pytest

from tests.host.inprocess import Made, making

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.host.bundles import Bundle


@pytest.fixture
def made(scratch: Path) -> Iterator[Made]:
    """Containers of this process."""
    yield from making(scratch / "state")


def _all_of(fd: int) -> str:
    with os.fdopen(fd, "rb") as stream:
        return stream.read().decode()


def _echo(bundle: Bundle) -> Bundle:
    return bundle.sh("read line; echo out $line; echo err $line >&2; ls /proc/self/fd | wc -l")


def test_three_pipes_become_the_streams(made: Made, bundle: Bundle) -> None:
    (read_in, write_in), (read_out, write_out), (read_err, write_err) = os.pipe(), os.pipe(), os.pipe()
    container = made.create(_echo(bundle), stdio=(read_in, write_out, write_err))
    for fd in (read_in, write_out, write_err):
        os.close(fd)
    made.start(container)
    os.write(write_in, b"hello\n")
    os.close(write_in)
    assert made.status(container) == 0
    assert _all_of(read_out).split("\n") == ["out hello", "4", ""]  # 0, 1, 2 and the one that ls reads with
    assert _all_of(read_err) == "err hello\n"


def test_one_descriptor_may_be_all_three(made: Made, bundle: Bundle, scratch: Path) -> None:
    path = scratch / "file"
    path.write_text("hello\n")
    fd = os.open(path, os.O_RDWR | os.O_APPEND)
    container = made.create(_echo(bundle), stdio=(fd, fd, fd))
    os.close(fd)
    made.start(container)
    assert made.status(container) == 0
    assert path.read_text() == "hello\nout hello\nerr hello\n4\n"


def test_places_that_the_helper_needs_itself_may_be_asked_for(made: Made, bundle: Bundle) -> None:
    """The descriptors are 4, 3 and 2: two stand where control socket and plan go, one where another goes."""
    read, write, null = (_high(fd) for fd in (*os.pipe(), os.open("/dev/null", os.O_RDONLY)))
    saved = {fd: _high(fd, keep=True) for fd in (2, 3, 4) if _is_open(fd)}
    try:
        os.dup2(null, 4)
        os.dup2(write, 3)
        os.dup2(write, 2)
        container = made.create(bundle.sh("echo out; echo err >&2; cat"), stdio=(4, 3, 2))
    finally:
        for fd in (2, 3, 4):
            os.close(fd)
            if fd in saved:
                os.dup2(saved[fd], fd)
                os.close(saved[fd])
    os.close(null)
    os.close(write)
    made.start(container)
    assert made.status(container) == 0
    assert _all_of(read) == "out\nerr\n"


def _high(fd: int, *, keep: bool = False) -> int:
    """A copy of ``fd`` far above what the test plays with; the original is closed unless ``keep``."""
    copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 50)
    if not keep:
        os.close(fd)
    return copy


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
