"""The bundles of the golden plans, the host they are planned for, and what planning them needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ocirun.host import Host
from ocirun.planner import Options, plan
from ocirun.planner.exec import ExecOptions, plan_exec, stand_in
from ocirun.planner.rootfs import RootMount

if TYPE_CHECKING:
    from ocirun_spec.types import Config, Process

    from ocirun.plan.model import Plan

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob("*.json"))
#: Processes in a container of one of those bundles.
EXECS = sorted(f"exec/{path.stem}" for path in HERE.glob("exec/*.json"))
#: Bundles whose root file system is a list of mounts.
ROOTS = sorted(f"rootfs/{path.stem}" for path in HERE.glob("rootfs/*.json"))
ALL_CAPABILITIES = (1 << 41) - 1
CONTROLLERS = frozenset(("cpu", "cpuset", "hugetlb", "io", "memory", "pids", "rdma"))


def a_host(
    *,
    cgroup_mount: str = "/sys/fs/cgroup",
    hybrid: bool = False,
    controllers: frozenset[str] = CONTROLLERS,
    capabilities: int = ALL_CAPABILITIES,
    kernel: tuple[int, int] = (6, 12),
    euid: int = 0,
) -> Host:
    """A host on which all is well, but for what is said."""
    return Host(
        cgroup_mount=cgroup_mount,
        hybrid=hybrid,
        controllers=controllers,
        capabilities=capabilities,
        kernel=kernel,
        euid=euid,
    )


def options(container: str = "hello", *, console_socket: bool = True, new_keyring: bool = True) -> Options:
    """The caller's part of a plan."""
    return Options(
        container,
        bundle="/bundle",
        state_directory=f"/run/ocirun/{container}",
        console_socket=console_socket,
        new_keyring=new_keyring,
    )


def config(name: str = "default") -> Config:
    """A fresh copy of the config of one golden bundle, to change at will."""
    return cast("Config", json.loads((HERE / f"{name}.json").read_text(encoding="utf-8")))


def exec_options(
    container: str = "hello", *, console_socket: bool = True, foreground: bool = False, preserve_fds: int = 0
) -> ExecOptions:
    """The caller's part of the plan of an exec."""
    return ExecOptions(
        container,
        pid=4711,
        start="815",
        cgroup=f"/sys/fs/cgroup/ocirun/{container}",
        console_socket=console_socket,
        foreground_terminal=foreground,
        preserve_fds=preserve_fds,
    )


def process(name: str) -> tuple[Config, Process]:
    """The config of the container of one golden exec, and the process."""
    case = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    return config(case["container"]), cast("Process", case["process"])


def planned(name: str) -> Plan:
    """The plan of one golden bundle, or of one golden exec."""
    if name in EXECS:
        inside, wanted = process(name)
        return plan_exec(inside, wanted, a_host(), exec_options("hello"))
    if name in ROOTS:
        case = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
        wanted_options = options(case["container"])
        wanted_options.rootfs = [RootMount(*one) for one in case["rootfs"]]
        return plan(config(case["container"]), a_host(), wanted_options)
    return plan(config(name), a_host(), options(name))


def judged_by(name: str) -> Config:
    """The config that the linter holds the plan against."""
    if name in ROOTS:
        case = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
        return config(case["container"])
    return stand_in(*process(name)) if name in EXECS else config(name)
