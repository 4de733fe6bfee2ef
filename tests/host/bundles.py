"""Bundles made in one fluent sentence, on a root of busybox."""

from __future__ import annotations

import copy
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

BUSYBOX = Path("/bin/busybox")
APPLETS = (
    "awk cat chmod chown cut date dd echo env false find grep head hostname id ifconfig ip kill ln ls "
    "mkdir mknod mount mv nc ping printf ps pwd readlink rm sed seq sh sleep sort stat stty tail tee test "
    "touch tr true tty umount uname wc"
).split()
DIRECTORIES = "bin dev etc proc root sys tmp usr var".split()

#: What `runc spec` of version 1.3 writes on a cgroup2 host, but without a terminal.
DEFAULT_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
DEFAULT_NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def _mount(destination: str, kind: str, source: str, options: str = "") -> Json:
    entry: dict[str, Json] = {"destination": destination, "type": kind, "source": source}
    if options:
        entry["options"] = [*options.split(",")]
    return entry


DEFAULT_MOUNTS: tuple[Json, ...] = (
    _mount("/proc", "proc", "proc"),
    _mount("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
    _mount("/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
    _mount("/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=65536k"),  # noqa: S108
    _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
    _mount("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
    _mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid,noexec,nodev,relatime,ro"),
)


def default_config() -> dict[str, Json]:
    """A fresh default config, the caller's to change."""
    capabilities: dict[str, Json] = {
        name: [*DEFAULT_CAPABILITIES] for name in ("bounding", "effective", "permitted")
    }
    return {
        "ociVersion": "1.2.1",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [DEFAULT_PATH, "TERM=xterm"],
            "cwd": "/",
            "capabilities": capabilities,
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "runc",
        "mounts": copy.deepcopy([*DEFAULT_MOUNTS]),
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in DEFAULT_NAMESPACES],
            "maskedPaths": [*MASKED_PATHS],
            "readonlyPaths": [*READONLY_PATHS],
        },
    }


def make_root(root: Path, busybox: Path = BUSYBOX) -> None:
    """Makes a root file system of busybox, which is linked, not copied, where the file system allows it."""
    for name in DIRECTORIES:
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    try:
        os.link(busybox, root / "bin/busybox")
    except OSError:
        shutil.copy2(busybox, root / "bin/busybox")
    for name in APPLETS:
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n"
    )
    (root / "etc/group").write_text("root:x:0:\nuser:x:1000:\n")


