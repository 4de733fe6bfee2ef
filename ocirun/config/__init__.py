"""Read config.json: bytes in, a checked document out, or every fault at once.

The way of a sound document is short: the quick scanner, the generated checker of the schema, the rules
across members; nothing else is imported.  Only a fault, or a member that the schema does not know, calls
the slow way (``diagnosis``), which scans a second time to learn lines and columns.
"""

from __future__ import annotations

import posix

from ocirun_spec.checker import check, check_process

from ocirun import full
from ocirun.config.rules import check_process_rules, check_rules
from ocirun.errors import EXHAUSTED, ConfigError, Fault, words_of
from ocirun.files import read_whole
from ocirun.jsonscan import scan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from ocirun_spec.checker import Fault as Broken
    from ocirun_spec.checker import Json, Unknown
    from ocirun_spec.types import Config

    from ocirun.config.access import Found
    from ocirun.config.positions import Places
    from ocirun.errors import OcirunError

    #: A check of the schema: the fast one, or the one by jsonschema.
    Check: TypeAlias = Callable[[Json, Broken, Unknown], None]

#: How deep objects and arrays may stand in one another; the specification itself needs eight levels.
DEPTH = 512
#: Up to this size a config is read by an interpreter whose hashes of text are known (native/snapshot.c):
#: names that were chosen to have the same ones cost half a second at most.
HASHED = 1 << 18
#: The greatest size of a config.json: what is larger is a mistake or an attack on our memory.
SIZE = 16 << 20


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


def _check_object(value: Json, fault: Broken, unknown: Unknown) -> None:
    del unknown
    if not isinstance(value, dict):
        fault("", "must be a JSON object, the resources of a config.json", value)


_RESOURCES = Part("/linux/resources", "Resources", _check_object, lambda _value, _found: None)


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

    def locate(self, wrong: OcirunError | Fault) -> None:
        """Fill in line, column and value of faults that were found later and know their pointers only; of an
        error without faults, line and column.

        Pointers of faults into a config become those of the part, where the document is one.
        """
        if isinstance(wrong, Fault):
            wrong.pointer = wrong.pointer.removeprefix(self._part.at)
            if wrong.pointer[:1] in ("", "/"):
                self._scanned().locate(wrong)
            return
        if not isinstance(wrong, ConfigError):
            if wrong.pointer:
                wrong.line, wrong.column = self.place(wrong.pointer)
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


def read_resources(source: bytes, name: str) -> dict[str, Json]:
    """The Resources object that ``source`` holds, for an update: that judges it, by what there is already.

    Raises ConfigError with every fault of the syntax, each with its place in the file ``name``.
    """
    value, sound = parse(source)
    if not sound or not isinstance(value, dict):
        from ocirun.config.diagnosis import diagnose

        value, _ = diagnose(source, name, _RESOURCES)
    assert isinstance(value, dict)
    return value


def load(path: str, part: Part = WHOLE) -> Document:
    """Read the file ``path``, which must be ``part``; errors call it by this path.

    A part of a config may come through a pipe.  Raises ConfigError: ``config-unreadable`` when there is no
    such file or it cannot be read, else as ``read``.
    """
    return read(load_bytes(path, bundled=part is WHOLE), path, part)


def load_bytes(path: str, *, bundled: bool = True) -> bytes:
    """What the file ``path`` holds; raises ConfigError ``config-unreadable`` when it cannot be read.

    Without ``bundled`` it is no config.json of a bundle but a file that a flag names: it may be a pipe, which
    is waited for and read to its end.
    """
    # O_NONBLOCK: a FIFO that nobody writes to must give an error, not hang us
    try:
        handle = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
        try:
            return _contents(path, handle, bundled=bundled)
        finally:
            posix.close(handle)
    except OSError as error:
        number = error.errno or 0
        hint = _denied(path, number) or _hint(number, bundled=bundled)
        raise _unreadable(path, "", hint, number) from error


def _contents(path: str, handle: int, *, bundled: bool) -> bytes:
    kind = posix.fstat(handle).st_mode & _S_IFMT
    if bundled and kind != _S_IFREG:
        raise _unreadable(path, "is not a regular file", "name the file config.json of a bundle")
    if kind not in (_S_IFREG, _S_IFIFO):
        raise _unreadable(path, "is neither a regular file nor a pipe", "")
    if kind == _S_IFIFO:
        posix.set_blocking(handle, True)
    content = read_whole(handle, SIZE)
    if len(content) > SIZE:
        raise _unreadable(path, f"is larger than {SIZE >> 20} MiB", "such a file has some kilobytes")
    if bundled and len(content) > HASHED:
        full.become_full()
    return content


# stat(2), without the import
_S_IFMT, _S_IFREG, _S_IFIFO = 0o170000, 0o100000, 0o010000
# errno(3), without the import
_ENOENT, _EACCES, _EMFILE, _ENOTDIR = 2, 13, 24, 20
_HINTS = {
    _ENOENT: "a bundle is a directory with a config.json; `ocirun spec` writes a config.json",
    _EACCES: "its permissions do not let this user read it",
    _EMFILE: EXHAUSTED[_EMFILE],
    _ENOTDIR: "a part of the path is a file, not a directory",
}


def _hint(errno: int, *, bundled: bool) -> str:
    if errno == _ENOENT and not bundled:
        return "it is looked for on the host, not in the container"
    return _HINTS.get(errno, "")


def _denied(path: str, errno: int) -> str:
    """Which directory or file denies ``path``, "" where it is not that."""
    if errno != _EACCES:
        return ""
    from ocirun.walk import why_denied

    return why_denied(path)


def _unreadable(path: str, rule: str, hint: str, errno: int = 0) -> ConfigError:
    told = f"cannot be read: {words_of(errno)}" if errno else rule
    error = ConfigError([Fault("", told, hint=hint)], name=path, code="config-unreadable")
    error.errno, error.path, error.operation = errno, path, "open"
    return error


# -- the fast way --------------------------------------------------------------------------------------------


def parse(source: bytes) -> tuple[Json, bool]:
    """What ``source`` holds, and whether it is sound JSON text, each member named once; never raises."""
    try:
        text = source.decode()
        value, unique = scan(text)
    except (ValueError, RecursionError):
        return None, False
    return value, unique and not _suspect(text) and not _deep(text, value)


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
