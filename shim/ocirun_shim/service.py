"""The Task service (containerd.task.v2 and v3): what containerd asks of a shim, method by method.

State, Pids, Connect and Wait are answered from memory, whatever else is going on.  The others begin a task in
the loop and are answered at its end.
"""

from __future__ import annotations

import os
import time

from google.protobuf import empty_pb2
from google.protobuf.message import DecodeError

from ocirun.cgroup.stats import Stats
from ocirun.lifecycle.store import Store
from ocirun_shim import log, options
from ocirun_shim.answers import Refused, fail
from ocirun_shim.container import Container
from ocirun_shim.messages import events_pb2 as events
from ocirun_shim.messages import runc_options_pb2, types_pb2
from ocirun_shim.messages import task_pb2 as pb
from ocirun_shim.metrics import metrics
from ocirun_shim.processes import CREATED, RUNNING, STOPPED, Process
from ocirun_shim.stdio import Streams
from ocirun_shim.times import NOT_YET, to_timestamp
from ocirun_shim.ttrpc import codes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias, TypedDict, TypeVar

    from google.protobuf.message import Message

    from ocirun.criu.requests import Restore
    from ocirun.lifecycle.create import CreateOptions
    from ocirun_shim.answers import Answer
    from ocirun_shim.container import SavedContainer
    from ocirun_shim.events import Publisher
    from ocirun_shim.handover import Parcel
    from ocirun_shim.keeper import Keeping
    from ocirun_shim.loop import Loop
    from ocirun_shim.options import Options

    M = TypeVar("M", bound=Message)
    #: Does one call; gives the response, or None when the answer comes later.
    Method: TypeAlias = "Callable[[TaskService, bytes, Answer], Message | None]"

    class SavedService(TypedDict):
        """The containers as one worker hands them to the next."""

        containers: list[SavedContainer]
        deleted: dict[str, bytes]


#: The two names of one service: they differ in the name only.
NAMES = ("containerd.task.v2.Task", "containerd.task.v3.Task")

_STATUS = {
    CREATED: types_pb2.Status.CREATED,
    RUNNING: types_pb2.Status.RUNNING,
    STOPPED: types_pb2.Status.STOPPED,
}
_EMPTY = empty_pb2.Empty()
_REMEMBERED = 16
_KILLED = 128 + 9
_LAST_SIGNAL = 64


