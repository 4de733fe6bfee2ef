"""How a program's file begins: what the kernel would make of it (binfmt_script, elf(5)).  Cold."""

from __future__ import annotations

import os

SCRIPT, ELF, EMPTY, TEXT = "script", "elf", "empty", "text"

#: e_machine of elf(5), the ones an image is made for.
MACHINES = {
    2: "sparc",
    3: "i386",
    8: "mips",
    20: "ppc",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    43: "sparc64",
    62: "x86_64",
    183: "aarch64",
    243: "riscv",
    258: "loongarch",
}
#: What uname(2) calls them otherwise.
_UNAMES = {"i686": "i386", "i586": "i386", "ppc64le": "ppc64", "armv7l": "arm", "armv8l": "arm",
           "riscv64": "riscv", "riscv32": "riscv", "loongarch64": "loongarch", "mips64": "mips"}  # fmt: skip
#: The machines of 32 bits that a kernel of 64 bits may have been built to run as well.
_SMALLER = {"x86_64": "i386", "aarch64": "arm", "ppc64": "ppc", "sparc64": "sparc"}
_PT_INTERP = 3


class Head:
    """The first bytes of a file, read as the kernel reads them; never raises, however hostile they are."""

    __slots__ = ("_bytes", "_order", "bits", "interpreter", "kind", "machine")

    def __init__(self, head: bytes) -> None:
        self._bytes = head
        self.interpreter = ""
        self.bits = {b"\x01": 32, b"\x02": 64}.get(head[4:5], 0)
        self._order: str = "big" if head[5:6] == b"\x02" else "little"
        self.machine = ""
        if head.startswith(b"\x7fELF"):
            self.kind = ELF
            number = self._number(18, 2)
            self.machine = MACHINES.get(number, f"the machine with the number {number}")
            self.interpreter = self._loader()
        elif head.startswith(b"#!"):
            self.kind = SCRIPT
            self.interpreter = _interpreter(head)
        else:
            self.kind = TEXT if head else EMPTY

    def _number(self, at: int, size: int) -> int:
        part = self._bytes[at : at + size]
        return int.from_bytes(part, "big" if self._order == "big" else "little")

    def _loader(self) -> str:
        """The path in PT_INTERP, where the bytes reach it."""
        word = 8 if self.bits == 64 else 4
        table, size, count = (
            (self._number(32, 8), self._number(54, 2), self._number(56, 2))
            if self.bits == 64
            else (self._number(28, 4), self._number(42, 2), self._number(44, 2))
        )
        offset_at, length_at = (8, 32) if self.bits == 64 else (4, 16)
        for at in range(table, min(table + size * count, len(self._bytes)), size or 1):
            if self._number(at, 4) == _PT_INTERP:
                offset = self._number(at + offset_at, word)
                length = self._number(at + length_at, word)
                if length > 4096:  # more than PATH_MAX is no path
                    return ""
                return _text(self._bytes[offset : offset + length].split(b"\0", 1)[0])
        return ""

    def foreign(self) -> str:
        """Why an ELF file is not one that this host executes; "" where machine and word size do not tell."""
        order = f", {self._order}-endian" if self._order == "big" else ""
        what = f"it is a program for {self.machine} ({self.bits} bits{order})"
        here = os.uname().machine
        mine = _UNAMES.get(here, here)
        if self.machine == _SMALLER.get(mine) and self.bits == 32:
            return f"{what}, and the kernel of this host ({here}) was built without support for 32 bits"
        if self.machine != mine or self.bits != (32 if mine in _SMALLER.values() else 64):
            return f"{what}, this host is {here}: use an image for this architecture"
        return f"{what}, this host is not: use an image for this architecture" if self._is_swapped() else ""

    def _is_swapped(self) -> bool:
        import sys

        return self._order != sys.byteorder


def _interpreter(head: bytes) -> str:
    """The interpreter of a ``#!`` line; with the CR at its end, for the kernel takes that as part of it."""
    words = head[2:].split(b"\n", 1)[0].strip(b" \t").replace(b"\t", b" ").split(b" ", 1)
    return _text(words[0].split(b"\0", 1)[0])


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
