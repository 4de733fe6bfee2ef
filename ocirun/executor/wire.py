"""The wire form of a plan and of the helper's reports: little-endian, 4-aligned, length-checked on both
sides.

The layout is told in docs/verbs.md; the kinds of arguments are
those of ocirun.plan.table.
"""

from __future__ import annotations

from ocirun.plan.steps import TABLE_DIGEST, VERBS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ocirun.plan.compile import Program
    from ocirun.plan.model import Argument, Step

_MAGIC = 0x3150434F
_PAD = (b"", b"\0\0\0", b"\0\0", b"\0")


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _text(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogateescape")
    body = raw + b"\0"
    return _u32(len(raw)) + body + _PAD[len(body) & 3]


def _bytes(value: bytes) -> bytes:
    return _u32(len(value)) + value + _PAD[len(value) & 3]


def _argument(kind: str, value: Argument, slots: Mapping[str, int]) -> bytes:
    """One argument; its Python type says almost all, the letter of the signature the rest."""
    if isinstance(value, str):
        return _u32(slots[value]) if kind in "to" else _text(value)
    if isinstance(value, int):
        return value.to_bytes(8 if kind == "L" else 4, "little", signed=kind == "i")
    if isinstance(value, bytes):
        return _bytes(value)
    items = [_text(item) if isinstance(item, str) else _u32(item) for item in value]
    return _u32(len(items)) + b"".join(items)


def _record(index: int, step: Step, slots: Mapping[str, int]) -> bytes:
    number, _, signature, _ = VERBS[step.verb]
    body = b"".join([_argument(kind, value, slots) for kind, value in zip(signature, step.args, strict=True)])
    return _u32(8 + len(body)) + number.to_bytes(2, "little") + index.to_bytes(2, "little") + body


def encode(program: Program) -> bytes:
    """The bytes the helper reads: header (magic, size, digest of the table, counts), then the records."""
    records = b"".join([_record(index, step, program.slots) for index, step in program.records])
    counts = _u32(len(program.records)) + _u32(len(program.slots))
    return _u32(_MAGIC) + _u32(32 + len(records)) + TABLE_DIGEST + counts + records


#: Kinds of reports.
BORN, FAILED, MEET, READY, WARNING, DONE, LISTENER = 1, 2, 3, 4, 5, 6, 7


class Report:
    """One packet of the helper: what happened at which step, with an errno or a value and two texts."""

    __slots__ = ("errno", "kind", "operation", "path", "step", "value")

    def __init__(self, packet: bytes) -> None:
        self.kind = int.from_bytes(packet[0:4], "little")
        self.step = int.from_bytes(packet[4:8], "little")
        self.errno = int.from_bytes(packet[8:12], "little", signed=True)
        self.value = int.from_bytes(packet[12:16], "little")
        operation, _, path = packet[16:].partition(b"\0")
        self.operation = operation.decode("utf-8", "replace")
        self.path = path.rstrip(b"\0").decode("utf-8", "replace")
