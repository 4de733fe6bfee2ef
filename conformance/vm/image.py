"""The image of the guest with its kernels, built on first use and kept beside the peers.

``python -m conformance.vm.image`` builds it and prints where it is.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from conformance import peers
from conformance.vm import recipe

_SECONDS = 1800
#: An image that nobody has booted for so many days goes when another is built.
_KEPT_DAYS = 7
#: Sparse: what is in it takes a tenth.
_SIZE = "8G"

_DISK, _KERNEL = "root.ext4", "vmlinux"
_ZSTD = b"\x28\xb5\x2f\xfd"


class MachineError(Exception):
    """The guest cannot be had; the message says why, and what would help."""


@dataclass(frozen=True, slots=True)
class Image:
    """The file system of the guest, which is never written: both machines write beside it; and its kernels.

    ``uml`` is a program of this host, ``kernel`` the stock kernel for the PC.
    """

    disk: Path
    uml: Path
    kernel: Path


def image() -> Image:
    """The image, built when there is none; raises MachineError."""
    if os.geteuid() != 0 or platform.machine() != "x86_64":
        raise MachineError("the guest is built by root, on x86_64 only")
    try:
        runtimes, uml = peers.directory(), peers.fetched(recipe.UML)
        base = runtimes.parent
        final = base / f"vm-{recipe.digest((runtimes, uml))}"
        with peers.locked(base / "vm.lock"):
            if not final.is_dir():
                _remove_unused(base)
                _build(final, runtimes, uml)
            os.utime(final)
    except peers.PeerError as error:
        raise MachineError(str(error)) from error
    except OSError as error:
        raise MachineError(f"the image of the guest cannot be made: {error}") from error
    return Image(final / _DISK, uml / "bin/linux.uml", final / _KERNEL)


def _remove_unused(base: Path) -> None:
    oldest = time.time() - _KEPT_DAYS * 86400
    for directory in base.glob("vm-*"):
        if directory.is_dir() and directory.stat().st_mtime < oldest:
            shutil.rmtree(directory)


def _build(final: Path, runtimes: Path, uml: Path) -> None:
    """Builds beside ``final`` and renames, so that what stands there is always whole."""
    with tempfile.TemporaryDirectory(dir=final.parent, prefix="building-") as scratch:
        root, out = Path(scratch, "root"), Path(scratch, "out")
        out.mkdir()
        _unpack(root)
        _furnish(root)
        _carry_runtimes(root, runtimes)
        _carry_modules(root, uml)
        _unpack_kernel(root, out / _KERNEL)
        make_disk(root, out / _DISK, _SIZE)
        out.rename(final)


def make_disk(content: Path, disk: Path, size: str) -> None:
    """Makes a file system in the new file ``disk``, sparse, of what is in a directory."""
    command("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", str(content), str(disk), size)


def _unpack(root: Path) -> None:
    unread = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]
    words = (
        "mmdebstrap", "--quiet", "--mode=root", "--variant=apt", "--dpkgopt=force-unsafe-io",
        # as with the peers: a mirror that has stopped still serves what we want
        '--aptopt=Acquire::Check-Valid-Until "false"', *unread,
        f"--include={','.join(recipe.PACKAGES)}", recipe.SUITE, str(root), peers.mirror(),
    )  # fmt: skip
    peers.fetch_twice(lambda: command(*words, environment={"INITRD": "No"}), root, MachineError)


def _furnish(root: Path) -> None:
    """What no package brings: our files, an environment for the project with the wheels, a user."""
    for name, (mode, text) in recipe.FILES.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
    inside = ("chroot", str(root))
    environment = str(recipe.ENVIRONMENT)
    command(*inside, "python3", "-m", "venv", "--system-site-packages", "--without-pip", environment)
    command(
        sys.executable, "-m", "pip", "install", "--quiet", f"--python-version={recipe.PYTHON}",
        "--only-binary=:all:", f"--target={root}{environment}/lib/python{recipe.PYTHON}/site-packages",
        *recipe.WHEELS,
    )  # fmt: skip
    command(*inside, "useradd", "--create-home", "--shell=/bin/bash", recipe.USER)
    command(*inside, "systemctl", "mask", "--quiet", *recipe.MASKED)


def _carry_runtimes(root: Path, runtimes: Path) -> None:
    """The peers go to their own path, which is written in them; and first into the PATH of the engines."""
    for part in ("bin", "root/usr/lib", "root/usr/lib64"):
        target = root / str(runtimes / part).lstrip("/")
        shutil.copytree(runtimes / part, target, symlinks=True)
    for program in (runtimes / "bin").iterdir():
        (root / "usr/local/bin" / program.name).symlink_to(program)


def _carry_modules(root: Path, uml: Path) -> None:
    shutil.copytree(uml / "root/usr/lib/uml/modules", root / "usr/lib/modules", dirs_exist_ok=True)


def _unpack_kernel(root: Path, target: Path) -> None:
    """Here, as the emulated machine would take long for it."""
    (packed,) = (root / "boot").glob("vmlinuz-*")
    content = packed.read_bytes()
    done = subprocess.run(
        ("chroot", str(root), "zstd", "-dqc"),
        input=content[content.index(_ZSTD) :],
        capture_output=True,
        check=False,  # what follows the compressed part is no zstd, and it complains
        timeout=_SECONDS,
    )
    if not done.stdout.startswith(b"\x7fELF"):
        raise MachineError(f"the kernel {packed.name} is not packed with zstd")
    target.write_bytes(done.stdout)


def command(*words: str, environment: dict[str, str] | None = None) -> None:
    """Runs a program of the host; raises MachineError with the end of what it says."""
    try:
        subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=True, timeout=_SECONDS, env={**os.environ, **(environment or {})}, errors="replace",
        )  # fmt: skip
    except FileNotFoundError as error:
        raise MachineError(f"{words[0]} is missing: make setup") from error
    except subprocess.CalledProcessError as error:
        lines = str(error.stdout).strip().splitlines() or ["it says nothing"]
        raise MachineError(f"{words[0]} failed: {' / '.join(lines[-3:])}") from error
    except subprocess.TimeoutExpired as error:
        raise MachineError(f"{words[0]} did not end within {_SECONDS} s") from error


if __name__ == "__main__":
    print(image().disk.parent)
