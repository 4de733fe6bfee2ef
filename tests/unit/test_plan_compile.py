"""Compiling: slots get numbers, rendezvous stand where the host acts in between, broken plans are refused."""

from __future__ import annotations

import pytest

from ocirun.errors import HelperError
from ocirun.plan import steps
from ocirun.plan.compile import Program, compile_plan
from ocirun.plan.model import LIFECYCLE, Plan, Step
from tests.golden import cases

MAKE = steps.make_cgroup(mount="/cg", path="/a", parents=0, controllers="", pointer="", why=LIFECYCLE)
HIDE = steps.hide_process(pointer="", why=LIFECYCLE)
CLONE = steps.clone_init(namespaces=0, cgroup="cgroup", sharing=0, pointer="", why=LIFECYCLE)
CGROUP = steps.open_cgroup(path="/cg/a", cgroup="cgroup", pointer="", why=LIFECYCLE)
CONSOLE = steps.make_console(
    columns=0, rows=0, bind=1, console="console", terminal="terminal", pointer="/process/terminal"
)
SEND = steps.send_console(console="console", pointer="/process/terminal")
TAKE = steps.take_terminal(terminal="terminal", owner=0, pointer="/process/terminal")


def compiled(*several: Step) -> Program:
    return compile_plan(Plan("a", several))


def test_host_steps_before_the_helper_are_apart() -> None:
    program = compiled(MAKE, HIDE)

    assert program.before == [(1, MAKE)]
    assert program.records == [(2, HIDE)]


def test_a_host_step_between_becomes_a_rendezvous_that_gives_its_slots() -> None:
    program = compiled(MAKE, CGROUP, CLONE, CONSOLE, SEND, TAKE)

    assert [(index, step.verb) for index, step in program.records] == [
        (2, "open_cgroup"), (3, "clone_init"), (4, "make_console"), (5, "meet"), (6, "take_terminal"),
    ]  # fmt: skip
    assert program.slots == {"cgroup": 0, "console": 1, "terminal": 2}
    assert program.records[3][1].args == ((1,), ())
    meeting = program.meets[5]
    assert (meeting.steps, meeting.give, meeting.take) == ([(5, SEND)], ["console"], [])


def test_neighbouring_host_steps_share_a_rendezvous() -> None:
    program = compiled(CGROUP, CLONE, CONSOLE, SEND, MAKE, TAKE)

    assert list(program.meets) == [4]
    assert program.meets[4].steps == [(4, SEND), (5, MAKE)]


def test_host_steps_at_the_end_are_awaited() -> None:
    assert [step.verb for _, step in compiled(HIDE, MAKE).records] == ["hide_process", "meet"]


def test_an_undo_plan_has_only_records() -> None:
    kill = steps.kill_cgroup(path="/cg/a", pointer="", why=LIFECYCLE)
    remove = steps.remove_cgroup(path="/cg/a", parents=["/cg"], pointer="", why=LIFECYCLE)

    program = compiled(kill, remove)

    assert (program.before, program.records, program.meets) == ([], [(1, kill), (2, remove)], {})


def test_a_plan_of_the_host_alone_has_no_records() -> None:
    assert compiled(MAKE).records == []


@pytest.mark.parametrize(
    ("plan", "complaint"),
    [
        ((CLONE,), "step 1 of the plan, clone_init, uses the slot cgroup, which nothing has filled"),
        ((CGROUP, CGROUP), "step 2 of the plan, open_cgroup, fills the slot cgroup a second time"),
        (
            (CGROUP, CLONE, CONSOLE, HIDE),
            "step 4 of the plan, hide_process, is a step of stage, which is gone",
        ),
        ((HIDE, SEND), "step 2 of the plan, send_console, uses the slot console, which nothing has filled"),
        (
            (steps.exec(args=["a"], env=[], pointer=""), MAKE),
            "step 2 of the plan, make_cgroup, is a step of the host",
        ),
    ],
)
def test_a_broken_plan_is_an_internal_error(plan: tuple[Step, ...], complaint: str) -> None:
    with pytest.raises(HelperError) as caught:
        compiled(*plan)

    assert caught.value.message.startswith(complaint)
    assert caught.value.code == "internal"


def test_a_terminal_is_the_only_rendezvous_of_a_plan() -> None:
    plan = cases.planned("terminal")

    program = compile_plan(plan)

    (index,) = program.meets
    assert plan.steps[index - 1].verb == "send_console"
    assert compile_plan(cases.planned("default")).meets == {}
