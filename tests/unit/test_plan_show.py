"""The plan as text and as JSON."""

from __future__ import annotations

import json

import pytest

from ocirun.plan import steps
from ocirun.plan.model import Plan, Step
from ocirun.plan.show import as_json, attributes, capabilities, describe, propagation, show
from ocirun.plan.table import TABLE
from ocirun.planner.security import CAPABILITIES
from tests.golden import cases


def test_the_head_counts_the_steps_and_names_the_traces() -> None:
    head = show(cases.planned("minimal")).splitlines()[0]

    assert head.startswith("minimal · ")
    assert head.endswith(" steps · leaves: cgroup, state directory, process")


def test_a_plan_that_leaves_nothing_says_so() -> None:
    assert show(Plan("a", ())) == "a · 0 steps · leaves: nothing\n"


def test_a_line_names_actor_number_verb_slots_pointer_and_undo() -> None:
    lines = show(cases.planned("default")).splitlines()

    assert lines[1].split() == (
        [
            "host",
            "1",
            "make_cgroup",
            "/ocirun/default",
            *"cpu io memory pids".split(),
            "default",
            "of",
            "/linux/cgroupsPath",
            "undo",
            "remove_cgroup",
        ]
    )
    assert lines[4].split() == [
        "stage",
        "4",
        "open_tree",
        "/bundle/rootfs",
        "and",
        "below",
        "→",
        "root",
        "/root/path",
    ]


def test_text_of_the_config_cannot_speak_to_the_terminal() -> None:
    step = steps.set_hostname(name="a\x1b[2J\nb", pointer="/hostname")

    line = show(Plan("a", [step])).splitlines()[1]
    assert "a\\x1b[2J\\nb" in line


def test_every_verb_describes_itself() -> None:
    blank = {"str": "x", "slot": "x", "out": "x", "bytes": b"", "strs": (), "u32s": ()}
    for verb in TABLE:
        step = Step(verb.name, tuple(blank.get(kind, 0) for _, kind in verb.args), "/a")  # type: ignore[misc]
        assert isinstance(describe(step), str)


def test_the_json_form_is_json_and_holds_every_argument() -> None:
    plan = cases.planned("default")
    document = json.loads(json.dumps(as_json(plan)))

    assert document["id"] == "default"
    assert len(document["steps"]) == len(plan.steps)
    clone = next(step for step in document["steps"] if step["verb"] == "clone_init")
    assert clone["arguments"]["cgroup"] == "cgroup"
    assert clone["undo"] == "kill_init"


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        (0, "none"),
        (1 << 5 | 1, "chown kill"),
        ((1 << 41) - 1, "all"),
        ((1 << 41) - 1 - (1 << 21), "all but sys_admin"),
    ],
)
def test_capabilities_are_named(bits: int, text: str) -> None:
    assert capabilities(bits) == text


def test_the_names_are_those_of_the_planner() -> None:
    for number, name in enumerate(CAPABILITIES):
        assert capabilities(1 << number) == name.removeprefix("CAP_").lower()


def test_attributes_and_propagation_are_named() -> None:
    assert attributes(0x1, 0x2) == ["ro", "suid"]
    assert attributes(0, 0x70) == ["relatime"]
    assert attributes(0x10, 0x70, "r") == ["rnoatime"]
    assert [propagation(flags) for flags in (0, 1 << 18, 1 << 20 | 0x4000)] == ["", "private", "rshared"]


def test_a_filter_is_told_by_its_rules_and_where_it_comes_from() -> None:
    step = steps.load_seccomp(
        program=bytes(8), flags=0, rules=412, origin="cached 9f3c", listener="", pointer="/linux/seccomp"
    )

    assert describe(step) == "412 rules, cached 9f3c"
