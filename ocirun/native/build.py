"""Builds the native programs: the launcher ``ocirun``, the shim's stub and the helper that enters containers.

The launcher has an interpreter in it where this Python comes with a static library (Debian: libpython3-dev).

pip runs it as a build hook of hatchling; ``python ocirun/native/build.py`` rebuilds all in place.  The
helper is as small as this machine can make it: musl where there is musl-gcc or the ziglang package, else the
static C library of the compiler.  Its build id goes into ``build_id.py``, so that the executor runs no other
helper.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

NATIVE = Path(__file__).resolve().parent
_ROOT = NATIVE.parent.parent
BIN = NATIVE / "bin"
HELPER = BIN / "ocirun-helper"
LAUNCHER = BIN / "ocirun"
SHIM = BIN / "containerd-shim-ocirun-v2"
BUILD_ID = NATIVE / "build_id.py"

_FLAGS = (
    "-Os -std=c11 -Wall -Wextra -Werror -static -fstack-protector-strong -fno-asynchronous-unwind-tables "
    "-fno-unwind-tables -ffunction-sections -fdata-sections "
    "-Wl,--gc-sections -Wl,-z,noexecstack -Wl,-z,relro -Wl,-z,now"
).split()
#: How the name of a directory begins in which something is being built.
_SCRATCH = ".building-"
_STRIPPED = ["-s", "-Wl,--build-id=sha1"]

#: What the archive of CPython asks for besides.
_LIBRARIES = [*(sysconfig.get_config_var("LIBS") or "").split(), "-lm"]

#: Headers of the kernel, which musl-gcc does not look for: (name, where Debian and others put it).
_KERNEL_HEADERS = ("linux", "asm", "asm-generic")

_PT_NOTE, _NT_GNU_BUILD_ID = 4, 3


class BuildError(Exception):
    """The native programs cannot be built here; the message says what is missing."""


def helper_sources() -> list[Path]:
    """The C files of the helper; raises BuildError when there are none."""
    sources = sorted(NATIVE.glob("helper_*.c"))
    if not sources:
        message = f"no source of the helper (helper_*.c) lies in {NATIVE}"
        raise BuildError(message)
    return sources


def compiler(scratch: Path) -> list[str]:
    """The command of the compiler that makes the smallest static program, its headers under ``scratch``."""
    if shutil.which("musl-gcc"):
        return ["musl-gcc", "-isystem", str(_kernel_headers(scratch))]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc", "-target", f"{platform.machine()}-linux-musl"]
    if shutil.which("gcc"):
        return ["gcc"]
    message = "no C compiler: install musl-tools (or the Python package ziglang, or gcc and libc6-dev)"
    raise BuildError(message)


def _kernel_headers(scratch: Path) -> Path:
    """A directory with the kernel's headers and nothing of glibc's, which lie beside them in /usr/include."""
    directory = scratch / "kernel-headers"
    directory.mkdir(exist_ok=True)
    usr = Path("/usr/include")
    for name in _KERNEL_HEADERS:
        found = [
            place for place in (usr / name, *usr.glob(f"{platform.machine()}-*/{name}")) if place.is_dir()
        ]
        if not found:
            message = f"no headers of the kernel ({usr / name}): install linux-libc-dev"
            raise BuildError(message)
        link = directory / name
        if not link.is_symlink():
            link.symlink_to(found[0])
    return directory


def compile_helper(target: Path, extra: Sequence[str] = ()) -> None:
    """Compiles the helper to ``target``, with ``extra`` flags after ours; raises BuildError."""
    _compile(helper_sources(), target, extra)


def compile_launcher(target: Path, boot: str) -> None:
    """Compiles the launcher to ``target``; it will run ``boot``, which counts from its own directory."""
    _compile([NATIVE / "launcher.c"], target, [f'-DOCIRUN_BOOT="{boot}"'])


class Library(NamedTuple):
    """A Python to link into a program: its static library, its headers, and what else gcc needs to be told.

    A shared library would not do: the loader obeys LD_PRELOAD before a line of ours runs.
    """

    archive: Path
    headers: Path
    flags: tuple[str, ...] = ()


def library() -> Library | None:
    """That of the Python that builds, None where it has none or gcc is missing."""
    archive = Path(sysconfig.get_config_var("LIBPL") or "/", sysconfig.get_config_var("LIBRARY") or "")
    headers = Path(sysconfig.get_path("include"))
    found = archive.is_file() and (headers / "Python.h").is_file() and shutil.which("gcc")
    return Library(archive, headers) if found else None


def compile_core(target: Path, boot: str, *, in_place: bool) -> bool:
    """Compiles the launcher with an interpreter and the frozen hot commands in it (embed.c, freeze.py).

    Gives False, and compiles nothing, where this Python cannot be linked into a program: the launcher without
    one does the same, only slower.  ``in_place`` is for a checkout, whose code may be edited afterwards.
    """
    python = library()
    if python is None:
        return False
    if sys.path[0] != str(_ROOT):  # pip runs this file where no package of ours is, or an older one
        sys.path.insert(0, str(_ROOT))
    from ocirun.native import freeze

    with tempfile.TemporaryDirectory(prefix="ocirun-frozen-") as directory:
        frozen = freeze.write(Path(directory), in_place=in_place)
        try:
            link_core(target, boot, frozen, python)
        except BuildError as error:
            os.write(2, f"{error}; it will start python3 instead\n".encode())
            return False
    return True


def link_core(target: Path, boot: str, frozen: Sequence[Path], python: Library) -> None:
    """Links the launcher with ``python`` and the sources that ``freeze.write`` wrote; raises BuildError."""
    from ocirun.native import cachesizes

    sources = [NATIVE / "launcher.c", NATIVE / "embed.c", NATIVE / "snapshot.c", *frozen, python.archive]
    wrapped = [f"-Wl,--wrap={name}" for name in ("malloc", "calloc", "realloc", "free", "pthread_self")]
    flags = [
        *wrapped,
        f"-Wl,-T,{NATIVE / 'snapshot.ld'}",
        "-DOCIRUN_CORE",
        f'-DOCIRUN_BOOT="{boot}"',
        "-isystem",
        str(python.headers),
        f"-I{NATIVE}",
    ]
    with _replacing(target) as made:
        start = cachesizes.write_start(made.parent, python.flags)
        _link(["gcc"], [*sources, *([start] if start else [])], made, [*flags, *python.flags], _LIBRARIES)
        _add_snapshot(made)


def _add_snapshot(program: Path) -> None:
    """Puts one into the launcher, if it can be run here: not on a file system that is mounted noexec."""
    from ocirun.native import snapshot

    try:
        snapshot.put_into(program)
    except (snapshot.SnapshotError, OSError) as error:
        os.write(2, f"{error}; it will start its interpreter anew each time\n".encode())


def compile_shim(target: Path, boot: str, helper_build: str) -> None:
    """Compiles the shim's stub to ``target``: the launcher that asks a zygote first.

    It asks one of the helper ``helper_build`` only, and runs ``boot`` where there is none.
    """
    flags = ["-DOCIRUN_SHIM", f'-DOCIRUN_BOOT="{boot}"', f'-DOCIRUN_BUILD="{helper_build}"']
    _compile([NATIVE / "launcher.c", NATIVE / "shim_stub.c"], target, flags)


def _compile(sources: Sequence[Path], target: Path, extra: Sequence[str]) -> None:
    with _replacing(target) as made:
        _link(compiler(made.parent), sources, made, extra)


@contextlib.contextmanager
def _replacing(target: Path) -> Generator[Path]:
    """Where to make a program that then takes the place of ``target`` in one step.

    One that runs cannot be written (ETXTBSY), and whoever calls it meanwhile gets the old or the new one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=_SCRATCH) as directory:
        made = Path(directory, target.name)
        yield made
        made.replace(target)


