"""The bundles of the golden plans, the host they are planned for, and what planning them needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ocirun.host import Host
from ocirun.planner import Options, plan
from ocirun.planner.draft import Filter, Systemd
from ocirun.planner.exec import ExecOptions, plan_exec, stand_in
from ocirun.planner.mounting import plan_adding, plan_removing
from ocirun.planner.rootfs import RootMount
from ocirun.reach import Reach

if TYPE_CHECKING:
    from ocirun_spec.types import Config, Process

    from ocirun.plan.model import Plan

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob("*.json"))
#: Processes in a container of one of those bundles.
EXECS = sorted(f"exec/{path.stem}" for path in HERE.glob("exec/*.json"))
#: Mounts that are added to such a container, or taken away.
MOUNTINGS = sorted(f"mounting/{path.stem}" for path in HERE.glob("mounting/*.json"))
#: Bundles whose root file system is a list of mounts.
ROOTS = sorted(f"rootfs/{path.stem}" for path in HERE.glob("rootfs/*.json"))
#: Those around a restore of the same bundles.
RESTORES = sorted(path.stem for path in HERE.glob("restore/*.plan"))
ALL_CAPABILITIES = (1 << 41) - 1
#: Bundles whose caller asks for something of his own.
OPTIONS: dict[str, dict[str, object]] = {
    "seccomp-raw": {
        "seccomp": Filter(
            bytes.fromhex("2000000000000000 1500000153000000 060000000000c07f 060000000000ff7f"),
            4,
            "raw 4e0b5c62d1af…",
            asks=True,
        )
    },
    "no-pivot": {"pivot": False},
    "no-keyring": {"new_keyring": False},
    "preserved-descriptors": {"preserve_fds": 3},
    "sockets": {"preserve_fds": 3, "listen_fds": 2},
    "exec/in-a-scope": {
        "scope": ("ocirun-hello.scope", "inner"),
        "cgroup": "/sys/fs/cgroup/user.slice/user@1000.service/user.slice/ocirun-hello.scope/inner",
        "differing": ("mount", "pid"),
    },
    "no-cgroup": {"no_cgroup": True},
    "systemd-scope": {"systemd": Systemd(version=257)},
    "systemd-user": {
        "systemd": Systemd(
            user=True,
            root="/user.slice/user-1000.slice/user@1000.service",
            version=252,
            controllers=frozenset(("cpu", "memory", "pids")),
        )
    },
}
CONTROLLERS = frozenset(("cpu", "cpuset", "hugetlb", "io", "memory", "pids", "rdma"))


def a_host(
    *,
    cgroup_mount: str = "/sys/fs/cgroup",
    hybrid: bool = False,
    controllers: frozenset[str] = CONTROLLERS,
    capabilities: int = ALL_CAPABILITIES,
    kernel: tuple[int, int] = (6, 12),
    euid: int = 0,
    apparmor: bool = True,
    selinux: bool = True,
    reach: Reach | None = None,
    legacy: frozenset[str] = frozenset(),
    resctrl: str = "/sys/fs/resctrl",
) -> Host:
    """A host on which all is well, but for what is said; with a ``reach``, for who is not root of it."""
    return Host(
        cgroup_mount=cgroup_mount,
        hybrid=hybrid,
        controllers=controllers,
        capabilities=capabilities,
        kernel=kernel,
        euid=euid,
        apparmor=apparmor,
        selinux=selinux,
        unprivileged=reach is not None,
        reach=reach,
        legacy=legacy,
        resctrl=resctrl,
    )


#: Where systemd --user has put the shell of a user.
SCOPE = "/user.slice/user-1000.slice/user@1000.service/app.slice/run-r1.scope"
DELEGATED = Reach(
    cgroup=SCOPE, crowded=True, controllers=frozenset(("cpu", "memory", "pids")), gid=1000,
    newuidmap="/usr/bin/newuidmap", newgidmap="/usr/bin/newgidmap",
)  # fmt: skip


def a_users_host(reach: Reach | None = None) -> Host:
    """A host on which all is well for the user 1000, but that there is no cgroup for him."""
    reach = reach or Reach(gid=1000)
    controllers = CONTROLLERS if reach.cgroup is None else reach.controllers
    return a_host(euid=1000, capabilities=0, controllers=controllers, reach=reach)


#: Bundles of who is not root of the host.
HOSTS: dict[str, Host] = {
    "exec/in-a-scope": a_users_host(Reach(gid=1000, denied_there=True)),
    "of-a-user": a_users_host(),
    "of-a-user-delegated": a_users_host(DELEGATED),
    "of-a-user-joining": a_users_host(Reach(gid=1000, denied_there=True)),
    "of-a-user-automatic": a_users_host(),
    "of-a-user-given": a_users_host(
        Reach(
            gid=1000,
            newuidmap="/usr/bin/newuidmap",
            newgidmap="/usr/bin/newgidmap",
            uids=[(100000, 65536), (300000, 5)],
            gids=[(100000, 65536)],
        )
    ),
    "of-root-in-a-user-namespace": a_host(reach=Reach(cgroup=SCOPE)),
}


def a_filter() -> Filter:
    """What became of some profile: compiling is not planning, so here it is one instruction, ALLOW."""
    return Filter(bytes.fromhex("060000000000ff7f"), 412, "cached 9f3c2a81d07e…")


def options(container: str = "hello", *, console_socket: bool = True, new_keyring: bool = True) -> Options:
    """The caller's part of a plan."""
    return Options(
        container,
        bundle="/bundle",
        state_directory=f"/run/ocirun/{container}",
        console_socket=console_socket,
        new_keyring=new_keyring,
        seccomp=a_filter(),
    )


