"""Reads values in the text format of GVariant, as annotations and busctl(1) write them, for D-Bus.

``uint64 5000000``, ``'inactive-or-failed'``, ``['a', 'b']``, ``[('/dev/null', 'rwm')]``, ``@as []``: what it
gives are signatures of D-Bus and plain values, a variant being a pair of both.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    #: A signature of D-Bus and a value of that type.
    Typed: TypeAlias = tuple[str, object]

_NAMES = {
    "boolean": "b", "byte": "y", "int16": "n", "uint16": "q", "int32": "i", "uint32": "u", "int64": "x",
    "uint64": "t", "double": "d", "string": "s", "objectpath": "o", "signature": "g",
}  # fmt: skip
_RANGES = {
    "y": (0, 0xFF), "n": (-(1 << 15), (1 << 15) - 1), "q": (0, 0xFFFF), "i": (-(1 << 31), (1 << 31) - 1),
    "u": (0, 0xFFFFFFFF), "x": (-(1 << 63), (1 << 63) - 1), "t": (0, (1 << 64) - 1),
}  # fmt: skip
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_DIGITS = {"x": 2, "u": 4, "U": 8}
_SPACE = " \t\n\r"
#: How deep D-Bus nests, and the longest signature that it has.
_DEEPEST, _LONGEST = 32, 255


def parse(text: str) -> Typed:
    """The value that ``text`` writes, with its signature.

    A number without a type is an int32, or a double where it has a point, as in GVariant.  Raises ValueError
    with what is wrong.
    """
    reader = _Reader(text)
    found = reader.value("", 0)
    if reader.peek():
        raise ValueError(f"has more after its value: {text[reader.at :]!r}")
    return found


def quote(text: str) -> str:
    """``text`` as a string of that format."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


