"""Checkpoints that a shim cannot take or restore, and what it makes of the requests for them; a script stands
in for a criu that fails, or says that it is done, so that these run on every host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.protobuf.empty_pb2 import Empty
from ocirun_shim.messages import events_pb2 as events
from ocirun_shim.messages import task_pb2 as pb
from ocirun_shim.messages.runc_options_pb2 import CheckpointOptions, Options
from ocirun_shim.messages.types_pb2 import Status
from ocirun_shim.ttrpc import codes

from conformance.ttrpc import CallError
from ocirun.criu.messages import Message
from tests.host import checkpoints, observe, serving
from tests.host.hanging import hanging
from tests.host.hearing import Hearing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message as Request

    from tests.host.serving import Serving, Task

#: One that keeps its request in a file, takes what it was asked for as done, and ends when it is hung up on.
DONE = "dd bs=65536 count=1 <&3 >{told} 2>/dev/null; printf '\\010\\001\\020\\001' >&3; cat <&3"


@pytest.fixture
def put(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a script of the shell in the place of criu, for the shims that are started then."""

    def stand_in(script: str) -> None:
        monkeypatch.setenv("PATH", checkpoints.put(scratch, script))

    return stand_in


@pytest.fixture
def taken(images: Path) -> Path:
    """A directory that looks like a checkpoint."""
    return checkpoints.looking_like_one(images)


@pytest.fixture
def hearing(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hearing]:
    """Hears the events of the shims that are started from now on."""
    monkeypatch.setenv("TTRPC_ADDRESS", str(scratch / "events"))
    with Hearing(scratch / "events") as hears:
        yield hears


def _request(task: Task, path: Path | str = "", **asked: object) -> pb.CheckpointTaskRequest:
    request = pb.CheckpointTaskRequest(id=task.id, path=str(path))
    wanted = CheckpointOptions()
    for name, value in asked.items():
        if isinstance(value, list):
            getattr(wanted, name).extend(value)
        else:
            setattr(wanted, name, value)
    request.options.type_url = wanted.DESCRIPTOR.full_name
    request.options.value = wanted.SerializeToString()
    return request


# -- Checkpoint ----------------------------------------------------------------------------------------------


def test_checkpoints_that_cannot_be(served: Serving, images: Path, put: Callable[[str], None]) -> None:
    put("exit 1")
    task = served.running()
    odd = _request(task, images)
    odd.options.value = b"\xff"
    for request, code, words in (
        (pb.CheckpointTaskRequest(id="nobody", path="/x"), codes.NOT_FOUND, "not found"),
        (pb.CheckpointTaskRequest(id=task.id), codes.INVALID_ARGUMENT, "needs a path"),
        (_request(task, "here"), codes.INVALID_ARGUMENT, "absolute path"),
        (_request(task, "/a\0b"), codes.INVALID_ARGUMENT, "null byte"),
        (_request(task, images, work_path="here"), codes.INVALID_ARGUMENT, "absolute path"),
        (_request(task, images, cgroups_mode="hard"), codes.INVALID_ARGUMENT, "ignore, soft, full, strict"),
        (_request(task, images, empty_namespaces=["network", "pid"]), codes.INVALID_ARGUMENT, "'pid'"),
        (_request(task, images, parent_path="../no"), codes.UNKNOWN, "no such file or directory"),
        (odd, codes.INVALID_ARGUMENT, "CheckpointOptions"),
    ):
        found, text = task.refused("Checkpoint", request)
        assert (found, words in text) == (code, True), (found, text)
    assert task.running
    assert not (images / "descriptors.json").exists()
    assert task.end() == 137


def test_only_who_runs_has_a_checkpoint(served: Serving, images: Path, put: Callable[[str], None]) -> None:
    put("exit 1")
    task = served.task().shim()
    task.create()
    code, text = task.refused("Checkpoint", _request(task, images))
    assert (code, text) == (codes.FAILED_PRECONDITION, "cannot checkpoint a container that is created")
    task.start()
    task.kill()
    task.wait()
    code, text = task.refused("Checkpoint", _request(task, images))
    assert (code, text) == (codes.FAILED_PRECONDITION, "cannot checkpoint a container that is stopped")
    task.delete()
    assert not images.exists()