def options_of(name: str) -> Options:
    """The caller's part of the plan of one golden bundle."""
    wanted = options(name)
    for option, value in OPTIONS.get(name, {}).items():
        setattr(wanted, option, value)
    return wanted


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
        seccomp=a_filter(),
    )


def process(name: str) -> tuple[Config, Process]:
    """The config of the container of one golden exec, and the process."""
    case = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    return config(case["container"]), cast("Process", case["process"])


def with_mounts(name: str) -> Config:
    """The config of the container of one golden case of mounting, with those mounts alone."""
    case = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    inside = config(case["container"])
    inside["mounts"] = case.get("add", case.get("remove"))
    return inside


def _mounting(name: str) -> Plan:
    inside, asked = with_mounts(name), exec_options("hello")
    asked.cgroup, asked.bundle = "", "/bundle"
    if "add" in json.loads((HERE / f"{name}.json").read_text(encoding="utf-8")):
        return plan_adding(inside, a_host(), asked)
    return plan_removing(inside, a_host(), asked, [*reversed(range(len(inside.get("mounts", []))))])


def planned(name: str) -> Plan:
    """The plan of one golden bundle, of one golden exec, or of a change of mounts."""
    if name in MOUNTINGS:
        return _mounting(name)
    if name in EXECS:
        inside, wanted = process(name)
        asked = exec_options("hello")
        for option, value in OPTIONS.get(name, {}).items():
            setattr(asked, option, value)
        return plan_exec(inside, wanted, HOSTS.get(name) or a_host(), asked)
    if name in ROOTS:
        case = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
        wanted_options = options(case["container"])
        wanted_options.rootfs = [RootMount(*one) for one in case["rootfs"]]
        return plan(config(case["container"]), a_host(), wanted_options)
    return plan(config(name), HOSTS.get(name) or a_host(), options_of(name))


def judged_by(name: str) -> Config:
    """The config that the linter holds the plan against."""
    if name in MOUNTINGS:
        return with_mounts(name)
    if name in ROOTS:
        case = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
        return config(case["container"])
    return stand_in(*process(name)) if name in EXECS else config(name)
