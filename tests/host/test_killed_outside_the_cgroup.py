"""Killed at any step, nothing remains of what is made beside the cgroup (law 4): devices of a network,
a class of resctrl in a simulated tree, the socket of notifications, the listener of a filter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from tests.host import observe
from tests.host.agents import Agent, goes_on
from tests.host.faults import VICTIMS
from tests.host.networks import Network, addresses, ip, links
from tests.host.runtimes import new_id
from tests.host.test_seccomp import filtered
from tests.host.test_seccomp_notify import asking
from tests.resctrl_tree import Tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Runtime
    from tests.host.view import View

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)  # made before the runtime, which needs it until it has deleted all
def network() -> Iterator[Network]:
    """A network with the pair left and right; left is up and has an address."""
    with Network() as made:
        made.pair("left", "right")
        ip(made.pid, *"address add 192.0.2.7/24 dev left".split())
        ip(made.pid, *"link set left up".split())
        yield made


@pytest.fixture
def tree(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tree]:
    made = Tree(scratch / "tmp/resctrl", monkeypatch)
    yield made
    shutil.rmtree(made.mount)


class Scene:
    """What a create works on that is killed, and where the traces would be."""

    def __init__(self, runtime: Runtime, network: Network, tree: Tree, view: View) -> None:
        self._runtime = runtime
        self._network = network
        self._tree = tree
        self._view = view

    def faults(
        self, what: str, container: str, bundle: Bundle, index: int
    ) -> subprocess.CompletedProcess[str]:
        """Runs tests.host.faults in the network; nobody listens where it notifies."""
        words = (what, str(self._runtime.root), container, str(bundle.path), str(index))
        more = ("cgroupfs", "/not/there", str(self._tree.mount))
        return subprocess.run(
            [*self._network.prefix, sys.executable, "-m", "tests.host.faults", *words, *more],
            cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def is_clean(self, container: str) -> bool:
        """Whether nothing is left of a container, and the device is as it was."""
        network = self._network.pid
        found = links(network)
        return (
            not list(self._runtime.root.glob("oh*"))
            and not (self._view.cgroup2 / "ocirun" / container).exists()
            and not self._tree.classes()
            and {"left", "right"} <= {*found}
            and addresses(network, "left") == {"192.0.2.7/24"}
            and "UP" in cast("list[str]", found["left"]["flags"])
        )


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("victim", VICTIMS)
def test_nothing_remains(
    victim: str, ocirun: Runtime, bundle: Bundle, network: Network, tree: Tree, view: View, tmp_path: Path
) -> None:
    rdt: Json = {"l3CacheSchema": "L3:0=f", "enableMonitoring": True}
    filtered(bundle.sleeping(), asking(tmp_path / "agent", "munlockall", "setgroups"), forbidden=False)
    bundle.put({"left": {"name": "lan0"}}, "linux", "netDevices").put(rdt, "linux", "intelRdt").write()
    scene = Scene(ocirun, network, tree, view)
    count = int(scene.faults("count", new_id(), bundle, 0).stdout)
    assert count > 40
    with Agent(tmp_path / "agent", goes_on):
        # each third, for it takes long; the last, exec, belongs to start
        for index in range(VICTIMS.index(victim), count - 1, 3):
            container = new_id()
            result = scene.faults(victim, container, bundle, index)
            where = f"{victim} killed before record {index}"
            assert result.returncode == (-9 if victim == "ocirun" else 1), f"{where}: {result.stderr}"
            if victim == "ocirun":
                done = scene.faults("delete", container, bundle, 0)
                assert done.returncode == 0, f"{where}: {done.stderr}"
            observe.eventually(lambda: scene.is_clean(container), f"nothing remains: {where}")  # noqa: B023
    assert os.listdir(ocirun.root) in ([], [".seccomp"])
