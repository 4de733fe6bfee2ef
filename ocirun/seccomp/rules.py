"""A profile as rules one by one, ready for a compiler; pure."""

from __future__ import annotations

from ocirun.seccomp.tables import ACTIONS, EPERM, OPERATORS, WITH_ERRNO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ocirun_spec.types import Seccomp, SyscallArg

    #: Argument, operator as in libseccomp, value, second value.
    Condition = tuple[int, int, int, int]


class Rule:
    """One system call by name, what happens to it, and the conditions that must all hold for that."""

    __slots__ = ("action", "conditions", "name")

    def __init__(self, name: str, action: int, conditions: Sequence[Condition]) -> None:
        self.name = name
        self.action = action
        self.conditions = tuple(conditions)


def default_action(profile: Seccomp) -> int:
    """What happens to the system calls that no rule names, as a return value of a filter."""
    return _action(profile["defaultAction"], profile.get("defaultErrnoRet"))


def rules(profile: Seccomp) -> Iterator[Rule]:
    """The rules of ``profile`` but those that do what happens anyway, which libseccomp refuses."""
    default = default_action(profile)
    for entry in profile.get("syscalls", ()):
        action = _action(entry["action"], entry.get("errnoRet"))
        if action == default:
            continue
        for conditions in _alternatives(entry.get("args", ())):
            for name in entry["names"]:
                yield Rule(name, action, conditions)


def _action(name: str, errno: int | None) -> int:
    number = (EPERM if errno is None else errno) if name in WITH_ERRNO else 0
    return ACTIONS[name] | number


def _alternatives(arguments: Sequence[SyscallArg]) -> Sequence[Sequence[Condition]]:
    """The conditions of an entry, which must hold together.  Where two are on one argument, each stands for
    itself, as in runc and crun: profiles are written for that, and libseccomp takes no such rule."""
    conditions = [
        (one["index"], OPERATORS[one["op"]], one["value"], one.get("valueTwo", 0)) for one in arguments
    ]
    if len({index for index, *_ in conditions}) < len(conditions):
        return [[condition] for condition in conditions]
    return [conditions]
