"""The engines as the peers are had (conformance.peers): fetched from Debian, never installed nor committed.

sid's are the ones that scenes are played with.  The containerd of older suites speaks version 2 of the shim
protocol only.

``python -m conformance.engines`` fetches all of them and prints what it has.
"""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from conformance.peers import Kit, PeerError, fetched

if TYPE_CHECKING:
    from pathlib import Path

#: The suites whose containerd is of use: 2.1, 1.7 and 1.6.
SUITES = ("sid", "trixie", "bookworm")


@dataclass(frozen=True, slots=True)
class Engine:
    """A containerd and its own ``containerd-shim-runc-v2`` in ``programs``, and the ``ctr`` to drive it with.

    That of 1.6 always sets cpu shares, which no host without that controller has; 1.7's does for it as well.
    """

    suite: str
    programs: Path
    ctr: Path
    version: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Docker:
    """dockerd and its client in ``programs``; the extensions of its iptables in ``xtables``."""

    programs: Path
    xtables: Path


@dataclass(frozen=True, slots=True)
class Podman:
    """podman, with its monitor and its network in ``programs``."""

    programs: Path


_DOCKER = Kit(
    name="docker-sid",
    suite="sid",
    packages=("docker.io", "docker-cli", "iptables"),
    programs=("dockerd", "docker", "docker-proxy", "xtables-nft-multi"),
)
_PODMAN = Kit(
    name="podman-sid",
    suite="sid",
    packages=("podman", "conmon", "netavark", "nftables"),
    programs=("podman", "conmon", "netavark", "nft"),
)


@functools.cache
def docker() -> Docker:
    """Sid's Docker, fetched when needed; raises PeerError."""
    kit = fetched(_DOCKER)
    (xtables,) = (kit / "root/usr/lib").glob("*-linux-gnu*/xtables")
    return Docker(kit / "bin", xtables)


@functools.cache
def podman() -> Podman:
    """Sid's Podman, fetched when needed; raises PeerError."""
    return Podman(fetched(_PODMAN) / "bin")


def engine(suite: str = SUITES[0]) -> Engine | None:
    """The containerd of a Debian suite, fetched when needed; None if it cannot be had."""
    return _find(suite)[0]


def reason(suite: str = SUITES[0]) -> str:
    """Why ``engine(suite)`` is None, "" when it is not."""
    return _find(suite)[1]


@functools.cache
def _find(suite: str) -> tuple[Engine | None, str]:
    kit = _kit(suite)
    try:
        programs = fetched(kit) / "bin"
        version = _version(programs / "containerd")
        client = programs if version >= (1, 7) else fetched(_kit("trixie")) / "bin"
        return Engine(suite, programs, client / "ctr", version), ""
    except PeerError as error:
        return None, str(error)


def _kit(suite: str) -> Kit:
    programs = ("containerd", "ctr", "containerd-shim-runc-v2")
    return Kit(name=f"containerd-{suite}", suite=suite, packages=("containerd",), programs=programs)


def _version(program: Path) -> tuple[int, ...]:
    """Out of ``containerd --version``: its name, the path of its Go module, the version, the commit."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        message = f"{program} does not run: {error}"
        raise PeerError(message) from error
    found = re.search(r"\s(\d+(?:\.\d+)+)", done.stdout)
    if not found:
        message = f"{program} does not tell its version"
        raise PeerError(message)
    return tuple(int(part) for part in found[1].split("."))


def main() -> int:
    """Prints the place of every engine; 1 when one cannot be had."""
    missing = 0
    for suite in SUITES:
        found = engine(suite)
        if found is None:
            missing = 1
            print(f"{suite}: {reason(suite)}")
        else:
            print(f"{suite} {'.'.join(map(str, found.version))} {found.programs}")
    for name, find in (("docker", docker), ("podman", podman)):
        try:
            print(f"{name} {find().programs}")
        except PeerError as error:
            missing = 1
            print(f"{name}: {error}")
    return missing


if __name__ == "__main__":
    sys.exit(main())
