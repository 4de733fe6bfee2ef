"""What a plan is made of: steps, and nothing that can act.

A step is a verb of the table with its arguments and the member of config.json that asked for it.  Steps are
values: two equal plans do the same to the kernel.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.errors import Fault

    #: What an argument of a step can be; the kinds are those of ocirun.plan.table.
    Argument = int | str | bytes | tuple[str, ...] | tuple[int, ...]

#: Why a step is there, when no member of config.json asked for it in so many words.
ASKED, DEFAULT, LIFECYCLE = "", "default", "lifecycle"


class Step:
    """One verb with its arguments in the order of the table.

    ``pointer`` is the JSON pointer of the member that asked for it.  ``why`` is ASKED, DEFAULT (the member is
    absent and this is its default) or LIFECYCLE (every container has it; the pointer is "").
    """

    __slots__ = ("args", "pointer", "verb", "why")

    def __init__(self, verb: str, args: tuple[Argument, ...], pointer: str, why: str = ASKED) -> None:
        self.verb = verb
        self.args = args
        self.pointer = pointer
        self.why = why

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Step) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        return (self.verb, self.args, self.pointer, self.why)

    def __repr__(self) -> str:
        return f"Step({self.verb!r}, {self.args!r}, {self.pointer!r}, {self.why!r})"


class Plan:
    """A totally ordered list of steps for the container ``id``; ``warnings`` is what the user should know.

    One that is ``unprivileged`` was made for who is not root of the host, and lacks what only that may do.
    In one ``without_cgroup`` init stays in the cgroup of the caller.
    """

    __slots__ = ("id", "steps", "unprivileged", "warnings", "without_cgroup")

    def __init__(
        self,
        container: str,
        steps: Sequence[Step],
        warnings: Sequence[Fault] = (),
        *,
        unprivileged: bool = False,
        without_cgroup: bool = False,
    ) -> None:
        self.id = container
        self.steps = tuple(steps)
        self.warnings = tuple(warnings)
        self.unprivileged = unprivileged
        self.without_cgroup = without_cgroup