def _link(
    program: Sequence[str],
    sources: Sequence[Path],
    made: Path,
    extra: Sequence[str],
    libraries: Sequence[str] = (),
) -> None:
    """Compiles with the compiler ``program``; raises BuildError."""
    begin = [*program, *_FLAGS, *_STRIPPED, *extra, "-o", str(made)]
    command = [*begin, *map(str, sources), *libraries]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"{' '.join(command)}\n{done.stderr}{made.name} cannot be compiled"
        raise BuildError(message)


def build_id(program: Path) -> str:
    """The build id of an ELF program in hex (elf(5), the note GNU 3); raises BuildError without one."""
    content = program.read_bytes()
    for start, size in _note_segments(content):
        for owner, kind, payload in _notes(content[start : start + size]):
            if (owner, kind) == (b"GNU\0", _NT_GNU_BUILD_ID):
                return payload.hex()
    message = f"{program} has no build id"
    raise BuildError(message)


def _note_segments(content: bytes) -> Iterator[tuple[int, int]]:
    """Offset and size of each PT_NOTE of a 64-bit little-endian file."""
    if content[:6] != b"\x7fELF\x02\x01":
        message = "only 64-bit little-endian machines are known"
        raise BuildError(message)
    (table,) = struct.unpack_from("<Q", content, 0x20)
    width, count = struct.unpack_from("<HH", content, 0x36)
    for i in range(count):
        (kind,) = struct.unpack_from("<I", content, table + i * width)
        if kind == _PT_NOTE:
            (start,) = struct.unpack_from("<Q", content, table + i * width + 8)
            (size,) = struct.unpack_from("<Q", content, table + i * width + 32)
            yield start, size


