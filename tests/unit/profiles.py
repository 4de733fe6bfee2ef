"""Seccomp profiles as they are written, and what they say: read rule by rule, without a compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pyseccomp

from ocirun.seccomp.newer import is_ordinary, needed
from ocirun.seccomp.tables import ACTIONS, ARCHITECTURES

if TYPE_CHECKING:
    from ocirun_spec.types import Seccomp, Syscall, SyscallArg

_COMPARE: dict[str, Callable[[int, int, int], bool]] = {
    "SCMP_CMP_NE": lambda given, value, _: given != value,
    "SCMP_CMP_LT": lambda given, value, _: given < value,
    "SCMP_CMP_LE": lambda given, value, _: given <= value,
    "SCMP_CMP_EQ": lambda given, value, _: given == value,
    "SCMP_CMP_GE": lambda given, value, _: given >= value,
    "SCMP_CMP_GT": lambda given, value, _: given > value,
    # libseccomp masks the value as well, so that one with more bits than the mask is not in vain
    "SCMP_CMP_MASKED_EQ": lambda given, mask, value: given & mask == value & mask,
}
OPERATORS = [*_COMPARE]
ENOSYS = ACTIONS["SCMP_ACT_ERRNO"] | 38
NATIVE = pyseccomp.system_arch()
_32BIT = {ARCHITECTURES[f"SCMP_ARCH_{name}"] for name in ("X86", "X32", "ARM")}
_X32 = ARCHITECTURES["SCMP_ARCH_X32"]


def audit(token: int) -> int:
    """What the kernel calls the architecture that libseccomp knows by this token."""
    return ARCHITECTURES["SCMP_ARCH_X86_64"] if token == _X32 else token


def number_of(token: int, name: str) -> int:
    """The number of a system call; negative where the architecture does not have it."""
    return pyseccomp.resolve_syscall(token, name)


def action(name: str, errno: int | None) -> int:
    """An action with its number, as a filter returns it."""
    takes = name in {"SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"}
    return ACTIONS[name] | ((1 if errno is None else errno) if takes else 0)


def verdicts(profile: Seccomp, token: int, name: str, arguments: tuple[int, ...]) -> set[int]:
    """What the profile admits as the answer to a call: one, but where its rules contradict each other."""
    default = action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    if needed(default) and number_of(token, name) > _newest(profile, token):
        return {ENOSYS}
    entries = [entry for entry in profile.get("syscalls", []) if name in entry["names"]]
    entries = [entry for entry in entries if action(entry["action"], entry.get("errnoRet")) != default]
    always = {action(one["action"], one.get("errnoRet")) for one in entries if not one.get("args")}
    matching = {
        action(one["action"], one.get("errnoRet")) for one in entries if _matches(one, token, arguments)
    }
    return always | matching or {default}


def entangled(profile: Seccomp, name: str) -> bool:
    """Whether libseccomp (2.5) may answer otherwise than the profile reads.

    It makes one tree of all rules of a call, and goes wrong where several of them compare arguments other
    than by SCMP_CMP_EQ, or more than one at once: so it does below runc and crun.
    """
    alternatives: list[list[SyscallArg]] = []
    for entry in profile.get("syscalls", []):
        conditions = entry.get("args", [])
        several = len({one["index"] for one in conditions}) < len(conditions)
        if name in entry["names"] and conditions:
            alternatives += [[one] for one in conditions] if several else [conditions]
    simple = all(len(one) == 1 and one[0]["op"] == "SCMP_CMP_EQ" for one in alternatives)
    return len(alternatives) > 1 and not simple


def _newest(profile: Seccomp, token: int) -> int:
    numbers = [number_of(token, name) for rule in profile.get("syscalls", []) for name in rule["names"]]
    return max((number for number in numbers if is_ordinary(token, number)), default=1 << 40)


def _matches(entry: Syscall, token: int, arguments: tuple[int, ...]) -> bool:
    conditions = entry.get("args", [])
    held = [_holds(one, token, arguments) for one in conditions]
    several = len({one["index"] for one in conditions}) < len(conditions)
    return any(held) if several else all(held)


def _holds(condition: SyscallArg, token: int, arguments: tuple[int, ...]) -> bool:
    given, value, second = arguments[condition["index"]], condition["value"], condition.get("valueTwo", 0)
    if token in _32BIT:  # the upper halves are not theirs
        given, value, second = given & 0xFFFFFFFF, value & 0xFFFFFFFF, second & 0xFFFFFFFF
    return _COMPARE[condition["op"]](given, value, second)
