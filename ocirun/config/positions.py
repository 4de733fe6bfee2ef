"""The second scan of a config.json: where every value stands, and what is wrong with the syntax.

Written by hand, because no parser of the standard library keeps positions.  Slow, and run only after a fault.
Where the meaning of a broken text is plain (a comma too many, a comment, single quotes) the scanner notes
the fault and reads on, so that one run tells all faults; where it is not, it stops.

Lines and columns count from 1, columns in characters as editors do.
"""

from __future__ import annotations

from ocirun.config.syntax import WORDS, SyntaxStopError, is_word, read_number, read_string
from ocirun.errors import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun_spec.checker import Json

#: The longest piece of the document that is shown as a value.
SHOWN = 60


class Places:
    """What the scan found: ``value`` (None unless ``whole``), the faults of the syntax, and where things
    are."""

    __slots__ = ("_lines", "faults", "names", "spans", "text", "value", "whole")

    def __init__(self, text: str) -> None:
        self.text = text
        self.value: Json = None
        self.whole = False
        self.faults: list[Fault] = []
        self.spans: dict[str, tuple[int, int]] = {}
        self.names: dict[str, int] = {}
        self._lines: list[int] = []

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of the character at ``offset``."""
        if not self._lines:
            self._lines = [0]
            self._lines += [at + 1 for at, character in enumerate(self.text) if character == "\n"]
        low, high = 0, len(self._lines)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._lines[middle] <= offset else (low, middle)
        return low + 1, offset - self._lines[low] + 1

    def place(self, pointer: str) -> tuple[int, int]:
        """Line and column of the value at ``pointer``; of the nearest that holds it where it is absent."""
        while pointer and pointer not in self.spans:
            pointer = pointer.rpartition("/")[0]
        return self.position(self.spans[pointer][0]) if pointer in self.spans else (1, 1)

    def place_of_name(self, pointer: str) -> tuple[int, int]:
        """Line and column of the member name at ``pointer``."""
        return self.position(self.names[pointer]) if pointer in self.names else self.place(pointer)

    def shown(self, pointer: str) -> str:
        """The value at ``pointer`` as it stands in the document, shortened; "" where it is absent."""
        if pointer not in self.spans:
            return ""
        start, end = self.spans[pointer]
        return shorten(self.text[start:end])

    def forget(self, pointer: str) -> None:
        """The value at ``pointer`` is about to be replaced: nothing inside it has a place any more."""
        for inner in [inner for inner in self.spans if inner.startswith(f"{pointer}/")]:
            del self.spans[inner]

    def locate(self, fault: Fault) -> None:
        """Fill in line, column and value of ``fault`` from its pointer."""
        fault.line, fault.column = self.place(fault.pointer)
        fault.value = fault.value or self.shown(fault.pointer)

    def note(self, offset: int, pointer: str, rule: str, hint: str = "", value: str = "") -> None:
        """Remember a fault of the syntax."""
        line, column = self.position(min(offset, len(self.text)))
        self.faults.append(Fault(pointer, rule, value=shorten(value), hint=hint, line=line, column=column))


def shorten(text: str) -> str:
    """``text`` on one line and not longer than SHOWN."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"


class _Frame:
    """One object or array that is being read: ``member`` is the name that waits for its value."""

    __slots__ = ("holds", "member", "pointer", "seen", "start")

    def __init__(self, holds: dict[str, Json] | list[Json], pointer: str, start: int) -> None:
        self.holds = holds
        self.pointer = pointer
        self.start = start
        self.member = ""
        self.seen: dict[str, int] = {}

    def inner(self) -> str:
        """The pointer of the value that comes next."""
        if isinstance(self.holds, list):
            return f"{self.pointer}/{len(self.holds)}"
        return f"{self.pointer}/{self.member.replace('~', '~0').replace('/', '~1')}"

    def put(self, value: Json) -> None:
        """Take the value that was read."""
        if isinstance(self.holds, list):
            self.holds.append(value)
        else:
            self.holds[self.member] = value

    def closer(self) -> str:
        """The bracket that ends it."""
        return "]" if isinstance(self.holds, list) else "}"


