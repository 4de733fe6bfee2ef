"""From a checked config, facts of the host and the caller's options to a plan; pure, it touches nothing.

Each module plans one concern and gives the steps of it; this one sets them in order.  The order is that of
the kernel's needs, as the peers have learnt it (runc's ``standard_init``); ocirun.plan.lint holds its laws.
"""

from __future__ import annotations

from ocirun.plan.model import Plan
from ocirun.planner import (
    cgroup,
    console,
    devices,
    identity,
    lifecycle,
    mounts,
    namespaces,
    paths,
    program,
    root,
    scope,
    security,
)
from ocirun.planner.draft import Draft, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun_spec.types import Config

    from ocirun.host import Host
    from ocirun.plan.model import Step
    from ocirun.planner.mounts import Mounts

__all__ = ["Options", "plan"]

#: The index of a step has 16 bits on the wire; the rest is for rendezvous.
LONGEST = 60000


def plan(config: Config, host: Host, options: Options) -> Plan:
    """The plan that creates the container ``options.id`` from ``config`` on ``host``.

    ``config`` has passed the reader: types and required members are right.  Raises ConfigError with
    everything in it that is wrong or not built yet, HostError when the config is fine and this host cannot
    do it.
    """
    draft = Draft(config, host, options)
    _complete(draft)
    scope.check(draft)
    mounted = mounts.plan(draft)
    steps = _outside_and_root(draft, mounted) + _inside(draft, mounted)
    draft.check_texts(steps)
    if len(steps) > LONGEST:
        draft.fault("", None, f"needs {len(steps)} steps, more than the {LONGEST} of the longest plan")
    draft.settle()
    return Plan(
        options.id, steps, draft.warnings, unprivileged=host.unprivileged,
        without_cgroup=not cgroup.exists(draft),
    )  # fmt: skip


def _complete(draft: Draft) -> None:
    if draft.host.euid != 0:
        from ocirun.planner import unprivileged

        unprivileged.complete(draft)


def _outside_and_root(draft: Draft, mounted: Mounts) -> list[Step]:
    """The steps until init stands in its own root: host, stage, then the mounts."""
    return [
        *_users(draft),
        *_resctrl(draft, "make"),
        *_cgroup(draft),
        *lifecycle.handshake(draft),
        *_opened(draft, mounted),
        *paths.open_null(draft),
        *devices.open_devices(draft),
        *_joining(draft, "open_namespaces"),
        *cgroup.open_cgroup(draft),
        *devices.allow(draft),
        *_proc(draft, mounted),
        *mounted.mapping,
        *mounted.mapped,
        *_joining(draft, "join"),
        *_joining(draft, "id_maps"),
        *namespaces.clone(draft),
        *_tighten(draft),
        *_subgroup(draft),
        *_resctrl(draft, "enter"),
        *lifecycle.free_cpus(),
        *_joining(draft, "enter"),
        *security.keyring(draft),
        *namespaces.loopback(draft),
        *_network(draft),
        *root.attach(draft),
        *mounted.made,
        *devices.make(draft),
        *program.make_cwd(draft),
        *console.make(draft),
        *_hooks(draft),
        *root.pivot(draft),
    ]


def _cgroup(draft: Draft) -> Sequence[Step]:
    """The cgroup with its limits, and stage: a scope of systemd is made of a process, which stage is."""
    if draft.options.systemd is not None:
        from ocirun.planner import systemd

        cgroup.need_cgroup2(draft)
        return (*systemd.plan(draft), *_ownership(draft))
    return (*cgroup.make(draft), *_limits(draft), *_ownership(draft), *lifecycle.hide())


def _tighten(draft: Draft) -> Sequence[Step]:
    if draft.options.systemd is None:
        return ()
    from ocirun.planner import systemd

    return systemd.tighten(draft)


def _subgroup(draft: Draft) -> Sequence[Step]:
    """The cgroup that is all the payload's, where an annotation names one."""
    if "run.oci.delegate-cgroup" not in draft.config.get("annotations", ()):
        return ()
    from ocirun.planner import ownership

    return ownership.enter_subgroup(draft)


