"""Units of the systemd that is process 1: what systemctl tells of them, and what their cgroups have."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.host.bundles import Bundle

CGROUP = Path("/sys/fs/cgroup")


def need_systemd() -> None:
    """Skips where systemd is not process 1 (sd_booted(3))."""
    if not Path("/run/systemd/system").is_dir():
        pytest.skip("systemd is not process 1 here")


def by_systemd(request: pytest.FixtureRequest) -> None:
    """Has the runtimes of a test make the cgroups of their containers by systemd."""
    for name in ("runtime", "ocirun"):
        if name in request.fixturenames:
            request.getfixturevalue(name).flags = ("--systemd-cgroup",)


def scoped(bundle: Bundle, name: str, in_slice: str = "system.slice") -> str:
    """Gives the bundle a scope of its own, by name."""
    bundle.put(f"{in_slice}:t:{name}", "linux", "cgroupsPath")
    return f"t-{name}.scope"


def systemctl(*words: str) -> str:
    """What systemctl prints."""
    done = subprocess.run(("systemctl", *words), capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip()


def shown(unit: str, *names: str) -> dict[str, str]:
    """Properties of a unit."""
    text = systemctl("show", "--property", ",".join(names), unit)
    return dict(line.split("=", 1) for line in text.splitlines())


def is_loaded(unit: str) -> bool:
    """Whether systemd knows the unit, be it failed."""
    return shown(unit, "LoadState") == {"LoadState": "loaded"}


def files(unit: str, names: dict[str, str]) -> dict[str, str]:
    """Files of the cgroup of a unit that is in system.slice."""
    return {name: (CGROUP / "system.slice" / unit / name).read_text().strip() for name in names}


def place(pid: int) -> str:
    """The cgroup of a process, without the one that crun makes below the scope."""
    told = Path(f"/proc/{pid}/cgroup").read_text().strip()
    return told.removeprefix("0::").removesuffix("/container")