class TaskService:
    """The containers of one shim; ``stop`` is called when the last has to go.

    ``keeping`` leads to the keeper, whose pid is that of the shim; None: it is this process.
    ``root`` is the directory below which each container has its state directory.
    """

    def __init__(
        self,
        loop: Loop,
        publisher: Publisher,
        namespace: str,
        root: str,
        keeping: Keeping | None,
        stop: Callable[[Answer | None], None],
    ) -> None:
        self._loop = loop
        self._publisher = publisher
        self._namespace = namespace
        self._root = root
        self._keeping = keeping
        self._pid = keeping.pid if keeping else os.getpid()
        self._stop = stop
        self.containers: dict[str, Container] = {}
        #: Those that are being created, or whose delete is on its way.
        self._creating: dict[str, Container] = {}
        #: Those that `delete` removes while they are being created.
        self._removing: dict[str, list[Answer]] = {}
        self._deleting: dict[str, list[Answer]] = {}
        #: Those that `delete` removes.
        self._removed: set[str] = set()
        #: The last answers of Delete: a client that lost one asks again.
        self._deleted: dict[str, pb.DeleteResponse] = {}

    @property
    def empty(self) -> bool:
        """Whether there is no container, and none on its way."""
        return not self.containers and not self._creating

    def call(self, service: str, method: str, payload: bytes, answer: Answer) -> None:
        """Does one call of a client; every call is answered once."""
        methods = METHODS if service in NAMES else _REMAINS if service == REMAINS else None
        if methods is None or method not in methods:
            answer.fail(codes.UNIMPLEMENTED, f"service {service}" if methods is None else f"method {method}")
            return
        try:
            response = methods[method](self, payload, answer)
        except Exception as error:  # noqa: BLE001 - the client is told
            fail(answer, error)
            return
        if response is not None:
            answer.send(response)

    def _find_made(self, container: str) -> Container:
        """One that exists, and not only once it is restored."""
        found = self._find(container)
        if found.pending is not None:
            raise Refused(codes.FAILED_PRECONDITION, f"container {container} is restored by its start only")
        return found

    def _find(self, container: str) -> Container:
        if container not in self.containers:
            raise Refused(codes.NOT_FOUND, "container not created: not found")
        return self.containers[container]

    # -- asked from memory -----------------------------------------------------------------------------------

    def state(self, request: pb.StateRequest, _: Answer) -> Message:
        """What is known of a process, its exit status included."""
        container = self._find(request.id)
        process = container.process(request.exec_id)
        ended = process.exit
        return pb.StateResponse(
            id=request.exec_id or request.id,
            bundle=container.bundle,
            pid=process.pid,
            status=_status(container, process),
            stdin=process.streams.stdin,
            stdout=process.streams.stdout,
            stderr=process.streams.stderr,
            terminal=process.streams.terminal,
            exit_status=ended.status if ended else 0,
            exited_at=to_timestamp(ended.when) if ended else NOT_YET,
        )

    def wait(self, request: pb.WaitRequest, answer: Answer) -> None:
        """Answers when the end of a process has been told; many may wait."""
        self._find(request.id).process(request.exec_id).wait(answer)

    def pids(self, request: pb.PidsRequest, _: Answer) -> Message:
        """The processes of the container, a zombie init among them; execs carry their names."""
        container = self._find(request.id)
        names = {one.process.pid: name for name, one in container.execs.items() if one.process.exit is None}
        pids = Stats(container.cgroup).processes() if container.cgroup else []
        if container.init.pid and container.init.pid not in pids:
            # a zombie is in no cgroup.procs; while containerd sees its pid it keeps the container's status
            pids.insert(0, container.init.pid)
        return pb.PidsResponse(processes=[_process_info(pid, names.get(pid, "")) for pid in pids])

    def connect(self, request: pb.ConnectRequest, _: Answer) -> Message:
        """Who we are, and the pid of init, 0 where there is no such container: it is never refused."""
        container = self.containers.get(request.id)
        return pb.ConnectResponse(shim_pid=self._pid, task_pid=container.init.pid if container else 0)

    def stats(self, request: pb.StatsRequest, _: Answer) -> Message:
        """The numbers of the cgroup."""
        numbers = metrics(self._find(request.id).cgroup)
        if numbers is None:
            raise Refused(codes.NOT_FOUND, "cgroup does not exist: not found")
        response = pb.StatsResponse()
        response.stats.type_url = numbers.DESCRIPTOR.full_name
        response.stats.value = numbers.SerializeToString()
        return response

    # -- containers ------------------------------------------------------------------------------------------

    def create(self, request: pb.CreateTaskRequest, answer: Answer) -> None:
        """Creates a container; it waits for Start, which restores one that has a checkpoint."""
        if request.id in self.containers or request.id in self._creating:
            raise Refused(codes.ALREADY_EXISTS, f"container {request.id}: already exists")
        if not request.bundle.startswith("/"):
            raise Refused(codes.INVALID_ARGUMENT, f"the bundle {request.bundle!r} is no absolute path")
        asked = options.read(request.options)
        root = os.path.join(asked.root, self._namespace) if asked.root else self._root
        streams = Streams(request.stdin, request.stdout, request.stderr, terminal=request.terminal)
        container = self._new(root, request.id, request.bundle, streams)
        container.owner = asked.owner
        how = container.options(asked, options.root_mounts(request.rootfs))
        restored = _to_restore(request, how, asked) if request.checkpoint else None
        if root != self._root:
            options.record(request.bundle, root)
        if restored is None:
            self._create(container, how, request, answer)
        else:
            container.await_restore(how, restored)
            self._created(container, request, answer)

    def _create(
        self, container: Container, how: CreateOptions, request: pb.CreateTaskRequest, answer: Answer
    ) -> None:
        self._creating[request.id] = container

        def created(error: BaseException | None) -> None:
            del self._creating[request.id]
            if error is not None:
                fail(answer, error, "OCI runtime create failed")
                self._never_created(request.id)
                return
            self._created(container, request, answer)
            for one in self._removing.pop(request.id, ()):
                self._remove(container, one)

        try:
            container.create(how, created)
        except Exception:
            self._creating.pop(request.id, None)
            raise

    def _created(self, container: Container, request: pb.CreateTaskRequest, answer: Answer) -> None:
        self.containers[request.id] = container
        self._deleted.pop(request.id, None)
        self._publish_create(container, request)
        answer.send(pb.CreateTaskResponse(pid=container.init.pid))

    def _publish_create(self, container: Container, request: pb.CreateTaskRequest) -> None:
        streams = events.TaskIO(
            stdin=request.stdin, stdout=request.stdout, stderr=request.stderr, terminal=request.terminal
        )
        event = events.TaskCreate(
            container_id=request.id,
            bundle=request.bundle,
            rootfs=request.rootfs,
            io=streams,
            checkpoint=request.checkpoint,
            pid=container.init.pid,
        )
        container.publish("/tasks/create", event)

    def start(self, request: pb.StartRequest, answer: Answer) -> None:
        """Runs the program of a container, or an exec."""
        container = self._find(request.id)
        doing = "exec" if request.exec_id else "start" if container.pending is None else "restore"

        def started(error: BaseException | None) -> None:
            if error is not None:
                fail(answer, error, f"OCI runtime {doing} failed")
            else:
                answer.send(pb.StartResponse(pid=container.process(request.exec_id).pid))

        if request.exec_id:
            container.start_exec(request.exec_id, started)
        else:
            container.start(started)

    def delete(self, request: pb.DeleteRequest, answer: Answer) -> Message | None:
        """Removes a stopped container or exec, and tells how it ended; asked again it says the same."""
        if not request.exec_id and request.id in self._deleted:
            return self._deleted[request.id]
        container = self._find(request.id)
        if request.exec_id:
            self._delete_exec(container, request.exec_id, answer)
        else:
            self._delete_once(container, answer)
        return None

    def _delete_once(self, container: Container, answer: Answer) -> None:
        if container.id in self._deleting:
            self._deleting[container.id].append(answer)
        elif container.id in self._deleted:
            answer.send(self._deleted[container.id])
        else:
            self._delete_init(container, answer)

    def _delete_init(self, container: Container, answer: Answer) -> None:
        self._deleting[container.id] = [answer]
        try:
            container.delete(lambda error: self._init_deleted(container, error))
        except Exception:
            del self._deleting[container.id]
            raise

    def _delete_exec(self, container: Container, exec_id: str, answer: Answer) -> None:
        process = container.process(exec_id)

        def deleted(error: BaseException | None) -> None:
            if error is not None:
                fail(answer, error)
            else:
                answer.send(_delete_response(process))

        container.delete_exec(exec_id, deleted)

    def _init_deleted(self, container: Container, error: BaseException | None) -> None:
        answers = self._deleting.pop(container.id, [])
        if error is not None:
            for answer in answers:
                fail(answer, error, "OCI runtime delete failed")
            return
        del self.containers[container.id]
        response = _delete_response(container.init)
        self._remember(container.id, response)
        container.publish(
            "/tasks/delete",
            events.TaskDelete(
                container_id=container.id,
                pid=response.pid,
                exit_status=response.exit_status,
                exited_at=response.exited_at,
            ),
        )
        for answer in answers:
            answer.send(response)
        if container.id in self._removed:
            self._removed.discard(container.id)
            if self.empty:
                self._stop(None)

    def _remember(self, container: str, response: pb.DeleteResponse) -> None:
        """The oldest answer goes: the shim of a pod may see many containers."""
        self._deleted[container] = response
        if len(self._deleted) > _REMEMBERED:
            del self._deleted[next(iter(self._deleted))]

    def remove(self, request: pb.DeleteRequest, answer: Answer) -> None:
        """For `delete`: a container goes, whatever it is doing, and a shim that has no other one ends."""
        creating = self._creating.get(request.id)
        if creating is None:
            self._remove(self._find(request.id), answer)
        else:
            self._removing.setdefault(request.id, []).append(answer)
            creating.interrupt()

    def _new(self, root: str, container: str, bundle: str, streams: Streams) -> Container:
        init = Process(self._loop, "", streams, self._keeping)
        return Container(self._loop, self._publisher, Store(root), container, bundle, init)

    def _never_created(self, container: str) -> None:
        removing = self._removing.pop(container, [])
        for answer in removing:
            answer.send(pb.DeleteResponse(exit_status=_KILLED, exited_at=to_timestamp(time.time_ns())))
        if removing and self.empty:
            self._stop(None)

    def _remove(self, container: Container, answer: Answer) -> None:
        container.interrupt()
        if container.init.exit is None and container.pending is None:
            container.kill("", 9, True, lambda error: _log_kill(container.id, error))
        self._removed.add(container.id)
        container.init.when_told(lambda _: self._delete_once(container, answer))

    def shutdown(self, _: pb.ShutdownRequest, answer: Answer) -> Message | None:
        """Ends the shim where no container is left; the answer comes when every event was told."""
        if not self.empty:
            return _EMPTY
        self._stop(answer)
        return None

    # -- processes -------------------------------------------------------------------------------------------

    def exec(self, request: pb.ExecProcessRequest, _: Answer) -> Message:
        """Notes a process to run in a container; Start runs it."""
        container = self._find_made(request.id)
        if not request.exec_id:
            raise Refused(codes.INVALID_ARGUMENT, "an exec needs an id of its own")
        spec = options.process(request.spec, terminal=request.terminal)
        streams = Streams(request.stdin, request.stdout, request.stderr, terminal=request.terminal)
        container.add_exec(request.exec_id, spec, streams)
        return _EMPTY

    def kill(self, request: pb.KillRequest, answer: Answer) -> None:
        """Sends a signal to a process, or to all of a container."""
        if request.signal > _LAST_SIGNAL:
            raise Refused(codes.INVALID_ARGUMENT, f"invalid signal {request.signal}")
        self._find(request.id).kill(request.exec_id, request.signal, request.all, _answer_empty(answer))

    def pause(self, request: pb.PauseRequest, answer: Answer) -> None:
        """Stops all processes of a container."""
        self._find_made(request.id).pause(_answer_empty(answer))

    def resume(self, request: pb.ResumeRequest, answer: Answer) -> None:
        """Lets them go on."""
        self._find_made(request.id).resume(_answer_empty(answer))

    def update(self, request: pb.UpdateTaskRequest, answer: Answer) -> None:
        """Changes the limits of a container; the request bears a Resources object as JSON."""
        container = self._find_made(request.id)
        container.update(options.resources(request.resources), _answer_empty(answer))

    def checkpoint(self, request: pb.CheckpointTaskRequest, answer: Answer) -> None:
        """Writes the processes of a container into files, and ends it where the request says so."""
        container = self._find_made(request.id)
        from ocirun_shim.checkpoints import to_dump

        container.checkpoint(to_dump(request, container.bundle), _answer_empty(answer))

    def close_io(self, request: pb.CloseIORequest, _: Answer) -> Message:
        """Ends a process's standard input, when what was written to it has arrived."""
        stdio = self._find(request.id).process(request.exec_id).stdio
        if stdio is not None and request.stdin:
            stdio.close_stdin()
        return _EMPTY

    def resize_pty(self, request: pb.ResizePtyRequest, _: Answer) -> Message:
        """Sets the size of a terminal; without one nothing happens."""
        stdio = self._find(request.id).process(request.exec_id).stdio
        if stdio is not None:
            stdio.resize(request.width, request.height)
        return _EMPTY

    # -- from worker to worker -------------------------------------------------------------------------------

    def processes(self) -> Iterator[Process]:
        """Every init and exec."""
        for container in self.containers.values():
            yield container.init
            for one in container.execs.values():
                yield one.process

    @property
    def rests(self) -> bool:
        """Whether nothing is being done for any container."""
        changing = any(one.changing or one.pending for one in self.containers.values())
        busy = self._creating or self._deleting or changing
        return not busy and all(process.rests for process in self.processes())

    def save(self, parcel: Parcel) -> SavedService:
        """What ``restore`` needs; only while it ``rests``."""
        return {
            "containers": [one.save(parcel) for one in self.containers.values()],
            "deleted": {name: response.SerializeToString() for name, response in self._deleted.items()},
        }

    def restore(self, saved: SavedService, parcel: Parcel, answer: Callable[[int, int], Answer]) -> None:
        """Goes on with what ``save`` gave; ``answer`` gives the answer of a stream of a saved connection."""
        for one in saved["containers"]:
            streams = Streams(*one["init"]["streams"][:3], terminal=one["init"]["streams"][3])
            container = self._new(one["root"], one["id"], one["bundle"], streams)
            container.restore(one, parcel, answer)
            self.containers[container.id] = container
        for name, response in saved["deleted"].items():
            self._deleted[name] = pb.DeleteResponse.FromString(response)


