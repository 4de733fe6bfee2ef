"""The start of glibc in which nothing asks the processor how large its caches are."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

from ocirun.native import build, cachesizes

#: What glibc tells of its caches comes from where memcpy's thresholds come from.
TELL = """
#include <stdio.h>
#include <unistd.h>
int main(void) { printf("%ld", sysconf(_SC_LEVEL1_DCACHE_SIZE)); }
"""


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """The object that stands in for glibc's."""
    if platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc":
        pytest.skip("another machine, or another C library")
    made = cachesizes.write_start(tmp_path)
    assert made is not None
    return made


def _told(directory: Path, *objects: Path) -> int:
    (directory / "tell.c").write_text(TELL)
    program = directory / "tell"
    words = ["gcc", "-static", "-o", str(program), str(directory / "tell.c"), *map(str, objects)]
    subprocess.run(words, check=True)
    return int(subprocess.run([program], capture_output=True, check=True).stdout)


def test_the_c_library_is_told_one_size(start: Path, tmp_path: Path) -> None:
    assert _told(tmp_path, start) == cachesizes.SIZE
    assert _told(tmp_path) != cachesizes.SIZE, "no processor has so large a first cache"


def test_the_launcher_has_it(start: Path) -> None:
    """The answer stands in it once for each maker of processors; the names are stripped."""
    answer = b"\xb8" + cachesizes.SIZE.to_bytes(4, "little") + b"\xc3"
    makers = start.read_bytes().count(answer)
    assert makers >= 3
    assert build.LAUNCHER.read_bytes().count(answer) >= makers


def test_only_functions_that_ask_are_changed(start: Path) -> None:
    changed = start.read_bytes()
    assert cachesizes.with_answers(changed) == changed
    archive = subprocess.run(["gcc", "-print-file-name=libc.a"], capture_output=True, text=True, check=True)
    whole = subprocess.run(
        ["ar", "p", archive.stdout.strip(), start.name], capture_output=True, check=True
    ).stdout
    assert len(whole) == len(changed)
    assert sum(one != other for one, other in zip(whole, changed, strict=True)) < 60


def test_an_object_without_them_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "empty.c").write_text("int nothing;\n")
    subprocess.run(["gcc", "-c", "-o", tmp_path / "empty.o", tmp_path / "empty.c"], check=True)
    content = (tmp_path / "empty.o").read_bytes()
    assert cachesizes.with_answers(content) == content


def test_no_compiler_no_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cachesizes.write_start(tmp_path) is None
