"""The page about the library: its programs run as they stand there, and what it names is there."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host.runtimes import new_id

if TYPE_CHECKING:
    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs/library.md").read_text()
LIFE, PLAN = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
NAMED = re.findall(r"`(ocirun\.[a-z_.]+)`", PAGE)


def _program(text: str, bundle: Bundle, root: Path, name: str, *words: str) -> str:
    """What a program of the page prints, with these places for its own."""
    for told, meant in (
        ("/my/bundle", bundle.write().path),
        ("/run/my-containers", root),
        ('"first"', f'"{name}"'),
    ):
        text = text.replace(told, str(meant))
    path = f"{REPOSITORY}:{REPOSITORY / 'spec'}"
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUTF8": "1"}
    done = subprocess.run(
        [*words, sys.executable, "-c", text],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_life_of_a_container(ocirun: Runtime, bundle: Bundle) -> None:
    told = _program(LIFE, bundle.sleeping(), ocirun.root, new_id())
    assert re.fullmatch(r"[0-9]+ created\n-9\nconfig-unreadable \[''\]\n", told)


def test_a_plan_needs_no_right(ocirun: Runtime, bundle: Bundle) -> None:
    without = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    told = _program(PLAN, bundle, ocirun.root, "first", *without)
    assert re.fullmatch(r"first · [0-9]+ steps · leaves: .* \[\]\n", told)


@pytest.mark.parametrize("name", NAMED)
def test_what_is_named_is_there_and_explains_itself(name: str) -> None:
    module, _, function = name.rpartition(".")
    there = getattr(importlib.import_module(module), function)
    assert callable(there)
    assert inspect.getdoc(there)
