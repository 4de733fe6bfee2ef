"""Strings, numbers and words of JSON (RFC 8259), and of what people write in their place."""

from __future__ import annotations

from ocirun.jsonscan import DIGITS, ESCAPES, HEX_DIGITS, well_formed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Note = Callable[[int, str, str, str], None]

#: The most digits of an integer that is read: what CPython converts; no member takes more than 20.
LONGEST = 4300

#: What other languages write, what it stands for here, and what to write.
WORDS: dict[str, tuple[str | float | bool | None, str]] = {
    "true": (True, "write true"),
    "false": (False, "write false"),
    "yes": (True, "write true"),
    "no": (False, "write false"),
    "on": (True, "write true"),
    "off": (False, "write false"),
    "null": (None, "leave the member out"),
    "none": (None, "leave the member out"),
    "nil": (None, "leave the member out"),
    "undefined": (None, "leave the member out"),
    "nan": (0.5, "JSON has finite numbers only"),
    "infinity": (0.5, "JSON has finite numbers only"),
    "-infinity": (0.5, "JSON has finite numbers only"),
    "-nan": (0.5, "JSON has finite numbers only"),
    "+infinity": (0.5, "JSON has finite numbers only"),
}


class SyntaxStopError(Exception):
    """The text cannot be understood from ``offset`` on."""

    def __init__(self, offset: int, rule: str, hint: str = "", value: str = "") -> None:
        super().__init__(rule)
        self.offset = offset
        self.rule = rule
        self.hint = hint
        self.value = value


def is_word(character: str) -> bool:
    """Whether the character may stand in a bare word."""
    return character.isalnum() or character in "_$"


def read_string(text: str, at: int, note: Note) -> tuple[str, int]:
    """The string that begins at ``at``, and where it ends; raises SyntaxStopError when it has no end on its
    line."""
    quote, start = text[at], at
    if quote == "'":
        note(at, "a string must stand in double quotes", "", text[at : text.find("'", at + 1) + 1])
    parts: list[str] = []
    at += 1
    while True:
        plain = at
        while at < len(text) and text[at] not in (quote, "\\") and text[at] >= " ":
            at += 1
        parts.append(text[plain:at])
        if at >= len(text) or text[at] in "\r\n":
            raise SyntaxStopError(start, "the closing quote of this string is missing", value=text[start:at])
        if text[at] == quote:
            return _joined("".join(parts)), at + 1
        part, at = _escape(text, at, note) if text[at] == "\\" else _control(text, at, note)
        parts.append(part)


def _joined(string: str) -> str:
    """Put the halves of escaped surrogate pairs together, as the C scanner does; single halves stay."""
    if string.isascii():
        return string
    joined: list[str] = []
    for character in string:
        low = ord(character) - 0xDC00
        high = ord(joined[-1]) - 0xD800 if joined else -1
        if 0 <= low < 0x400 and 0 <= high < 0x400:
            joined[-1] = chr(0x10000 + (high << 10) + low)
        else:
            joined.append(character)
    return "".join(joined)


def _control(text: str, at: int, note: Note) -> tuple[str, int]:
    code = ord(text[at])
    escaped = "\\t" if code == 9 else f"\\u{code:04x}"
    note(at, "a control character in a string must be escaped", f"write {escaped}", "")
    return text[at], at + 1


def _escape(text: str, at: int, note: Note) -> tuple[str, int]:
    letter = text[at + 1 : at + 2]
    if letter in ESCAPES and letter:
        return ESCAPES[letter], at + 2
    digits = text[at + 2 : at + 6]
    if letter == "u" and len(digits) == 4 and not digits.strip(HEX_DIGITS):
        return chr(int(digits, 16)), at + 6
    if letter in "\r\n":
        return "", at + 1
    note(at, "this escape is not known", r"a backslash is written \\", text[at : at + 2])
    return "", at + 2


def read_number(text: str, at: int, note: Note) -> tuple[int | float, int]:
    """The number that begins at ``at``, and where it ends; what is no JSON number is noted and stands as
    0."""
    start = at
    while at < len(text) and (is_word(text[at]) or text[at] in "+-."):
        at += 1
    word = text[start:at]
    if not well_formed(word):
        note(start, "is no JSON number", _number_hint(word), word)
        return 0, at
    if len(word.removeprefix("-")) > LONGEST and not word.strip("-" + DIGITS):
        note(start, "this number is too long", "", word)
        return 0, at
    return (float(word) if word.strip("-" + DIGITS) else int(word)), at


def _number_hint(word: str) -> str:
    digits = word.removeprefix("+")
    try:
        if digits[:2].lower() in ("0x", "0o", "0b"):
            return f"write it in decimal: {int(digits, 0)}"
        if digits.lstrip("0") and not digits.strip("01234567") and len(digits) < LONGEST:
            octal = int(digits, 8)
            return (
                f"JSON has no octal numbers; {digits} in octal is {octal}"
                if digits[0] == "0"
                else f"write {digits}"
            )
    except ValueError:
        return ""
    return f"write {digits}" if word != digits and well_formed(digits) else ""