@pytest.mark.skipif(checkpoints.CRIU is not None, reason="criu is installed")
def test_without_criu_there_are_no_checkpoints(served: Serving, images: Path, taken: Path) -> None:
    task = served.running()
    code, text = task.refused("Checkpoint", _request(task, images))
    assert (code, text.startswith("criu is not installed")) == (codes.FAILED_PRECONDITION, True)
    task.end()
    other = served.task().shim()
    code, text = other.refused("Create", other.request(checkpoint=str(taken)))
    assert (code, text.startswith("criu is not installed")) == (codes.FAILED_PRECONDITION, True)


def test_a_criu_that_fails_leaves_the_container_and_its_log(
    served: Serving, images: Path, hearing: Hearing, put: Callable[[str], None]
) -> None:
    task = served.task()
    work = task.bundle.path / "work/criu-work"
    put(checkpoints.FAILING.format(log=work / "dump.log"))
    task.shim().run()
    code, text = task.refused("Checkpoint", _request(task, images, exit=True))
    kept = task.bundle.path / "criu-dump.log"
    assert code == codes.UNKNOWN
    assert "criu cannot checkpoint the container: the dog ate it" in text
    assert f"its log is {kept}" in text
    assert "the dog ate it" in kept.read_text()
    assert not work.exists()
    assert task.running
    assert task.end() == 137
    assert "/tasks/checkpointed" not in hearing.topics("/tasks/delete")


def test_a_place_that_the_client_has_named_keeps_the_log(
    served: Serving, scratch: Path, images: Path, put: Callable[[str], None]
) -> None:
    put(checkpoints.FAILING.format(log=scratch / "named/dump.log"))
    task = served.running()
    request = _request(task, images, work_path=str(scratch / "named"))
    assert "the dog ate it" in task.refused("Checkpoint", request)[1]
    assert "the dog ate it" in (scratch / "named/dump.log").read_text()
    assert task.end() == 137


def _asked(told: Path) -> Message:
    """The options (criu_opts) of the request that a criu has kept."""
    return Message(told.read_bytes()).message(2)


#: The fields of criu_opts: leave_running, ext_unix_sk, tcp_established, shell_job, file_locks, and the mode
#: of the cgroups (images/rpc.proto).
FLAGS = {"leave_running": 3, "ext_unix_sk": 4, "tcp": 5, "shell_job": 7, "file_locks": 8, "cgroups": 34}


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, {"leave_running": 1, "cgroups": 3}),
        ({"exit": True, "open_tcp": True}, {"tcp": 1, "cgroups": 3}),
        ({"exit": True, "external_unix_sockets": True}, {"ext_unix_sk": 1, "cgroups": 3}),
        ({"exit": True, "terminal": True}, {"shell_job": 1, "cgroups": 3}),
        ({"exit": True, "file_locks": True, "cgroups_mode": "strict"}, {"file_locks": 1, "cgroups": 5}),
        ({"exit": True, "empty_namespaces": ["network"]}, {"cgroups": 3}),
    ],
)
def test_what_is_asked_is_what_criu_is_told(
    served: Serving,
    scratch: Path,
    images: Path,
    hearing: Hearing,
    put: Callable[[str], None],
    asked: dict[str, object],
    told: dict[str, int],
) -> None:
    put(DONE.format(told=scratch / "told"))
    task = served.running()
    task.call("Checkpoint", _request(task, images, **asked), Empty)
    fields = _asked(scratch / "told")
    found = {name: fields.number(field) for name, field in FLAGS.items()}
    assert {name: value for name, value in found.items() if value} == told
    assert fields.number(2) == task.state().pid
    hearing.topics("/tasks/checkpointed")
    event = hearing.event("/tasks/checkpointed", events.TaskCheckpointed)
    assert (event.container_id, event.checkpoint) == (task.id, str(images))
    assert not (task.bundle.path / "work/criu-work").exists()
    assert task.running  # this criu has ended nobody
    assert task.end() == 137


