"""What each hot command imports is on a list; that, not a stopwatch, keeps it fast (law 12).

``OCIRUN_UPDATE_IMPORTS=1`` writes the lists in tests/imports anew: the difference is to be reviewed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.host.bundles import Bundle
from tests.host.runtimes import Result, Runtime, new_id

REPOSITORY = Path(__file__).parents[2]
LISTS = REPOSITORY / "tests" / "imports"
#: As the launcher starts it, and with every import told on standard error.
PYTHON = (sys.executable, "-I", "-S", "-X", "utf8", "-X", "importtime")
MARK = "import time:"


def imported(stderr: str) -> set[str]:
    """The modules that a command run by PYTHON has told of."""
    lines = [line for line in stderr.splitlines() if line.startswith(MARK)]
    return {line.rpartition("|")[2].strip() for line in lines} - {"imported package"}


def bare() -> set[str]:
    """What the interpreter imports for itself."""
    done = subprocess.run((*PYTHON, "-c", "pass"), capture_output=True, text=True, check=True)
    return imported(done.stderr)


def _commands(ocirun: Runtime, bundle: Bundle) -> dict[str, Result]:
    """Every hot command once, on containers made for it."""
    path = str(bundle.args("true").write().path)
    done = {"run": ocirun.call("run", "--bundle", path, new_id())}
    container = ocirun.create(bundle.sleeping())
    done["create"] = container.result
    done["start"] = ocirun.call("start", container.id)
    done["exec"] = ocirun.call("exec", container.id, "true")
    for command in ("state", "kill"):
        done[command] = ocirun.call(command, container.id, *(["KILL"] if command == "kill" else []))
    container.wait()
    done["list"] = ocirun.call("list")
    done["delete"] = container.delete()
    done["version"] = ocirun.call("--version")
    return done


def _check(name: str, found: set[str]) -> None:
    path = LISTS / f"{name}.txt"
    if os.environ.get("OCIRUN_UPDATE_IMPORTS") == "1":
        path.write_text("".join(f"{module}\n" for module in sorted(found)))
    allowed = set(path.read_text().split())
    assert found <= allowed, (
        f"`ocirun {name}` imports what {path.name} does not name: {sorted(found - allowed)}"
    )
    assert allowed <= found, f"{path.name} names what is not imported any more: {sorted(allowed - found)}"


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the lists are those of Python 3.11")
def test_each_hot_command_imports_what_its_list_names(ocirun: Runtime, bundle: Bundle) -> None:
    ocirun.prefix, ocirun.program = PYTHON, REPOSITORY / "ocirun" / "boot.py"
    python = bare()
    for name, result in _commands(ocirun, bundle).items():
        _check(name, imported(result.ok().stderr) - python)
