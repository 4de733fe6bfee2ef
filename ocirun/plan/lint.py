"""The laws of order, and of what a plan must hold; the tests and ``ocirun plan`` ask here, no container
waits.

Each law is a function that takes a View of the plan and yields what breaks it, as sentences that name the
steps. A plan without ``clone_init`` (an undo) is held only to the laws that every plan is under; one that
enters a container that is there (an exec) has laws of its own, under the same order.
"""

from __future__ import annotations

import math
from itertools import pairwise

from ocirun.plan.model import LIFECYCLE
from ocirun.plan.table import CALLS_UNDER_ANY_FILTER, HOST, INIT, STAGE, TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TypeGuard

    from ocirun_spec.types import Config

    from ocirun.plan.model import Plan, Step

_VERBS = {verb.name: verb for verb in TABLE}

#: The order in which a plan that creates a container performs its verbs: runc's ``standard_init``, where each
#: position has its reason (docs: the laws of order), written out whole so that equal configs read the same.
#: Verbs in one row may stand in any order among themselves.
ORDER: tuple[tuple[str, ...], ...] = (
    ("make_cgroup",),
    ("set_cgroup",),
    ("hide_process",),
    ("open_init",),
    ("open_handshake",),
    ("open_filesystem",),
    ("open_tree",),
    ("open_device",),
    ("open_namespace",),
    ("open_cgroup",),
    ("allow_devices",),
    ("open_proc",),
    ("set_oom_score",),
    ("join_namespaces",),
    ("join_namespace",),
    ("set_id_maps",),
    ("clone_init",),
    ("join_cgroup_namespace",),
    ("make_time_namespace",),
    ("become_root",),
    ("join_keyring",),
    ("set_link_up",),
    ("set_propagation",),
    ("attach_root",),
    ("mount", "attach"),
    ("make_device",),
    ("make_symlink",),
    ("make_directory",),
    ("make_console",),
    ("send_console",),
    ("run_hook",),
    ("run_hook_inside createContainer",),
    ("pivot_root",),
    ("new_session",),
    ("take_terminal",),
    ("set_root_readonly",),
    ("set_readonly",),
    ("set_hostname",),
    ("set_domainname",),
    ("set_sysctl",),
    ("readonly_path",),
    ("mask_path",),
    ("forbid_new_privileges",),
    ("find_home",),
    ("enter_cwd",),
    ("close_descriptors",),
    ("own_stdio",),
    ("set_rlimit",),
    ("drop_bounding",),
    ("set_groups",),
    ("set_ids",),
    ("set_capabilities",),
    ("raise_ambient",),
    ("set_umask",),
    ("find_program",),
    ("await_start",),
    ("run_hook_inside startContainer",),
    ("exec",),
)
_RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}

_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000  # linux/sched.h
#: From a user namespace the cgroup namespace of the host, which a container may have, cannot be joined.
_FROM_INSIDE = ("join_cgroup_namespace", True)


def _rank(step: Step) -> int | None:
    """The place of a step in ORDER: a hook inside has one by its kind, other steps by their verb."""
    return _RANK.get(f"{step.verb} {step.args[0]!s}" if step.verb == "run_hook_inside" else step.verb)


#: What every plan that creates a container must hold.
MANDATORY = (
    "make_cgroup hide_process open_handshake open_cgroup allow_devices clone_init set_propagation "
    "attach_root pivot_root new_session enter_cwd close_descriptors drop_bounding set_groups set_ids "
    "set_capabilities raise_ambient set_umask find_program await_start exec"
).split()

#: What every plan that enters a container must hold, and what it may hold besides: it makes and mounts
#: nothing.
ENTERING_MANDATORY = (
    "hide_process open_init open_cgroup join_namespaces clone_init join_cgroup_namespace new_session "
    "enter_cwd close_descriptors drop_bounding set_groups set_ids set_capabilities raise_ambient set_umask "
    "find_program exec"
).split()
ENTERING_OPTIONAL = (
    "open_namespace become_root open_proc set_oom_score make_console send_console take_terminal "
    "forbid_new_privileges find_home own_stdio set_rlimit"
).split()

