"""When and where the program runs: scheduler, I/O priority, CPUs, memory nodes, execution domain."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import execs, kernel

if TYPE_CHECKING:
    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Runtime

MILLISECOND = 1_000_000
#: A scheduler of the config -> policy, flags, nice, priority, runtime, deadline, period of sched_getattr(2).
SCHEDULERS: dict[str, tuple[dict[str, Json], tuple[int, ...]]] = {
    "other": ({"policy": "SCHED_OTHER", "nice": 7}, (0, 0, 7, 0, 0, 0, 0)),
    "batch": ({"policy": "SCHED_BATCH", "nice": -4}, (3, 0, -4, 0, 0, 0, 0)),
    "idle": ({"policy": "SCHED_IDLE"}, (5, 0, 0, 0, 0, 0, 0)),
    "fifo": ({"policy": "SCHED_FIFO", "priority": 11}, (1, 0, 0, 11, 0, 0, 0)),
    "rr-reset": (
        {"policy": "SCHED_RR", "priority": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
        (2, 1, 0, 3, 0, 0, 0),
    ),
    "deadline": (
        {
            "policy": "SCHED_DEADLINE",
            "runtime": MILLISECOND,
            "deadline": 20 * MILLISECOND,
            "period": 40 * MILLISECOND,
            "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM"],
        },
        (6, 3, 0, 0, MILLISECOND, 20 * MILLISECOND, 40 * MILLISECOND),
    ),
}
#: A class of the config -> that of ioprio_get(2).
CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
#: A memory policy of the config -> what /proc/PID/numa_maps says of memory without one of its own.
POLICIES: dict[str, tuple[dict[str, Json], str]] = {
    "bind": ({"mode": "MPOL_BIND", "nodes": "0"}, "bind:0"),
    "static": ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}, "bind=static:0"),
    "relative": (
        {"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]},
        "interleave=relative:0",
    ),
    "preferred": ({"mode": "MPOL_PREFERRED", "nodes": "0"}, "prefer:0"),
    "preferred-many": ({"mode": "MPOL_PREFERRED_MANY", "nodes": "0"}, "prefer (many):0"),
    "local": ({"mode": "MPOL_LOCAL"}, "local"),
    "default": ({"mode": "MPOL_DEFAULT", "nodes": ""}, "default"),
}
OWN = sorted(os.sched_getaffinity(0))


def cpus(pid: int) -> list[int]:
    return sorted(os.sched_getaffinity(pid))


def memory_policy(pid: int) -> str:
    """What numa_maps says of the first mapping (numa(7)): after the address, before the file."""
    line = Path(f"/proc/{pid}/numa_maps").read_text().splitlines()[0]
    return line.partition(" ")[2].partition(" file=")[0].partition(" anon=")[0]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_scheduler_is_the_configured_one(runtime: Runtime, bundle: Bundle, name: str) -> None:
    asked, seen = SCHEDULERS[name]
    container = runtime.running(bundle.put(asked, "process", "scheduler").sleeping())
    found = kernel.scheduling(container.pid)
    # since Linux 6.12 the runtime of other policies is the slice of time that the kernel gives at once
    assert found == seen if name == "deadline" else found[:4] == seen[:4]


def test_a_scheduler_that_the_kernel_refuses_is_an_error_with_its_place(
    ocirun: Runtime, bundle: Bundle
) -> None:
    # a user namespace is no place to get the rights of the host
    asked: Json = {"policy": "SCHED_FIFO", "priority": 1}
    bundle.mapped(100000, 65536).put(asked, "process", "scheduler")
    ocirun.attempt(bundle).refused("sched_setattr", " /process/scheduler]", "CAP_SYS_NICE")


@pytest.mark.parametrize("kind", CLASSES)
def test_the_io_priority_is_the_configured_one(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    bundle.put({"class": kind, "priority": 5}, "process", "ioPriority")
    assert kernel.io_priority(runtime.running(bundle.sleeping()).pid) == (CLASSES[kind], 5)


def test_an_io_priority_without_a_number_is_the_first_of_its_class(runtime: Runtime, bundle: Bundle) -> None:
    bundle.put({"class": "IOPRIO_CLASS_BE"}, "process", "ioPriority")
    assert kernel.io_priority(runtime.running(bundle.sleeping()).pid) == (CLASSES["IOPRIO_CLASS_BE"], 0)


@pytest.mark.parametrize(("domain", "machine"), [("LINUX", "x86_64"), ("LINUX32", "i686")])
def test_the_personality_is_the_configured_one(
    runtime: Runtime, bundle: Bundle, domain: str, machine: str
) -> None:
    bundle.put({"domain": domain}, "linux", "personality")
    container = runtime.running(bundle.sleeping())
    told = Path(f"/proc/{container.pid}/personality").read_text()
    assert int(told, 16) == {"LINUX": 0, "LINUX32": 8}[domain]
    assert execs.execute(container, "uname", "-m").ok().stdout.strip() == (
        machine if os.uname().machine == "x86_64" else {"LINUX32": "armv8l"}.get(domain, "aarch64")
    )


@pytest.mark.parametrize("name", POLICIES)
def test_the_memory_policy_is_the_configured_one(runtime: Runtime, bundle: Bundle, name: str) -> None:
    asked, seen = POLICIES[name]
    bundle.put(asked, "linux", "memoryPolicy")
    assert memory_policy(runtime.running(bundle.sleeping()).pid) == seen


def test_a_memory_node_that_is_not_there_is_an_error_with_its_place(ocirun: Runtime, bundle: Bundle) -> None:
    bundle.put({"mode": "MPOL_BIND", "nodes": "1000"}, "linux", "memoryPolicy")
    ocirun.attempt(bundle).refused("set_mempolicy", " /linux/memoryPolicy]", "node")


@pytest.mark.skipif(len(OWN) < 2, reason="one CPU is no choice")
def test_the_cpus_of_the_caller_are_not_those_of_the_container(runtime: Runtime, bundle: Bundle) -> None:
    runtime.prefix = ("taskset", "-c", str(OWN[1]))
    container = runtime.running(bundle.sleeping())
    assert cpus(container.pid) == OWN
    assert cpus(execs.sleeping(container)) == OWN


@pytest.mark.skipif(len(OWN) < 2, reason="one CPU is no choice")
@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        ({"initial": str(OWN[0])}, OWN[:1]),
        ({"initial": str(OWN[0]), "final": str(OWN[-1])}, OWN[-1:]),
        ({"final": f"{OWN[0]},{OWN[-1]}"}, [OWN[0], OWN[-1]]),
        ({"final": str(OWN[-1])}, OWN[-1:]),
    ],
)
def test_an_exec_has_the_cpus_of_its_process(
    runtime: Runtime, bundle: Bundle, asked: Json, seen: list[int]
) -> None:
    container = runtime.running(bundle.sleeping())
    assert cpus(execs.by_file(container, execCPUAffinity=asked)) == seen


@pytest.mark.skipif(len(OWN) < 2, reason="one CPU is no choice")
def test_an_exec_has_the_cpus_that_the_config_says_and_init_has_not(runtime: Runtime, bundle: Bundle) -> None:
    last = str(OWN[-1])
    bundle.put({"initial": last, "final": last}, "process", "execCPUAffinity")
    container = runtime.running(bundle.sleeping())
    assert cpus(container.pid) == OWN
    assert cpus(execs.by_file(container)) == OWN[-1:]


def test_cpus_that_are_not_there_are_an_error_with_their_place(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(bundle.sleeping())
    path = execs.process(container, "true", execCPUAffinity={"initial": "8191"})
    result = execs.execute(container, flags=("--process", str(path)))
    assert result.code in execs.FAILURES
    assert "sched_setaffinity" in result.stderr
    assert "/execCPUAffinity/initial" in result.stderr


def test_cpus_of_the_config_that_are_not_there_are_an_error_of_exec_with_their_place(
    ocirun: Runtime, bundle: Bundle
) -> None:
    container = ocirun.running(bundle.put({"final": "8191"}, "process", "execCPUAffinity").sleeping())
    result = execs.execute(container, "true")
    assert result.code in execs.FAILURES
    assert "sched_setaffinity" in result.stderr
    assert "[config.json#/process/execCPUAffinity/final]" in result.stderr


# crun 1.28 takes notice of them at times
@pytest.mark.parametrize("runtime", ["ocirun", "runc"], indirect=True)
def test_an_exec_has_the_scheduler_and_the_io_priority_of_its_process(
    runtime: Runtime, bundle: Bundle
) -> None:
    container = runtime.running(bundle.sleeping())
    io: Json = {"class": "IOPRIO_CLASS_BE", "priority": 2}
    pid = execs.by_file(container, scheduler={"policy": "SCHED_BATCH", "nice": 2}, ioPriority=io)
    assert kernel.scheduling(pid)[:3] == (3, 0, 2)
    assert kernel.io_priority(pid) == (2, 2)
    assert kernel.scheduling(container.pid)[0] == 0


def test_an_exec_that_does_not_say_has_those_of_init(runtime: Runtime, bundle: Bundle) -> None:
    bundle.put({"policy": "SCHED_BATCH"}, "process", "scheduler")
    bundle.put({"class": "IOPRIO_CLASS_BE", "priority": 1}, "process", "ioPriority")
    pid = execs.by_file(runtime.running(bundle.sleeping()))
    assert kernel.scheduling(pid)[0] == 3
    assert kernel.io_priority(pid) == (2, 1)


def test_an_exec_has_the_memory_policy_of_the_container(runtime: Runtime, bundle: Bundle) -> None:
    bundle.put({"mode": "MPOL_BIND", "nodes": "0"}, "linux", "memoryPolicy")
    assert memory_policy(execs.by_file(runtime.running(bundle.sleeping()))) == "bind:0"


@pytest.mark.skipif(Path("/sys/fs/selinux/enforce").exists(), reason="this host has SELinux")
def test_a_label_without_selinux_is_told_and_does_no_harm(runtime: Runtime, bundle: Bundle) -> None:
    bundle.put("system_u:system_r:container_t:s0", "process", "selinuxLabel")
    result = runtime.run(bundle.args("echo", "it runs")).ok()
    assert result.stdout == "it runs\n"
    if runtime.name == "ocirun":
        assert ' /process/selinuxLabel: "system_u' in result.stderr
        assert "warning: " in result.stderr
        assert "has no effect: this host has no SELinux" in result.stderr