def _to_restore(request: pb.CreateTaskRequest, how: CreateOptions, asked: Options) -> Restore:
    from ocirun_shim.checkpoints import to_restore

    return to_restore(request, how, asked)


def _method(kind: type[M], handler: Callable[[TaskService, M, Answer], Message | None]) -> Method:
    """A method that takes its request as bytes."""

    def call(service: TaskService, payload: bytes, answer: Answer) -> Message | None:
        try:
            request = kind.FromString(payload)
        except DecodeError as error:
            name = kind.DESCRIPTOR.full_name
            raise Refused(codes.INVALID_ARGUMENT, f"the request is no {name}: {error}") from None
        return handler(service, request, answer)

    return call


#: What does each method.
METHODS = {
    "State": _method(pb.StateRequest, TaskService.state),
    "Create": _method(pb.CreateTaskRequest, TaskService.create),
    "Start": _method(pb.StartRequest, TaskService.start),
    "Delete": _method(pb.DeleteRequest, TaskService.delete),
    "Pids": _method(pb.PidsRequest, TaskService.pids),
    "Kill": _method(pb.KillRequest, TaskService.kill),
    "Pause": _method(pb.PauseRequest, TaskService.pause),
    "Resume": _method(pb.ResumeRequest, TaskService.resume),
    "Checkpoint": _method(pb.CheckpointTaskRequest, TaskService.checkpoint),
    "Update": _method(pb.UpdateTaskRequest, TaskService.update),
    "Exec": _method(pb.ExecProcessRequest, TaskService.exec),
    "ResizePty": _method(pb.ResizePtyRequest, TaskService.resize_pty),
    "CloseIO": _method(pb.CloseIORequest, TaskService.close_io),
    "Wait": _method(pb.WaitRequest, TaskService.wait),
    "Stats": _method(pb.StatsRequest, TaskService.stats),
    "Connect": _method(pb.ConnectRequest, TaskService.connect),
    "Shutdown": _method(pb.ShutdownRequest, TaskService.shutdown),
}

