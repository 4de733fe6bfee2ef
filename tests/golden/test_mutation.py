"""Every plan in which one thing was changed is refused by the linter: a step dropped, doubled or moved, two
swapped, an argument or the member that asked for it another.

A mutant that passes is listed in survivors.txt with the reason: a line is ``drop VERB: why``, ``change VERB
ARGUMENT: why`` and the like.  A line that no mutant needs fails, too.
"""

from __future__ import annotations

import functools
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from ocirun.plan.lint import complaints
from ocirun.plan.model import Plan, Step
from ocirun.plan.view import VERBS
from tests.golden import cases

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ocirun.plan.model import Argument

SURVIVORS = cases.HERE / "survivors.txt"
EVERY = cases.NAMES + cases.EXECS + cases.MOUNTINGS + cases.ROOTS
#: Verbs whose steps only make a thing of their own at a path of their own.
MAKERS = ("make_device", "make_symlink", "open_tree", "open_filesystem", "set_sysctl", "open_device")


def commute(first: Step, second: Step) -> bool:
    """Whether the two may stand in either order: each makes something else, and neither looks at the other's.
    (The linter keeps the order of lists of the config all the same.)"""
    if first.verb == second.verb == "attach":  # default devices, each at its own place
        return first.pointer == second.pointer == "/linux/devices" or _are_devices(first, second)
    return first.verb == second.verb and first.verb in MAKERS and first.args != second.args


def _are_devices(first: Step, second: Step) -> bool:
    return first.pointer == "/linux/devices" and second.pointer.startswith("/linux/devices/")


def mutants(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """Each plan that has one change, with the name of the change."""
    for change, steps in (*_misplaced(plan), *_altered(plan)):
        yield (
            change,
            Plan(
                plan.id, steps, plan.warnings, unprivileged=plan.unprivileged,
                without_cgroup=plan.without_cgroup,
            ),
        )  # fmt: skip


def _misplaced(plan: Plan) -> Iterator[tuple[str, list[Step]]]:
    """One step dropped, done twice, first or last of all; two neighbours swapped."""
    steps = list(plan.steps)
    for at, step in enumerate(steps):
        rest = steps[:at] + steps[at + 1 :]
        yield f"drop {step.verb}", rest
        if at not in _examples(plan):
            continue
        yield f"double {step.verb}", [*steps[:at], step, *steps[at:]]
        if at:
            yield f"first {step.verb}", [step, *rest]
        if rest[at:]:
            yield f"last {step.verb}", [*rest, step]
    for at, (first, second) in enumerate(pairwise(steps)):
        if not commute(first, second):
            yield f"swap {first.verb} {second.verb}", [*steps[:at], second, first, *steps[at + 2 :]]


def _altered(plan: Plan) -> Iterator[tuple[str, list[Step]]]:
    """One argument of one step changed, or the member that asked for it."""
    steps = list(plan.steps)
    slots = sorted({str(value) for step in steps for kind, value in _arguments(step) if kind[1] == "out"})
    for at in _examples(plan):
        step = steps[at]
        for place, ((name, kind), value) in enumerate(_arguments(step)):
            for other in _others(kind, value, slots):
                args = (*step.args[:place], other, *step.args[place + 1 :])
                changed = Step(step.verb, args, step.pointer, step.why)
                yield f"change {step.verb} {name}", [*steps[:at], changed, *steps[at + 1 :]]
        for pointer in ("", "/hostname", "/process/cwd"):
            if pointer != step.pointer:
                changed = Step(step.verb, step.args, pointer, step.why)
                yield f"change {step.verb} pointer", [*steps[:at], changed, *steps[at + 1 :]]


def _examples(plan: Plan) -> list[int]:
    """Where the first, the second and the last step of each verb stand, for each of its askers: one masked
    path is like another."""
    places: dict[tuple[str, str], list[int]] = {}
    for at, step in enumerate(plan.steps):
        places.setdefault((step.verb, step.pointer.rpartition("/")[0]), []).append(at)
    return sorted({at for found in places.values() for at in (*found[:2], found[-1])})


def _arguments(step: Step) -> list[tuple[tuple[str, str], Argument]]:
    return list(zip(VERBS[step.verb].args, step.args, strict=True))


def _others(kind: str, value: Argument, slots: list[str]) -> Sequence[Argument]:
    """What stands in for an argument: nothing, something else, and a number without its lowest bit."""
    if kind == "slot":
        return [slot for slot in slots if slot != value][:4]
    if kind == "out":
        return [f"{value!s}.other"]
    if isinstance(value, int):
        return [other for other in {0, value & (value - 1), value | 1, 1 << 21} - {value} if other >= 0]
    if isinstance(value, str):
        return [other for other in ("", f"{value}/x", value[:-1]) if other != value]
    if isinstance(value, bytes):
        return [b"", value[: len(value) // 2]]
    return [other for other in ((), value[1:], value[::-1]) if other != value]


def explained() -> dict[str, str]:
    """The survivors that are explained, with the reason."""
    lines = [line for line in SURVIVORS.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    return {change.strip(): reason.strip() for change, _, reason in (line.partition(":") for line in lines)}


@functools.cache
def survivors(name: str) -> frozenset[str]:
    """The changes of the plan of one bundle that the linter lets pass."""
    judge = cases.judged_by(name)
    return frozenset(
        change for change, mutant in mutants(cases.planned(name)) if not any(complaints(mutant, judge))
    )


@pytest.mark.parametrize("name", EVERY)
def test_every_mutant_is_refused_or_explained(name: str) -> None:
    assert survivors(name) - explained().keys() == set()


def test_every_explanation_is_needed() -> None:
    found: set[str] = set()
    for name in (
        *cases.ROOTS,
        *cases.EXECS,
        *cases.MOUNTINGS,
        *cases.NAMES,
    ):  # those with many survivors first
        found |= survivors(name)
        if found == explained().keys():
            return
    assert explained().keys() - found == set()


def test_every_explanation_names_a_test_that_exists() -> None:
    for change, reason in explained().items():
        path, _, name = reason.rpartition(" ")[2].partition("::")
        assert f"def {name}(" in (cases.HERE.parents[1] / path).read_text(encoding="utf-8"), change
