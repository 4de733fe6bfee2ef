"""Executes a program in a container and dies, or lets the helper die, just before one step (a program of its
own).

``python -m tests.host.exec_faults count|helper|ocirun ROOT ID INDEX``: see tests.host.faults.
"""

from __future__ import annotations

import os
import sys

from ocirun.lifecycle import exec as execution
from ocirun.lifecycle.store import Store
from ocirun.plan import compile as compiling
from ocirun.plan import steps
from ocirun.plan.compile import Program
from ocirun.plan.model import Plan
from ocirun.waiting import drive
from tests.host import faults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun_spec.types import Process

    from ocirun.executor.run import Execution, Performer


def main(what: str, root: str, container: str, index: str) -> None:
    """See the module."""
    steps.VERBS["die"] = (0, "host", "s", "")
    performers = execution._performers

    def compiled(plan: Plan) -> Program:
        program = compiling.compile_plan(plan)
        if what == "count":
            sys.stdout.write(f"{len(program.records)}\n")
            sys.exit(0)
        return faults.with_fault(program, int(index), what)

    def with_die(
        target: execution.Target, options: execution.ProcessOptions, going: Execution
    ) -> dict[str, Performer]:
        return {**performers(target, options, going), "die": faults._die}

    setattr(execution, "compile_plan", compiled)  # noqa: B010 - the name is not exported
    setattr(execution, "_performers", with_die)  # noqa: B010
    process: Process = {"args": ["sleep", "1000"], "cwd": "/", "env": ["PATH=/bin"], "terminal": True}
    options = execution.ProcessOptions(foreground=True)
    made = drive(execution.exec_process(Store(root), container, process, options))
    os.close(made.pidfd)


if __name__ == "__main__":
    main(*sys.argv[1:])
