"""Runs one more process in a container that was created: a plan of its own, without a gate.

No lock is taken: a slow exec must delay neither kill nor delete, and init is held by a pidfd, which no other
process can take over.  Nothing is written either: what fails leaves nothing, for the helper and what it had
made of the process are children of ours, ended and reaped here.
"""

from __future__ import annotations

import errno
import posix as os

from ocirun import full, paths
from ocirun import host as facts
from ocirun.cgroup.files import is_frozen
from ocirun.errors import Fault, HelperError, OcirunError, StateError, StepError, words_of
from ocirun.executor.run import Execution, Inheritance, Observer, execute
from ocirun.files import read_file
from ocirun.lifecycle.caller import check_preserved, check_terminal, console_performer, filter_of
from ocirun.lifecycle.frozen import frozen
from ocirun.lifecycle.pidfile import write_pid_file
from ocirun.lifecycle.process import look, open_pidfd
from ocirun.lifecycle.start import judge
from ocirun.lifecycle.state import CREATED, CREATING, PAUSED, RUNNING, STOPPED, State, entries_of
from ocirun.lifecycle.undo import despite, end
from ocirun.plan.compile import compile_plan
from ocirun.planner.exec import ExecOptions, plan_exec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun_spec.types import Config, Process

    from ocirun.executor.run import Performer
    from ocirun.journal import Journal, Trace
    from ocirun.lifecycle.accompany import Signals
    from ocirun.lifecycle.store import Store
    from ocirun.plan.model import Plan, Step
    from ocirun.waiting import Task


def _ignore(fault: Fault) -> None:
    del fault


_WRITE = 2  # W_OK


class ProcessOptions:
    """What the command line or the shim asks around the process.

    ``console_socket`` gets the master of the terminal, ``foreground`` keeps it for the caller; ``pid_file``
    gets the bare pid, ``pidfd_socket`` a pidfd.  ``stdio`` are the descriptors that become 0, 1 and 2, None:
    the caller's; they stay the caller's to close.  ``ignore_paused`` starts it in a frozen container, where
    it waits for the thaw.  ``cgroup`` is the one below the container's in which it will be, "/" that one
    itself, "": that one, or where init has gone to.  ``warn`` is told of what does not stop the process.
    """

    __slots__ = (
        "cgroup", "console_socket", "fitting", "foreground", "ignore_paused", "pid_file", "pidfd_socket",
        "preserve_fds", "stdio", "warn",
    )  # fmt: skip

    def __init__(
        self,
        *,
        console_socket: str = "",
        pid_file: str = "",
        pidfd_socket: str = "",
        preserve_fds: int = 0,
        foreground: bool = False,
        ignore_paused: bool = False,
        cgroup: str = "",
        stdio: tuple[int, int, int] | None = None,
        warn: Callable[[Fault], None] | None = None,
    ) -> None:
        self.console_socket = console_socket
        self.pid_file = pid_file
        self.pidfd_socket = pidfd_socket
        self.preserve_fds = preserve_fds
        self.foreground = foreground
        #: Whether its terminal gets the size of ours, which a program may look at as soon as it runs.
        self.fitting = False
        self.ignore_paused = ignore_paused
        self.cgroup = cgroup
        self.stdio = stdio
        self.warn = warn or _ignore


class Executed:
    """A process that was just executed, a child of ours; ``pidfd`` and ``console`` (-1: none) are the
    caller's to close."""

    __slots__ = ("console", "pid", "pidfd")

    def __init__(self, pid: int, pidfd: int, console: int) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.console = console