#: verb -> verbs of which one must be there as well.
COMPANIONS: dict[str, tuple[str, ...]] = {
    "make_console": ("send_console",),
    "send_console": ("make_console",),
    "take_terminal": ("make_console",),
    "make_device": ("make_symlink",),
    "make_symlink": ("make_device", "open_device"),
    "new_session": ("take_terminal", "own_stdio"),
}

#: The default devices and links of a container; a plan has all of them or, for a /dev that is bound, none.
DEFAULT_NODES = frozenset("/dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty".split())
DEFAULT_LINKS = frozenset("/dev/fd /dev/stdin /dev/stdout /dev/stderr /dev/ptmx".split())

#: Member of the config -> the verbs of which one must do it, when the member asks for something.  A "*"
#: stands for each entry of a list or an object, whose own pointer the step must bear.
COVERAGE: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("/root/path", ("open_tree", "attach_root")),
    ("/root/readonly", ("set_root_readonly",)),
    ("/mounts/*", ("mount", "attach")),
    ("/hostname", ("set_hostname",)),
    ("/domainname", ("set_domainname",)),
    ("/process/oomScoreAdj", ("set_oom_score",)),
    ("/linux/sysctl/*", ("set_sysctl",)),
    ("/process/terminal", ("make_console",)),
    ("/process/terminal", ("send_console",)),
    ("/process/terminal", ("take_terminal",)),
    ("/process/args", ("exec",)),
    ("/process/rlimits/*", ("set_rlimit",)),
    ("/process/noNewPrivileges", ("forbid_new_privileges",)),
    ("/process/user/umask", ("set_umask",)),
    ("/process/user/additionalGids", ("set_groups",)),
    ("/process/capabilities", ("set_capabilities",)),
    ("/process/capabilities/bounding", ("drop_bounding",)),
    ("/process/capabilities/ambient", ("raise_ambient",)),
    ("/linux/namespaces", ("clone_init",)),
    ("/linux/uidMappings", ("set_id_maps", "join_namespace")),
    ("/linux/timeOffsets", ("make_time_namespace",)),
    ("/linux/cgroupsPath", ("make_cgroup",)),
    ("/linux/resources/devices", ("allow_devices",)),
    ("/linux/resources/hugepageLimits/*", ("set_cgroup",)),
    ("/linux/resources/pids/limit", ("set_cgroup",)),
    ("/linux/resources/cpu/cpus", ("set_cgroup",)),
    ("/linux/resources/cpu/mems", ("set_cgroup",)),
    ("/linux/maskedPaths/*", ("mask_path",)),
    ("/linux/readonlyPaths/*", ("readonly_path",)),
    ("/hooks/prestart/*", ("run_hook",)),
    ("/hooks/createRuntime/*", ("run_hook",)),
    ("/hooks/createContainer/*", ("run_hook_inside",)),
    ("/hooks/startContainer/*", ("run_hook_inside",)),
)


class View:
    """A plan as the laws look at it: its steps, numbered from 1, and where each verb stands."""

    __slots__ = ("config", "places", "steps")

    def __init__(self, plan: Plan, config: Config | None) -> None:
        self.steps = plan.steps
        self.config = config
        self.places: dict[str, list[int]] = {}
        for number, step in enumerate(plan.steps, 1):
            self.places.setdefault(step.verb, []).append(number)

    @property
    def creates(self) -> bool:
        """Whether the plan makes a container."""
        return ("clone_init" in self.places or "exec" in self.places) and not self.enters

    @property
    def enters(self) -> bool:
        """Whether the plan runs a process in a container that is there."""
        return "open_init" in self.places or "join_namespaces" in self.places

    def slots(self, kind: str) -> Iterator[tuple[int, Step, str]]:
        """Each argument of this kind ("slot" or "out"): number of the step, the step, the name of the
        slot."""
        for number, step in enumerate(self.steps, 1):
            for (_, one), value in zip(_VERBS[step.verb].args, step.args, strict=True):
                if one == kind:
                    yield number, step, str(value)


