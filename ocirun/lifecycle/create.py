"""Creates a container: config, plan, journal, execution; undone whole when anything fails."""

from __future__ import annotations

import posix as os
from errno import EMFILE

from ocirun import config as reading
from ocirun import full, journal, paths
from ocirun import host as facts
from ocirun.cgroup.files import make_cgroup, own
from ocirun.errors import ConfigError, DriverError, Fault, HostError, OcirunError, StateError
from ocirun.executor.run import Execution, Inheritance, execute
from ocirun.executor.sealed import open_helper
from ocirun.lifecycle.caller import (
    check_preserved,
    check_terminal,
    console_performer,
    filter_of,
    without_process,
)
from ocirun.lifecycle.frozen import freeze
from ocirun.lifecycle.pidfile import write_pid_file
from ocirun.lifecycle.record import Recorder, head
from ocirun.lifecycle.store import state_io
from ocirun.lifecycle.undo import despite, end, ignore, undo
from ocirun.plan.compile import compile_plan
from ocirun.planner import Options, plan
from ocirun.planner.draft import CGROUPFS, DISABLED, SYSTEMD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ocirun_spec.types import Config

    from ocirun.cgroup.restoring import Before
    from ocirun.cgroup.systemd import Manager
    from ocirun.config import Document
    from ocirun.executor.run import Performer
    from ocirun.lifecycle.store import Lock, Store
    from ocirun.network.devices import Moved
    from ocirun.plan.compile import Program
    from ocirun.plan.model import Plan, Step
    from ocirun.planner.rootfs import RootMount
    from ocirun.waiting import Task


#: The annotation, crun's, that names a socket for the pidfd of init.
PIDFD_RECEIVER = "run.oci.pidfd_receiver"
#: How many descriptors a create needs at once, at most.
_DESCRIPTORS = 24


class CreateOptions:
    """What the command line or the shim asks of a create.

    ``bundle`` is the directory of config.json; ``pid_file`` gets the bare pid, ``pidfd_socket`` a pidfd;
    ``console_socket`` gets the master of the terminal.  Without ``new_keyring`` the session keyring of the
    caller is the container's.  ``foreground`` keeps the master for the caller instead.  ``stdio`` are the
    descriptors that become 0, 1 and 2 of the container, None: the caller's; they stay the caller's to close.
    ``listen_fds`` of the ``preserve_fds`` descriptors are sockets that the program is told of.
    ``rootfs`` are mounts that make the root file system, in place of /root/path of the config.
    ``cgroup_manager`` says who makes the cgroup: CGROUPFS, SYSTEMD or DISABLED, which is nobody.
    ``notify`` is where the manager of services listens (NOTIFY_SOCKET), "" for none.
    ``rootless`` says whether a container without limits may do without a cgroup where none can be made:
    "true", "false", or "auto" for all but root of the host.
    ``starting`` says that it is to be started at once, which takes a process.
    ``warn`` is told of what does not stop the container.
    """

    __slots__ = (
        "bundle",
        "cgroup_manager",
        "console_socket",
        "foreground",
        "listen_fds",
        "new_keyring",
        "notify",
        "pid_file",
        "pidfd_socket",
        "pivot",
        "preserve_fds",
        "rootfs",
        "rootless",
        "starting",
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
        listen_fds: int = 0,
        foreground: bool = False,
        new_keyring: bool = True,
        pivot: bool = True,
        stdio: tuple[int, int, int] | None = None,
        rootfs: Sequence[RootMount] = (),
        cgroup_manager: str = CGROUPFS,
        rootless: str = "auto",
        notify: str = "",
        warn: Callable[[Fault], None] | None = None,
    ) -> None:
        self.bundle = paths.absolute(bundle)
        self.console_socket = console_socket
        self.pid_file = pid_file
        self.pidfd_socket = pidfd_socket
        self.new_keyring = new_keyring
        self.pivot = pivot
        self.preserve_fds = preserve_fds
        self.listen_fds = listen_fds
        self.foreground = foreground
        self.stdio = stdio
        self.rootfs = rootfs
        self.cgroup_manager = cgroup_manager
        self.rootless = rootless
        self.notify = notify
        self.starting = False
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
    if options.cgroup_manager != SYSTEMD:
        return (yield from _create(store, container, options, None))
    full.become_full()  # D-Bus is spoken by a package, which the core has not
    from ocirun.cgroup.systemd import manager

    connected = yield from manager()
    try:
        return (yield from _create(store, container, options, connected))
    finally:
        connected.close()


