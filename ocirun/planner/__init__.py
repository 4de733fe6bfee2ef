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
    scope.check(draft)
    steps = _outside_and_root(draft) + _inside(draft)
    draft.check_texts(steps)
    if len(steps) > LONGEST:
        draft.fault("", None, f"needs {len(steps)} steps, more than the {LONGEST} of the longest plan")
    draft.settle()
    return Plan(options.id, steps, draft.warnings)


def _outside_and_root(draft: Draft) -> list[Step]:
    """The steps until init stands in its own root: host, stage, then the mounts."""
    opened, mounted = mounts.plan(draft)
    return [
        *cgroup.make(draft),
        *_limits(draft),
        *lifecycle.hide(),
        *lifecycle.handshake(draft),
        *root.open_root(draft),
        *opened,
        *paths.open_null(draft),
        *devices.open_devices(draft),
        *_joining(draft, "open_namespaces"),
        *cgroup.open_cgroup(draft),
        *devices.allow(draft),
        *_proc(draft),
        *_joining(draft, "join"),
        *_joining(draft, "id_maps"),
        *namespaces.clone(draft),
        *_joining(draft, "enter"),
        *security.keyring(draft),
        *namespaces.loopback(draft),
        *root.attach(draft),
        *mounted,
        *devices.make(draft),
        *program.make_cwd(draft),
        *console.make(draft),
        *_hooks(draft),
        *root.pivot(draft),
    ]


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


def _proc(draft: Draft) -> Sequence[Step]:
    """The procfs and what stage writes there, where something has to be written."""
    made = namespaces.is_new(draft, "user") or namespaces.is_new(draft, "time")
    if draft.process.get("oomScoreAdj") is None and not draft.linux.get("sysctl") and not made:
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


def _inside(draft: Draft) -> list[Step]:
    """The steps from the new root to the program."""
    return [
        *console.take(draft),
        *root.readonly(draft),
        *mounts.readonly(draft),
        *namespaces.hostname(draft),
        *namespaces.domainname(draft),
        *_sysctl(draft),
        *paths.readonly(draft),
        *paths.mask(draft),
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
        *lifecycle.await_start(),
        *_start_hooks(draft),
        *program.execute(draft),
    ]