def lint(plan: Plan, config: Config | None = None) -> list[str]:
    """Every law that ``plan`` breaks, a sentence each; with ``config``, also what it asks for and the plan
    lacks."""
    unknown = [
        f"step {n}: no verb {step.verb}" for n, step in enumerate(plan.steps, 1) if step.verb not in _VERBS
    ]
    if unknown:
        return unknown
    view = View(plan, config)
    laws = EVERY_PLAN + (CREATING if view.creates else ENTERING if view.enters else ())
    return [complaint for law in laws for complaint in law(view)]


# -- laws for every plan
# ---------------------------------------------------------------------------------------


def order_of_the_table(view: View) -> Iterator[str]:
    """A verb stands after all those that the table names."""
    for number, step in enumerate(view.steps, 1):
        for name in _VERBS[step.verb].after:
            late = [place for place in view.places.get(name, ()) if place > number]
            if late:
                yield f"step {number}: {step.verb} must stand after {name} (step {late[-1]})"


def once(view: View) -> Iterator[str]:
    """A verb that a plan may hold once stands in it once."""
    for name, places in view.places.items():
        if len(places) > 1 and _VERBS[name].once:
            yield f"step {places[1]}: a second {name}"


def actors_in_turn(view: View) -> Iterator[str]:
    """Stage ends where init begins, and nothing follows ``exec``."""
    inside = False
    for number, step in enumerate(view.steps, 1):
        actor = _VERBS[step.verb].actor
        if actor == STAGE and inside:
            yield f"step {number}: {step.verb} is a step of stage, which is gone"
        if actor == INIT and "clone_init" not in view.places:
            yield f"step {number}: {step.verb} is a step of init, and no step clones one"
        inside = inside or actor == INIT
    for place in view.places.get("exec", ()):
        if place != len(view.steps):
            yield f"step {place}: exec must be the last step"


def slots_filled_once(view: View) -> Iterator[str]:
    """A slot is filled once, used only after that, and used at all."""
    filled: dict[str, int] = {}
    for number, step, slot in view.slots("out"):
        if slot in filled:
            yield f"step {number}: {step.verb} fills the slot {slot} again"
        filled.setdefault(slot, number)
    used: set[str] = set()
    for number, step, slot in view.slots("slot"):
        used.add(slot)
        if slot not in filled or filled[slot] >= number:
            yield f"step {number}: {step.verb} uses the slot {slot} before it is filled"
    for slot, number in filled.items():
        if slot not in used:
            yield f"step {number}: the slot {slot} is never used"


def traces_have_inverses(view: View) -> Iterator[str]:
    """What leaves a trace on the host names its inverse."""
    for number, step in enumerate(view.steps, 1):
        verb = _VERBS[step.verb]
        if bool(verb.leaves) != bool(verb.undo):
            yield f"step {number}: {step.verb} leaves a trace without an inverse"


def pointers_say_who_asked(view: View) -> Iterator[str]:
    """Every step names the member of the config that asked for it, or belongs to the lifecycle."""
    for number, step in enumerate(view.steps, 1):
        if (step.why == LIFECYCLE) != (not step.pointer):
            yield f"step {number}: {step.verb} does not say what asked for it"