class Target:
    """A container that is to get one more process: its frozen config, its init and its cgroup (absolute);
    ``root`` is that of the store, ``head`` that of its journal, ``scope`` the trace of a scope that only the
    user's systemd can put us into."""

    __slots__ = (
        "cgroup", "cgroup_was_there", "config", "head", "id", "pid", "root", "scope", "start", "status",
    )  # fmt: skip

    def __init__(self, container: str, config: Config, entries: Journal, root: str) -> None:
        self.id = container
        self.config = config
        self.root = root
        self.head = entries.head
        self.status = RUNNING
        self.pid = entries.pid
        self.start = entries.start
        self.cgroup_was_there = bool(entries.cgroup) and not entries.cgroups_made
        self.cgroup = entries.home
        self.scope = entries.scope if _is_out_of_reach(entries.scope) else None

    @property
    def home(self) -> str:
        """The cgroup in which init began: that of the payload, where an annotation names one below."""
        inner = self.config.get("annotations", {}).get("run.oci.delegate-cgroup", "").strip("/")
        return f"{self.cgroup}/{inner}" if self.cgroup and inner else self.cgroup

    @property
    def frozen(self) -> bool:
        """Whether its processes are stopped for now (cgroup.events, cgroup-v2.rst)."""
        return is_frozen(self.cgroup)

    @property
    def stopped(self) -> bool:
        """Whether init has ended, or has begun to: it kills who is in its pid namespace and waits for them
        before it is a zombie (zap_pid_ns_processes, kernel/pid_namespace.c)."""
        process = look(self.pid)
        return process is None or process.dead or process.exiting or process.start != self.start

    def cgroup_below(self, path: str) -> str:
        """The cgroup ``path`` below its own; raises StateError where there is none."""
        if not self.cgroup:
            from ocirun.lifecycle.members import without_cgroup

            raise without_cgroup("choose a cgroup below that of")
        below = "".join(f"/{part}" for part in path.split("/") if part not in ("", "."))
        try:
            os.stat(f"{self.cgroup}{below}/cgroup.procs")
        except OSError as error:
            raise StateError(
                f"the container has no cgroup {below}: {words_of(error.errno or 0)}",
                errno=error.errno or 0,
                path=f"{self.cgroup}{below}",
                hint="it must be there, made by the container or by its engine",
            ) from None
        return f"{self.cgroup}{below}"

    def way_into(self, cgroup: str) -> tuple[str, ...]:
        """The unit and the cgroup below it by which systemd is to put us into ``cgroup``; () where it needs
        not."""
        if self.scope is None:
            return ()
        mount, path, _, unit, *_ = self.scope.args
        return (str(unit), cgroup.removeprefix(f"{mount!s}{path!s}").strip("/"))

    def cgroup_of_init(self) -> str:
        """The cgroup below its own that init moved to, "" when it is in its own (proc_pid_cgroup(5))."""
        if not self.cgroup:
            return ""
        try:
            told = read_file(f"/proc/{self.pid}/cgroup").decode("utf-8", "surrogateescape")
        except OSError:
            return ""
        own = self.cgroup.rpartition("/")[2]
        place = next((line for line in told.split("\n") if line.startswith("0::")), "")
        below = place.partition(f"/{own}/")[2]
        return f"{self.cgroup}/{below}" if below and ".." not in below.split("/") else ""


def _is_out_of_reach(scope: Trace | None) -> bool:
    """Whether a scope of the user's systemd is one that he cannot put a process into himself from here: that
    takes a right to the nearest cgroup above both (cgroups(7), Delegation), which a login has not."""
    if scope is None or scope.args[4] != 1:
        return False
    from ocirun.reach import own_cgroup

    mount, path = (str(argument) for argument in scope.args[:2])
    own = own_cgroup(read_file("/proc/self/cgroup").decode("utf-8", "surrogateescape"))
    above = ""
    for name, other in zip(path.split("/")[1:], own.split("/")[1:], strict=False):
        if name != other:
            break
        above = f"{above}/{name}"
    if os.access(f"{mount}{above}/cgroup.procs", _WRITE, effective_ids=True):
        return False
    full.become_full()  # D-Bus is spoken by a package, which the core has not
    return True


def look_into(store: Store, container: str, doing: str = "exec in") -> Target:
    """The container as a target; raises StateError, which says ``doing`` what, unless it is created or
    running."""
    entries = entries_of(store, container)
    status = State(container, entries).status
    if status not in (CREATED, RUNNING, PAUSED):
        raise _wrong_status(status, doing)
    config = frozen(store.directory(container), entries)
    if entries.restored:
        from ocirun.planner.restoring import with_clocks

        config = with_clocks(config)
    target = Target(container, config, entries, store.root)
    target.status = status
    return target


