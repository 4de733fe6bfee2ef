"""What a new user gets wrong: a clear error, one line in the log, and nothing half-made left."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.host import kernel
from tests.host.bundles import BUSYBOX
from tests.host.runtimes import new_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Result, Runtime

COMMANDS = ("create", "run")
#: e_machine of an ELF header (elf(5)) and the number of a machine that this one is not.
MACHINE, FOREIGN = 18, {"x86_64": 183}.get(os.uname().machine, 62)


def refused(runtime: Runtime, command: str, path: Path, *texts: str, lines: int = 1) -> Result:
    """Runs ``command`` on the bundle at ``path``, which must fail; of ocirun more is expected than of peers.

    The message must hold each of ``texts``, on ``lines`` lines; the log must have one line of JSON with it.
    """
    log = runtime.file("log")
    result = runtime.call(
        "--log", str(log), "--log-format", "json", command, "--bundle", str(path), new_id()
    ).refused()
    if runtime.name != "ocirun":
        return result
    assert len(result.stderr.splitlines()) == lines, result.stderr
    assert "Traceback" not in result.stderr
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    errors = [entry for entry in entries if entry["level"] == "error"]
    assert len(errors) == 1
    assert entries[-1] is errors[0]
    assert errors[0]["time"]
    logged = " ".join(map(str, errors[0].values()))
    for text in texts:
        assert text in result.stderr
        assert text in logged
    return result


@pytest.mark.parametrize("command", COMMANDS)
def test_a_bundle_without_a_config(runtime: Runtime, scratch: Path, command: str) -> None:
    (scratch / "empty").mkdir()
    refused(runtime, command, scratch / "empty", "config.json")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_bundle_that_does_not_exist(runtime: Runtime, scratch: Path, command: str) -> None:
    refused(runtime, command, scratch / "nowhere", str(scratch / "nowhere"))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_config_that_is_not_json(runtime: Runtime, bundle: Bundle, command: str) -> None:
    text = (bundle.write().path / "config.json").read_text().replace('"runc"', "oops")
    (bundle.path / "config.json").write_text(text)
    line = next(number for number, line in enumerate(text.splitlines(), 1) if "oops" in line)
    column = len(' "hostname": ') + 1
    refused(runtime, command, bundle.path, f"config.json:{line}:{column}")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_config_that_is_not_utf_8(runtime: Runtime, bundle: Bundle, command: str) -> None:
    (bundle.path / "config.json").write_bytes(b'{"ociVersion": "1.0.0", "hostname": "\xff\xfe"}')
    refused(runtime, command, bundle.path, "config.json")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_member_that_stands_twice(ocirun: Runtime, bundle: Bundle, command: str) -> None:
    text = bundle.write().path.joinpath("config.json").read_text()
    (bundle.path / "config.json").write_text(text.replace('"process":', '"root": {}, "process":', 1))
    refused(ocirun, command, bundle.path, "stands twice in one object", "/root")


def test_what_nobody_knows_is_ignored(runtime: Runtime, bundle: Bundle) -> None:
    """config.md#extensibility, for annotations too."""
    for keys in ((), ("process",), ("linux", "resources")):
        bundle.put({"of": ["any", "kind"]}, *keys, "org.example.unknown")
    annotations: Json = {"org.opencontainers.image.unheard": "of", "x": ""}
    container = runtime.create(bundle.put(annotations, "annotations").sleeping())
    assert json.loads(runtime.call("state", container.id).ok().stdout)["annotations"] == annotations


@pytest.mark.parametrize("command", COMMANDS)
def test_a_config_that_is_empty(runtime: Runtime, bundle: Bundle, command: str) -> None:
    (bundle.path / "config.json").write_text("")
    refused(runtime, command, bundle.path, "config.json")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_value_of_the_wrong_type(runtime: Runtime, bundle: Bundle, command: str) -> None:
    bundle.put("yes", "root", "readonly").write()
    refused(runtime, command, bundle.path, "/root/readonly", '"yes"')


