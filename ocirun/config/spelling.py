"""Find members that look misspelt: unknown to the schema, and one edit away from a known one.

Unknown members are never errors (config.md, Extensibility); but who writes ``hostnam`` wants to hear of it.
"""

from __future__ import annotations

from ocirun_spec.checker import escape
from ocirun_spec.members import MEMBERS

from ocirun.errors import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun_spec.checker import Json

    from ocirun.config.positions import Places


def misspelt(value: Json, strangers: list[tuple[str, str]]) -> list[Fault]:
    """A warning, without its place, for each unknown member that is near a known one.

    ``strangers`` are the pointers and kinds of the objects with unknown members, as the checker told them.
    """
    warnings: list[Fault] = []
    for pointer, kind in strangers:
        known = MEMBERS[kind]
        for name in _names(value, pointer):
            near = "" if name in known else next((other for other in known if nearly(name, other)), "")
            if near:
                hint = f"perhaps {near} was meant: {known[near][1]}"
                where = f"{pointer}/{escape(name)}"
                warnings.append(Fault(where, "is not known and ignored", value=f'"{name}"', hint=hint))
    return warnings


def placed(warning: Fault, places: Places) -> Fault:
    """The same warning with the line and column of the name."""
    warning.line, warning.column = places.place_of_name(warning.pointer)
    return warning


def _names(value: Json, pointer: str) -> list[str]:
    for escaped in pointer.split("/")[1:]:
        part = escaped.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value[part]
        elif isinstance(value, list):
            value = value[int(part)]
    return list(value) if isinstance(value, dict) else []


def nearly(one: str, other: str) -> bool:
    """Whether the words differ in case alone, or by one letter more, less, another, or two exchanged."""
    if one.lower() == other.lower():
        return True
    start = 0
    while start < min(len(one), len(other)) and one[start] == other[start]:
        start += 1
    a, b = one[start:], other[start:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])
