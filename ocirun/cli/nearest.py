"""What a mistyped word was meant to be; imported only after a fault."""

from __future__ import annotations

from ocirun.cli.table import COMMANDS, GLOBAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocirun.cli.table import Command


def distance(one: str, other: str) -> int:
    """How many letters must be added, dropped, changed or swapped with the next to make ``other`` of
    ``one``."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        before, last, row = row, before, [i]
        for j, wanted in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]


def nearest(word: str, names: Iterable[str]) -> str:
    """The name that ``word`` was most likely meant to be: one it begins, or one few letters away; "" if none
    is."""
    best, best_cost = "", 1 + max(1, len(word) // 3)
    for name in names:
        cost = distance(word, name)
        if name.startswith(word) and len(word) > 1:
            cost = 0
        if cost < best_cost:
            best, best_cost = name, cost
    return best


def suggest_command(word: str) -> str:
    """The hint for an unknown command."""
    name = nearest(word.lower(), [command.name for command in COMMANDS])
    return f"did you mean `ocirun {name}`?" if name else "see ocirun --help"


def suggest_flag(word: str, command: Command | None) -> str:
    """The hint for an unknown flag of ``command``, of the program if that is None; "" when nothing is
    near."""
    flags = (*(command.flags if command else ()), *GLOBAL)
    name = nearest(word, [flag.name for flag in flags if flag.is_shown()])
    if name:
        return f"did you mean --{name}?"
    if command is None:
        for other in COMMANDS:
            if any(word in (flag.name, flag.short) for flag in other.flags):
                return f"it belongs after the command: ocirun {other.name} -{'-' * (len(word) > 1)}{word}"
    return ""
