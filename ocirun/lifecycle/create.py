"""Creates a container: config, plan, journal, execution; undone whole when anything fails."""

from __future__ import annotations

import os
import time

from ocirun import config as reading
from ocirun import host as facts
from ocirun import journal
from ocirun.cgroup.files import make_cgroup
from ocirun.errors import ConfigError, Fault, OcirunError, StateError, UsageError
from ocirun.executor.run import Execution, Observer, execute
from ocirun.lifecycle.process import look, pid_namespace
from ocirun.lifecycle.store import state_io
from ocirun.lifecycle.undo import undo
from ocirun.plan.compile import compile_plan
from ocirun.plan.steps import VERBS
from ocirun.planner import Options, plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun.config import Document
    from ocirun.executor.run import Performer
    from ocirun.lifecycle.store import Lock, Store
    from ocirun.plan.model import Plan, Step
    from ocirun.waiting import Task


def _ignore(fault: Fault) -> None:
    del fault


class CreateOptions:
    """What the command line or the shim asks of a create.

    ``bundle`` is the directory of config.json; ``pid_file`` gets the bare pid; ``console_socket`` gets the
    master of the terminal.  ``foreground`` keeps the master for the caller instead.  ``warn`` is told of what
    does not stop the container.
    """

    __slots__ = ("bundle", "console_socket", "foreground", "pid_file", "preserve_fds", "warn")

    def __init__(
        self,
        bundle: str = ".",
        *,
        console_socket: str = "",
        pid_file: str = "",
        preserve_fds: int = 0,
        foreground: bool = False,
        warn: Callable[[Fault], None] | None = None,
    ) -> None:
        self.bundle = os.path.abspath(bundle)
        self.console_socket = console_socket
        self.pid_file = pid_file
        self.preserve_fds = preserve_fds
        self.foreground = foreground
        self.warn = warn or _ignore


class Container:
    """A container that was just created; ``pidfd`` and ``console`` (-1: none) are the caller's to close."""

    __slots__ = ("console", "id", "pid", "pidfd")

    def __init__(self, container: str, pid: int, pidfd: int, console: int) -> None:
        self.id = container
        self.pid = pid
        self.pidfd = pidfd
        self.console = console


def create(store: Store, container: str, options: CreateOptions) -> Task[Container]:
    """Makes ``container`` from a bundle, up to the point where its program waits for ``start``.

    Raises ConfigError with every fault of the config, HostError for what this host lacks, StateError for a
    taken or bad id, StepError for a step the kernel refused.  Whatever it raises, nothing is left behind.
    """
    directory = store.directory(container)
    document = reading.load(os.path.join(options.bundle, "config.json"))
    _check_terminal(document, options)
    _check_preserved(options.preserve_fds)
    planned = _plan(document, container, directory, options)
    for fault in (*document.warnings, *planned.warnings):
        document.locate(fault)
        options.warn(fault)
    lock = store.make(container)
    try:
        _own(lock)
        made = yield from _execute(lock, document, planned, options)
    except BaseException as error:
        yield from _undo(lock, error)
        if isinstance(error, OcirunError) and error.pointer:
            error.line, error.column = document.place(error.pointer)
        if isinstance(error, OSError):
            raise state_io(error, "write the state of", directory) from error
        raise
    finally:
        lock.close()
    return made


def _check_terminal(document: Document, options: CreateOptions) -> None:
    """Raises UsageError, in runc's words, for a terminal that nobody would hold or that nobody asked for."""
    process = document.config.get("process")
    wanted = bool(process and process.get("terminal"))
    if wanted and not options.foreground and not options.console_socket:
        raise UsageError(
            "cannot allocate tty if ocirun will detach without setting console socket",
            pointer="/process/terminal",
            hint="give --console-socket, or set process.terminal to false",
        )
    if options.console_socket and (options.foreground or not wanted):
        raise UsageError(
            "cannot use console socket if ocirun will not detach or allocate tty",
            hint="leave --console-socket out, or set process.terminal to true and detach",
        )


def _check_preserved(count: int) -> None:
    """Raises UsageError unless all are open: what we open meanwhile must not take the place of one."""
    for fd in range(3, 3 + count):
        if not _is_inherited(fd):
            raise UsageError(
                f"descriptor {fd} of --preserve-fds {count} is not open",
                hint="open it in the caller and let it be inherited",
            )


def _is_inherited(fd: int) -> bool:
    """Whether the caller gave it to us: what we open ourselves is close-on-exec."""
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


def _own(lock: Lock) -> None:
    """Takes the lock of the directory that was just made; only a delete can be in the way."""
    while not lock.acquire():
        time.sleep(0.001)
    if not lock.is_current():
        raise StateError(f"container {lock.container} was deleted while it was being created")


