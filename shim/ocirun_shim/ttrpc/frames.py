"""Frames of ttrpc: a header of length, stream, kind and flags in network order, then data (PROTOCOL.md)."""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

#: The most bytes of data that a frame may carry.
LIMIT = 4 << 20

REQUEST, RESPONSE, DATA = 1, 2, 3

#: The sender sends no more on this stream; it will send more; the frame carries no message.
REMOTE_CLOSED, REMOTE_OPEN, NO_DATA = 0x01, 0x02, 0x04

#: Length of the data, stream, kind, flags.
HEADER = struct.Struct(">IIBB")


class Frame:
    """A whole frame; ``kind`` and ``flags`` may be any byte, also one that no version of ttrpc defines."""

    __slots__ = ("data", "flags", "kind", "stream")

    def __init__(self, stream: int, kind: int, flags: int, data: bytes) -> None:
        self.stream = stream
        self.kind = kind
        self.flags = flags
        self.data = data


class Oversize:
    """A frame of ``length`` bytes, more than LIMIT; its data is thrown away as it comes."""

    __slots__ = ("flags", "kind", "length", "stream")

    def __init__(self, stream: int, kind: int, flags: int, length: int) -> None:
        self.stream = stream
        self.kind = kind
        self.flags = flags
        self.length = length


if TYPE_CHECKING:
    Received: TypeAlias = Frame | Oversize


class Parser:
    """Cuts a stream of bytes into frames.

    It holds at most one unfinished frame, LIMIT bytes and a header, beside what ``feed`` was last given.
    """

    __slots__ = ("_buffer", "_skip")

    def __init__(self) -> None:
        self._buffer = bytearray()
        #: How many bytes of an oversize frame are still to come.
        self._skip = 0

    def feed(self, data: bytes) -> list[Received]:
        """The frames that ``data`` completes, oversize ones as soon as the header is there; never raises."""
        found: list[Received] = []
        self._buffer += data
        start = self._skipped(0)
        while len(self._buffer) - start >= HEADER.size:
            length, stream, kind, flags = HEADER.unpack_from(self._buffer, start)
            body = start + HEADER.size
            if length > LIMIT:
                found.append(Oversize(stream, kind, flags, length))
                self._skip = length
                start = self._skipped(body)
                continue
            if len(self._buffer) - body < length:
                break
            start = body + length
            found.append(Frame(stream, kind, flags, bytes(memoryview(self._buffer)[body:start])))
        del self._buffer[:start]  # moves the start of a bytearray, and copies nothing that is left
        return found

    @property
    def empty(self) -> bool:
        """Whether no frame is half here."""
        return not self._buffer and not self._skip

    def _skipped(self, start: int) -> int:
        """Where the rest of an oversize frame that begins at ``start`` ends, as far as it is here."""
        here = min(self._skip, len(self._buffer) - start)
        self._skip -= here
        return start + here


class Outgoing:
    """Frames on their way out, in order."""

    __slots__ = ("_out",)

    def __init__(self) -> None:
        self._out = bytearray()

    def take(self) -> bytes:
        """All that is to be sent; whoever takes it sends it."""
        taken = bytes(self._out)
        self._out.clear()
        return taken

    def pending(self) -> int:
        """How many bytes ``take`` would give."""
        return len(self._out)

    def _put(self, stream: int, kind: int, data: bytes, flags: int = 0) -> None:
        self._out += HEADER.pack(len(data), stream, kind, flags)
        self._out += data
