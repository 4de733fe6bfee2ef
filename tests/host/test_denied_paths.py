"""Permission denied: by which directory, whose it is, and to whom."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.host.execs import execute
from tests.host.runtimes import new_id
from tests.host.test_exec_failures import logged

if TYPE_CHECKING:
    from pathlib import Path

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

FIRST = 100_000
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")


def closed(bundle: Bundle, path: str, owner: int = 0) -> Bundle:
    """A directory that its owner alone may search, with a program in a directory below."""
    bundle.file(f"{path}/deeper/tool", "#!/bin/sh\necho ran\n", 0o755)
    directory = bundle.rootfs / path
    directory.chmod(0o700)
    os.chown(directory, owner, owner)
    return bundle


def test_a_program_below_a_closed_directory(ocirun: Runtime, bundle: Bundle) -> None:
    closed(bundle, "closed").user(1000, 1000).args("/closed/deeper/tool").write()
    told = "/closed (drwx------ 0:0) has no search permission for uid 1000"
    result, entry = logged(ocirun, "run", "--bundle", str(bundle.path), new_id())
    assert 'exec: "/closed/deeper/tool": permission denied' in result.stderr
    assert (entry["code"], entry["errno"], entry["hint"]) == ("no-search-permission", 13, told)
    container = ocirun.running(bundle.sleeping())
    result, entry = logged(ocirun, "exec", container.id, "/closed/deeper/tool")
    assert (entry["code"], entry["hint"]) == ("no-search-permission", told)


def test_the_peers_refuse_it_as_well(runtime: Runtime, bundle: Bundle) -> None:
    closed(bundle, "closed").user(1000, 1000)
    assert runtime.run(bundle.args("/closed/deeper/tool")).code not in (0, 127)
    container = runtime.running(bundle.sleeping())
    assert execute(container, "/closed/deeper/tool").code not in (0, 127)


def test_root_without_the_capability_is_denied_like_anybody(ocirun: Runtime, bundle: Bundle) -> None:
    """The default config leaves out CAP_DAC_OVERRIDE; with it the program runs."""
    closed(bundle, "closed", owner=1000).args("/closed/deeper/tool")
    ocirun.attempt(bundle).refused("/closed (drwx------ 1000:1000) has no search permission for uid 0")
    for name in ("bounding", "effective", "permitted"):
        bundle.items("process", "capabilities", name).append("CAP_DAC_OVERRIDE")
    assert ocirun.run(bundle).ok().stdout == "ran\n"


def test_a_directory_of_path_that_is_closed(ocirun: Runtime, bundle: Bundle) -> None:
    closed(bundle, "closed").user(1000, 1000).args("tool").put(["PATH=/closed/deeper"], "process", "env")
    ocirun.attempt(bundle).refused("/closed (drwx------ 0:0) has no search permission for uid 1000")


def test_an_interpreter_below_a_closed_directory(ocirun: Runtime, bundle: Bundle) -> None:
    closed(bundle, "closed").user(1000, 1000).file("bin/odd", "#!/closed/deeper/tool\n", 0o755).args("odd")
    container = ocirun.create(bundle)
    ocirun.call("start", container.id).refused(
        "the script /bin/odd names the interpreter /closed/deeper/tool",
        "/closed (drwx------ 0:0) has no search permission for uid 1000",
    )


def test_through_a_link_the_real_directory_is_named(ocirun: Runtime, bundle: Bundle) -> None:
    closed(bundle, "closed").user(1000, 1000).args("/link/tool")
    (bundle.rootfs / "link").symlink_to("/closed/deeper")
    ocirun.attempt(bundle).refused("/closed (drwx------ 0:0) has no search permission")


def test_a_file_without_execute_permission_for_this_user(ocirun: Runtime, bundle: Bundle) -> None:
    bundle.file("bin/own", "#!/bin/sh\n", 0o700).user(1000, 1000).args("own")
    ocirun.attempt(bundle).refused("/bin/own (-rwx------ 0:0) has no execute permission for uid 1000")


def test_a_working_directory_that_the_user_namespace_does_not_own(ocirun: Runtime, bundle: Bundle) -> None:
    closed(bundle.mapped(FIRST, 65536), "closed").cwd("/closed/deeper/work")
    who = f"uid {FIRST} (0 in the container)"
    _, entry = logged(ocirun, "run", "--bundle", str(bundle.write().path), new_id())
    assert (entry["code"], entry["pointer"]) == ("no-search-permission", "/process/cwd")
    assert entry["hint"] == f"/closed (drwx------ 0:0) has no search permission for {who}"
    container = ocirun.running(bundle.cwd("/").sleeping())
    for directory in ("/closed", "/closed/deeper"):
        told = execute(container, "pwd", flags=("--cwd", directory)).stderr
        assert f"/closed (drwx------ 0:0) has no search permission for {who}" in told


def test_a_bind_source_that_a_mapped_root_may_not_reach(
    ocirun: Runtime, bundle: Bundle, scratch: Path
) -> None:
    """Root of a user namespace is denied by directories whose owner has no mapping there."""
    (scratch / "alice" / "data").mkdir(parents=True)
    (scratch / "alice").chmod(0o700)
    os.chown(scratch / "alice", 1000, 1000)
    ocirun.prefix = ("unshare", "--user", "--map-root-user", "--mount")
    bundle.directory("mnt").bind(str(scratch / "alice" / "data"), "/mnt").write()
    _, entry = logged(ocirun, "create", "--bundle", str(bundle.path), new_id())
    assert (entry["code"], entry["errno"]) == ("no-search-permission", 13), entry
    assert (entry["pointer"], entry["path"]) == ("/mounts/7/source", f"{scratch}/alice/data")
    assert str(entry["hint"]).startswith(f"{scratch}/alice (drwx------ ")
    assert str(entry["hint"]).endswith("65534:65534) has no search permission for uid 0")


def test_a_bundle_that_the_caller_may_not_reach(ocirun: Runtime, bundle: Bundle) -> None:
    needs_open_checkout(ocirun.program)
    ocirun.prefix = NOBODY
    bundle.write().path.chmod(0o700)
    for path in (ocirun.scratch, ocirun.root):
        path.chmod(0o755)
    told = f"{bundle.path} (drwx------ root:root 0:0) has no search permission for uid 65534"
    ocirun.call("create", "--bundle", str(bundle.path), new_id()).refused("permission denied (EACCES)", told)
    bundle.path.chmod(0o755)
    (bundle.path / "config.json").chmod(0o600)
    told = f"{bundle.path}/config.json (-rw------- root:root 0:0) has no read permission for uid 65534"
    ocirun.call("create", "--bundle", str(bundle.path), new_id()).refused(told)
    told = f"{bundle.path} (drwxr-xr-x root:root 0:0) has no write permission for uid 65534"
    ocirun.call("--log", str(bundle.path / "log"), "list").refused(told)


def test_a_hook_that_cannot_be_executed(ocirun: Runtime, bundle: Bundle, scratch: Path) -> None:
    hook = scratch / "hook"
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o644)
    for kind in ("createRuntime", "createContainer"):
        bundle.put({kind: [{"path": str(hook)}]}, "hooks")
        ocirun.attempt(bundle).refused(
            f"{hook} (-rw-r--r-- ", ") has no execute permission for uid 0: chmod +x"
        )
    hook.write_text("#!/opt/nowhere\n")
    hook.chmod(0o755)
    for kind in ("createRuntime", "createContainer"):
        bundle.put({kind: [{"path": str(hook)}]}, "hooks")
        ocirun.attempt(bundle).refused("names the interpreter /opt/nowhere, which is not on the host")


#: What the lifecycle does with paths of its caller, tried by somebody who is not root.
SENDING = """
import socket, sys
from ocirun.errors import OcirunError
from ocirun.lifecycle.console import send_console
from ocirun.lifecycle.pidfile import write_pid_file
from ocirun.waiting import drive
for act in (lambda: write_pid_file(sys.argv[1] + "/deeper/pid", 1),
            lambda: drive(send_console(sys.argv[1] + "/deeper/socket", 0))):
    try:
        act()
    except OcirunError as error:
        print(error.code, error)
