"""The plan of a restore: what create makes around a container, which criu then fills.

Before criu comes the cgroup, in which it is put so that all it makes is in there as well, and so with the
class of resctrl; the limits, the
owner and the rules of devices come when it is done, and before the program goes on: they are for the
container, and not for criu.
"""

from __future__ import annotations

from ocirun.plan.model import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun_spec.types import Config

#: What there must be for criu.
_BEFORE = ("vacate_cgroup", "make_cgroup", "make_scope", "make_resctrl", "enter_resctrl")
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