def _wrong_status(status: str, doing: str = "exec in") -> StateError:
    if status == CREATING:
        return StateError(f"cannot {doing} a container that is still being created")
    return StateError(f"cannot {doing} a stopped container", hint="its init has ended: create it anew")


def exec_process(store: Store, container: str, process: Process, options: ProcessOptions) -> Task[Executed]:
    """Executes ``process``, an OCI Process object that was checked, in ``container``.

    Returns when the program was executed.  Raises StateError for a container that is not there, stopped or
    paused, ConfigError for what is wrong with the process, StepError for a step the kernel refused and for a
    program that cannot be executed.  Whatever it raises, nothing is left behind.
    """
    return (yield from exec_in(look_into(store, container), process, options))


def exec_in(target: Target, process: Process, options: ProcessOptions) -> Task[Executed]:
    """As ``exec_process``, in a container that was looked up."""
    check_terminal(
        wanted=process.get("terminal", False),
        console_socket=options.console_socket,
        foreground=options.foreground,
    )
    check_preserved(options.preserve_fds)
    if target.frozen and not options.ignore_paused:
        raise StateError("cannot exec in a paused container", hint="resume it, or use --ignore-paused")
    if options.cgroup:
        return (yield from _execute(target, process, options, target.cgroup_below(options.cgroup)))
    try:
        return (yield from _execute(target, process, options, target.home))
    except StepError as error:
        # Init manages cgroups itself (systemd): then its own may hold no processes (cgroup-v2.rst, No
        # Internal Process Constraint), and where init has gone is the place for others.
        inner = target.cgroup_of_init()
        if error.errno != errno.EBUSY or error.operation != "clone3" or not inner:
            raise
    return (yield from _execute(target, process, options, inner))


def exec_and_accompany(
    target: Target, process: Process, options: ProcessOptions, signals: Signals
) -> Task[int]:
    """Executes ``process`` and stays with it: its exit status, or 128 + the signal it died of.

    Its terminal and the signals that come for us are passed on.  Raises as ``exec_process`` does.
    """
    from ocirun.lifecycle.accompany import accompany
    from ocirun.lifecycle.console import Proxy

    options.fitting = True
    made = yield from exec_in(target, process, options)
    proxy: Proxy | None = None
    try:
        if made.console >= 0:
            proxy = Proxy(made.console)
        signals.hand_over()
        return (yield from accompany(made.pidfd, proxy, signals, options.warn))
    except BaseException as error:
        yield from despite(error, "ending the process", end(os.dup(made.pidfd)))
        raise
    finally:
        if proxy is not None:
            proxy.close()
        os.close(made.pidfd)


class _Witness(Observer):
    """Notes the start time of the process, and passes warnings on."""

    __slots__ = ("_plan", "_warn", "start")

    def __init__(self, planned: Plan, warn: Callable[[Fault], None]) -> None:
        self._plan = planned
        self._warn = warn
        self.start = ""

    def born(self, pid: int) -> None:
        process = look(pid)
        self.start = process.start if process else ""

    def warning(self, step: int, text: str) -> None:
        self._warn(Fault(self._plan.steps[step - 1].pointer, text))


