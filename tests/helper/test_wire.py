"""The parser of plans under AddressSanitizer and UndefinedBehaviorSanitizer, fed mutants in a fixed order."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ocirun.native.build import NATIVE
from ocirun.plan import steps as verb
from tests.helper import plans
from tests.helper.driver import encoded

if TYPE_CHECKING:
    from ocirun.plan.model import Step

MUTANTS = 70_000
FLAGS = "-g -O1 -std=c11 -Wall -Wextra -Werror -fsanitize=address,undefined -fno-sanitize-recover=all".split()


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The harness with the parser alone."""
    target = tmp_path_factory.mktemp("fuzz") / "fuzz_wire"
    sources = [Path(__file__).with_name("fuzz_wire.c"), NATIVE / "helper_wire.c", NATIVE / "helper_verbs.c"]
    subprocess.run(["gcc", *FLAGS, f"-I{NATIVE}", "-o", target, *sources], check=True)
    return target


def _seeds() -> list[list[Step]]:
    place = plans.Place(Path("/rootfs"), Path("/state"), Path("/cgroup"))
    return [
        plans.full(place, "true"),
        [
            *plans.stage(place),
            verb.send_console(console="root", pointer=""),
            verb.set_groups(groups=range(20), pointer=""),
            verb.exec(args=[], env=["", "a", "ab", "abc", "abcd"], pointer=""),
        ],
        [verb.kill_cgroup(path="/x", pointer=""), verb.remove_cgroup(path="", parents=(), pointer="")],
        plans.entering("/cgroup", ["true"]),
    ]


def test_no_plan_makes_the_parser_read_what_is_not_there(fuzzer: Path, tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(len(_seeds()))]
    for file, steps in zip(files, _seeds(), strict=True):
        file.write_bytes(encoded(steps))
    done = subprocess.run(
        [fuzzer, str(MUTANTS), *files], capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    taken, refused = map(int, done.stdout.split())
    assert taken + refused == len(files) * MUTANTS
    assert min(taken, refused) > MUTANTS // 20, "the mutants reach both ends"
