"""The edge of the command line: every error in one place, in words for people and one line for engines."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ocirun import SPEC_VERSION, __version__
from ocirun.cli import commands_state, commands_version
from ocirun.cli.log import as_text, timestamp
from ocirun.cli.main import execute
from ocirun.cli.output import OutputClosed
from ocirun.cli.report import Reporter
from ocirun.cli.table import COMMANDS, GLOBAL
from ocirun.errors import ConfigError, Fault, Interrupted, OcirunError, StepError, UsageError

if TYPE_CHECKING:
    from ocirun.cli.parse import Invocation

ROOT = Path(__file__).parents[2]


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Makes ``ocirun state`` raise ``error``."""

    def command(_invocation: Invocation, _reporter: Reporter) -> int:
        raise error

    monkeypatch.setattr(commands_state, "command", command)


def entries(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def boot(*words: str, stdout: int | None = None) -> subprocess.CompletedProcess[str]:
    """The program as the launcher starts it."""
    line = [sys.executable, "-I", "-S", str(ROOT / "ocirun/boot.py"), *words]
    return subprocess.run(line, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, timeout=60)


def test_version_is_in_the_lines_that_engines_parse(capfd: pytest.CaptureFixture[str]) -> None:
    for line in (["--version"], ["-v"], ["state", "--version", "x"]):
        assert execute(line) == 0
        assert capfd.readouterr().out == f"ocirun version {__version__}\nspec: {SPEC_VERSION}\n"


@pytest.mark.parametrize("line", [[], ["help"], ["--help"], ["-h"], ["help", "help"]])
def test_the_help_of_the_program_names_every_command_and_every_flag(
    line: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert execute(line) == 0
    shown = capfd.readouterr().out
    assert all(f"\n  {command.name} " in shown for command in COMMANDS)
    assert all((f"--{flag.name}" in shown) == flag.is_shown() for flag in GLOBAL)
    assert max(map(len, shown.splitlines())) <= 110


@pytest.mark.parametrize(
    "command", [each for each in COMMANDS if each.name != "help"], ids=lambda each: each.name
)
def test_the_help_of_a_command_names_every_flag_it_has(
    command: object, capfd: pytest.CaptureFixture[str]
) -> None:
    (about,) = (each for each in COMMANDS if each is command)
    assert execute([about.name, "--help"]) == 0
    shown = capfd.readouterr().out
    assert execute(["help", about.name]) == 0
    assert capfd.readouterr().out == shown
    assert about.usage() in shown
    assert all((f"--{flag.name}" in shown) == flag.is_shown() for flag in about.flags)


def test_help_for_a_mistyped_command_says_which_may_be_meant(capfd: pytest.CaptureFixture[str]) -> None:
    assert execute(["help", "crate"]) == 1
    assert capfd.readouterr().err == "ocirun: unknown command: crate (did you mean `ocirun create`?)\n"


def test_an_error_is_one_line_on_stderr_and_one_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    error = StepError(
        "mount proc on /proc: EPERM", step=7, pointer="/mounts/0", operation="mount", errno=1, hint="try"
    )
    error.add_note("while undoing: busy")
    failing(monkeypatch, error)
    log = tmp_path / "log"
    assert execute(["--log", str(log), "state", "x"]) == 1
    text = "mount proc on /proc: EPERM [config.json#/mounts/0] (try)"
    assert capfd.readouterr() == ("", f"ocirun: {text}\nocirun: note: while undoing: busy\n")
    (entry,) = entries(log)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", str(entry.pop("time")))
    assert entry == {
        "level": "error",
        "msg": text,
        "code": "step-failed",
        "pointer": "/mounts/0",
        "operation": "mount",
        "errno": 1,
        "hint": "try",
        "notes": ["while undoing: busy"],
    }


def test_every_fault_of_a_config_is_a_line_of_its_own_but_one_entry_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    faults = (
        Fault("/root", "is missing"),
        Fault("/process/cwd", "must be absolute", value='"x"', line=4, column=7),
    )
    failing(monkeypatch, ConfigError(faults))
    log = tmp_path / "log"
    assert execute(["--log", str(log), "state", "x"]) == 1
    one, two = "config.json /root: is missing", 'config.json:4:7 /process/cwd: "x": must be absolute'
    assert capfd.readouterr().err == f"ocirun: {one}\nocirun: {two}\n"
    (entry,) = entries(log)
    assert entry["msg"] == f"{one}; {two}"
    assert entry["faults"] == [
        {"pointer": "/root", "rule": "is missing"},
        {"pointer": "/process/cwd", "line": 4, "column": 7, "value": '"x"', "rule": "must be absolute"},
    ]


def test_the_log_is_appended_to_and_can_be_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, UsageError('a "quoted" word', hint="none"))
    log = tmp_path / "log"
    log.write_text("before\n")
    assert execute(["--log", str(log), "--log-format", "text", "state", "x"]) == 1
    first, line = log.read_text().splitlines()
    assert first == "before"
    assert re.fullmatch(
        r'time="[^"]+Z" level=error msg="a \\"quoted\\" word \(none\)" code="usage" hint="none"', line
    )


def test_a_fault_of_usage_is_logged_when_the_log_was_named_before_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert execute(["--log", str(log), "nonsense"]) == 1
    assert [entry["code"] for entry in entries(log)] == ["usage"]


def test_a_log_that_cannot_be_opened_is_an_error_before_anything_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, AssertionError("the command was carried out"))
    assert execute(["--log", str(tmp_path / "no/such"), "state", "x"]) == 1
    assert capfd.readouterr().err.endswith("no/such: no such file or directory (ENOENT)\n")


