"""Containers whose cgroup systemd makes: the unit as systemd shows it, the files as the kernel has them.

They need a host where systemd is process 1; tests/vm runs them in a machine where it is.
"""

from __future__ import annotations

import json
import os
import pwd
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ocirun_shim.messages import task_pb2 as pb
from ocirun_shim.messages.runc_options_pb2 import Options

from tests.host import execs, observe
from tests.host.runtimes import OCIRUN, new_id
from tests.host.units import by_systemd, files, is_loaded, need_systemd, place, scoped, shown, systemctl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Container, Runtime
    from tests.host.serving import Serving

MIB = 1 << 20
REPOSITORY = Path(__file__).parents[2]
CGROUP = Path("/sys/fs/cgroup")
LIMITS: Json = {
    "memory": {"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 96 * MIB},
    "cpu": {"shares": 512, "quota": 50000, "period": 100000},
    "pids": {"limit": 20},
}
#: What they are in the cgroup.
FILES = {
    "memory.max": f"{64 * MIB}",
    "memory.low": f"{32 * MIB}",
    "memory.swap.max": f"{32 * MIB}",
    "cpu.weight": "59",
    "cpu.max": "50000 100000",
    "pids.max": "20",
}
#: And of the unit.
PROPERTIES = {
    "MemoryMax": f"{64 * MIB}",
    "MemoryLow": f"{32 * MIB}",
    "MemorySwapMax": f"{32 * MIB}",
    "CPUWeight": "59",
    "CPUQuotaPerSecUSec": "500ms",
    "TasksMax": "20",
}


@pytest.fixture(scope="module", autouse=True)
def systemd() -> None:
    """Skips where systemd is not process 1 (sd_booted(3))."""
    need_systemd()


@pytest.fixture(autouse=True)
def _by_systemd(request: pytest.FixtureRequest) -> None:
    by_systemd(request)


@pytest.fixture
def unit(bundle: Bundle) -> str:
    """The name of the scope of the bundle."""
    return scoped(bundle, new_id())


def test_init_lives_in_the_scope_of_its_name(runtime: Runtime, bundle: Bundle, unit: str) -> None:
    container = runtime.running(bundle.sleeping())
    assert place(container.pid) == f"/system.slice/{unit}"
    expected = {"ActiveState": "active", "SubState": "running", "Slice": "system.slice", "Delegate": "yes"}
    assert shown(unit, *expected) == expected
    container.delete("--force").ok()
    observe.eventually(lambda: not is_loaded(unit), "the scope is gone")


def test_a_slice_lies_in_those_that_its_name_says(runtime: Runtime, bundle: Bundle) -> None:
    above = f"oh{os.getpid()}"
    unit = scoped(bundle, new_id(), f"{above}-b.slice")
    container = runtime.running(bundle.sleeping())
    try:
        assert place(container.pid) == f"/{above}.slice/{above}-b.slice/{unit}"
    finally:
        container.delete("--force").ok()
        systemctl("stop", f"{above}-b.slice", f"{above}.slice")


def test_without_a_path_the_scope_is_named_by_the_id(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(bundle.drop("linux", "cgroupsPath").sleeping())
    assert place(container.pid) == f"/system.slice/ocirun-{container.id}.scope"


def test_the_unit_and_its_cgroup_have_the_limits(runtime: Runtime, bundle: Bundle, unit: str) -> None:
    runtime.running(bundle.put(LIMITS, "linux", "resources").sleeping())
    assert files(unit, FILES) == FILES
    assert shown(unit, *PROPERTIES) == PROPERTIES


def test_the_limits_survive_a_reload(runtime: Runtime, bundle: Bundle, unit: str) -> None:
    runtime.running(bundle.put(LIMITS, "linux", "resources").sleeping())
    systemctl("daemon-reload")
    systemctl("set-property", "--runtime", unit, "IOWeight=50")  # so that it writes the files once more
    assert files(unit, FILES) == FILES


def test_one_process_is_enough_for_a_limit_of_one(ocirun: Runtime, bundle: Bundle, unit: str) -> None:
    """Stage, which clones init, is in the scope before."""
    ocirun.running(bundle.put({"pids": {"limit": 1}}, "linux", "resources").sleeping())
    assert files(unit, {"pids.max": ""}) == {"pids.max": "1"}
    assert shown(unit, "TasksMax", "TasksCurrent") == {"TasksMax": "1", "TasksCurrent": "1"}


def _tries(container: Container) -> str:
    """Which of /dev/full, /dev/kmsg and /dev/pts/ptmx a new process of the container may open."""
    script = "for n in /dev/full /dev/kmsg /dev/ptmx; do (exec 3<$n) 2>/dev/null && echo $n; done; true"
    return execs.execute(container, "sh", "-c", script).ok().stdout


def test_the_rules_of_devices_survive_a_reload(runtime: Runtime, bundle: Bundle, unit: str) -> None:
    bundle.device("/dev/kmsg", "c", 1, 11, 0o666)
    bundle.put({"devices": [{"allow": False, "access": "rwm"}]}, "linux", "resources")
    container = runtime.running(bundle.sleeping())
    before = _tries(container)
    systemctl("daemon-reload")
    systemctl("set-property", "--runtime", unit, "CPUWeight=50")
    assert _tries(container) == before == "/dev/full\n/dev/ptmx\n"


def test_a_device_that_is_allowed_stays_so(runtime: Runtime, bundle: Bundle, unit: str) -> None:
    """The GPUs that were lost after `systemctl daemon-reload`: systemd has to know the rule."""
    bundle.device("/dev/kmsg", "c", 1, 11, 0o666)
    rules: Json = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rw"},
    ]
    container = runtime.running(bundle.put({"devices": rules}, "linux", "resources").sleeping())
    systemctl("daemon-reload")
    systemctl("set-property", "--runtime", unit, "CPUWeight=50")
    assert "/dev/kmsg" in _tries(container)


def test_annotations_are_properties_of_the_unit(runtime: Runtime, bundle: Bundle, unit: str) -> None:
    bundle.put(
        {
            "org.systemd.property.TimeoutStopUSec": "uint64 5000000",
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
            "org.systemd.property.SendSIGHUP": "true",
        },
        "annotations",
    )
    runtime.running(bundle.sleeping())
    expected = {"TimeoutStopUSec": "5s", "CollectMode": "inactive-or-failed", "SendSIGHUP": "yes"}
    assert shown(unit, *expected) == expected


def test_seconds_are_taken_for_microseconds(runtime: Runtime, bundle: Bundle, unit: str) -> None:
    bundle.put({"org.systemd.property.TimeoutStopSec": "7"}, "annotations")
    runtime.running(bundle.sleeping())
    assert shown(unit, "TimeoutStopUSec") == {"TimeoutStopUSec": "7s"}


def test_who_is_executed_lives_where_init_lives(runtime: Runtime, bundle: Bundle, unit: str) -> None:
    container = runtime.running(bundle.sleeping())
    assert place(execs.sleeping(container)) == f"/system.slice/{unit}"


def test_init_can_live_below_the_scope(ocirun: Runtime, bundle: Bundle, unit: str) -> None:
    bundle.put({"run.oci.systemd.subgroup": "payload"}, "annotations")
    container = ocirun.running(bundle.put(LIMITS, "linux", "resources").sleeping())
    inside = f"/system.slice/{unit}/payload"
    assert (place(container.pid), place(execs.sleeping(container))) == (inside, inside)
    assert files(unit, FILES) == FILES
    ocirun.call("pause", container.id).ok()
    assert "frozen 1" in (CGROUP / inside[1:] / "cgroup.events").read_text()
    ocirun.call("resume", container.id).ok()


def test_a_quota_is_not_rounded(ocirun: Runtime, bundle: Bundle, unit: str) -> None:
    """Though systemd keeps whole percents alone."""
    container = ocirun.running(
        bundle.put({"cpu": {"quota": 33333, "period": 100000}}, "linux", "resources").sleeping()
    )
    assert files(unit, {"cpu.max": ""}) == {"cpu.max": "33333 100000"}
    assert shown(unit, "CPUQuotaPerSecUSec") == {"CPUQuotaPerSecUSec": "340ms"}
    ocirun.call("update", "--cpu-quota", "22222", container.id).ok()
    assert files(unit, {"cpu.max": ""}) == {"cpu.max": "22222 100000"}
    assert shown(unit, "CPUQuotaPerSecUSec") == {"CPUQuotaPerSecUSec": "230ms"}


def test_an_update_is_known_to_systemd(runtime: Runtime, bundle: Bundle, unit: str) -> None:
    container = runtime.running(bundle.put(LIMITS, "linux", "resources").sleeping())
    flags = ("--memory", str(32 * MIB), "--memory-swap", str(32 * MIB), "--cpu-share", "1024")
    quota = ("--cpu-quota", "34000", "--cpu-period", "100000")
    runtime.call("update", *flags, *quota, "--pids-limit", "30", container.id).ok()
    changed = {
        "memory.max": f"{32 * MIB}", "cpu.max": "34000 100000", "cpu.weight": "100", "pids.max": "30",
    }  # fmt: skip
    assert files(unit, FILES | changed) == FILES | changed | {"memory.swap.max": "0"}
    expected = PROPERTIES | {"MemoryMax": f"{32 * MIB}", "CPUQuotaPerSecUSec": "340ms", "TasksMax": "30"}
    expected["CPUWeight"] = "100"
    assert shown(unit, *expected) == expected | {"MemorySwapMax": "0"}


def test_new_rules_of_devices_survive_a_reload(ocirun: Runtime, bundle: Bundle, unit: str) -> None:
    bundle.device("/dev/kmsg", "c", 1, 11, 0o666)
    nothing: Json = {"allow": False, "access": "rwm"}
    container = ocirun.running(bundle.put({"devices": [nothing]}, "linux", "resources").sleeping())
    path = ocirun.file("resources")
    path.write_text(
        json.dumps(
            {"devices": [nothing, {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rw"}]}
        )
    )
    ocirun.call("update", "--resources", str(path), container.id).ok()
    assert "/dev/kmsg" in _tries(container)
    systemctl("daemon-reload")
    assert "/dev/kmsg" in _tries(container)
    path.write_text(json.dumps({"devices": [nothing]}))
    ocirun.call("update", "--resources", str(path), container.id).ok()
    assert "/dev/kmsg" not in _tries(container)
    assert "1:11" not in shown(unit, "DeviceAllow")["DeviceAllow"]


def test_systemd_hears_of_an_update_that_fails(ocirun: Runtime, bundle: Bundle, unit: str) -> None:
    """The program of devices is the last, and takes a right (bpf(2)) that writing to files does not."""
    nothing: Json = {"allow": False, "access": "rwm"}
    limits: Json = {"devices": [nothing], "pids": {"limit": 20}, "cpu": {"quota": 33333, "period": 100000}}
    container = ocirun.running(bundle.put(limits, "linux", "resources").sleeping())

    def known() -> tuple[list[str], dict[str, str]]:
        text = systemctl("show", "--property", "TasksMax,CPUQuotaPerSecUSec,DeviceAllow,DevicePolicy", unit)
        return sorted(text.splitlines()), files(unit, {"pids.max": "", "cpu.max": ""})

    before = known()
    wanted = {
        "devices": [nothing, {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rw"}],
        "pids": {"limit": 30},
        "cpu": {"quota": 50000, "period": 100000},
    }
    path = ocirun.file("resources")
    path.write_text(json.dumps(wanted))
    ocirun.prefix = (*ocirun.prefix, "setpriv", "--bounding-set=-sys_admin,-bpf,-net_admin", "--")
    ocirun.call("update", "--resources", str(path), container.id).refused("allow devices", "EPERM")
    assert known() == before


def _fail(unit: str) -> None:
    """Waits until systemd has ended the unit for its time was over."""
    observe.eventually(lambda: systemctl("is-failed", unit) == "failed", "systemd ends it", 90)


#: An init of its pid namespace does not hear SIGTERM, so that it has to be killed in the end.
SHORT: Json = {
    "org.systemd.property.RuntimeMaxUSec": "uint64 15000000",
    "org.systemd.property.TimeoutStopUSec": "uint64 300000",
}


def test_a_failed_unit_is_forgotten_at_delete(runtime: Runtime, bundle: Bundle, unit: str) -> None:
    container = runtime.running(bundle.put(SHORT, "annotations").sleeping())
    _fail(unit)
    container.wait()
    container.delete().ok()
    observe.eventually(lambda: not is_loaded(unit), "the scope is forgotten")


def test_a_failed_unit_makes_room_for_another(ocirun: Runtime, bundle: Bundle, unit: str) -> None:
    """The delete of runc 1.3 then waits for ever, that of crun 1.28 stops the new container."""
    old = ocirun.running(bundle.put(SHORT, "annotations").sleeping())
    _fail(unit)
    new = ocirun.running(bundle.drop("annotations"))
    old.delete("--force").ok()
    assert place(new.pid) == f"/system.slice/{unit}"
    assert observe.alive(new.pid)


def test_a_scope_in_use_is_not_taken(ocirun: Runtime, bundle: Bundle, unit: str) -> None:
    first = ocirun.running(bundle.sleeping())
    ocirun.attempt(bundle).refused(unit, "/linux/cgroupsPath", "another container has it")
    assert observe.alive(first.pid)
    assert is_loaded(unit)


def test_nothing_is_left_of_a_create_that_fails(runtime: Runtime, bundle: Bundle, unit: str) -> None:
    assert runtime.attempt(bundle.args("/not/there")).code == 1
    observe.eventually(lambda: not is_loaded(unit), "the scope is gone")


@pytest.mark.parametrize("turn", range(6))
def test_nothing_is_left_of_a_create_that_is_killed(
    ocirun: Runtime, bundle: Bundle, unit: str, turn: int
) -> None:
    ident = new_id()
    process, _ = ocirun.popen("create", "--bundle", str(bundle.write().path), ident)
    time.sleep(random.random() * 0.1 * (turn + 1))  # noqa: S311 - any moment
    process.send_signal(signal.SIGKILL)
    process.wait()
    ocirun.call("delete", "--force", ident).ok()
    observe.eventually(lambda: not is_loaded(unit), "the scope is gone")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/a/path", 'must be "slice:prefix:name" where systemd makes the cgroups'),
        ("a:b:c", '"a" is no slice'),
        ("a.slice:b:c/d", '"b-c/d.scope" is no name of a unit'),
    ],
)
def test_a_malformed_path_is_told_with_its_place(
    ocirun: Runtime, bundle: Bundle, path: str, words: str
) -> None:
    bundle.put(path, "linux", "cgroupsPath")
    ocirun.attempt(bundle).refused("config.json:", "/linux/cgroupsPath", words)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("TimeoutStopUSec", "'5s'", "has the type s, TimeoutStopUSec wants t"),
        ("CollectMode", "soon", "has no value: 'soon'"),
        ("CollectMode", "'soon'", "Invalid CollectMode setting: soon"),
        ("Nonsense", "true", "Nonsense"),
    ],
)
def test_a_bad_property_is_told_with_its_place(
    ocirun: Runtime, bundle: Bundle, unit: str, name: str, text: str, words: str
) -> None:
    bundle.put({f"org.systemd.property.{name}": text}, "annotations")
    ocirun.attempt(bundle).refused(words)
    assert not is_loaded(unit)


@pytest.mark.parametrize(
    ("flags", "by_systemd"),
    [
        (("--cgroup-manager", "systemd"), True),
        (("--cgroup-manager=systemd", "--systemd-cgroup"), True),
        (("--cgroup-manager", "cgroupfs"), False),
        (("--systemd-cgroup=false",), False),
    ],
)
def test_the_manager_is_chosen_by_its_name(
    ocirun: Runtime, bundle: Bundle, flags: tuple[str, ...], by_systemd: bool
) -> None:
    ocirun.flags = flags
    container = ocirun.running(bundle.sleeping())
    name = container.id
    assert place(container.pid) == (f"/system.slice/ocirun-{name}.scope" if by_systemd else f"/ocirun/{name}")
    assert is_loaded(f"ocirun-{name}.scope") == by_systemd


#: The command, which tells at its end how often it has connected.
COUNTING = """
import sys
from ocirun.cgroup import systemd
from ocirun.cli.main import main
connect, count = systemd.connect, 0
def counted(*words):
    global count
    count += 1
    sys.stderr.write(f"connection {count}\\n")
    return connect(*words)
systemd.connect = counted
main()
"""


def test_one_connection_is_enough(ocirun: Runtime, bundle: Bundle, unit: str) -> None:
    path = str(bundle.put(LIMITS, "linux", "resources").sleeping().write().path)
    name = new_id()
    for words in (("create", "--bundle", path, name), ("start", name), ("delete", "--force", name)):
        log = ocirun.file("log")  # a container would hold a pipe open
        with log.open("wb") as errors:
            done = subprocess.run(
                (sys.executable, "-c", COUNTING, "--root", str(ocirun.root), *ocirun.flags, *words),
                cwd=REPOSITORY, check=False, timeout=60, env=ocirun.environment, stdin=subprocess.DEVNULL,
                stdout=errors, stderr=errors,
            )  # fmt: skip
        assert done.returncode == 0, log.read_text()
        assert log.read_text().count("connection") == (0 if words[0] == "start" else 1)
    observe.eventually(lambda: not is_loaded(unit), "the scope is gone")


#: The command, to which systemd has not told of the end of a job when its patience ends.
LATE = """
from ocirun.cgroup.bus import Bus
from ocirun.cli.main import main
told = Bus.signal
def signal(self, what, until):
    if what == "the job of StartTransientUnit":
        raise self._silent(what)
    return (yield from told(self, what, until))
Bus.signal = signal
main()
"""


def test_nothing_is_left_where_systemd_does_not_answer_in_time(
    ocirun: Runtime, bundle: Bundle, unit: str
) -> None:
    """It makes the scope all the same; that a bus never answers is in test_mute_systemd.py."""
    words = (
        "--root",
        str(ocirun.root),
        *ocirun.flags,
        "create",
        "--bundle",
        str(bundle.sleeping().write().path),
    )
    done = subprocess.run(
        (sys.executable, "-c", LATE, *words, new_id()), cwd=REPOSITORY, check=False, capture_output=True,
        text=True, timeout=60, env=ocirun.environment,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "systemd does not answer within" in done.stderr
    assert not list(ocirun.root.iterdir())
    observe.eventually(lambda: not is_loaded(unit), "the scope is gone")


def test_without_a_bus_it_says_so_and_what_to_do(ocirun: Runtime, bundle: Bundle, unit: str) -> None:
    ocirun.environment["DBUS_SYSTEM_BUS_ADDRESS"] = "unix:path=/not/there"
    ocirun.attempt(bundle).refused("no D-Bus of the system", "/not/there", "--cgroup-manager cgroupfs")
    assert not is_loaded(unit)


def test_the_plan_names_the_scope_and_what_undoes_it(ocirun: Runtime, bundle: Bundle, unit: str) -> None:
    bundle.put(LIMITS, "linux", "resources")
    printed = ocirun.call("plan", "--bundle", str(bundle.write().path)).ok().stdout
    line = next(line for line in printed.splitlines() if "make_scope" in line)
    assert unit in line
    assert "undo stop_scope" in line
    assert not is_loaded(unit)


def test_a_container_is_deleted_without_being_told_the_manager(
    ocirun: Runtime, bundle: Bundle, unit: str
) -> None:
    container = ocirun.running(bundle.sleeping())
    ocirun.flags = ()
    assert '"status": "running"' in ocirun.call("state", container.id).ok().stdout
    container.delete("--force").ok()
    observe.eventually(lambda: not is_loaded(unit), "the scope is gone")


@pytest.mark.parametrize("socket", ["dbus/system_bus_socket", "systemd/private"])
def test_the_shim_has_systemd_make_it(served: Serving, socket: str) -> None:
    """SystemdCgroup of containerd, and of all who configure it; by the bus, or without one."""
    task = served.task()
    unit = scoped(task.bundle, new_id())
    task.bundle.write()
    own = Path("/run", socket)  # the /run of the shim is its own
    own.parent.mkdir()
    own.symlink_to(f"/proc/1/root/run/{socket}")
    request = task.shim().request()
    request.options.type_url = "containerd.runc.v1.Options"
    request.options.value = Options(systemd_cgroup=True).SerializeToString()
    pid = task.call("Create", request, pb.CreateTaskResponse).pid
    assert task.start() == pid
    assert place(pid) == f"/system.slice/{unit}"
    task.end()
    observe.eventually(lambda: not is_loaded(unit), "the scope is gone")


# -- the manager of a user ---------------------------------------------------------------------------------

#: Makes a scope of a process of its own by the driver, as whoever runs it, and tells what the kernel says.
BY_A_USER = """
import subprocess
import sys
from ocirun.cgroup.systemd import check_place, manager
from ocirun.waiting import drive
child = subprocess.Popen(["sleep", "1000"])
found = drive(manager())
words = ["Description", "'mine'", "Slice", "'user.slice'", "Delegate", "true", "MemoryMax", "uint64 67108864"]
drive(found.start_scope("t-user.scope", words, child.pid))
place = f"{found.root}/user.slice/t-user.scope"
check_place(child.pid, place)
print(found.user, found.root, open(f"/sys/fs/cgroup{place}/memory.max").read())
child.kill()
child.wait()
drive(found.stop_scope("t-user.scope", "mine"))
"""


@pytest.fixture(scope="module")
def user() -> Iterator[pwd.struct_passwd]:
    """Somebody who is not root, with a manager of his own."""
    one = pwd.getpwnam("user")
    subprocess.run(("loginctl", "enable-linger", one.pw_name), check=True, timeout=60)
    # our mount namespace does not hear of the mounts of systemd any more
    bus = Path(f"/proc/1/root/run/user/{one.pw_uid}/bus")
    observe.eventually(bus.exists, "his manager runs", 60)
    yield one
    subprocess.run(("loginctl", "disable-linger", one.pw_name), check=True, timeout=60)
    observe.eventually(lambda: not bus.exists(), "his manager has ended", 60)


def _as(user: pwd.struct_passwd, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command as him, in the mount namespace of systemd."""
    enter = ("nsenter", "--mount=/proc/1/ns/mnt", "--", "setpriv", f"--reuid={user.pw_uid}")
    return subprocess.run(
        (*enter, f"--regid={user.pw_gid}", "--clear-groups", *words), capture_output=True, text=True,
        timeout=60, check=False, env={"PATH": os.environ["PATH"], **environment},
    )  # fmt: skip


def test_the_manager_of_a_user_makes_a_scope(user: pwd.struct_passwd) -> None:
    runtime = f"/run/user/{user.pw_uid}"
    done = _as(user, sys.executable, "-c", BY_A_USER, XDG_RUNTIME_DIR=runtime)
    assert done.returncode == 0, done.stderr
    root = f"/user.slice/user-{user.pw_uid}.slice/user@{user.pw_uid}.service"
    assert done.stdout.split() == ["True", root, f"{64 * MIB}"]
    assert not (CGROUP / root[1:] / "user.slice" / "t-user.scope").exists()


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "no address is known"),
        ({"XDG_RUNTIME_DIR": "/not/there"}, "/not/there/bus: No such file or directory"),
    ],
)
def test_a_user_without_a_bus_is_told_what_to_do(
    user: pwd.struct_passwd, bundle: Bundle, environment: dict[str, str], told: str
) -> None:
    words = (str(OCIRUN), "--root", "/tmp/none", "--systemd-cgroup", "create", "--bundle")  # noqa: S108
    done = _as(user, *words, str(bundle.write().path), "a", **environment)
    assert done.returncode == 1
    assert f"no D-Bus of the user's manager is there ({told}" in done.stderr
    assert "set XDG_RUNTIME_DIR" in done.stderr
    assert "loginctl enable-linger" in done.stderr
    assert not Path("/tmp/none/a").exists()  # noqa: S108
