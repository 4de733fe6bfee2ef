"""Puts a snapshot of its own interpreter into a launcher just linked: snapshot.c says what that is."""

from __future__ import annotations

import contextlib
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

WORD = "--take-snapshot"  # launcher.h
#: What planning is rehearsed with (ocirun/rehearsal.py).
_CONFIG = Path(__file__).resolve().parents[1] / "cli/default-config.json"
_PATIENCE = 60  # seconds; it takes a tenth of one
#: What the program writes first: where its variables begin and end, where its room does, and where
#: something of the C library lies.
_BOUNDS = struct.Struct("<5Q")
#: What it writes when it has one: where the table of pages is to be, and the address of the first page.
_FOOTPRINT = struct.Struct("<2Q")
_RANGE = struct.Struct("<2Q")
_RANGES = 160  # snapshot.c
#: A page between two that are written is copied with them: a call of madvise(2) costs as much as a page.
_GAP = 2
_PAGE = 4096
#: The module time asks for the zone while it is imported: without this, from /etc/localtime of the build.
#: Forgotten in ocirun/core.py.
ENVIRONMENT = {"TZ": "UTC0"}
#: proc_pid_pagemap(5): the page is there; it is one of the file still, or of other shared memory.
_PRESENT, _OF_FILE = 1 << 63, 1 << 61
_ADDR_NO_RANDOMIZE = 0x0040000  # personality(2)

#: elf(5), of 64 bits: where the header says where the tables are, and one program header.
_SEGMENTS_AT, _SEGMENT_COUNT_AT, _SECTIONS_AT, _SECTION_COUNT_AT = 0x20, 0x38, 0x28, 0x3C
_SEGMENT = struct.Struct("<IIQQQQQQ")
_PT_LOAD = 1


class SnapshotError(Exception):
    """No snapshot can be taken of this program; the message says why."""


class Piece(NamedTuple):
    """What stands from an address on."""

    start: int
    content: bytes


class Segment(NamedTuple):
    """A program header (elf(5)) and where in the file it stands."""

    at: int
    kind: int
    flags: int
    offset: int
    address: int
    physical: int
    in_file: int
    in_memory: int
    alignment: int


class Taken(NamedTuple):
    """What a program wrote out of its memory, and an address that is none of its own."""

    pieces: list[Piece]
    elsewhere: int


def put_into(program: Path) -> None:
    """Takes a snapshot of ``program`` and writes it into its file; raises SnapshotError, OSError."""
    taken, again = take(program, _same_addresses), take(program, _other_addresses)
    for address, one, other in differences(taken.pieces, again.pieces):
        message = f"{program.name} has {one:#x} at {address:#x}, and {other:#x} when it runs again"
        raise SnapshotError(message)
    if taken.elsewhere == again.elsewhere:  # then a pointer that leads there would not differ either
        message = f"two runs of {program.name} had the same addresses (kernel.randomize_va_space)"
        raise SnapshotError(message)
    made = program.with_name(f"{program.name}.snapshot")
    made.write_bytes(with_pieces(program.read_bytes(), taken.pieces))
    made.chmod(program.stat().st_mode)
    try:
        made.write_bytes(with_pieces(made.read_bytes(), [footprint(_run(made, _same_addresses))]))
        made.replace(program)
    finally:
        made.unlink(missing_ok=True)


