"""Signals that the kernel does not let root send, who lacks CAP_KILL (kill(2)): nobody else goes without."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.host import execs, observe
from tests.host.runtimes import new_id

if TYPE_CHECKING:
    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

#: Root may then signal nobody but root.
WITHOUT_KILL = ("setpriv", "--bounding-set=-kill", "--")


def test_the_reason_is_told(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping().user(1000, 1000))
    runtime.prefix = WITHOUT_KILL
    result = container.kill("TERM").refused("peration not permitted" if runtime.name != "ocirun" else "EPERM")
    runtime.prefix = ()
    assert "invalid signal" not in result.stderr
    assert observe.alive(container.pid)


@pytest.mark.parametrize("manager", ["cgroupfs", "disabled"])
def test_all_others_get_it(ocirun: Runtime, bundle: Bundle, manager: str) -> None:
    """Whoever comes behind the one that is not to be signalled, as init is the first."""
    ocirun.flags = ("--cgroup-manager", manager)
    container = ocirun.running(bundle.sleeping().user(1000, 1000))
    other = execs.by_file(container)
    ocirun.prefix = WITHOUT_KILL
    ocirun.call("kill", "--all", container.id, "TERM").refused("cannot send the signal 15", "EPERM")
    ocirun.prefix = ()
    observe.eventually(lambda: not observe.alive(other), "it has heard of it")
    assert observe.alive(container.pid)


def test_one_that_cannot_be_passed_on_ends_nothing(runtime: Runtime, bundle: Bundle) -> None:
    """The program goes on, and its end is the end of the command, with its status."""
    script = "echo up; while ! [ -e /go ]; do sleep 0.05; done; exit 44"
    bundle.sh(script).user(1000, 1000).capabilities().writable().write()
    runtime.prefix = WITHOUT_KILL
    process, result = runtime.popen("run", "--bundle", str(bundle.path), new_id())
    observe.eventually(lambda: result.stdout == "up\n" or process.poll() is not None, "it runs")
    assert process.poll() is None, result.stderr
    process.send_signal(signal.SIGTERM)
    if runtime.name == "ocirun":
        observe.eventually(lambda: "cannot send the signal 15" in result.stderr, "it is told")
    (bundle.rootfs / "go").touch()
    assert process.wait(30) == 44
