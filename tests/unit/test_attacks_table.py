"""The table of attacks holds: every known one is in it, and its names exist."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from ocirun_spec import attacks
from ocirun_spec.ledger import ROOT

if TYPE_CHECKING:
    from pathlib import Path

#: The escapes and near-escapes of runc, crun and youki that are public.
KNOWN = frozenset(
    "CVE-2016-9962 CVE-2019-5736 CVE-2019-16884 CVE-2019-19921 CVE-2021-30465 CVE-2021-43784 "
    "CVE-2022-29162 CVE-2022-27650 CVE-2023-25809 CVE-2023-27561 CVE-2023-28642 CVE-2024-21626 "
    "CVE-2024-45310 CVE-2025-24965 CVE-2025-31133 CVE-2025-52565 CVE-2025-52881 CVE-2025-54867 "
    "CVE-2025-62161 CVE-2025-62596 CVE-2025-27612 CVE-2026-30892 CVE-2026-41579 CVE-2026-47766 "
    "CVE-2026-88264 CVE-2026-88265 GHSA-3q8j-pf29-vwv8".split()
)
ONE = attacks.Attack(("x",), "runc", "does", "stops", ("code.c:run_it",), ("tests/test_it.py::test_it",))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree in which the names of ONE exist."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "code.c").write_text("void run_it(void) {}\n")
    (tmp_path / "tests/test_it.py").write_text("def test_it() -> None: ...\n")
    return tmp_path


def test_the_table_has_no_fault() -> None:
    assert attacks.faults(attacks.load()) == []


def test_every_known_attack_is_in_it_once() -> None:
    found = [name for attack in attacks.load() for name in attack.ids]
    assert len(found) == len(set(found))
    assert {name for name in found if name.startswith(("CVE-", "GHSA-"))} == KNOWN


def test_the_report_is_fresh() -> None:
    written = (ROOT / attacks.REPORT).read_text("utf-8")
    assert written == attacks.report(attacks.load()), "run make generate"


def test_a_careful_entry_is_none(tree: Path) -> None:
    assert attacks.faults([ONE, attacks.Attack(("y",), "runc", "does", absent="no such thing")], tree) == []


@pytest.mark.parametrize(
    ("careless", "fault"),
    [
        (replace(ONE, tests=()), "needs what stops it"),
        (replace(ONE, code=()), "needs what stops it"),
        (replace(ONE, absent="both"), "needs what stops it"),
        (replace(ONE, tests=("tests/test_it.py::test_no",)), "test tests/test_it.py::test_no does not exist"),
        (replace(ONE, code=("code.c:run_no",)), "code code.c:run_no does not exist"),
    ],
)
def test_a_careless_entry_is_a_fault(tree: Path, careless: attacks.Attack, fault: str) -> None:
    (found,) = attacks.faults([careless], tree)
    assert found.startswith(f"x: {fault}")