"""


def test_a_pid_file_and_a_console_socket_out_of_reach(ocirun: Runtime, scratch: Path) -> None:
    needs_open_checkout(ocirun.program)
    (scratch / "closed" / "deeper").mkdir(parents=True)
    (scratch / "closed").chmod(0o700)
    scratch.chmod(0o755)
    ocirun.prefix = (*NOBODY, sys.executable, "-c", SENDING, str(scratch / "closed"))
    told = ocirun.call().stdout.splitlines()
    denied = f"{scratch}/closed (drwx------ root:root 0:0) has no search permission for uid 65534"
    assert [line.split()[0] for line in told] == ["state-io", "socket"]
    assert all(denied in line and "permission denied (EACCES)" in line for line in told), told


WHO: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (0, 0, ()),
    (1000, 1000, ()),
    (2000, 1000, ()),
    (2000, 2000, (1000,)),
    (2000, 2000, ()),
)
#: What we say that this process may do with a file, and what access(2) says.
JUDGING = """
import os, sys
from ocirun.walk import Identity
fd = int(sys.argv[1])
wants = (4, 2, 1)
facts, who = os.fstat(fd), Identity()
print([[who.may(want, facts) for want in wants], [os.access(f"/proc/self/fd/{fd}", want) for want in wants]])
"""


@pytest.mark.parametrize("mode", [0o700, 0o070, 0o007, 0o077, 0o111, 0o000])
@pytest.mark.parametrize("kind", ["directory", "file"])
def test_who_may_what_is_judged_as_the_kernel_does(
    ocirun: Runtime, scratch: Path, mode: int, kind: str
) -> None:
    needs_open_checkout(ocirun.program)
    path = scratch / "judged"
    path.mkdir() if kind == "directory" else path.touch()
    os.chown(path, 1000, 1000)
    path.chmod(mode)
    fd = os.open(path, os.O_PATH)
    for uid, gid, groups in WHO:
        done = subprocess.run(
            [sys.executable, "-c", JUDGING, str(fd)],
            user=uid, group=gid, extra_groups=groups, pass_fds=(fd,), capture_output=True, text=True,
            check=True, cwd="/",
        )  # fmt: skip
        told, real = json.loads(done.stdout.lower())
        assert told == real, (uid, gid, groups)
    os.close(fd)


def needs_open_checkout(program: Path) -> None:
    """Skips where nobody but root may run our program at all."""
    for above in program.parents:
        if not above.stat().st_mode & stat.S_IXOTH:
            pytest.skip(f"nobody but root may search {above}")
