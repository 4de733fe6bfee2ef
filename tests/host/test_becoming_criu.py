"""The child that becomes criu makes its mounts where nobody else sees them, also in a chroot(2), and says why
it could not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ocirun
from ocirun.criu import becoming
from ocirun.criu.service import Service
from ocirun.errors import HostError
from ocirun.waiting import drive

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
    assert error.message == f"prepare the restore: {tmp_path}/no: no such file or directory (ENOENT)"


def test_one_that_is_killed_is_told() -> None:
    error = _refused(Service("/bin/true", (0, 1, 2), prepare=lambda: (os._exit(1), ())))
    assert error.message == "what was to become criu was killed"
