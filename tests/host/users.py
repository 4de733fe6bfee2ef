"""Ordinary users who run containers: who they are, what they own, what the bundles of theirs look like."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host.bundles import DEFAULT_NAMESPACES

if TYPE_CHECKING:
    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Runtime
    from tests.host.view import View

#: Nobody: no entry in passwd, nothing in /etc/subuid, no cgroup.
UID = 4242
#: The user that the machine of tests/vm has, with ids in /etc/subuid.
NAME = "user"


def as_user(runtime: Runtime, uid: int = UID, gid: int = UID) -> Runtime:
    """The runtime, executed by this user, who owns its state directory and has a runtime directory."""
    setpriv = shutil.which("setpriv")
    assert setpriv
    runtime.prefix = (setpriv, f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--")
    runtime.environment |= {"XDG_RUNTIME_DIR": str(runtime.scratch / "run"), "HOME": "/"}
    (runtime.scratch / "run").mkdir(mode=0o700, exist_ok=True)
    for path in (runtime.scratch, runtime.root, runtime.scratch / "run"):
        os.chown(path, uid, gid)
    return runtime


def has_manager() -> int:
    """Has the systemd run of the user that the machine has, and gives his number; skips without one."""
    if Path("/proc/1/comm").read_text() != "systemd\n" or not shutil.which("newuidmap"):
        pytest.skip("process 1 is not systemd, or there is no newuidmap")
    number = pwd.getpwnam(NAME).pw_uid
    subprocess.run(("systemctl", "start", f"user@{number}.service"), check=True, timeout=60)
    return number


def logged_in(runtime: Runtime, number: int, view: View) -> Runtime:
    """The runtime, executed by this user in the host's view, which has his runtime directory, from a cgroup
    that is not his."""
    as_user(runtime, number, number)
    runtime.prefix = ("nsenter", f"--mount=/proc/{os.getpid()}/fd/{view.host}", "--", *runtime.prefix)
    runtime.environment |= {
        "XDG_RUNTIME_DIR": f"/run/user/{number}",
        "DBUS_SESSION_BUS_ADDRESS": f"unix:path=/run/user/{number}/bus",
    }
    return runtime


def one_id(inside: int, outside: int, size: int = 1) -> dict[str, Json]:
    """One entry of the mappings."""
    return {"containerID": inside, "hostID": outside, "size": size}


def of_user(bundle: Bundle, uid: int = UID) -> Bundle:
    """The default bundle as `runc spec --rootless` has it: for one user, with the network of the host."""
    bundle.namespaces(*(kind for kind in DEFAULT_NAMESPACES if kind != "network"), "user")
    for member in ("uidMappings", "gidMappings"):
        bundle.put([one_id(0, uid)], "linux", member)
    bundle.drop("linux", "resources").without_mount("/sys").without_mount("/dev/pts")
    bundle.without_mount("/sys/fs/cgroup")
    bundle.mount(
        "/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"
    )
    bundle.mount("/sys", "none", "/sys", "rbind", "nosuid", "noexec", "nodev", "ro")
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro")
    for path in (bundle.path, bundle.rootfs, *bundle.rootfs.rglob("*")):
        if path.name != "busybox":  # shared with others
            os.chown(path, uid, uid, follow_symlinks=False)
    return bundle


def owner(pid: int) -> int:
    """Whom the host takes the process for."""
    return Path(f"/proc/{pid}").stat().st_uid
