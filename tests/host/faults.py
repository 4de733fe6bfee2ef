"""Creates a container and dies, or lets the helper die, just before one step of the plan (a program of its
own).

``python -m tests.host.faults count|helper|ocirun ROOT ID BUNDLE INDEX [MANAGER [NOTIFY RESCTRL]]``: the
rendezvous of the compiler is put in before the record INDEX, and what the host does there is to kill.
``count`` prints how many records there are.  NOTIFY is where a manager of services listens, RESCTRL a
directory that simulates resctrl, which only ``delete`` can clean up then.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from ocirun import host
from ocirun.journal import Writer
from ocirun.lifecycle import create as creation
from ocirun.lifecycle.delete import delete
from ocirun.lifecycle.store import Store
from ocirun.plan import compile as compiling
from ocirun.plan import steps
from ocirun.plan.compile import Meeting, Program
from ocirun.plan.model import Plan, Step
from ocirun.planner.draft import CGROUPFS
from ocirun.waiting import Wait, drive
from tests.resctrl_tree import Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.executor.run import Execution, Performer
    from ocirun.waiting import Task

#: No plan is so long that a step of it has this index.
INDEX = 60000
VICTIMS = ("helper", "ocirun")


def _children() -> list[int]:
    return [int(pid) for pid in Path("/proc/self/task", str(os.getpid()), "children").read_text().split()]


def _die(step: Step, slots: dict[str, int]) -> Task[None]:
    del slots
    if step.args[0] == "ocirun":
        os.kill(os.getpid(), signal.SIGKILL)
    for pid in _children():
        os.kill(pid, signal.SIGKILL)
    yield Wait(until=0.0)


def with_fault(program: Program, index: int, victim: str) -> Program:
    """``program`` with a deadly rendezvous before its record ``index``."""
    program.records.insert(index, (INDEX, steps.meet(give=(), take=(), pointer="")))
    program.meets[INDEX] = Meeting([(INDEX, Step("die", (victim,), ""))], [])
    return program


def _simulate(mount: str) -> None:
    patch = pytest.MonkeyPatch()
    Tree(Path(mount), patch)
    patch.setattr(host, "_resctrl", lambda: mount)


def main(
    what: str,
    root: str,
    container: str,
    bundle: str,
    index: str,
    cgroup_manager: str = CGROUPFS,
    notify: str = "",
    resctrl: str = "",
) -> None:
    """See the module."""
    if resctrl:
        _simulate(resctrl)
    if what == "delete":
        drive(delete(Store(root), container, force=True))
        return
    steps.VERBS["die"] = (0, "host", "s", "")
    performers = creation.performers_of

    def compiled(plan: Plan) -> Program:
        program = compiling.compile_plan(plan)
        if what == "count":
            sys.stdout.write(f"{len(program.records)}\n")
            sys.exit(0)
        return with_fault(program, int(index), what)

    def with_die(
        options: creation.CreateOptions, writer: Writer, execution: Execution, directory: str
    ) -> dict[str, Performer]:
        return {**performers(options, writer, execution, directory), "die": _die}

    setattr(creation, "compile_plan", compiled)  # noqa: B010 - the name is not exported
    setattr(creation, "performers_of", with_die)  # noqa: B010
    options = creation.CreateOptions(bundle, foreground=True, cgroup_manager=cgroup_manager, notify=notify)
    drive(creation.create(Store(root), container, options))


if __name__ == "__main__":
    main(*sys.argv[1:])