def _create(store: Store, container: str, options: CreateOptions, systemd: Manager | None) -> Task[Container]:
    directory = store.directory(container)
    document = reading.load(paths.join(options.bundle, "config.json"))
    process = document.config.get("process")
    if process is None and options.starting:
        missing = without_process()
        document.locate(missing)
        raise missing
    check_terminal(
        wanted=bool(process and process.get("terminal")),
        console_socket=options.console_socket,
        foreground=options.foreground,
    )
    check_preserved(options.preserve_fds)
    if document.config.get("linux", {}).get("netDevices"):
        full.become_full()  # netlink is spoken by a package, too
    if options.notify:
        from ocirun.lifecycle.notify import with_socket

        document.config = with_socket(document.config, directory)
    planned = yield from plan_of(document, container, store, options, systemd)
    for fault in (*document.warnings, *planned.warnings):
        document.locate(fault)
        options.warn(fault)
    check_room(options.preserve_fds)
    execution = Execution(open_helper())  # while nothing is made yet: it takes the helper to undo it
    try:
        lock = yield from own_new(store.make(container))
    except BaseException:
        execution.close()
        raise
    try:
        made = yield from _execute(lock, execution, document, planned, options, systemd)
    except BaseException as error:
        execution.close()
        short = _short_of_memory(error, lock.path)
        yield from despite(error, "undoing", undo_made(lock, options))
        if short is not None:
            document.locate(short)
            raise short from error
        check_cause(error, document, directory)
        raise
    finally:
        lock.close()
    return made


def check_cause(error: BaseException, document: Document, directory: str) -> None:
    """Gives an ``error`` of making a container its place in the config; raises StateError instead of one that
    the files of its state in ``directory`` gave."""
    if isinstance(error, OcirunError):
        document.locate(error)
    if isinstance(error, OSError):
        raise state_io(error, "write the state of", directory) from error


def _short_of_memory(error: BaseException, directory: str) -> OcirunError | None:
    """Looks at the cgroup, before it is removed, whether the limit of memory was too small."""
    if not isinstance(error, OcirunError):
        return None
    from ocirun.lifecycle.memory import short_of_memory

    try:
        where = journal.read(directory, lenient=True).counting
    except StateError:
        return None
    return short_of_memory(error, where)


def check_room(preserved: int) -> None:
    """Raises StateError while nothing is made yet, unless there are descriptors enough to make and to undo:
    without one not even a directory can be listed."""
    fd = os.open("/", os.O_PATH | os.O_CLOEXEC)
    os.close(fd)
    if fd + preserved + _DESCRIPTORS > os.sysconf("SC_OPEN_MAX"):
        raise state_io(OSError(EMFILE, ""), "create", "a container")


def own_new(lock: Lock) -> Task[Lock]:
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


def plan_of(
    document: Document, container: str, store: Store, options: CreateOptions, systemd: Manager | None
) -> Task[Plan]:
    """The plan that creates ``container`` from ``document``; raises ConfigError, HostError with the place."""
    wanted = Options(
        container,
        bundle=options.bundle,
        state_directory=store.directory(container),
        console_socket=bool(options.console_socket),
        foreground_terminal=options.foreground,
        preserve_fds=options.preserve_fds,
        listen_fds=options.listen_fds,
        new_keyring=options.new_keyring,
        pivot=options.pivot,
        rootfs=options.rootfs,
        seccomp=(yield from filter_of(document.config, store.root)),
        cgroup_needed=options.rootless == "false",
        no_cgroup=options.cgroup_manager == DISABLED,
    )
    if systemd is not None:
        from ocirun.lifecycle.systemd import facts as facts_of_systemd

        wanted.systemd = facts_of_systemd(systemd)
    try:
        host = facts.gather_for(document.config, rootless=options.rootless == "true")
        return plan(document.config, host, wanted)
    except (ConfigError, HostError) as error:
        document.locate(error)
        raise


