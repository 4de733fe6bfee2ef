"""Killed at any step, nothing remains after `delete --force` (law 4)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.host.bundles import Bundle
from tests.host.faults import VICTIMS
from tests.host.runtimes import Runtime, new_id
from tests.host.view import View

REPOSITORY = Path(__file__).parents[2]


def _create(
    what: str, runtime: Runtime, container: str, bundle: Bundle, index: int
) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "tests.host.faults", what, str(runtime.root), container)
    return subprocess.run(
        [*command, str(bundle.path), str(index)],
        cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def _full(bundle: Bundle, *, terminal: bool) -> Bundle:
    """A bundle whose plan has a step of every kind, those of the terminal only where it is wanted: there with
    namespaces of users and time, and with mapped mounts, as well."""
    bundle.put(terminal, "process", "terminal").put("example.org", "domainname")
    bundle.put(100, "process", "oomScoreAdj").put({"net.ipv4.ip_forward": "1"}, "linux", "sysctl")
    if terminal:
        bundle.mapped(100000, 65536).items("linux", "namespaces").append({"type": "time"})
        bundle.bind("shared", "/mnt/mapped", "idmap", "src-nofollow")
        bundle.mount("/mnt/made", "tmpfs", "tmpfs", "idmap=uids=@0-0-9;gids=@0-0-9")
    (bundle.path / "shared").mkdir()
    return bundle.sleeping().bind("shared", "/mnt/shared", "ro").user(1000, 1000, 5, umask=0o27).cwd("/made")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("victim", VICTIMS)
def test_nothing_remains_when_it_is_killed_before_any_step(
    victim: str, terminal: bool, ocirun: Runtime, bundle: Bundle, view: View
) -> None:
    _full(bundle, terminal=terminal).write()
    count = int(_create("count", ocirun, new_id(), bundle, 0).stdout)
    assert count > 40
    for index in range(count - 1):  # the last, exec, belongs to start
        container = new_id()
        result = _create(victim, ocirun, container, bundle, index)
        assert result.returncode == (-9 if victim == "ocirun" else 1), (
            f"before record {index}: {result.stderr}"
        )
        if victim == "helper":
            assert "the helper was killed" in result.stderr
            assert not list(ocirun.root.iterdir()), f"create left its state before record {index}"
        ocirun.call("delete", "--force", container).ok()
        assert not list(ocirun.root.iterdir()), f"killed before record {index}"
        assert not (view.cgroup2 / "ocirun" / container).exists(), f"killed before record {index}"
