"""ENOSYS for the system calls that are newer than the profile; pure, it only assembles.

Who wrote a profile that denies what it does not name has denied, with EPERM, also what did not exist then.
C libraries and languages try a new system call first and fall back to an old one, but only on ENOSYS: EPERM
they believe.  So what is newer than the newest call that the profile names gets the answer of a kernel that
does not have it.  libseccomp cannot say "greater than", so these few instructions go in front of its program.

A program is an array of struct sock_filter (linux/filter.h), in the byte order of this machine; it works on
struct seccomp_data, where the number of the call is at 0 and the architecture at 4.
"""

from __future__ import annotations

import sys

from ocirun.seccomp.tables import ACTIONS, ARCHITECTURES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: Operations (linux/bpf_common.h): load a word, return, jumps.
_LOAD, _RETURN, _JUMP, _JEQ, _JGT, _JGE, _JSET = 0x20, 0x06, 0x05, 0x15, 0x25, 0x35, 0x45
_NUMBER, _ARCHITECTURE = 0, 4
_ENOSYS, _ENOSYS_MIPS, _ENOSYS_PARISC = 38, 89, 251  # errno.h of those
#: On x86-64 this bit in the number says that the call is one of x32.
_X32_BIT = 0x40000000
#: On ARM the calls of the kernel for itself (cacheflush, set_tls) have numbers from here.
_ARM_PRIVATE = 0xF0000
#: Default actions that let unknown calls through, or hand them to somebody who knows.
_PERMISSIVE = frozenset(
    ACTIONS[name] for name in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE")
)
_ACTION_BITS = 0xFFFF0000
_NONE = 0xFFFFFFFF

_X86_64, _X32, _ARM = (ARCHITECTURES[f"SCMP_ARCH_{name}"] for name in ("X86_64", "X32", "ARM"))


def needed(default: int) -> bool:
    """Whether a filter with this default action says no to what it does not know, and not ENOSYS anyway."""
    return default & _ACTION_BITS not in _PERMISSIVE and default != ACTIONS["SCMP_ACT_ERRNO"] | _ENOSYS


def is_ordinary(token: int, number: int) -> bool:
    """Whether a call has a number that grows with time, and exists on the architecture ``token`` at all."""
    return number >= 0 and not (token == _ARM and number >= _ARM_PRIVATE)


def prefix(newest: Mapping[int, int]) -> bytes:
    """The instructions that answer ENOSYS to what is greater than ``newest``, by the token of libseccomp.

    Every other call goes on to what is put behind them.
    """
    blocks = [_block(token, newest) for token in newest if token != _X32 or _X86_64 not in newest]
    code: list[tuple[int, int, int, int]] = [(_LOAD, 0, 0, _ARCHITECTURE)]
    left = sum(map(len, blocks))
    for block in blocks:
        left -= len(block)
        code += block[:-1]
        code.append((_JUMP, 0, 0, left))
    return b"".join(_encoded(*one) for one in code)


def _block(token: int, newest: Mapping[int, int]) -> list[tuple[int, int, int, int]]:
    """What is done for one architecture; the last instruction leads out."""
    audit = _X86_64 if token == _X32 else token
    body = [(_LOAD, 0, 0, _NUMBER), *_tests(audit, newest), (_RETURN, 0, 0, _enosys(token)), (_JUMP, 0, 0, 0)]
    return [(_JEQ, 0, len(body), audit), *body]


def _tests(audit: int, newest: Mapping[int, int]) -> list[tuple[int, int, int, int]]:
    """The tests of the number in front of the two last instructions: ENOSYS, and out."""
    if audit == _X86_64:
        # to the second, or past it; calls of x32 where there are none are libseccomp's to judge
        return [
            (_JSET, 1, 0, _X32_BIT),
            (_JGT, 1, 2, newest.get(_X86_64, _NONE)),
            (_JGT, 0, 1, newest.get(_X32, _NONE)),
        ]
    if audit == _ARM:
        return [(_JGE, 2, 0, _ARM_PRIVATE), (_JGT, 0, 1, newest[audit])]
    return [(_JGT, 0, 1, newest[audit])]


def _enosys(token: int) -> int:
    machine = token & 0xFFFF
    errno = {8: _ENOSYS_MIPS, 15: _ENOSYS_PARISC}.get(machine, _ENOSYS)
    return ACTIONS["SCMP_ACT_ERRNO"] | errno


def _encoded(operation: int, yes: int, no: int, value: int) -> bytes:
    return operation.to_bytes(2, sys.byteorder) + bytes((yes, no)) + value.to_bytes(4, sys.byteorder)
