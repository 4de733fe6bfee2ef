"""The host's steps of intelRdt: the class is made and noted, processes enter it, the delete removes it."""

from __future__ import annotations

from ocirun.cgroup import resctrl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun.plan.model import Step


def perform(step: Step, pid: int, note: Callable[[str], object] = str) -> None:
    """Performs make_resctrl, enter_resctrl (for ``pid``) or remove_resctrl; ``note`` is told of directories
    that are to go with the container.  Raises DriverError."""
    if step.verb == "make_resctrl":
        mount, group, own, l3, bandwidth, schemata, monitor = step.args
        assert isinstance(schemata, tuple)
        lines = [str(line) for line in schemata]
        wanted = resctrl.Wanted(
            str(mount), str(group), str(l3), str(bandwidth), lines, str(monitor), own=bool(own)
        )
        resctrl.make(wanted, note)
    elif step.verb == "enter_resctrl":
        places = step.args[0]
        assert isinstance(places, tuple)
        resctrl.enter([str(place) for place in places], pid)
    else:
        resctrl.remove(str(step.args[0]))
