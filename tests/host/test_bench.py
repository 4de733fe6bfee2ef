"""`make bench` from end to end, in its smallest form: it ends by itself and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conformance import peers
from conformance.bench.cycle import COMMANDS, NAMES

if TYPE_CHECKING:
    from tests.host.view import View

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.timeout(600)
def test_a_bench_of_one_round_tells_every_command_of_every_runtime(view: View) -> None:
    for name in peers.OLDEST:
        if peers.peer(name) is None:
            pytest.skip(peers.reason(name))
    before = {*view.cgroup2.glob("bench-*")}
    words = (sys.executable, "-m", "conformance.bench", "--rounds", "1")
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    _, _, times = done.stdout.partition("### Time, Docker-sized")
    table = times.partition("###")[0]
    assert f"|  | {' | '.join(NAMES)} |" in table
    assert [line.split()[1] for line in table.splitlines() if line.startswith("| ")][2:] == [*COMMANDS]
    assert done.stdout.count("that of `ocirun plan`") == 2
    assert "steps | no |" not in done.stdout
    assert {*view.cgroup2.glob("bench-*")} <= before
