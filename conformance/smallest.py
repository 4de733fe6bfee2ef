"""The smallest limit of memory with which each runtime starts a container.

    python -m conformance.smallest OUTPUT       # as root, where the memory controller is on cgroup2
    python -m conformance.smallest --write      # in the machine; writes docs/smallest.json and .md

The program of the container is a few instructions, so what is measured is what the runtime itself needs
within the limit, from clone to execve.  ``make smallest`` is the second; a test compares the page with the
figures.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from conformance import peers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NAMES = ("ocirun", "crun", "runc")
#: The limits that are tried are multiples of this, and less than so many of them.
STEP, STEPS = 4 << 10, 8192
#: A limit is enough when it is so many times in a row.
TRIES = 3
#: What the program ends with, so that nothing else is taken for its end.
STATUS = 7
_SECONDS = 500
DOCS = Path(__file__).parents[1] / "docs"

_PROGRAM = f"""
void _start(void) {{
#if defined(__x86_64__)
    __asm__ volatile("syscall" : : "a"(231), "D"({STATUS}));
#else
    register long number __asm__("x8") = 94, status __asm__("x0") = {STATUS};
    __asm__ volatile("svc 0" : : "r"(number), "r"(status));
#endif
}}
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found: bytes by runtime, and on what."""

    bytes: Mapping[str, int]
    versions: Mapping[str, str]
    kernel: str


def program_of(name: str) -> Path | None:
    """The runtime of that name."""
    return Path(sys.executable).with_name("ocirun") if name == "ocirun" else peers.peer(name)


def make_bundle(directory: Path) -> Path:
    """A bundle whose program does nothing but end; needs a C compiler."""
    root = directory / "rootfs"
    for name in ("proc", "dev", "sys", "tmp"):
        (root / name).mkdir(parents=True)
    command = ("cc", "-static", "-nostdlib", "-ffreestanding", "-x", "c", "-", "-o", str(root / "end"))
    subprocess.run(command, input=_PROGRAM, text=True, check=True, timeout=60)
    return directory


def smallest(enough: Callable[[int], bool]) -> int:
    """The least number of STEPS that is enough, by halving; STEPS where none is."""
    least, most = 0, STEPS
    while most - least > 1:
        middle = (least + most) // 2
        if enough(middle):
            most = middle
        else:
            least = middle
    return most


class Trial:
    """Runs the bundle with one limit after the other."""

    def __init__(self, name: str, program: Path, bundle: Path) -> None:
        self.name = name
        self.program = program
        self.bundle = bundle
        self._root = bundle / f"state-{name}"
        self._numbers = itertools.count(1)
        made = subprocess.run(
            (str(program), "spec", "--bundle", str(self._own())), capture_output=True, check=False, timeout=60
        )
        if made.returncode:
            raise OSError(made.stderr.decode())

    def _own(self) -> Path:
        own = self.bundle / self.name
        own.mkdir(exist_ok=True)
        if not (own / "rootfs").exists():
            (own / "rootfs").symlink_to("../rootfs")
        return own

    def enough(self, steps: int) -> bool:
        """Whether a container with a limit of that many STEPS runs its program, several times in a row."""
        self._write(steps * STEP)
        return all(self._runs() for _ in range(TRIES))

    def _write(self, limit: int) -> None:
        path = self._own() / "config.json"
        config = json.loads(path.read_text())
        config["process"] |= {"terminal": False, "args": ["/end"]}
        config["root"]["path"] = str(self.bundle / "rootfs")
        config["linux"]["resources"]["memory"] = {"limit": limit, "swap": limit}
        path.write_text(json.dumps(config))

    def _runs(self) -> bool:
        name = f"smallest-{os.getpid()}-{self.name}-{next(self._numbers)}"
        words = (str(self.program), "--root", str(self._root))
        run = (*words, "run", "--bundle", str(self._own()), name)
        status = subprocess.run(run, capture_output=True, check=False, timeout=60).returncode
        if status != STATUS:
            subprocess.run((*words, "delete", "--force", name), capture_output=True, check=False, timeout=60)
        return status == STATUS


def measure(*names: str) -> Found:
    """Measures the runtimes one after the other in one run; those that cannot be had are left out."""
    directory = Path(tempfile.mkdtemp(prefix="ocirun-smallest-", dir="/var/tmp"))
    try:
        bundle = make_bundle(directory)
        found: dict[str, int] = {}
        versions: dict[str, str] = {}
        for name in names:
            program = program_of(name)
            if program is not None:
                found[name] = smallest(Trial(name, program, bundle).enough) * STEP
                versions[name] = ".".join(map(str, peers.version(program)))
    finally:
        shutil.rmtree(directory)
    return Found(found, versions, platform.release())


def page(found: Found) -> str:
    """The page about it."""
    rows = [
        f"| {name} {found.versions[name]} | {size >> 10} | {size / found.bytes['crun']:.2f} |"
        for name, size in found.bytes.items()
    ]
    return "\n".join(
        (
            "# The smallest limit of memory",
            "",
            "Generated by `make smallest` from `smallest.json`.  How small `linux.resources.memory.limit`",
            f"may be for a container to run, in steps of {STEP >> 10} KiB, {TRIES} times each, no swap.",
            "The program is a few instructions, so the figure is what the runtime needs within the limit",
            "until it executes the program.  One run, in the machine of [vm.md](vm.md).",
            "",
            f"Linux {found.kernel}.",
            "",
            "| runtime | KiB | to crun |",
            "| --- | ---: | ---: |",
            *rows,
            "",
        )
    )


def load(path: Path = DOCS / "smallest.json") -> Found:
    """What was written down."""
    return Found(**json.loads(path.read_text()))


def write() -> None:
    """Measures all in User-mode Linux, and writes the figures and the page."""
    from conformance.vm import project
    from conformance.vm.machine import Machine

    with tempfile.TemporaryDirectory(prefix="ocirun-smallest-") as out:
        job = project.job("python3", "-m", "conformance.smallest", "/job/out/found", out=Path(out))
        outcome = Machine().run(job, _SECONDS)
        if outcome.status:
            sys.exit(outcome.status)
        (DOCS / "smallest.json").write_text((Path(out) / "found").read_text())
    (DOCS / "smallest.md").write_text(page(load()))


def main() -> None:
    """Measures all and writes what was found."""
    if sys.argv[1] == "--write":
        write()
        return
    found = measure(*NAMES)
    text = json.dumps({"bytes": found.bytes, "versions": found.versions, "kernel": found.kernel}, indent=1)
    Path(sys.argv[1]).write_text(text + "\n")


if __name__ == "__main__":
    main()
