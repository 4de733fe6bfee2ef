"""What a ready-made filter of system calls does, an instruction a line, for who reads a plan.

A is the accumulator, X the other register, M the memory (Documentation/networking/filter.rst of the kernel);
the names are those of struct seccomp_data and of the actions (linux/seccomp.h, seccomp(2)).
"""

from __future__ import annotations

import errno
import sys

from ocirun.seccomp.raw import CONDITIONAL, JUMP, LOAD, RETURN, RETURN_ACCUMULATOR, instructions
from ocirun.seccomp.tables import ACTIONS, ARCHITECTURES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.seccomp.raw import Instruction

_NAMES = {value: name.removeprefix("SCMP_ACT_") for name, value in ACTIONS.items()}
_TOKENS = {value: name.removeprefix("SCMP_ARCH_").lower() for name, value in ARCHITECTURES.items()}
_ACTION, _NUMBER = 0xFFFF0000, 0xFFFF
_MOVES = {
    0x80: "A = {k}", 0x81: "X = {k}", 0x00: "A = {k}", 0x01: "X = {k}", 0x60: "A = M[{k}]",
    0x61: "X = M[{k}]", 0x02: "M[{k}] = A", 0x03: "M[{k}] = X", 0x07: "X = A", 0x87: "A = X", 0x84: "A = -A",
}  # fmt: skip
#: The operation of a calculation and of a jump is in the high half of a byte, BPF_X, for X in place of the
#: constant, in the bit below.
_CALCULATIONS = {0x00: "+", 0x10: "-", 0x20: "*", 0x30: "/", 0x40: "|", 0x50: "&", 0x60: "<<", 0x70: ">>"}
_CALCULATIONS[0xA0] = "^"
_CONDITIONS = {0x10: "==", 0x20: ">", 0x30: ">=", 0x40: "&"}
_BPF_X = 0x08


def listing(program: bytes) -> Sequence[str]:
    """The instructions of ``program``, which the kernel would load, each with its number."""
    lines: list[str] = []
    loaded = ""
    for number, one in enumerate(instructions(program)):
        if one.code == LOAD:
            loaded = _field(one.constant)
        lines.append(f"{number:>4}  {_told(one, number, loaded)}")
    return lines


def _told(one: Instruction, number: int, loaded: str) -> str:
    if one.code in (RETURN, RETURN_ACCUMULATOR):
        return f"return {_action(one.constant) if one.code == RETURN else 'A'}"
    if one.code == LOAD:
        return f"A = {loaded}"
    if one.code == JUMP:
        return f"goto {number + 1 + one.constant}"
    if one.code in CONDITIONAL:
        return _jump(one, number + 1, loaded)
    if one.code in _MOVES:
        return _MOVES[one.code].format(k=one.constant)
    return f"A = A {_CALCULATIONS[one.code & 0xF0]} {_operand(one, '')}"


def _jump(one: Instruction, next_: int, loaded: str) -> str:
    condition = f"A {_CONDITIONS[one.code & 0xF0]} {_operand(one, loaded)}"
    return f"if {condition} goto {next_ + one.yes} else {next_ + one.no}"


def _operand(one: Instruction, loaded: str) -> str:
    if one.code & _BPF_X:
        return "X"
    token = _TOKENS.get(one.constant, "") if loaded == "arch" else ""
    return token or (str(one.constant) if one.constant < 4096 else f"0x{one.constant:x}")


def _field(offset: int) -> str:
    """The word of struct seccomp_data at ``offset``; what has 64 bits is two of them."""
    if offset < 8:
        return ("nr", "arch")[offset // 4]
    of = "instruction_pointer" if offset < 16 else f"args[{(offset - 16) // 8}]"
    low = (offset % 8 == 0) == (sys.byteorder == "little")
    return f"{of} {'low' if low else 'high'}"


def _action(value: int) -> str:
    name, number = _NAMES.get(value & _ACTION, f"0x{value:08x}"), value & _NUMBER
    if name == "ERRNO":
        return f"{name} {errno.errorcode.get(number, number)}"
    return f"{name} {number}" if number else name
