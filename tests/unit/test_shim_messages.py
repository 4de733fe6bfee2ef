"""The messages are fresh, and are on the wire what containerd writes and reads."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.timestamp_pb2 import Timestamp
from ocirun_shim import times
from ocirun_shim.generate import TARGET, generated
from ocirun_shim.messages import (
    bootstrap_pb2,
    events_pb2,
    metrics_pb2,
    runc_options_pb2,
    runtime_options_pb2,
    task_pb2,
    ttrpc_pb2,
    types_pb2,
)

if TYPE_CHECKING:
    from google.protobuf.message import Message

#: As a Go program writes time.Time{}.
ZERO = b"\x08\x80\x92\xb8\xc3\x98\xfe\xff\xff\xff\x01"
LONG_AGO = Timestamp(seconds=-62135596800)

#: Messages and the bytes of them, recorded from containerd or written by hand.
WIRE: dict[str, tuple[Message, bytes]] = {
    "state of a running task": (
        task_pb2.StateResponse(
            id="a",
            bundle="/b",
            pid=300,
            status=types_pb2.RUNNING,
            stdin="i",
            stdout="o",
            stderr="e",
            terminal=True,
            exit_status=7,
            exited_at=LONG_AGO,
            exec_id="x",
        ),
        b"\x0a\x01a\x12\x02/b\x18\xac\x02\x20\x02\x2a\x01i\x32\x01o\x3a\x01e\x40\x01\x48\x07R\x0b"
        + ZERO
        + b"Z\x01x",
    ),
    "create": (
        task_pb2.CreateTaskRequest(
            id="a",
            bundle="b",
            rootfs=[types_pb2.Mount(type="t", source="s", target="g", options=["p", "q"])],
            terminal=True,
            stdin="i",
            stdout="o",
            stderr="e",
            checkpoint="c",
            parent_checkpoint="d",
            options=Any(type_url="u", value=b"v"),
        ),
        (
            b"\x0a\x01a\x12\x01b\x1a\x0f\x0a\x01t\x12\x01s\x1a\x01g\x22\x01p\x22\x01q\x20\x01\x2a\x01i\x32\x01o\x3a\x01e"
            b"\x42\x01c\x4a\x01d\x52\x06\x0a\x01u\x12\x01v"
        ),
    ),
    "pids, init without info": (
        ttrpc_pb2.Response(
            payload=task_pb2.PidsResponse(processes=[task_pb2.ProcessInfo(pid=172)]).SerializeToString()
        ),
        b"\x12\x05\x0a\x03\x08\xac\x01",
    ),
    "delete": (
        task_pb2.DeleteResponse(pid=5, exit_status=137, exited_at=Timestamp(seconds=1, nanos=2)),
        b"\x08\x05\x10\x89\x01\x1a\x04\x08\x01\x10\x02",
    ),
    "kill": (
        task_pb2.KillRequest(id="a", exec_id="b", signal=9, all=True),
        b"\x0a\x01a\x12\x01b\x18\x09\x20\x01",
    ),
    "exec": (
        task_pb2.ExecProcessRequest(
            id="a", exec_id="b", terminal=True, stdin="i", stdout="o", stderr="e", spec=Any(value=b"v")
        ),
        b"\x0a\x01a\x12\x01b\x18\x01\x22\x01i\x2a\x01o\x32\x01e\x3a\x03\x12\x01v",
    ),
    "resize": (
        task_pb2.ResizePtyRequest(id="a", exec_id="b", width=80, height=24),
        b"\x0a\x01a\x12\x01b\x18\x50\x20\x18",
    ),
    "update": (
        task_pb2.UpdateTaskRequest(id="a", resources=Any(value=b"v"), annotations={"k": "w"}),
        b"\x0a\x01a\x12\x03\x12\x01v\x1a\x06\x0a\x01k\x12\x01w",
    ),
    "wait": (task_pb2.WaitResponse(exit_status=1, exited_at=LONG_AGO), b"\x08\x01\x12\x0b" + ZERO),
    "connect": (
        task_pb2.ConnectResponse(shim_pid=1, task_pid=2, version="v"),
        b"\x08\x01\x10\x02\x1a\x01v",
    ),
    "shutdown": (task_pb2.ShutdownRequest(id="a", now=True), b"\x0a\x01a\x10\x01"),
    "exit": (
        events_pb2.TaskExit(container_id="c", id="x", pid=1, exit_status=2, exited_at=LONG_AGO),
        b"\x0a\x01c\x12\x01x\x18\x01\x20\x02\x2a\x0b" + ZERO,
    ),
    "deleted": (
        events_pb2.TaskDelete(container_id="c", pid=1, exit_status=2, exited_at=LONG_AGO, id="x"),
        b"\x0a\x01c\x10\x01\x18\x02\x22\x0b" + ZERO + b"\x2a\x01x",
    ),
    "created": (
        events_pb2.TaskCreate(
            container_id="c",
            bundle="b",
            rootfs=[types_pb2.Mount(type="t")],
            io=events_pb2.TaskIO(stdin="i", stdout="o", stderr="e", terminal=True),
            checkpoint="p",
            pid=3,
        ),
        b"\x0a\x01c\x12\x01b\x1a\x03\x0a\x01t\x22\x0b\x0a\x01i\x12\x01o\x1a\x01e\x20\x01\x2a\x01p\x30\x03",
    ),
    "forward": (
        events_pb2.ForwardRequest(
            envelope=types_pb2.Envelope(
                timestamp=Timestamp(seconds=1), namespace="n", topic="/t", event=Any(type_url="u")
            )
        ),
        b"\x0a\x10\x0a\x02\x08\x01\x12\x01n\x1a\x02/t\x22\x03\x0a\x01u",
    ),
    "options of runc": (
        runc_options_pb2.Options(
            no_pivot_root=True,
            no_new_keyring=True,
            shim_cgroup="s",
            io_uid=1,
            io_gid=2,
            binary_name="b",
            root="r",
            systemd_cgroup=True,
            criu_image_path="i",
            criu_work_path="w",
            task_api_address="a",
            task_api_version=3,
        ),
        b"\x08\x01\x10\x01\x1a\x01s\x20\x01\x28\x02\x32\x01b\x3a\x01r\x48\x01\x52\x01i\x5a\x01w\x62\x01a\x68\x03",
    ),
    "options of docker, on the standard input of start": (
        Any(
            type_url="runtimeoptions.v1.Options",
            value=runtime_options_pb2.Options(
                type_url="x", config_path="/p", config_body=b"y = 1\n234567"
            ).SerializeToString(),
        ),
        b"\x0a\x19runtimeoptions.v1.Options\x12\x15\x0a\x01x\x12\x02/p\x1a\x0cy = 1\n234567",
    ),
    "bootstrap": (
        bootstrap_pb2.BootstrapParams(
            instance_id="i",
            namespace="n",
            log_level=bootstrap_pb2.DEBUG,
            containerd_version="v",
            containerd_ttrpc_address="t",
            containerd_grpc_address="g",
            containerd_binary="b",
            extensions=[bootstrap_pb2.Extension(value=Any(type_url="u"))],
            socket_dir="",
        ),
        (
            b"\x0a\x01i\x12\x01n\x18\xfc\xff\xff\xff\xff\xff\xff\xff\xff\x01\x22\x01v\x2a\x01t\x32\x01g\x3a\x01b"
            b"\x42\x05\x0a\x03\x0a\x01u\x4a\x00"
        ),
    ),
    "answer to bootstrap": (
        bootstrap_pb2.BootstrapResult(version=3, address="a", protocol="ttrpc", metadata={"k": "w"}),
        b"\x08\x03\x12\x01a\x1a\x05ttrpc\x2a\x06\x0a\x01k\x12\x01w",
    ),
    "info": (
        types_pb2.RuntimeInfo(
            name="n",
            version=types_pb2.RuntimeVersion(version="v", revision="r"),
            options=Any(type_url="o"),
            features=Any(type_url="f"),
            annotations={"k": "w"},
        ),
        b"\x0a\x01n\x12\x06\x0a\x01v\x12\x01r\x1a\x03\x0a\x01o\x22\x03\x0a\x01f\x2a\x06\x0a\x01k\x12\x01w",
    ),
    "metrics with empty sections": (
        metrics_pb2.Metrics(
            pids=metrics_pb2.PidsStat(), memory=metrics_pb2.MemoryStat(usage=(1 << 64) - 1, psi={})
        ),
        b"\x0a\x00\x22\x0f\x80\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\xb2\x02\x00",
    ),
    "request": (
        ttrpc_pb2.Request(
            service="s",
            method="m",
            payload=b"p",
            timeout_nano=2,
            metadata=[ttrpc_pb2.KeyValue(key="k", value="v")],
        ),
        b"\x0a\x01s\x12\x01m\x1a\x01p\x20\x02\x2a\x06\x0a\x01k\x12\x01v",
    ),
    "status": (
        ttrpc_pb2.Response(status=ttrpc_pb2.Status(code=5, message="m")),
        b"\x0a\x05\x08\x05\x12\x01m",
    ),
}

FRESH = generated()

#: What is told apart by its name in an Any.
NAMES: dict[str, type[Message]] = {
    "containerd.runc.v1.Options": runc_options_pb2.Options,
    "containerd.runc.v1.CheckpointOptions": runc_options_pb2.CheckpointOptions,
    "containerd.runc.v1.ProcessDetails": runc_options_pb2.ProcessDetails,
    "runtimeoptions.v1.Options": runtime_options_pb2.Options,
    "io.containerd.cgroups.v2.Metrics": metrics_pb2.Metrics,
    "containerd.events.TaskCreate": events_pb2.TaskCreate,
    "containerd.events.TaskStart": events_pb2.TaskStart,
    "containerd.events.TaskOOM": events_pb2.TaskOOM,
    "containerd.events.TaskExit": events_pb2.TaskExit,
    "containerd.events.TaskDelete": events_pb2.TaskDelete,
    "containerd.events.TaskExecAdded": events_pb2.TaskExecAdded,
    "containerd.events.TaskExecStarted": events_pb2.TaskExecStarted,
    "containerd.events.TaskPaused": events_pb2.TaskPaused,
    "containerd.events.TaskResumed": events_pb2.TaskResumed,
    "containerd.events.TaskCheckpointed": events_pb2.TaskCheckpointed,
    "containerd.types.RuntimeInfo": types_pb2.RuntimeInfo,
}

#: The sections of Metrics: the numbers of their fields, in the order of their names here.
SECTIONS = {
    "pids": (1, "current limit", "1 2"),
    "cpu": (
        2,
        "usage_usec user_usec system_usec nr_periods nr_throttled throttled_usec psi nr_bursts burst_usec",
        "1 2 3 4 5 6 7 8 9",
    ),
    "memory": (
        4,
        "anon slab shmem inactive_file unevictable pgmajfault usage usage_limit swap_usage max_usage",
        "1 4 6 13 15 19 32 33 34 36",
    ),
    "rdma": (5, "current limit", "1 2"),
    "io": (6, "usage psi", "1 2"),
    "hugetlb": (7, "current max pagesize failcnt", "1 2 3 4"),
    "memory_events": (8, "low high max oom oom_kill oom_group_kill", "1 2 3 4 5 6"),
    "network": (9, "name rx_bytes rx_dropped tx_bytes tx_dropped", "1 2 5 6 9"),
}

LEAN = """
import sys
from ocirun_shim import lean
assert lean.spare()
from google.protobuf.empty_pb2 import Empty
from ocirun_shim import times
from ocirun_shim.messages import metrics_pb2, task_pb2, ttrpc_pb2
from ocirun_shim.ttrpc import client, server
state = task_pb2.StateResponse(id="a", exited_at=times.NOT_YET)
assert task_pb2.StateResponse.FromString(state.SerializeToString()) == state
assert "exited_at" in str(state) and Empty().SerializeToString() == b""
heavy = {"pickle", "datetime", "google.protobuf.text_format"} & sys.modules.keys()
assert not heavy, heavy
assert not lean.spare(), "it is done once"
"""


@pytest.mark.parametrize("name", sorted({*FRESH, *os.listdir(TARGET)} - {"__init__.py", "__pycache__"}))
def test_the_committed_file_is_what_protoc_writes(name: str) -> None:
    with open(os.path.join(TARGET, name), encoding="utf-8") as file:
        assert file.read() == FRESH.get(name), "run python -m ocirun_shim.generate"


@pytest.mark.parametrize("name", WIRE)
def test_on_the_wire(name: str) -> None:
    message, wire = WIRE[name]
    assert message.SerializeToString(deterministic=True) == wire
    assert type(message).FromString(wire) == message


@pytest.mark.parametrize("name", NAMES)
def test_the_name_in_an_any(name: str) -> None:
    assert NAMES[name].DESCRIPTOR.full_name == name


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_of_the_metrics(name: str) -> None:
    number, fields, numbers = SECTIONS[name]
    section = metrics_pb2.Metrics.DESCRIPTOR.fields_by_name[name]
    assert section.number == number
    assert section.message_type
    found = [section.message_type.fields_by_name[field].number for field in fields.split()]
    assert found == [int(one) for one in numbers.split()]


def test_every_number_of_the_memory_is_there_once() -> None:
    assert [field.number for field in metrics_pb2.MemoryStat.DESCRIPTOR.fields] == list(range(1, 43))


def test_an_unknown_field_of_a_newer_containerd_is_passed_over() -> None:
    assert task_pb2.StateRequest.FromString(b"\x0a\x01a\xfa\x7f\x03new").id == "a"


@pytest.mark.parametrize("when", [0, 1, -1, 1_700_000_000_123_456_789, -62135596800 * 10**9])
def test_a_time_goes_there_and_back(when: int) -> None:
    stamp = times.to_timestamp(when)
    assert 0 <= stamp.nanos < 10**9
    assert times.from_timestamp(stamp) == when


def test_not_yet_is_the_zero_of_go() -> None:
    assert times.NOT_YET.SerializeToString() == ZERO


def test_now_is_between_before_and_after() -> None:
    first, second = times.now(), times.now()
    assert 0 < times.from_timestamp(first) <= times.from_timestamp(second)


def test_protobuf_works_without_what_the_zygote_leaves_out() -> None:
    done = subprocess.run([sys.executable, "-c", LEAN], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
