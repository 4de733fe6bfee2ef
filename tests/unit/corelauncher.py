"""A launcher whose core interpreter runs a text of ours in place of the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conformance import peers
from ocirun.native import build, freeze
from tests import launchers

if TYPE_CHECKING:
    from collections.abc import Mapping

#: In place of ocirun/cli/main.py: runs the second word; ``tell`` is how it answers.  The literal is a path of
#: bytes that are no UTF-8, as any module could have one.
MAIN = """
import posix, sys

from ocirun.jsontext import dumps

ODD = "/\\udcff"


def tell(value):
    posix.write(1, dumps(value).encode())


def execute(words):
    return 1


def main():
    exec(sys.argv[2], {"tell": tell, "ODD": ODD})
    posix._exit(0)
"""
#: In place of boot.py: the other way, python3 in full.
BOOT = """
import json, os, sys, _signal
print(json.dumps({
    "full": sys.argv[1:],
    "flags": [sys.flags.isolated, sys.flags.no_site, sys.flags.utf8_mode],
    "executable": sys.executable,
    "blocked": sorted(_signal.pthread_sigmask(0, ())),
    "environment": dict(os.environ),
    "fds": sorted(map(int, os.listdir("/proc/self/fd"))),
    "stdin": sys.stdin.read(),
}))
"""


def beside_python(home: Path, python: Path) -> Path:
    """Makes the directory of a virtual environment with BOOT in it; gives where its launcher belongs."""
    (home / "bin").mkdir(parents=True)
    (home / "bin/python3").symlink_to(python)
    (home / "boot.py").write_text(BOOT)
    (home / "main.py").write_text(MAIN)
    return home / "bin/ocirun"


def build_core(home: Path, *, in_place: bool = False) -> Path:
    """The launcher that runs MAIN; skips the test where there is no library to link."""
    if build.library() is None:
        pytest.skip(
            "this Python has no static library, or there is no gcc: apt-get install libpython3-dev gcc"
        )
    target = beside_python(home, Path(sys.executable))
    ours, others = freeze.closure()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(freeze, "closure", lambda: ({**ours, "ocirun.cli.main": home / "main.py"}, others))
        assert build.compile_core(target, "../boot.py", in_place=in_place)
    return target


def build_newer(home: Path) -> Path:
    """The same with the core of a newer Python; skips the test where it cannot be fetched."""
    try:
        python, config = launchers.newer_python()
    except peers.PeerError as error:
        pytest.skip(str(error))
    target = beside_python(home, python)
    (home / "pyvenv.cfg").write_text(config)
    launchers.link_newer(home, "../boot.py", home / "main.py")
    return target


def run(
    program: Path, code: str, *words: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs ``code`` in the core."""
    assert shutil.which(program)
    return subprocess.run(
        [program, "state", code, *words], capture_output=True, text=True, check=False, env=env, timeout=60
    )


def told(program: Path, code: str, *words: str, env: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401
    """What ``code`` told."""
    done = run(program, code, *words, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
