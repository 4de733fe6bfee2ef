"""The requirement ledger holds: its names exist, its counts agree, its report is fresh."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from ocirun_spec import ledger

if TYPE_CHECKING:
    from pathlib import Path

SOURCE_FILES = (
    "bundle.md",
    "glossary.md",
    "config.md",
    "config-linux.md",
    "runtime-linux.md",
    "runtime.md",
    "features.md",
    "features-linux.md",
)
READER = """
TABLE = {}
LIMIT: int = 3

def read() -> None: ...

class Reader:
    def check(self) -> None: ...
"""
TEST_READER = """
def test_reads() -> None: ...

class TestReader:
    def test_checks(self) -> None: ...

def help() -> None: ...
"""
OPEN = ledger.Requirement(
    id="root.required",
    level="REQUIRED",
    source="config.md#root",
    text="this field is REQUIRED",
    status="open",
    aim="done",
)
AIMS = "an open requirement, and no other, has an aim of done, refused, deviates, later"


def _one(requirement: ledger.Requirement, *, count: int = 1) -> ledger.Ledger:
    return ledger.Ledger("1.3.0", {"config.md": count}, (requirement,))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree with code of every kind and one test."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "reader.py").write_text(READER)
    (tmp_path / "verbs.c").write_text("static int do_mount(struct step *step)\n{\n}\n")
    (tmp_path / "schema.json").write_text('{"root": {"a/b": {"required": true}}}')
    (tmp_path / "tests" / "test_reader.py").write_text(TEST_READER)
    return tmp_path


def test_the_ledger_has_no_fault() -> None:
    assert ledger.faults(ledger.load()) == []


def test_every_file_of_the_linux_specification_is_counted() -> None:
    sources = ledger.load().sources
    assert tuple(sources) == SOURCE_FILES
    assert all(count > 0 for count in sources.values())


def test_the_report_in_docs_is_fresh() -> None:
    written = (ledger.ROOT / ledger.REPORT).read_text("utf-8")
    assert written == ledger.report(ledger.load()), "run python -m ocirun_spec.ledger --write"


def test_nothing_is_open() -> None:
    assert [one.id for one in ledger.load().requirements if one.status == "open"] == []


def test_every_deviation_is_in_the_table_with_its_reason_and_a_test() -> None:
    deviations = [one for one in ledger.load().requirements if one.status == "deviates"]
    table = _table("Deviations")
    assert [line.split("`")[1] for line in table] == [one.id for one in deviations]
    for one, line in zip(deviations, table, strict=True):
        assert one.tests
        assert one.code
        assert one.note.replace("|", "\\|") in line


def test_everything_that_the_peers_do_otherwise_is_in_one_table() -> None:
    told = [(one.id, one.peers) for one in ledger.load().requirements if one.peers]
    cells = [line.split("|") for line in _table("Where the peers do otherwise")]
    assert [(name.strip(" `"), peers.strip()) for _, name, peers, _ in cells] == told


def _table(title: str) -> list[str]:
    """The rows of the table under a title of the report."""
    section = ledger.report(ledger.load()).partition(f"\n## {title} (")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| `")]


def test_a_negated_keyword_is_one_keyword() -> None:
    text = "MUST NOT fail, SHOULD wait, is NOT RECOMMENDED but MUST/SHOULD, musty and MAY"
    assert ledger.keywords(text) == ["MUST NOT", "SHOULD", "NOT RECOMMENDED", "MUST", "SHOULD"]


def test_a_repeated_id_is_a_fault(tree: Path) -> None:
    double = ledger.Ledger("1.3.0", {"config.md": 2}, (OPEN, OPEN))
    assert ledger.faults(double, tree) == ["root.required: this id is used 2 times"]


def test_a_keyword_that_no_text_accounts_for_is_a_fault(tree: Path) -> None:
    found = ledger.faults(_one(OPEN, count=2), tree)
    assert found == ["config.md: has 2 keywords, the texts account for 1"]


@pytest.mark.parametrize(
    ("careless", "fault"),
    [
        (replace(OPEN, source="config.md"), "config.md is no section of a counted source"),
        (replace(OPEN, level="MUST"), "level MUST does not stand in the text"),
        (replace(OPEN, pointer="root"), "root is no JSON pointer"),
        (replace(OPEN, aim=""), AIMS),
        (replace(OPEN, aim="done", status="deviates", note="all do"), AIMS),
        (replace(OPEN, aim="", status="deviates"), "deviates needs a note"),
        (replace(OPEN, aim="", status="not-applicable"), "not-applicable needs a note"),
        (replace(OPEN, aim="", status="forgotten"), "unknown status forgotten"),
        (replace(OPEN, aim="", status="done"), "done needs code and tests"),
        (replace(OPEN, aim="", status="refused"), "refused needs code and tests"),
    ],
)
def test_a_careless_entry_is_a_fault(tree: Path, careless: ledger.Requirement, fault: str) -> None:
    assert ledger.faults(_one(careless), tree) == [f"root.required: {fault}"]


def test_done_without_tests_is_a_fault(tree: Path) -> None:
    claimed = replace(OPEN, status="done", aim="", code=("reader.py:read",))
    assert ledger.faults(_one(claimed), tree) == ["root.required: done needs code and tests"]


@pytest.mark.parametrize(
    "place",
    [
        "reader.py:read",
        "reader.py:Reader",
        "reader.py:Reader.check",
        "reader.py:TABLE",
        "reader.py:LIMIT",
        "verbs.c:do_mount",
        "schema.json:/root/a~1b/required",
    ],
)
def test_a_place_that_exists_is_found(tree: Path, place: str) -> None:
    assert ledger.faults(_one(replace(OPEN, code=(place,))), tree) == []


@pytest.mark.parametrize(
    "place",
    [
        "reader.py",
        "reader.py:",
        "reader.py:check",
        "reader.py:Reader.read",
        "writer.py:write",
        "verbs.c:mount",
        "verbs.c:step",
        "schema.json:/root/b",
        "schema.json:root",
    ],
)
def test_a_place_that_does_not_exist_is_a_fault(tree: Path, place: str) -> None:
    found = ledger.faults(_one(replace(OPEN, code=(place,))), tree)
    assert found == [f"root.required: code {place} does not exist"]


@pytest.mark.parametrize(
    ("test", "exists"),
    [
        ("tests/test_reader.py::test_reads", True),
        ("tests/test_reader.py::TestReader::test_checks", True),
        ("tests/test_reader.py::test_writes", False),
        ("tests/test_reader.py::help", False),
        ("tests/test_writer.py::test_reads", False),
        ("reader.py::read", False),
    ],
)
def test_a_test_must_exist(tree: Path, test: str, exists: bool) -> None:
    found = ledger.faults(_one(replace(OPEN, tests=(test,))), tree)
    assert found == ([] if exists else [f"root.required: test {test} does not exist"])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "sources: a table is needed"),
        ({"sources": {"config.md": "many"}}, "config.md: a number is needed"),
        ({"sources": {}}, "requirement: an array of tables is needed"),
        ({"sources": {}, "requirement": [{"id": "a"}]}, "a: level: a string is needed"),
        ({"sources": {}, "requirement": [{"id": "a", "test": ["x"]}]}, "a: unknown member test"),
    ],
)
def test_a_ledger_of_the_wrong_shape_is_refused(document: dict[str, object], message: str) -> None:
    with pytest.raises(ledger.LedgerError, match=f"^{message}$"):
        ledger.parse(document)


def test_the_report_says_what_is_not_covered_yet() -> None:
    done = replace(
        OPEN, id="root.done", status="done", aim="", code=("a.py:b",), tests=("tests/c.py::test_d",)
    )
    text = ledger.report(ledger.Ledger("1.3.0", {"config.md": 2}, (done, OPEN)))
    assert "| open | 1 | 0 | 0 | 1 |" in text
    uncovered, _, covered = text.partition("## Refused with an error (0)")
    assert "## Not covered yet (1)" in uncovered
    assert "`root.required` **REQUIRED** → done: this field is REQUIRED" in uncovered
    assert "`root.done`" not in uncovered
    assert "    - code: `a.py:b`\n    - tests: `tests/c.py::test_d`" in covered


def test_the_command_prints_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert ledger.main([]) == 0
    assert capsys.readouterr().out == ledger.report(ledger.load())


def test_the_command_writes_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(ledger, "ROOT", tmp_path)
    assert ledger.main(["--write"]) == 0
    assert (tmp_path / "docs/ledger.md").read_text("utf-8") == ledger.report(ledger.load())


def test_the_command_fails_on_a_fault(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "load", lambda: _one(OPEN, count=2))
    assert ledger.main(["--check"]) == 1
    assert capsys.readouterr().out == "config.md: has 2 keywords, the texts account for 1\n"
