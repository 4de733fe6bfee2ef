"""Every code of the table is reached; here those that have no other place."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.host import execs, observe
from tests.host.runtimes import new_id
from tests.host.test_exec_failures import logged

if TYPE_CHECKING:
    from pathlib import Path

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime


def code(runtime: Runtime, *args: str) -> object:
    """The code of a command that fails."""
    return logged(runtime, *args)[1]["code"]


def created(runtime: Runtime, bundle: Bundle, *flags: str) -> dict[str, object]:
    """The entry of a create that fails."""
    return logged(runtime, "create", *flags, "--bundle", str(bundle.write().path), new_id())[1]


def test_a_config_that_breaks_a_rule(ocirun: Runtime, bundle: Bundle) -> None:
    entry = created(ocirun, bundle.put(7, "hostname"))
    assert (entry["code"], entry["pointer"]) == ("config-invalid", "/hostname")


def test_a_config_that_is_not_there(ocirun: Runtime, scratch: Path) -> None:
    assert code(ocirun, "create", "--bundle", str(scratch), new_id()) == "config-unreadable"


def test_a_member_of_another_platform(ocirun: Runtime, bundle: Bundle) -> None:
    assert created(ocirun, bundle.put({"milestone": "x"}, "solaris"))["code"] == "config-unsupported"


def test_a_host_without_cgroups(ocirun: Runtime, bundle: Bundle) -> None:
    cover = 'while umount -lR /sys/fs/cgroup 2>/dev/null; do :; done; exec "$@"'
    ocirun.prefix = ("unshare", "--mount", "sh", "-c", cover, "sh")
    assert created(ocirun, bundle)["code"] == "host-lacks"


@pytest.mark.parametrize("command", ["create", "run", "exec"])
def test_too_few_descriptors_are_told_and_leave_nothing(
    ocirun: Runtime, bundle: Bundle, command: str
) -> None:
    container = ocirun.running(bundle.sleeping())
    bundle.args("true").write()
    codes: set[object] = set()
    for limit in range(3, 40):
        ocirun.prefix = ("prlimit", f"--nofile={limit}:1024")
        ident = new_id()
        words = (
            ("exec", container.id, "true")
            if command == "exec"
            else (command, "--bundle", str(bundle.path), ident)
        )
        log = ocirun.file("log")
        result = ocirun.call("--log", str(log), "--log-format", "json", *words)
        ocirun.prefix = ()
        assert "Traceback" not in result.stderr
        assert "internal error" not in result.stderr, f"{limit}: {result.stderr}"
        if result.code == 0:
            ocirun.call("delete", "--force", ident)
            continue
        if log.exists() and limit > 5:
            entry = json.loads(log.read_text().splitlines()[-1])
            codes.add(entry["code"])
            assert (entry["errno"], "RLIMIT_NOFILE" in entry.get("hint", "")) == (24, True), (
                f"{limit}: {entry}"
            )
        assert [path.name for path in ocirun.root.iterdir()] == [container.id], limit
    assert "out-of-resources" in codes


def test_a_mistyped_command_and_flag(ocirun: Runtime) -> None:
    result, entry = logged(ocirun, "statr", "x")
    assert (entry["code"], "did you mean `ocirun state`?" in result.stderr) == ("usage", True)
    result, entry = logged(ocirun, "create", "--bundel", "/x", "y")
    assert (entry["code"], "did you mean --bundle?" in result.stderr) == ("usage", True)


def test_a_socket_that_nobody_listens_on(ocirun: Runtime, bundle: Bundle, scratch: Path) -> None:
    bundle.put(True, "process", "terminal")
    entry = created(ocirun, bundle, "--console-socket", str(scratch / "none"))
    assert (entry["code"], entry["pointer"], entry["errno"]) == ("socket", "/process/terminal", 2)


def test_what_is_wrong_with_an_id(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.create(bundle.sleeping())
    bundle_of = ("create", "--bundle", str(bundle.path))
    assert code(ocirun, *bundle_of, container.id) == "container-exists"
    assert code(ocirun, *bundle_of, "a/b") == "container-id-invalid"
    assert code(ocirun, "state", new_id()) == "container-unknown"


def test_a_start_too_many(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(bundle.sleeping())
    assert code(ocirun, "start", container.id) == "container-status"


def test_a_pid_file_that_cannot_be_written(ocirun: Runtime, bundle: Bundle, scratch: Path) -> None:
    entry = created(ocirun, bundle, "--pid-file", str(scratch / "no/such/pid"))
    assert (entry["code"], entry["errno"]) == ("state-io", 2)


def test_a_step_that_the_kernel_refuses(ocirun: Runtime, bundle: Bundle) -> None:
    entry = created(ocirun, bundle.directory("mnt").bind("/no/such/source", "/mnt"))
    assert (entry["code"], entry["pointer"], entry["errno"]) == ("step-failed", "/mounts/7/source", 2)
    assert "no such file or directory (ENOENT)" in str(entry["msg"])
    line, column = entry["line"], entry["column"]
    assert isinstance(line, int)
    text = (bundle.path / "config.json").read_text().splitlines()[line - 1]
    assert '"source": "/no/such/source"' in text
    assert column == text.index('"/no/such') + 1


def test_a_hook_that_is_not_there(ocirun: Runtime, bundle: Bundle) -> None:
    entry = created(ocirun, bundle.put({"createRuntime": [{"path": "/no/such/hook"}]}, "hooks"))
    assert (entry["code"], entry["pointer"]) == ("hook-failed", "/hooks/createRuntime/0")
    assert entry["hint"] == "/no is not on the host"


@pytest.mark.parametrize("kind", ["poststart", "startContainer"])
def test_a_hook_of_start_has_its_place_in_the_frozen_config(
    ocirun: Runtime, bundle: Bundle, kind: str
) -> None:
    bundle.put({kind: [{"path": "/bin/false"}]}, "hooks").sleeping()
    container = ocirun.create(bundle)
    (bundle.path / "config.json").write_text("{}")
    _, entry = logged(ocirun, "start", container.id)
    assert (entry["code"], entry["pointer"]) == ("hook-failed", f"/hooks/{kind}/0")
    assert isinstance(entry["line"], int)
    assert entry["line"] > 1


def test_a_cgroup_with_processes(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(bundle.sleeping())
    path = observe.cgroup(container.pid)
    assert execs.members_of(container)
    assert created(ocirun, bundle.put(path, "linux", "cgroupsPath"))["code"] == "cgroup"


def test_a_helper_that_is_missing(tmp_path: Path) -> None:
    from ocirun.errors import HelperError
    from ocirun.executor.sealed import open_helper

    with pytest.raises(HelperError, match="no such file") as caught:
        open_helper(str(tmp_path / "none"))
    assert caught.value.code == "helper-died"


def test_a_signal_while_a_hook_runs(ocirun: Runtime, bundle: Bundle, scratch: Path) -> None:
    hook = scratch / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {scratch}/runs\nsleep 1000\n")
    hook.chmod(0o755)
    bundle.put({"createRuntime": [{"path": str(hook)}]}, "hooks").write()
    log = ocirun.file("log")
    words = ("--log", str(log), "--log-format", "json", "create", "--bundle", str(bundle.path), new_id())
    process, _ = ocirun.popen(*words)
    observe.eventually((scratch / "runs").exists, "the hook runs")
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
    assert json.loads(log.read_text().splitlines()[-1])["code"] == "interrupted"


def test_the_text_form_of_the_log_has_the_code_as_well(ocirun: Runtime, bundle: Bundle) -> None:
    log = ocirun.file("log")
    path = str(bundle.args("bsh").write().path)
    ocirun.call("--log", str(log), "--log-format", "text", "run", "--bundle", path, new_id()).refused()
    line = log.read_text().splitlines()[-1]
    for part in (
        "level=error",
        'code="program-not-found"',
        'pointer="/process/args/0"',
        "errno=2",
        'hint="did you',
    ):
        assert part in line, line


def test_no_words_of_the_locale_are_in_an_error(ocirun: Runtime, scratch: Path) -> None:
    """A code is for programs, the words are the same for all."""
    done = subprocess.run(
        [str(ocirun.program), "create", "--bundle", str(scratch), "x"],
        env={"LC_ALL": "de_DE.UTF-8", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "no such file or directory (ENOENT)" in done.stderr