def _users(draft: Draft) -> Sequence[Step]:
    """The user namespace of an ordinary user's container, in which all that follows is done."""
    if not namespaces.is_entered(draft):
        return ()
    from ocirun.planner import unprivileged

    return unprivileged.make_user_namespace(draft)


def _resctrl(draft: Draft, part: str) -> Sequence[Step]:
    """A class of service, where one is asked for; an empty object asks for one of the container's own."""
    if "intelRdt" not in draft.linux:
        return ()
    from ocirun.planner import resctrl

    return resctrl.make(draft) if part == "make" else resctrl.enter(draft)


def _network(draft: Draft) -> Sequence[Step]:
    """Network devices of the host, where some are to move."""
    if not draft.linux.get("netDevices"):
        return ()
    from ocirun.planner import network

    return network.move(draft)


def _opened(draft: Draft, mounted: Mounts) -> list[Step]:
    """What stage opens by path: file systems, then trees."""
    opened = [*mounted.filesystems, *root.open_root(draft), *mounted.opened]
    if namespaces.is_simple(draft):
        return opened
    from ocirun.planner import joining

    return joining.locked(draft, opened)


def _hooks(draft: Draft) -> Sequence[Step]:
    """Few containers have hooks: only for those is their planner loaded."""
    if not draft.config.get("hooks"):
        return ()
    from ocirun.planner import hooks

    return hooks.of_create(draft)


def _start_hooks(draft: Draft) -> Sequence[Step]:
    if not draft.config.get("hooks"):
        return ()
    from ocirun.planner import hooks

    return hooks.of_start(draft)


def _joining(draft: Draft, name: str) -> Sequence[Step]:
    """What the planner of namespaces that exist, of users and of time has at this place."""
    if namespaces.is_simple(draft):
        return ()
    from ocirun.planner import joining

    planners = {
        "open_namespaces": joining.open_namespaces,
        "join": joining.join,
        "id_maps": joining.id_maps,
        "enter": joining.enter,
    }
    return planners[name](draft)


def _proc(draft: Draft, mounted: Mounts) -> Sequence[Step]:
    """The procfs and what stage writes there, where something has to be written."""
    mapped = namespaces.is_new(draft, "user") and not namespaces.is_entered(draft)
    made = mapped or mounted.mapping or namespaces.is_new(draft, "time")
    asked = draft.linux.get("sysctl") or draft.process.get("oomScoreAdj") is not None
    if not made and not asked and not security.is_confined(draft) and not security.is_labelled(draft):
        return ()
    from ocirun.planner import procfs

    return (*procfs.open_proc(), *procfs.oom_score(draft))


def _sysctl(draft: Draft) -> Sequence[Step]:
    """Kernel parameters, where there are some."""
    if not draft.linux.get("sysctl"):
        return ()
    from ocirun.planner import procfs

    return procfs.sysctl(draft)


def _limits(draft: Draft) -> Sequence[Step]:
    """As with hooks: device rules alone are no limits."""
    if not draft.linux.get("resources", {}).keys() - {"devices"}:
        return ()
    from ocirun.planner import resources

    return resources.limit(draft)


def _ownership(draft: Draft) -> Sequence[Step]:
    """Only users of the container that are not root on the host get something."""
    if draft.uid == 0 and namespaces.index_of(draft, "user") < 0:
        return ()
    from ocirun.planner import ownership

    return ownership.own(draft)


def _inside(draft: Draft, mounted: Mounts) -> list[Step]:
    """The steps from the new root to the program."""
    return [
        *console.take(draft),
        *root.readonly(draft),
        *mounted.closed,
        *namespaces.hostname(draft),
        *namespaces.domainname(draft),
        *security.selinux(draft),
        *security.apparmor(draft),
        *_sysctl(draft),
        *paths.readonly(draft),
        *paths.mask(draft),
        *root.propagation(draft),
        *security.new_privileges(draft),
        *security.scheduling(draft),
        *program.find_home(draft),
        *program.enter_cwd(draft),
        *lifecycle.close_descriptors(draft, waits=True),
        *console.own_stdio(draft),
        *identity.rlimits(draft),
        *security.become(draft),
        *lifecycle.await_start(),
        *_start_hooks(draft),
        *program.execute(draft),
    ]
