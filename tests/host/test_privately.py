"""A moment in a mount namespace of our own leaves this process where it was, also one in a chroot(2)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ocirun

#: Modules come first: in the new root there are none.
_PROGRAM = """
import ctypes, os, sys
sys.path.insert(0, sys.argv[2])
from ocirun.lifecycle.privately import bind, in_own_mounts
ctypes.CDLL(None)
os.chroot(sys.argv[1])
os.chdir("/work")
print(in_own_mounts(lambda: bind("/tree", "/place") or os.listdir("/place")))
print(sorted(os.listdir("/")), os.getcwd(), os.listdir("/place"))
"""


def test_the_root_and_the_working_directory_stay(scratch: Path) -> None:
    root = scratch / "root"
    for name in ("proc", "work", "place", "tree/inside"):
        (root / name).mkdir(parents=True)
    mount = 'mount --bind "$1" "$1" && mount --rbind /proc "$1/proc" && exec "$2" -c "$3" "$1" "$4"'
    arguments = (root, sys.executable, _PROGRAM, Path(ocirun.__file__).parents[1])
    command = ["unshare", "--mount", "sh", "-c", mount, "sh", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['inside']", "['place', 'proc', 'tree', 'work'] /work []"]


#: Whoever has no capabilities in the namespace that it came from cannot go back (setns(2)).
_NO_WAY_BACK = """
import os, sys
sys.path.insert(0, sys.argv[1])
from ocirun.lifecycle.privately import in_own_mounts
try:
    in_own_mounts(lambda: os.setresuid(65534, 65534, 65534))
finally:
    print("it goes on", flush=True)
"""


def test_who_cannot_go_back_ends() -> None:
    command = [sys.executable, "-c", _NO_WAY_BACK, str(Path(ocirun.__file__).parents[1])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "go back into the mount namespace: operation not permitted" in done.stderr
