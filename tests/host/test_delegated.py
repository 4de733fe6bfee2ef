"""Containers of a user whose cgroup was delegated to him by systemd, and whose ids are in /etc/subuid.

They need a machine with systemd as process 1 and the user that it has; tests/vm runs them in one.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import observe
from tests.host.execs import execute
from tests.host.runtimes import new_id
from tests.host.users import NAME, has_manager, logged_in, of_user, one_id, owner

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Container, Runtime
    from tests.host.view import View

MIB = 1 << 20
#: What useradd(8) wrote into /etc/subuid and /etc/subgid.
FIRST, COUNT = 100000, 65536


@pytest.fixture(scope="module", autouse=True)
def user() -> int:
    """The number of the user, whose own systemd runs."""
    return has_manager()


def _in_scope(runtime: Runtime, number: int, view: View) -> Runtime:
    """Every command in a scope of its own, and in the host's view, which has the user's runtime directory;
    the peers have systemd make the cgroup."""
    logged_in(runtime, number, view)
    scope = ("systemd-run", "--user", "--scope", "--quiet", "--collect", "-p", "Delegate=yes", "--")
    runtime.prefix = (*runtime.prefix, *scope)
    if runtime.name != "ocirun":
        plain = runtime.command("")[:-1]
        runtime.command = lambda *args: [*plain, "--systemd-cgroup", *args]  # type: ignore[method-assign]
    return runtime


@pytest.fixture
def users(runtime: Runtime, user: int, view: View) -> Runtime:
    """Each runtime in turn, in scopes of the user's systemd."""
    return _in_scope(runtime, user, view)


@pytest.fixture
def ours(ocirun: Runtime, user: int, view: View) -> Runtime:
    """ocirun in scopes of the user's systemd."""
    return _in_scope(ocirun, user, view)


@pytest.fixture
def mine(bundle: Bundle, user: int) -> Bundle:
    """A bundle of the user's."""
    return of_user(bundle, user)


def _limited(bundle: Bundle, **limits: Json) -> Bundle:
    for member, value in limits.items():
        bundle.put(value, "linux", "resources", member)
    return bundle


def _file(container: Container, name: str) -> str:
    return Path(f"/sys/fs/cgroup{observe.cgroup(container.pid)}/{name}").read_text().rstrip("\n")


def test_limits_hold(users: Runtime, mine: Bundle) -> None:
    _limited(mine, memory={"limit": 64 * MIB}, pids={"limit": 20}, cpu={"quota": 50000, "period": 100000})
    container = users.running(mine.sleeping())
    expected = {"memory.max": f"{64 * MIB}", "pids.max": "20", "cpu.max": "50000 100000"}
    assert {name: _file(container, name) for name in expected} == expected


@pytest.mark.parametrize("runtime", ["ocirun", "crun"], indirect=True)
def test_without_mappings_he_has_those_that_useradd_gave_him(users: Runtime, mine: Bundle, user: int) -> None:
    mine.drop("linux", "uidMappings").drop("linux", "gidMappings")
    mine.namespaces("pid", "ipc", "uts", "mount", "cgroup")
    told = users.run(mine.args("cat", "/proc/self/uid_map", "/proc/self/gid_map")).ok().stdout
    assert told.split() == ["0", str(user), "1", "1", str(FIRST), str(COUNT)] * 2


def test_the_kernel_kills_who_takes_more(ours: Runtime, mine: Bundle) -> None:
    _limited(mine, memory={"limit": 16 * MIB, "swap": 16 * MIB})
    result = ours.run(mine.sh("dd if=/dev/zero of=/dev/null bs=64M count=1; echo $?"))
    assert "137" in result.stdout


def test_its_cgroup_lies_in_the_scope(ours: Runtime, mine: Bundle) -> None:
    container = ours.running(mine.sleeping())
    place = observe.cgroup(container.pid)
    assert place.endswith(f".scope/ocirun/{container.id}")
    container.delete("--force").ok()
    assert not Path(f"/sys/fs/cgroup{place}").exists()


def test_none_is_made_where_none_is_wanted(ours: Runtime, mine: Bundle) -> None:
    ours.flags = ("--cgroup-manager", "disabled")
    container = ours.running(mine.sleeping())
    assert observe.cgroup(container.pid).endswith(".scope")
    _limited(mine, pids={"limit": 20})
    ours.attempt(mine).refused("--cgroup-manager disabled makes no cgroup", "/linux/resources/pids]")


def test_an_executed_process_is_in_it(ours: Runtime, mine: Bundle) -> None:
    """Though it comes from another scope: all above both is the user's."""
    container = ours.running(_limited(mine, pids={"limit": 20}).sleeping())
    told = execute(container, "sh", "-c", "echo $PPID; cat /proc/self/cgroup").ok().stdout
    assert told.endswith("0::/\n")


def test_who_comes_from_a_login_is_told_the_rule(ours: Runtime, mine: Bundle) -> None:
    """The nearest cgroup above both belongs to root."""
    container = ours.running(mine.sleeping())
    inside = ours.prefix
    ours.prefix = inside[: inside.index("systemd-run")]
    result = execute(container, "true")
    ours.prefix = inside
    assert result.code == 255
    for text in ("EACCES", "nearest cgroup above", "Delegate=yes"):
        assert text in result.stderr


def test_it_is_paused_and_goes_on(users: Runtime, mine: Bundle) -> None:
    container = users.running(mine.sleeping())
    users.call("pause", container.id).ok()
    assert json.loads(users.call("state", container.id).ok().stdout)["status"] == "paused"
    users.call("resume", container.id).ok()
    assert json.loads(users.call("state", container.id).ok().stdout)["status"] == "running"


