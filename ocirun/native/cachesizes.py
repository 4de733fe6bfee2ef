"""A start of glibc that does not ask the processor how large its caches are.

``__libc_start_main`` of a static program asks with cpuid, on an Intel processor more than a hundred times,
for nothing but the sizes from which on memcpy copies in other ways (glibc, sysdeps/x86/dl-cacheinfo.h).  In a
virtual machine each cpuid is an exit to the host (Intel SDM volume 3, "Instructions That Cause VM Exits
Unconditionally"): a fifth of what a short command takes.  The functions that ask are local to one object of
libc.a; the launcher is linked with a copy of that object in which they answer at once.
"""

from __future__ import annotations

import re
import struct
import subprocess
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

#: What every cache is said to hold, in bytes: more than the launcher ever copies at once.
SIZE = 1 << 20
#: mov eax, SIZE; ret: the high half of rax becomes 0.
_ANSWER = b"\xb8" + SIZE.to_bytes(4, "little") + b"\xc3"
_RETURN = b"\xc3"
#: What the compiler may have added to the name of a function it changed.
_SUFFIX = r"(\.\w+)*"
_ASKING = {
    re.compile(rf"handle_(intel|amd|hygon|zhaoxin){_SUFFIX}"): _ANSWER,
    #: It divides the largest cache among the threads; untouched, what it is given stays.
    re.compile(rf"get_common_cache_info{_SUFFIX}"): _RETURN,
}

#: elf(5), of 64 bits: where the header says where the table of sections is and how many there are.
_SECTIONS_AT, _SECTION_COUNT_AT = 0x28, 0x3C
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")
_SHT_SYMTAB, _SHT_RELA, _STT_FUNC, _R_X86_64_NONE = 2, 4, 2, 0


class _Section(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    width: int


class _Function(NamedTuple):
    name: str
    section: int
    offset: int  # in its section
    size: int


def write_start(directory: Path, flags: Sequence[str] = ()) -> Path | None:
    """Writes that object into ``directory``; None where the C library asks nothing.

    ``flags`` tell gcc which library that is, when it is not that of this machine.
    """
    archive = _output("gcc", *flags, "-print-file-name=libc.a").strip()
    found = re.search(r":([^:\s]+\.o):\S* t handle_intel", _output("nm", "-A", archive))
    if found is None:
        return None
    made = directory / found[1]
    made.write_bytes(with_answers(_bytes("ar", "p", archive, found[1])))
    return made


def with_answers(content: bytes) -> bytes:
    """An object file (elf(5), x86-64) in which the functions that ask for sizes answer at once."""
    changed = bytearray(content)
    sections = list(_sections(content))
    for function in _functions(content, sections):
        for asking, answer in _ASKING.items():
            if asking.fullmatch(function.name) and function.size >= len(answer):
                _put(changed, sections, function, answer)
    return bytes(changed)


def _put(content: bytearray, sections: list[_Section], function: _Function, answer: bytes) -> None:
    """Writes the answer over the beginning of a function; the linker is to write nothing into it."""
    at = sections[function.section].offset + function.offset
    content[at : at + len(answer)] = answer
    for section in sections:
        if section.kind != _SHT_RELA or section.info != function.section:
            continue
        for entry in range(section.offset, section.offset + section.size, _RELOCATION.size):
            offset, _, _ = _RELOCATION.unpack_from(content, entry)
            if function.offset - 3 <= offset < function.offset + len(answer):
                _RELOCATION.pack_into(content, entry, offset, _R_X86_64_NONE, 0)


def _sections(content: bytes) -> Iterator[_Section]:
    (table,) = struct.unpack_from("<Q", content, _SECTIONS_AT)
    (count,) = struct.unpack_from("<H", content, _SECTION_COUNT_AT)
    for i in range(count):
        yield _Section(*_SECTION.unpack_from(content, table + i * _SECTION.size))


def _functions(content: bytes, sections: list[_Section]) -> Iterator[_Function]:
    for table in sections:
        if table.kind != _SHT_SYMTAB:
            continue
        names = sections[table.link].offset
        for at in range(table.offset, table.offset + table.size, _SYMBOL.size):
            name, info, _, section, offset, size = _SYMBOL.unpack_from(content, at)
            if info & 0xF == _STT_FUNC and 0 < section < len(sections):
                end = content.index(b"\0", names + name)
                yield _Function(content[names + name : end].decode("ascii"), section, offset, size)


def _bytes(*command: str) -> bytes:
    try:
        return subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return b""


def _output(*command: str) -> str:
    return _bytes(*command).decode(errors="replace")
