"""Containers as services of systemd that tell when they are ready (Type=notify, systemd.service(5)).

They need a host where systemd is process 1; tests/vm runs them in a machine where it is.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.host import observe
from tests.host.runtimes import new_id
from tests.host.test_notify_socket import telling
from tests.host.units import need_systemd, shown, systemctl
from tests.host.users import has_manager, logged_in, of_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime
    from tests.host.view import View

#: crun tells nobody whom to watch.
NOTIFYING = pytest.mark.parametrize("runtime", ["ocirun", "runc"], indirect=True)
MANAGERS = pytest.mark.parametrize("flags", [(), ("--systemd-cgroup",)], ids=["cgroupfs", "systemd"])


@pytest.fixture(scope="module", autouse=True)
def systemd() -> None:
    """Skips where systemd is not process 1."""
    need_systemd()


@pytest.fixture
def service() -> Iterator[Callable[..., str]]:
    """Starts a service that is to tell when it is ready, and gives its name before it is."""
    made: list[str] = []

    def start(*command: str) -> str:
        name = f"{new_id()}.service"
        made.append(name)
        words = ("systemd-run", "--no-block", "--quiet", f"--unit={name}", "--property=Type=notify", "--")
        subprocess.run((*words, *command), check=True, timeout=60)
        return name

    yield start
    for name in made:
        systemctl("stop", name)
        systemctl("reset-failed", name)


def _waiting(bundle: Bundle) -> Bundle:
    """A program that is up, and ready when there is a file /go."""
    script = "touch /here; while ! [ -e /go ]; do sleep 0.05; done; exec /bin/teller STATUS=up READY=1"
    return telling(bundle).sh(script).writable()


def _is_up(bundle: Bundle) -> None:
    observe.eventually((bundle.rootfs / "here").exists, "the program is up")


def _becomes_ready(bundle: Bundle, unit: str) -> None:
    (bundle.rootfs / "go").touch()
    observe.eventually(lambda: shown(unit, "ActiveState") == {"ActiveState": "active"}, "the unit is active")


def _of(unit: str, name: str) -> str:
    return shown(unit, name)[name]


@MANAGERS
def test_a_unit_is_active_when_its_container_is_ready(
    runtime: Runtime, bundle: Bundle, service: Callable[..., str], flags: tuple[str, ...]
) -> None:
    """In the foreground: whom systemd watches is the runtime, which ends with the container."""
    runtime.flags = flags
    ident = new_id()
    unit = service(*runtime.command("run", "--bundle", str(_waiting(bundle).write().path), ident))
    _is_up(bundle)
    assert _of(unit, "ActiveState") == "activating"
    runtimes = int(_of(unit, "MainPID"))
    assert "run" in observe.words(runtimes, "cmdline")
    _becomes_ready(bundle, unit)
    assert _of(unit, "MainPID") == str(runtimes)
    assert _of(unit, "StatusText") == (
        "up" if runtime.name == "ocirun" else ""
    )  # the peers pass on READY alone
    runtime.call("kill", ident, "KILL").ok()
    observe.eventually(lambda: _of(unit, "MainPID") == "0", "the unit has ended")
    assert _of(unit, "ExecMainStatus") == "137"


@NOTIFYING
@MANAGERS
def test_a_unit_watches_the_init_of_a_detached_container(
    runtime: Runtime, bundle: Bundle, service: Callable[..., str], flags: tuple[str, ...]
) -> None:
    runtime.flags = flags
    ident, pid_file = new_id(), runtime.file("pid")
    words = ("run", "--detach", "--pid-file", str(pid_file), "--bundle", str(_waiting(bundle).write().path))
    unit = service(*runtime.command(*words, ident))
    _is_up(bundle)
    assert _of(unit, "ActiveState") == "activating"
    runtimes = int(_of(unit, "MainPID"))
    _becomes_ready(bundle, unit)
    init = int(pid_file.read_text())
    observe.eventually(lambda: _of(unit, "MainPID") == str(init), "it watches init")
    observe.eventually(lambda: not observe.alive(runtimes), "the runtime has ended")
    assert _of(unit, "ActiveState") == "active"
    assert observe.words(init, "cmdline")[0] == "/bin/teller"
    runtime.call("kill", ident, "KILL").ok()
    observe.eventually(lambda: _of(unit, "ActiveState") in ("inactive", "failed"), "the unit has ended")
    runtime.call("delete", "--force", ident).ok()


def test_a_users_service_watches_the_init_of_his_container(
    ocirun: Runtime, bundle: Bundle, view: View
) -> None:
    """His systemd believes only who is in the cgroup of the service, which is delegated to it."""
    number = has_manager()
    users = logged_in(ocirun, number, view)
    by_him, unit, ident = users.prefix, f"{new_id()}.service", new_id()

    def told(*words: str) -> str:
        done = subprocess.run(
            (*by_him, *words), env=users.environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def of(name: str) -> str:
        return told("systemctl", "--user", "show", "--value", "--property", name, unit)

    path = of_user(_waiting(bundle), number).write().path
    wanted = ("--property=Type=notify", "--property=Delegate=yes", f"--unit={unit}")
    run = users.command("run", "--detach", "--bundle", str(path), ident)[len(by_him) :]
    told("systemd-run", "--user", "--no-block", "--quiet", *wanted, "--", *run)
    _is_up(bundle)
    assert of("ActiveState") == "activating"
    (bundle.rootfs / "go").touch()
    observe.eventually(lambda: of("ActiveState") == "active", "the unit is active")
    init = int(json.loads(users.call("state", ident).ok().stdout)["pid"])
    observe.eventually(lambda: of("MainPID") == str(init), "it watches init")
    users.call("delete", "--force", ident).ok()
    observe.eventually(lambda: of("ActiveState") in ("inactive", "failed"), "the unit has ended")
    told("systemctl", "--user", "reset-failed")
