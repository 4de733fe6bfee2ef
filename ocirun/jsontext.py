"""JSON text (RFC 8259) without the json package, which costs more to import than ``create`` takes.

The scanner and the encoder are those of CPython's C accelerator; what json.decoder and json.encoder add
around them is what stands here.  config.json has a reader of its own that knows places and duplicate members.
"""

from __future__ import annotations

import _json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeGuard

_BLANK = " \t\n\r"


class _Rules:
    """What the scanner of C wants to be told: the attributes of a json.JSONDecoder."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int

    @staticmethod
    def parse_constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")


def _refuse(value: object) -> object:
    raise TypeError(f"{type(value).__name__} is not JSON")


if TYPE_CHECKING:

    def _scan(_text: str, _index: int) -> tuple[object, int]: ...
    def _encode(_value: object, _level: int) -> Iterable[str]: ...
else:
    _scan = _json.make_scanner(_Rules)
    _encode = _json.make_encoder(
        None, _refuse, _json.encode_basestring_ascii, None, ":", ",", False, False, False
    )


def loads(text: str | bytes) -> object:
    """The value of a JSON text; raises ValueError for anything else, NaN and infinities too."""
    if isinstance(text, bytes):
        text = text.decode()
    start = len(text) - len(text.lstrip(_BLANK))
    try:
        value, end = _scan(text, start)
    except StopIteration as stop:
        raise ValueError(f"a JSON value is missing at character {stop.value}") from None
    except RecursionError:
        raise ValueError("the JSON text is nested too deeply") from None
    except SystemError:  # to raise its error the scanner wants json.decoder, which is not loaded
        raise ValueError("this is no JSON text") from None
    rest = text[end:].strip(_BLANK)
    if rest:
        raise ValueError(f"more text follows the JSON value: {rest[:20]!r}")
    return value


def dumps(value: object, indent: int | str = 0) -> str:
    """The ASCII JSON text of ``value``: on one line without blanks, or with ``indent`` (spaces, or the text
    of one level) on many, as json.dumps does.

    The order of members is kept; a byte that is no UTF-8 in a path (surrogateescape) survives as an escape.
    Raises TypeError for what JSON has no form for, ValueError for NaN, infinities and a value that holds
    itself.
    """
    step = " " * indent if isinstance(indent, int) else indent
    try:
        return _lay_out(value, "\n", step) if step else "".join(_encode(value, 0))
    except RecursionError:
        raise ValueError("the value is nested too deeply for JSON") from None


def _lay_out(value: object, newline: str, step: str) -> str:
    # Empty ones stay on their line; everything that is no container is the encoder's business.
    inner = newline + step
    if _is_object(value) and value:
        members = [f"{_key(key)}: {_lay_out(item, inner, step)}" for key, item in value.items()]
        return "{" + inner + ("," + inner).join(members) + newline + "}"
    if _is_array(value) and value:
        return (
            "[" + inner + ("," + inner).join([_lay_out(item, inner, step) for item in value]) + newline + "]"
        )
    return "".join(_encode(value, 0))


def _is_object(value: object) -> TypeGuard[dict[object, object]]:
    return isinstance(value, dict)


def _is_array(value: object) -> TypeGuard[list[object] | tuple[object, ...]]:
    return isinstance(value, (list, tuple))


def _key(key: object) -> str:
    # The encoder knows which keys have a form as text, and says so when there is none.
    member = "".join(_encode({key: 0}, 0))
    return member[1:-3]
