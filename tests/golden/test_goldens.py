"""Whole plans, as text that people have reviewed; OCIRUN_UPDATE_GOLDEN=1 writes them anew."""

from __future__ import annotations

import os

import pytest

from ocirun.cli.commands_spec import default_config
from ocirun.config import read
from ocirun.plan.compile import compile_plan
from ocirun.plan.lint import lint
from ocirun.plan.show import show
from ocirun.planner import Options, plan
from ocirun.planner.restoring import plan_restore, plan_root
from tests.golden import cases

README = cases.HERE.parents[1] / "README.md"


@pytest.mark.parametrize("name", cases.NAMES + cases.EXECS + cases.MOUNTINGS + cases.ROOTS)
def test_the_plan_is_the_reviewed_one(name: str) -> None:
    path = cases.HERE / f"{name}.plan"
    text = show(cases.planned(name))
    if os.environ.get("OCIRUN_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", cases.NAMES + cases.EXECS + cases.MOUNTINGS + cases.ROOTS)
def test_the_plan_breaks_no_law_and_compiles(name: str) -> None:
    plan = cases.planned(name)

    assert lint(plan, cases.judged_by(name)) == []
    program = compile_plan(plan)
    assert len(program.before) + len(program.records) + sum(
        len(meet.steps) - 1 for meet in program.meets.values()
    ) + (program.listener is not None) == (len(plan.steps))


def test_the_plan_in_the_readme_is_the_one_of_the_config_that_spec_writes() -> None:
    """On a host whose cgroup2 has no controllers; shortened, and with other spaces."""
    example = README.read_text().partition("`ocirun plan --bundle hello`")[2].split("\n\n")[1]
    wanted = Options(
        "hello", bundle="/root/hello", state_directory="/run/ocirun/hello", foreground_terminal=True
    )
    host = cases.a_host(cgroup_mount="/sys/fs/cgroup/unified", hybrid=True, controllers=frozenset())
    text = show(plan(read(default_config().encode()).config, host, wanted))
    whole = [line.split() for line in text.splitlines()]
    for line in example.splitlines():
        words = line.split()
        assert words in [shown[: len(words)] for shown in whole]


@pytest.mark.parametrize("name", cases.RESTORES)
def test_the_plans_before_and_after_criu_are_the_reviewed_ones(name: str) -> None:
    path = cases.HERE / f"restore/{name}.plan"
    plans = plan_restore(cases.planned(name))
    text = "\n".join(map(show, plans))
    if os.environ.get("OCIRUN_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
    before, after = map(compile_plan, plans)
    assert before.before
    assert not before.records  # no helper runs where criu waits
    assert {step.verb for _, step in after.records} == {"open_cgroup", "allow_devices"}


@pytest.mark.parametrize("name", cases.ROOTS)
def test_the_plan_that_opens_the_root_of_a_restore_is_the_reviewed_one(name: str) -> None:
    path = cases.HERE / f"restore/{name}.plan"
    opening = plan_root(cases.planned(name))
    if os.environ.get("OCIRUN_UPDATE_GOLDEN"):
        path.write_text(show(opening), encoding="utf-8")
    assert show(opening) == path.read_text(encoding="utf-8")
    (meeting,) = compile_plan(opening).meets.values()
    assert [step.verb for _, step in meeting.steps] == ["keep_tree"] * len(meeting.give)


@pytest.mark.parametrize("name", cases.NAMES)
def test_a_root_that_is_a_directory_is_not_opened_for_a_restore(name: str) -> None:
    assert not plan_root(cases.planned(name)).steps


def test_no_reviewed_plan_is_left_over() -> None:
    assert sorted(path.stem for path in cases.HERE.glob("*.plan")) == cases.NAMES
    assert sorted(f"exec/{path.stem}" for path in cases.HERE.glob("exec/*.plan")) == cases.EXECS
    assert sorted(f"mounting/{path.stem}" for path in cases.HERE.glob("mounting/*.plan")) == cases.MOUNTINGS
    for directory in ("", "restore/"):
        found = cases.HERE.glob(f"{directory}rootfs/*.plan")
        assert sorted(f"rootfs/{path.stem}" for path in found) == cases.ROOTS


@pytest.mark.parametrize(
    "name", [name for name in cases.NAMES if "intelRdt" not in cases.config(name).get("linux", {})]
)
def test_no_plan_touches_resctrl(name: str) -> None:
    """A config without intelRdt must leave it alone (config-linux.md#intelrdt)."""
    assert "resctrl" not in show(cases.planned(name))


@pytest.mark.parametrize("name", cases.NAMES)
def test_the_bundle_has_no_fault_and_no_misspelt_member(name: str) -> None:
    assert read((cases.HERE / f"{name}.json").read_bytes()).warnings == ()