def undo_made(lock: Lock, options: CreateOptions) -> Task[None]:
    """Undoes what a create that failed has made, unless a delete was faster."""
    if lock.is_current():
        yield from undo(lock, warn=options.warn)


def _execute(
    lock: Lock,
    execution: Execution,
    document: Document,
    planned: Plan,
    options: CreateOptions,
    systemd: Manager | None,
) -> Task[Container]:
    keep = ("console",) if options.foreground else ()
    before: list[Before] = []
    moved: list[Moved] = []
    freeze(lock.path, document.source)
    writer = journal.Writer(lock.path)
    try:
        first = head(lock.container, document, options.bundle)
        writer.write(first)
        recorder = Recorder(writer, planned, document, options.warn)
        program = compile_plan(planned)
        performers = performers_of(options, writer, execution, lock.path)
        in_cgroup = in_cgroup_performer(execution, before, options.warn)
        performers.update(set_cgroup=in_cgroup, own_cgroup=in_cgroup, limit_processes=in_cgroup)
        if systemd is not None:
            from ocirun.lifecycle.systemd import scope_performer

            performers["make_scope"] = scope_performer(systemd, writer, execution, lock.path)
        performers["move_net_devices"] = _network_performer(execution, moved, lock.path)
        performers["run_hook"] = _hook_performer(document, first, execution, writer)
        performers["send_listener"] = _listener_performer(first, execution, lock.path)
        if options.notify:
            from ocirun.lifecycle.notify import prepare

            prepare(lock.path)
        performers["make_user_namespace"] = _users_performer(execution, program)
        performers["enter_user_namespace"] = _users_performer(execution, program)
        inheritance = Inheritance(options.preserve_fds, options.stdio)
        yield from execute(program, performers, recorder, execution, inheritance)
        if options.pidfd_socket or PIDFD_RECEIVER in document.config.get("annotations", ()):
            yield from hand_out(options, document.config, execution.pidfd)
        writer.write({"created": True})
        if options.pid_file:
            write_pid_file(options.pid_file, execution.pid)
        _keep(moved)
    except BaseException as error:
        keep = ()
        for limits in before:
            limits.restore()
        yield from _give_back(error, moved)
        yield from despite(error, "ending init", end_init(execution, planned))
        if execution.pidfd >= 0:  # closed, it could not wait for the end of init
            os.close(execution.pidfd)
        raise
    finally:
        _let_go(moved)
        execution.close(keep=keep)
        writer.close()
    return Container(lock.container, execution.pid, execution.pidfd, execution.slots.get("console", -1))


def end_init(execution: Execution, planned: Plan) -> Task[None]:
    """Ends an init whose create failed: it is our child, nobody else reaps it."""
    if execution.pidfd >= 0:
        pidfd, execution.pidfd = execution.pidfd, -1
        yield from end(pidfd)
        return
    from ocirun.lifecycle.orphans import unreported

    for step in planned.steps:
        if step.verb in ("make_cgroup", "make_scope"):
            for pidfd in unreported(str(step.args[0]), str(step.args[1])):
                yield from end(pidfd)


def hand_out(options: CreateOptions, config: Config, pidfd: int) -> Task[None]:
    """Sends the ``pidfd`` of init where the caller, or as with crun an annotation, wants to have it.

    Raises HostError.
    """
    annotated = config.get("annotations", {}).get(PIDFD_RECEIVER, "")
    from ocirun.lifecycle.console import send_pidfd

    if options.pidfd_socket:
        yield from send_pidfd(options.pidfd_socket, pidfd)
    if annotated:
        path = paths.join(options.bundle, annotated)
        yield from send_pidfd(path, pidfd, f"/annotations/{PIDFD_RECEIVER}")


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
        # "creating" is step 2 of the lifecycle, and the hooks come after that (runtime.md#state)
        state = state_for(first, "created", execution.pid)
        yield from run_hook(kind, number, listed[number], state, writer)

    return hook