def _plan(document: Document, container: str, directory: str, options: CreateOptions) -> Plan:
    wanted = Options(
        container,
        bundle=options.bundle,
        state_directory=directory,
        console_socket=bool(options.console_socket),
        foreground_terminal=options.foreground,
        preserve_fds=options.preserve_fds,
    )
    try:
        return plan(document.config, facts.gather(), wanted)
    except ConfigError as error:
        document.locate(error)
        raise


def _undo(lock: Lock, error: BaseException) -> Task[None]:
    """The first cause wins: what goes wrong while cleaning up becomes a note on it."""
    if not lock.is_current():
        return
    try:
        yield from undo(lock)
    except (OcirunError, OSError) as trouble:
        error.add_note(f"while undoing: {trouble}")


class _Recorder(Observer):
    """Writes the journal as the executor goes on."""

    __slots__ = ("_document", "_plan", "_warn", "_writer")

    def __init__(
        self, writer: journal.Writer, planned: Plan, document: Document, warn: Callable[[Fault], None]
    ) -> None:
        self._writer = writer
        self._plan = planned
        self._document = document
        self._warn = warn

    def before(self, index: int, step: Step) -> None:
        undo_verb = VERBS[step.verb][3]
        if undo_verb:
            self._writer.trace(journal.Trace(index, undo_verb, step.args))

    def born(self, pid: int) -> None:
        process = look(pid)
        self._writer.write({"born": pid, "start": process.start if process else ""})

    def warning(self, step: int, text: str) -> None:
        pointer = self._plan.steps[step - 1].pointer if 0 < step <= len(self._plan.steps) else ""
        fault = Fault(pointer, text)
        self._document.locate(fault)
        self._warn(fault)


def _execute(lock: Lock, document: Document, planned: Plan, options: CreateOptions) -> Task[Container]:
    _freeze(lock.path, document.source)
    writer = journal.Writer(lock.path)
    execution = Execution()
    keep = ("console",) if options.foreground else ()
    try:
        writer.write(_head(lock.container, document, options))
        recorder = _Recorder(writer, planned, document, options.warn)
        program = compile_plan(planned)
        performers = _performers(options, writer)
        yield from execute(program, performers, recorder, execution, options.preserve_fds)
        writer.write({"created": True})
        if options.pid_file:
            _write_pid_file(options.pid_file, execution.pid)
    except BaseException:
        keep = ()
        if execution.pidfd >= 0:
            yield from _end_init(execution)
        raise
    finally:
        execution.close(keep=keep)
        writer.close()
    return Container(lock.container, execution.pid, execution.pidfd, execution.slots.get("console", -1))


def _end_init(execution: Execution) -> Task[None]:
    """Kills and reaps an init whose create failed: it is our child, nobody else reaps it."""
    from ocirun.lifecycle.undo import reap
    from ocirun.waiting import Wait

    try:
        os.kill(execution.pid, 9)  # ours and not reaped: the pid cannot have been used again
        yield Wait(reads=(execution.pidfd,), until=time.monotonic() + 10)
        reap(execution.pidfd)
    except ProcessLookupError:
        pass
    finally:
        os.close(execution.pidfd)
        execution.pidfd = -1


def _head(container: str, document: Document, options: CreateOptions) -> dict[str, object]:
    config = document.config
    root = config.get("root", {"path": ""})["path"]
    process = config.get("process")
    return {
        "version": journal.VERSION,
        "id": container,
        "bundle": options.bundle,
        "rootfs": os.path.normpath(os.path.join(options.bundle, root)),
        "created": _now(),
        "owner": "root" if os.geteuid() == 0 else str(os.geteuid()),
        "pids": pid_namespace(),
        "program": process["args"][0] if process and process.get("args") else "",
        "annotations": config.get("annotations", {}),
    }


def _now() -> str:
    """The time as RFC 3339 with nanoseconds, UTC."""
    seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanos:09d}Z"


def _freeze(directory: str, source: bytes) -> None:
    fd = os.open(
        os.path.join(directory, "config.json"), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
    )
    try:
        view = memoryview(source)
        while view:
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)


def _write_pid_file(path: str, pid: int) -> None:
    """The bare number, whole or not at all: written beside and renamed."""
    beside = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}")
    try:
        _remove(beside)
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, str(pid).encode())
        finally:
            os.close(fd)
        os.rename(beside, path)
    except OSError as error:
        _remove(beside)
        raise state_io(error, "write the pid file", path) from error


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _performers(options: CreateOptions, writer: journal.Writer) -> dict[str, Performer]:
    """The host's own steps."""

    def cgroup(step: Step, slots: dict[str, int]) -> Task[None]:
        del slots
        yield from ()
        made = make_cgroup(str(step.args[0]), str(step.args[1]))
        writer.write({"cgroups_made": made})

    def console(step: Step, slots: dict[str, int]) -> Task[None]:
        if options.console_socket:
            from ocirun.lifecycle.console import send_console

            yield from send_console(options.console_socket, slots[str(step.args[0])])

    return {"make_cgroup": cgroup, "send_console": console}
