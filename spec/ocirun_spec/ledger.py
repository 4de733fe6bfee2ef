"""The requirement ledger: what the OCI runtime specification asks for, where it is done, what proves it.

`ledger.toml` beside this file holds one entry for every MUST and SHOULD of the Linux part of the
specification; its head explains the fields. This module reads it, finds its faults and writes the report:

    python -m ocirun_spec.ledger            print the report
    python -m ocirun_spec.ledger --write    write it to docs/ledger.md
    python -m ocirun_spec.ledger --check    print every fault, exit 1 when there is one

Cold path: no command of the runtime imports it.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
import tomllib
from collections import Counter
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LEDGER = Path(__file__).with_name("ledger.toml")
ROOT = Path(__file__).resolve().parents[2]
REPORT = Path("docs/ledger.md")

# RFC 2119; the negated forms first, for `MUST NOT` is one keyword and not two
_KEYWORD = re.compile(r"\b(?:MUST NOT|MUST|SHOULD NOT|SHOULD|NOT RECOMMENDED|RECOMMENDED|REQUIRED)\b")

STATUSES = ("done", "refused", "deviates", "open", "not-applicable")
AIMS = ("done", "refused", "deviates", "later")
_PLAIN_LEVELS = ("must", "should", "says")
_PROVED = ("done", "refused")
_EXPLAINED = ("deviates", "not-applicable")


class LedgerError(ValueError):
    """The ledger cannot be read: a missing, unknown or wrongly typed member."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement of the specification; the fields are explained at the head of ledger.toml."""

    id: str
    level: str
    source: str
    text: str
    status: str
    pointer: str = ""
    aim: str = ""
    note: str = ""
    peers: str = ""
    code: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """The file of the specification, without the section."""
        return self.source.partition("#")[0]


@dataclass(frozen=True, slots=True)
class Ledger:
    """The whole ledger: version of the specification, keywords counted per file, the requirements."""

    version: str
    sources: Mapping[str, int]
    requirements: tuple[Requirement, ...]


# --- reading -----------------------------------------------------------------------------------------------


def load(path: Path = LEDGER) -> Ledger:
    """Read the ledger at `path`.

    Raises LedgerError for a member of the wrong shape, OSError and tomllib.TOMLDecodeError as they come.
    """
    with path.open("rb") as file:
        document: Mapping[str, object] = tomllib.load(file)
    return parse(document)


def parse(document: Mapping[str, object]) -> Ledger:
    """Make a Ledger of a parsed TOML document; raises LedgerError when it has not the right shape."""
    sources = {name: _number(count, name) for name, count in table(document, "sources").items()}
    entries = document.get("requirement")
    if not is_array(entries):
        raise LedgerError("requirement: an array of tables is needed")
    requirements = tuple(_requirement(entry) for entry in entries)
    return Ledger(text(table(document, "spec"), "version"), sources, requirements)


