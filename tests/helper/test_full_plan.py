"""A plan like that of runc's default config, run by every build of the helper and looked at from inside."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ocirun.executor import wire
from tests.helper import plans
from tests.helper.conftest import BUILDS
from tests.helper.driver import pending, start

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.helper.driver import Run
    from tests.helper.plans import Place

pytestmark = pytest.mark.root

LOOK = r"""
echo "id $(id -u) $(id -g) $(id -G)"
echo "host $(busybox hostname)"
echo "home $HOME"
echo "cwd $PWD"
echo "umask $(umask)"
echo "open $(ulimit -S -n) $(ulimit -H -n)"
echo "cgroup $(busybox grep ^0: /proc/self/cgroup)"
echo "pid $$"
cd /proc/$$/fd; echo "fds" *; cd - > /dev/null
echo "lines $(busybox wc -l < /etc/made/passwd)"
echo "devices $(ls -ln /dev/null /dev/zero /dev/tty | busybox awk '{printf "%s %s%s;", $1, $5, $6}')"
echo "links $(busybox readlink /dev/fd) $(busybox readlink /dev/ptmx)"
echo "masked $(busybox wc -c < /proc/interrupts) $(busybox wc -c < /proc/keys) $(ls /proc/acpi)"
echo "sysctl $(echo x 2>&1 > /proc/sys/kernel/hostname)"
echo "lo $(busybox ip -o link show lo | busybox grep -c UP)"
busybox sed 's/\t/ /' /proc/self/status
busybox sed 's/^/mount /' /proc/self/mountinfo
"""


def _look(run: Run, place: Place, pipe: int) -> dict[str, str]:
    """What the container says of itself, by the first word of each line; mounts by their target."""
    run.until(wire.READY)
    assert Path(f"/proc/{run.pid}/comm").read_text() == "ocirun-init\n"
    assert run.control.recv(1) == b"", "the control socket is closed after READY"
    links = {
        os.readlink(f"/proc/{run.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{run.pid}/fd") if int(fd) > 2
    }
    assert links == {str(place.state / "gate"), str(place.state / "proof")}
    assert start(place.state) == b"R"
    seen: dict[str, str] = {}
    for line in pending(pipe).decode().splitlines():
        word, _, rest = line.partition(" ")
        if word == "mount":
            fields = rest.split()
            seen[f"mount {fields[4]}"] = f"{fields[5]} {fields[fields.index('-') + 1]}"
        else:
            seen[word] = rest.strip()
    assert run.wait() == 0
    assert run.wait_stage() == 0
    return seen


@pytest.fixture(params=BUILDS)
def seen(
    request: pytest.FixtureRequest, place: Place, builds: Callable[[str], Path], launch: Callable[..., Run]
) -> dict[str, str]:
    """What a container of the full plan sees."""
    reader, writer = os.pipe()
    null = os.open("/dev/null", os.O_RDONLY)
    run = launch(plans.full(place, LOOK), (null, writer, writer), builds(request.param))
    os.close(writer)
    os.close(null)
    try:
        return _look(run, place, reader)
    finally:
        os.close(reader)


def test_full_plan(seen: dict[str, str]) -> None:
    _check_identity(seen)
    _check_files(seen)
    _check_mounts(seen)


def _check_identity(seen: dict[str, str]) -> None:
    assert seen["id"] == "1000 1001 1001 5 6"
    assert (seen["host"], seen["home"], seen["cwd"]) == ("box", "/home/user", "/srv/here")
    assert seen["umask"] == "0027"
    assert seen["open"] == "512 1024"
    assert (seen["pid"], seen["cgroup"]) == ("1", "0::/")
    assert int(seen["CapBnd:"], 16) == 1 << 5 | 1 << 10 | 1 << 29
    assert int(seen["CapInh:"], 16) == 1 << 10
    # CAP_KILL is not inheritable, so it cannot be ambient: a warning, and the rest is raised
    assert int(seen["CapAmb:"], 16) == 1 << 10
    assert int(seen["CapEff:"], 16) == int(seen["CapPrm:"], 16) == 1 << 10
    assert seen["NoNewPrivs:"] == "1"
    assert int(seen["SigBlk:"], 16) == int(seen["SigIgn:"], 16) == 0


def _check_files(seen: dict[str, str]) -> None:
    assert set(seen["fds"].split()) - {"10"} == {"0", "1", "2", "3"}, "the shell opens 10, and the list is 3"
    assert seen["lines"] == "3"
    assert seen["devices"] == "crw-rw-rw- 1,3;crw-rw-rw- 5,0;crw-rw-rw- 1,5;"
    assert seen["links"] == "/proc/self/fd pts/ptmx"
    assert seen["masked"] == "0 0"
    assert "Read-only" in seen["sysctl"] or "Permission denied" in seen["sysctl"]
    assert seen["lo"] == "1"


def _check_mounts(seen: dict[str, str]) -> None:
    assert seen["mount /"].startswith("ro,")
    assert seen["mount /proc"] == "rw,relatime proc"
    assert seen["mount /dev"] == "rw,nosuid,relatime tmpfs"
    assert seen["mount /dev/pts"] == "rw,nosuid,noexec,relatime devpts"
    assert seen["mount /dev/shm"] == "ro,nosuid,nodev,noexec,relatime tmpfs"
    assert seen["mount /dev/mqueue"] == "rw,nosuid,nodev,noexec,relatime mqueue"
    assert seen["mount /sys"] == "ro,nosuid,nodev,noexec,relatime sysfs"
    assert seen["mount /sys/fs/cgroup"] == "ro,nosuid,nodev,noexec,relatime cgroup2"
    assert seen["mount /proc/sys"].startswith("ro,")
    assert seen["mount /proc/acpi"] == seen["mount /sys/firmware"] == "ro,nosuid,nodev,noexec,relatime tmpfs"
    assert seen["mount /proc/keys"].split()[-1] == seen["mount /proc/interrupts"].split()[-1]
    assert seen["mount /etc/made/passwd"].startswith("ro,")
    assert seen["mount /mnt/state"].startswith("ro,")
    assert "mount /proc/scsi" not in seen or seen["mount /proc/scsi"].endswith("tmpfs")
