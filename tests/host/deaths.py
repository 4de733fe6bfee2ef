"""A create that is killed before its steps, or whose helper is: law 4, for runtimes of all kinds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.host.runtimes import new_id

if TYPE_CHECKING:
    from tests.host.runtimes import Runtime

REPOSITORY = Path(__file__).parents[2]


def nothing_remains(runtime: Runtime, bundle: Path, *manager: str) -> None:
    """Asserts that a delete leaves nothing, whoever was killed before each fifth step (tests.host.faults)."""

    def create(what: str, container: str, index: int) -> subprocess.CompletedProcess[str]:
        module = (sys.executable, "-m", "tests.host.faults", what, str(runtime.root), container, str(bundle))
        return subprocess.run(
            (*runtime.prefix, *module, str(index), *manager), cwd=REPOSITORY,
            env={**os.environ, **runtime.environment},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    count = int(create("count", new_id(), 0).stdout)
    assert count > 40
    for index in (*range(0, count - 1, 5), count - 2):
        for victim, status in (("helper", 1), ("ocirun", -9)):
            container = new_id()
            result = create(victim, container, index)
            assert result.returncode == status, f"before record {index}: {result.stderr}"
            runtime.call("delete", "--force", container).ok()
            assert not list(runtime.root.glob("oh*")), f"{victim} killed before record {index}"