def scan(text: str, depth: int) -> Places:
    """Read ``text`` as JSON; objects and arrays deeper than ``depth`` in one another are a fault."""
    places = Places(text)
    scanner = _Scanner(places, depth)
    try:
        places.value = scanner.document()
        places.whole = True
    except SyntaxStopError as stop:
        places.note(stop.offset, scanner.pointer(), stop.rule, stop.hint, stop.value)
    return places


class _Scanner:
    """Reads one document; ``stack`` holds what is open, so that depth costs no recursion."""

    def __init__(self, places: Places, depth: int) -> None:
        self.places = places
        self.text = places.text
        self.at = 0
        self.depth = depth
        self.stack: list[_Frame] = []

    def pointer(self) -> str:
        """The innermost object or array that is open."""
        return self.stack[-1].pointer if self.stack else ""

    def document(self) -> Json:
        """The whole text; raises SyntaxStopError where it cannot be understood any more."""
        self._space()
        if self.at == len(self.text):
            raise SyntaxStopError(
                self.at, "the file is empty", "`ocirun spec` writes a config.json to start from"
            )
        value, done = self._begin("")
        while not done:
            value, done = self._continue()
        self._space()
        if self.at < len(self.text):
            self.places.note(self.at, "", "nothing may follow the document", value=self.text[self.at :])
        return value

    def _begin(self, pointer: str) -> tuple[Json, bool]:
        """Start the value at ``pointer``: gives it and True, or None and False for an object or array, now
        open."""
        start, character = self.at, self.text[self.at]
        if character in "{[":
            if len(self.stack) == self.depth:
                raise SyntaxStopError(start, f"objects and arrays are nested deeper than {self.depth}")
            self.stack.append(_Frame({} if character == "{" else [], pointer, start))
            self.at += 1
            self._space()
            return None, False
        value = self._plain(pointer)
        self.places.spans[pointer] = (start, self.at)
        return value, True

    def _plain(self, pointer: str) -> Json:
        character = self.text[self.at]
        if character in "\"'":
            return self._string(pointer)
        if character in "-+.0123456789" and not self.text.startswith(("-I", "-N", "+I"), self.at):
            number, self.at = read_number(self.text, self.at, self._noter(pointer))
            return number
        return self._word(pointer)

    def _string(self, pointer: str) -> str:
        string, self.at = read_string(self.text, self.at, self._noter(pointer))
        return string

    def _word(self, pointer: str) -> Json:
        start, self.at = self.at, self.at + (self.text[self.at] in "-+")
        while self.at < len(self.text) and is_word(self.text[self.at]):
            self.at += 1
        word = self.text[start : self.at]
        if not word.strip("-+"):
            raise SyntaxStopError(start, f"a value cannot begin with {self.text[start]!r}", self._opened())
        if word in ("true", "false", "null"):
            return {"true": True, "false": False, "null": None}[word]
        value, hint = WORDS.get(word.lower(), (word, "write text in double quotes"))
        self.places.note(start, pointer, "is no JSON value", hint, word)
        return value

    def _noter(self, pointer: str) -> _Noter:
        return _Noter(self.places, pointer)

    # -- inside objects and arrays ---------------------------------------------------------------------------

    def _continue(self) -> tuple[Json, bool]:
        """One member, one item or the end of the innermost object or array."""
        frame = self.stack[-1]
        self._no_commas(frame)
        if self.text[self.at] in "}]":
            return self._end(frame)
        if isinstance(frame.holds, dict):
            self._name(frame)
        return self._take(*self._begin(frame.inner()))

    def _take(self, value: Json, done: bool) -> tuple[Json, bool]:
        """Put a value that is complete where it belongs; True when that was the whole document."""
        if not done:
            return None, False
        if not self.stack:
            return value, True
        self.stack[-1].put(value)
        self._comma(self.stack[-1])
        return None, False

    def _end(self, frame: _Frame) -> tuple[Json, bool]:
        if self.text[self.at] != frame.closer():
            line, column = self.places.position(frame.start)
            opened = f"{self.text[frame.start]} of line {line}, column {column}"
            rule = f"{frame.closer()} is missing for the {opened}"
            raise SyntaxStopError(self.at, rule, value=self.text[self.at])
        self.at += 1
        self.stack.pop()
        self.places.spans[frame.pointer] = (frame.start, self.at)
        return self._take(frame.holds, True)

    def _no_commas(self, frame: _Frame) -> None:
        """Commas where a member or item should stand."""
        while self._more() == ",":
            self.places.note(
                self.at, frame.pointer, "something is missing before this comma", "take the comma out"
            )
            self.at += 1
            self._space()

    def _comma(self, frame: _Frame) -> None:
        """What separates a value from the next, or is about to end the object or array."""
        end = self.at
        self._space()
        if self._more() == ",":
            comma, self.at = self.at, self.at + 1
            self._space()
            if self._more() in "}]":
                self.places.note(
                    comma, frame.pointer, "a comma may not follow the last entry", "take the comma out"
                )
        elif self.text[self.at] not in "}]":
            if self.text[self.at] not in "\"'{[-0123456789" and not is_word(self.text[self.at]):
                raise SyntaxStopError(
                    self.at, f"a comma or {frame.closer()} is expected here", value=self.text[self.at]
                )
            self.places.note(end, frame.pointer, "a comma is missing here")

    def _name(self, frame: _Frame) -> None:
        """A member's name and its colon."""
        start = self.at
        frame.member = self._string(frame.pointer) if self.text[start] in "\"'" else self._bare_name(frame)
        pointer = frame.inner()
        if frame.member in frame.seen:
            line, column = self.places.position(frame.seen[frame.member])
            self.places.note(
                start,
                pointer,
                f"stands twice in one object, first at {line}:{column}",
                "keep one of the two",
                self.text[start : self.at],
            )
            self.places.forget(pointer)
        frame.seen.setdefault(frame.member, start)
        self.places.names[pointer] = start
        self._colon(frame, pointer)

    def _bare_name(self, frame: _Frame) -> str:
        start = self.at
        while self.at < len(self.text) and is_word(self.text[self.at]):
            self.at += 1
        name = self.text[start : self.at]
        if not name:
            raise SyntaxStopError(
                start, "the name of a member is expected here", self._opened(), self.text[start]
            )
        self.places.note(
            start, frame.pointer, "the name of a member must stand in double quotes", f'"{name}"', name
        )
        return name

    def _colon(self, frame: _Frame, pointer: str) -> None:
        end = self.at
        self._space()
        if self._more() == ":":
            self.at += 1
        else:
            self.places.note(end, pointer, "a colon is missing after the name")
            self.at += self.text[self.at] == "="
        self._space()
        if self._more() in ",}":
            raise SyntaxStopError(self.at, f"the value of {frame.member} is missing")

    # -- between ---------------------------------------------------------------------------------------------

    def _more(self) -> str:
        if self.at >= len(self.text):
            raise SyntaxStopError(self.at, "the document ends too early", self._opened())
        return self.text[self.at]

    def _opened(self) -> str:
        if not self.stack:
            return ""
        line, column = self.places.position(self.stack[-1].start)
        return f"inside the {self.text[self.stack[-1].start]} of line {line}, column {column}"

    def _space(self) -> None:
        """Skip white space, and with a fault comments."""
        while self.at < len(self.text):
            if self.text[self.at] in " \t\n\r":
                self.at += 1
            elif self.text[self.at] == "#" or self.text.startswith(("//", "/*"), self.at):
                self._comment()
            else:
                return

    def _comment(self) -> None:
        start, block = self.at, self.text.startswith("/*", self.at)
        end = self.text.find("*/" if block else "\n", start)
        if end < 0 and block:
            raise SyntaxStopError(start, "this comment does not end; JSON has no comments")
        self.at = len(self.text) if end < 0 else end + 2 * block
        self.places.note(
            start, self.pointer(), "JSON has no comments", "take it out", self.text[start : self.at]
        )


class _Noter:
    """Notes faults inside one string or number."""

    __slots__ = ("places", "pointer")

    def __init__(self, places: Places, pointer: str) -> None:
        self.places = places
        self.pointer = pointer

    def __call__(self, offset: int, rule: str, hint: str, value: str) -> None:
        self.places.note(offset, self.pointer, rule, hint, value)