def test_a_full_disk_under_the_log_does_not_hide_the_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, OcirunError("the cause"))
    assert execute(["--log", "/dev/full", "state", "x"]) == 1
    assert capfd.readouterr().err == "ocirun: the cause\n"


def test_an_unexpected_exception_is_reported_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, TypeError("what is this"))
    log = tmp_path / "log"
    assert execute(["--log", str(log), "state", "x"]) == 1
    shown = capfd.readouterr().err
    assert re.fullmatch(
        rf"ocirun: internal error: TypeError: what is this; please report \(at {__file__}:\d+\)\n", shown
    )
    (entry,) = entries(log)
    assert entry["msg"] == "internal error: TypeError: what is this; please report"
    assert entry["code"] == "internal"
    assert str(entry["hint"]).startswith(f"at {__file__}:")


def test_no_memory_is_no_fault_of_ours(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, MemoryError())
    assert execute(["state", "x"]) == 1
    shown = capfd.readouterr().err
    assert shown.startswith("ocirun: cannot allocate memory (ENOMEM) (")
    assert "RLIMIT_AS" in shown


def test_debug_shows_the_traceback_of_an_unexpected_exception(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, OSError(5, "Input/output error"))
    assert execute(["--debug", "state", "x"]) == 1
    shown = capfd.readouterr().err
    assert "Traceback (most recent call last)" in shown
    assert "ocirun: internal error: OSError: [Errno 5] Input/output error; please report" in shown


def test_a_signal_gives_128_and_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, Interrupted(15))
    assert execute(["state", "x"]) == 143


def test_nobody_reading_our_output_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, OutputClosed())
    assert execute(["state", "x"]) == 1
    assert capfd.readouterr() == ("", "")


def test_a_warning_goes_to_stderr_and_to_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def command(_invocation: Invocation, reporter: Reporter) -> int:
        reporter.warn(Fault("/proces", "is unknown", hint="did you mean process?", line=2, column=3))
        return 0

    monkeypatch.setattr(commands_version, "command", command)
    log = tmp_path / "log"
    assert execute(["--log", str(log), "--version"]) == 0
    text = "config.json:2:3 /proces: is unknown (did you mean process?)"
    assert capfd.readouterr().err == f"ocirun: warning: {text}\n"
    (entry,) = entries(log)
    assert (entry["level"], entry["msg"], entry["pointer"]) == ("warning", text, "/proces")


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_700_000_000_000_000_001, "2023-11-14T22:13:20.000000001Z"),
        (1_700_000_000_120_000_000, "2023-11-14T22:13:20.12Z"),
    ],
)
def test_times_are_written_as_go_writes_them(nanoseconds: int, text: str) -> None:
    assert timestamp(nanoseconds) == text


def test_the_text_form_begins_with_time_level_and_message() -> None:
    assert (
        as_text({"level": "error", "msg": "m", "time": "t", "errno": 5})
        == 'time="t" level=error msg="m" errno=5'
    )


def test_the_program_ends_with_the_status_of_its_command() -> None:
    done = boot("state")
    assert (done.returncode, done.stderr) == (
        1,
        "ocirun: state: ID is missing: ocirun state [flags] ID (see ocirun state --help)\n",
    )


def test_a_closed_standard_output_is_quiet_and_fails() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = boot("--help", stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_full_standard_output_says_so() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        done = boot("--help", stdout=full)
    finally:
        os.close(full)
    assert (done.returncode, done.stderr) == (
        1,
        "ocirun: cannot write to descriptor 1: no space left on device (ENOSPC)\n",
    )


def test_a_byte_that_is_no_utf_8_survives_in_an_error(tmp_path: Path) -> None:
    line = [sys.executable, "-I", "-S", str(ROOT / "ocirun/boot.py"), "nons\udcffense"]
    done = subprocess.run(line, stderr=subprocess.PIPE, check=False, cwd=tmp_path)
    assert b"unknown command: nons\xffense" in done.stderr