def test_a_limit_is_changed(users: Runtime, mine: Bundle) -> None:
    container = users.running(_limited(mine, memory={"limit": 64 * MIB}, pids={"limit": 20}).sleeping())
    users.call("update", "--pids-limit", "30", container.id).ok()
    assert _file(container, "pids.max") == "30"


def test_a_controller_that_was_not_delegated_is_told(ours: Runtime, mine: Bundle) -> None:
    _limited(mine, blockIO={"weight": 100})
    ours.attempt(mine.sleeping()).refused(
        "the io controller is not delegated to this user", "/linux/resources/blockIO/weight]"
    )


def _told(ours: Runtime, script: str) -> str:
    """What a shell prints that runs where the runtime would."""
    whole = ours.command("x")
    words = [*whole[: whole.index(str(ours.program))], "sh", "-c", script]
    done = subprocess.run(
        words, env=ours.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("runtimes", ["systemd's", "its own"])
@pytest.mark.parametrize("kind", ["scope", "service"])
def test_a_unit_that_is_not_delegated_is_left_alone(
    ours: Runtime, mine: Bundle, user: int, kind: str, runtimes: str
) -> None:
    """As the scope of a terminal: it belongs to the user, but systemd manages it, and its shell stays; also
    with another runtime directory than that of his systemd."""
    ours.prefix = tuple(word for word in ours.prefix if word not in ("-p", "Delegate=yes"))
    if kind == "service":
        at = ours.prefix.index("--scope")
        ours.prefix = (*ours.prefix[:at], "--wait", "--pipe", *ours.prefix[at + 1 :])
    if runtimes == "its own":
        ours.prefix = (*ours.prefix, "env", f"XDG_RUNTIME_DIR={ours.scratch}/run")
    path = str(mine.args("cat", "/proc/self/cgroup").write().path)
    program = [str(ours.program), "--root", str(ours.root), "run", "--bundle", path]
    script = f"cat /proc/self/cgroup; {' '.join(program)} {new_id()} && cat /proc/self/cgroup"
    before, _, after = _told(ours, script).split()
    assert before == after
    owner_of_it = Path(f"/sys/fs/cgroup{Path(before.removeprefix('0::')).parent}").stat().st_uid
    assert owner_of_it == user
    _limited(mine, pids={"limit": 20})
    ours.attempt(mine.sleeping()).refused(
        "this user may make no cgroup", "/linux/resources/pids]", "systemd-run --user --scope -p Delegate=yes"
    )


def test_a_service_that_is_delegated_is_divided(ours: Runtime, mine: Bundle) -> None:
    """As that of a containerd of the user."""
    at = ours.prefix.index("--scope")
    ours.prefix = (*ours.prefix[:at], "--wait", "--pipe", *ours.prefix[at + 1 :])
    _limited(mine, pids={"limit": 20})
    path = str(mine.sh("cat /sys/fs/cgroup/pids.max").write().path)
    assert _told(ours, f"{ours.program} --root {ours.root} run --bundle {path} {new_id()}") == "20\n"


def test_who_was_in_the_scope_makes_room_for_limits(ours: Runtime, mine: Bundle) -> None:
    """And a second container finds room as well."""
    path = _limited(mine, pids={"limit": 20}).args("true").write().path
    run = " ".join(ours.command("run", "--bundle", str(path)))
    program = run[run.index(str(ours.program)) :]
    script = f"cat /proc/self/cgroup; {program} {new_id()} && cat /proc/self/cgroup && {program} {new_id()}"
    before, after = _told(ours, script).split()
    assert after == f"{before}/ocirun-callers"


def test_two_containers_of_a_cgroup_are_told_apart(
    ours: Runtime, bundles: Callable[[str], Bundle], user: int
) -> None:
    """When the first has ended, the second may take its cgroup, and the delete of the first spares it."""
    name = new_id()
    first = ours.running(
        of_user(bundles("first"), user).put(f"shared/{name}", "linux", "cgroupsPath").sleeping()
    )
    place = observe.cgroup(first.pid)
    first.kill("KILL").ok()
    first.wait()
    second = of_user(bundles("second"), user).put(place, "linux", "cgroupsPath")
    container = ours.running(second.sleeping())
    assert observe.cgroup(container.pid) == place
    first.delete().ok()
    assert observe.alive(container.pid)


# -- ids


def _subordinate(bundle: Bundle, number: int) -> Bundle:
    for member in ("uidMappings", "gidMappings"):
        bundle.put([one_id(0, number), one_id(1, FIRST, COUNT)], "linux", member)
    return bundle


def test_more_ids_are_mapped(users: Runtime, mine: Bundle, user: int) -> None:
    container = users.running(_subordinate(mine, user).user(7, 8).sleeping())
    assert owner(container.pid) == FIRST + 6
    told = Path(f"/proc/{container.pid}/uid_map").read_text().split()
    assert told == ["0", str(user), "1", "1", str(FIRST), str(COUNT)]


def test_groups_are_set(ours: Runtime, mine: Bundle, user: int) -> None:
    container = ours.running(_subordinate(mine, user).user(7, 8, 9).sleeping())
    assert observe.status(container.pid)["Groups"].split() == [str(FIRST + 8)]


@pytest.mark.parametrize("member", ["uidMappings", "gidMappings"])
def test_ids_that_were_not_given_are_refused(ours: Runtime, mine: Bundle, user: int, member: str) -> None:
    _subordinate(mine, user).put([one_id(0, user), one_id(1, FIRST, COUNT + 1)], "linux", member)
    ours.attempt(mine.sleeping()).refused(
        f"new{member[:3]}map refused: ",
        f"/linux/{member}/1]",
        f"gives {NAME} the ids {FIRST} to {FIRST + COUNT - 1}, this takes {FIRST} to {FIRST + COUNT}",
    )
