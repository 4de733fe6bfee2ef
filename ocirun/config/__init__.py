"""Read config.json: bytes in, a checked document out, or every fault at once.

The way of a sound document is short: the C scanner of CPython, the generated checker of the schema, the rules
across members; nothing else is imported.  Only a fault, or a member that the schema does not know, calls
the slow way (``diagnosis``), which scans a second time to learn lines and columns.
"""

from __future__ import annotations

import posix
from _json import make_scanner

from ocirun_spec.checker import check, check_process

from ocirun.config.rules import check_process_rules, check_rules
from ocirun.errors import ConfigError, Fault
from ocirun.files import read_whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from ocirun_spec.checker import Fault as Broken
    from ocirun_spec.checker import Json, Unknown
    from ocirun_spec.types import Config

    from ocirun.config.access import Found
    from ocirun.config.positions import Places

    #: A check of the schema: the fast one, or the one by jsonschema.
    Check: TypeAlias = Callable[[Json, Broken, Unknown], None]

#: How deep objects and arrays may stand in one another; the specification itself needs eight levels.
DEPTH = 512
#: The greatest size of a config.json: what is larger is a mistake or an attack on our memory.
SIZE = 16 << 20
SPACE = " \t\n\r"


class Part:
    """What a document holds: a whole config, or a part of one that stands for itself.

    ``at`` is the pointer of the part in a config, ``kind`` its name in the schema; ``check`` and ``rules``
    judge it, with pointers that begin at the part.
    """

    __slots__ = ("at", "check", "kind", "rules")

    def __init__(self, at: str, kind: str, check: Check, rules: Callable[[Json, Found], None]) -> None:
        self.at = at
        self.kind = kind
        self.check = check
        self.rules = rules


WHOLE = Part("", "Config", check, check_rules)
PROCESS = Part("/process", "Process", check_process, check_process_rules)


class Document:
    """A config.json that was read: what it says, and where it says it.

    ``config`` is the checked content, ``warnings`` the members that look misspelt, ``source`` the bytes
    read and ``name`` what errors call the file.  Of a document that is a part of a config, ``config`` has
    just that part.
    """

    __slots__ = ("_part", "_places", "config", "name", "source", "warnings")

    def __init__(
        self, config: Config, source: bytes, name: str, warnings: tuple[Fault, ...] = (), part: Part = WHOLE
    ) -> None:
        self.config = config
        self.source = source
        self.name = name
        self.warnings = warnings
        self._part = part
        self._places: Places | None = None

    def place(self, pointer: str) -> tuple[int, int]:
        """Line and column, from 1, of the member at ``pointer``, or where it is absent of what would hold
        it; (0, 0) for what is no pointer: it tells of what a caller gave beside the document."""
        if pointer and pointer[0] != "/":
            return 0, 0
        return self._scanned().place(pointer.removeprefix(self._part.at))

    def locate(self, wrong: ConfigError | Fault) -> None:
        """Fill in line, column and value of faults that were found later and know their pointers only.

        Pointers into a config become those of the part, where the document is one.
        """
        if isinstance(wrong, Fault):
            wrong.pointer = wrong.pointer.removeprefix(self._part.at)
            if wrong.pointer[:1] in ("", "/"):
                self._scanned().locate(wrong)
            return
        for fault in wrong.faults:
            self.locate(fault)
        ordered = ConfigError(sorted(wrong.faults, key=place_of), name=self.name, code=wrong.code)
        wrong.faults, wrong.message, wrong.name = ordered.faults, ordered.message, ordered.name
        wrong.pointer, wrong.hint, wrong.args = ordered.pointer, ordered.hint, ordered.args

    def warn(self, warnings: list[Fault]) -> None:
        """Take warnings that know their pointers only; their places are those of the members' names."""
        if warnings:
            from ocirun.config.spelling import placed

            found = [placed(warning, self._scanned()) for warning in warnings]
            self.warnings = tuple(sorted(found, key=place_of))

    def _scanned(self) -> Places:
        if self._places is None:
            from ocirun.config.positions import scan

            self._places = scan(self.source.decode(), DEPTH)
        return self._places


def place_of(fault: Fault) -> tuple[int, int]:
    """The key that sorts faults into the order of the document."""
    return fault.line, fault.column


def read(source: bytes, name: str = "config.json", part: Part = WHOLE) -> Document:
    """The document that ``source`` holds; ``name`` is what errors call it, ``part`` what it must be.

    Raises ConfigError with every fault, in the order of the document: of the syntax (RFC 8259, and no
    member name twice), of types and values (config-schema.json), and across members (``rules``).
    """
    value, sound = parse(source)
    if sound:
        wrong: list[str] = []
        strangers: list[tuple[str, str]] = []

        def note(pointer: str, _rule: str, _more: Json) -> None:
            wrong.append(pointer)

        part.check(value, note, lambda pointer, kind: strangers.append((pointer, kind)))
        part.rules(value, note)
        if not wrong:
            return _sound(value, source, name, strangers, part)
    from ocirun.config.diagnosis import diagnose

    value, warnings = diagnose(source, name, part)
    return Document(_checked(value, part), source, name, warnings, part)


