"""The command line of exec: where flags end, what they make of the container's process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ocirun.cli.commands_exec import _adapted, _check
from ocirun.cli.main import execute
from ocirun.cli.parse import Invocation, parse
from ocirun.errors import UsageError
from ocirun.journal import Journal, Trace
from ocirun.lifecycle.exec import Target
from tests.golden import cases

if TYPE_CHECKING:
    from pathlib import Path

    from ocirun_spec.types import Process


def parsed(*words: str) -> Invocation:
    invocation = Invocation()
    parse(["exec", *words], invocation)
    return invocation


def target() -> Target:
    entries = Journal()
    entries.traces.append(Trace(1, "remove_cgroup", ("/sys/fs/cgroup", "/ocirun/c", 1)))
    return Target("c", cases.config(), entries, "/run/ocirun")


def adapted(*words: str) -> Process:
    return _adapted(parsed(*words), target())


@pytest.mark.parametrize(
    ("words", "arguments", "tty"),
    [
        (["-t", "c", "sh", "-t", "--cwd"], ["c", "sh", "-t", "--cwd"], True),
        (["c", "-t", "sh"], ["c", "-t", "sh"], False),
        (["--", "c", "--help"], ["c", "--help"], False),
        (["c", "--", "sh"], ["c", "--", "sh"], False),
    ],
)
def test_what_follows_the_id_is_the_programs(words: list[str], arguments: list[str], tty: bool) -> None:
    invocation = parsed(*words)
    assert (invocation.arguments, invocation.switch("tty"), invocation.wants_help) == (arguments, tty, False)


def test_the_process_is_that_of_the_container_but_for_the_flags() -> None:
    own = cases.config().get("process")
    assert own is not None
    assert adapted("c", "ls", "-l") == {**own, "args": ["ls", "-l"], "terminal": False}


def test_every_flag_changes_its_member() -> None:
    process = adapted(
        "-t", "--cwd", "/srv", "-e", "A=1", "-e", "B=2", "-u", "7:8", "-g", "9", "-g", "10",
        "-c", "CAP_CHOWN",
        "--no-new-privs=false", "c", "true",
    )  # fmt: skip
    assert process.get("terminal") is True
    assert process["cwd"] == "/srv"
    assert process.get("env", [])[-2:] == ["A=1", "B=2"]
    assert process.get("user") == {"uid": 7, "gid": 8, "additionalGids": [9, 10]}
    assert process.get("noNewPrivileges") is False
    sets = process.get("capabilities", {})
    for names in (sets.get("bounding", []), sets.get("permitted", []), sets.get("effective", [])):
        assert "CAP_CHOWN" in names
    assert not sets.get("inheritable")
    assert not sets.get("ambient")


def test_an_added_capability_is_ambient_only_where_it_was_inheritable() -> None:
    inside = target()
    process = inside.config.get("process")
    assert process is not None
    process["capabilities"] = {"inheritable": ["CAP_CHOWN"], "bounding": ["CAP_CHOWN"]}
    made = _adapted(parsed("-c", "CAP_CHOWN", "-c", "CAP_KILL", "c", "true"), inside)
    assert made.get("capabilities", {}).get("ambient") == ["CAP_CHOWN"]


@pytest.mark.parametrize(
    "words",
    [
        ["c"],
        ["--cgroup", "x/../..", "c", "true"],
        ["--cgroup", "cpu:/x", "c", "true"],
        ["-p", "f", "c", "true"],
        ["-p", "f", "-t", "c"],
        ["-p", "f", "-u0", "c"],
    ],
)
def test_what_contradicts_itself_is_refused(words: list[str]) -> None:
    with pytest.raises(UsageError):
        _check(parsed(*words))


def test_our_own_failures_have_a_status_that_programs_seldom_have(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert execute(["--root", str(tmp_path), "exec", "nobody", "true"]) == 255
    assert execute(["--root", str(tmp_path), "exec"]) == 255
    assert execute(["--root", str(tmp_path), "state", "nobody"]) == 1
    assert "does not exist" in capfd.readouterr().err
