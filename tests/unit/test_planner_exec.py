"""The plan of an exec: what it takes from the container, what from the process, and its laws."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ocirun.errors import ConfigError, HostError
from ocirun.plan import steps
from ocirun.plan.compile import compile_plan
from ocirun.plan.lint import lint
from ocirun.plan.model import LIFECYCLE, Plan, Step
from ocirun.planner.exec import plan_exec, stand_in
from tests.golden import cases

if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun_spec.types import Process


def process() -> Process:
    return {"args": ["true"], "cwd": "/", "env": ["PATH=/bin", "HOME=/"]}


def planned(wanted: Process, *, console_socket: bool = True) -> Plan:
    options = cases.exec_options(console_socket=console_socket)
    return plan_exec(cases.config(), wanted, cases.a_host(), options)


def the(plan: Plan, verb: str) -> Step:
    (step,) = [step for step in plan.steps if step.verb == verb]
    return step


def faults(wanted: Process, *, console_socket: bool = True) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        planned(wanted, console_socket=console_socket)
    return {fault.pointer: fault.rule for fault in caught.value.faults}


def test_capabilities_left_out_are_those_of_the_container() -> None:
    assert the(planned(process()), "set_capabilities").args == (0x20000420, 0x20000420, 0)
    assert the(planned({**process(), "capabilities": {}}), "set_capabilities").args == (0, 0, 0)


def test_nothing_else_is_taken_from_the_process_of_the_container() -> None:
    verbs = {step.verb for step in planned(process()).steps}
    assert not verbs & {"set_rlimit", "forbid_new_privileges", "make_console"}


def test_neither_config_nor_process_is_changed() -> None:
    config, wanted = cases.config(), process()
    stand_in(config, wanted)
    assert (config, wanted) == (cases.config(), process())


def test_every_fault_of_the_process_is_told() -> None:
    wanted: Process = {
        "args": [""],
        "cwd": "tmp",
        "env": ["X"],
        "user": {"uid": 0xFFFFFFFF, "gid": 0, "username": "me"},
        "terminal": True,
    }
    assert faults(wanted, console_socket=False).keys() == {
        "/process/args/0", "/process/cwd", "/process/env/0", "/process/user/uid", "/process/user/username",
        "/process/terminal",
    }  # fmt: skip


def test_what_the_kernel_cannot_be_told_is_a_fault_and_bytes_are_not() -> None:
    assert faults({**process(), "args": ["true", "a\0b"]}).keys() == {"/process/args"}
    assert the(planned({**process(), "args": ["echo", "\udcff"]}), "exec").args[0] == ("echo", "\udcff")


def test_a_host_that_lacks_root_is_told() -> None:
    with pytest.raises(
        HostError, match="an ordinary user may enter only a container that has a user"
    ) as caught:
        plan_exec(cases.config(), process(), cases.a_host(euid=1000), cases.exec_options())
    assert (caught.value.pointer, caught.value.hint) == ("/linux/namespaces", "run as root")


def test_the_helper_gets_init_in_a_rendezvous_before_it_joins() -> None:
    program = compile_plan(planned(process()))
    assert [step.verb for _, step in program.records[:4]] == [
        "hide_process", "meet", "open_cgroup", "join_namespaces",
    ]  # fmt: skip
    (meeting,) = program.meets.values()
    assert ([step.verb for _, step in meeting.steps], meeting.give, meeting.take) == (
        ["open_init"],
        [],
        ["init"],
    )


def changed(change: Callable[[list[Step]], object], name: str = "exec/terminal-user") -> list[str]:
    """What the linter says of a golden plan after ``change``."""
    several = list(cases.planned(name).steps)
    change(several)
    return lint(Plan(name, several), cases.judged_by(name))


def replaced(verb: str, *args: int | str) -> Callable[[list[Step]], None]:
    """Gives the step of ``verb`` other arguments."""

    def change(several: list[Step]) -> None:
        at = next(at for at, step in enumerate(several) if step.verb == verb)
        several[at] = Step(verb, args, several[at].pointer, several[at].why)

    return change


@pytest.mark.parametrize(
    ("verb", "args", "complaint"),
    [
        (
            "clone_init",
            (0x20000000, "cgroup", 0),
            "step 5: a new namespace in a plan that enters a container",
        ),
        ("join_namespaces", ("init", 0x20000000), "step 4: the mount namespace is not joined"),
        (
            "make_console",
            (0, 0, 1, "console", "terminal"),
            "step 8: the console of the container is that of its init",
        ),
    ],
)
def test_a_law_of_entering(verb: str, args: tuple[int | str, ...], complaint: str) -> None:
    assert complaint in changed(replaced(verb, *args))


def test_an_exec_mounts_nothing() -> None:
    proc = steps.mask_path(path="/x", below="", null="init", pointer="", why=LIFECYCLE)
    complaints = changed(lambda several: several.insert(10, proc))
    assert "step 11: mask_path has no place in a plan that enters a container" in complaints
