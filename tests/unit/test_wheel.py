"""The wheel that pip makes: beside an older version of itself, and the same again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ocirun.native import build

REPOSITORY = Path(__file__).parents[2]
_ROOMS = ("ocirun", "shim", "spec")
_FILES = ("pyproject.toml", "README.md", "LICENSE", ".gitignore")


def _checkout(at: Path) -> Path:
    """A copy of what the wheel is made of."""
    for room in _ROOMS:
        shutil.copytree(REPOSITORY / room, at / room, ignore=shutil.ignore_patterns("bin", "__pycache__"))
    for file in _FILES:
        shutil.copy(REPOSITORY / file, at)
    return at


def _wheel(checkout: Path, installed: Path) -> zipfile.ZipFile:
    """The wheel of ``checkout``, built by a Python in which the packages of ``installed`` are."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "hatchling", "build", "-t", "wheel", "-d", str(checkout / "dist")],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "it will start" not in done.stderr
    (made,) = (checkout / "dist").iterdir()
    return zipfile.ZipFile(made)


@pytest.mark.skipif(build.library() is None, reason="this Python has no static library")
def test_a_wheel_is_built_where_an_older_one_is_installed(tmp_path: Path) -> None:
    older = tmp_path / "older"
    with _wheel(_checkout(tmp_path / "first"), older) as wheel:
        wheel.extractall(older)
    assert not (older / "ocirun/native/freeze.py").exists(), "a tool of the build, in no wheel"
    (older / "ocirun/core.py").write_text("raise SystemExit('of the older version')")
    with _wheel(_checkout(tmp_path / "second"), older) as wheel:
        program = wheel.read(next(name for name in wheel.namelist() if name.endswith("scripts/ocirun")))
    (first,) = older.glob("*.data/scripts/ocirun")
    assert program == first.read_bytes()
    assert os.fsencode(tmp_path) not in program
