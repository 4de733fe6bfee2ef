"""The two bundles: what `spec` writes, on a busybox; and one of the size that Docker gives its runtime.

All candidates get the same config, byte for byte.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from conformance import default_profile
from conformance.default_profile import CAPABILITIES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

#: What `ocirun spec` and `runc spec` write.
_SPEC = Path(__file__).parents[2] / "ocirun/cli/default-config.json"

#: moby 28, oci/defaults.go, and the files that dockerd binds into every container.
_MASKED = (
    "/proc/asound /proc/acpi /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list "
    "/proc/timer_stats /proc/sched_debug /proc/scsi /sys/firmware /sys/devices/virtual/powercap"
).split()
_READ_ONLY = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger".split()
_MOUNTS = (
    ("/proc", "proc", "proc", "nosuid,noexec,nodev"),
    ("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
    ("/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
    ("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
    ("/sys/fs/cgroup", "cgroup", "cgroup", "ro,nosuid,noexec,nodev"),
    ("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
    ("/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=67108864"),
)
_BOUND = ("resolv.conf", "hostname", "hosts")
#: Docker names a container's host by the beginning of its id.
_HOST = "3f2a9c41d07b"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEVICES = (
    ("c", 1, 5, "rwm"), ("c", 1, 3, "rwm"), ("c", 1, 9, "rwm"), ("c", 1, 8, "rwm"), ("c", 5, 0, "rwm"),
    ("c", 5, 1, "rwm"), ("c", 10, 229, "rwm"),
)  # fmt: skip
_SYSCTL = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of bundle: its name in the results, and the maker of its config out of the one of `spec`."""

    name: str
    adapt: Callable[[dict[str, Json], Path], None]


def _busybox(config: dict[str, Json], top: Path) -> None:
    """As it is."""
    del config, top


def _docker(config: dict[str, Json], top: Path) -> None:
    """What dockerd 28 writes for `docker run busybox`: but its hook, and what takes a controller or an LSM.

    A limit would need a cgroup controller, and a part of the machines have none to give.
    """
    _part(config, "root")["readonly"] = False
    config["hostname"] = _HOST
    config["mounts"] = [*(_mount(*mount) for mount in _MOUNTS), *(_bind(top, name) for name in _BOUND)]
    process, linux = _part(config, "process"), _part(config, "linux")
    capabilities: list[Json] = [f"CAP_{name}" for name in CAPABILITIES]
    process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), capabilities)
    process["user"] = {"uid": 0, "gid": 0, "additionalGids": [0, 10]}
    process["env"] = [_PATH, f"HOSTNAME={_HOST}"]
    process["noNewPrivileges"] = False
    process["oomScoreAdj"] = 0
    process.pop("rlimits", None)
    linux["sysctl"] = dict[str, Json](_SYSCTL)
    linux["maskedPaths"], linux["readonlyPaths"] = [*_MASKED], [*_READ_ONLY]
    _part(linux, "resources")["devices"] = [{"allow": False, "access": "rwm"}, *map(_device, _DEVICES)]


BUSYBOX, DOCKER = Kind("busybox", _busybox), Kind("Docker-sized", _docker)
KINDS = (BUSYBOX, DOCKER)


def write_bundle(
    bundle: Path, kind: Kind, rootfs: Path, cgroup: str, args: Sequence[str], *, seccomp: bool
) -> None:
    """Writes config.json into a new directory; with ``seccomp`` the Docker-sized one has the default profile.

    Raises PeerError when that profile cannot be had.
    """
    bundle.mkdir(parents=True)
    config = cast("dict[str, Json]", json.loads(_SPEC.read_text()))
    kind.adapt(config, rootfs.parent)
    process, linux = _part(config, "process"), _part(config, "linux")
    process["terminal"], process["args"] = False, [*args]
    _part(config, "root")["path"] = str(rootfs)
    linux["cgroupsPath"] = cgroup
    if kind is DOCKER and seccomp:
        linux["seccomp"] = cast("Json", default_profile.convert(CAPABILITIES))
    (bundle / "config.json").write_text(json.dumps(config, indent=1))


def write_bound_files(top: Path) -> None:
    """The files that Docker binds into a container, beside its root file system."""
    for name in _BOUND:
        (top / name).write_text("127.0.0.1 localhost\n")


def _part(config: dict[str, Json], name: str) -> dict[str, Json]:
    part = config.setdefault(name, {})
    assert isinstance(part, dict)
    return part


def _mount(destination: str, kind: str, source: str, options: str) -> Json:
    return {"destination": destination, "type": kind, "source": source, "options": [*options.split(",")]}


def _bind(top: Path, name: str) -> Json:
    return _mount(f"/etc/{name}", "bind", str(top / name), "rbind,rprivate")


def _device(rule: tuple[str, int, int, str]) -> Json:
    kind, major, minor, access = rule
    return {"allow": True, "type": kind, "major": major, "minor": minor, "access": access}
