"""Creates a container: config, plan, journal, execution; undone whole when anything fails."""

from __future__ import annotations

import os

from ocirun import config as reading
from ocirun import host as facts
from ocirun import journal
from ocirun.cgroup.files import make_cgroup
from ocirun.errors import ConfigError, Fault, OcirunError, StateError
from ocirun.executor.run import Execution, Inheritance, execute
from ocirun.lifecycle.caller import check_preserved, check_terminal, console_performer
from ocirun.lifecycle.pidfile import write_pid_file
from ocirun.lifecycle.record import Recorder, freeze, head
from ocirun.lifecycle.store import state_io
from ocirun.lifecycle.undo import despite, end, ignore, undo
from ocirun.plan.compile import compile_plan
from ocirun.planner import Options, plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ocirun.config import Document
    from ocirun.executor.run import Performer
    from ocirun.lifecycle.store import Lock, Store
    from ocirun.plan.model import Plan, Step
    from ocirun.planner.rootfs import RootMount
    from ocirun.waiting import Task


class CreateOptions:
    """What the command line or the shim asks of a create.

    ``bundle`` is the directory of config.json; ``pid_file`` gets the bare pid, ``pidfd_socket`` a pidfd;
    ``console_socket`` gets the master of the terminal.  Without ``new_keyring`` the session keyring of the
    caller is the container's.  ``foreground`` keeps the master for the caller instead.  ``stdio`` are the
    descriptors that become 0, 1 and 2 of the container, None: the caller's; they stay the caller's to close.
    ``rootfs`` are mounts that make the root file system, in place of /root/path of the config.  ``warn`` is
    told of what does not stop the container.
    """

    __slots__ = (
        "bundle",
        "console_socket",
        "foreground",
        "new_keyring",
        "pid_file",
        "pidfd_socket",
        "pivot",
        "preserve_fds",
        "rootfs",
        "stdio",
        "warn",
    )

    def __init__(
        self,
        bundle: str = ".",
        *,
        console_socket: str = "",
        pid_file: str = "",
        pidfd_socket: str = "",
        preserve_fds: int = 0,
        foreground: bool = False,
        new_keyring: bool = True,
        pivot: bool = True,
        stdio: tuple[int, int, int] | None = None,
        rootfs: Sequence[RootMount] = (),
        warn: Callable[[Fault], None] | None = None,
    ) -> None:
        self.bundle = os.path.abspath(bundle)
        self.console_socket = console_socket
        self.pid_file = pid_file
        self.pidfd_socket = pidfd_socket
        self.new_keyring = new_keyring
        self.pivot = pivot
        self.preserve_fds = preserve_fds
        self.foreground = foreground
        self.stdio = stdio
        self.rootfs = rootfs
        self.warn = warn or ignore


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
    process = document.config.get("process")
    check_terminal(
        wanted=bool(process and process.get("terminal")),
        console_socket=options.console_socket,
        foreground=options.foreground,
    )
    check_preserved(options.preserve_fds)
    planned = _plan(document, container, directory, options)
    for fault in (*document.warnings, *planned.warnings):
        document.locate(fault)
        options.warn(fault)
    lock = yield from _own(store.make(container))
    try:
        made = yield from _execute(lock, document, planned, options)
    except BaseException as error:
        yield from despite(error, "undoing", _undo(lock, options))
        if isinstance(error, OcirunError) and error.pointer:
            error.line, error.column = document.place(error.pointer)
        if isinstance(error, OSError):
            raise state_io(error, "write the state of", directory) from error
        raise
    finally:
        lock.close()
    return made


def _own(lock: Lock) -> Task[Lock]:
    """Takes the lock of the directory that was just made; only a delete can be in the way, and removes it."""
    try:
        yield from lock.wait()
    except BaseException:
        lock.close()
        raise
    if lock.is_current():
        return lock
    lock.close()
    raise StateError(f"container {lock.container} was deleted while it was being created")


