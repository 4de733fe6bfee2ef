"""Calls of the Task service that cannot be done: each gets a clear status and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.protobuf.empty_pb2 import Empty
from ocirun_shim.messages import task_pb2 as pb
from ocirun_shim.messages.runc_options_pb2 import Options
from ocirun_shim.ttrpc import codes

from tests.host import observe, serving
from tests.host.serving import Serving, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message


RUNC_OPTIONS = "containerd.runc.v1.Options"
SPEC = b'{"args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0}}'


@pytest.fixture
def running(served: Serving) -> Iterator[Task]:
    """A container that runs, and still does after the test; then it can be ended."""
    one = served.running("pod")
    yield one
    assert one.running
    assert one.end() == 137


@pytest.fixture
def refused(running: Task, served: Serving) -> Iterator[Task]:
    """A container in the same shim which the test does not manage to create: nothing of it is left."""
    other = served.task("pod").shim()
    assert other.refused("State", pb.StateRequest(id=other.id))[0] == codes.NOT_FOUND
    before = serving.descriptors(running)
    yield other
    assert other.refused("State", pb.StateRequest(id=other.id))[0] == codes.NOT_FOUND
    assert not other.state_directory.exists()
    assert not [one for one in serving.of_worker(running, observe.mounts) if other.id in one.point]
    serving.no_more_descriptors(running, before)


# -- names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "/x", "a\0b", "x" * 5000])
def test_a_bad_id_is_refused_and_is_no_container(refused: Task, name: str) -> None:
    code, text = refused.refused("Create", pb.CreateTaskRequest(id=name, bundle=str(refused.bundle.path)))
    assert code in {codes.INVALID_ARGUMENT, codes.UNKNOWN}
    assert "id" in text or "name" in text
    for method, kind in (("State", pb.StateRequest), ("Delete", pb.DeleteRequest), ("Kill", pb.KillRequest)):
        assert refused.refused(method, kind(id=name))[0] == codes.NOT_FOUND


ABOUT_PROCESSES: dict[str, type[Message]] = {
    "State": pb.StateRequest, "Start": pb.StartRequest, "Kill": pb.KillRequest, "Wait": pb.WaitRequest,
    "Delete": pb.DeleteRequest, "CloseIO": pb.CloseIORequest, "ResizePty": pb.ResizePtyRequest,
}  # fmt: skip


@pytest.mark.parametrize("method", ABOUT_PROCESSES)
def test_what_is_not_there_is_not_found(running: Task, method: str) -> None:
    kind = ABOUT_PROCESSES[method]
    for request in (kind(id="nobody"), kind(id=running.id, exec_id="nobody")):
        code, text = running.refused(method, request)
        assert code == codes.NOT_FOUND
        assert "not found" in text


def test_pauses_and_updates_that_cannot_be(running: Task) -> None:
    kinds = {"Pause": pb.PauseRequest, "Resume": pb.ResumeRequest, "Update": pb.UpdateTaskRequest}
    for method, kind in kinds.items():
        assert running.refused(method, kind(id="nobody"))[0] == codes.NOT_FOUND
    assert "container not paused" in running.refused("Resume", pb.ResumeRequest(id=running.id))[1]
    request = pb.UpdateTaskRequest(id=running.id)
    bad = codes.INVALID_ARGUMENT
    for value, code in ((b"", bad), (b"[]", bad), (b'{"pids":3}', codes.UNKNOWN)):
        request.resources.value = value
        assert running.refused("Update", request)[0] == code
    running.call("Pause", pb.PauseRequest(id=running.id), Empty)
    assert running.refused("Pause", pb.PauseRequest(id=running.id))[0] == codes.NOT_FOUND
    running.call("Resume", pb.ResumeRequest(id=running.id), Empty)


def test_calls_at_the_wrong_time(running: Task) -> None:
    assert running.refused("Create", running.request())[0] == codes.ALREADY_EXISTS
    for method, kind in (("Start", pb.StartRequest), ("Delete", pb.DeleteRequest)):
        assert running.refused(method, kind(id=running.id))[0] == codes.FAILED_PRECONDITION
    running.call("Shutdown", pb.ShutdownRequest(id=running.id), Empty)  # others are left: it stays
    exec_request = pb.ExecProcessRequest(id=running.id, exec_id="e")
    exec_request.spec.value = SPEC
    running.call("Exec", exec_request, Empty)
    assert running.refused("Exec", exec_request)[0] == codes.ALREADY_EXISTS
    assert running.refused("Kill", pb.KillRequest(id=running.id, exec_id="e"))[0] == codes.FAILED_PRECONDITION
    running.call("Delete", pb.DeleteRequest(id=running.id, exec_id="e"), pb.DeleteResponse)


def test_an_exec_needs_a_name(running: Task) -> None:
    request = pb.ExecProcessRequest(id=running.id)
    request.spec.value = SPEC
    assert running.refused("Exec", request)[0] == codes.INVALID_ARGUMENT


@pytest.mark.parametrize("spec", [b"", b"{", b"[]", b"\xff", b'{"args": 3}'])
def test_an_exec_of_what_is_no_process(running: Task, spec: bytes) -> None:
    request = pb.ExecProcessRequest(id=running.id, exec_id="e")
    request.spec.value = spec
    code, text = running.refused("Exec", request)
    assert code == codes.INVALID_ARGUMENT
    assert text.startswith("process:1:")
    assert running.refused("State", pb.StateRequest(id=running.id, exec_id="e"))[0] == codes.NOT_FOUND


@pytest.mark.parametrize("number", [65, 99, 1 << 31, (1 << 32) - 1])
def test_a_signal_that_does_not_exist(running: Task, number: int) -> None:
    for every in (False, True):
        code, text = running.refused("Kill", pb.KillRequest(id=running.id, signal=number, all=every))
        assert code in {codes.INVALID_ARGUMENT, codes.UNKNOWN}
        assert "Invalid argument" in text or "signal" in text


# -- bundles -----------------------------------------------------------------------------------------------


def test_a_bundle_that_vanishes_before_create(refused: Task) -> None:
    request = refused.request()
    refused.bundle.path.rename(refused.bundle.path.parent / "elsewhere")
    try:
        code, text = refused.refused("Create", request)
    finally:
        (refused.bundle.path.parent / "elsewhere").rename(refused.bundle.path)
    assert code == codes.UNKNOWN
    assert text.startswith("OCI runtime create failed: ")
    assert f"{request.bundle}/config.json" in text


@pytest.mark.parametrize(
    "path",
    ["", ".", "/dev/null", "/no/where", "/a\0b"],
)
def test_a_bundle_that_is_none(refused: Task, path: str) -> None:
    code, text = refused.refused("Create", refused.request(bundle=path))
    assert code in {codes.UNKNOWN, codes.INVALID_ARGUMENT}
    assert "config.json" in text or "bundle" in text


@pytest.mark.parametrize("when", ["before Kill", "before Delete"])
def test_a_bundle_that_vanishes_while_the_container_runs(served: Serving, running: Task, when: str) -> None:
    other = served.task("pod").shim().run()
    if when == "before Delete":
        other.kill()
        assert other.wait() == 137
    shutil.rmtree(other.bundle.path)
    if when == "before Kill":
        other.kill()
        assert other.wait() == 137
    assert other.delete().exit_status == 137
    assert running.running
    assert not other.state_directory.exists()
    assert not other.bundle.path.exists(), "nothing is written where it was"


def test_a_bundle_that_vanishes_before_start(served: Serving, running: Task) -> None:
    other = served.task("pod").shim()
    other.create()
    shutil.rmtree(other.bundle.path)
    code, text = other.refused("Start", pb.StartRequest(id=other.id))
    assert code == codes.UNKNOWN
    assert "vanished between create and start" in text
    assert running.running
    assert other.wait() == other.delete().exit_status != 0
    assert not other.state_directory.exists()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("", ["config.json:1:1 /: the file is empty"]),
        ("{", ["config.json:1:2 /: the document ends too early"]),
        ('{\n "ociVersion": 3\n}', ["config.json:2:16 /ociVersion"]),
        ('{\n "ociVersion": "1.2.0", "root": {\n  "path": 7\n }\n}', ["config.json:3:11 /root/path"]),
        ("\xff" * 10, ["config.json:1:1"]),
    ],
)
def test_a_config_that_is_none_is_told_with_its_place(refused: Task, config: str, words: list[str]) -> None:
    (refused.bundle.path / "config.json").write_bytes(config.encode("latin-1"))
    code, text = refused.refused("Create", refused.request())
    assert code == codes.UNKNOWN
    for word in words:
        assert f"{refused.bundle.path}/{word}" in text


def put_fifo(path: Path) -> None:
    """Nobody ever writes to it."""
    os.mkfifo(path)


def put_zeros(path: Path) -> None:
    """It has no end."""
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("put", [put_fifo, put_zeros, Path.mkdir])
def test_a_config_that_is_no_file(refused: Task, put: Callable[[Path], None]) -> None:
    config = refused.bundle.path / "config.json"
    config.unlink()
    put(config)
    code, text = refused.refused("Create", refused.request())
    assert code == codes.UNKNOWN
    assert f"{config} /: is not a regular file" in text


def test_a_program_that_does_not_exist(refused: Task) -> None:
    refused.bundle.args("/no/program").write()
    code, text = refused.refused("Create", refused.request())
    assert code == codes.UNKNOWN
    assert text.startswith('OCI runtime create failed: exec: "/no/program": ')
    assert "/process/args/0" in text


# -- options and streams -----------------------------------------------------------------------------------


def with_options(task: Task, kind: str, value: bytes) -> pb.CreateTaskRequest:
    """A create with options packed into an Any."""
    request = task.request()
    request.options.type_url = kind
    request.options.value = value
    return request


def test_options_of_an_unknown_type_are_left_out_with_a_word_in_the_log(served: Serving) -> None:
    one = served.task()
    log = os.open(one.bundle.path / "log", os.O_RDONLY | os.O_NONBLOCK)
    one.shim().call("Create", with_options(one, "example.com/other.Options", b"\xff"), pb.CreateTaskResponse)
    assert b"level=warning" in (said := os.read(log, 65536))
    assert b"other.Options" in said
    os.close(log)
    one.start()
    assert one.end() == 137


@pytest.mark.parametrize(
    ("kind", "value", "code"),
    [
        (RUNC_OPTIONS, b"\xff", codes.INVALID_ARGUMENT),
        (f"types.googleapis.com/{RUNC_OPTIONS}", b"\x0a\x05x", codes.INVALID_ARGUMENT),
        ("runtimeoptions.v1.Options", b"\xff", codes.INVALID_ARGUMENT),
        (RUNC_OPTIONS, Options(root="relative").SerializeToString(), codes.INVALID_ARGUMENT),
        (RUNC_OPTIONS, Options(root="/a\0b").SerializeToString(), codes.INVALID_ARGUMENT),
        (RUNC_OPTIONS, Options(criu_work_path="here").SerializeToString(), codes.INVALID_ARGUMENT),
    ],
)
def test_options_that_cannot_be_taken(refused: Task, kind: str, value: bytes, code: int) -> None:
    found, text = refused.refused("Create", with_options(refused, kind, value))
    assert found == code
    assert "options" in text
    assert not (refused.bundle.path / "ocirun.json").exists()


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/no/fifo", "No such file"),
        ("relative", "absolute path"),
        ("/dev/null", "not a FIFO"),
        ("binary:///bin/logger", "binary"),
        ("npipe:////./pipe", "npipe"),
        ("file://host/x", "absolute path"),
        ("/a\0b", "null byte"),
    ],
)
def test_a_stream_that_is_none(served: Serving, refused: Task, stream: str, path: str, words: str) -> None:
    good = {name: served.fifo() for name in ("stdin", "stdout", "stderr")}
    code, text = refused.refused("Create", refused.request(**{**good, stream: path}))
    assert code == codes.INVALID_ARGUMENT
    assert words in text or stream == "stdin"
    assert path.strip("/.")[:4] in text or "\0" in path


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_a_stream_of_an_exec_that_is_none(running: Task, stream: str) -> None:
    before = serving.descriptors(running)
    request = pb.ExecProcessRequest(id=running.id, exec_id="e")
    request.spec.value = SPEC
    setattr(request, stream, "/no/fifo")
    running.call("Exec", request, Empty)
    assert running.refused("Start", pb.StartRequest(id=running.id, exec_id="e"))[0] == codes.INVALID_ARGUMENT
    running.call("Delete", pb.DeleteRequest(id=running.id, exec_id="e"), pb.DeleteResponse)
    serving.no_more_descriptors(running, before)


def missing_source(request: pb.CreateTaskRequest) -> str:
    """A root that is nowhere."""
    request.rootfs.add(type="bind", source="/no/root", options=["rbind"])
    return "/no/root"


def unknown_kind(request: pb.CreateTaskRequest) -> str:
    """A root of a file system that no kernel has."""
    request.rootfs.add(type="nonesuchfs", source="none")
    return "nonesuchfs"


@pytest.mark.parametrize("spoil", [missing_source, unknown_kind])
def test_a_root_that_cannot_be_made(refused: Task, spoil: Callable[[pb.CreateTaskRequest], str]) -> None:
    request = refused.request()
    word = spoil(request)
    code, text = refused.refused("Create", request)
    assert code in {codes.UNKNOWN, codes.INVALID_ARGUMENT}
    assert word in text
