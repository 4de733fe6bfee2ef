"""What the commands print, and the files that follow from the table."""

from __future__ import annotations

import json
import os
import posix
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from conformance import peers
from ocirun.cli import generate
from ocirun.cli.commands_list import as_json, as_table
from ocirun.cli.commands_spec import default_config
from ocirun.cli.main import execute
from ocirun.cli.parse import Invocation, parse
from ocirun.cli.where import bundle_of, manager_of, store_of
from ocirun.errors import UsageError
from ocirun.journal import Journal
from ocirun.lifecycle.process import pid_namespace
from ocirun.lifecycle.state import State

if TYPE_CHECKING:
    from ocirun.waiting import Task


def invocation(line: str) -> Invocation:
    made = Invocation()
    parse(line.split(), made)
    return made


def stopped(container: str, **head: object) -> State:
    """A container whose init is no more (no process has the pid 0x7fffffff)."""
    journal = Journal()
    journal.add(
        {
            "version": 1,
            "id": container,
            "bundle": "/b",
            "rootfs": "/b/rootfs",
            "created": "2026-01-02T03:04:05Z",
            "owner": "root",
            "annotations": {},
            "pids": pid_namespace(),
            **head,
        }
    )
    journal.add({"born": 0x7FFFFFFF, "start": "1"})
    return State(container, journal)


def test_the_page_of_commands_is_fresh() -> None:
    assert generate.PAGE.read_text() == generate.page(), "run python -m ocirun.cli.generate"


def test_the_table_of_list_has_the_columns_of_runc() -> None:
    assert as_table([]) == "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
    head, row = as_table([stopped("a-long-container-id")]).splitlines()
    assert head == "ID                    PID         STATUS      BUNDLE      CREATED                OWNER"
    assert row == "a-long-container-id   0           stopped     /b          2026-01-02T03:04:05Z   root"


def test_list_as_json_is_null_without_containers_as_with_runc() -> None:
    assert as_json([]) == "null"
    assert [each["id"] for each in json.loads(as_json([stopped("x"), stopped("y")]))] == ["x", "y"]


def test_state_prints_json_of_two_spaces_and_no_empty_annotations(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def state(_store: object, container: str) -> State:
        return stopped(container)

    monkeypatch.setattr("ocirun.cli.commands_state.state", state)
    assert execute(["state", "x"]) == 0
    shown = capfd.readouterr().out
    assert shown.startswith(
        '{\n  "ociVersion": "1.3.0",\n  "id": "x",\n  "pid": 0,\n  "status": "stopped",\n'
    )
    assert list(json.loads(shown)) == [
        "ociVersion",
        "id",
        "pid",
        "status",
        "bundle",
        "rootfs",
        "created",
        "owner",
    ]


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("kill x", ("x", 15, False)),
        ("kill x KILL", ("x", 9, False)),
        ("kill -a x 1", ("x", 1, True)),
    ],
)
def test_kill_sends_the_signal_that_was_named(
    line: str, call: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[object, ...]] = []

    def kill(_store: object, container: str, signum: int, every: bool) -> Task[None]:
        calls.append((container, signum, every))
        yield from ()

    monkeypatch.setattr("ocirun.cli.commands_kill.kill", kill)
    assert execute(line.split()) == 0
    assert calls == [call]


def test_list_of_a_root_that_does_not_exist_is_empty(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert execute(["--root", str(tmp_path / "none"), "list", "-q"]) == 0
    assert capfd.readouterr().out == ""
    assert not (tmp_path / "none").exists()


def test_spec_writes_the_default_and_never_over_another(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert execute(["spec", "--bundle", str(tmp_path)]) == 0
    config = tmp_path / "config.json"
    text = config.read_text()
    assert json.loads(text)["ociVersion"] == "1.3.0"
    assert execute(["spec", "-b", str(tmp_path)]) == 1
    assert capfd.readouterr().err == "ocirun: File config.json exists. Remove it first\n"
    assert config.read_text() == text


def test_spec_rootless_is_for_the_caller_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    assert execute(["spec", "--rootless", "--bundle", str(tmp_path)]) == 0
    monkeypatch.undo()
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 1234, "size": 1}]
    assert {one["type"] for one in config["linux"]["namespaces"]} == {
        "pid", "ipc", "uts", "mount", "cgroup", "user"
    }  # fmt: skip
    assert "gid=5" not in (tmp_path / "config.json").read_text()
    (tmp_path / "rootfs").mkdir()
    assert execute(["validate", "-b", str(tmp_path)]) == 0
    assert capfd.readouterr().err == ""


