"""The shims that are compared, with the runtime below each."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.any_pb2 import Any
from ocirun_shim.messages.runc_options_pb2 import Options

from conformance import engines, machine, peers

OURS = "ocirun"
#: What the bars are fractions of.
BAR = "runc.v2 + runc"
NAMES = (OURS, BAR, "runc.v2 + crun")

_GROUP = "io.containerd.runc.v2.group"


@dataclass(frozen=True, slots=True)
class Candidate:
    """``program`` is the shim, ``runtime`` the program that it executes, None where it does all itself.

    ``containerd`` is the program that the shim is told to be containerd's own; ours asks it for its version.
    """

    name: str
    program: Path
    runtime: Path | None
    containerd: Path

    def options(self) -> Any:
        """What `start` and Create are told of the runtime; empty for our own shim."""
        packed = Any()
        if self.runtime is not None:
            packed.type_url = "containerd.runc.v1.Options"
            packed.value = Options(binary_name=str(self.runtime)).SerializeToString()
        return packed


class MissingPeerError(Exception):
    """A program that we are compared with cannot be had; the message says why."""


def candidates() -> list[Candidate]:
    """Ours and the two others; raises MissingPeerError."""
    engine = engines.engine("sid")
    runc, crun = peers.peer("runc"), peers.peer("crun")
    if engine is None or runc is None or crun is None:
        raise MissingPeerError(engines.reason("sid") or peers.reason("runc") or peers.reason("crun"))
    ours, theirs = (
        Path(sys.executable).parent / "containerd-shim-ocirun-v2",
        engine.programs / "containerd-shim-runc-v2",
    )
    runtimes = zip(NAMES, (ours, theirs, theirs), (None, runc, crun), strict=True)
    return [
        Candidate(name, shim, runtime, engine.programs / "containerd") for name, shim, runtime in runtimes
    ]


def facts(found: list[Candidate]) -> dict[str, str]:
    """What stands beside every figure: versions, and the machine as it is now."""
    return {one.name: _version(one) for one in found} | machine.facts()


def _version(candidate: Candidate) -> str:
    shim = _first("Version:", (str(candidate.program), "-v"))
    if candidate.runtime is None:
        return shim
    return f"shim of containerd {shim}, {machine.version(candidate.runtime)}"


def _first(label: str, command: tuple[str, ...]) -> str:
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return next((line.partition(label)[2].strip() for line in lines if label in line), "?")


def write_bundle(bundle: Path, rootfs: Path, group: str, *args: str) -> None:
    """A bundle's config.json; ``group`` names the shim that it shares with others, "" for one of its own.

    It mounts no cgroup2: on a host with both hierarchies crun takes longer for that mount than for all else.
    """
    bundle.mkdir(parents=True)
    namespaces = [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")]
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "ro"]},
    ]
    config = {
        "ociVersion": "1.2.0",
        "process": {"user": {"uid": 0, "gid": 0}, "args": list(args), "env": ["PATH=/bin"], "cwd": "/"},
        "root": {"path": str(rootfs), "readonly": True},
        "mounts": mounts,
        "linux": {"namespaces": namespaces, "cgroupsPath": f"/{bundle.parent.name}/{bundle.name}"},
        "annotations": {_GROUP: group} if group else {},
    }
    (bundle / "config.json").write_text(json.dumps(config))