def test_a_checkpoint_that_hangs_is_ended_from_outside(
    served: Serving, scratch: Path, images: Path, put: Callable[[str], None]
) -> None:
    """The stand-in has taken its request, and does not end when it is hung up on."""
    told = scratch / "told"
    put(f"head -c 1 <&3; echo $$ > {told}.new; mv {told}.new {told}; exec sleep 1000")
    task = served.running()
    client = served.client(task.address)
    stream = client.send(serving.TASK, "Checkpoint", _request(task, images))
    observe.eventually(told.exists, "it has begun")
    init, criu = task.state().pid, int(told.read_text())
    assert served.deleted_in_time(task).exit_status == 137
    observe.eventually(lambda: not observe.alive(criu), "criu has ended")
    assert not observe.alive(init)
    assert not task.state_directory.exists()
    assert not (images / "descriptors.json").exists()
    with pytest.raises((CallError, ConnectionError)):  # the shim has ended as well
        client.receive(stream, Empty)


# -- Create with a checkpoint, and Start ---------------------------------------------------------------------


@pytest.fixture
def refused(served: Serving, put: Callable[[str], None]) -> Iterator[Task]:
    """A container that the test does not manage to create: nothing of it is left."""
    put("exit 1")
    task = served.task().shim()
    yield task
    assert task.refused("State", pb.StateRequest(id=task.id))[0] == codes.NOT_FOUND
    assert not task.state_directory.exists()


def test_what_is_no_checkpoint(refused: Task, images: Path, scratch: Path) -> None:
    (scratch / "empty").mkdir()
    (scratch / "damaged").mkdir()
    (scratch / "damaged/descriptors.json").write_text("[")
    for path, words in (
        (str(images), f"open the directory {images}: no such file or directory (ENOENT)"),
        (str(scratch / "empty"), f"no checkpoint in {scratch}/empty"),
        (str(scratch / "damaged"), "it is damaged"),
        ("here", "give an absolute path"),
        ("/a\0b", "null byte"),
    ):
        code, text = refused.refused("Create", refused.request(checkpoint=path))
        assert (code, words in text) == (codes.INVALID_ARGUMENT, True), (code, text)


def test_a_config_that_cannot_be_restored(refused: Task, taken: Path) -> None:
    refused.bundle.put({"eth9": {}}, "linux", "netDevices").write()
    code, text = refused.refused("Create", refused.request(checkpoint=str(taken)))
    assert code == codes.UNKNOWN
    assert text.startswith("OCI runtime create failed: ")
    assert "/linux/netDevices" in text


def test_the_checkpoint_before_is_the_one_that_the_images_lead_to(refused: Task, taken: Path) -> None:
    before, other = (taken.with_name(name) for name in ("before", "other"))
    before.mkdir()
    other.mkdir()
    for parent in (str(before), "before"):
        request = refused.request(checkpoint=str(taken), parent_checkpoint=parent)
        assert refused.refused("Create", request)[0] == codes.INVALID_ARGUMENT
    (taken / "parent").symlink_to("../before")
    request = refused.request(checkpoint=str(taken), parent_checkpoint=str(other))
    code, text = refused.refused("Create", request)
    assert (code, f"is not {other}" in text) == (codes.INVALID_ARGUMENT, True)
    refused.create(checkpoint=str(taken), parent_checkpoint=str(before))
    refused.delete()


ABOUT_THOSE_THERE: dict[str, type[Request]] = {
    "Pause": pb.PauseRequest, "Resume": pb.ResumeRequest, "Update": pb.UpdateTaskRequest,
    "Exec": pb.ExecProcessRequest, "Checkpoint": pb.CheckpointTaskRequest,
}  # fmt: skip


