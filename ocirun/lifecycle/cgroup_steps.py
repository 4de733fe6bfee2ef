"""The host's steps in a cgroup that was made: limits, and whose it is.  Loaded only for a container that has
some."""

from __future__ import annotations

import os

from ocirun.cgroup.ownership import give
from ocirun.cgroup.settings import set_cgroup
from ocirun.errors import DriverError, Fault, words_of
from ocirun.files import write_file

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
        where, owner, group = step.args
        give(str(where), int(str(owner)), int(str(group)))
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


def enter_subgroup(step: Step, pid: int, *, stays: bool) -> None:
    """Makes the cgroup of the payload and puts ``pid`` into it; raises DriverError, also below a cgroup that
    ``stays``, where nobody would remove it at the end."""
    path, inner, owner, group = step.args
    where = f"{path!s}/{inner!s}"
    if stays:
        raise _refused(
            step, where, f"{path!s} was there before", "name in cgroupsPath one that is to be made"
        )
    try:
        os.makedirs(where, exist_ok=True)
        if owner != -1:
            give(where, int(str(owner)), int(str(group)))
        write_file(f"{where}/cgroup.procs", b"%d" % pid)
    except OSError as error:
        raise _refused(step, where, words_of(error.errno or 0), "", error.errno or 0) from error


def _refused(step: Step, where: str, why: str, hint: str, number: int = 0) -> DriverError:
    return DriverError(
        f"make the cgroup {where} of the payload: {why}",
        pointer=step.pointer, operation=step.verb, errno=number, path=where, hint=hint,
    )  # fmt: skip
