"""The host's steps of intelRdt: the class is made and noted, processes enter it, the delete removes it."""

from __future__ import annotations

from ocirun import host as facts
from ocirun.cgroup import resctrl
from ocirun.errors import HostError, StateError
from ocirun.planner.resctrl import group, monitor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ocirun_spec.types import Config

    from ocirun.plan.model import Step

_HERE = "/linux/intelRdt"


def perform(
    step: Step, pid: int, note: Callable[[str], object] = str, refused: Callable[[str], object] = str
) -> None:
    """Performs make_resctrl, enter_resctrl (for ``pid``) or remove_resctrl; ``note`` is told of directories
    that are to go with the container, ``refused`` of those of them that are not its own.  Raises
    DriverError."""
    if step.verb == "make_resctrl":
        mount, group, own, l3, bandwidth, schemata, monitor = step.args
        assert isinstance(schemata, tuple)
        lines = [str(line) for line in schemata]
        wanted = resctrl.Wanted(
            str(mount), str(group), str(l3), str(bandwidth), lines, str(monitor), own=bool(own)
        )
        resctrl.make(wanted, note, refused)
    elif step.verb == "enter_resctrl":
        places = step.args[0]
        assert isinstance(places, tuple)
        resctrl.enter([str(place) for place in places], pid)
    else:
        resctrl.remove(str(step.args[0]))


def own_class(container: str, config: Config, lines: Mapping[str, str]) -> resctrl.Wanted:
    """The container's own class with new lines; raises StateError where it has none, HostError without
    resctrl."""
    asked = config.get("linux", {}).get("intelRdt")
    if asked is None:
        raise StateError(
            "the container has no class of service",
            pointer=_HERE,
            hint="create it with an intelRdt, be it {}",
        )
    if "closID" in asked:
        raise StateError(
            f"the class of service {asked['closID']} may be that of others as well",
            pointer=f"{_HERE}/closID",
            hint="write to its file schemata",
        )
    mount = facts.gather(resctrl=True).resctrl
    if not mount:
        raise HostError("resctrl is not mounted", pointer=_HERE)
    l3, bandwidth = lines.get("l3CacheSchema", ""), lines.get("memBwSchema", "")
    return resctrl.Wanted(mount, container, l3, bandwidth, own=True)


def service(config: Config, container: str) -> resctrl.Wanted | None:
    """The class and the group of a container by the ``config`` it was made of, without lines; None for a
    container without, and where resctrl is mounted no more."""
    asked = config.get("linux", {}).get("intelRdt")
    mount = facts.gather_for(config).resctrl if asked is not None else ""
    if asked is None or not mount:
        return None
    return resctrl.Wanted(mount, group(asked, container), monitor=monitor(asked, container))