def test_the_rootless_one_is_that_of_runc(tmp_path: Path) -> None:
    runc = peers.peer("runc")
    if runc is None:
        pytest.skip(peers.reason("runc"))
    for name, command in (("a", [str(runc), "spec", "--rootless"]), ("b", [])):
        (tmp_path / name).mkdir()
        if command:
            subprocess.run(command, cwd=tmp_path / name, check=True)
    assert execute(["spec", "--rootless", "-b", str(tmp_path / "b")]) == 0
    theirs, ours = (json.loads((tmp_path / name / "config.json").read_text()) for name in "ab")
    assert ours["mounts"] == theirs["mounts"]
    for member in ("uidMappings", "gidMappings", "resources"):
        assert ours["linux"].get(member) == theirs["linux"].get(member)


def test_spec_says_why_it_cannot_write(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert execute(["spec", "-b", str(tmp_path / "none")]) == 1
    assert "none/config.json: no such file or directory (ENOENT)" in capfd.readouterr().err


def test_the_default_is_that_of_runc_in_every_byte_but_its_name_and_version(tmp_path: Path) -> None:
    runc = peers.peer("runc")
    if runc is None:
        pytest.skip(peers.reason("runc"))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    subprocess.run([runc, "spec"], cwd=tmp_path / "a", check=True)
    assert execute(["spec", "-b", str(tmp_path / "b")]) == 0
    theirs, ours = ((tmp_path / name / "config.json").read_text() for name in "ab")
    wanted = json.loads(theirs)
    wanted.update(ociVersion="1.3.0", hostname="ocirun")
    cgroup = {"type": "cgroup"}
    if cgroup not in wanted["linux"]["namespaces"]:  # runc leaves it out on a hybrid host
        wanted["linux"]["namespaces"].append(cgroup)
    assert ours == json.dumps(wanted, indent="\t", ensure_ascii=False)


@pytest.mark.parametrize(
    ("line", "euid", "runtime", "root"),
    [
        ("list", 0, "/x", "/run/ocirun"),
        ("list", 7, "/x", "/x/ocirun"),
        ("list", 7, "", "/run/ocirun"),
        ("--root /r list", 7, "/x", "/r"),
    ],
)
def test_the_root_of_all_state_follows_flag_user_and_environment(
    line: str, euid: int, runtime: str, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posix, "geteuid", lambda: euid)
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    assert store_of(invocation(line)).root == root


def test_an_empty_root_is_refused() -> None:
    with pytest.raises(UsageError, match="--root is empty"):
        store_of(invocation("--root= list"))


def test_an_empty_bundle_is_the_current_directory_as_with_runc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert bundle_of(invocation("create x")) == bundle_of(invocation("create --bundle= x")) == str(tmp_path)


def test_create_hands_over_what_its_flags_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[SimpleNamespace] = []

    def create(store: object, container: str, options: object) -> Task[None]:
        seen.append(SimpleNamespace(store=store, container=container, options=options))
        yield from ()

    monkeypatch.setattr("ocirun.cli.commands_create.create", create)
    line = f"create -b {tmp_path} --pid-file /p --console-socket /s --preserve-fds 2 x"
    assert execute(line.split()) == 0
    (call,) = seen
    assert call.container == "x"
    given = call.options
    assert (given.bundle, given.pid_file, given.console_socket, given.preserve_fds, given.foreground) == (
        str(tmp_path),
        "/p",
        "/s",
        2,
        False,
    )


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("", (False, False, True)), ("-d", (True, False, False)), ("--keep", (False, True, True))],
)
def test_run_gives_the_status_of_the_program(
    flags: str, expected: tuple[bool, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, ...]] = []

    def run(
        _store: object, _id: str, options: SimpleNamespace, *, detach: bool, keep: bool, signals: object
    ) -> Task[int]:
        seen.append((detach, keep, options.foreground))
        assert signals
        yield from ()
        return 42

    monkeypatch.setattr("ocirun.cli.commands_run.run", run)
    assert execute(["run", *flags.split(), "x"]) == 42
    assert seen == [expected]


