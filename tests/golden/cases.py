"""The bundles of the golden plans, the host they are planned for, and what planning them needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ocirun.host import Host
from ocirun.planner import Options, plan

if TYPE_CHECKING:
    from ocirun_spec.types import Config

    from ocirun.plan.model import Plan

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob("*.json"))
ALL_CAPABILITIES = (1 << 41) - 1
CONTROLLERS = frozenset(("cpu", "cpuset", "io", "memory", "pids"))


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


def planned(name: str) -> Plan:
    """The plan of one golden bundle."""
    return plan(config(name), a_host(), options(name))
