"""The child that becomes criu makes its mounts where nobody else sees them, also in a chroot(2), and says why
it could not."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import ocirun
from ocirun.criu import becoming
from ocirun.criu.service import Service
from ocirun.errors import HostError
from ocirun.waiting import drive
from tests.host import observe

#: A stand-in for criu that says what it sees, and whether it leads a group of its own, when it is hung up on.
_SEES = """#!/bin/sh
read -r nothing <&3
ls /place
pwd
[ "$(cut -d' ' -f5 /proc/$$/stat)" = $$ ] && echo leads
"""
#: Modules come first: in the new root there are none.
_PROGRAM = """
import ctypes, os, sys
sys.path.insert(0, sys.argv[2])
from ocirun.criu import becoming
from ocirun.criu.service import Service
from ocirun.waiting import drive
from tests.host import observe
ctypes.CDLL(None)
os.chroot(sys.argv[1])
os.chdir("/work")

def prepare():
    becoming.leave_mounts()
    becoming.bind("/tree", "/place")
    return os.listdir("/place"), [os.open("/place", os.O_RDONLY)]

criu = Service("/criu", (0, 1, 2), prepare=prepare)
found, (fd,) = drive(criu.begun())
print(found, os.listdir(fd), os.get_inheritable(fd))
print(sorted(os.listdir("/")), os.getcwd(), os.listdir("/place"), flush=True)
drive(criu.end())
"""


def test_its_mounts_are_its_own(scratch: Path, busybox: Path) -> None:
    root = scratch / "root"
    for name in ("proc", "work", "place", "tree/inside", "bin"):
        (root / name).mkdir(parents=True)
    for name in ("sh", "ls", "cut"):
        os.link(busybox, root / "bin" / name)
    (root / "criu").write_text(_SEES)
    (root / "criu").chmod(0o755)
    mount = 'mount --bind "$1" "$1" && mount --rbind /proc "$1/proc" && exec "$2" -c "$3" "$1" "$4"'
    arguments = (root, sys.executable, _PROGRAM, Path(ocirun.__file__).parents[1])
    command = ["unshare", "--mount", "sh", "-c", mount, "sh", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "['inside'] ['inside'] False",
        "['bin', 'criu', 'place', 'proc', 'tree', 'work'] /work []",
        "inside",
        "/work",
        "leads",
    ]


def _refused(child: Service) -> HostError:
    with pytest.raises(HostError) as caught:
        drive(child.begun())
    drive(child.end())
    return caught.value


def test_what_cannot_be_executed_is_told(tmp_path: Path) -> None:
    missing = tmp_path / "criu"
    error = _refused(Service(str(missing), (0, 1, 2)))
    assert error.message == f"execute {missing}: no such file or directory (ENOENT)"
    assert (error.errno, error.path, error.code) == (2, str(missing), "host-lacks")


def test_a_place_that_is_not_there_is_told(tmp_path: Path) -> None:
    def prepare() -> tuple[object, list[int]]:
        becoming.leave_mounts()
        becoming.bind(str(tmp_path), str(tmp_path / "nowhere"))
        return None, []

    before = Path("/proc/self/mountinfo").read_text()
    error = _refused(Service("/bin/true", (0, 1, 2), prepare=prepare))
    assert error.message == f"mount {tmp_path} on {tmp_path}/nowhere: no such file or directory (ENOENT)"
    assert (error.errno, error.code) == (2, "criu")
    assert Path("/proc/self/mountinfo").read_text() == before


def test_any_error_of_the_system_is_told(tmp_path: Path) -> None:
    error = _refused(Service("/bin/true", (0, 1, 2), prepare=lambda: (os.listdir(tmp_path / "no"), ())))
    assert error.message == f"start criu: {tmp_path}/no: no such file or directory (ENOENT)"


def test_one_that_is_killed_is_told() -> None:
    error = _refused(Service("/bin/true", (0, 1, 2), prepare=lambda: (os._exit(1), ())))
    assert error.message == "what was to become criu was killed"


def test_a_bug_of_ours_is_told_as_one() -> None:
    error = _refused(Service("/bin/true", (0, 1, 2), prepare=lambda: (int("many"), ())))
    assert error.code == "internal"
    assert "ValueError" in error.message


def test_one_that_is_killed_while_it_tells() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b'{"prepared": [')
        theirs.close()
        with pytest.raises(HostError, match="was killed"):
            drive(becoming.hear(ours))


def test_a_descriptor_that_there_was_no_room_for() -> None:
    """The kernel drops it without a word (unix(7)); those that came are closed again."""
    before = observe.descriptors(os.getpid())
    ours, theirs = socket.socketpair()
    with ours, theirs:
        socket.send_fds(theirs, [b'{"prepared": null, "descriptors": 2}\n'], [0])
        theirs.close()
        with pytest.raises(HostError, match="RLIMIT_NOFILE"):
            drive(becoming.hear(ours))
    assert observe.descriptors(os.getpid()).items() <= before.items()


def test_one_that_is_abandoned_is_killed() -> None:
    before = observe.descriptors(os.getpid())
    criu = Service("/bin/true", (0, 1, 2), prepare=lambda: (signal.sigtimedwait([], 1000), ()))
    criu.abandon()
    assert observe.descriptors(os.getpid()).items() <= before.items()
    observe.eventually(lambda: not observe.alive(criu.pid), "it has ended")
    with contextlib.suppress(ChildProcessError):  # it was reaped at once
        os.waitpid(criu.pid, 0)