def _execute(target: Target, process: Process, options: ProcessOptions, cgroup: str) -> Task[Executed]:
    planned = yield from _plan(target, process, options, cgroup)
    execution = Execution()
    if target.cgroup_was_there:
        execution.enter = cgroup
    keep = ("console",) if options.foreground else ()
    witness = _Witness(planned, options.warn)
    inheritance = Inheritance(options.preserve_fds, options.stdio)
    try:
        performers = _performers(target, options, execution)
        if target.scope is not None:
            from ocirun.lifecycle.systemd import join_performer

            mount = str(target.scope.args[0])
            performers["join_scope"] = join_performer(execution, cgroup.removeprefix(mount))
        yield from execute(compile_plan(planned), performers, witness, execution, inheritance)
        yield from judge(execution.proof, execution.pidfd, execution.pid, witness.start, lambda: process)
        if options.pidfd_socket:
            from ocirun.lifecycle.console import send_pidfd

            yield from send_pidfd(options.pidfd_socket, execution.pidfd)
        if options.pid_file:
            write_pid_file(options.pid_file, execution.pid)
    except BaseException as error:
        keep = ()
        yield from despite(error, "ending the process", end_process(execution))
        if execution.pidfd >= 0:  # closed, it could not wait for the end of the process
            os.close(execution.pidfd)
        if _because_it_stopped(target, error):
            raise _wrong_status(STOPPED) from error
        raise
    finally:
        execution.close(keep=keep)
    return Executed(execution.pid, execution.pidfd, execution.slots.get("console", -1))


def _plan(target: Target, process: Process, options: ProcessOptions, cgroup: str) -> Task[Plan]:
    wanted = ExecOptions(
        target.id,
        pid=target.pid,
        start=target.start,
        cgroup=cgroup,
        scope=target.way_into(cgroup),
        console_socket=bool(options.console_socket),
        foreground_terminal=options.foreground,
        preserve_fds=options.preserve_fds,
        seccomp=(yield from filter_of(target.config, target.root)),
    )
    host = facts.gather_for(target.config, pid=target.pid)
    if host.unprivileged:
        from ocirun.lifecycle.members import differing

        wanted.differing = differing(target.pid)
    planned = plan_exec(target.config, process, host, wanted)
    for fault in planned.warnings:
        options.warn(fault)
    return planned


def _performers(target: Target, options: ProcessOptions, execution: Execution) -> dict[str, Performer]:
    """The host's own steps."""

    def listener(step: Step, slots: dict[str, int]) -> Task[None]:
        from ocirun.lifecycle.listener import send_listener

        directory = paths.join(target.root, target.id)
        head, status = target.head, target.status
        yield from send_listener(
            step, slots, execution.pid, head, status, directory=directory, init=target.pid
        )

    return {
        "open_init": open_init,
        "send_console": _fit_console if options.fitting else console_performer(options.console_socket),
        "send_listener": listener,
        "enter_resctrl": _into_class(execution),
    }


def _fit_console(step: Step, slots: dict[str, int]) -> Task[None]:
    yield from ()
    from ocirun.lifecycle.console import fit

    try:
        fit(slots[str(step.args[0])])
    except OSError:  # our terminal was hung up, which is told by who passes bytes on
        return


def _into_class(execution: Execution) -> Performer:
    """Puts the process into the class of service of the container; few have one."""

    def enter(step: Step, slots: dict[str, int]) -> Task[None]:
        del slots
        yield from ()
        from ocirun.lifecycle.resctrl_steps import perform

        perform(step, execution.pid)

    return enter


def open_init(step: Step, slots: dict[str, int]) -> Task[None]:
    """Does the step of that name; raises StateError for an init that has ended."""
    yield from ()
    pid, start, slot = step.args
    pidfd = open_pidfd(int(str(pid)), str(start))
    if pidfd < 0:
        raise _wrong_status(STOPPED)
    slots[str(slot)] = pidfd


def end_process(execution: Execution) -> Task[None]:
    """Ends and reaps the process that was made, if any."""
    if execution.pidfd >= 0:
        pidfd, execution.pidfd = execution.pidfd, -1
        yield from end(pidfd)


def _because_it_stopped(target: Target, error: BaseException) -> bool:
    """Whether the end of init is the cause: nobody can join a pid namespace any more whose init has ended,
    and who is in it is killed (pid_namespaces(7)); and the cgroup of a deleted container is gone."""
    if not isinstance(error, OcirunError):
        return False
    if error.operation == "setns" and error.errno == errno.ESRCH:
        return True  # it is ending: its namespaces go a moment before it is a zombie
    if not target.stopped:
        return False
    if isinstance(error, StateError):
        return not error.errno  # it died before its program ran (start.judge)
    return isinstance(error, HelperError) or error.operation in ("setns", "clone3", "open")
