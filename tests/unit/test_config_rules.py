"""Every rule across members, each broken once; and what looks like a fault and is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ocirun.config import read
from ocirun.errors import ConfigError

ALL = [{"type": kind} for kind in ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")]
MAP = {"containerID": 0, "hostID": 1000, "size": 10}
DEADLINE = {"policy": "SCHED_DEADLINE", "runtime": 1024, "deadline": 2048, "period": 4096}


def config(**members: Any) -> dict[str, Any]:  # noqa: ANN401
    """A sound config.json with everything in namespaces of its own, and ``members`` put in by their paths."""
    made: dict[str, Any] = {
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["sh"]},
        "linux": {"namespaces": list(ALL)},
    }
    for path, value in members.items():
        *above, last = path.split("__")
        inside = made
        for name in above:
            inside = inside.setdefault(name, {})
        inside[last] = value
    return made


def without(kind: str) -> list[dict[str, str]]:
    return [item for item in ALL if item["type"] != kind]


def bind(**members: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"destination": "/x", "source": "/y", "options": ["bind"], **members}


def faults(made: dict[str, Any]) -> list[tuple[str, str]]:
    try:
        read(json.dumps(made).encode())
    except ConfigError as error:
        told = error.faults
    else:
        return []
    assert all(fault.hint and fault.line for fault in told)
    return [(fault.pointer, fault.rule) for fault in told]


RECEIVER = "run.oci.seccomp.receiver"
SECCOMP = {"defaultAction": "SCMP_ACT_ALLOW"}
ERRNO = {"names": ["a"], "action": "SCMP_ACT_ERRNO"}
LIMIT = {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}

BROKEN: list[tuple[dict[str, Any], str, str]] = [
    (config(root__path="x" * 256), "/root/path", "part longer than 255 bytes"),
    (config(process__cwd="/a" * 2048), "/process/cwd", "longer than 4095 bytes"),
    (config(mounts=[{"destination": "/" + "é" * 128, "type": "proc"}]), "/mounts/0/destination", "255 bytes"),
    (config(mounts=[bind(source="/a" * 2048)]), "/mounts/0/source", "4095 bytes"),
    (config(linux__maskedPaths=["/" + "x" * 256]), "/linux/maskedPaths/0", "255 bytes"),
    (config(hooks={"poststop": [{"path": "/x", "args": [""]}]}), "/hooks/poststop/0/args/0", "not be empty"),
    (config(ociVersion="1.3"), "/ociVersion", "semantic version"),
    (config(ociVersion="1.03.0"), "/ociVersion", "semantic version"),
    (config(ociVersion="1.3.0-01"), "/ociVersion", "semantic version"),
    (config(ociVersion="1.3.0+"), "/ociVersion", "semantic version"),
    (config(ociVersion="2.0.0"), "/ociVersion", "major version 1"),
    (config(root__path=""), "/root/path", "empty"),
    (config(hostname="h", linux__namespaces=without("uts")), "/hostname", "uts namespace"),
    (config(domainname="h", linux__namespaces=without("uts")), "/domainname", "uts namespace"),
    (config(hostname="h" * 65), "/hostname", "64 bytes"),
    (config(hostname="é" * 33), "/hostname", "64 bytes"),
    (config(annotations={"": "x"}), "/annotations/", "name"),
    (config(hooks__poststop=[{"path": "bin/x"}]), "/hooks/poststop/0/path", "absolute"),
    (config(hooks__prestart=[{"path": "/x", "env": ["A"]}]), "/hooks/prestart/0/env/0", "NAME=value"),
    (config(mounts=[{"destination": "", "type": "tmpfs"}]), "/mounts/0/destination", "empty"),
    (config(mounts=[{"destination": "/x"}]), "/mounts/0/type", "required"),
    (config(mounts=[{"destination": "/x", "options": ["rbind"]}]), "/mounts/0/source", "bind"),
    (config(mounts=[bind(uidMappings=[MAP])]), "/mounts/0/gidMappings", "beside uidMappings"),
    (config(mounts=[bind(gidMappings=[MAP])]), "/mounts/0/uidMappings", "beside gidMappings"),
    (
        config(mounts=[bind(options=["bind", "idmap"])], linux__namespaces=without("user")),
        "/mounts/0/options/1",
        "id mappings",
    ),
    (config(process__args=[]), "/process/args", "name a program"),
    (config(process={"cwd": "/"}), "/process/args", "name a program"),
    (config(process__args=[""]), "/process/args/0", "name a program"),
    (config(process__cwd="tmp"), "/process/cwd", "absolute"),
    (config(process__env=["A=1", "B"]), "/process/env/1", "NAME=value"),
    (config(process__env=["=1"]), "/process/env/0", "NAME=value"),
    (config(process__user__uid=0xFFFFFFFF), "/process/user/uid", "reserved"),
    (config(process__user__gid=0xFFFFFFFF), "/process/user/gid", "reserved"),
    (config(process__user__additionalGids=[1, 0xFFFFFFFF]), "/process/user/additionalGids/1", "reserved"),
    (config(process__user__umask=512), "/process/user/umask", "511"),
    (
        config(process__terminal=True, process__consoleSize={"height": 65536, "width": 1}),
        "/process/consoleSize/height",
        "65535",
    ),
    (config(process__rlimits=[LIMIT, LIMIT]), "/process/rlimits/1/type", "twice"),
    (
        config(process__rlimits=[{**LIMIT, "type": "RLIMIT_FOO"}]),
        "/process/rlimits/0/type",
        "no limit of Linux",
    ),
    (config(process__rlimits=[{**LIMIT, "soft": 1}]), "/process/rlimits/0/soft", "above the hard limit"),
    (config(process__oomScoreAdj=1001), "/process/oomScoreAdj", "-1000 to 1000"),
    (
        config(process__scheduler={"policy": "SCHED_OTHER", "nice": 20}),
        "/process/scheduler/nice",
        "-20 to 19",
    ),
    (config(process__scheduler={"policy": "SCHED_FIFO"}), "/process/scheduler/priority", "1 to 99"),
    (
        config(process__scheduler={"policy": "SCHED_BATCH", "priority": 1}),
        "/process/scheduler/priority",
        "be 0",
    ),
    (config(process__scheduler={"policy": "SCHED_IDLE", "period": 1}), "/process/scheduler/period", "be 0"),
    (
        config(process__ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 8}),
        "/process/ioPriority/priority",
        "0 to 7",
    ),
    (config(process__execCPUAffinity__initial="3-1"), "/process/execCPUAffinity/initial", "list of CPUs"),
    (config(process__execCPUAffinity__final="1-"), "/process/execCPUAffinity/final", "list of CPUs"),
    (config(process__execCPUAffinity__final="8192"), "/process/execCPUAffinity/final", "below 8192"),
    (config(process__scheduler={**DEADLINE, "runtime": 1023}), "/process/scheduler/runtime", "at least 1024"),
    (
        config(process__scheduler={**DEADLINE, "deadline": 1025, "runtime": 1026}),
        "/process/scheduler/deadline",
        "below the runtime",
    ),
    (config(process__scheduler={**DEADLINE, "period": 2047}), "/process/scheduler/period", "be 0 or not"),
    (config(linux__namespaces=[*ALL, {"type": "pid"}]), "/linux/namespaces/8/type", "twice"),
    (config(linux__namespaces=[{"type": "pid", "path": ""}]), "/linux/namespaces/0/path", "absolute"),
    (
        config(linux__uidMappings=[MAP], linux__namespaces=without("user")),
        "/linux/uidMappings",
        "user namespace",
    ),
    (
        config(linux__gidMappings=[MAP], linux__namespaces=without("user")),
        "/linux/gidMappings",
        "user namespace",
    ),
    (config(linux__uidMappings=[{**MAP, "size": 0}]), "/linux/uidMappings/0/size", "at least 1"),
    (config(linux__uidMappings=[{**MAP, "hostID": 0xFFFFFFFF}]), "/linux/uidMappings/0/size", "last id"),
    (
        config(linux__uidMappings=[MAP, {**MAP, "hostID": 2000, "containerID": 9}]),
        "/linux/uidMappings/1/containerID",
        "overlaps",
    ),
    (
        config(linux__gidMappings=[MAP, {"containerID": 50, "hostID": 995, "size": 6}]),
        "/linux/gidMappings/0/hostID",
        "overlaps",
    ),
    (
        config(linux__uidMappings=[{"containerID": n, "hostID": n, "size": 1} for n in range(341)]),
        "/linux/uidMappings",
        "more than 340",
    ),
    (
        config(linux__timeOffsets__boottime={"secs": 1}, linux__namespaces=without("time")),
        "/linux/timeOffsets",
        "time namespace",
    ),
    (
        config(
            linux__timeOffsets__boottime={"secs": 1},
            linux__namespaces=[*without("time"), {"type": "time", "path": "/proc/1/ns/time"}],
        ),
        "/linux/timeOffsets",
        "joined",
    ),
    (
        config(linux__timeOffsets__monotonic={"nanosecs": 10**9}),
        "/linux/timeOffsets/monotonic/nanosecs",
        "less than a second",
    ),
    (config(linux__timeOffsets={"real/time": {"secs": 1}}), "/linux/timeOffsets/real~1time", "no clock"),
    (
        config(linux__netDevices={"eth0": {}}, linux__namespaces=without("network")),
        "/linux/netDevices",
        "network namespace",
    ),
    (config(linux__netDevices={"eth0": {"name": "a b"}}), "/linux/netDevices/eth0/name", "network device"),
    *(
        (config(linux__netDevices={"eth0": {"name": name}}), "/linux/netDevices/eth0/name", "network device")
        for name in ("a" * 16, "a/b", "..", "eth%d%d", "eth%s", "50%")
    ),
    (config(linux__netDevices={"e/h": {}}), "/linux/netDevices/e~1h", "network device"),
    (
        config(linux__netDevices={"a": {"name": "x"}, "b": {"name": "x"}}),
        "/linux/netDevices/b",
        "like another",
    ),
    (
        config(linux__devices=[{"type": "c", "path": "dev/x", "major": 1, "minor": 3}]),
        "/linux/devices/0/path",
        "absolute",
    ),
    (config(linux__devices=[{"type": "b", "path": "/x", "major": 1}]), "/linux/devices/0/minor", "required"),
    (
        config(linux__devices=[{"type": "u", "path": "/x", "major": -1, "minor": 1}]),
        "/linux/devices/0/major",
        "negative",
    ),
    (config(linux__maskedPaths=["/a", "b"]), "/linux/maskedPaths/1", "absolute"),
    (config(linux__readonlyPaths=["b"]), "/linux/readonlyPaths/0", "absolute"),
    (config(linux__maskedPaths=["/...", "/./.."]), "/linux/maskedPaths/1", "below the root"),
    (
        config(
            linux__devices=[
                {"type": "b", "path": "/dev/x", "major": 1, "minor": 1},
                {"type": "b", "path": "/dev//x", "major": 1, "minor": 2},
            ]
        ),
        "/linux/devices/1/path",
        "another device",
    ),
    (
        config(hostname="a", linux__sysctl={"kernel/hostname": "b"}),
        "/linux/sysctl/kernel~1hostname",
        "contradicts /hostname",
    ),
    (config(linux__cgroupsPath="/a/../../b"), "/linux/cgroupsPath", ".."),
    (config(linux__personality={}), "/linux/personality/domain", "required"),
    (
        config(linux__personality={"domain": "LINUX", "flags": ["x"]}),
        "/linux/personality/flags/0",
        "no known",
    ),
    (config(linux__memoryPolicy={"nodes": ""}), "/linux/memoryPolicy/mode", "required"),
    (config(linux__memoryPolicy={"mode": "MPOL_LOCAL", "nodes": "0"}), "/linux/memoryPolicy/nodes", "empty"),
    (config(linux__memoryPolicy={"mode": "MPOL_BIND"}), "/linux/memoryPolicy/nodes", "name nodes"),
    (
        config(linux__memoryPolicy={"mode": "MPOL_BIND", "nodes": "0-1024"}),
        "/linux/memoryPolicy/nodes",
        "below 1024",
    ),
    (
        config(linux__memoryPolicy={"mode": "MPOL_BIND", "nodes": "a"}),
        "/linux/memoryPolicy/nodes",
        "list of nodes",
    ),
    (
        config(linux__memoryPolicy={"mode": "MPOL_LOCAL", "flags": ["MPOL_F_NUMA_BALANCING"]}),
        "/linux/memoryPolicy/flags",
        "for other modes",
    ),
    (
        config(
            linux__memoryPolicy={
                "mode": "MPOL_BIND",
                "nodes": "0",
                "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"],
            }
        ),
        "/linux/memoryPolicy/flags",
        "exclude",
    ),
    (config(linux__intelRdt__closID="a/b"), "/linux/intelRdt/closID", "one directory"),
    (config(linux__intelRdt__closID=".."), "/linux/intelRdt/closID", "one directory"),
    (config(linux__intelRdt__schemata=["a", "b\nc"]), "/linux/intelRdt/schemata/1", "one line"),
    (config(linux__sysctl={"vm.swappiness": "1"}), "/linux/sysctl/vm.swappiness", "no namespace"),
    (config(linux__sysctl={"net..x": "1"}), "/linux/sysctl/net..x", "kernel parameter"),
    (config(linux__sysctl={"net/../vm/x": "1"}), "/linux/sysctl/net~1..~1vm~1x", "kernel parameter"),
    (config(linux__sysctl={"x": "1"}), "/linux/sysctl/x", "kernel parameter"),
    (
        config(linux__sysctl={"net.x": "1"}, linux__namespaces=without("network")),
        "/linux/sysctl/net.x",
        "network namespace",
    ),
    (
        config(linux__sysctl={"fs.mqueue.x": "1"}, linux__namespaces=without("ipc")),
        "/linux/sysctl/fs.mqueue.x",
        "ipc namespace",
    ),
    (
        config(linux__sysctl={"kernel/domainname": "1"}, linux__namespaces=without("uts")),
        "/linux/sysctl/kernel~1domainname",
        "uts namespace",
    ),
    (
        config(linux__resources__devices=[{"allow": True, "type": "p"}]),
        "/linux/resources/devices/0/type",
        '"a"',
    ),
    (
        config(linux__resources__devices=[{"allow": True, "access": "rx"}]),
        "/linux/resources/devices/0/access",
        "r, w and m",
    ),
    (
        config(linux__resources__devices=[{"allow": True, "major": -2}]),
        "/linux/resources/devices/0/major",
        "negative",
    ),
    (config(linux__resources__memory__limit=-2), "/linux/resources/memory/limit", "bytes or -1"),
    (config(linux__resources__memory__swappiness=101), "/linux/resources/memory/swappiness", "0 to 100"),
    (config(linux__resources__memory__swap=5), "/linux/resources/memory/swap", "needs a memory limit"),
    (
        config(linux__resources__memory={"limit": 6, "swap": 5}),
        "/linux/resources/memory/swap",
        "below the memory limit 6",
    ),
    (config(linux__resources__cpu__cpus="0-"), "/linux/resources/cpu/cpus", "numbers and ranges"),
    (config(linux__resources__cpu__cpus="3-1"), "/linux/resources/cpu/cpus", "numbers and ranges"),
    (config(linux__resources__cpu__cpus="0,,1"), "/linux/resources/cpu/cpus", "numbers and ranges"),
    (config(linux__resources__cpu__cpus="0:1/2"), "/linux/resources/cpu/cpus", "numbers and ranges"),
    (config(linux__resources__cpu__mems="all"), "/linux/resources/cpu/mems", "numbers and ranges"),
    (
        config(linux__resources__cpu={"quota": 1, "burst": 2}),
        "/linux/resources/cpu/burst",
        "above the quota 1",
    ),
    (config(linux__resources__cpu__idle=2), "/linux/resources/cpu/idle", "0 or 1"),
    (config(linux__resources__blockIO__weight=9), "/linux/resources/blockIO/weight", "10 to 1000"),
    (
        config(linux__resources__blockIO__weightDevice=[{"major": 8, "minor": 0, "leafWeight": 1001}]),
        "/linux/resources/blockIO/weightDevice/0/leafWeight",
        "10 to 1000",
    ),
    (
        config(linux__resources__blockIO__weightDevice=[{"major": 8, "minor": 0}]),
        "/linux/resources/blockIO/weightDevice/0",
        "weight or leafWeight",
    ),
    (
        config(linux__resources__hugepageLimits=[{"pageSize": "2MB", "limit": n} for n in (1, 2)]),
        "/linux/resources/hugepageLimits/1/pageSize",
        "twice",
    ),
    (config(linux__resources__rdma={"mlx": {}}), "/linux/resources/rdma/mlx", "hcaHandles or hcaObjects"),
    (config(linux__resources__unified={"a/b": "1"}), "/linux/resources/unified/a~1b", "without a slash"),
    (config(linux__resources__unified={"..": "1"}), "/linux/resources/unified/..", "without a slash"),
    (
        config(linux__seccomp={**SECCOMP, "defaultErrnoRet": 1}),
        "/linux/seccomp/defaultErrnoRet",
        "cannot stand",
    ),
    (
        config(linux__seccomp={**SECCOMP, "syscalls": [{**ERRNO, "action": "SCMP_ACT_LOG", "errnoRet": 1}]}),
        "/linux/seccomp/syscalls/0/errnoRet",
        "cannot stand",
    ),
    (
        config(linux__seccomp={**SECCOMP, "syscalls": [{**ERRNO, "errnoRet": 4096}]}),
        "/linux/seccomp/syscalls/0/errnoRet",
        "4094",
    ),
    (
        config(
            linux__seccomp={
                **SECCOMP,
                "syscalls": [{**ERRNO, "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}],
            }
        ),
        "/linux/seccomp/syscalls/0/args/0/index",
        "0 to 5",
    ),
    (
        config(linux__seccomp={**SECCOMP, "listenerMetadata": "x"}),
        "/linux/seccomp/listenerMetadata",
        "without",
    ),
    (
        config(linux__seccomp={"defaultAction": "SCMP_ACT_NOTIFY"}),
        "/linux/seccomp/defaultAction",
        "listenerPath",
    ),
    (
        config(linux__seccomp={"defaultAction": "SCMP_ACT_NOTIFY"}, annotations={RECEIVER: ""}),
        "/linux/seccomp/defaultAction",
        "listenerPath",
    ),
    (
        config(linux__seccomp={**SECCOMP, "syscalls": [{"names": ["a"], "action": "SCMP_ACT_NOTIFY"}]}),
        "/linux/seccomp/syscalls/0/action",
        "listenerPath",
    ),
]


@pytest.mark.parametrize(("made", "pointer", "rule"), BROKEN, ids=[f"{p} {r}" for _, p, r in BROKEN])
def test_a_broken_rule_is_told_alone_at_its_pointer(made: dict[str, Any], pointer: str, rule: str) -> None:
    told = faults(made)
    assert [where for where, _ in told] == [pointer]
    assert rule in told[0][1]


def test_root_is_required() -> None:
    assert faults({"ociVersion": "1.0.0"}) == [("/root", "is required on Linux")]


SOUND: list[dict[str, Any]] = [
    config(),
    config(ociVersion="1.0.2-dev"),
    config(ociVersion="1.1.0+dev.0-1"),
    {"ociVersion": "1.0.0", "root": {"path": "rootfs"}},
    config(hostname="h" * 64, linux__namespaces=[{"type": "uts", "path": "/proc/1/ns/uts"}]),
    config(hostname="", linux__namespaces=[]),
    config(process__env=["A=", "A=b=c"]),
    config(process__consoleSize={"height": 65536, "width": 1}),
    config(process__terminal=False, process__consoleSize={"height": 65536, "width": 1}),
    config(process__scheduler={"policy": "SCHED_RR", "priority": 99}),
    config(process__scheduler=DEADLINE),
    config(process__rlimits=[{"type": "RLIMIT_NOFILE", "soft": 2**64 - 1, "hard": 2**64 - 1}]),
    config(process__execCPUAffinity={"initial": "", "final": "0-3, 7"}),
    config(mounts=[{"destination": "relative", "type": "tmpfs"}]),
    config(mounts=[{"destination": "/", "options": ["remount", "ro"]}]),
    config(mounts=[{"destination": "/x", "options": ["rshared"]}]),
    config(mounts=[bind(uidMappings=[MAP], gidMappings=[MAP])], linux__namespaces=[]),
    config(mounts=[bind(options=["rbind", "ridmap"])]),
    config(
        linux__uidMappings=[MAP, {**MAP, "containerID": 10, "hostID": 1010}],
        linux__namespaces=[{"type": "user", "path": "/x"}],
    ),
    config(linux__devices=[{"type": "p", "path": "/x"}]),
    config(linux__devices=[{"type": kind, "path": "/x", "major": 1, "minor": 1} for kind in "cu"]),
    config(hostname="a", domainname="", linux__sysctl={"kernel.hostname": "a", "kernel.domainname": "b"}),
    config(linux__netDevices={"a": {"name": "x%d"}, "b": {"name": "x%d"}}),
    config(
        linux__sysctl={"net.ipv4.conf.eth0/1.forwarding": "1", "net/ipv4/ip_forward": "1", "kernel.sem": "1"}
    ),
    config(linux__sysctl={"user.max_user_namespaces": "1", "kernel.hostname": "x"}),
    config(linux__cgroupsPath="system.slice:ocirun:id"),
    config(linux__memoryPolicy={"mode": "MPOL_PREFERRED", "nodes": ""}),
    config(linux__intelRdt={"closID": "/", "memBwSchema": "MB:0=20"}),
    config(linux__resources__memory={"limit": -1, "swap": -1}),
    config(linux__resources__memory={"limit": 5, "swap": 5}),
    config(linux__resources__cpu={"quota": -1, "burst": 5}),
    config(linux__resources__cpu={"cpus": "0-31:1/2,7", "mems": "0"}),
    config(linux__resources__cpu={"cpus": "", "mems": "0,1\n"}),
    config(linux__resources__blockIO__weight=0),
    config(linux__resources__pids__limit=0),
    config(linux__seccomp={"defaultAction": "SCMP_ACT_TRACE", "defaultErrnoRet": 65535}),
    config(linux__seccomp={**SECCOMP, "listenerPath": "/x", "listenerMetadata": "", "syscalls": [ERRNO]}),
    config(linux__seccomp={"defaultAction": "SCMP_ACT_NOTIFY"}, annotations={RECEIVER: "/run/agent"}),
    config(
        linux__seccomp={"defaultAction": "SCMP_ACT_NOTIFY"}, annotations={"run.oci.seccomp_bpf_data": "AA"}
    ),
]


@pytest.mark.parametrize("made", SOUND, ids=str)
def test_what_only_looks_like_a_fault_is_read(made: dict[str, Any]) -> None:
    assert faults(made) == []


def test_rules_and_schema_are_told_together_in_the_order_of_the_document() -> None:
    made = config(hostname="h", process__cwd="x", process__terminal="no", linux__namespaces=[], mounts=[{}])
    assert [pointer for pointer, _ in faults(made)] == [
        "/process/cwd",
        "/process/terminal",
        "/hostname",
        "/mounts/0/destination",
        "/mounts/0/type",
    ]


def test_a_faulty_list_of_namespaces_makes_no_faults_elsewhere() -> None:
    made = config(hostname="h", linux__sysctl={"net.x": "1"}, linux__namespaces=[{"type": "utz"}])
    assert [pointer for pointer, _ in faults(made)] == ["/linux/namespaces/0/type"]


def test_a_missing_policy_makes_no_faults_of_its_neighbours() -> None:
    made = config(process__scheduler={"period": 1, "priority": 5})
    assert faults(made) == [("/process/scheduler/policy", "is required")]


@pytest.mark.parametrize(
    ("made", "pointer"),
    [
        (config(process__rlimits=[{**LIMIT, "hard": -1}]), "/process/rlimits/0/hard"),
        (config(process__scheduler={**DEADLINE, "policy": "SCHED_ODD"}), "/process/scheduler/policy"),
        (config(process__scheduler={**DEADLINE, "deadline": 2**64}), "/process/scheduler/deadline"),
        (config(linux__resources__memory={"limit": 2**63, "swap": 5}), "/linux/resources/memory/limit"),
        (config(linux__uidMappings=[{**MAP, "hostID": 2**32}]), "/linux/uidMappings/0/hostID"),
        (config(linux__netDevices={"a~/b": 5, "c": {}}), "/linux/netDevices/a~0~1b"),
        (config(hostname="h", linux=["namespaces"]), "/linux"),
    ],
)
def test_what_the_schema_refuses_makes_no_faults_of_its_neighbours(
    made: dict[str, Any], pointer: str
) -> None:
    assert [where for where, _ in faults(made)] == [pointer]


def test_wrong_arguments_are_told_once() -> None:
    assert faults(config(process__args="sh")) == [("/process/args", "must be an array")]
    assert faults(config(process__args=5)) == [("/process/args", "must be an array")]
