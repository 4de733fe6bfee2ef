"""Command lines are understood as runc's are, and what is not understood says what was meant."""

from __future__ import annotations

import importlib

import pytest

from ocirun.cli.parse import Invocation, parse
from ocirun.cli.table import ANY, COMMANDS, GLOBAL, find
from ocirun.errors import UsageError
from ocirun.nearest import distance, nearest


def parsed(line: str) -> Invocation:
    invocation = Invocation()
    parse(line.split(), invocation)
    return invocation


def fault(line: str) -> str:
    with pytest.raises(UsageError) as caught:
        parsed(line)
    return str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "create --bundle /b x",
        "create --bundle=/b x",
        "create -bundle /b x",
        "create -bundle=/b x",
        "create -b /b x",
        "create -b=/b x",
        "create x -b /b",
        "create --bundle /a -b /b x",
        "create -b /b -- x",
    ],
)
def test_a_value_may_be_written_in_every_way_of_runc(line: str) -> None:
    invocation = parsed(line)
    assert (invocation.text("bundle"), invocation.arguments) == ("/b", ["x"])


def test_a_flag_that_is_absent_has_its_default() -> None:
    invocation = parsed("create x")
    assert (invocation.text("bundle"), invocation.number("preserve-fds"), invocation.text("root")) == (
        ".",
        0,
        "/run/ocirun",
    )
    assert not invocation.given("bundle")


@pytest.mark.parametrize(
    ("line", "on"), [("-f", True), ("--force=true", True), ("--force=false", False), ("", False)]
)
def test_a_switch_may_be_turned_off(line: str, on: bool) -> None:
    assert parsed(f"delete {line} x").switch("force") is on


def test_global_flags_stand_before_or_after_the_command() -> None:
    for line in ("--root /r --log /l state x", "state --root /r x --log=/l"):
        invocation = parsed(line)
        assert (invocation.text("root"), invocation.text("log"), invocation.arguments) == ("/r", "/l", ["x"])


def test_after_two_dashes_everything_is_an_argument() -> None:
    assert parsed("kill -- x -a").arguments == ["x", "-a"]


def test_a_lone_dash_and_a_negative_number_are_arguments() -> None:
    assert parsed("kill - -9").arguments == ["-", "-9"]


def test_the_short_form_of_version_belongs_to_the_program_alone() -> None:
    assert parsed("-v").switch("version")
    assert "unknown flag: -v" in fault("state -v x")


def test_help_wins_over_missing_arguments() -> None:
    assert parsed("state -h").wants_help
    assert parsed("--help").wants_help


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("stat x", "unknown command: stat (did you mean `ocirun state`?)"),
        ("craete x", "did you mean `ocirun create`?"),
        ("xyzzy", "unknown command: xyzzy (see ocirun --help)"),
        ("--roto /r list", "unknown flag: --roto (did you mean --root?)"),
        ("create --bundel /b x", "create: unknown flag: --bundel (did you mean --bundle?)"),
        ("list --quite", "did you mean --quiet?"),
        ("-b /b create x", "it belongs after the command: ocirun spec -b"),
        ("--pid-file /p create x", "it belongs after the command: ocirun run --pid-file"),
        ("list --zzz", "list: unknown flag: --zzz (see ocirun list --help)"),
        ("list --", ""),
        ("create x -b", "create: --bundle needs a value: --bundle, -b DIR"),
        ("list -f xml", "list: --format: 'xml' is not one of table, json"),
        ("create --preserve-fds two x", "'two' is not a number from 0 to 999999999"),
        ("create --preserve-fds=-1 x", "'-1' is not a number from 0 to 999999999"),
        ("create --preserve-fds 99999999999 x", "'99999999999' is not a number from 0 to 999999999"),
        ("delete --force=maybe x", "--force is a switch: true or false, not 'maybe'"),
        ("state", "state: ID is missing: ocirun state [flags] ID"),
        ("state x y", "too many arguments: 'y'"),
        ("kill x TERM y", "too many arguments: 'y'"),
        ("--cgroup-manager none list", "'none' is not one of cgroupfs, systemd, disabled"),
        ("--rootless=perhaps list", "'perhaps' is not one of auto, false, true"),
    ],
)
def test_a_fault_says_what_is_wrong_and_what_may_be_meant(line: str, words: str) -> None:
    if not words:
        assert parsed(line).arguments == []
        return
    assert words in fault(line)


def test_what_is_not_built_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    update = next(command for command in COMMANDS if command.name == "update")
    memory = next(flag for flag in update.flags if flag.name == "memory")
    monkeypatch.setattr(memory, "unbuilt", ANY)
    assert "update: --memory is not built yet" in fault("update --memory 5 x")


def test_what_is_refused_may_be_turned_off_or_left_to_us() -> None:
    assert parsed("--rootless true --systemd-cgroup=false create --no-pivot=false x").arguments == ["x"]


def test_after_a_fault_the_flags_before_it_are_known() -> None:
    invocation = Invocation()
    with pytest.raises(UsageError):
        parse(["--log", "/l", "nonsense"], invocation)
    assert invocation.text("log") == "/l"


def test_no_command_has_two_flags_of_one_name() -> None:
    for command in COMMANDS:
        # runc has two of the name rootless as well; after `spec` it is that of the command.
        names = [
            flag.name for flag in (*command.flags, *GLOBAL) if command.name != "spec" or flag not in GLOBAL
        ]
        names += [flag.short for flag in command.flags if flag.short]
        assert len(names) == len(set(names)), command.name
        assert find(command.name) is command


def test_every_command_of_the_table_can_be_carried_out() -> None:
    for command in COMMANDS:
        assert callable(importlib.import_module(command.module).command), command.name


@pytest.mark.parametrize(
    ("one", "other", "steps"),
    [("", "abc", 3), ("state", "state", 0), ("satte", "state", 1), ("kil", "kill", 1), ("list", "spec", 4)],
)
def test_distance_counts_added_dropped_changed_and_swapped_letters(one: str, other: str, steps: int) -> None:
    assert distance(one, other) == distance(other, one) == steps


def test_nothing_is_suggested_for_what_is_far_from_everything() -> None:
    assert not nearest("qqq", ["state", "kill"])