def _notes(segment: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    at = 0
    while at + 12 <= len(segment):
        name, size, kind = struct.unpack_from("<III", segment, at)
        payload = at + 12 + (name + 3) // 4 * 4
        yield segment[at + 12 : at + 12 + name], kind, segment[payload : payload + size]
        at = payload + (size + 3) // 4 * 4


def build_helper() -> None:
    """Builds the helper in place and writes its build id beside it; raises BuildError."""
    compile_helper(HELPER)
    text = f'"""Generated by ocirun/native/build.py."""\n\nHELPER_BUILD_ID = "{build_id(HELPER)}"\n'
    temporary = BUILD_ID.with_suffix(".new")
    temporary.write_text(text)
    temporary.replace(BUILD_ID)


def build_in_place() -> None:
    """Builds all for a checkout: the programs run the sources where they lie; raises BuildError."""
    build_helper()
    launcher = str(_ROOT / "ocirun" / "boot.py")
    if not compile_core(LAUNCHER, launcher, in_place=True):
        compile_launcher(LAUNCHER, launcher)
    compile_shim(SHIM, str(_ROOT / "shim" / "ocirun_shim" / "boot.py"), build_id(HELPER))


def _installed(boot: str) -> str:
    """Where a wheel puts ``boot``, seen from the bin directory: the layout of a virtual environment."""
    major, minor = sys.version_info[:2]
    return f"../lib/python{major}.{minor}/site-packages/{boot}"


class NativeBuildHook(BuildHookInterface[Any]):
    """Builds before hatchling packs: in place for ``pip install -e``, else into a scratch directory."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles, and names the scripts and the wheel's platform (hatchling's contract)."""
        if self.target_name != "wheel":
            return
        if version == "editable":
            build_in_place()
            scripts = [LAUNCHER, SHIM]
        else:
            build_helper()
            scripts = [self._scratch() / LAUNCHER.name, self._scratch() / SHIM.name]
            launcher = _installed("ocirun/boot.py")
            if not compile_core(scripts[0], launcher, in_place=False):
                compile_launcher(scripts[0], launcher)
            compile_shim(scripts[1], _installed("ocirun_shim/boot.py"), build_id(HELPER))
        build_data["pure_python"] = False
        # The programs name the directory of this Python's version, so the wheel is for no other.
        build_data["tag"] = f"cp{sys.version_info[0]}{sys.version_info[1]}-none-{_platform_tag()}"
        build_data["shared_scripts"] = {str(script): script.name for script in scripts}

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Removes the scratch directory once the programs are packed (hatchling's contract)."""
        del version, build_data, artifact_path
        if self._scratch_directory:
            shutil.rmtree(self._scratch_directory)

    _scratch_directory = ""

    def _scratch(self) -> Path:
        if not self._scratch_directory:
            # not /tmp, which may be mounted noexec: the launcher is run to put a snapshot into it
            self._scratch_directory = tempfile.mkdtemp(prefix=_SCRATCH, dir=BIN)
        return Path(self._scratch_directory)


def _platform_tag() -> str:
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


if __name__ == "__main__":
    try:
        build_in_place()
    except BuildError as error:
        os.write(2, f"{error}\n".encode())
        raise SystemExit(1) from None