#: The service that `containerd-shim-ocirun-v2 delete` asks, and nobody else.
REMAINS = "ocirun.shim.v1.Remains"
_REMAINS = {"Remove": _method(pb.DeleteRequest, TaskService.remove)}


def _status(container: Container, process: Process) -> types_pb2.Status:
    """With the container all its processes are paused."""
    if process.status != STOPPED and container.paused:
        return types_pb2.Status.PAUSED
    return _STATUS[process.status]


def _answer_empty(answer: Answer) -> Callable[[BaseException | None], None]:
    """What tells a client how a task without a result ended."""

    def ended(error: BaseException | None) -> None:
        if error is not None:
            fail(answer, error)
        else:
            answer.send(_EMPTY)

    return ended


def _process_info(pid: int, exec_id: str) -> pb.ProcessInfo:
    """Execs carry their name, init nothing."""
    found = pb.ProcessInfo(pid=pid)
    if exec_id:
        details = runc_options_pb2.ProcessDetails(exec_id=exec_id)
        found.info.type_url = details.DESCRIPTOR.full_name
        found.info.value = details.SerializeToString()
    return found


def _delete_response(process: Process) -> pb.DeleteResponse:
    ended = process.exit
    assert ended is not None
    return pb.DeleteResponse(pid=process.pid, exit_status=ended.status, exited_at=to_timestamp(ended.when))


def _log_kill(container: str, error: BaseException | None) -> None:
    if error is not None:
        log.debug(f"kill {container}: {error}")
