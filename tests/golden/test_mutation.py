"""Every plan with one step dropped, or two neighbours swapped, is refused by the linter.

A mutant that passes is listed in survivors.txt with the reason: a line is ``drop VERB: why`` or ``swap VERB
VERB: why``.  A line that no mutant needs fails, too.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from ocirun.plan.lint import lint
from ocirun.plan.model import Plan, Step
from tests.golden import cases

if TYPE_CHECKING:
    from collections.abc import Iterator

SURVIVORS = cases.HERE / "survivors.txt"
#: Verbs whose steps only make a thing of their own at a path of their own.
MAKERS = ("make_device", "make_symlink", "open_tree", "open_filesystem", "set_sysctl", "open_device")


def commute(first: Step, second: Step) -> bool:
    """Whether the two may stand in either order: each makes something else, and neither looks at the other's.
    (The linter keeps the order of lists of the config all the same.)"""
    if first.verb == second.verb == "attach":  # default devices, each at its own place
        return first.pointer == second.pointer == "/linux/devices"
    return first.verb == second.verb and first.verb in MAKERS and first.args != second.args


def mutants(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """Each plan that is one step short or has two neighbours swapped, with the name of the change."""
    steps = list(plan.steps)
    for at, step in enumerate(steps):
        yield f"drop {step.verb}", Plan(plan.id, steps[:at] + steps[at + 1 :])
    for at, (first, second) in enumerate(pairwise(steps)):
        if not commute(first, second):
            swapped = [*steps[:at], second, first, *steps[at + 2 :]]
            yield f"swap {first.verb} {second.verb}", Plan(plan.id, swapped)


def explained() -> dict[str, str]:
    """The survivors that are explained, with the reason."""
    lines = [line for line in SURVIVORS.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    return {change.strip(): reason.strip() for change, _, reason in (line.partition(":") for line in lines)}


def test_every_mutant_is_refused_or_explained() -> None:
    survivors = {
        change
        for name in cases.NAMES + cases.EXECS + cases.ROOTS
        for change, mutant in mutants(cases.planned(name))
        if not lint(mutant, cases.judged_by(name))
    }

    assert survivors == explained().keys()


def test_every_explanation_names_a_test_that_exists() -> None:
    for change, reason in explained().items():
        path, _, name = reason.rpartition(" ")[2].partition("::")
        assert f"def {name}(" in (cases.HERE.parents[1] / path).read_text(encoding="utf-8"), change
