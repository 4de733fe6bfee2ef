"""The plan of a restore: what create makes around a container, which criu then fills.

A root file system that is a list of mounts is opened first of all: criu begins with it in place.  Before criu
comes the cgroup, in which it is put so that all it makes is in there as well, and so with the class of
resctrl; the limits, the owner and the rules of devices come when it is done, and before the program goes on:
they are for the container, and not for criu.
"""

from __future__ import annotations

from ocirun.plan import steps
from ocirun.plan.model import LIFECYCLE, Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun_spec.types import Config

    from ocirun.plan.model import Step

#: What there must be for criu.
_BEFORE = ("vacate_cgroup", "make_cgroup", "make_scope", "make_resctrl", "enter_resctrl")
_OPENING, _ATTACHING = ("open_filesystem", "open_tree"), ("attach_root", "attach")
_AFTER = ("set_cgroup", "own_cgroup", "limit_processes", "open_cgroup", "allow_devices")


def plan_restore(created: Plan) -> tuple[Plan, Plan]:
    """The plans before and after criu, from the plan that would create the container."""
    before, after = (
        Plan(
            created.id,
            [step for step in created.steps if step.verb in verbs],
            unprivileged=created.unprivileged,
            without_cgroup=created.without_cgroup,
        )
        for verbs in (_BEFORE, _AFTER)
    )
    return before, after


def plan_root(created: Plan) -> Plan:
    """The plan that opens the mounts which make the root file system and hands them to the host, without a
    step where it is a directory."""
    opened = [step for step in created.steps if step.verb in _OPENING and _is_of_root(step)]
    if not opened:
        return Plan(created.id, [])
    attached = [step for step in created.steps if step.verb in _ATTACHING]
    trees = {step.args[-1] for step in opened}
    kept = [_kept(step) for step in attached if step.args[0] in trees]
    return Plan(created.id, [steps.hide_process(pointer="", why=LIFECYCLE), *opened, *kept])


def _is_of_root(step: Step) -> bool:
    return step.pointer.startswith("rootfs[")


def _kept(step: Step) -> Step:
    """What keeps the tree that ``step`` would attach in the container."""
    tree, *place, top_set, top_clear, below_set, below_clear, _ = step.args
    return steps.keep_tree(
        tree=str(tree),
        target=str(place[0]) if place else "/",
        set=int(str(top_set)),
        clear=int(str(top_clear)),
        rset=int(str(below_set)),
        rclear=int(str(below_clear)),
        pointer=step.pointer,
    )


def with_clocks(config: Config) -> Config:
    """``config`` as that of a restored container, who has a time namespace whatever it says: else the clocks
    of the host would not go on from where they were (time_namespaces(7))."""
    linux = config.get("linux", {})
    listed = linux.get("namespaces", [])
    if any(namespace["type"] == "time" for namespace in listed):
        return config
    changed = linux.copy()
    changed["namespaces"] = [*listed, {"type": "time"}]
    restored = config.copy()
    restored["linux"] = changed
    return restored
