"""containerd of an ordinary user, as rootlesskit has it run: root of a user namespace, with mount and cgroup
namespaces of its own, in a service of his own systemd to which its cgroup was delegated."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conformance.image import IMAGE, write_image
from tests.engines.scenes import LINGERING
from tests.host import observe
from tests.host.users import NAME, has_manager, owner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Ctr = Callable[..., str]

SHIMS = ("io.containerd.ocirun.v2", "io.containerd.runc.v2")
SECONDS = 180
UNIT = "engine.service"
MEMORY = 64 << 20
#: Controllers are given to containers by the root of the hierarchy, which therefore may hold no process.
ENGINE = """
mount -t tmpfs -o mode=755 run /run && mkdir -p "$XDG_RUNTIME_DIR" &&
mount -t cgroup2 cgroup2 /sys/fs/cgroup &&
mkdir /sys/fs/cgroup/engine &&
echo 0 >/sys/fs/cgroup/engine/cgroup.procs &&
echo +cpu +memory +pids >/sys/fs/cgroup/cgroup.subtree_control &&
exec containerd --config "$1"
"""
CONFIG = """
version = 2
root = "{home}/root"
state = "/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
"""


def _run(*words: str) -> str:
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert done.returncode == 0, f"{' '.join(words)}: {done.returncode}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def ctr() -> Iterator[Ctr]:
    """containerd runs and has the image; gives its client."""
    number = has_manager()
    home = Path(pwd.getpwnam(NAME).pw_dir)
    config = home / "config.toml"
    config.write_text(CONFIG.format(home=home))
    write_image(home / "image.tar")
    runtime = f"/run/user/{number}"
    by_him = [
        *("setpriv", f"--reuid={number}", f"--regid={number}", "--clear-groups", "env", f"HOME={home}"),
        *(f"XDG_RUNTIME_DIR={runtime}", f"DBUS_SESSION_BUS_ADDRESS=unix:path={runtime}/bus"),
    ]
    wanted = (
        "--user",
        "--quiet",
        f"--unit={UNIT}",
        "--property=Delegate=yes",
        f"--setenv=PATH={os.environ['PATH']}",
    )
    separated = ("unshare", "--user", "--map-root-user", "--map-auto", "--mount", "--cgroup")
    _run(*by_him, "systemd-run", *wanted, "--", *separated, "sh", "-c", ENGINE, "sh", str(config))

    def inside(*words: str) -> str:
        told = _run(*by_him, "systemctl", "--user", "show", "--value", "--property=MainPID", UNIT).strip()
        return _run("nsenter", f"--target={told}", "--user", "--mount", "--", "ctr", *words)

    def answers() -> bool:
        try:
            return bool(inside("version"))
        except AssertionError:
            return False

    observe.eventually(answers, "containerd answers", SECONDS)
    inside("images", "import", "--snapshotter=native", str(home / "image.tar"))
    yield inside
    _run(*by_him, "systemctl", "--user", "kill", "--signal=KILL", UNIT)


@pytest.mark.parametrize("shim", SHIMS)
def test_a_limited_container_of_his(ctr: Ctr, shim: str) -> None:
    name = f"one-{shim.split('.')[2]}"
    flags = (f"--runtime={shim}", "--snapshotter=native", "--memory-limit", str(MEMORY))
    ctr("run", "--detach", *flags, IMAGE, name, "sleep", "1000")
    (pid,) = (int(row[1]) for row in map(str.split, ctr("task", "ls").splitlines()) if row[0] == name)
    where = Path(f"/sys/fs/cgroup{observe.cgroup(pid)}")
    assert where.match(f"{UNIT}/default/{name}")
    assert (where / "memory.max").read_text() == f"{MEMORY}\n"
    assert owner(pid) == pwd.getpwnam(NAME).pw_uid
    words = ("sh", "-c", f"{LINGERING}cat /proc/self/cgroup")
    assert ctr("task", "exec", "--exec-id=second", name, *words) == f"0::/default/{name}\n"
    assert "memory.usage" in ctr("task", "metrics", name)
    ctr("task", "pause", name)
    assert "frozen 1" in (where / "cgroup.events").read_text()
    ctr("task", "resume", name)
    ctr("task", "rm", "--force", name)
    ctr("containers", "rm", name)
    observe.eventually(lambda: not observe.alive(pid), "the program is gone")
    observe.eventually(lambda: not where.exists(), "its cgroup is gone")