def bundle(directory: Path, text: str = "") -> str:
    """A bundle with the default config, or with ``text``; nothing else is in it."""
    (directory / "config.json").write_text(text or default_config())
    return str(directory)


def test_plan_shows_the_steps_and_leaves_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "hello"
    made.mkdir()
    assert execute(["--root", str(tmp_path / "root"), "plan", "-b", bundle(made)]) == 0
    head, *steps = capfd.readouterr().out.splitlines()
    assert head.startswith(f"hello · {len(steps)} steps · leaves:")
    assert [name for name in os.listdir(tmp_path) if name != "hello"] == []


def test_plan_as_json_has_the_id_that_was_given(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert execute(["plan", "-f", "json", "-b", bundle(tmp_path), "x"]) == 0
    planned = json.loads(capfd.readouterr().out)
    assert planned["id"] == "x"
    assert planned["steps"][-1]["verb"] == "exec"


def test_a_bundle_whose_name_is_no_id_can_be_planned(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "a bundle"
    made.mkdir()
    assert execute(["plan", "-b", bundle(made)]) == 0
    assert capfd.readouterr().out.startswith("container · ")


def test_plan_warns_of_what_looks_misspelt(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = default_config().replace('"hostname"', '"hostnam"')
    assert execute(["plan", "-b", bundle(tmp_path, text)]) == 0
    assert "ocirun: warning: config.json:47:" in capfd.readouterr().err


def test_plan_says_where_a_property_stands_that_is_not_built(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = default_config().replace('"hostname": "ocirun"', '"vm": {"kernel": {"path": "/k"}}')
    assert execute(["plan", "-b", bundle(tmp_path, text)]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert "config.json:47:" in line
    assert " /vm: " in line


def test_a_plan_that_breaks_a_law_is_shown_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def lint(_plan: object, _config: object) -> list[str]:
        return ["step 3: too early"]

    monkeypatch.setattr("ocirun.cli.commands_plan.lint", lint)
    assert execute(["plan", "-b", bundle(tmp_path)]) == 1
    shown = capfd.readouterr()
    assert "await_start" in shown.out
    assert shown.err == "ocirun: the plan breaks its laws: step 3: too early (please report this)\n"


@pytest.mark.parametrize("status", [0, 1])
def test_validate_prints_what_it_finds_and_a_fault_reaches_the_log(
    status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def main_validate(_bundle: str, form: str) -> tuple[int, str]:
        return status, f"{form}\n"

    monkeypatch.setitem(sys.modules, "ocirun.full", SimpleNamespace(full_interpreter=lambda: None))
    monkeypatch.setattr("ocirun.cli.validate.main_validate", main_validate)
    log = tmp_path / "log"
    assert execute(["--log", str(log), "validate", "-b", "/b", "--format", "json"]) == status
    assert capfd.readouterr().out == "json\n"
    assert [json.loads(line)["msg"] for line in log.read_text().splitlines()] == [
        "/b/config.json has faults"
    ] * status


@pytest.mark.parametrize(
    ("line", "manager"),
    [
        ("create x", "cgroupfs"),
        ("--systemd-cgroup create x", "systemd"),
        ("--cgroup-manager systemd create x", "systemd"),
        ("--cgroup-manager systemd --systemd-cgroup create x", "systemd"),
        ("--systemd-cgroup=false create x", "cgroupfs"),
        ("--cgroup-manager disabled create x", "disabled"),
        ("--cgroup-manager disabled --systemd-cgroup=false create x", "disabled"),
    ],
)
def test_who_makes_the_cgroup(line: str, manager: str) -> None:
    assert manager_of(invocation(line)) == manager


@pytest.mark.parametrize("other", ["cgroupfs", "disabled"])
def test_two_who_make_the_cgroup_contradict_one_another(other: str) -> None:
    with pytest.raises(UsageError, match=f"--systemd-cgroup beside --cgroup-manager {other}"):
        manager_of(invocation(f"--systemd-cgroup --cgroup-manager {other} create x"))
