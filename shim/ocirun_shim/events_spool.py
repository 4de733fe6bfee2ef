"""The spool of a container's events: the file ``events`` in its bundle.

An event is written there before it is sent, and marked once containerd has it; so it survives a shim that is
killed.  A record is a header and a payload: length and CRC-32 of the payload, kind, number.  A record is one
write(2); one that a crash cut short has not been there.  The bundle lives in a tmpfs and goes with the host,
as containers do: nothing is synced.
"""

from __future__ import annotations

import os
import struct
import zlib

NAME = "events"
_HEADER = struct.Struct(">IIBQ")
_EVENT, _MARK = 1, 2
#: No event is larger: it has to fit into a frame of ttrpc.
_LARGEST = 4 << 20


def append(bundle: str, number: int, payload: bytes) -> bool:
    """Writes an event; False when the bundle is gone or its file system does not take it."""
    return _write(bundle, _EVENT, number, payload, os.O_CREAT)


def mark(bundle: str, number: int) -> None:
    """The event of this number has been taken, or refused for good; a spool that is gone needs no mark."""
    _write(bundle, _MARK, number, b"", 0)


def clear(bundle: str) -> None:
    """All events have been taken: what the spool needs does not grow with the life of a container."""
    try:
        os.close(os.open(_path(bundle), os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC))
    except OSError:
        return  # the bundle is gone


def unmarked(bundle: str) -> list[tuple[int, bytes]]:
    """Numbers and payloads of the events that nobody has taken, in order."""
    try:
        fd = os.open(_path(bundle), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return []
    with open(fd, "rb") as file:
        data = file.read()
    events: dict[int, bytes] = {}
    for kind, number, payload in _records(data):
        if kind == _EVENT:
            events[number] = payload
        else:
            events.pop(number, None)
    return list(events.items())


def _path(bundle: str) -> str:
    return os.path.join(bundle, NAME)


def _write(bundle: str, kind: int, number: int, payload: bytes, flags: int) -> bool:
    data = _HEADER.pack(len(payload), zlib.crc32(payload), kind, number) + payload
    try:
        fd = os.open(_path(bundle), flags | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return False
    try:
        written = os.write(fd, data)
        if written < len(data):  # no room: half a record would hide those that come after it
            os.ftruncate(fd, os.fstat(fd).st_size - written)
    except OSError:
        return False
    finally:
        os.close(fd)
    return written == len(data)


def _records(data: bytes) -> list[tuple[int, int, bytes]]:
    """Kind, number and payload of every record, up to the first that is not whole."""
    found: list[tuple[int, int, bytes]] = []
    start = 0
    while start + _HEADER.size <= len(data):
        length, checksum, kind, number = _HEADER.unpack_from(data, start)
        start += _HEADER.size
        payload = data[start : start + length]
        if length > _LARGEST or len(payload) < length or zlib.crc32(payload) != checksum:
            break
        start += length
        found.append((kind, number, payload))
    return found
