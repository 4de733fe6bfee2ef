"""The messages of criu's RPC: the few kinds of fields that it uses, in the encoding of protocol buffers.

criu reads and writes one message of proto2 a packet (criu.org/RPC, images/rpc.proto).  There are numbers,
which are varints (wire type 0), and what has a length: texts and messages in messages (wire type 2).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    #: A field by its number: a number or a switch, a text, or another message.
    Field: TypeAlias = tuple[int, "int | str | bytes"]

_VARINT, _LENGTH = 0, 2
#: What else there could be, and is not: fixed numbers of 8 and of 4 bytes.
_FIXED = {1: 8, 5: 4}
_BITS = 64


def encode(fields: Iterable[Field]) -> bytes:
    """A message of these ``fields``; numbers are not negative."""
    return b"".join([_field(number, value) for number, value in fields])


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(int(value))
    content = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    return _varint(number << 3 | _LENGTH) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; all but the last have the eighth bit."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*found, value))


class Message:
    """A message that was read: of each field the last value counts, as proto2 has it."""

    __slots__ = ("_numbers", "_texts")

    def __init__(self, data: bytes) -> None:
        """Raises ValueError for what is no message."""
        self._numbers: dict[int, int] = {}
        self._texts: dict[int, bytes] = {}
        at = 0
        while at < len(data):
            key, at = _read_varint(data, at)
            number, kind = key >> 3, key & 7
            if kind == _VARINT:
                self._numbers[number], at = _read_varint(data, at)
                continue
            size, at = _read_varint(data, at) if kind == _LENGTH else (_FIXED.get(kind, -1), at)
            if size < 0 or at + size > len(data):
                raise ValueError("not a message of criu")
            if kind == _LENGTH:
                self._texts[number] = data[at : at + size]
            at += size

    def number(self, field: int) -> int:
        """The number in ``field``, 0 where it is not there; an int32 that is negative is so here."""
        value = self._numbers.get(field, 0)
        return value - (1 << _BITS) if value >> (_BITS - 1) else value

    def text(self, field: int) -> str:
        """The text in ``field``, "" where it is not there."""
        return self._texts.get(field, b"").decode("utf-8", "replace")

    def message(self, field: int) -> Message:
        """The message in ``field``, one without fields where it is not there."""
        return Message(self._texts.get(field, b""))


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends."""
    value = 0
    for shift in range(0, _BITS + 6, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("not a message of criu")
