"""A filter that a config brings ready made, as crun takes it: the annotation holds the instructions.

They are ``struct sock_filter`` (linux/filter.h) in base64.  What the kernel would refuse by a look at one
instruction (bpf_check_classic and seccomp_check_filter in the kernel) is refused before anything is made.
"""

from __future__ import annotations

from ocirun.digest import digest
from ocirun.planner.draft import Filter
from ocirun.planner.seccomp import RAW_POINTER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: BPF_MAXINSNS (linux/bpf_common.h), and the size of an instruction.
MOST = 4096
SIZE = 8
#: BPF_RET of a constant, and of the accumulator.
RETURN, RETURN_ACCUMULATOR = 0x06, 0x16
#: BPF_LD | BPF_W | BPF_ABS reads a word of struct seccomp_data, which has so many bytes.
LOAD, DATA = 0x20, 64
#: BPF_JMP | BPF_JA; the others jump by a condition.
JUMP = 0x05
CONDITIONAL = frozenset({0x15, 0x1D, 0x25, 0x2D, 0x35, 0x3D, 0x45, 0x4D})
#: ld and ldx from the sixteen words of memory, st and stx.
_MEMORY, _WORDS = frozenset({0x60, 0x61, 0x02, 0x03}), 16
#: The calculations by a constant that some constants are no good for: division, and shifts.
_DIVISION, _SHIFTS = 0x34, frozenset({0x64, 0x74})
#: The others that a filter may consist of: len, immediates, calculations, and the moves between registers.
_PLAIN = frozenset(
    {0x80, 0x81, 0x00, 0x01, 0x04, 0x0C, 0x14, 0x1C, 0x24, 0x2C, 0x3C, 0x44, 0x4C, 0x54, 0x5C, 0x6C, 0x7C}
    | {0x84, 0xA4, 0xAC, 0x07, 0x87}
)
#: All that a filter may consist of (seccomp_check_filter in the kernel).
KNOWN = _PLAIN | _MEMORY | CONDITIONAL | _SHIFTS | {RETURN, RETURN_ACCUMULATOR, LOAD, JUMP, _DIVISION}
#: SECCOMP_RET_USER_NOTIF, and the part of a value that is the action (linux/seccomp.h).
_NOTIFY, _ACTION = 0x7FC00000, 0xFFFF0000

_DIGITS = {
    digit: value
    for value, digit in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
}
_HINT = "it is an array of struct sock_filter in base64, as seccomp(2) takes it"


class Instruction:
    """A struct sock_filter: what it does, how far it jumps, and its constant."""

    __slots__ = ("code", "constant", "no", "yes")

    def __init__(self, code: int, yes: int, no: int, constant: int) -> None:
        self.code = code
        self.yes = yes
        self.no = no
        self.constant = constant


def raw_filter(text: str) -> Filter:
    """The filter that the annotation with this ``text`` asks for; with what is wrong in ``wrong``, if it is
    none that the kernel would load."""
    try:
        program = decoded(text)
        check(program)
    except ValueError as error:
        return Filter(wrong=str(error), hint=_HINT, place=RAW_POINTER)
    return Filter(program, len(program) // SIZE, f"raw {digest(program).hex()[:12]}…", asks=may_ask(program))


def decoded(text: str) -> bytes:
    """The bytes of base64 (RFC 4648, section 4: padded, without white space); raises ValueError."""
    whole = text.rstrip("=")
    if len(text) % 4 or len(text) - len(whole) > 2:
        raise ValueError("must be base64, four letters or padding at a time")
    found = bytearray()
    try:
        for at in range(0, len(whole), 4):
            found += _group(whole[at : at + 4])
    except KeyError as error:
        raise ValueError(f"must be base64, which has no {error.args[0]!r}") from None
    return bytes(found)


def _group(digits: str) -> bytes:
    """Two to four digits are one to three bytes; the core has no module that knows it."""
    value = 0
    for digit in digits:
        value = value << 6 | _DIGITS[digit]
    return (value << 6 * (4 - len(digits))).to_bytes(3, "big")[: len(digits) - 1]


def instructions(program: bytes) -> Iterator[Instruction]:
    """The instructions of a ``program`` of whole ones, in the byte order of this machine."""
    codes, constants = memoryview(program).cast("H"), memoryview(program).cast("I")
    for number in range(len(program) // SIZE):
        yes, no = program[number * SIZE + 2 : number * SIZE + 4]
        yield Instruction(codes[number * 4], yes, no, constants[number * 2 + 1])


def check(program: bytes) -> None:
    """Raises ValueError for the first thing that the kernel would refuse to load, as far as one instruction
    shows it."""
    if not program:
        raise ValueError("must not be empty")
    count, rest = divmod(len(program), SIZE)
    if rest:
        raise ValueError(f"must be whole instructions of {SIZE} bytes, and has {len(program)} bytes")
    if count > MOST:
        raise ValueError(f"must have no more than {MOST} instructions, and has {count}")
    last = RETURN
    for number, instruction in enumerate(instructions(program)):
        last = instruction.code
        wrong = _wrong(instruction, count - number - 1)
        if wrong:
            raise ValueError(f"must be a filter: instruction {number} {wrong}")
    if last not in (RETURN, RETURN_ACCUMULATOR):
        raise ValueError("must end with a return")


def _wrong(one: Instruction, after: int) -> str:
    """What is wrong with an instruction that has ``after`` others behind it, "" for nothing."""
    if one.code not in KNOWN:
        return f"is none of a filter: 0x{one.code:x}"
    if one.code == LOAD and (one.constant % 4 or one.constant >= DATA):
        return f"loads no word of struct seccomp_data: {one.constant}"
    if one.code in _MEMORY and one.constant >= _WORDS:
        return f"names no word of memory: {one.constant}"
    farthest = max(one.yes, one.no) if one.code in CONDITIONAL else one.constant
    if (one.code in CONDITIONAL or one.code == JUMP) and farthest >= after:
        return "jumps beyond the end"
    if one.code == _DIVISION and not one.constant:
        return "divides by 0"
    return "shifts by more than 31" if one.code in _SHIFTS and one.constant > 31 else ""


def may_ask(program: bytes) -> bool:
    """Whether ``program`` may leave a decision to a listener: it says so, or computes what it returns."""
    return any(
        one.code == RETURN_ACCUMULATOR or (one.code == RETURN and one.constant & _ACTION == _NOTIFY)
        for one in instructions(program)
    )