class _Reader:
    """Reads from left to right; ``at`` is the place of the next character."""

    __slots__ = ("at", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def peek(self) -> str:
        """The next character that is no space, "" at the end."""
        while self.at < len(self.text) and self.text[self.at] in _SPACE:
            self.at += 1
        return self.text[self.at : self.at + 1]

    def value(self, wanted: str, depth: int) -> Typed:
        """A value; ``wanted`` is its signature where that is known already."""
        if depth > _DEEPEST:
            raise ValueError("is nested too deeply")
        first = self.peek()
        if first == "@":
            self.at += 1
            return self._of_type(self._signature(), wanted, depth)
        if first and first in "'\"":
            return self._text(wanted)
        if first and first in "[({<":
            self.at += 1
            return {"[": self._array, "(": self._tuple, "{": self._dict, "<": self._variant}[first](
                wanted, depth
            )
        word = self._word()
        if word in _NAMES:
            return self._of_type(_NAMES[word], wanted, depth)
        return _plain(word, wanted)

    def _of_type(self, signature: str, wanted: str, depth: int) -> Typed:
        if wanted and wanted != signature:
            raise ValueError(f"has a {signature} where there must be a {wanted}")
        return self.value(signature, depth + 1)

    def _word(self) -> str:
        start = self.at
        while self.at < len(self.text) and (self.text[self.at].isalnum() or self.text[self.at] in "+-."):
            self.at += 1
        if start == self.at:
            raise ValueError(
                f"has no value at {self.text[start:]!r}" if self.text[start:] else "has no value"
            )
        return self.text[start : self.at]

    def _signature(self) -> str:
        """A type after @, up to the space behind it."""
        start = self.at
        while self.at < len(self.text) and self.text[self.at] not in _SPACE:
            self.at += 1
        found = self.text[start : self.at]
        if len(found) > _LONGEST or _one(found, 0) != len(found):
            raise ValueError(f"has no type in @{found}")
        return found

    def _text(self, wanted: str) -> Typed:
        if wanted not in ("", "s", "o", "g"):
            raise ValueError(f"has a text where there must be a {wanted}")
        end = self.text[self.at]
        self.at += 1
        found = ""
        while (one := self.text[self.at : self.at + 1]) != end:
            if not one:
                raise ValueError("has a text without its end")
            self.at += 1
            found += self._escaped() if one == "\\" else one
        self.at += 1
        return wanted or "s", found

    def _escaped(self) -> str:
        one = self.text[self.at : self.at + 1]
        count = _DIGITS.get(one, 0)
        digits = self.text[self.at + 1 : self.at + 1 + count]
        self.at += 1 + count
        try:
            return chr(int(digits, 16)) if count else _ESCAPES.get(one, one)
        except (ValueError, OverflowError):
            raise ValueError(f"has no character \\{one}{digits}") from None

    def _array(self, wanted: str, depth: int) -> Typed:
        if wanted and (wanted[0] != "a" or wanted[1:2] == "{"):
            raise ValueError(f"has an array where there must be a {wanted}")
        kind = wanted[1:]
        found: list[object] = []
        while not self._ends("]", found):
            kind, one = self.value(kind, depth + 1)
            found.append(one)
        if not kind:
            raise ValueError("has an empty array without a type, such as @as []")
        octets = bytes(int(str(one)) for one in found) if kind == "y" else found
        return f"a{kind}", octets

    def _tuple(self, wanted: str, depth: int) -> Typed:
        if wanted and wanted[0] != "(":
            raise ValueError(f"has a tuple where there must be a {wanted}")
        inside, kinds = wanted[1:-1], ""
        found: list[object] = []
        while not self._ends(")", found):
            length = _one(inside, len(kinds)) if wanted else 0
            kind, one = self.value(inside[len(kinds) : length], depth + 1)
            kinds += kind
            found.append(one)
        if not kinds or (wanted and kinds != inside):
            raise ValueError(
                f"has a tuple of ({kinds})" + (f" where there must be {wanted}" if wanted else "")
            )
        return f"({kinds})", tuple(found)

    def _dict(self, wanted: str, depth: int) -> Typed:
        if wanted and wanted[:2] != "a{":
            raise ValueError(f"has a dictionary where there must be a {wanted}")
        key, kind = wanted[2:3], wanted[3:-1]
        found: dict[object, object] = {}
        while not self._ends("}", list(found)):
            key, name = self.value(key, depth + 1)
            self._expect(":")
            kind, found[name] = self.value(kind, depth + 1)
        if not kind:
            raise ValueError("has an empty dictionary without a type, such as @a{sv} {}")
        return f"a{{{key}{kind}}}", found

    def _variant(self, wanted: str, depth: int) -> Typed:
        if wanted not in ("", "v"):
            raise ValueError(f"has a variant where there must be a {wanted}")
        inside = self.value("", depth + 1)
        self._expect(">")
        return "v", inside

    def _ends(self, end: str, found: list[object]) -> bool:
        """Whether the list ends here; else the comma before its next entry is passed."""
        if self.peek() == end:
            self.at += 1
            return True
        if found:
            self._expect(",")
            if end == ")" and self.peek() == end:  # one entry alone is written (x,)
                return self._ends(end, found)
        return False

    def _expect(self, what: str) -> None:
        if self.peek() != what:
            raise ValueError(f"has no {what!r} at {self.text[self.at :]!r}")
        self.at += 1


def _plain(word: str, wanted: str) -> Typed:
    """A boolean or a number."""
    if word in ("true", "false"):
        if wanted not in ("", "b"):
            raise ValueError(f"has a boolean where there must be a {wanted}")
        return "b", word == "true"
    kind = wanted or ("i" if word.lstrip("+-").isdigit() or word[:2].lower() == "0x" else "d")
    try:
        if kind == "d":
            return "d", float(word)
        number = int(word, 16 if word[:2].lower() == "0x" else 10)
    except ValueError:
        raise ValueError(f"has no value: {word!r}") from None
    if kind not in _RANGES:
        raise ValueError(f"has a number where there must be a {wanted}")
    least, most = _RANGES[kind]
    if not least <= number <= most:
        raise ValueError(f"has {number}, which is outside of {kind}: {least} to {most}")
    return kind, number


def _one(signature: str, at: int) -> int:
    """Where the one type ends that begins at ``at``; 0 where there is none."""
    first = signature[at : at + 1]
    if first and first in "ybnqiuxtdsogv":
        return at + 1
    if first == "a":
        if signature[at + 1 : at + 2] != "{":
            return _one(signature, at + 1)
        value = _one(signature, at + 3) if signature[at + 2 : at + 3] in tuple("ybnqiuxtdsog") else 0
        return value + 1 if value and signature[value : value + 1] == "}" else 0
    if first == "(":
        end = at + 1
        while signature[end : end + 1] != ")":
            end = _one(signature, end)
            if not end:
                return 0
        return end + 1 if end > at + 1 else 0
    return 0
