"""What the program of the container gets: arguments, environment, working directory, limits, descriptors."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import observe
from tests.host.runtimes import new_id

if TYPE_CHECKING:
    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime


def test_run_prints_what_the_program_prints(runtime: Runtime, bundle: Bundle) -> None:
    result = runtime.run(bundle.sh("echo hello; echo trouble >&2")).ok()
    assert (result.stdout, result.stderr) == ("hello\n", "trouble\n")


@pytest.mark.parametrize("code", [0, 7, 255])
def test_run_exits_as_the_program_does(runtime: Runtime, bundle: Bundle, code: int) -> None:
    assert runtime.run(bundle.sh(f"exit {code}")).code == code


@pytest.mark.parametrize("signal", [6, 9, 15])
def test_run_exits_with_128_and_the_signal_that_ended_the_program(
    runtime: Runtime, bundle: Bundle, signal: int
) -> None:
    # A process 1 ignores signals of its own namespace that it does not handle, so it is killed from outside.
    container = runtime.running(bundle.sleeping().without_namespace("pid"))
    os.kill(container.pid, signal)
    assert container.exit_status() == 128 + signal


def test_run_in_the_foreground_gives_128_and_the_signal(runtime: Runtime, bundle: Bundle) -> None:
    result = runtime.run(bundle.sh("kill -9 $$").without_namespace("pid"))
    assert result.code == 128 + 9


def test_the_program_reads_standard_input(runtime: Runtime, bundle: Bundle) -> None:
    given = runtime.file("in")
    given.write_text("asked")
    with given.open("rb") as stdin:
        path = str(bundle.args("cat").write().path)
        result = runtime.call("run", "--bundle", path, new_id(), stdin=stdin).ok()
    assert result.stdout == "asked"


def test_arguments_arrive_unchanged(runtime: Runtime, bundle: Bundle) -> None:
    args = ["printf", "%s|", "two words", "", "'quoted'", "é", "$HOME"]
    assert runtime.run(bundle.args(*args)).ok().stdout == "two words||'quoted'|é|$HOME|"


def test_the_environment_is_the_configured_one_and_a_home(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping().env("GREETING=good day", "EMPTY="))
    environment = set(observe.words(container.pid, "environ"))
    assert environment == {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "TERM=xterm",
        "GREETING=good day",
        "EMPTY=",
        "HOME=/root",
    }


def test_home_is_taken_from_the_passwd_of_the_container(runtime: Runtime, bundle: Bundle) -> None:
    assert runtime.run(bundle.user(1000, 1000).sh("echo $HOME")).ok().stdout == "/home/user\n"


def test_a_configured_home_is_kept(runtime: Runtime, bundle: Bundle) -> None:
    assert runtime.run(bundle.env("HOME=/elsewhere").sh("echo $HOME")).ok().stdout == "/elsewhere\n"


def test_the_program_is_found_in_the_path_of_the_container(runtime: Runtime, bundle: Bundle) -> None:
    bundle.file("opt/tool", "#!/bin/sh\necho found\n", 0o755)
    bundle.put(["PATH=/nowhere:/opt"], "process", "env")
    assert runtime.run(bundle.args("tool")).ok().stdout == "found\n"


def test_a_relative_program_is_relative_to_the_working_directory(runtime: Runtime, bundle: Bundle) -> None:
    bundle.file("opt/tool", "#!/bin/sh\necho found\n", 0o755)
    assert runtime.run(bundle.args("./tool").cwd("/opt")).ok().stdout == "found\n"


def test_the_working_directory_is_the_configured_one(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.directory("var/work").cwd("/var/work").sleeping())
    assert os.readlink(f"/proc/{container.pid}/cwd") == "/var/work"


def test_a_missing_working_directory_is_made(runtime: Runtime, bundle: Bundle) -> None:
    assert runtime.run(bundle.writable().cwd("/made/for/me").args("pwd")).ok().stdout == "/made/for/me\n"


def test_the_configured_limit_is_set_and_no_other(runtime: Runtime, bundle: Bundle) -> None:
    limits: list[tuple[str, int, int]] = [("RLIMIT_NOFILE", 512, 1000), ("RLIMIT_CORE", 0, 0)]
    bundle.put(
        [{"type": kind, "soft": soft, "hard": hard} for kind, soft, hard in limits], "process", "rlimits"
    )
    container = runtime.running(bundle.sleeping())
    expected = observe.limits(os.getpid())
    expected["Max open files"] = ("512", "1000")
    expected["Max core file size"] = ("0", "0")
    assert observe.limits(container.pid) == expected


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("RLIMIT_AS", "Max address space", 1 << 32),
        ("RLIMIT_CPU", "Max cpu time", 77),
        ("RLIMIT_DATA", "Max data size", 1 << 31),
        ("RLIMIT_FSIZE", "Max file size", 1 << 30),
        ("RLIMIT_LOCKS", "Max file locks", 78),
        ("RLIMIT_MEMLOCK", "Max locked memory", 4096),
        ("RLIMIT_MSGQUEUE", "Max msgqueue size", 8192),
        ("RLIMIT_NICE", "Max nice priority", 0),
        ("RLIMIT_NPROC", "Max processes", 79),
        ("RLIMIT_RSS", "Max resident set", 1 << 29),
        ("RLIMIT_RTPRIO", "Max realtime priority", 0),
        ("RLIMIT_RTTIME", "Max realtime timeout", 80),
        ("RLIMIT_SIGPENDING", "Max pending signals", 81),
        ("RLIMIT_STACK", "Max stack size", 1 << 20),
    ],
)
def test_every_kind_of_limit_is_known(
    runtime: Runtime, bundle: Bundle, kind: str, name: str, value: int
) -> None:
    bundle.put([{"type": kind, "soft": value, "hard": value}], "process", "rlimits")
    container = runtime.running(bundle.sleeping())
    assert observe.limits(container.pid)[name] == (str(value), str(value))


def test_only_the_three_standard_descriptors_are_open(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    assert sorted(observe.descriptors(container.pid)) == [0, 1, 2]


def test_a_descriptor_leaked_into_the_runtime_is_not_leaked_into_the_container(
    runtime: Runtime, bundle: Bundle
) -> None:
    runtime.prefix = ("sh", "-c", 'exec 9</etc/passwd 8</proc; exec "$@"', "sh")
    container = runtime.running(bundle.sleeping())
    assert sorted(observe.descriptors(container.pid)) == [0, 1, 2]


def test_signals_are_neither_ignored_nor_blocked(runtime: Runtime, bundle: Bundle) -> None:
    runtime.prefix = ("sh", "-c", 'trap "" PIPE USR1; exec "$@"', "sh")
    status = observe.status(runtime.running(bundle.sleeping()).pid)
    assert int(status["SigBlk"], 16) == 0
    # 32 and 33 are the C library's own: whoever started the tests may have left them ignored
    assert int(status["SigIgn"], 16) & ~0x180000000 == 0


def test_hangup_and_interrupt_are_not_ignored_either(ocirun: Runtime, bundle: Bundle) -> None:
    # nohup(1) ignores the first. Programs in Go keep these two ignored, so runc's containers do at times.
    ocirun.prefix = ("sh", "-c", 'trap "" HUP INT; exec "$@"', "sh")
    status = observe.status(ocirun.running(bundle.sleeping()).pid)
    assert int(status["SigIgn"], 16) == 0


def test_the_session_keyring_is_a_new_one(runtime: Runtime, bundle: Bundle) -> None:
    # /proc/keys is masked by default, and shows the keys that the reader possesses
    bundle.put([], "linux", "maskedPaths")
    ident = f"{new_id()}-keyring"
    keys = runtime.run(bundle.args("cat", "/proc/keys"), ident=ident).ok().stdout
    assert re.search(rf"keyring +(_ses\.)?{ident}:", keys)


def test_the_process_is_out_of_reach_of_ptrace_by_the_container_before_start(
    runtime: Runtime, bundle: Bundle
) -> None:
    # Not dumpable: the files below /proc/PID belong to root, and cannot be opened by the user inside.
    container = runtime.create(bundle.user(1000, 1000).sleeping())
    assert Path(f"/proc/{container.pid}/exe").lstat().st_uid == 0


def test_the_file_of_the_runtime_cannot_be_overwritten_from_the_container(
    runtime: Runtime, bundle: Bundle
) -> None:
    # A runtime whose own file is /proc/self/exe in the container can be overwritten from there.
    container = runtime.create(bundle.sleeping())
    mine, theirs = runtime.program.resolve().stat(), Path(f"/proc/{container.pid}/exe").stat()
    read_only = os.statvfs(f"/proc/{container.pid}/exe").f_flag & os.ST_RDONLY
    assert read_only or (theirs.st_dev, theirs.st_ino) != (mine.st_dev, mine.st_ino)
