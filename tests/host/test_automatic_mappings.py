"""An ordinary user whose config says nothing of a user namespace, or of its mappings: he gets them.

crun does it as well; runc wants both in the config.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import observe
from tests.host.attackers import compiled
from tests.host.execs import execute
from tests.host.users import UID, as_user, of_user

if TYPE_CHECKING:
    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

BOTH = pytest.mark.parametrize("runtime", ["ocirun", "crun"], indirect=True)
MAP = "cat /proc/self/uid_map /proc/self/gid_map"


def without(bundle: Bundle, *, listed: bool) -> Bundle:
    """The bundle of the user without mappings, and without the namespace unless it is ``listed``."""
    of_user(bundle).drop("linux", "uidMappings").drop("linux", "gidMappings")
    if not listed:
        bundle.namespaces("pid", "ipc", "uts", "mount", "cgroup")
    return bundle


def with_ranges(runtime: Runtime, scratch: Path) -> Runtime:
    """The runtime of a user who was given ids, with stand-ins for the programs that map them."""
    if os.statvfs(scratch).f_flag & os.ST_NOSUID or not shutil.which("gcc"):
        pytest.skip("no setuid program can be made here")
    if not all(Path(name).exists() for name in ("/etc/subuid", "/etc/subgid")):
        pytest.skip("this host has no /etc/subuid, or no /etc/subgid, to put another over")
    (scratch / "path").mkdir()
    program = compiled("mapper", scratch)
    for name in ("newuidmap", "newgidmap"):
        shutil.copy(program, scratch / "path" / name)
        (scratch / "path" / name).chmod(0o755 | stat.S_ISUID)
    (scratch / "ranges").write_text(f"somebody:500000:65536\n{UID}:200000:1000\n{UID}:300000:5\n")
    as_user(runtime)
    cover = f'for name in subuid subgid; do mount --bind {scratch}/ranges /etc/$name || exit; done; exec "$@"'
    runtime.prefix = ("unshare", "--mount", "sh", "-c", cover, "sh", *runtime.prefix)
    runtime.environment["PATH"] = f"{scratch}/path:{runtime.environment['PATH']}"
    return runtime


@BOTH
@pytest.mark.parametrize("listed", [False, True])
def test_his_own_id_is_root(runtime: Runtime, bundle: Bundle, listed: bool) -> None:
    container = as_user(runtime).running(without(bundle, listed=listed).sleeping())
    assert observe.status(container.pid)["Uid"].split() == [str(UID)] * 4
    assert observe.namespace(container.pid, "user") != observe.namespace("self", "user")
    assert execute(container, "sh", "-c", f"id -u; {MAP}").ok().stdout.split() == [
        "0",
        *["0", str(UID), "1"] * 2,
    ]
    container.delete("--force").ok()


def test_those_that_he_was_given_follow(ocirun: Runtime, bundle: Bundle, scratch: Path) -> None:
    """Not asked of crun, which goes by names: this user has none."""
    with_ranges(ocirun, scratch)
    container = ocirun.running(without(bundle, listed=False).sleeping())
    lines = ["0", str(UID), "1", "1", "200000", "1000", "1001", "300000", "5"]
    assert execute(container, "sh", "-c", MAP).ok().stdout.split() == lines * 2


def test_with_given_groups_there_are_groups(ocirun: Runtime, bundle: Bundle, scratch: Path) -> None:
    with_ranges(ocirun, scratch)
    container = ocirun.running(without(bundle, listed=True).user(7, 7, 8, 9).sleeping())
    assert observe.status(container.pid)["Groups"].split() == ["200007", "200008"]
    assert observe.status(container.pid)["Uid"].split() == ["200006"] * 4


def test_what_is_missing_for_more_is_told(ocirun: Runtime, bundle: Bundle) -> None:
    told = as_user(ocirun).run(without(bundle, listed=False).args("true")).ok().stderr
    assert f"/linux/uidMappings: is not there: only the own id, {UID}, has a mapping" in told
    assert "(more take a range in /etc/subuid)" in told


def test_an_id_beyond_them_is_an_error_with_its_place(ocirun: Runtime, bundle: Bundle) -> None:
    as_user(ocirun).attempt(without(bundle, listed=False).user(7, 0).sleeping()).refused(
        "/process/user", "(the user or group has no mapping in the user namespace)"
    )


def test_half_of_the_mappings_are_not_completed(ocirun: Runtime, bundle: Bundle) -> None:
    of_user(bundle).drop("linux", "gidMappings")
    as_user(ocirun).attempt(bundle.sleeping()).refused("/linux/gidMappings", "must be given")


#: As many keys as the kernel lets a user have, who says so when he has them and waits.
HOLD = """
import ctypes, errno, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall(250, 1, None)  # KEYCTL_JOIN_SESSION_KEYRING
number = 0
while libc.syscall(248, b"user", b"%d" % number, b"x", 1, -3) > 0:  # add_key to the session keyring
    number += 1
assert ctypes.get_errno() == errno.EDQUOT, ctypes.get_errno()
print("full", flush=True)
sys.stdin.read()
"""
KEYLESS = 4247


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of the calls are those of x86-64")
def test_a_user_who_may_have_no_more_keys_is_told(ocirun: Runtime, bundle: Bundle) -> None:
    who = ("setpriv", f"--reuid={KEYLESS}", f"--regid={KEYLESS}", "--clear-groups", "--")
    command = [*who, sys.executable, "-I", "-S", "-c", HOLD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"full\n"
        users = as_user(ocirun, KEYLESS, KEYLESS)
        users.attempt(of_user(bundle, KEYLESS).sleeping()).refused(
            "EDQUOT", "(this user has as many keys as he may: raise kernel.keys.maxkeys"
        )
        container = users.create(bundle, "--no-new-keyring")
        container.delete("--force").ok()
        assert holder.stdin is not None
        holder.stdin.close()