def footprint(told: bytes) -> Piece:
    """The table of snapshot.c from what a program with a snapshot tells: where all commands write, and where
    else those that plan.  Raises SnapshotError."""
    words, rest = divmod(len(told) - _FOOTPRINT.size, 8)
    if words <= 0 or rest or words % 2:
        message = f"what commands write to is told in {len(told)} bytes"
        raise SnapshotError(message)
    table, begin = _FOOTPRINT.unpack_from(told)
    pages = memoryview(told)[_FOOTPRINT.size :].cast("Q")
    every, planning = (_written(part) for part in (pages[: words // 2], pages[words // 2 :]))
    parts = (_ranges(begin // _PAGE, sorted(numbers)) for numbers in (every, planning - every))
    return Piece(table, b"".join(part.ljust(_RANGES * _RANGE.size, b"\0") for part in parts))


def _written(pages: memoryview[int]) -> set[int]:
    return {number for number, page in enumerate(pages) if page & _PRESENT and not page & _OF_FILE}


def _ranges(first: int, pages: Sequence[int]) -> bytes:
    """Address and length of each row of pages, the first of which has the number ``first``."""
    rows: list[list[int]] = []
    for page in pages:
        if rows and page - rows[-1][1] <= _GAP + 1:
            rows[-1][1] = page
        else:
            rows.append([page, page])
    return b"".join(
        _RANGE.pack((first + low) * _PAGE, (high - low + 1) * _PAGE) for low, high in rows[:_RANGES]
    )


def take(program: Path, prepare: Callable[[], None] | None = None) -> Taken:
    """Runs ``program``, after ``prepare`` in its process, for a snapshot; raises SnapshotError."""
    told = _run(program, prepare)
    variables, variables_end, room, room_end, elsewhere = _BOUNDS.unpack_from(told)
    middle = _BOUNDS.size + variables_end - variables
    pieces = [Piece(variables, told[_BOUNDS.size : middle]), Piece(room, told[middle:])]
    if len(pieces[1].content) != room_end - room:
        message = f"{program.name} {WORD}: its snapshot is cut off"
        raise SnapshotError(message)
    return Taken(pieces, elsewhere)


def _run(program: Path, prepare: Callable[[], None] | None = None) -> bytes:
    try:
        done = subprocess.run(
            [program, WORD],
            capture_output=True,
            env=ENVIRONMENT,  # no variable of the build gets in
            cwd=_CONFIG.parent,
            preexec_fn=prepare,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        message = f"{program.name} {WORD} did not end in {_PATIENCE} s"
        raise SnapshotError(message) from error
    if done.returncode or len(done.stdout) < _BOUNDS.size:
        message = f"{program.name} {WORD}: {done.stderr.decode(errors='replace')}"
        raise SnapshotError(message)
    return done.stdout


def _same_addresses() -> None:
    """Where the kernel allows it: two builds are the same to the last byte, dead memory included."""
    _set_personality(_ADDR_NO_RANDOMIZE)


def _other_addresses() -> None:
    """Those of this process alone, also where the whole build has the same ones (setarch -R)."""
    _set_personality(0)


def _set_personality(persona: int) -> None:
    with contextlib.suppress(ImportError):  # a Python may have been built without libffi
        import ctypes

        ctypes.CDLL(None).personality(persona)


def differences(one: Sequence[Piece], other: Sequence[Piece]) -> Iterator[tuple[int, int, int]]:
    """Each word that differs, behind its address: it points out of the program, or tells of its process."""
    for (start, ours), (_, theirs) in zip(one, other, strict=True):
        if len(ours) != len(theirs):
            yield start, len(ours), len(theirs)
        for index, pair in enumerate(zip(_words(ours), _words(theirs), strict=False)):
            if pair[0] != pair[1]:
                yield start + 8 * index, *pair


def _words(content: bytes) -> memoryview[int]:
    return memoryview(content[: len(content) // 8 * 8]).cast("Q")


def loads(elf: bytes) -> Iterator[Segment]:
    """The segments that execve(2) maps."""
    (table,) = struct.unpack_from("<Q", elf, _SEGMENTS_AT)
    (count,) = struct.unpack_from("<H", elf, _SEGMENT_COUNT_AT)
    for at in range(table, table + count * _SEGMENT.size, _SEGMENT.size):
        segment = Segment(at, *_SEGMENT.unpack_from(elf, at))
        if segment.kind == _PT_LOAD:
            yield segment


def with_pieces(elf: bytes, pieces: Sequence[Piece]) -> bytes:
    """The program with ``pieces`` in place of what their addresses held; raises SnapshotError.

    They end the last segment of the file, so that it grows to its end.  The table of sections is dropped.
    """
    *_, last = loads(elf)
    if not all(
        last.address <= start and start + len(content) <= last.address + last.in_memory
        for start, content in pieces
    ):
        message = "the variables of the interpreter do not lie in the last segment of the program"
        raise SnapshotError(message)
    end = max(start + len(content) for start, content in pieces)
    image = bytearray(elf[last.offset : last.offset + last.in_file].ljust(end - last.address, b"\0"))
    for start, content in pieces:
        image[start - last.address : start - last.address + len(content)] = content
    made = bytearray(elf[: last.offset]) + image
    grown = last._replace(in_file=len(image))
    _SEGMENT.pack_into(made, last.at, *grown[1:])
    struct.pack_into("<Q", made, _SECTIONS_AT, 0)
    struct.pack_into("<HH", made, _SECTION_COUNT_AT, 0, 0)
    return bytes(made)
