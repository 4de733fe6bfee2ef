"""The slow way of reading: every fault with its place, and the members that look misspelt."""

from __future__ import annotations

from ocirun_spec.checker import escape
from ocirun_spec.members import MEMBERS

from ocirun.config import DEPTH, WHOLE, place_of
from ocirun.config.positions import Places, scan
from ocirun.config.spelling import misspelt, placed
from ocirun.errors import ConfigError, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ocirun_spec.checker import Json

    from ocirun.config import Check, Part

BOM = b"\xef\xbb\xbf"


def diagnose(source: bytes, name: str, part: Part) -> tuple[Json, tuple[Fault, ...]]:
    """The value of ``source``, which must be ``part``, and its warnings; raises ConfigError with every fault,
    sorted by place."""
    value, faults, warnings = examine(source, part.check, part)
    if faults:
        raise ConfigError(faults, name=name)
    return value, tuple(warnings)


def examine(source: bytes, check: Check, part: Part = WHOLE) -> tuple[Json, list[Fault], list[Fault]]:
    """The value of ``source``, its faults and its warnings, both in the order of the document; a value with
    faults is not whole any more.

    ``check`` judges by the schema, in place of the one of ``part``.
    """
    text, faults = _text(source)
    if text is None:
        return None, faults, []
    places = scan(text, DEPTH)
    faults += places.faults
    warnings: list[Fault] = []
    if places.whole:
        collector = _Collector(places, faults, part)
        strangers: list[tuple[str, str]] = []
        check(places.value, collector.broken, lambda pointer, kind: strangers.append((pointer, kind)))
        warnings = [placed(warning, places) for warning in misspelt(places.value, strangers)]
        for pointer, rule, hint in _no_text(places.value, part.kind):
            collector.found(pointer, rule, hint)
        part.rules(_nulled(places.value, collector.of_schema), collector.found)
    return places.value, sorted(faults, key=place_of), sorted(warnings, key=place_of)


def _text(source: bytes) -> tuple[str | None, list[Fault]]:
    """The text of the file: a byte order mark is a fault and passed over, other encodings end the matter."""
    faults: list[Fault] = []
    if source.startswith(BOM):
        faults.append(
            Fault(
                "",
                "must not begin with a byte order mark",
                hint="save it as UTF-8 without it",
                line=1,
                column=1,
            )
        )
        source = source[len(BOM) :]
    try:
        return source.decode(), faults
    except UnicodeDecodeError as error:
        before = source[: error.start].decode()
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        value = " ".join(f"{byte:02x}" for byte in source[error.start : error.end])
        faults.append(
            Fault("", "must be UTF-8", value=value, hint=_encoding(source), line=line, column=column)
        )
        return None, faults


def _nulled(value: Json, wrong: Iterable[str]) -> Json:
    """``value`` itself, with null for what the schema refused: rules pass over that, so that a wrong value
    makes no faults of its neighbours."""
    for pointer in wrong:
        if not pointer:
            return None
        *above, last = [part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/")]
        holder = value
        for part in above:
            holder = _inner(holder, part)
        if isinstance(holder, list):
            holder[int(last)] = None
        elif isinstance(holder, dict) and last in holder:
            holder[last] = None
    return value


def _inner(holder: Json, part: str) -> Json:
    if isinstance(holder, list):
        return holder[int(part)]
    return holder.get(part) if isinstance(holder, dict) else None


def _encoding(source: bytes) -> str:
    looks = source[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in source[:4]
    return "it looks like UTF-16: save it as UTF-8" if looks else "save it as UTF-8"


class _Collector:
    """Takes faults of the value and gives them their places.

    What the syntax already told of a value is not told again, and of two faults of one value the schema's
    wins.
    """

    def __init__(self, places: Places, faults: list[Fault], part: Part) -> None:
        self.part = part
        self.places = places
        self.faults = faults
        self.told = {fault.pointer for fault in faults if fault.pointer}
        self.of_schema: set[str] = set()

    def broken(self, pointer: str, rule: str, value: Json) -> None:
        """A fault that the schema found."""
        if pointer in self.told or pointer in self.of_schema:
            return
        hint = described(self.part.at + pointer)
        if value is None and pointer in self.places.spans:
            hint = "null is not allowed: leave the member out"
        self.of_schema.add(pointer)
        self._add(pointer, rule, hint)

    def found(self, pointer: str, rule: str, hint: str) -> None:
        """A fault that a rule across members found."""
        if pointer not in self.told and pointer not in self.of_schema:
            self._add(pointer, rule, hint)

    def _add(self, pointer: str, rule: str, hint: str) -> None:
        fault = Fault(pointer, rule, hint=hint)
        self.places.locate(fault)
        self.faults.append(fault)


# -- what a member is ----------------------------------------------------------------------------------------


def described(pointer: str) -> str:
    """The description of the member at ``pointer``, or of the nearest above it that has one."""
    kind, description = "Config", ""
    for part in pointer.split("/")[1:]:
        if kind[:1] in ("[", "{"):
            kind = kind[1:]
        elif part in MEMBERS.get(kind, {}):
            kind, description = MEMBERS[kind][part]
        else:
            return description
    return description


# -- strings that are no text --------------------------------------------------------------------------------


def _no_text(value: Json, of: str) -> Iterator[tuple[str, str, str]]:
    """Faults of strings in known members: NUL ends a C string early, half a surrogate pair is no
    character."""
    pending: list[tuple[str, str, Json]] = [("", of, value)]
    while pending:
        pointer, kind, item = pending.pop()
        if isinstance(item, str):
            yield from _bad_string(pointer, item)
        elif isinstance(item, list):
            pending += [
                (f"{pointer}/{index}", kind.removeprefix("["), inner) for index, inner in enumerate(item)
            ]
        elif isinstance(item, dict):
            pending += _inside(pointer, kind, item)
            for name in item:
                if kind not in MEMBERS:
                    yield from _bad_string(f"{pointer}/{escape(name)}", name)


def _inside(pointer: str, kind: str, item: dict[str, Json]) -> list[tuple[str, str, Json]]:
    if kind not in MEMBERS:
        return [(f"{pointer}/{escape(name)}", kind.removeprefix("{"), inner) for name, inner in item.items()]
    known = MEMBERS[kind]
    return [(f"{pointer}/{name}", known[name][0], inner) for name, inner in item.items() if name in known]


def _bad_string(pointer: str, text: str) -> Iterator[tuple[str, str, str]]:
    if "\0" in text and not pointer.startswith("/annotations/"):
        yield pointer, "must not have a NUL character in it", "the kernel would read it only up to there"
    elif any(0xD800 <= ord(character) <= 0xDFFF for character in text):
        yield pointer, "must be text", "\\ud800 to \\udfff stand in pairs only"