def test_two_faults_are_told_together(ocirun: Runtime, bundle: Bundle) -> None:
    bundle.put("yes", "root", "readonly").put(7, "hostname").write()
    refused(ocirun, "create", bundle.path, "/root/readonly", "/hostname", lines=2)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_root_that_does_not_exist(runtime: Runtime, bundle: Bundle, command: str) -> None:
    bundle.put("elsewhere", "root", "path").write()
    refused(runtime, command, bundle.path, "elsewhere", "/root/path")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_root_that_is_a_file(runtime: Runtime, bundle: Bundle, command: str) -> None:
    (bundle.path / "file").write_text("")
    bundle.put("file", "root", "path").write()
    refused(runtime, command, bundle.path, "/root/path")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_program_that_is_not_in_the_path(runtime: Runtime, bundle: Bundle, command: str) -> None:
    refused(runtime, command, bundle.args("frobnicate").write().path, "frobnicate", "/process/args")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_program_that_does_not_exist(runtime: Runtime, bundle: Bundle, command: str) -> None:
    refused(
        runtime, command, bundle.args("/no/such/program").write().path, "/no/such/program", "/process/args"
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_program_without_the_execute_bit(runtime: Runtime, bundle: Bundle, command: str) -> None:
    bundle.file("bin/plain", "#!/bin/sh\n", 0o644).args("/bin/plain").write()
    refused(runtime, command, bundle.path, "/bin/plain", "/process/args")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_program_that_is_a_directory(runtime: Runtime, bundle: Bundle, command: str) -> None:
    refused(runtime, command, bundle.args("/bin").write().path, "/bin", "/process/args")


def with_lost_interpreter(bundle: Bundle) -> Bundle:
    """The bundle with a script whose interpreter is not there."""
    return bundle.file("bin/script", "#!/usr/bin/lost-interpreter\n", 0o755).args("script")


def with_foreign_program(bundle: Bundle) -> Bundle:
    """The bundle with a program for another machine."""
    program = bytearray(BUSYBOX.read_bytes()[:4096])
    program[MACHINE : MACHINE + 2] = FOREIGN.to_bytes(2, "little")
    (bundle.rootfs / "bin/foreign").write_bytes(program)
    (bundle.rootfs / "bin/foreign").chmod(0o755)
    return bundle.args("foreign")


def test_run_of_a_script_with_a_missing_interpreter(ocirun: Runtime, bundle: Bundle) -> None:
    refused(ocirun, "run", with_lost_interpreter(bundle).write().path, "/usr/bin/lost-interpreter", "script")


def test_run_of_a_program_for_another_machine(ocirun: Runtime, bundle: Bundle) -> None:
    refused(ocirun, "run", with_foreign_program(bundle).write().path, "foreign", "architecture")


@pytest.mark.parametrize("make", [with_lost_interpreter, with_foreign_program])
def test_run_of_what_the_kernel_cannot_execute_fails(runtime: Runtime, bundle: Bundle, make: object) -> None:
    assert callable(make)
    make(bundle)
    assert runtime.run(bundle).code != 0


def test_start_tells_why_the_kernel_could_not_execute(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.create(with_lost_interpreter(bundle))
    ocirun.call("start", container.id).refused("/usr/bin/lost-interpreter")


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_namespace(runtime: Runtime, bundle: Bundle, command: str) -> None:
    bundle.items("linux", "namespaces").append({"type": "dream"})
    refused(runtime, command, bundle.write().path, "dream", "/linux/namespaces/6/type")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_namespace_that_is_listed_twice(runtime: Runtime, bundle: Bundle, command: str) -> None:
    bundle.items("linux", "namespaces").append({"type": "uts"})
    refused(runtime, command, bundle.write().path, "uts", "/linux/namespaces")


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_limit(runtime: Runtime, bundle: Bundle, command: str) -> None:
    bundle.items("process", "rlimits").append({"type": "RLIMIT_LUCK", "soft": 1, "hard": 1})
    refused(runtime, command, bundle.write().path, "RLIMIT_LUCK", "/process/rlimits/1/type")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_bind_of_a_source_that_does_not_exist(runtime: Runtime, bundle: Bundle, command: str) -> None:
    bundle.directory("mnt").bind("/no/such/source", "/mnt").write()
    refused(runtime, command, bundle.path, "/no/such/source", "/mounts/7/source")


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_file_system(runtime: Runtime, bundle: Bundle, command: str) -> None:
    bundle.directory("mnt").mount("/mnt", "dreamfs", "none").write()
    refused(runtime, command, bundle.path, "dreamfs", "/mounts/7/type")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_mount_point_that_cannot_be_made(runtime: Runtime, bundle: Bundle, command: str) -> None:
    bundle.file("plain", "a file").mount("/plain/below", "tmpfs", "tmpfs").write()
    refused(
        runtime,
        command,
        bundle.path,
        "/plain/below",
        "/mounts/7/destination",
        "a file in place of a directory",
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_caller_who_is_not_root(runtime: Runtime, bundle: Bundle, command: str) -> None:
    for above in runtime.program.parents:
        if not above.stat().st_mode & 0o001:
            pytest.skip(f"nobody but root may search {above}, above {runtime.program.name}")
    runtime.prefix = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")
    runtime.root.chmod(0o777)
    runtime.scratch.chmod(0o777)
    # it gets a user namespace; what else root's config needs is told by the step that misses it
    refused(runtime, command, bundle.write().path, "Invalid gid '5'", lines=3)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_host_without_cgroup2(ocirun: Runtime, bundle: Bundle, command: str) -> None:
    cover = 'while umount -lR /sys/fs/cgroup 2>/dev/null; do :; done; exec "$@"'
    ocirun.prefix = ("unshare", "--mount", "sh", "-c", cover, "sh")
    refused(ocirun, command, bundle.write().path, "cgroup2")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("controller", "keys", "value"),
    [
        ("memory", ("memory", "limit"), 1 << 28),
        ("pids", ("pids", "limit"), 100),
        ("cpu", ("cpu", "shares"), 512),
    ],
)
def test_a_limit_without_its_controller(
    ocirun: Runtime, bundle: Bundle, command: str, controller: str, keys: tuple[str, str], value: int
) -> None:
    with open("/sys/fs/cgroup/cgroup.controllers") as controllers:
        if controller in controllers.read().split():
            pytest.skip(f"this host has the controller {controller}")
    bundle.put(value, "linux", "resources", *keys).write()
    refused(ocirun, command, bundle.path, controller, "/linux/resources/" + "/".join(keys))


@pytest.fixture(params=["size=64k,nr_inodes=1000", "size=1m,nr_inodes=8"])
def full(ocirun: Runtime, request: pytest.FixtureRequest) -> Iterator[None]:
    """The state directory on a file system without room, for data or for another file."""
    kernel.mount("tmpfs", ocirun.root, "tmpfs", data=request.param)
    try:
        (ocirun.root / "filler").write_bytes(bytes(1 << 16))
        for number in range(8):
            (ocirun.root / f"filler{number}").touch()
    except OSError:
        pass  # no room: as it should be
    yield
    kernel.umount(ocirun.root, kernel.MNT_DETACH)


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_under_the_state_directory(ocirun: Runtime, bundle: Bundle, command: str) -> None:
    before = sorted(os.listdir(ocirun.root))
    refused(ocirun, command, bundle.args("true").write().path, "full", str(ocirun.root))
    assert sorted(os.listdir(ocirun.root)) == before


@pytest.mark.parametrize(
    "args", [["frob"], ["--frob"], ["run"], ["run", "a", "b"], ["create", "--frob", "x"]]
)
def test_a_wrong_command_line(runtime: Runtime, args: list[str]) -> None:
    result = runtime.call(*args)
    assert result.code != 0
    assert "Traceback" not in result.stderr


def test_a_pid_file_that_cannot_be_written(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    runtime.attempt(bundle.sleeping(), "--pid-file", str(scratch / "no/such/directory/pid")).refused()


def test_a_run_that_works_logs_no_error(runtime: Runtime, bundle: Bundle) -> None:
    log = runtime.file("log")
    path = str(bundle.args("true").write().path)
    runtime.call("--log", str(log), "--log-format", "json", "run", "--bundle", path, new_id()).ok()
    assert not log.exists() or '"error"' not in log.read_text()


def test_a_working_directory_that_was_removed(ocirun: Runtime, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = 'cd "$1" && rmdir "$1" && shift && exec "$@"'
    done = subprocess.run(
        ("sh", "-c", script, "sh", str(gone), *ocirun.command("create", new_id())),
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 1
    assert "the working directory does not exist any more" in done.stderr
    assert "internal" not in done.stderr
