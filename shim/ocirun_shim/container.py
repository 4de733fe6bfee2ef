"""One container of a shim: its init, its execs, and what it does to them through the lifecycle.

Every method returns at once; what takes time is a task in the loop that calls ``done`` with an error or None.
Events of a container are published in the order in which things became true: create, start, exit of each
exec, exit of init, delete; and that somebody was killed for want of memory before the exit it led to.
"""

from __future__ import annotations

from ocirun.cgroup.files import is_frozen
from ocirun.errors import OcirunError, RemovalError
from ocirun.journal import read as read_journal
from ocirun.jsontext import dumps
from ocirun.lifecycle.create import CreateOptions, create
from ocirun.lifecycle.delete import delete
from ocirun.lifecycle.exec import ProcessOptions, exec_process
from ocirun.lifecycle.kill import end_processes, kill
from ocirun.lifecycle.start import start
from ocirun.planner.draft import CGROUPFS, SYSTEMD
from ocirun_shim import log
from ocirun_shim.answers import Refused
from ocirun_shim.memory import MemoryWatch
from ocirun_shim.messages import events_pb2 as events
from ocirun_shim.processes import CREATED, RUNNING, STOPPED, Process
from ocirun_shim.records import write_record
from ocirun_shim.stdio import Streams, open_stdio
from ocirun_shim.times import to_timestamp
from ocirun_shim.ttrpc import codes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypedDict

    from google.protobuf.message import Message
    from ocirun_spec.types import Process as ProcessSpec

    from ocirun.criu.requests import Dump, Restore
    from ocirun.errors import Fault
    from ocirun.lifecycle.create import Container as Made
    from ocirun.lifecycle.exec import Executed
    from ocirun.lifecycle.store import Store
    from ocirun.planner.rootfs import RootMount
    from ocirun.waiting import Task
    from ocirun_shim.answers import Answer
    from ocirun_shim.events import Publisher
    from ocirun_shim.handover import Parcel
    from ocirun_shim.loop import Job, Loop
    from ocirun_shim.options import Options
    from ocirun_shim.processes import Exit, SavedProcess
    from ocirun_shim.stdio import Stdio

    Done = Callable[[BaseException | None], None]

    class SavedContainer(TypedDict):
        """A container as one worker hands it to the next."""

        id: str
        root: str
        bundle: str
        owner: tuple[int, int]
        cgroup: str
        killed: int
        init: SavedProcess
        execs: list[tuple[ProcessSpec, SavedProcess]]


class Exec:
    """An exec that was asked for: what it will run, and its process."""

    __slots__ = ("process", "spec")

    def __init__(self, process: Process, spec: ProcessSpec) -> None:
        self.process = process
        self.spec = spec