def test_until_its_start_it_is_created_and_nobody_is_there(
    served: Serving, taken: Path, hearing: Hearing, put: Callable[[str], None]
) -> None:
    task = served.task()
    put(checkpoints.FAILING.format(log=task.bundle.path / "work/restore.log"))
    task.shim()
    assert task.create(checkpoint=str(taken), stdout=served.fifo()) == 0
    told = task.state()
    assert (told.status, told.pid) == (Status.CREATED, 0)
    assert task.call("Connect", pb.ConnectRequest(id=task.id), pb.ConnectResponse).task_pid == 0
    assert not task.call("Pids", pb.PidsRequest(id=task.id), pb.PidsResponse).processes
    for method, kind in ABOUT_THOSE_THERE.items():
        assert task.refused(method, kind(id=task.id))[0] == codes.FAILED_PRECONDITION
    for every in (True, False):
        code, text = task.refused("Kill", pb.KillRequest(id=task.id, signal=9, all=every))
        assert (code, text) == (codes.FAILED_PRECONDITION, "process not created")
    for _ in range(2):  # it may be tried again
        code, text = task.refused("Start", pb.StartRequest(id=task.id))
        assert code == codes.UNKNOWN
        assert text.startswith(
            "OCI runtime restore failed: criu cannot restore the container: the dog ate it"
        )
        assert task.state().status == Status.CREATED
        assert not task.state_directory.exists()
    ended = task.delete()
    assert (ended.pid, ended.exit_status) == (0, 255)
    assert hearing.topics("/tasks/delete") == ["/tasks/create", "/tasks/delete"]
    event = hearing.event("/tasks/create", events.TaskCreate)
    assert (event.checkpoint, event.pid) == (str(taken), 0)


def test_who_waits_for_one_that_is_never_restored_hears_of_its_delete(
    served: Serving, taken: Path, put: Callable[[str], None]
) -> None:
    put("exit 1")
    task = served.task().shim()
    task.create(checkpoint=str(taken), stdin=served.fifo(), stdout=served.fifo())
    stream = task.client.send(serving.TASK, "Wait", pb.WaitRequest(id=task.id))
    # nobody waits for output that cannot come
    request = pb.DeleteRequest(id=task.id)
    ended = task.client.call(serving.TASK, "Delete", request, pb.DeleteResponse, serving.HELD_UP)
    assert ended.exit_status == 255
    assert task.client.receive(stream, pb.WaitResponse).exit_status == 255


def test_it_is_removed_from_outside(served: Serving, taken: Path, put: Callable[[str], None]) -> None:
    put("exit 1")
    task = served.task().shim()
    task.create(checkpoint=str(taken))
    assert served.deleted_in_time(task).pid == 0


def test_a_restore_that_hangs_is_ended_from_outside(
    served: Serving, scratch: Path, taken: Path, put: Callable[[str], None]
) -> None:
    """The stand-in has waited for its request, as criu does, and then put a process beside itself."""
    told = scratch / "told"
    put(f"head -c 1 <&3; sleep 1000 & echo $! $$ > {told}.new; mv {told}.new {told}; wait")
    task = served.task().shim()
    task.create(checkpoint=str(taken))
    client = served.client(task.address)
    stream = client.send(serving.TASK, "Start", pb.StartRequest(id=task.id))
    observe.eventually(told.exists, "it has begun")
    members = [int(word) for word in told.read_text().split()]
    assert task.refused("Delete", pb.DeleteRequest(id=task.id))[0] == codes.FAILED_PRECONDITION
    assert task.state().status == Status.CREATED
    served.deleted_in_time(task)
    observe.eventually(lambda: not any(observe.alive(pid) for pid in members), "both have ended")
    assert not task.state_directory.exists()
    with pytest.raises((CallError, ConnectionError)):  # the shim has ended as well
        client.receive(stream, pb.StartResponse)


