"""Reads JSON text (RFC 8259) in plain Python: the launcher's core interpreter has no C scanner.

The quotes part the text in turn into what stands outside of strings and inside.  What stands outside is cut
into its marks and words by a few passes of C; one pass over those builds the value.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

BLANK = " \t\n\r"
DIGITS = "0123456789"
HEX_DIGITS = DIGITS + "abcdefABCDEF"
ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
WORDS = {"true": True, "false": False, "null": None}

#: What str.split takes for a blank, and JSON does not.
_FALSE_BLANKS = "\v\f\x1c\x1d\x1e\x1f"


def scan(text: str) -> tuple[Any, bool]:
    """The value of ``text``, and whether every name stands once in its object (else the last one counts).

    Raises ValueError for what is no JSON text, RecursionError for one that is nested too deeply.
    """
    pieces = text.split('"')
    if "\\" in text:
        pieces = _mended(pieces)
    strings = pieces[1::2]
    if len(pieces) % 2 == 0 or not _printable("".join(strings)):
        raise ValueError("a string has no end, or a control character in it")
    if "\\" in text:
        strings = [_unescaped(string) if "\\" in string else string for string in strings]
    marks = iter(_marks('"'.join(pieces[::2])))
    reading = _Reading(marks.__next__, iter(strings).__next__)
    try:
        value = reading.value(marks.__next__())
    except StopIteration:
        raise ValueError("the text ends too early") from None
    if next(marks, None) is not None:
        raise ValueError("more text follows the value")
    return value, reading.unique


def _mended(pieces: list[str]) -> list[str]:
    """``pieces`` with those joined again that only an escaped quote has parted."""
    mended: list[str] = []
    rest = iter(pieces)
    for piece in rest:
        whole = piece
        while len(mended) % 2 and (len(whole) - len(whole.rstrip("\\"))) % 2:
            more = next(rest, None)
            if more is None:
                raise ValueError("a string has no end")
            whole += '"' + more
        mended.append(whole)
    return mended


def _printable(text: str) -> bool:
    return text.isprintable() or min(text) >= " "


def _marks(outside: str) -> list[str]:
    if not outside.isascii() or any(blank in outside for blank in _FALSE_BLANKS):
        raise ValueError("a character may only stand in a string")
    for mark in '{}[],:"':
        outside = outside.replace(mark, f" {mark} ")
    return outside.split()


class _Reading:
    """Takes one mark after the other; ``unique`` turns False at a name that was there before."""

    __slots__ = ("_mark", "_string", "unique")

    def __init__(self, mark: Callable[[], str], string: Callable[[], str]) -> None:
        self._mark = mark
        self._string = string
        self.unique = True

    def value(self, mark: str) -> object:
        """The value that begins with ``mark``: one frame for each level."""
        if mark == '"':
            return self._string()
        if mark == "{":
            return self._members()
        if mark == "[":
            return self._elements()
        return WORDS[mark] if mark in WORDS else number(mark)

    def _members(self) -> dict[str, object]:
        take, string = self._mark, self._string
        found: dict[str, object] = {}
        mark = take()
        while mark != "}":
            if mark != '"':
                raise ValueError("the name of a member is missing")
            name = string()
            if take() != ":":
                raise ValueError("a colon is missing")
            if name in found:
                self.unique = False
            mark = take()
            found[name] = string() if mark == '"' else self.value(mark)
            mark = self._after("}")
        return found

    def _elements(self) -> list[object]:
        take, string = self._mark, self._string
        found: list[object] = []
        mark = take()
        while mark != "]":
            found.append(string() if mark == '"' else self.value(mark))
            mark = self._after("]")
        return found

    def _after(self, end: str) -> str:
        """The mark after an element: ``end``, or after a comma that of the next one."""
        mark = self._mark()
        if mark == ",":
            mark = self._mark()
            if mark != end:
                return mark
        elif mark == end:
            return mark
        raise ValueError("a comma is missing, or stands before the end")


def number(word: str) -> int | float:
    """The number that the ASCII ``word`` is; raises ValueError when it is none."""
    if not well_formed(word):
        raise ValueError("this is no JSON number")
    return float(word) if word.strip("-" + DIGITS) else int(word)


def well_formed(word: str) -> bool:
    """Whether JSON takes ``word`` for a number."""
    if word.isdigit() and word.isascii():
        return word == "0" or word[0] != "0"
    mantissa, mark, exponent = word.replace("E", "e").partition("e")
    whole, point, fraction = mantissa.removeprefix("-").partition(".")
    exponent = exponent[1:] if exponent[:1] in ("+", "-") else exponent
    return (
        (_digits(whole) and (whole == "0" or whole[0] != "0"))
        and (not point or _digits(fraction))
        and (not mark or _digits(exponent))
    )


def _digits(word: str) -> bool:
    return bool(word) and not word.strip(DIGITS)


def _unescaped(string: str) -> str:
    plain, *rest = string.split("\\")
    found = [plain]
    half = 0  # the first half of a surrogate pair, when it was the last thing
    escapes = iter(rest)
    for escape in escapes:
        code = -1
        if not escape:  # a backslash was escaped, and what follows is none
            found.append("\\" + next(escapes))
        elif escape[0] != "u":
            if escape[0] not in ESCAPES:
                raise ValueError("this escape is not known")
            found.append(ESCAPES[escape[0]] + escape[1:])
        else:
            code = _code(escape[1:5])
            if half and 0xDC00 <= code < 0xE000:
                code += 0x10000 + (half - 0xD800 << 10) - 0xDC00
                found.pop()
            found.append(chr(code) + escape[5:])
        half = code if 0xD800 <= code < 0xDC00 and len(escape) == 5 else 0
    return "".join(found)


def _code(digits: str) -> int:
    if len(digits) != 4 or digits.strip(HEX_DIGITS):
        raise ValueError("four hexadecimal digits are missing")
    return int(digits, 16)