def lists_in_their_order(view: View) -> Iterator[str]:
    """Steps of one verb, or of the mounts, that stand for entries of one list keep the order of the list."""
    last: dict[tuple[int | str, str], int] = {}
    for number, step in enumerate(view.steps, 1):
        place, _, entry = step.pointer.removesuffix("/path").rpartition("/")
        if not entry.isdigit() or step.args[1:] in ((_CLONE_NEWNS,), (_CLONE_NEWUSER,)):  # joined last
            continue
        key = (_rank(step) or step.verb, place)
        if int(entry) <= last.get(key, -1):
            yield f"step {number}: {step.verb} for {step.pointer} stands out of the order of the list"
        last[key] = int(entry)


def allowed_under_a_filter(view: View) -> Iterator[str]:
    """After ``load_seccomp`` only verbs whose calls any usable filter admits; a hook is a program that needs
    more than those, and what starts it needs no more than a program does."""
    for place in view.places.get("load_seccomp", ()):
        for number, step in enumerate(view.steps[place:], place + 1):
            calls = set(_VERBS[step.verb].calls) - CALLS_UNDER_ANY_FILTER
            if calls and _VERBS[step.verb].actor != HOST and step.verb != "run_hook_inside":
                yield f"step {number}: {step.verb} may be refused by the filter: {', '.join(sorted(calls))}"


# -- laws for plans that create
# ----------------------------------------------------------------------------------


def order_of_creation(view: View) -> Iterator[str]:
    """The verbs follow ORDER."""
    for number, (step, follower) in enumerate(zip(view.steps, view.steps[1:], strict=False), 1):
        rank, following = _rank(step), _rank(follower)
        if rank is None:
            yield f"step {number}: {step.verb} has no place in a plan that creates a container"
        elif rank > (len(ORDER) if following is None else following):
            yield f"step {number}: {step.verb} must stand after {follower.verb}"


def mandatory(view: View) -> Iterator[str]:
    """Nothing that every container needs is missing: groups always set, descriptors closed, cwd verified …"""
    for name in ENTERING_MANDATORY if view.enters else MANDATORY:
        if name not in view.places and (name, "become_root" in view.places) != _FROM_INSIDE:
            yield f"{name} is missing"


def companions(view: View) -> Iterator[str]:
    """What belongs together is together."""
    for name, others in COMPANIONS.items():
        if name in view.places and not any(other in view.places for other in others):
            yield f"{name} without {' or '.join(others)}"


def default_devices(view: View) -> Iterator[str]:
    """The default nodes and links are there, all of them or, where /dev is bound, none."""
    made = {
        verb: {
            str(dict(zip(_names(verb), step.args, strict=True))["path"])
            for step in view.steps
            if step.verb == verb
        }
        for verb in ("make_device", "make_symlink")
    }
    opened = {step.args[-1] for step in view.steps if step.verb == "open_device"}
    made["make_device"] |= {
        str(step.args[1]) for step in view.steps if step.verb == "attach" and step.args[0] in opened
    }
    if not any(made.values()) and _dev_is_bound(view):
        return
    for verb, wanted in (("make_device", DEFAULT_NODES), ("make_symlink", DEFAULT_LINKS)):
        for path in sorted(wanted - made[verb]):
            yield f"{verb} {path} is missing"


def _names(verb: str) -> list[str]:
    return [name for name, _ in _VERBS[verb].args]


def _dev_is_bound(view: View) -> bool:
    return any(
        step.verb == "attach" and step.args[_names("attach").index("target")] == "/dev" for step in view.steps
    )


def devices_after_mounts(view: View) -> Iterator[str]:
    """A device that is bound would vanish below a mount of the config that came later."""
    bound = [n for n in view.places.get("attach", ()) if view.steps[n - 1].pointer == "/linux/devices"]
    for number in view.places.get("mount", []) + view.places.get("attach", []):
        if bound and number > bound[0] and view.steps[number - 1].pointer != "/linux/devices":
            yield f"step {number}: {view.steps[number - 1].pointer} must stand before the devices"


