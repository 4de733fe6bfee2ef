"""A machine for programs of classic BPF as seccomp runs them: a filter can be asked without being loaded."""

from __future__ import annotations

import struct
import sys

_ORDER = "<" if sys.byteorder == "little" else ">"
LONGEST = 4096


def run(program: bytes, arch: int, number: int, arguments: tuple[int, ...] = (0,) * 6) -> int:
    """What ``program`` returns for one system call; fails where the kernel would not take the program."""
    assert len(program) % 8 == 0
    code = list(struct.iter_unpack(f"{_ORDER}HBBI", program))
    assert 0 < len(code) <= LONGEST
    data = struct.pack(f"{_ORDER}IIQ6Q", number & 0xFFFFFFFF, arch, 0, *arguments)
    accumulator: int = 0
    at = 0
    while True:
        operation, yes, no, value = code[at]
        at += 1
        match operation:
            case 0x20:  # load a word
                assert value % 4 == 0
                (accumulator,) = struct.unpack_from(f"{_ORDER}I", data, value)
            case 0x54:  # and
                accumulator &= value
            case 0x05:
                at += value
            case 0x15:
                at += yes if accumulator == value else no
            case 0x25:
                at += yes if accumulator > value else no
            case 0x35:
                at += yes if accumulator >= value else no
            case 0x45:
                at += yes if accumulator & value else no
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(f"unknown operation {operation:#x}")