# A TOML or JSON table has string keys; isinstance alone cannot tell the type checkers so.
def _is_table(value: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[Sequence[object]]:
    """Whether ``value`` is an array."""
    return isinstance(value, list)


def table(document: Mapping[str, object], name: str) -> Mapping[str, object]:
    """The table that is the member ``name``; raises LedgerError."""
    value = document.get(name)
    if not _is_table(value):
        raise LedgerError(f"{name}: a table is needed")
    return value


def _number(value: object, name: str) -> int:
    if not isinstance(value, int):
        raise LedgerError(f"{name}: a number is needed")
    return value


def text(entry: Mapping[str, object], name: str, default: str | None = None) -> str:
    """The text that is the member ``name``; raises LedgerError."""
    value = entry.get(name, default)
    if not isinstance(value, str):
        raise LedgerError(f"{entry.get('id', '?')}: {name}: a string is needed")
    return value


def names(entry: Mapping[str, object], name: str) -> tuple[str, ...]:
    """The array of texts that is the member ``name``, () without it; raises LedgerError."""
    value = entry.get(name, [])
    if not is_array(value) or not all(isinstance(item, str) for item in value):
        raise LedgerError(f"{entry.get('id', '?')}: {name}: an array of strings is needed")
    return tuple(str(item) for item in value)


def _requirement(value: object) -> Requirement:
    entry = table({"requirement": value}, "requirement")
    if unknown := sorted(entry.keys() - {field.name for field in fields(Requirement)}):
        raise LedgerError(f"{entry.get('id', '?')}: unknown member {unknown[0]}")
    return Requirement(
        id=text(entry, "id"),
        level=text(entry, "level"),
        source=text(entry, "source"),
        text=text(entry, "text"),
        status=text(entry, "status"),
        pointer=text(entry, "pointer", ""),
        aim=text(entry, "aim", ""),
        note=text(entry, "note", ""),
        peers=text(entry, "peers", ""),
        code=names(entry, "code"),
        tests=names(entry, "tests"),
    )


# --- faults ------------------------------------------------------------------------------------------------


def keywords(text: str) -> list[str]:
    """The RFC 2119 keywords of `text`, in order."""
    return _KEYWORD.findall(text)


def faults(ledger: Ledger, root: Path = ROOT) -> list[str]:
    """Everything wrong with the ledger, looked up in the tree at `root`; empty when it holds."""
    found = [*_repeated_ids(ledger), *_miscounted(ledger)]
    for requirement in ledger.requirements:
        problems = (
            *_wrong_words(requirement, ledger),
            *_missing_proof(requirement),
            *_absent_names(requirement, root),
        )
        found += [f"{requirement.id}: {problem}" for problem in problems]
    return found


def _repeated_ids(ledger: Ledger) -> Iterator[str]:
    seen = Counter(requirement.id for requirement in ledger.requirements)
    yield from (f"{name}: this id is used {count} times" for name, count in seen.items() if count > 1)


def _miscounted(ledger: Ledger) -> Iterator[str]:
    counted: Counter[str] = Counter()
    for requirement in ledger.requirements:
        counted[requirement.file] += len(keywords(requirement.text))
    for name, count in ledger.sources.items():
        if counted[name] != count:
            yield f"{name}: has {count} keywords, the texts account for {counted[name]}"


def _wrong_words(requirement: Requirement, ledger: Ledger) -> Iterator[str]:
    if requirement.file not in ledger.sources or "#" not in requirement.source:
        yield f"{requirement.source} is no section of a counted source"
    if requirement.status not in STATUSES:
        yield f"unknown status {requirement.status}"
    if not _level_fits(requirement):
        yield f"level {requirement.level} does not stand in the text"
    if requirement.pointer and not requirement.pointer.startswith("/"):
        yield f"{requirement.pointer} is no JSON pointer"


def _level_fits(requirement: Requirement) -> bool:
    found = keywords(requirement.text)
    return requirement.level in found if found else requirement.level in _PLAIN_LEVELS


def _missing_proof(requirement: Requirement) -> Iterator[str]:
    status = requirement.status
    if status in _PROVED and not (requirement.code and requirement.tests):
        yield f"{status} needs code and tests"
    if status in _EXPLAINED and not requirement.note:
        yield f"{status} needs a note"
    if (status == "open") != (requirement.aim in AIMS):
        yield "an open requirement, and no other, has an aim of " + ", ".join(AIMS)


def _absent_names(requirement: Requirement, root: Path) -> Iterator[str]:
    for place in requirement.code:
        if not defines(root, place):
            yield f"code {place} does not exist"
    for test in requirement.tests:
        if not is_test(root, test):
            yield f"test {test} does not exist"


def defines(root: Path, place: str) -> bool:
    """Whether `place`, "path:name", exists below `root`.

    In a .py file the name is a function, class, method ("Class.method") or module constant, in a .json file a
    JSON pointer, in C a function, looked for as plain text.
    """
    path, _, name = place.partition(":")
    file = root / path
    if not name or not file.is_file():
        return False
    if file.suffix == ".py":
        return name in python_names(file)
    if file.suffix == ".json":
        return _resolves(_json(file), name)
    return re.search(rf"\b{re.escape(name)}\(", file.read_text("utf-8")) is not None


@cache
def _json(file: Path) -> object:
    document: object = json.loads(file.read_text("utf-8"))
    return document


def _resolves(value: object, pointer: str) -> bool:
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if not _is_table(value) or name not in value:
            return False
        value = value[name]
    return pointer.startswith("/")


def is_test(root: Path, test: str) -> bool:
    """Whether ``test``, "path::name", exists below ``root`` and is one that pytest finds."""
    path, _, name = test.partition("::")
    file = root / path
    dotted = name.replace("::", ".")
    is_named_test = path.startswith("tests/") and dotted.rpartition(".")[2].startswith("test_")
    return is_named_test and file.is_file() and dotted in python_names(file)


@cache
def python_names(file: Path) -> frozenset[str]:
    """The functions, classes, methods and module constants that a Python file defines, by syntax alone."""
    tree = ast.parse(file.read_text("utf-8"), str(file))
    return frozenset(name for node in tree.body for name in _defined(node))


def _defined(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            yield name
        case ast.ClassDef(name=name, body=body):
            yield name
            yield from (f"{name}.{inner}" for member in body for inner in _defined(member))
        case ast.Assign(targets=targets):
            yield from (target.id for target in targets if isinstance(target, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name
        case _:
            pass


# --- report ------------------------------------------------------------------------------------------------

_TITLES = {
    "open": "Not covered yet",
    "refused": "Refused with an error",
    "done": "Done",
    "not-applicable": "Not applicable",
}


def report(ledger: Ledger) -> str:
    """The ledger as Markdown: counts, tables of deviations, ours and the peers', then all by status."""
    lines = [
        "# The requirement ledger",
        "",
        f"Every MUST and SHOULD of the OCI runtime specification {ledger.version} that concerns Linux.",
        "Written by `python -m ocirun_spec.ledger --write` from `spec/ocirun_spec/ledger.toml`; do not edit.",
        "",
        *_summary(ledger),
        "",
        *_source_table(ledger),
        "",
        *_deviations([r for r in ledger.requirements if r.status == "deviates"]),
    ]
    lines += _peers([r for r in ledger.requirements if r.peers])
    for status, title in _TITLES.items():
        lines += _section(title, [r for r in ledger.requirements if r.status == status])
    return "\n".join(lines) + "\n"


def _summary(ledger: Ledger) -> Iterator[str]:
    yield "| status | MUST | SHOULD | other | all |"
    yield "|---|---:|---:|---:|---:|"
    for status in STATUSES:
        groups = Counter(_group(r.level) for r in ledger.requirements if r.status == status)
        counts = " | ".join(str(groups[name]) for name in ("MUST", "SHOULD", "other"))
        yield f"| {status} | {counts} | {groups.total()} |"


def _group(level: str) -> str:
    if level in ("MUST", "MUST NOT", "REQUIRED"):
        return "MUST"
    return "SHOULD" if level in ("SHOULD", "SHOULD NOT", "NOT RECOMMENDED", "RECOMMENDED") else "other"


def _source_table(ledger: Ledger) -> Iterator[str]:
    yield "| source | keywords | requirements | open |"
    yield "|---|---:|---:|---:|"
    for name, count in ledger.sources.items():
        mine = [r for r in ledger.requirements if r.file == name]
        yield f"| {name} | {count} | {len(mine)} | {sum(r.status == 'open' for r in mine)} |"


def _deviations(requirements: Sequence[Requirement]) -> Iterator[str]:
    """The table of what is done otherwise than the specification says, with the reason."""
    yield from (f"## Deviations ({len(requirements)})", "")
    yield "| requirement | the specification | ocirun, and why | code | tests |"
    yield "|---|---|---|---|---|"
    for one in requirements:
        said = f"{_plain(one.text)} ({one.source})"
        yield f"| `{one.id}` | {said} | {_plain(one.note)} | {_cell(one.code)} | {_cell(one.tests)} |"


def _peers(requirements: Sequence[Requirement]) -> Iterator[str]:
    """The table of what runc, crun and youki do otherwise."""
    yield from ("", f"## Where the peers do otherwise ({len(requirements)})", "")
    yield "| requirement | runc, crun or youki |"
    yield "|---|---|"
    yield from (f"| `{one.id}` | {_plain(one.peers)} |" for one in requirements)


def _cell(places: Sequence[str]) -> str:
    return "<br>".join(f"`{place}`" for place in places)


def _section(title: str, requirements: Sequence[Requirement]) -> Iterator[str]:
    yield from ("", f"## {title} ({len(requirements)})", "")
    if not requirements:
        yield "None."
    source = ""
    for requirement in requirements:
        if requirement.source != source:
            source = requirement.source
            yield f"- {source}"
        yield from _item(requirement)


def _item(requirement: Requirement) -> Iterator[str]:
    aim = f" → {requirement.aim}" if requirement.aim else ""
    yield f"  - `{requirement.id}` **{requirement.level}**{aim}: {_plain(requirement.text)}"
    details = (
        ("note", requirement.note),
        ("code", ", ".join(f"`{place}`" for place in requirement.code)),
        ("tests", ", ".join(f"`{test}`" for test in requirement.tests)),
    )
    yield from (f"    - {name}: {value}" for name, value in details if value)


def _plain(text: str) -> str:
    # a bar or an underscore of the specification is text here, never Markdown
    return text.replace("|", "\\|").replace("<", "&lt;")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m ocirun_spec.ledger", description="the ledger of requirements"
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", action="store_true", help=f"write the report to {REPORT}")
    action.add_argument("--check", action="store_true", help="print every fault of the ledger")
    options = parser.parse_args(arguments)
    ledger = load()
    if options.write:
        (ROOT / REPORT).write_text(report(ledger), "utf-8")
    elif options.check:
        return _print_faults(faults(ledger))
    else:
        sys.stdout.write(report(ledger))
    return 0


def _print_faults(found: Sequence[str]) -> int:
    sys.stdout.writelines(f"{fault}\n" for fault in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