class Container:
    """A container, from its create to its delete; ``owner`` is the user and group of its pipes, -1 ours."""

    __slots__ = (
        "_jobs", "_loop", "_memory", "_publisher", "_unwanted", "bundle", "cgroup", "changing", "execs", "id",
        "init", "owner", "pending", "store",
    )  # fmt: skip

    def __init__(
        self, loop: Loop, publisher: Publisher, store: Store, container: str, bundle: str, init: Process
    ) -> None:
        self._loop = loop
        self._publisher = publisher
        #: What a removal interrupts: its create or start, and checkpoints.
        self._jobs: list[Job] = []
        #: Whether it is being removed.
        self._unwanted = False
        #: What its start restores, and how; None for one that exists.
        self.pending: tuple[CreateOptions, Restore] | None = None
        self.store = store
        self.id = container
        self.bundle = bundle
        self.owner: tuple[int, int] = (-1, -1)
        self.init = init
        self.execs: dict[str, Exec] = {}
        #: The directory of its cgroup, "" before it is created.
        self.cgroup = ""
        self._memory: MemoryWatch | None = None
        #: How many pauses, resumes, updates and checkpoints are under way.
        self.changing = 0

    # -- init ------------------------------------------------------------------------------------------------

    def create(self, options: CreateOptions, done: Done) -> None:
        """Creates it as ``options`` say, up to the point where its program waits for ``start``."""
        init = self.init
        self._open_stdio(options)

        def created(made: Made | None, error: BaseException | None) -> None:
            if made is None:
                init.close()
                done(error)
                return
            self._born(made)
            done(None)

        self._note(self._loop.spawn(create(self.store, self.id, options), created))

    def options(self, asked: Options, rootfs: Sequence[RootMount]) -> CreateOptions:
        """How it is created, or restored, but for its streams."""
        return CreateOptions(
            self.bundle,
            foreground=self.init.streams.terminal,
            rootfs=rootfs,
            pivot=asked.pivot,
            new_keyring=asked.new_keyring,
            cgroup_manager=SYSTEMD if asked.systemd else CGROUPFS,
            warn=lambda fault: log.warning(f"{self.id}: {fault.render('config.json')}"),
        )

    def _open_stdio(self, options: CreateOptions) -> None:
        init = self.init
        init.stdio = open_stdio(self._loop, init.streams, uid=self.owner[0], gid=self.owner[1])
        options.stdio = _descriptors(init.stdio)

    def _born(self, made: Made) -> None:
        self.init.born(made.pid, made.pidfd, made.console, self._init_ended)
        try:
            self.cgroup = read_journal(self.store.directory(self.id)).cgroup
        except (OSError, OcirunError) as unread:  # it is there all the same, and can be deleted
            log.warning(f"{self.id}: its cgroup is not known: {unread}")
        self._watch_memory()

    def _watch_memory(self, killed: int = -1) -> None:
        if self.cgroup:
            oom = events.TaskOOM(container_id=self.id)
            self._memory = MemoryWatch(
                self._loop, self.cgroup, lambda: self.publish("/tasks/oom", oom), killed
            )

    def start(self, done: Done) -> None:
        """Lets its program run; raises Refused unless it is created."""
        init = self.init
        if init.status != CREATED or init.busy:
            raise Refused(codes.FAILED_PRECONDITION, f"cannot start a container that is {_now(init)}")
        init.busy = True
        if self.pending is not None:
            self._restore(*self.pending, done)
            return

        def started(_: None, error: BaseException | None) -> None:
            init.busy = False
            if error is None:
                self._tell_start()
            done(error)
            if init.exit is not None:
                self._init_ended()

        self._note(self._loop.spawn(start(self.store, self.id), started))

    def _tell_start(self) -> None:
        if self.init.exit is None:
            self.init.status = RUNNING
        self.publish("/tasks/start", events.TaskStart(container_id=self.id, pid=self.init.pid))

    def await_restore(self, options: CreateOptions, wanted: Restore) -> None:
        """Opens its streams; its start restores it."""
        self._open_stdio(options)
        self.pending = (options, wanted)

    def _restore(self, options: CreateOptions, wanted: Restore, done: Done) -> None:
        from ocirun.lifecycle.restore import restore

        def restored(made: Made | None, error: BaseException | None) -> None:
            self.init.busy = False
            if made is None:
                if self._unwanted:
                    self._never_restored()
            else:
                self.pending = None
                self._born(made)
                self._tell_start()
            done(error)

        self._note(self._loop.spawn(restore(self.store, self.id, options, wanted), restored))

    def _never_restored(self) -> None:
        """Lets go of the streams at once: nobody will write to them."""
        if self.init.exit is None:
            self.init.never_ran()
            self.init.close()

    def interrupt(self) -> None:
        """Ends a create, start or checkpoint that is on its way; it undoes what it did and tells that it
        failed.  What waits for its restore waits no longer.  May be repeated: nobody is disturbed who is
        undoing already."""
        self._unwanted = True
        jobs, self._jobs = self._jobs, []
        for job in jobs:
            job.cancel(RemovalError(f"container {self.id} is being removed"))
        if self.pending is not None and not self.init.busy:
            self._never_restored()

    def _note(self, job: Job) -> None:
        self._jobs = [*(one for one in self._jobs if not one.over), job]

    def _init_ended(self) -> None:
        """Its end is told when no exec is left, and never before its start."""
        init = self.init
        if init.busy:
            return
        assert init.exit is not None
        self._record(init.exit)
        # without a pid namespace of its own the others live on, and belong to nobody
        self._loop.spawn(end_processes(self.store, self.id), self._rest_ended)

    def _rest_ended(self, _: None, error: BaseException | None) -> None:
        if error is not None:
            log.warning(f"{self.id}: what its init left running cannot be ended: {error}")
        self._tell_init()

    def _tell_init(self) -> None:
        if self.init.told or self.init.exit is None or self.init.busy or self._running_execs():
            return
        self._publish_exit(self.init, self.init.exit)
        self.init.tell()

    def _running_execs(self) -> bool:
        return any(one.process.status == RUNNING or one.process.busy for one in self.execs.values())

    def _record(self, ended: Exit) -> None:
        """For `containerd-shim-ocirun-v2 delete`, should we be killed before anybody asks."""
        text = dumps({"pid": self.init.pid, "exit_status": ended.status, "exited_at_ns": ended.when})
        try:
            write_record(self.bundle, "exit.json", text)
        except OSError as error:
            log.debug(f"{self.id}: its end is not recorded: {error}")

    def delete(self, done: Done) -> None:
        """Removes it when it has stopped, or was never started; raises Refused for a running one."""
        init = self.init
        if init.status == RUNNING or init.busy:
            raise Refused(codes.FAILED_PRECONDITION, "cannot delete a running process")
        if self.pending is not None:
            self._never_restored()
        elif init.status == CREATED and init.exit is None:
            init.signal(9)

        def deleted(_: None, error: BaseException | None) -> None:
            if error is None:
                self.close()
            done(error)

        def drained() -> None:
            self._loop.spawn(delete(self.store, self.id, force=True), deleted)

        init.when_told(lambda _exit: init.when_drained(drained))

    def close(self) -> None:
        """Lets go of all its descriptors."""
        if self._memory is not None:
            self._memory.close()
        for one in self.execs.values():
            one.process.close()
        self.init.close()

    # -- execs -----------------------------------------------------------------------------------------------

    def add_exec(self, exec_id: str, spec: ProcessSpec, streams: Streams) -> None:
        """Notes an exec, which ``start_exec`` starts; raises Refused for a name that is taken."""
        if exec_id in self.execs or exec_id == self.id:
            raise Refused(codes.ALREADY_EXISTS, f"id {exec_id}: already exists")
        if self.init.status == STOPPED:
            raise Refused(codes.FAILED_PRECONDITION, "cannot exec in a stopped container")
        self.execs[exec_id] = Exec(self.init.sibling(exec_id, streams), spec)
        self.publish("/tasks/exec-added", events.TaskExecAdded(container_id=self.id, exec_id=exec_id))

    def start_exec(self, exec_id: str, done: Done) -> None:
        """Runs an exec that was added; raises Refused where init has ended, or it was started already."""
        one = self.find_exec(exec_id)
        process = one.process
        if self.init.status == STOPPED:
            raise Refused(codes.FAILED_PRECONDITION, "container is not running: its init has ended")
        if process.status != CREATED or process.busy:
            raise Refused(codes.FAILED_PRECONDITION, f"cannot start an exec that is {_now(process)}")
        process.stdio = open_stdio(self._loop, process.streams, uid=self.owner[0], gid=self.owner[1])
        options = ProcessOptions(foreground=process.streams.terminal, stdio=_descriptors(process.stdio))
        process.busy = True

        def started(made: Executed | None, error: BaseException | None) -> None:
            if made is None:
                self._exec_failed(process)
            else:
                self._exec_started(process, made)
            done(error)

        self._loop.spawn(exec_process(self.store, self.id, one.spec, options), started)

    def _exec_started(self, process: Process, made: Executed) -> None:
        process.busy = False
        process.status = RUNNING
        process.born(made.pid, made.pidfd, made.console, self._when_exec_ended(process))
        started = events.TaskExecStarted(container_id=self.id, exec_id=process.exec_id, pid=made.pid)
        self.publish("/tasks/exec-started", started)

    def _exec_failed(self, process: Process) -> None:
        process.close()
        process.never_ran()
        self._tell_init()

    def _when_exec_ended(self, process: Process) -> Callable[[], None]:
        def ended() -> None:
            assert process.exit is not None
            self._publish_exit(process, process.exit)
            process.tell()
            self._tell_init()

        return ended

    def find_exec(self, exec_id: str) -> Exec:
        """The exec of that name; raises Refused."""
        if exec_id not in self.execs:
            raise Refused(codes.NOT_FOUND, f"process does not exist {exec_id}: not found")
        return self.execs[exec_id]

    def delete_exec(self, exec_id: str, done: Done) -> None:
        """Forgets an exec that has stopped or never ran, when its output was passed on; raises Refused."""
        process = self.find_exec(exec_id).process
        if process.status == RUNNING or process.busy:
            raise Refused(codes.FAILED_PRECONDITION, "cannot delete a running process")
        if process.exit is None:
            process.never_ran()

        def drained() -> None:
            process.close()
            self.execs.pop(exec_id, None)
            done(None)

        process.when_drained(drained)

    # -- both ------------------------------------------------------------------------------------------------

    def process(self, exec_id: str) -> Process:
        """Init for "", else the process of an exec; raises Refused."""
        return self.find_exec(exec_id).process if exec_id else self.init

    def kill(self, exec_id: str, number: int, every: bool, done: Done) -> None:
        """Sends a signal to init, to an exec, or with ``every`` to all of the container."""
        process = self.process(exec_id)
        if self.pending is not None:
            raise Refused(codes.FAILED_PRECONDITION, "process not created")
        if every and not exec_id:
            self._loop.spawn(kill(self.store, self.id, number, every=True), lambda _, error: done(error))
            return
        if process.status == STOPPED:
            raise Refused(codes.NOT_FOUND, "process already finished: not found")
        if process.pidfd < 0:
            raise Refused(codes.FAILED_PRECONDITION, "process not created")
        process.signal(number)
        done(None)

    def pause(self, done: Done) -> None:
        """Stops every process until ``resume``."""
        from ocirun.lifecycle.pause import pause

        event = events.TaskPaused(container_id=self.id)
        self._change(pause(self.store, self.id), "/tasks/paused", event, done)

    def resume(self, done: Done) -> None:
        """Lets them go on."""
        from ocirun.lifecycle.pause import resume

        event = events.TaskResumed(container_id=self.id)
        self._change(resume(self.store, self.id), "/tasks/resumed", event, done)

    def update(self, wanted: dict[str, object], done: Done) -> None:
        """Changes limits; of what can only be followed in part the log tells."""
        from ocirun.lifecycle.update import update

        def warn(fault: Fault) -> None:
            log.warning(f"{self.id}: {fault.pointer}: {fault.rule}")

        self._change(update(self.store, self.id, wanted, warn=warn), "", None, done)

    def checkpoint(self, wanted: Dump, done: Done) -> None:
        """Has criu write its processes down; raises Refused unless it runs."""
        from ocirun_shim.checkpoints import dump

        if self.init.status != RUNNING:
            raise Refused(
                codes.FAILED_PRECONDITION, f"cannot checkpoint a container that is {_now(self.init)}"
            )
        event = events.TaskCheckpointed(container_id=self.id, checkpoint=wanted.images)
        task = dump(self.store, self.id, self.bundle, wanted)
        self._note(self._change(task, "/tasks/checkpointed", event, done))

    def _change(self, task: Task[None], topic: str, event: Message | None, done: Done) -> Job:
        def changed(_: None, error: BaseException | None) -> None:
            self.changing -= 1
            if error is None and event is not None:
                self.publish(topic, event)
            done(error)

        self.changing += 1
        return self._loop.spawn(task, changed)

    @property
    def paused(self) -> bool:
        """Whether its cgroup says so, whoever has paused it."""
        return is_frozen(self.cgroup)

    # -- from worker to worker -------------------------------------------------------------------------------

    def save(self, parcel: Parcel) -> SavedContainer:
        """What ``restore`` needs; only while its processes rest."""
        return {
            "id": self.id,
            "root": self.store.root,
            "bundle": self.bundle,
            "owner": self.owner,
            "cgroup": self.cgroup,
            "killed": -1 if self._memory is None else self._memory.killed,
            "init": self.init.save(parcel),
            "execs": [(one.spec, one.process.save(parcel)) for one in self.execs.values()],
        }

    def restore(self, saved: SavedContainer, parcel: Parcel, answer: Callable[[int, int], Answer]) -> None:
        """Goes on with what ``save`` gave."""
        self.owner, self.cgroup = saved["owner"], saved["cgroup"]
        self._watch_memory(saved["killed"])
        self.init.restore(saved["init"], parcel, answer, self._init_ended)
        for spec, one in saved["execs"]:
            *paths, terminal = one["streams"]
            process = self.init.sibling(one["exec_id"], Streams(*paths, terminal=terminal))
            self.execs[process.exec_id] = Exec(process, spec)
            process.restore(one, parcel, answer, self._when_exec_ended(process))

    # -- events ----------------------------------------------------------------------------------------------

    def publish(self, topic: str, event: Message) -> None:
        """Sends an event of this container to containerd, after all before it."""
        self._publisher.publish(topic, event, self.bundle)

    def _publish_exit(self, process: Process, ended: Exit) -> None:
        if self._memory is not None:
            self._memory.look()
        event = events.TaskExit(
            container_id=self.id,
            id=process.exec_id or self.id,
            pid=process.pid,
            exit_status=ended.status,
            exited_at=to_timestamp(ended.when),
        )
        self.publish("/tasks/exit", event)


def _descriptors(stdio: Stdio) -> tuple[int, int, int] | None:
    return stdio.child


def _now(process: Process) -> str:
    return "being started" if process.busy else process.status
