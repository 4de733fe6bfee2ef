"""A plan as the laws look at it (ocirun.plan.lint)."""

from __future__ import annotations

import sys

from ocirun.plan.table import TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any, TypeAlias, TypeGuard

    from ocirun_spec.types import Config, Linux, Process, User

    from ocirun.errors import Fault
    from ocirun.plan.model import Plan, Step

    #: Names of arguments and the values that they must have.
    Expected: TypeAlias = Mapping[str, object]

VERBS = {verb.name: verb for verb in TABLE}
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000  # linux/sched.h


#: Annotations, crun's: the filter itself, and who gets its listener where /linux/seccomp does not say it.
RAW_FILTER, RECEIVER = "run.oci.seccomp_bpf_data", "run.oci.seccomp.receiver"
#: That which names plugins, who get the listener before anybody else.
PLUGINS = "run.oci.seccomp.plugins"

_EMPTY: Config = {"ociVersion": "", "root": {"path": ""}}
_NO_PROCESS: Process = {"cwd": "", "args": []}
_NO_USER: User = {}


def names(verb: str) -> list[str]:
    """The names of the arguments of ``verb``, in the order of a step's."""
    return [name for name, _ in VERBS[verb].args]


def entry_at(config: object, pointer: str) -> Mapping[str, Any]:
    """The object at ``pointer`` of ``config``, an empty one where there is none."""
    value = config
    for part in pointer.split("/")[1:]:
        if is_list(value):
            value = value[int(part)] if part.isdigit() and int(part) < len(value) else None
        else:
            value = value.get(part) if is_object(value) else None
    return value if is_object(value) else {}


def is_object(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether a value of a config is an object."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[Sequence[object]]:
    """Whether a value of a config is an array."""
    return isinstance(value, list)


class View:
    """A plan as the laws look at it: its steps, numbered from 1, and where each verb stands."""

    __slots__ = ("config", "id", "places", "steps", "unprivileged", "warnings", "without_cgroup")

    def __init__(self, plan: Plan, config: Config | None) -> None:
        self.id = plan.id
        self.steps = plan.steps
        self.warnings: Sequence[Fault] = plan.warnings
        self.unprivileged = plan.unprivileged
        self.without_cgroup = plan.without_cgroup
        self.config = config
        self.places: dict[str, list[int]] = {}
        for number, step in enumerate(plan.steps, 1):
            self.places.setdefault(step.verb, []).append(number)

    @property
    def process(self) -> Process:
        """/process of the config, an empty one without."""
        return (self.config or _EMPTY).get("process", _NO_PROCESS)

    @property
    def user(self) -> User:
        """/process/user."""
        return self.process.get("user", _NO_USER)

    @property
    def linux(self) -> Linux:
        """/linux."""
        return (self.config or _EMPTY).get("linux", {})

    @property
    def filtered(self) -> bool:
        """Whether the config has a filter of system calls, as a profile or ready made."""
        return bool(self.linux.get("seccomp")) or RAW_FILTER in self.annotations

    @property
    def annotations(self) -> Mapping[str, str]:
        """/annotations."""
        return (self.config or _EMPTY).get("annotations", {})

    @property
    def cgroup(self) -> str:
        """The path on the host of the cgroup that the plan makes, "" where it makes none."""
        places = [number for verb in ("make_cgroup", "make_scope") for number in self.places.get(verb, ())]
        made = [self.steps[number - 1].args for number in places]
        return f"{made[0][0]!s}{made[0][1]!s}" if made else ""

    def argument(self, verb: str, name: str) -> object:
        """The argument of the first step of ``verb``, None where there is none."""
        places = self.places.get(verb)
        return self.steps[places[0] - 1].args[names(verb).index(name)] if places else None

    @property
    def home(self) -> str:
        """The path of the cgroup that init is born in: that, or one below it."""
        inner = [str(self.steps[number - 1].args[2]) for number in self.places.get("make_scope", ())]
        return "/".join(filter(None, (self.cgroup, *inner)))

    @property
    def creates(self) -> bool:
        """Whether the plan makes a container."""
        return ("clone_init" in self.places or "exec" in self.places) and not self.enters

    @property
    def enters(self) -> bool:
        """Whether the plan enters a container that is there."""
        return "open_init" in self.places or "join_namespaces" in self.places

    @property
    def changes_mounts(self) -> bool:
        """Whether it does that to change the mounts; else it is to run a process."""
        return self.enters and not {"mount", "attach", "unmount"}.isdisjoint(self.places)

    def closed_late(self, pointer: str) -> int:
        """MOUNT_ATTR_RDONLY where the mount at ``pointer`` is closed by a later step, else 0."""
        closed = self.places.get("set_readonly", ())
        return int(any(self.steps[number - 1].pointer == pointer for number in closed))

    def slots(self, kind: str) -> Iterator[tuple[int, Step, str]]:
        """Each argument of this kind ("slot" or "out"): number of the step, the step, the name of the
        slot."""
        for number, step in enumerate(self.steps, 1):
            for (_, one), value in zip(VERBS[step.verb].args, step.args, strict=True):
                if one == kind:
                    yield number, step, str(value)


def asks_somebody(view: View) -> bool:
    """Whether the filter of the config leaves decisions to a listener."""
    profile = view.linux.get("seccomp", {})
    if RAW_FILTER in view.annotations:
        return bool(receiver(view)) and _may_notify(view.argument("load_seccomp", "program"))
    actions = [profile.get("defaultAction"), *(rule["action"] for rule in profile.get("syscalls", ()))]
    return "SCMP_ACT_NOTIFY" in actions


def receiver(view: View) -> str:
    """The path of who gets the listener, "" for nobody."""
    if view.annotations.get(PLUGINS):
        return view.annotations[PLUGINS]
    return view.linux.get("seccomp", {}).get("listenerPath") or view.annotations.get(RECEIVER, "")


def _may_notify(program: object) -> bool:
    """Whether an instruction of a filter returns what it has computed, or SECCOMP_RET_USER_NOTIF."""
    if not isinstance(program, bytes):
        return False
    words = [int.from_bytes(program[at : at + 4], sys.byteorder) for at in range(0, len(program), 4)]
    codes = [int.from_bytes(program[at : at + 2], sys.byteorder) for at in range(0, len(program), 8)]
    pairs = zip(codes, words[1::2], strict=True)
    return any(code == 0x16 or (code == 0x06 and value >> 16 == 0x7FC0) for code, value in pairs)


if TYPE_CHECKING:
    #: What the config says of the arguments of a step.
    Values: TypeAlias = Callable[[View, Step], Expected]
