"""The other launchers that ocirun may be: python3 -I -S on the sources, and the core of a newer Python."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from conformance import peers
from ocirun.native import build, freeze

REPOSITORY = Path(__file__).parents[1]
BOOT = REPOSITORY / "ocirun" / "boot.py"
_SUITE, _VERSION = "trixie", "3.13"
_NEWER = peers.Kit(
    "python", _SUITE, (f"python{_VERSION}", f"libpython{_VERSION}-dev"), (f"python{_VERSION}",)
)
#: Run by the newer Python; arguments: where our packages lie, where to write, what stands in for main.py.
_WRITE = """
import sys
from pathlib import Path

sys.path[:0] = sys.argv[1:3]
from ocirun.native import freeze

ours, others = freeze.closure()
for other in sys.argv[4:]:
    ours["ocirun.cli.main"] = Path(other)
freeze.closure = lambda: (ours, others)
print(*freeze.write(Path(sys.argv[3]), in_place=False), sep="\\n")
"""
_homes: list[Path] = []


@functools.cache
def by_exec() -> Path:
    """The launcher that becomes the python3 of this environment for every command."""
    home = _home(Path(sys.executable), Path(sys.prefix, "pyvenv.cfg").read_text())
    (home / "lib").symlink_to(Path(sys.prefix, "lib"))
    build.compile_launcher(home / "bin/ocirun", str(BOOT))
    return home / "bin/ocirun"


@functools.cache
def packed() -> Path | None:
    """The launcher as a wheel has it, which looks at no source; None without a library to link."""
    home = _home(Path(sys.executable), Path(sys.prefix, "pyvenv.cfg").read_text())
    program = home / "bin/ocirun"
    if not build.compile_core(program, str(BOOT), in_place=False):
        return None
    _unpack(program)
    return program


def _unpack(program: Path) -> None:
    """Has it written as pip does: of one great write the page cache has folios of 2 MiB, each of which is
    resident as a whole wherever it lies well for the kernel (filemap_map_pages, Linux 6.18)."""
    written = program.with_name("written")
    program.rename(written)
    with written.open("rb") as source, program.open("wb", buffering=0) as target:
        shutil.copyfileobj(source, target, 1 << 16)
    shutil.copymode(written, program)
    written.unlink()


def newer() -> Path:
    """The launcher with the core of a newer Python, as a wheel has it; raises peers.PeerError without one."""
    home = _home(*newer_python())
    link_newer(home, str(BOOT))
    return home / "bin/ocirun"


def link_newer(home: Path, boot: str, *main: Path) -> None:
    """Links that launcher to the directory of a virtual environment; ``main`` stands in for cli/main.py."""
    root = peers.fetched(_NEWER) / "root"
    written = subprocess.run(
        [home / "bin/python3", "-I", "-S", "-B", "-c", _WRITE, REPOSITORY, REPOSITORY / "spec", home, *main],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    (libraries,) = root.glob("usr/lib/*-linux-gnu")
    (archive,) = root.glob(f"usr/lib/python{_VERSION}/config-*/libpython{_VERSION}.a")
    flags = (f"--sysroot={root}", f"-B{libraries}/", f"-L{libraries}")
    python = build.Library(archive, root / f"usr/include/python{_VERSION}", flags)
    build.link_core(home / "bin/ocirun", boot, [Path(path) for path in written if path], python)


def newer_python() -> tuple[Path, str]:
    """The newer Python and the pyvenv.cfg that lets it find its library; raises peers.PeerError."""
    kit = peers.fetched(_NEWER)
    return kit / f"bin/python{_VERSION}", f"home = {kit}/root/usr/bin\n"


def _home(python: Path, config: str) -> Path:
    """The directory of a virtual environment with that Python and nothing installed."""
    home = Path(tempfile.mkdtemp(prefix="ocirun-launcher-", dir="/var/tmp"))
    _homes.append(home)
    home.chmod(0o755)  # ordinary users run it as well
    (home / "bin").mkdir()
    (home / "bin/python3").symlink_to(python)
    (home / "pyvenv.cfg").write_text(config)
    return home


def clean_up() -> None:
    """Removes what this process has built; others may have the launchers of ours in hand until it ends."""
    while _homes:
        shutil.rmtree(_homes.pop())


def hot_words() -> list[str]:
    """The commands that run in the core."""
    return freeze.hot_words()


def asked_for() -> str:
    """Which launcher the whole run of tests is about: "", or "exec"."""
    return os.environ.get("OCIRUN_LAUNCHER", "")
