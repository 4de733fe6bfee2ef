"""The plans that change the mounts of a container that is there: stage opens, a child of it attaches inside.

The child is in the namespaces of the container and in none of its cgroups, executes nothing, and ends with
the last mount.  The config is that of the container with other mounts: those to add, or to take away.
"""

from __future__ import annotations

from ocirun.plan import steps
from ocirun.plan.model import DEFAULT, LIFECYCLE, Plan
from ocirun.planner import exec as entering
from ocirun.planner import joining, lifecycle, mounts, procfs
from ocirun.planner.draft import Draft
from ocirun.planner.namespaces import index_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun_spec.types import Config

    from ocirun.host import Host
    from ocirun.plan.model import Step
    from ocirun.planner.exec import ExecOptions
    from ocirun.planner.mounts import Mounts

_CGROUPS = ("cgroup", "cgroup2")


def plan_adding(config: Config, host: Host, options: ExecOptions) -> Plan:
    """The plan that mounts what ``config`` lists, in listed order.

    Raises ConfigError with everything that is wrong with it, HostError for what this caller cannot do.
    """
    draft = Draft(config, host, options)
    entering.complete(draft, options)
    planned = mounts.plan(draft, running=True)
    _check(draft)
    opened = joining.locked(draft, [*planned.filesystems, *planned.opened])
    return _settled(draft, [*_enter(draft, options, opened, planned), *planned.made])


def plan_removing(
    config: Config, host: Host, options: ExecOptions, numbers: Sequence[int], *, known: bool = False
) -> Plan:
    """The plan that takes away what is mounted where ``config`` says, of the entries ``numbers``, in this
    order.

    Unless what is there is ``known`` to be no part of the container, nothing goes that protects the host from
    it.  Raises as ``plan_adding``.
    """
    draft = Draft(config, host, options)
    entering.complete(draft, options)
    listed = config.get("mounts", [])
    for number, mount in enumerate(listed):
        pointer = f"/mounts/{number}/destination"
        mounts.check_destination(draft, pointer, mount["destination"])
        if not known:
            _spare_the_covers(draft, pointer, mounts.clean(mount["destination"]))
    gone = [_unmount(number, mounts.clean(listed[number]["destination"])) for number in numbers]
    return _settled(draft, [*_enter(draft, options, [], None), *gone])


def _unmount(number: int, path: str) -> Step:
    directory, _, name = path.rpartition("/")
    return steps.unmount(directory=directory or "/", name=name, pointer=f"/mounts/{number}")


def _spare_the_covers(draft: Draft, pointer: str, path: str) -> None:
    """Notes where with what is mounted at ``path`` a path would be bare that is masked or read-only."""
    if ".." in path.split("/"):
        draft.fault(pointer, path, "must name the place itself", 'leave ".." out')
    for covered in (*draft.linux.get("maskedPaths", ()), *draft.linux.get("readonlyPaths", ())):
        if f"{mounts.clean(covered)}/".startswith(f"{path}/"):
            rule = f"cannot be taken away: with it {covered} would go, which protects the host"
            draft.fault(pointer, path, rule, "what was mounted over it stays until the container ends")
            return


def _settled(draft: Draft, planned: list[Step]) -> Plan:
    draft.check_texts(planned)
    draft.settle()
    return Plan(
        draft.options.id, planned, draft.warnings, unprivileged=draft.host.unprivileged, without_cgroup=True
    )


def _enter(draft: Draft, options: ExecOptions, opened: list[Step], planned: Mounts | None) -> list[Step]:
    """The way in; what is mapped is mapped before."""
    flags = entering.joined(draft, options)
    more, entered = entering.ways(draft, options, flags)
    return [
        *lifecycle.hide(),
        steps.open_init(pid=options.pid, start=options.start, init="init", pointer="", why=LIFECYCLE),
        *opened,
        *more,
        *(_mapping(draft, planned) if planned else ()),
        *entering.dropped(draft),
        steps.join_namespaces(init="init", namespaces=flags, pointer="/linux/namespaces", why=DEFAULT),
        steps.clone_init(namespaces=0, cgroup="", sharing=0, pointer="", why=LIFECYCLE),
        *entered,
    ]


def _mapping(draft: Draft, planned: Mounts) -> Sequence[Step]:
    """The user namespaces by which mounts are mapped: new ones, or that which the container has joined."""
    own = "namespace.user"
    opened = [step for step in joining.open_namespaces(draft) if step.args[-1] == own]
    used = any(own in step.args for step in planned.mapped)
    proc = procfs.open_proc() if planned.mapping else ()
    return [*(opened if used else ()), *proc, *planned.mapping, *planned.mapped]


def _check(draft: Draft) -> None:
    """Notes what cannot be added, or not be taken back if a later one fails."""
    for number, mount in enumerate(draft.config.get("mounts", ())):
        pointer, words = f"/mounts/{number}", mount.get("options", [])
        if "remount" in words:
            rule = "changes what is mounted already, which could not be taken back"
            draft.fault(f"{pointer}/options/{words.index('remount')}", "remount", rule, "add mounts alone")
        if mount.get("type") in _CGROUPS and not mounts.is_bind(mount) and index_of(draft, "cgroup") < 0:
            rule = "needs a container with a cgroup namespace of its own"
            draft.fault(f"{pointer}/type", mount.get("type"), rule, "else it would show all of the host")
        if draft.host.euid != 0 and mounts.is_bind(mount):
            rule = "an ordinary user cannot take a mount of the host into a namespace that is there already"
            draft.lack(pointer, rule, "list it in config.json, or run as root")
