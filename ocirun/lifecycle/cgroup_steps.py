"""The host's steps in a cgroup that was made: limits, and whose it is.  Loaded only for a container that has
some."""

from __future__ import annotations

from ocirun.cgroup.settings import set_cgroup
from ocirun.errors import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun.cgroup.restoring import Before
    from ocirun.plan.model import Step


def perform(step: Step, stays: bool, kept: list[Before], warn: Callable[[Fault], None]) -> None:
    """Performs set_cgroup, own_cgroup or limit_processes; raises DriverError.

    In a cgroup that ``stays``, what its limits were is ``kept`` for a create that fails, and whose it is does
    not change, which ``warn`` is told: nobody would take it back from the user at the end.
    """
    if step.verb == "own_cgroup" and stays:
        rule = f"the cgroup {step.args[0]!s} was there before and is not given to the user {step.args[1]!s}"
        warn(Fault(step.pointer, rule, hint="chown it before, or name in cgroupsPath one that is to be made"))
        return
    if step.verb == "own_cgroup":
        from ocirun.cgroup.ownership import give

        where, owner = step.args
        give(str(where), int(str(owner)))
        return
    if stays and not kept:
        from ocirun.cgroup.restoring import Before

        kept.append(Before())
    if step.verb == "limit_processes":  # when stage is gone
        words, needed = ["pids.max", str(step.args[1])], True
    else:
        _, writes, required = step.args
        assert isinstance(writes, tuple)
        words, needed = [str(word) for word in writes], bool(required)
    note = kept[0].note if kept else None
    set_cgroup(str(step.args[0]), words, needed=needed, pointer=step.pointer, note=note)
