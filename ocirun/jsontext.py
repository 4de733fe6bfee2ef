"""JSON text (RFC 8259) without the json package, which costs more to import than ``create`` takes.

config.json has a reader of its own around the same scanner: it knows places and duplicate members.
"""

from __future__ import annotations

from ocirun.jsonscan import scan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeGuard

_ESCAPED = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_INFINITE = float("inf")


def loads(text: str | bytes) -> object:
    """The value of a JSON text; raises ValueError for anything else, NaN and infinities too."""
    try:
        return scan(text.decode() if isinstance(text, bytes) else text)[0]
    except RecursionError:
        raise ValueError("the JSON text is nested too deeply") from None


def dumps(value: object, indent: int | str = 0) -> str:
    """The ASCII JSON text of ``value``: on one line without blanks, or with ``indent`` (spaces, or the text
    of one level) on many, as json.dumps does.

    The order of members is kept; a byte that is no UTF-8 in a path (surrogateescape) survives as an escape.
    Raises TypeError for what JSON has no form for, ValueError for NaN, infinities and a value that holds
    itself.
    """
    step = " " * indent if isinstance(indent, int) else indent
    try:
        return _lay_out(value, "\n", step) if step else _compact(value)
    except RecursionError:
        raise ValueError("the value is nested too deeply for JSON") from None


def _compact(value: object) -> str:
    if _is_object(value):
        members = [f"{_key(key)}:{_compact(item)}" for key, item in value.items()]
        return "{" + ",".join(members) + "}"
    if _is_array(value):
        return "[" + ",".join([_compact(item) for item in value]) + "]"
    return _scalar(value)


def _lay_out(value: object, newline: str, step: str) -> str:
    # Empty ones stay on their line.
    inner = newline + step
    if _is_object(value) and value:
        members = [f"{_key(key)}: {_lay_out(item, inner, step)}" for key, item in value.items()]
        return "{" + inner + ("," + inner).join(members) + newline + "}"
    if _is_array(value) and value:
        return (
            "[" + inner + ("," + inner).join([_lay_out(item, inner, step) for item in value]) + newline + "]"
        )
    return _compact(value)


def _is_object(value: object) -> TypeGuard[dict[object, object]]:
    return isinstance(value, dict)


def _is_array(value: object) -> TypeGuard[list[object] | tuple[object, ...]]:
    return isinstance(value, (list, tuple))


def _key(key: object) -> str:
    return _string(key if isinstance(key, str) else _scalar(key))


def _scalar(value: object) -> str:
    if isinstance(value, str):
        return _string(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if not isinstance(value, float):
        raise TypeError(f"{type(value).__name__} is not JSON")
    if value != value or value in (_INFINITE, -_INFINITE):  # noqa: PLR0124 - that is how NaN is told
        raise ValueError("JSON has finite numbers only")
    return float.__repr__(value)


def _string(text: str) -> str:
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join([_ESCAPED.get(each) or _ascii(each) for each in text]) + '"'


def _ascii(character: str) -> str:
    code = ord(character)
    if " " <= character <= "~":
        return character
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
