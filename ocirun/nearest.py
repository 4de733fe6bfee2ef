"""What a mistyped word was meant to be; imported only after a fault."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


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
    is.  Of two that are as near, the one that begins alike for longer."""
    best, best_cost, best_start = "", 1 + max(1, len(word) // 3), -1
    for name in names:
        begins = name.startswith(word) and len(word) > 1
        if not begins and abs(len(name) - len(word)) > best_cost:
            continue  # a name that is so much longer or shorter need not be compared
        cost = 0 if begins else distance(word, name)
        start = _alike(word, name)
        if cost < best_cost or (best and cost == best_cost and start > best_start):
            best, best_cost, best_start = name, cost, start
    return best


def _alike(one: str, other: str) -> int:
    """How many letters both begin with."""
    return next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