def _sound(value: Json, source: bytes, name: str, strangers: list[tuple[str, str]], part: Part) -> Document:
    """The document of a sound ``value``; the places of its warnings are looked for only if there are any."""
    document = Document(_checked(value, part), source, name, (), part)
    if strangers:
        from ocirun.config.spelling import misspelt

        document.warn(misspelt(value, strangers))
    return document


def load(path: str, part: Part = WHOLE) -> Document:
    """Read the file ``path``, which must be ``part``; errors call it by this path.

    Raises ConfigError: ``config-unreadable`` when there is no such file or it cannot be read, else as
    ``read``.
    """
    return read(load_bytes(path), path, part)


def load_bytes(path: str) -> bytes:
    """What the file ``path`` holds; raises ConfigError ``config-unreadable`` when it cannot be read."""
    try:
        # O_NONBLOCK: a FIFO in place of the file must give an error, not hang us
        handle = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
        try:
            return _contents(path, handle)
        finally:
            posix.close(handle)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error), "", error.errno or 0) from error


def _contents(path: str, handle: int) -> bytes:
    status = posix.fstat(handle)
    if status.st_mode & 0o170000 != 0o100000:
        raise _unreadable(path, "is not a regular file", "name the file config.json of a bundle")
    content = read_whole(handle, SIZE)
    if len(content) > SIZE:
        raise _unreadable(path, f"is larger than {SIZE >> 20} MiB", "a config.json has some kilobytes")
    return content


# errno(3), without the import
_ENOENT, _EACCES, _ENOTDIR = 2, 13, 20
_HINTS = {
    _ENOENT: "a bundle is a directory with a config.json; `ocirun spec` writes a config.json",
    _EACCES: "its permissions do not let this user read it",
    _ENOTDIR: "a part of the path is a file, not a directory",
}


def _unreadable(path: str, rule: str, hint: str, errno: int = 0) -> ConfigError:
    told = f"cannot be read: {rule[:1].lower()}{rule[1:]}" if errno else rule
    error = ConfigError(
        [Fault("", told, hint=hint or _HINTS.get(errno, ""))], name=path, code="config-unreadable"
    )
    error.errno, error.path, error.operation = errno, path, "open"
    return error


# -- the fast scanner ----------------------------------------------------------------------------------------


class _Scanning:
    """What the C scanner asks of its context, and a flag for what it lets pass but JSON or we do not."""

    strict = True
    object_hook = None
    parse_float = float
    parse_int = int

    def __init__(self) -> None:
        self.memo: dict[str, str] = {}
        self.sound = True
        self.object_pairs_hook = self.members
        self.parse_constant = self.constant

    def members(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """An object; one with a name twice makes the document unsound."""
        found = dict(pairs)
        if len(found) != len(pairs):
            self.sound = False
        return found

    def constant(self, _name: str) -> None:
        """NaN and Infinity: Python's invention, not JSON."""
        self.sound = False


def parse(source: bytes) -> tuple[Json, bool]:
    """What ``source`` holds, and whether it is sound JSON text as far as the C scanner tells; never
    raises."""
    # typeshed asks for a make_scanner as the context; the C code reads the attributes that _Scanning has
    context: Any = _Scanning()
    try:
        text = source.decode()
        start = len(text) - len(text.lstrip(SPACE))
        value, end = make_scanner(context)(text, start)
    except (ValueError, StopIteration, RecursionError, SystemError):
        # SystemError: to raise its error the scanner wants json.decoder, which is not loaded and must not be
        return None, False
    sound = context.sound and not text[end:].strip(SPACE) and not _suspect(text) and not _deep(text, value)
    return value, sound


def _suspect(text: str) -> bool:
    """Whether escapes may stand for NUL, which ends a C string, or half a surrogate pair, which is no
    text."""
    return "\\u" in text and ("\\u0000" in text or "\\ud" in text or "\\uD" in text)


def _deep(text: str, value: Json) -> bool:
    """Whether objects and arrays stand in one another deeper than DEPTH."""
    if text.count("[") + text.count("{") <= DEPTH:
        return False
    level: list[Json] = [value]
    for _ in range(DEPTH):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _inner(outer)]
    return any(isinstance(outer, dict | list) for outer in level)


def _inner(outer: dict[str, Json] | list[Json]) -> list[Json]:
    return list(outer.values()) if isinstance(outer, dict) else outer


def _checked(value: Json, part: Part) -> Config:
    """``value`` as the type that the checker has proved it to be: a config, or ``part`` of one."""
    proved: Any = {part.at[1:]: value} if part.at else value
    config: Config = proved
    return config
