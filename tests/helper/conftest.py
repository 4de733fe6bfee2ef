"""The helper in three builds, and a place for its containers that is gone afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ocirun.native import build
from tests.helper.driver import PATIENCE, Run, become_subreaper, encoded
from tests.helper.plans import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ocirun.plan.model import Step

HERE = Path(__file__).parent
BUSYBOX = Path("/bin/busybox")
ACCOUNTS = "# a comment\nroot:x:0:0:root:/root:/bin/sh\nbad:x:1000x::::\nuser:x:1000:1001::/home/user:/bin/sh"

TRAPS = ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]


def _build_gcc(target: Path) -> None:
    sources = map(str, build.helper_sources())
    flags = "-O2 -std=c11 -Wall -Wextra -Werror -static".split()
    subprocess.run(["gcc", *flags, "-o", str(target), *sources], check=True)


BUILDS: dict[str, Callable[[Path], None]] = {
    "installed": build.compile_helper,
    "gcc": _build_gcc,
    "traps": lambda target: build.compile_helper(target, TRAPS),
}


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the helper of a build, compiled when first asked for."""
    directory = tmp_path_factory.mktemp("helper")

    def get(name: str) -> Path:
        path = directory / name
        if not path.exists():
            BUILDS[name](path)
        return path

    return get


@pytest.fixture
def helper(builds: Callable[[str], Path]) -> Path:
    """The helper that dies of undefined behaviour (SIGILL)."""
    return builds("traps")


def _cgroup2() -> Path | None:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return Path(before.split()[4])
    return None


def _remove_cgroup(cgroup: Path) -> None:
    """What a failed test left below: killed and removed, deepest first."""
    if not cgroup.exists():
        return
    (cgroup / "cgroup.kill").write_text("1")
    for directory, _, _ in os.walk(cgroup, topdown=False):
        until = time.monotonic() + PATIENCE
        while not _removed(directory):
            assert time.monotonic() < until, f"somebody is left in {directory}"
            time.sleep(0.02)


def _removed(directory: str) -> bool:
    try:
        Path(directory).rmdir()
    except OSError:
        return False
    return True


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A root file system with busybox, a state directory and a cgroup."""
    if os.geteuid() != 0:
        pytest.skip("making namespaces and mounts needs root")
    mounted = _cgroup2()
    if mounted is None:
        pytest.skip("cgroup2 is not mounted")
    become_subreaper()
    rootfs, state = tmp_path / "rootfs", tmp_path / "state"
    for name in ("bin", "dev", "etc"):
        (rootfs / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, rootfs / "bin/busybox")
    for name in ("sh", "cat", "ls", "id", "stty", "tty", "sleep"):
        (rootfs / "bin" / name).symlink_to("busybox")
    (rootfs / "etc/passwd").write_text(ACCOUNTS)
    state.mkdir(mode=0o700)
    cgroup = mounted / f"oh{os.getpid()}-helper"
    cgroup.mkdir()
    yield Place(rootfs, state, cgroup)
    _remove_cgroup(cgroup)


@pytest.fixture
def launch(helper: Path) -> Iterator[Callable[..., Run]]:
    """Runs the helper on steps, or on the bytes of a plan, with these standard descriptors."""
    runs: list[Run] = []

    def start(
        plan: Sequence[Step] | bytes,
        stdio: Sequence[int] = (),
        program: Path = helper,
        closed: Sequence[int] = (),
    ) -> Run:
        run = Run(program, plan if isinstance(plan, bytes) else encoded(plan), stdio, closed)
        runs.append(run)
        return run

    yield start
    # who entered a container first: its init does not end before they are reaped
    for run in reversed(runs):
        run.close()
