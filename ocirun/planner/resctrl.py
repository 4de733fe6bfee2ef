"""``linux.intelRdt``: the class of service and the monitoring group of resctrl (config-linux.md, IntelRdt;
resctrl.rst)."""

from __future__ import annotations

from ocirun.plan import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun_spec.types import IntelRdt

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft

HERE = "/linux/intelRdt"
_NOTHING: IntelRdt = {}
#: Directories of resctrl that are no classes.
_RESERVED = ("info", "mon_data", "mon_groups")


def make(draft: Draft) -> Sequence[Step]:
    """The class with its lines, and the group: before all else, so that a refusal comes first."""
    asked = draft.linux.get("intelRdt", _NOTHING)
    _check(draft, asked)
    return (
        steps.make_resctrl(
            mount=draft.host.resctrl,
            group=group(asked, draft.options.id),
            own=int("closID" not in asked),
            l3=asked.get("l3CacheSchema", ""),
            bandwidth=asked.get("memBwSchema", ""),
            schemata=asked.get("schemata", ()),
            monitor=monitor(asked, draft.options.id),
            pointer=HERE,
        ),
    )


def enter(draft: Draft) -> Sequence[Step]:
    """The process, first into the class and then into the group: the kernel takes only one that is in the
    class of the group."""
    asked = draft.linux.get("intelRdt", _NOTHING)
    name, monitoring = group(asked, draft.options.id), monitor(asked, draft.options.id)
    place = f"{draft.host.resctrl}/{name}" if name else draft.host.resctrl
    places = (place, f"{place}/mon_groups/{monitoring}") if monitoring else (place,)
    return (steps.enter_resctrl(places=places, pointer=HERE),)


def group(asked: IntelRdt, container: str) -> str:
    """The directory of the class: "" is the default one."""
    name = asked.get("closID", container)
    return "" if name == "/" else name


def monitor(asked: IntelRdt, container: str) -> str:
    """The name of the group that monitors, "" for none."""
    return container if asked.get("enableMonitoring") else ""


def _check(draft: Draft, asked: IntelRdt) -> None:
    name = group(asked, draft.options.id)
    if name in _RESERVED:
        rule = f"cannot be {name}, which is no class of resctrl"
        draft.fault(f"{HERE}/closID", asked.get("closID"), rule, "give the class another name")
    if draft.host.unprivileged:
        draft.lack(HERE, "resctrl belongs to root of the host", "run as root, or leave intelRdt out")
    elif not draft.host.resctrl:
        hint = "mount -t resctrl resctrl /sys/fs/resctrl, on a CPU that has it: see rdt_a in /proc/cpuinfo"
        draft.lack(HERE, "resctrl is not mounted", hint)