@pytest.mark.parametrize("killable", [True, False])
def test_a_restore_that_waits_for_a_server_holds_nobody_up(
    served: Serving, scratch: Path, taken: Path, put: Callable[[str], None], killable: bool
) -> None:
    """Who waits there is the child that is to become criu, whether a signal can end it or not."""
    begun = scratch / "begun"
    put(f"touch {begun}; exit 1")
    one = served.running("pod")
    other = served.task("pod").shim()
    with hanging(scratch / "hanging") as mount:
        other.bundle.bind(mount.point / "inside", "/etc").write()
        other.create(checkpoint=str(taken))
        stream = other.client.send(serving.TASK, "Start", pb.StartRequest(id=other.id))
        if killable:
            assert mount.asks(serving.PATIENCE)
        else:
            mount.read(serving.PATIENCE)
        assert one.running
        assert other.state().status == Status.CREATED
        served.deleted_in_time(other)
        with pytest.raises(CallError):
            other.client.receive(stream, pb.StartResponse)
        assert not other.state_directory.exists()
        assert one.running
    assert not begun.exists()
    assert one.end() == 137


def test_the_mounts_that_make_the_root_are_there_for_criu_and_for_nobody_else(
    served: Serving, scratch: Path, taken: Path, put: Callable[[str], None]
) -> None:
    told = scratch / "told"
    put(f"dd bs=65536 count=1 <&3 >{told} 2>/dev/null; cat /proc/self/mountinfo > {told}.mounts; exit 1")
    task = served.task().shim()
    (scratch / "below").mkdir()
    task.bundle.directory("inner")
    request = task.request(checkpoint=str(taken))
    root = str(task.bundle.rootfs)
    request.rootfs.add(type="bind", source=root, options=["rbind", "ro", "nosuid"])
    below = str(scratch / "below")
    request.rootfs.add(type="bind", source=below, target="/inner", options=["bind", "nodev"])
    before = Path("/proc/self/mountinfo").read_text()
    task.call("Create", request, pb.CreateTaskResponse)
    opened = serving.descriptors(task)
    task.refused("Start", pb.StartRequest(id=task.id))
    serving.no_more_descriptors(task, opened)
    place = _asked(told).text(13)
    lines = told.with_suffix(".mounts").read_text().splitlines()
    mounts = {mount.point: mount for mount in map(observe.parse_mount, lines)}
    assert {"ro", "nosuid"} <= set(mounts[place].options)
    assert "nodev" not in mounts[place].options
    assert {"rw", "nodev"} <= set(mounts[f"{place}/inner"].options)
    assert Path("/proc/self/mountinfo").read_text() == before
    task.delete()


def test_a_root_that_cannot_be_mounted_is_told_by_start(
    served: Serving, scratch: Path, taken: Path, put: Callable[[str], None]
) -> None:
    begun = scratch / "begun"
    put(f"touch {begun}; exit 1")
    task = served.task().shim()
    request = task.request(checkpoint=str(taken))
    request.rootfs.add(type="bind", source="/no/root", options=["rbind"])
    task.call("Create", request, pb.CreateTaskResponse)
    opened = serving.descriptors(task)
    code, text = task.refused("Start", pb.StartRequest(id=task.id))
    assert (code, text.startswith("OCI runtime restore failed: ")) == (codes.UNKNOWN, True)
    assert "/no/root" in text
    assert "rootfs[0]" in text
    serving.no_more_descriptors(task, opened)
    assert not begun.exists()
    task.delete()


def test_where_criu_works_may_be_an_option(
    served: Serving, scratch: Path, taken: Path, put: Callable[[str], None]
) -> None:
    put(checkpoints.FAILING.format(log=scratch / "named/restore.log"))
    task = served.task().shim()
    request = task.request(checkpoint=str(taken))
    options = Options(criu_work_path=str(scratch / "named"))
    request.options.type_url = options.DESCRIPTOR.full_name
    request.options.value = options.SerializeToString()
    task.call("Create", request, pb.CreateTaskResponse)
    code, text = task.refused("Start", pb.StartRequest(id=task.id))
    assert (code, f"its log is {scratch}/named/restore.log" in text) == (codes.UNKNOWN, True), text
    task.delete()