def late_readonly(view: View) -> Iterator[str]:
    """A step that closes a mount stands for one that was made."""
    mounted = {step.pointer for step in view.steps if step.verb == "mount"}
    for number in view.places.get("set_readonly", ()):
        if view.steps[number - 1].pointer not in mounted:
            yield f"step {number}: set_readonly for a mount that no step made"


def root_before_mounts(view: View) -> Iterator[str]:
    """What belongs to the root file system is attached before the mounts of the config, in its own order."""
    places = [
        (number, _root_number(step.pointer))
        for number, step in enumerate(view.steps, 1)
        if step.verb in ("attach", "mount")
    ]
    for (_, before), (number, after) in pairwise(places):
        if before > after:
            yield f"step {number}: {view.steps[number - 1].pointer} of the root must be attached before"


def _root_number(pointer: str) -> float:
    """N of ``rootfs[N]``; what is not of the root comes after all of them."""
    return int(pointer[7:-1]) if pointer.startswith("rootfs[") else math.inf


def prestart_first(view: View) -> Iterator[str]:
    """The hooks of kind prestart run before those of kind createRuntime (config.md#prestart)."""
    kinds = [(number, str(view.steps[number - 1].args[0])) for number in view.places.get("run_hook", ())]
    for (_, before), (number, after) in pairwise(kinds):
        if (before, after) == ("createRuntime", "prestart"):
            yield f"step {number}: a prestart hook must stand before those of createRuntime"


def covered(view: View) -> Iterator[str]:
    """Every member of the config that asks for something has its step (only when the config is given)."""
    if view.config is None:
        return
    yield from _asked_covered(view, "/")
    yield from _cwd_covered(view)
    yield from _keeps_readonly(view)
    yield from _loopback(view)
    yield from _new_time(view)
    yield from _home(view)


def _asked_covered(view: View, place: str) -> Iterator[str]:
    """Every member below ``place`` that asks for something is cited by a step that does it."""
    assert view.config is not None
    cited = {(step.pointer, step.verb) for step in view.steps}
    for pattern, verbs in COVERAGE:
        for pointer in _asked(view.config, pattern) if pattern.startswith(place) else ():
            if not any((pointer, verb) in cited for verb in verbs):
                yield f"{pointer} is asked for and no step does it"


