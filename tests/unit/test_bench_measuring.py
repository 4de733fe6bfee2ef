"""What `make bench` measures with: the spawner, the marks of a trace, the printed plan, the bundles."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from conformance.bench import same_plan, traces
from conformance.bench.bundles import BUSYBOX, DOCKER, KINDS, Kind, write_bundle
from conformance.bench.spawn import CommandFailedError, Spawner
from conformance.default_profile import converted
from ocirun.executor import wire
from ocirun.journal import Trace
from ocirun.plan.compile import compile_plan
from ocirun.plan.model import Plan
from ocirun.plan.show import as_json
from ocirun.plan.steps import VERBS
from tests.golden import cases

#: perf_event_open(2): PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS, which every machine has.
FAULTS = (1, 2)
BUSY = """
from time import process_time
until = process_time() + 0.05
while process_time() < until:
    pass
"""


@pytest.fixture(scope="module")
def spawner(tmp_path_factory: pytest.TempPathFactory) -> Spawner:
    return Spawner(tmp_path_factory.mktemp("spawn"), FAULTS)


# -- the spawner


def test_a_peak_is_the_commands_and_not_ours(spawner: Spawner) -> None:
    ours = bytearray(64 << 20)
    ours[:] = b"x" * len(ours)
    assert 0 < spawner.run("/bin/busybox", "true").peak < 8 << 10
    big = spawner.run(sys.executable, "-I", "-S", "-c", "b = b'x' * (64 << 20)").peak
    assert big > 64 << 10


def test_time_and_processor_are_told_apart(spawner: Spawner) -> None:
    asleep = spawner.run("/bin/busybox", "sleep", "0.2")
    assert asleep.milliseconds >= 200
    assert asleep.processor < asleep.milliseconds / 2
    assert spawner.run(sys.executable, "-I", "-S", "-c", BUSY).processor >= 45


def test_the_counter_counts_the_descendants_too(spawner: Spawner) -> None:
    alone = spawner.run("/bin/busybox", "true")
    two = spawner.run("/bin/busybox", "sh", "-c", "busybox true; busybox true")
    assert 0 < alone.counted <= alone.faults
    assert two.counted > alone.counted


def test_a_counter_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert Spawner(tmp_path, (4095, 0)).run("/bin/busybox", "true").counted == -1


def test_a_command_that_fails_is_told_with_what_it_said(spawner: Spawner) -> None:
    with pytest.raises(CommandFailedError, match="no such luck"):
        spawner.run("/bin/busybox", "sh", "-c", "echo no such luck >&2; exit 3")
    with pytest.raises(CommandFailedError, match="it says nothing"):
        spawner.run("/nowhere")


# -- traces


def test_a_trace_is_cut_at_its_marks() -> None:
    lines = [
        (7, 0.000, 'execve("ocirun", …'),
        (7, 0.001, 'execve("python3", …'),
        (7, 0.004, 'openat(AT_FDCWD, "/b/config.json", …'),
        (7, 0.006, 'mkdir("/run/ocirun/c", …'),
        (7, 0.007, "clone3(…"),
        (8, 0.008, "clone3(…"),
        (8, 0.009, "exit_group(0"),
        (9, 0.010, 'execve("/bin/true", …'),
        (9, 0.012, "exit_group(0"),
        (7, 0.015, "exit_group(0"),
        (7, 0.016, "+++ exited with 0 +++"),
    ]
    phases = traces.cut(lines)
    assert list(phases) == [phase for phase, _, _ in traces.MARKS]
    assert [round(took) for took in phases.values()] == [1, 3, 2, 1, 1, 2, 2, 3, 1]


def test_a_phase_without_its_mark_is_a_part_of_the_next() -> None:
    lines = [
        (7, 0.0, 'execve("ocirun", …'),
        (7, 0.004, 'openat(AT_FDCWD, "/s/config.json", …'),
        (7, 0.007, "vfork("),
    ]
    phases = {phase: round(took) for phase, took in traces.cut(lines).items()}
    assert phases == {"launcher, interpreter, imports": 4, "reading, planning, start of the helper": 3}


# -- the plan that was printed


@pytest.mark.parametrize("name", cases.NAMES)
def test_a_printed_plan_is_read_as_it_was(name: str) -> None:
    plan = cases.planned(name)
    printed: dict[str, Any] = json.loads(json.dumps(as_json(plan)))
    assert same_plan.read(printed).steps == plan.steps


def test_the_journal_has_to_name_each_step_with_an_inverse() -> None:
    undos = [undo for _, undo, _ in same_plan.leaving(cases.planned("default"))]
    assert "remove_cgroup" in undos


def test_another_plan_than_the_printed_one_is_noticed() -> None:
    plan = cases.planned("default")
    sent = [b"something else", wire.encode(compile_plan(plan))]
    traces = [
        Trace(number, VERBS[step.verb][3], step.args)
        for number, step in enumerate(plan.steps, 1)
        if VERBS[step.verb][3]
    ]
    assert same_plan.differing(plan, sent, traces) == 0
    assert same_plan.differing(plan, sent[:1], traces) > 30
    assert same_plan.differing(plan, sent, traces[1:]) == 1
    assert same_plan.differing(plan, sent, [*traces, traces[0]]) == 1
    fewer = Plan(plan.id, [step for step in plan.steps if step.verb != "mask_path"])
    assert same_plan.differing(fewer, sent, traces) > 30


def test_what_was_written_is_read_out_of_a_trace() -> None:
    calls = [r'write(5, "\x4f\x43\x50\x31\x00", 5) = 5', r'write(1, "", 0) = 0', "exit_group(0)"]
    assert same_plan.written(calls) == [b"OCP1\0"]


# -- the bundles


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_bundle_is_one_that_we_validate(kind: Kind, tmp_path: Path) -> None:
    from ocirun import config

    write_bundle(tmp_path / "b", kind, tmp_path / "rootfs", "/bench/c", ("/bin/true",), seccomp=False)
    document = config.load(str(tmp_path / "b/config.json"))
    assert document.config.get("root", {}).get("path") == str(tmp_path / "rootfs")
    assert "seccomp" not in document.config.get("linux", {})


def test_the_bundle_of_dockers_size_has_its_mounts_and_paths(tmp_path: Path) -> None:
    configs: dict[str, Any] = {}
    for kind in (BUSYBOX, DOCKER):
        write_bundle(tmp_path / kind.name, kind, tmp_path / "rootfs", "/bench/c", ("sh",), seccomp=False)
        configs[kind.name] = json.loads((tmp_path / kind.name / "config.json").read_text())
    docker = configs[DOCKER.name]
    assert len(docker["mounts"]) + len(docker["linux"]["maskedPaths"]) >= 20
    assert len(docker["mounts"]) > len(configs[BUSYBOX.name]["mounts"])


# -- the default profile

PROFILE: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
    "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "comment": "", "includes": {}},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64"]}},
        {"names": ["s390"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}},
        {"names": ["notx86"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["amd64"]}},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "args": [{"index": 0}]},
    ],
}


def _names(capabilities: tuple[str, ...], machine: str = "x86_64", release: str = "6.1.0-1") -> list[str]:
    rules: Any = converted(PROFILE, capabilities, machine, release)["syscalls"]
    return [rule["names"][0] for rule in rules]


def test_a_profile_is_that_of_capabilities_machine_and_kernel() -> None:
    assert _names(()) == ["read", "clone", "arch_prctl", "ptrace", "clone3"]
    assert _names(("SYS_ADMIN",)) == ["read", "mount", "arch_prctl", "ptrace", "clone3"]
    assert _names((), machine="aarch64") == ["read", "clone", "notx86", "ptrace", "clone3"]
    assert _names((), release="4.4.0") == ["read", "clone", "arch_prctl", "clone3"]


def test_a_profile_has_only_what_the_specification_knows() -> None:
    found: Any = converted(PROFILE, (), "x86_64", "6.1")
    assert found["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert found["defaultErrnoRet"] == 38
    assert found["syscalls"][0] == {"names": ["read"], "action": "SCMP_ACT_ALLOW"}
    assert found["syscalls"][-1]["args"] == [{"index": 0}]
