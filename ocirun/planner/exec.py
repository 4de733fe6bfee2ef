"""The plan of one more process in a running container: a shorter plan in the same vocabulary.

Nothing is made and nothing mounted: the process joins what the init of the container lives in, and becomes
what its Process object says.  The rest is planned by those who plan it for init.
"""

from __future__ import annotations

from ocirun.plan import steps
from ocirun.plan.model import DEFAULT, LIFECYCLE, Plan
from ocirun.planner import console, identity, lifecycle, namespaces, program, scope, security
from ocirun.planner.draft import Draft, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun_spec.types import Config, Process

    from ocirun.host import Host
    from ocirun.plan.model import Step
    from ocirun.planner.draft import Filter

#: Those of init, whether it has them of its own or shares them with who created it: all but the cgroup one,
#: which only init's neighbour itself can join.
JOINED = sum(namespaces.FLAGS[kind] for kind in ("mount", "uts", "ipc", "pid", "network"))
#: Members that a process has like init where it does not name them.
INHERITED = (
    "capabilities", "selinuxLabel", "apparmorProfile", "scheduler", "ioPriority", "execCPUAffinity",
)  # fmt: skip
#: Joined where the config has them: not every kernel knows them, and nobody enters his own user namespace.
SOMETIMES = ("user", "time")


class ExecOptions(Options):
    """What the caller of an exec decides or has found out, beside the Process object.

    ``pid`` and ``start`` name the container's init by pid and start time, ``cgroup`` is the absolute path of
    the cgroup that the process will be born in, "" for a container without one.  ``scope`` is the unit of it
    and the cgroup below that, where the user's systemd has to move us there first.  ``differing`` are the
    kinds of namespaces in which init is not with the caller; only for who is not root of the host.
    """

    __slots__ = ("cgroup", "differing", "pid", "scope", "start")

    def __init__(
        self,
        container: str,
        *,
        pid: int,
        start: str,
        cgroup: str,
        console_socket: bool = False,
        foreground_terminal: bool = False,
        preserve_fds: int = 0,
        seccomp: Filter | None = None,
        scope: Sequence[str] = (),
        differing: Sequence[str] = (),
    ) -> None:
        super().__init__(
            container,
            bundle="",
            state_directory="",
            console_socket=console_socket,
            foreground_terminal=foreground_terminal,
            preserve_fds=preserve_fds,
            seccomp=seccomp,
        )
        self.pid = pid
        self.start = start
        self.cgroup = cgroup
        self.scope = scope
        self.differing = differing


def plan_exec(config: Config, process: Process, host: Host, options: ExecOptions) -> Plan:
    """The plan that executes ``process`` in the container of ``config``, its frozen config.

    Pointers are those of a config whose process it were: /process/….  Raises ConfigError with everything in
    ``process`` that is wrong or not built yet, HostError for what this host cannot do.
    """
    draft = Draft(stand_in(config, process), host, options)
    complete(draft, options)
    scope.check_process(draft)
    if not draft.process["cwd"].startswith("/"):
        draft.fault("/process/cwd", draft.process["cwd"], "must be an absolute path in the container")
    planned = _entering(draft, options) + _becoming(draft)
    draft.check_texts(planned, "surrogateescape")
    draft.settle()
    return Plan(
        options.id, planned, draft.warnings, unprivileged=host.unprivileged,
        without_cgroup=not options.cgroup,
    )  # fmt: skip


def complete(draft: Draft, options: ExecOptions) -> None:
    """Adds to ``draft`` what a user of the host cannot but have."""
    if draft.host.unprivileged or draft.host.euid != 0:
        from ocirun.planner import unprivileged

        unprivileged.complete_exec(draft, options.differing)


def stand_in(config: Config, process: Process) -> Config:
    """``config`` as if ``process`` were its own.

    What the process leaves out of INHERITED, it has like init, as with runc: a container is no place to get
    more, nor less, by asking for nothing.
    """
    mine: dict[str, object] = {**process}
    for member, value in config.get("process", {}).items():
        if member in INHERITED and not (member in mine if member == "capabilities" else mine.get(member)):
            mine[member] = value
    joint = config.copy()
    joint["process"] = mine  # type: ignore[typeddict-item]
    return joint


