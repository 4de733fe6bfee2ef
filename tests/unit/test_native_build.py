"""The build of the native programs, with each compiler it knows."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ocirun.native import build
from ocirun.native.build_id import HELPER_BUILD_ID


def nothing(name: str) -> None:
    """Finds no program and no module."""
    del name


def without_musl(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with gcc and its own static C library, nothing else."""
    which = shutil.which

    def without(name: str) -> str | None:
        return None if name == "musl-gcc" else which(name)

    monkeypatch.setattr(shutil, "which", without)
    monkeypatch.setattr(importlib.util, "find_spec", nothing)


def test_the_build_id_is_the_one_that_readelf_shows() -> None:
    shown = subprocess.run(["readelf", "-n", build.HELPER], capture_output=True, text=True, check=True).stdout
    found = re.search(r"Build ID: ([0-9a-f]+)", shown)
    assert found
    assert build.build_id(build.HELPER) == found[1] == HELPER_BUILD_ID


def test_the_helper_is_static_and_small() -> None:
    shown = subprocess.run(["readelf", "-l", build.HELPER], capture_output=True, text=True, check=True).stdout
    assert "INTERP" not in shown
    assert build.HELPER.stat().st_size < 100_000


def test_gcc_alone_builds_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_musl(monkeypatch)
    build.compile_helper(tmp_path / "helper")
    build.compile_launcher(tmp_path / "launcher", "/nonexistent")
    assert build.build_id(tmp_path / "helper")
    assert build.build_id(tmp_path / "launcher")
    build.compile_shim(tmp_path / "shim", "/nonexistent", "0")
    assert build.build_id(tmp_path / "shim")


def test_no_compiler_at_all_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", nothing)
    monkeypatch.setattr(importlib.util, "find_spec", nothing)
    with pytest.raises(build.BuildError, match="install musl-tools"):
        build.compile_launcher(tmp_path / "launcher", "/nonexistent")


def test_a_broken_build_leaves_the_old_program(tmp_path: Path) -> None:
    target = tmp_path / "helper"
    target.write_bytes(b"old")
    with pytest.raises(build.BuildError, match="helper cannot be compiled"):
        build.compile_helper(target, ["-Dmain=1"])
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("has_core", [True, False])
def test_a_wheel_s_programs_are_built_where_programs_can_be_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, has_core: bool
) -> None:
    """Not in /tmp, which may be mounted noexec: the launcher is run to put a snapshot into it."""
    targets: list[Path] = []

    def note(target: Path, *_words: str, in_place: bool = True) -> bool:
        del in_place
        targets.append(target)
        return has_core

    for name in ("compile_core", "compile_launcher", "compile_shim"):
        monkeypatch.setattr(build, name, note)
    monkeypatch.setattr(build, "build_helper", lambda: None)
    metadata: Any = None
    hook = build.NativeBuildHook(str(tmp_path), {}, None, metadata, str(tmp_path), "wheel")
    data: dict[str, Any] = {}
    hook.initialize("standard", data)
    assert len(targets) == (2 if has_core else 3)
    (scratch,) = {target.parent for target in targets}
    assert scratch.parent == build.BIN
    assert sorted(data["shared_scripts"].values()) == ["containerd-shim-ocirun-v2", "ocirun"]
    hook.finalize("standard", data, "")
    assert not scratch.exists()


def test_a_program_without_a_build_id_is_refused(tmp_path: Path) -> None:
    made = tmp_path / "helper"
    build.compile_helper(made, ["-Wl,--build-id=none"])
    with pytest.raises(build.BuildError, match="has no build id"):
        build.build_id(made)


def test_a_checkout_without_the_helper_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "NATIVE", tmp_path)
    with pytest.raises(build.BuildError, match="no source of the helper"):
        build.helper_sources()
