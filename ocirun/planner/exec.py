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

#: Those of init, whether it has them of its own or shares them with who created it: all but the cgroup one,
#: which only init's neighbour itself can join.
JOINED = sum(namespaces.FLAGS[kind] for kind in ("mount", "uts", "ipc", "pid", "network"))
#: Joined where the config has them: not every kernel knows them, and nobody enters his own user namespace.
SOMETIMES = ("user", "time")


class ExecOptions(Options):
    """What the caller of an exec decides or has found out, beside the Process object.

    ``pid`` and ``start`` name the container's init by pid and start time, ``cgroup`` is the absolute path of
    the cgroup that the process will be born in.
    """

    __slots__ = ("cgroup", "pid", "start")

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
    ) -> None:
        super().__init__(
            container,
            bundle="",
            state_directory="",
            console_socket=console_socket,
            foreground_terminal=foreground_terminal,
            preserve_fds=preserve_fds,
        )
        self.pid = pid
        self.start = start
        self.cgroup = cgroup


def plan_exec(config: Config, process: Process, host: Host, options: ExecOptions) -> Plan:
    """The plan that executes ``process`` in the container of ``config``, its frozen config.

    Pointers are those of a config whose process it were: /process/….  Raises ConfigError with everything in
    ``process`` that is wrong or not built yet, HostError for what this host cannot do.
    """
    draft = Draft(stand_in(config, process), host, options)
    scope.check_process(draft)
    if not draft.process["cwd"].startswith("/"):
        draft.fault("/process/cwd", draft.process["cwd"], "must be an absolute path in the container")
    planned = _entering(draft, options) + _becoming(draft)
    draft.check_texts(planned, "surrogateescape")
    draft.settle()
    return Plan(options.id, planned, draft.warnings)


def stand_in(config: Config, process: Process) -> Config:
    """``config`` as if ``process`` were its own.

    What the process leaves out of capabilities, it has like init, as with runc: a container is no place to
    get more, nor less, by asking for nothing.
    """
    mine = process.copy()
    own = config.get("process")
    if own is not None and "capabilities" in own and "capabilities" not in mine:
        mine["capabilities"] = own["capabilities"]
    joint = config.copy()
    joint["process"] = mine
    return joint


def _entering(draft: Draft, options: ExecOptions) -> list[Step]:
    """The way in.  The cgroup is opened first: no path of the host is left after the mount namespace."""
    listed = [kind for kind in SOMETIMES if namespaces.index_of(draft, kind) >= 0]
    joined = JOINED | sum(namespaces.FLAGS[kind] for kind in listed)
    mapped = bool(joined & namespaces.FLAGS["user"])
    opened, entered = _mapped(draft, options) if mapped else ((), (_join_cgroup("init"),))
    return [
        *lifecycle.hide(),
        steps.open_init(pid=options.pid, start=options.start, init="init", pointer="", why=LIFECYCLE),
        *opened,
        steps.open_cgroup(path=options.cgroup, cgroup="cgroup", pointer="", why=LIFECYCLE),
        *_oom_score(draft),
        steps.join_namespaces(init="init", namespaces=joined, pointer="/linux/namespaces", why=DEFAULT),
        steps.clone_init(namespaces=0, cgroup="cgroup", pointer="", why=LIFECYCLE),
        *entered,
    ]


def _mapped(draft: Draft, options: ExecOptions) -> tuple[Sequence[Step], Sequence[Step]]:
    """For a container with a user namespace: what stage opens more, and how the process enters.  A cgroup
    namespace that is not the container's own it has already, and may not join from in there."""
    from ocirun.planner import joining

    opened = joining.cgroup_of_init(draft, options.pid)
    entered = [_join_cgroup("cgroups")] if opened else []
    return opened, (*entered, joining.become_root(draft))


def _join_cgroup(slot: str) -> Step:
    return steps.join_cgroup_namespace(init=slot, pointer="/linux/namespaces", why=DEFAULT)


def _oom_score(draft: Draft) -> Sequence[Step]:
    """Of this process alone: init's is not taken over."""
    if draft.process.get("oomScoreAdj") is None:
        return ()
    from ocirun.planner import procfs

    return (*procfs.open_proc(), *procfs.oom_score(draft))


def _becoming(draft: Draft) -> list[Step]:
    """From a child of ours in the container to the program."""
    return [
        *console.make(draft, bind=False),
        *console.take(draft),
        *security.new_privileges(draft),
        *program.find_home(draft),
        *program.enter_cwd(draft),
        *lifecycle.close_descriptors(draft),
        *console.own_stdio(draft),
        *identity.rlimits(draft),
        *security.bounding(draft),
        *identity.groups_and_ids(draft),
        *security.capabilities(draft),
        *identity.umask(draft),
        *program.find_program(draft),
        *program.execute(draft),
    ]
