"""The table of attacks: what each does, what stops it here, which test plays it.

`attacks.toml` beside this file holds one entry for each; its head explains the fields.

    python -m ocirun_spec.attacks --write    write docs/attacks.md

Cold path: no command of the runtime imports it.
"""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from ocirun_spec.ledger import ROOT, LedgerError, defines, is_array, is_test, names, table, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TABLE = Path(__file__).with_name("attacks.toml")
REPORT = Path("docs/attacks.md")


@dataclass(frozen=True, slots=True)
class Attack:
    """One entry; the fields are explained at the head of attacks.toml."""

    ids: tuple[str, ...]
    found: str
    attack: str
    stop: str = ""
    code: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    absent: str = ""


def load(path: Path = TABLE) -> tuple[Attack, ...]:
    """Reads the table; raises LedgerError for a member of the wrong shape, OSError, TOMLDecodeError."""
    with path.open("rb") as file:
        document: Mapping[str, object] = tomllib.load(file)
    entries = document.get("attack")
    if not is_array(entries):
        raise LedgerError("attack: an array of tables is needed")
    return tuple(_attack(table({"attack": entry}, "attack")) for entry in entries)


def _attack(entry: Mapping[str, object]) -> Attack:
    if unknown := sorted(entry.keys() - {field.name for field in fields(Attack)}):
        raise LedgerError(f"{entry.get('ids')}: unknown member {unknown[0]}")
    return Attack(
        ids=names(entry, "ids"),
        found=text(entry, "found"),
        attack=text(entry, "attack"),
        stop=text(entry, "stop", ""),
        code=names(entry, "code"),
        tests=names(entry, "tests"),
        absent=text(entry, "absent", ""),
    )


def faults(attacks: Sequence[Attack], root: Path = ROOT) -> list[str]:
    """What is wrong with the table, looked up in the tree at ``root``; empty when it holds."""
    return [f"{attack.ids[0]}: {fault}" for attack in attacks for fault in _faults(attack, root)]


def _faults(attack: Attack, root: Path) -> Iterator[str]:
    if bool(attack.absent) == bool(attack.stop and attack.code and attack.tests):
        yield "needs what stops it, code and tests, or else why there is nothing to attack"
    yield from (f"code {place} does not exist" for place in attack.code if not defines(root, place))
    yield from (f"test {test} does not exist" for test in attack.tests if not is_test(root, test))


def report(attacks: Sequence[Attack]) -> str:
    """The table as Markdown."""
    lines = [
        "# Attacks",
        "",
        "Every way out of a container that a runtime was found to leave open, and what it meets here.",
        "Each test plays the attack, and fails when the code is taken away. `docs/threat-model.md` tells who",
        "attacks.",
        "Written by `make generate` from `spec/ocirun_spec/attacks.toml`; do not edit.",
        "",
    ]
    for attack in attacks:
        lines += [f"## {', '.join(attack.ids)}", "", f"*{attack.found}.* {_sentence(attack.attack)}", ""]
        if attack.absent:
            lines += [f"Not here: {attack.absent}.", ""]
            continue
        lines += [
            f"**Stopped:** {attack.stop}.",
            "",
            f"* code: {', '.join(f'`{place}`' for place in attack.code)}",
            *(f"* test: `{test}`" for test in attack.tests),
            "",
        ]
    return "\n".join(lines)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


if __name__ == "__main__":
    written = report(load())
    if sys.argv[1:] == ["--write"]:
        (ROOT / REPORT).write_text(written, "utf-8")
    else:
        sys.stdout.write(written)
