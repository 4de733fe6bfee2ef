"""Whichever way the launcher takes, the commands do the same; and what the quick way costs does not grow.

``OCIRUN_LAUNCHER=exec`` runs all host tests by python3 -I -S in place of the core.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conformance import peers
from tests import launchers
from tests.host.bundles import BUSYBOX, Bundle
from tests.host.runtimes import Runtime, new_id

if TYPE_CHECKING:
    from collections.abc import Callable

WAYS = ("exec", "packed", "newer")

#: What each command of the core may cost on Python 3.11: its own system calls, without those of the helper,
#: and instructions of user space, in millions, until it acts.  Lower them when they fall.
SYSTEM_CALLS = {
    "create": 206,
    "start": 152,
    "state": 120,
    "exec": 242,
    "kill": 128,
    "delete": 191,
    "run": 354,
}
MILLIONS = {
    "create": 0.50, "start": 0.35, "state": 0.33, "exec": 0.37, "kill": 0.34, "delete": 0.35, "run": 0.56,
}  # fmt: skip

#: Pages that the process of each command is the first to touch or to write (getrusage(2), minor faults), most
#: of them copied in rows before a fault asks for it (snapshot.c), with some that lie between.  How many
#: those are depends on what lies beside what: by ten between two builds of one source, by seventy where a
#: module was added that these commands never load.  Hence a twentieth more than was counted.
PAGES = {
    "create": 1040, "start": 615, "state": 575, "exec": 1135, "kill": 585, "delete": 650, "run": 1110,
}  # fmt: skip
ROWS = 200


@pytest.fixture(scope="module")
def programs() -> dict[str, Path]:
    """The launchers by the way they take, as far as they can be built here."""
    built = {"exec": launchers.by_exec()}
    packed = launchers.packed()
    if packed is not None:
        built["packed"] = packed
        try:
            built["newer"] = launchers.newer()
        except peers.PeerError as error:
            built["newer"] = Path(f"cannot be fetched: {error}")
    return built


def _by(ocirun: Runtime, programs: dict[str, Path], way: str) -> Runtime:
    program = programs.get(way)
    if program is None or not program.is_absolute():
        pytest.skip(f"no launcher of this kind: {program or 'this Python has no static library'}")
    ocirun.program = program
    return ocirun


@pytest.fixture(params=WAYS)
def launched(request: pytest.FixtureRequest, ocirun: Runtime, programs: dict[str, Path]) -> Runtime:
    """ocirun by each launcher."""
    return _by(ocirun, programs, request.param)


@pytest.fixture
def packed(ocirun: Runtime, programs: dict[str, Path]) -> Runtime:
    """ocirun as a wheel installs it."""
    return _by(ocirun, programs, "packed")


# -- the same, whichever way -----------------------------------------------------------------------------


def test_a_container_lives_and_ends(launched: Runtime, bundle: Bundle) -> None:
    container = launched.running(bundle.sleeping())
    state = json.loads(launched.call("state", container.id).ok().stdout)
    assert (state["status"], state["pid"]) == ("running", container.pid)
    assert container.id in launched.call("list").ok().stdout
    assert launched.call("exec", container.id, "echo", "é").ok().stdout == "é\n"
    assert launched.call("exec", container.id, "sh", "-c", "exit 7").code == 7
    container.kill().ok()
    container.wait()
    container.delete().ok()


def test_run_passes_output_and_status(launched: Runtime, bundle: Bundle) -> None:
    result = launched.run(bundle.sh("echo out; echo err >&2; exit 3"))
    assert (result.code, result.stdout, result.stderr) == (3, "out\n", "err\n")


def test_every_fault_of_a_config_is_told(launched: Runtime, bundle: Bundle) -> None:
    bundle.put(3, "hostname").cwd("relative")
    launched.attempt(bundle).refused("config.json:", "/hostname", "/process/cwd")
    assert os.listdir(launched.root) == []


def test_a_config_that_is_not_utf_8_is_told(launched: Runtime, bundle: Bundle) -> None:
    bundle.write()
    (bundle.path / "config.json").write_bytes(b'{"ociVersion": "\xff"}')
    launched.call("create", "--bundle", str(bundle.path), new_id()).refused("config.json", "UTF-8")


def test_a_command_that_needs_more_gets_it(launched: Runtime, bundle: Bundle) -> None:
    bundle.write()
    assert "--bundle" in launched.call("run", "--help").ok().stdout
    # "state" is a word of the core, and here it is none
    assert "steps" in launched.call("plan", "--bundle", str(bundle.path), "state").ok().stdout
    launched.call("stat").refused("unknown command: stat", "state")


# -- what the core costs: counts that repeat -------------------------------------------------------------


def _commands(packed: Runtime, bundle: Bundle, meter: Callable[[str, list[str]], None]) -> None:
    """Meters each hot command once: ``meter`` gets the name and what to run."""
    run = str(bundle.args("true").write().path)
    meter("run", packed.command("run", "--bundle", run, new_id()))
    container = packed.create(bundle.sleeping())
    ident = new_id()  # the first container keeps the cgroup that is the parent of both
    meter("create", packed.command("create", "--bundle", str(bundle.path), ident))
    packed.call("delete", "--force", ident).ok()
    meter("start", packed.command("start", container.id))
    meter("state", packed.command("state", container.id))
    meter("exec", packed.command("exec", container.id, "true"))
    meter("kill", packed.command("kill", container.id, "KILL"))
    container.wait()
    meter("delete", packed.command("delete", container.id))
    container.deleted = True


def _quietly(command: list[str]) -> None:
    out = subprocess.DEVNULL  # a pipe would be the container's too
    done = subprocess.run(command, stdin=out, stdout=out, stderr=out, timeout=60, check=False)
    assert done.returncode == 0, command


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_no_command_makes_more_system_calls(packed: Runtime, bundle: Bundle) -> None:
    found: dict[str, int] = {}

    def meter(name: str, command: list[str]) -> None:
        calls = packed.file(name)
        _quietly(["strace", "-o", str(calls), "--", *command])
        lines = [line for line in calls.read_text().splitlines() if re.match(r"\w+\(", line)]
        assert sum(line.startswith("execve(") for line in lines) == 1, "the core did not do it"
        # how often it polls depends on how fast the container is; each madvise takes the place of faults
        apart = ("poll(", "restart_syscall(", "recvmsg(", "madvise(")
        found[name] = sum(not line.startswith(apart) for line in lines)
        assert 20 < sum(", MADV_POPULATE_WRITE" in line or ", 0x17" in line for line in lines) < ROWS

    _commands(packed, bundle, meter)
    assert set(found) == set(launchers.hot_words())
    assert {name: calls for name, calls in found.items() if calls > SYSTEM_CALLS[name]} == {}, found


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the counts are those of Python 3.11")
@pytest.mark.parametrize("name", MILLIONS)
def test_no_command_takes_more_instructions_until_it_acts(packed: Runtime, scratch: Path, name: str) -> None:
    """Of a command that finds no container or no bundle: valgrind lacks system calls of the others."""
    told = packed.file(name)
    words = ["--bundle", str(scratch / "none")] if name in {"create", "run"} else []
    tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", f"--log-file={told}"]
    command = [*tool, *packed.command(name, *words, "none", *(["true"] if name == "exec" else []))]
    few = {"PATH": os.environ["PATH"]}  # each variable costs
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=few
    )
    assert "none" in done.stderr
    (count,) = re.findall(r"Collected : (\d+)", told.read_text())
    assert int(count) / 1e6 < MILLIONS[name]


def _measured(packed: Runtime, bundle: Bundle, form: str) -> dict[str, int]:
    """What time(1) of busybox tells of each command in ``form``, last."""
    found: dict[str, int] = {}

    def meter(name: str, command: list[str]) -> None:
        told = packed.file(name)
        # what a process had before its execve counts too: so a small one starts it
        with told.open("wb") as err:
            subprocess.run(
                [BUSYBOX, "time", "-f", form, *command],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err, check=True,
            )  # fmt: skip
        found[name] = int(told.read_text().split()[-1])

    _commands(packed, bundle, meter)
    return found


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the counts are those of Python 3.11")
def test_no_command_touches_more_pages(packed: Runtime, bundle: Bundle) -> None:
    least = _measured(packed, bundle, "%R")
    for _ in range(4):  # what the kernel reclaims from a busy machine is a fault more
        again = _measured(packed, bundle, "%R")
        least = {name: min(pages, again[name]) for name, pages in least.items()}
    assert {name: pages for name, pages in least.items() if pages > PAGES[name]} == {}, least


def test_the_peak_of_memory_is_below_runc_s(packed: Runtime, bundle: Bundle, scratch: Path) -> None:
    runc = peers.peer("runc")
    if runc is None:
        pytest.skip(peers.reason("runc"))
    other = Runtime("runc", runc, scratch)
    other.root = scratch / "runc"
    ours, theirs = (_measured(runtime, bundle, "%M") for runtime in (packed, other))
    other.clean_up()
    assert {name: (peak, theirs[name]) for name, peak in ours.items() if peak >= theirs[name]} == {}