def _network_performer(execution: Execution, moved: list[Moved], directory: str) -> Performer:
    """Moves network devices in, of which ``moved`` gets note.  The namespace stays open meanwhile: a device
    that is in it when it ends does not come back, unless it is made of metal (network_namespaces(7))."""

    def network(step: Step, slots: dict[str, int]) -> Task[None]:
        from ocirun.network.devices import move_in, open_network

        names = step.args[0]
        assert isinstance(names, tuple)
        slots["network"] = open_network(execution.pid)
        asked = [str(name) for name in names]

        def created() -> bool:
            return journal.read(directory).created

        moved.append((yield from move_in(slots["network"], asked, created)))

    return network


def _subgroup_performer(execution: Execution) -> Performer:
    """Moves init into a cgroup of the payload's; the module is loaded only for a container with one."""

    def subgroup(step: Step, slots: dict[str, int]) -> Task[None]:
        del slots
        yield from ()
        from ocirun.lifecycle.cgroup_steps import enter_subgroup

        enter_subgroup(step, execution.pid, stays=bool(execution.enter))

    return subgroup


def _keep(moved: Sequence[Moved]) -> None:
    for devices in moved:
        devices.keep()


def _give_back(error: BaseException, moved: Sequence[Moved]) -> Task[None]:
    for devices in moved:
        yield from despite(error, "moving network devices back", devices.give_back())


def _let_go(moved: Sequence[Moved]) -> None:
    for devices in moved:
        devices.close()


def _listener_performer(first: dict[str, object], execution: Execution, directory: str) -> Performer:
    """Hands the listener of the filter to its agent; the module is loaded only for a container with one."""

    def listener(step: Step, slots: dict[str, int]) -> Task[None]:
        from ocirun.lifecycle.listener import send_listener

        yield from send_listener(step, slots, execution.pid, first, "creating", directory=directory)

    return listener


def _users_performer(execution: Execution, program: Program) -> Performer:
    """Has the helper of an ordinary user enter a user namespace first; the module is loaded only then."""

    def users(step: Step, slots: dict[str, int]) -> Task[None]:
        del step, slots
        yield from ()
        from ocirun.lifecycle.mapping import prepare

        prepare(execution, program)

    return users


def _vacate(step: Step, slots: dict[str, int]) -> Task[None]:
    del slots
    yield from ()
    from ocirun.cgroup.vacate import vacate

    vacate(str(step.args[0]), str(step.args[1]), step.pointer)


def in_cgroup_performer(
    execution: Execution, before: list[Before], warn: Callable[[Fault], None]
) -> Performer:
    """Limits and the owner of the cgroup; few containers load the module for them."""

    def step_in_cgroup(step: Step, slots: dict[str, int]) -> Task[None]:
        del slots
        yield from ()
        from ocirun.lifecycle.cgroup_steps import perform

        perform(step, bool(execution.enter), before, warn)

    return step_in_cgroup


def performers_of(
    options: CreateOptions, writer: journal.Writer, execution: Execution, directory: str
) -> dict[str, Performer]:
    """The host's own steps."""

    def cgroup(step: Step, slots: dict[str, int]) -> Task[None]:
        del slots
        yield from ()
        mount, path, _, controllers = step.args
        try:
            made = make_cgroup(str(mount), str(path), str(controllers))
        except DriverError:
            writer.write({"cgroup_refused": True})
            raise
        note = own(f"{mount!s}{path!s}", directory)
        if not made:
            execution.enter = f"{mount!s}{path!s}"
        writer.write({"cgroups_made": made, "note": note})

    def resctrl(step: Step, slots: dict[str, int]) -> Task[None]:
        del slots
        yield from ()
        from ocirun.lifecycle.resctrl_steps import perform

        perform(
            step,
            execution.pid,
            lambda place: writer.write({"resctrl": place}),
            lambda place: writer.write({"resctrl_refused": place}),
        )

    return {
        "enter_resctrl": resctrl,
        "enter_subgroup": _subgroup_performer(execution),
        "make_resctrl": resctrl,
        "make_cgroup": cgroup,
        "vacate_cgroup": _vacate,
        "send_console": console_performer(options.console_socket),
    }
