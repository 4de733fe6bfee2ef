"""What stands beside every measured figure: the machine as it is, and the versions of what was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def facts() -> dict[str, str]:
    """Python, kernel, processors, and how busy the machine was before."""
    told = {"Python": platform.python_version(), "Linux": platform.release()}
    told["processors"] = str(len(_processors()))
    told["load average before"] = load()
    return told


def load() -> str:
    """The load average of the last minute."""
    return f"{os.getloadavg()[0]:.2f}"


def model() -> str:
    """The name of the first processor, "?" where the kernel tells none."""
    return next((line.partition(":")[2].strip() for line in _lines() if line.startswith("model name")), "?")


def version(program: Path) -> str:
    """How ``program --version`` begins: name, "version", number; raises CalledProcessError."""
    done = subprocess.run((program, "--version"), capture_output=True, text=True, check=True)
    return " ".join(done.stdout.split()[:3])


def _processors() -> list[str]:
    return [line for line in _lines() if line.startswith("processor")]


def _lines() -> list[str]:
    return Path("/proc/cpuinfo").read_text().splitlines()
