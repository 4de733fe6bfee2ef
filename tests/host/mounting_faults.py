"""Adds mounts to a container and dies, or lets the helper die, just before one step (a program of its own).

``python -m tests.host.mounting_faults count|helper|ocirun ROOT ID INDEX FILE``: see tests.host.faults.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ocirun.executor.run import execute
from ocirun.lifecycle import mounting
from ocirun.lifecycle.store import Store
from ocirun.plan import compile as compiling
from ocirun.plan import steps
from ocirun.waiting import drive
from tests.host import faults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ocirun.executor.run import Execution, Observer, Performer
    from ocirun.plan.compile import Program
    from ocirun.plan.model import Plan
    from ocirun.waiting import Task


def main(what: str, root: str, container: str, index: str, file: str) -> None:
    """See the module."""
    steps.VERBS["die"] = (0, "host", "s", "")

    def compiled(plan: Plan) -> Program:
        """The first plan has the fault, those that undo it have none."""
        program = compiling.compile_plan(plan)
        setattr(mounting, "compile_plan", compiling.compile_plan)  # noqa: B010 - the name is not exported
        if what == "count":
            sys.stdout.write(f"{len(program.records)}\n")
            sys.exit(0)
        return faults.with_fault(program, int(index), what)

    def with_die(
        program: Program, performers: Mapping[str, Performer], observer: Observer, execution: Execution
    ) -> Task[None]:
        yield from execute(program, {**performers, "die": faults._die}, observer, execution)

    setattr(mounting, "compile_plan", compiled)  # noqa: B010
    setattr(mounting, "execute", with_die)  # noqa: B010
    wanted = json.loads(Path(file).read_text())
    drive(mounting.add_mounts(Store(root), container, wanted, file))


if __name__ == "__main__":
    main(*sys.argv[1:])
