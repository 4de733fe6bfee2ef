"""The linter: each law refuses the plan that breaks it, and says which step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ocirun.plan import lint as laws
from ocirun.plan import steps
from ocirun.plan.coverage import COVERAGE
from ocirun.plan.lint import lint
from ocirun.plan.model import LIFECYCLE, Plan, Step
from ocirun.plan.order import ORDER, in_a_scope
from ocirun.plan.table import TABLE, Verb
from ocirun.plan.view import VERBS, names
from tests.golden import cases

if TYPE_CHECKING:
    from collections.abc import Callable


def changed(change: Callable[[list[Step]], object], name: str = "default") -> list[str]:
    """What the linter says of a golden plan after ``change``."""
    several = list(cases.planned(name).steps)
    change(several)
    return lint(Plan(name, several), cases.config(name))


def at(several: list[Step], verb: str) -> int:
    return next(place for place, step in enumerate(several) if step.verb == verb)


def test_a_verb_must_stand_after_those_the_table_names() -> None:
    def mask_first(several: list[Step]) -> None:
        several.insert(at(several, "pivot_root"), several.pop(at(several, "mask_path")))

    complaints = changed(mask_first)

    assert "step 32: mask_path must stand after pivot_root (step 33)" in complaints


def test_a_second_step_of_its_kind_is_refused() -> None:
    twice = steps.set_hostname(name="other", pointer="/hostname")

    complaints = changed(lambda several: several.insert(at(several, "set_hostname"), twice))

    assert any(complaint.endswith("a second set_hostname") for complaint in complaints)


def test_a_step_after_exec_is_refused() -> None:
    late = steps.make_cgroup(mount="/a", path="/b", parents=0, controllers="", pointer="/linux/cgroupsPath")

    assert any("exec must be the last step" in line for line in changed(lambda several: several.append(late)))


def test_a_slot_that_nobody_uses_is_refused() -> None:
    spare = steps.open_tree(path="/a", recursive=0, shared=0, nofollow=0, tree="spare", pointer="/mounts/9")

    complaints = changed(lambda several: several.insert(at(several, "open_device"), spare))

    assert "step 5: the slot spare is never used" in complaints


def test_a_step_that_does_not_say_who_asked_is_refused() -> None:
    def forget(several: list[Step]) -> None:
        place = at(several, "set_hostname")
        several[place] = Step("set_hostname", several[place].args, "")

    assert any("does not say what asked for it" in complaint for complaint in changed(forget))


def test_a_mount_that_lost_its_ro_is_refused() -> None:
    def open_sysfs(several: list[Step]) -> None:
        place = next(n for n, step in enumerate(several) if step.pointer == "/mounts/5")
        arguments = list(several[place].args)
        arguments[names("mount").index("set")] = 0
        several[place] = Step("mount", tuple(arguments), "/mounts/5")

    assert changed(open_sysfs) == ["step 19: set of mount is 0, the config says 15"]


def test_a_plan_without_a_config_is_judged_by_itself() -> None:
    several = [step for step in cases.planned("default").steps if step.verb != "set_hostname"]

    assert lint(Plan("default", several)) == []
    assert lint(Plan("default", several), cases.config()) == ["/hostname is asked for and no step does it"]


def test_an_unknown_verb_is_all_that_is_said() -> None:
    assert lint(Plan("a", [Step("dance", (), "", LIFECYCLE)])) == ["step 1: no verb dance"]


def test_an_undo_plan_is_held_to_the_common_laws_only() -> None:
    kill = steps.kill_cgroup(path="/cg/a", pointer="", why=LIFECYCLE)
    remove = steps.remove_cgroup(path="/cg/a", parents=["/cg"], pointer="", why=LIFECYCLE)

    assert lint(Plan("a", [kill, remove])) == []
    assert lint(Plan("a", [remove, kill])) == ["step 1: remove_cgroup must stand after kill_cgroup (step 2)"]


def test_only_calls_that_any_filter_admits_may_follow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    load = Verb("load_seccomp", "init", "", "load a filter", calls="seccomp")
    monkeypatch.setitem(VERBS, "load_seccomp", load)
    several = [Step("load_seccomp", (), "/linux/seccomp"), steps.new_session(pointer="", why=LIFECYCLE)]
    several.append(steps.set_groups(groups=[], pointer="/process/user/additionalGids"))

    complaints = [line for line in lint(Plan("a", several)) if "filter" in line]

    assert complaints == ["step 2: new_session may be refused by the filter: setsid"]


def test_the_order_names_every_verb_that_creates() -> None:
    undoing = {"meet", "kill_cgroup", "remove_cgroup", "remove_resctrl", "stop_scope"}
    restoring = {"keep_tree"}

    orders = (*ORDER, *in_a_scope())
    named = {name.partition(" ")[0] for names in orders for name in names}  # a hook has a place by its kind
    assert named == {verb.name for verb in TABLE} - undoing - restoring


@pytest.mark.parametrize("order", [ORDER, in_a_scope()])
def test_the_order_agrees_with_the_table(order: tuple[tuple[str, ...], ...]) -> None:
    """Before those that must come later; only a root may also come among its mounts, where one covers it."""
    rank = {name: number for number, names in enumerate(order) for name in names}
    wrong = [
        (verb.name, name)
        for verb in TABLE
        for name in verb.after
        if verb.name in rank and name in rank and rank[name] >= rank[verb.name] + (name == laws.COVERED)
    ]

    assert wrong == []


def test_every_verb_a_law_names_is_in_the_table() -> None:
    named = {*laws.MANDATORY, *laws.COMPANIONS, *(verb for _, verbs in COVERAGE for verb in verbs)}
    named |= {name for verb in TABLE for name in verb.after}

    assert named <= {verb.name for verb in TABLE}
