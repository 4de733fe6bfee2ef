"""Device rules as an eBPF program for a cgroup (BPF_PROG_TYPE_CGROUP_DEVICE); pure, it only assembles.

The kernel calls the program for every open and mknod of a device with ``struct bpf_cgroup_dev_ctx``: access
bits and type in one word, then major and minor (linux/bpf.h).  A request may ask for several bits at once;
the program allows it when every bit of it is allowed, and for each bit the *last* rule that names the
device and the bit decides, as if the rules were written one after the other into the table of cgroup v1.
So it walks the rules backwards and strikes out the bits that a rule allows.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: Access bits (BPF_DEVCG_ACC_*).
MKNOD, READ, WRITE = 1, 2, 4
ALL = MKNOD | READ | WRITE
_LETTERS = {"m": MKNOD, "r": READ, "w": WRITE}
#: Types (BPF_DEVCG_DEV_*).
_TYPES = {"b": 1, "c": 2}

#: Registers: r1 holds the context at entry, r0 what is returned.
_R0, _R1, _KIND, _ACCESS, _MAJOR, _MINOR, _SCRATCH = 0, 1, 2, 3, 4, 5, 0
#: Operations (linux/bpf_common.h, linux/bpf.h).  Compares and moves are on 32 bits: a 64-bit one would extend
#: the sign of a number above 2^31 and never match.
_LOAD_WORD, _MOV32_REG, _MOV32, _AND32, _RSH32, _EXIT = 0x61, 0xBC, 0xB4, 0x54, 0x74, 0x95
_JNE32, _JEQ32, _JA = 0x56, 0x16, 0x05


class Rule:
    """Allow or deny some kinds of access to some devices; ``major`` and ``minor`` None stand for any.

    ``kind`` is "c", "b" or "a", which is both.
    """

    __slots__ = ("access", "allow", "kind", "major", "minor")

    def __init__(self, allow: bool, kind: str, major: int | None, minor: int | None, access: int) -> None:
        self.allow = allow
        self.kind = kind
        self.major = major
        self.minor = minor
        self.access = access


def access_bits(letters: str) -> int:
    """The bits of a word of the letters r, w and m; 0 when another letter is in it, or none."""
    bits = 0
    for letter in letters:
        if letter not in _LETTERS:
            return 0
        bits |= _LETTERS[letter]
    return bits


def program(rules: Sequence[Rule]) -> bytes:
    """The machine code (struct bpf_insn, little-endian) that decides by ``rules``; without a rule all is
    denied."""
    code = [
        _insn(_LOAD_WORD, _KIND, _R1, 0, 0),
        _insn(_MOV32_REG, _ACCESS, _KIND, 0, 0),
        _insn(_AND32, _KIND, 0, 0, 0xFFFF),
        _insn(_RSH32, _ACCESS, 0, 0, 16),
        _insn(_LOAD_WORD, _MAJOR, _R1, 4, 0),
        _insn(_LOAD_WORD, _MINOR, _R1, 8, 0),
    ]
    for rule in reversed(rules):
        code += _rule(rule)
        if rule.kind == "a" and rule.major is None and rule.minor is None and rule.access == ALL:
            break  # it names every request: no rule before it can matter
    code += _verdict()
    return b"".join(code)


def _rule(rule: Rule) -> list[bytes]:
    """The code of one rule; falls through to the rule before it when bits are left to decide."""
    tests = [
        (register, value)
        for register, value in ((_KIND, _TYPES.get(rule.kind)), (_MAJOR, rule.major), (_MINOR, rule.minor))
        if value is not None
    ]
    body = _strike(rule.access) if rule.allow else _refuse(rule.access)
    left = len(tests) + len(body)
    return [
        _insn(_JNE32, register, 0, left - at - 1, value) for at, (register, value) in enumerate(tests)
    ] + body


def _strike(access: int) -> list[bytes]:
    """Strike the allowed bits out; allow the request when none is left."""
    return [
        _insn(_AND32, _ACCESS, 0, 0, ALL & ~access),
        _insn(_JNE32, _ACCESS, 0, 2, 0),
        _insn(_MOV32, _R0, 0, 0, 1),
        _insn(_EXIT, 0, 0, 0, 0),
    ]


def _refuse(access: int) -> list[bytes]:
    """Deny the request when a bit that is left to decide is a denied one."""
    return [
        _insn(_MOV32_REG, _SCRATCH, _ACCESS, 0, 0),
        _insn(_AND32, _SCRATCH, 0, 0, access),
        _insn(_JEQ32, _SCRATCH, 0, 2, 0),
        _insn(_MOV32, _R0, 0, 0, 0),
        _insn(_EXIT, 0, 0, 0, 0),
    ]


def _verdict() -> list[bytes]:
    """The end: deny when bits are left that no rule decided, allow a request that asked for none."""
    return [
        _insn(_MOV32, _R0, 0, 0, 0),
        _insn(_JNE32, _ACCESS, 0, 1, 0),
        _insn(_MOV32, _R0, 0, 0, 1),
        _insn(_EXIT, 0, 0, 0, 0),
    ]


def _insn(operation: int, target: int, source: int, offset: int, immediate: int) -> bytes:
    """One ``struct bpf_insn``: operation, two registers of four bits, an offset, an immediate value."""
    word = operation | target << 8 | source << 12 | (offset & 0xFFFF) << 16 | (immediate & 0xFFFFFFFF) << 32
    return word.to_bytes(8, "little")