def _plan(document: Document, container: str, directory: str, options: CreateOptions) -> Plan:
    wanted = Options(
        container,
        bundle=options.bundle,
        state_directory=directory,
        console_socket=bool(options.console_socket),
        foreground_terminal=options.foreground,
        preserve_fds=options.preserve_fds,
        new_keyring=options.new_keyring,
        pivot=options.pivot,
        rootfs=options.rootfs,
    )
    try:
        return plan(document.config, facts.gather(), wanted)
    except ConfigError as error:
        document.locate(error)
        raise


def _undo(lock: Lock, options: CreateOptions) -> Task[None]:
    if lock.is_current():
        yield from undo(lock, warn=options.warn)


def _execute(lock: Lock, document: Document, planned: Plan, options: CreateOptions) -> Task[Container]:
    freeze(lock.path, document.source)
    writer = journal.Writer(lock.path)
    execution = Execution()
    keep = ("console",) if options.foreground else ()
    try:
        first = head(lock.container, document, options.bundle)
        writer.write(first)
        recorder = Recorder(writer, planned, document, options.warn)
        program = compile_plan(planned)
        performers = _performers(options, writer, execution)
        performers["run_hook"] = _hook_performer(document, first, execution, writer)
        inheritance = Inheritance(options.preserve_fds, options.stdio)
        yield from execute(program, performers, recorder, execution, inheritance)
        if options.pidfd_socket:
            from ocirun.lifecycle.console import send_pidfd

            yield from send_pidfd(options.pidfd_socket, execution.pidfd)
        writer.write({"created": True})
        if options.pid_file:
            write_pid_file(options.pid_file, execution.pid)
    except BaseException as error:
        keep = ()
        yield from despite(error, "ending init", _end_init(execution, planned))
        if execution.pidfd >= 0:  # closed, it could not wait for the end of init
            os.close(execution.pidfd)
        raise
    finally:
        execution.close(keep=keep)
        writer.close()
    return Container(lock.container, execution.pid, execution.pidfd, execution.slots.get("console", -1))


def _end_init(execution: Execution, planned: Plan) -> Task[None]:
    """Ends an init whose create failed: it is our child, nobody else reaps it."""
    if execution.pidfd >= 0:
        pidfd, execution.pidfd = execution.pidfd, -1
        yield from end(pidfd)
        return
    from ocirun.lifecycle.orphans import unreported

    for step in planned.steps:
        if step.verb == "make_cgroup":
            for pidfd in unreported(str(step.args[0]), str(step.args[1])):
                yield from end(pidfd)


def _hook_performer(
    document: Document, first: dict[str, object], execution: Execution, writer: journal.Writer
) -> Performer:
    """Runs the hooks of create; the module is loaded only for a container that has some."""

    def hook(step: Step, slots: dict[str, int]) -> Task[None]:
        del slots
        from ocirun.lifecycle.hooks import run_hook, state_for

        kind, number = str(step.args[0]), int(str(step.args[1]))
        hooks = document.config.get("hooks", {})
        listed = hooks.get("prestart", []) if kind == "prestart" else hooks.get("createRuntime", [])
        state = state_for(first, "creating", execution.pid)
        yield from run_hook(kind, number, listed[number], state, writer)

    return hook


def _set_cgroup(step: Step, slots: dict[str, int]) -> Task[None]:
    """Sets a limit; the module is loaded only for a container that has some."""
    del slots
    yield from ()
    from ocirun.cgroup.settings import set_cgroup

    where, writes, needed = step.args
    assert isinstance(writes, tuple)
    set_cgroup(str(where), [str(word) for word in writes], needed=bool(needed), pointer=step.pointer)


def _performers(options: CreateOptions, writer: journal.Writer, execution: Execution) -> dict[str, Performer]:
    """The host's own steps."""

    def cgroup(step: Step, slots: dict[str, int]) -> Task[None]:
        del slots
        yield from ()
        made = make_cgroup(str(step.args[0]), str(step.args[1]))
        if not made:
            execution.enter = f"{step.args[0]!s}{step.args[1]!s}"
        writer.write({"cgroups_made": made})

    return {
        "make_cgroup": cgroup,
        "set_cgroup": _set_cgroup,
        "send_console": console_performer(options.console_socket),
    }