def _asked(config: Mapping[str, object], pattern: str) -> Iterator[str]:
    """The pointers that ``pattern`` stands for in ``config``, where they ask for something."""
    value: object = config
    for part in pattern.removesuffix("/*").split("/")[1:]:
        value = value.get(part) if _is_object(value) else None
    if pattern.endswith("/*"):
        entries = range(len(value)) if _is_list(value) else value if _is_object(value) else ()
        yield from (f"{pattern.removesuffix('*')}{_escaped(str(entry))}" for entry in entries)
    elif value is not None and value is not False and value not in ("", [], {}):
        yield pattern


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _is_object(value: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(value, dict)


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def _cwd_covered(view: View) -> Iterator[str]:
    """A working directory below the root is made where it is missing."""
    for number in view.places.get("enter_cwd", ()):
        if view.steps[number - 1].args != ("/",) and "make_directory" not in view.places:
            yield f"step {number}: nothing makes the working directory"


def _keeps_readonly(view: View) -> Iterator[str]:
    """A new mount that asked for ``ro`` is read-only from the start, or closed by set_readonly."""
    mounts = view.config.get("mounts", []) if view.config else []
    closed = {view.steps[number - 1].pointer for number in view.places.get("set_readonly", ())}
    place = _names("mount").index("set")
    for step in view.steps:
        if step.verb != "mount":
            continue
        words = mounts[int(step.pointer.rpartition("/")[2])].get("options", [])
        last = [word for word in words if word in ("ro", "rw")][-1:]
        if last == ["ro"] and not int(str(step.args[place])) & 1 and step.pointer not in closed:
            yield f"{step.pointer} asks for ro and stays writable"


def _home(view: View) -> Iterator[str]:
    """HOME is set: by the environment, or looked up."""
    for number in view.places.get("exec", ()):
        environment = view.steps[number - 1].args[_names("exec").index("env")]
        assert isinstance(environment, tuple)
        if "find_home" not in view.places and not any(
            str(entry).startswith("HOME=") for entry in environment
        ):
            yield f"step {number}: HOME is neither set nor looked up"


def root_of_its_users(view: View) -> Iterator[str]:
    """Where there is another user namespace, its root makes and mounts; it is entered after all others."""
    last = (_CLONE_NEWNS, _CLONE_NEWUSER)
    late = [(n, view.steps[n - 1].args[1]) for n in view.places.get("join_namespace", ())]
    for (number, kind), (_, follower) in pairwise(late):
        if kind in last and (follower not in last or kind == _CLONE_NEWUSER):
            yield f"step {number}: the mount and then the user namespace must be joined last"
    for verb, place in (("clone_init", 0), ("join_namespace", 1), ("join_namespaces", 1)):
        for number in view.places.get(verb, ()):
            entered = int(str(view.steps[number - 1].args[place])) & _CLONE_NEWUSER
            if entered and "become_root" not in view.places:
                yield f"step {number}: nobody becomes root of the user namespace"


def _new_time(view: View) -> Iterator[str]:
    """A new time namespace, which no clone makes, is made."""
    listed = view.config.get("linux", {}).get("namespaces", []) if view.config else []
    new = any(one["type"] == "time" and not one.get("path") for one in listed)
    if new and "make_time_namespace" not in view.places:
        yield "no step makes the time namespace"


def _loopback(view: View) -> Iterator[str]:
    """A new network namespace has its loopback up."""
    clone_new_network = 0x40000000
    for number in view.places.get("clone_init", ()):
        if int(str(view.steps[number - 1].args[0])) & clone_new_network and "set_link_up" not in view.places:
            yield "the loopback of the new network namespace stays down"


# -- laws for plans that enter
# -----------------------------------------------------------------------------------


def leaves_the_container_alone(view: View) -> Iterator[str]:
    """Nothing is made in the container but a process, which lives where init lives."""
    for number, step in enumerate(view.steps, 1):
        if step.verb not in ENTERING_MANDATORY and step.verb not in ENTERING_OPTIONAL:
            yield f"step {number}: {step.verb} has no place in a plan that enters a container"
        arguments = dict(zip(_names(step.verb), step.args, strict=True))
        if step.verb in ("clone_init", "become_root") and arguments["namespaces"]:
            yield f"step {number}: a new namespace in a plan that enters a container"
        if step.verb == "join_namespaces" and not int(str(arguments["namespaces"])) & _CLONE_NEWNS:
            yield f"step {number}: the mount namespace is not joined"
        if step.verb == "make_console" and arguments["bind"]:
            yield f"step {number}: the console of the container is that of its init"


def process_covered(view: View) -> Iterator[str]:
    """Every member of the process that asks for something has its step; the config is the container's with
    this process as its own."""
    if view.config is not None:
        yield from _asked_covered(view, "/process/")
        yield from _home(view)


EVERY_PLAN: tuple[Callable[[View], Iterator[str]], ...] = (
    order_of_the_table,
    once,
    actors_in_turn,
    slots_filled_once,
    traces_have_inverses,
    pointers_say_who_asked,
    lists_in_their_order,
    allowed_under_a_filter,
)
CREATING: tuple[Callable[[View], Iterator[str]], ...] = (
    order_of_creation,
    mandatory,
    companions,
    default_devices,
    devices_after_mounts,
    late_readonly,
    root_before_mounts,
    prestart_first,
    root_of_its_users,
    covered,
)
ENTERING: tuple[Callable[[View], Iterator[str]], ...] = (
    order_of_creation,
    mandatory,
    companions,
    leaves_the_container_alone,
    root_of_its_users,
    process_covered,
)
