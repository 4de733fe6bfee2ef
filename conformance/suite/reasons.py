"""Why ocirun misses what it misses, and who is right: reasons.toml, read."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path

_FILE = Path(__file__).with_name("reasons.toml")


@dataclass(frozen=True, slots=True)
class Reason:
    """Of one program: who is right ("ocirun", "the suite", ...), and why.

    One that can ``race`` with any runtime passes now and then; that says nothing and is not counted.
    """

    right: str
    why: str
    race: bool = False


#: A test wants this nowhere on the page.
UNEXPLAINED = Reason("?", "not explained yet")


@functools.cache
def reasons() -> dict[str, Reason]:
    """The reason of every program that is explained."""
    with _FILE.open("rb") as file:
        read = tomllib.load(file)
    return {
        program: Reason(entry["right"], " ".join(entry["why"].split()), entry.get("race", False))
        for entry in read["reason"]
        for program in entry["programs"]
    }