class Bundle:
    """A bundle below ``path``; every method returns the bundle, ``write`` puts config.json in place."""

    def __init__(self, path: Path, busybox: Path = BUSYBOX) -> None:
        self.path = path
        self.rootfs = path / "rootfs"
        self.config = default_config()
        make_root(self.rootfs, busybox)

    def section(self, *keys: str) -> dict[str, Json]:
        """The object at ``keys``, made when it is missing."""
        here = self.config
        for key in keys:
            here = cast("dict[str, Json]", here.setdefault(key, {}))
        return here

    def items(self, *keys: str) -> list[Json]:
        """The array at ``keys``, made when it is missing."""
        return cast("list[Json]", self.section(*keys[:-1]).setdefault(keys[-1], []))

    def put(self, value: Json, *keys: str) -> Self:
        """Sets the member at ``keys``."""
        self.section(*keys[:-1])[keys[-1]] = value
        return self

    def drop(self, *keys: str) -> Self:
        """Removes the member at ``keys``."""
        self.section(*keys[:-1]).pop(keys[-1], None)
        return self

    def args(self, *args: str) -> Self:
        """process.args."""
        return self.put([*args], "process", "args")

    def sh(self, script: str) -> Self:
        """process.args as a script of the shell."""
        return self.args("sh", "-c", script)

    def sleeping(self) -> Self:
        """A program that does nothing until it is killed."""
        return self.args("sleep", "1000")

    def env(self, *entries: str) -> Self:
        """Adds to process.env."""
        self.items("process", "env").extend(entries)
        return self

    def cwd(self, path: str) -> Self:
        """process.cwd."""
        return self.put(path, "process", "cwd")

    def user(self, uid: int, gid: int, *groups: int, umask: int | None = None) -> Self:
        """process.user; ``groups`` are additionalGids."""
        user: dict[str, Json] = {"uid": uid, "gid": gid}
        if groups:
            user["additionalGids"] = [*groups]
        if umask is not None:
            user["umask"] = umask
        return self.put(user, "process", "user")

    def capabilities(self, **sets: Sequence[str]) -> Self:
        """process.capabilities: exactly these sets."""
        given: dict[str, Json] = {name: [*values] for name, values in sets.items()}
        return self.put(given, "process", "capabilities")

    def writable(self) -> Self:
        """root.readonly is false."""
        return self.put(False, "root", "readonly")

    def mount(self, destination: str, kind: str, source: str, *options: str) -> Self:
        """Adds an entry to mounts."""
        self.items("mounts").append(_mount(destination, kind, source, ",".join(options)))
        return self

    def bind(self, source: Path | str, destination: str, *options: str) -> Self:
        """Adds a bind mount; ``options`` beside bind, unless rbind is among them."""
        how = () if "rbind" in options else ("bind",)
        return self.mount(destination, "bind", str(source), *how, *options)

    def without_mount(self, destination: str) -> Self:
        """Removes the mounts on ``destination``."""
        kept = [
            one for one in self.items("mounts") if cast("dict[str, Json]", one)["destination"] != destination
        ]
        return self.put(kept, "mounts")

    def namespaces(self, *kinds: str) -> Self:
        """Exactly these namespaces, all new."""
        return self.put([{"type": kind} for kind in kinds], "linux", "namespaces")

    def without_namespace(self, kind: str) -> Self:
        """The default namespaces but one, which is then inherited."""
        return self.namespaces(*(one for one in DEFAULT_NAMESPACES if one != kind))

    def mapped(self, first: int, size: int) -> Self:
        """A user namespace for these ids of the host, the first of which owns the root file system."""
        self.items("linux", "namespaces").append({"type": "user"})
        for member in ("uidMappings", "gidMappings"):
            self.put([{"containerID": 0, "hostID": first, "size": size}], "linux", member)
        for path in (self.rootfs, *self.rootfs.rglob("*")):
            if path.name != "busybox":  # shared with others
                os.chown(path, first, first, follow_symlinks=False)
        return self

    def join(self, kind: str, path: str) -> Self:
        """Joins an existing namespace instead of making a new one."""
        entry: dict[str, Json] = {"type": kind, "path": path}
        self.without_namespace(kind).items("linux", "namespaces").append(entry)
        return self

    def allow_device(self, kind: str, major: int, minor: int, access: str) -> Self:
        """Adds an allowing device rule."""
        rule: dict[str, Json] = {
            "allow": True,
            "type": kind,
            "major": major,
            "minor": minor,
            "access": access,
        }
        self.items("linux", "resources", "devices").append(rule)
        return self

    def device(
        self, path: str, kind: str, major: int, minor: int, mode: int, uid: int = 0, gid: int = 0
    ) -> Self:
        """Adds to linux.devices."""
        entry: dict[str, Json] = {
            "path": path, "type": kind, "major": major, "minor": minor, "fileMode": mode,
            "uid": uid, "gid": gid,
        }  # fmt: skip
        self.items("linux", "devices").append(entry)
        return self

    def file(self, path: str, text: str, mode: int = 0o644) -> Self:
        """Puts a file into the root file system."""
        file = self.rootfs / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        return self

    def directory(self, path: str, mode: int = 0o755) -> Self:
        """Puts a directory into the root file system."""
        directory = self.rootfs / path.lstrip("/")
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(mode)
        return self

    def write(self) -> Self:
        """Writes config.json as it stands now."""
        (self.path / "config.json").write_text(json.dumps(self.config, indent=1))
        return self