def _entering(draft: Draft, options: ExecOptions) -> list[Step]:
    """The way in.  The cgroup is opened first: no path of the host is left after the mount namespace."""
    joining = joined(draft, options)
    before, then = _affinity(draft)
    opened, entered = ways(draft, options, joining)
    return [
        *lifecycle.hide(),
        steps.open_init(pid=options.pid, start=options.start, init="init", pointer="", why=LIFECYCLE),
        *_scope(options),
        *opened,
        *_cgroup(options),
        *_proc(draft),
        *before,
        *dropped(draft),
        steps.join_namespaces(init="init", namespaces=joining, pointer="/linux/namespaces", why=DEFAULT),
        steps.clone_init(
            namespaces=0,
            cgroup="cgroup" if options.cgroup else "",
            sharing=namespaces.is_asking(draft),
            pointer="",
            why=LIFECYCLE,
        ),
        *_resctrl(draft),
        *then,
        *entered,
    ]


def _scope(options: ExecOptions) -> Sequence[Step]:
    if not options.scope:
        return ()
    unit, inner = options.scope
    return (steps.join_scope(unit=unit, user=1, inner=inner, pointer="", why=LIFECYCLE),)


def _resctrl(draft: Draft) -> Sequence[Step]:
    """The class of service of the container, and its group, are those of all its processes."""
    if "intelRdt" not in draft.linux:
        return ()
    from ocirun.planner import resctrl

    return resctrl.enter(draft)


def dropped(draft: Draft) -> Sequence[Step]:
    """The end of the caller's groups, where they could not be changed inside."""
    if not namespaces.drops_groups(draft):
        return ()
    from ocirun.planner import joining

    return joining.drop_groups(draft)


def _affinity(draft: Draft) -> tuple[Sequence[Step], Sequence[Step]]:
    """The CPUs before and in the cgroup; those of the caller where none are asked for (as for init)."""
    asked = draft.process.get("execCPUAffinity", {})
    if not any(asked.values()):
        return (), lifecycle.free_cpus()
    from ocirun.planner import scheduling

    return scheduling.initial_affinity(draft), scheduling.final_affinity(draft)


def joined(draft: Draft, options: ExecOptions) -> int:
    """The namespaces to join (CLONE_NEW…).  Who is not root of the host may join only what the container owns
    (setns(2)): what it has from him, he is in already."""
    listed = [kind for kind in namespaces.FLAGS if namespaces.index_of(draft, kind) >= 0]
    if draft.host.unprivileged:
        wanted = {*listed, *options.differing} - {"cgroup"}
        return sum(namespaces.FLAGS[kind] for kind in wanted)
    return JOINED | sum(namespaces.FLAGS[kind] for kind in SOMETIMES if kind in listed)


def _cgroup(options: ExecOptions) -> Sequence[Step]:
    """That of the container, unless a user made it without one."""
    if not options.cgroup:
        return ()
    return (steps.open_cgroup(path=options.cgroup, cgroup="cgroup", pointer="", why=LIFECYCLE),)


def ways(draft: Draft, options: ExecOptions, flags: int) -> tuple[Sequence[Step], Sequence[Step]]:
    """What stage opens more, and how the process enters, when stage has joined namespaces by ``flags``.  A
    cgroup namespace that is not the container's own it has already, and may not join from in a user
    namespace."""
    if not flags & namespaces.FLAGS["user"]:
        return (), (join_cgroup("init"),)
    from ocirun.planner import joining

    opened = joining.cgroup_of_init(draft, options.pid)
    entered = [join_cgroup("cgroups")] if opened else []
    return opened, (*entered, joining.become_root(draft))


def join_cgroup(slot: str) -> Step:
    """The cgroup namespace of the container."""
    return steps.join_cgroup_namespace(init=slot, pointer="/linux/namespaces", why=DEFAULT)


def _proc(draft: Draft) -> Sequence[Step]:
    """The score of the OOM killer is of this process alone: init's is not taken over."""
    asked = draft.process.get("oomScoreAdj") is not None
    if not asked and not security.is_confined(draft) and not security.is_labelled(draft):
        return ()
    from ocirun.planner import procfs

    return (*procfs.open_proc(), *procfs.oom_score(draft))


def _becoming(draft: Draft) -> list[Step]:
    """From a child of ours in the container to the program."""
    return [
        *console.make(draft, bind=False),
        *console.take(draft),
        *security.selinux(draft),
        *security.apparmor(draft),
        *security.new_privileges(draft),
        *security.scheduling(draft),
        *program.find_home(draft),
        *program.enter_cwd(draft),
        *lifecycle.close_descriptors(draft, waits=False),
        *console.own_stdio(draft),
        *identity.rlimits(draft),
        *security.become(draft),
        *program.execute(draft),
    ]
