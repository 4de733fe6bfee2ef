"""The laws of order, and of what a plan must hold; the tests and ``ocirun plan`` ask here, no container
waits.

Each law is a function that takes a View of the plan and yields what breaks it, as sentences that name the
steps. A plan without ``clone_init`` (an undo) is held only to the laws that every plan is under; one that
enters a container that is there (an exec) has laws of its own, under the same order.
"""

from __future__ import annotations

import math
from itertools import pairwise

from ocirun.plan.coverage import covered, mounts_covered, process_covered
from ocirun.plan.model import LIFECYCLE
from ocirun.plan.order import order_of_creation, rank
from ocirun.plan.origins import askers_fit, no_twins, slots_of_their_kind
from ocirun.plan.table import CALLS_UNDER_ANY_FILTER, HOST, INIT, STAGE
from ocirun.plan.values import values_of_the_config
from ocirun.plan.view import CLONE_NEWNS, CLONE_NEWUSER, VERBS, View, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ocirun_spec.types import Config

    from ocirun.plan.model import Plan

#: What is there for the cgroup of a container alone.
_IN_A_CGROUP = (
    "make_cgroup", "open_cgroup", "make_scope", "set_cgroup", "own_cgroup", "vacate_cgroup",
    "limit_processes",
)  # fmt: skip
#: From a user namespace the cgroup namespace of the host, which a container may have, cannot be joined.
_FROM_INSIDE = ("join_cgroup_namespace", True)

#: SECCOMP_FILTER_FLAG_NEW_LISTENER (linux/seccomp.h).
_NEW_LISTENER = 8

#: A root may be covered by another one while the mounts are made; what stands after it needs the first.
COVERED = "attach_root"

#: What every plan that creates a container must hold.
MANDATORY = (
    "hide_process open_handshake open_cgroup allow_devices clone_init set_affinity set_propagation "
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
    "join_scope open_namespace become_root open_proc set_oom_score make_console send_console take_terminal "
    "set_selinux set_apparmor forbid_new_privileges set_scheduler set_io_priority set_personality "
    "set_memory_policy find_home own_stdio set_rlimit load_seccomp send_listener set_initial_affinity "
    "set_affinity enter_resctrl drop_groups"
).split()

#: And what a plan may hold that changes the mounts of a container: nothing becomes of the process.
MOUNTING_MANDATORY = "hide_process open_init join_namespaces clone_init join_cgroup_namespace".split()
MOUNTING_OPTIONAL = (
    "open_filesystem enter_view open_tree leave_view open_namespace open_proc make_mapping map_ids "
    "drop_groups become_root mount attach unmount"
).split()

#: verb -> verbs of which one must be there as well.
COMPANIONS: dict[str, tuple[str, ...]] = {
    "make_console": ("send_console",),
    "send_console": ("make_console",),
    "take_terminal": ("make_console",),
    "make_device": ("make_symlink",),
    "make_resctrl": ("enter_resctrl",),
    "enter_resctrl": ("make_resctrl", "open_init"),
    "make_symlink": ("make_device", "open_device"),
    "new_session": ("take_terminal", "own_stdio"),
    "enter_view": ("leave_view",),
    "leave_view": ("enter_view",),
}

#: The default devices and links of a container; a plan has all of them or, for a /dev that is bound, none.
DEFAULT_NODES = frozenset("/dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty".split())
DEFAULT_LINKS = frozenset("/dev/fd /dev/stdin /dev/stdout /dev/stderr /dev/ptmx".split())


def lint(plan: Plan, config: Config | None = None) -> list[str]:
    """Every law that ``plan`` breaks, a sentence each; with ``config``, also what it asks for and the plan
    lacks."""
    return list(complaints(plan, config))


def complaints(plan: Plan, config: Config | None = None) -> Iterator[str]:
    """As ``lint``, one by one: whoever wants to know whether there is any need not wait for all."""
    unknown = [
        f"step {n}: no verb {step.verb}" for n, step in enumerate(plan.steps, 1) if step.verb not in VERBS
    ]
    if unknown:
        yield from unknown
        return
    view = View(plan, config)
    of_its_kind = (
        MOUNTING if view.changes_mounts else CREATING if view.creates else ENTERING if view.enters else ()
    )
    for law in EVERY_PLAN + of_its_kind:
        yield from law(view)


# -- laws for every plan


def order_of_the_table(view: View) -> Iterator[str]:
    """A verb stands after all those that the table names."""
    for number, step in enumerate(view.steps, 1):
        for name in VERBS[step.verb].after:
            places = view.places.get(name, [])
            late = [place for place in places if place > number]
            if late and not (name == COVERED and places[0] < number):
                yield f"step {number}: {step.verb} must stand after {name} (step {late[-1]})"


def once(view: View) -> Iterator[str]:
    """A verb that a plan may hold once stands in it once."""
    for name, places in view.places.items():
        if len(places) > 1 and VERBS[name].once:
            yield f"step {places[1]}: a second {name}"


def actors_in_turn(view: View) -> Iterator[str]:
    """Stage ends where init begins, and nothing follows ``exec``."""
    inside = False
    for number, step in enumerate(view.steps, 1):
        actor = VERBS[step.verb].actor
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
        if not slot and step.verb == "load_seccomp":  # a filter that asks nobody
            continue
        if slot in filled:
            yield f"step {number}: {step.verb} fills the slot {slot} again"
        filled.setdefault(slot, number)
    used: set[str] = set()
    for number, step, slot in view.slots("slot"):
        if not slot and _has_none(view, step.verb):
            continue
        used.add(slot)
        if slot not in filled or filled[slot] >= number:
            yield f"step {number}: {step.verb} uses the slot {slot} before it is filled"
    for slot, number in filled.items():
        if slot not in used:
            yield f"step {number}: the slot {slot} is never used"


def _has_none(view: View, verb: str) -> bool:
    """Whether an empty slot is right: there is no cgroup to be born in, or no start to be waited for."""
    return view.without_cgroup if verb == "clone_init" else verb == "close_descriptors" and view.enters


def traces_have_inverses(view: View) -> Iterator[str]:
    """What leaves a trace on the host names its inverse."""
    for number, step in enumerate(view.steps, 1):
        verb = VERBS[step.verb]
        if bool(verb.leaves) != bool(verb.undo):
            yield f"step {number}: {step.verb} leaves a trace without an inverse"


def pointers_say_who_asked(view: View) -> Iterator[str]:
    """Every step names the member of the config that asked for it, or belongs to the lifecycle."""
    for number, step in enumerate(view.steps, 1):
        if (step.why == LIFECYCLE) != (not step.pointer):
            yield f"step {number}: {step.verb} does not say what asked for it"


def lists_in_their_order(view: View) -> Iterator[str]:
    """Steps of one verb, or of the mounts, that stand for entries of one list keep the order of the list;
    what is taken away goes backwards."""
    last: dict[tuple[int | str, str], float] = {}
    for number, step in enumerate(view.steps, 1):
        place, _, entry = step.pointer.removesuffix("/path").rpartition("/")
        if not entry.isdigit() or step.args[1:] in ((CLONE_NEWNS,), (CLONE_NEWUSER,)):  # joined last
            continue
        key = (rank(step) or step.verb, place)
        turn = -int(entry) if step.verb == "unmount" else int(entry)
        if turn <= last.get(key, -math.inf):
            yield f"step {number}: {step.verb} for {step.pointer} stands out of the order of the list"
        last[key] = turn


def allowed_under_a_filter(view: View) -> Iterator[str]:
    """After ``load_seccomp`` only verbs whose calls any usable filter admits; a hook is a program that needs
    more than those, and what starts it needs no more than a program does."""
    for place in view.places.get("load_seccomp", ()):
        for number, step in enumerate(view.steps[place:], place + 1):
            calls = set(VERBS[step.verb].calls) - CALLS_UNDER_ANY_FILTER
            if calls and VERBS[step.verb].actor != HOST and step.verb != "run_hook_inside":
                yield f"step {number}: {step.verb} may be refused by the filter: {', '.join(sorted(calls))}"


def mandatory(view: View) -> Iterator[str]:
    """Nothing that every container needs is missing: groups always set, descriptors closed, cwd verified …"""
    lacked, spared = _lacked(view)
    for name in ENTERING_MANDATORY if view.enters else MANDATORY:
        spare = name in lacked | spared or (name, "become_root" in view.places) == _FROM_INSIDE
        if name not in view.places and not spare:
            yield f"{name} is missing"
    if not view.enters and not view.cgroup and "make_cgroup" not in lacked:
        yield "make_cgroup is missing"
    for name in sorted(lacked & view.places.keys()):
        yield f"{name} has no place in this plan"


def _lacked(view: View) -> tuple[set[str], set[str]]:
    """What a plan must not have, and what it may do without: what is of a cgroup where init stays in that of
    the caller, a device program and setgroups(2) for who may not do it."""
    lacked, spared = _lacked_of_a_user(view)
    if view.without_cgroup:
        lacked |= {"allow_devices", *_IN_A_CGROUP}
    if "drop_groups" in view.places:
        lacked |= {"set_groups"}
    if view.config is not None and "process" not in view.config:
        lacked |= {"find_home", "find_program", "exec"}
    return lacked, spared


def _lacked_of_a_user(view: View) -> tuple[set[str], set[str]]:
    if not view.unprivileged:
        return set(), set()
    lacked = {"allow_devices"}
    if view.argument("make_user_namespace", "newgidmap") == "":
        lacked |= {"set_groups"}
    return lacked, set() if "make_user_namespace" in view.places else {"set_groups"}


def companions(view: View) -> Iterator[str]:
    """What belongs together is together."""
    for name, others in COMPANIONS.items():
        if name in view.places and not any(other in view.places for other in others):
            yield f"{name} without {' or '.join(others)}"


def labelled_alike(view: View) -> Iterator[str]:
    """A program with a label of SELinux has a keyring with that label: it could not use another."""
    wanted = {"set_selinux", "join_keyring"} <= view.places.keys()
    if wanted != ("label_keyring" in view.places):
        yield "the keyring has not the label of the program" if wanted else "a label without its program"


def default_devices(view: View) -> Iterator[str]:
    """The default nodes and links are there, all of them or, where /dev is bound, none."""
    made = {
        verb: {
            str(dict(zip(names(verb), step.args, strict=True))["path"])
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


def _dev_is_bound(view: View) -> bool:
    return any(
        step.verb == "attach" and step.args[names("attach").index("target")] == "/dev" for step in view.steps
    )


def devices_after_mounts(view: View) -> Iterator[str]:
    """A device that is bound would vanish below a mount of the config that came later."""
    attached = view.places.get("attach", [])
    bound = [number for number in attached if _is_device(view, number)]
    for number in view.places.get("mount", []) + view.places.get("remount", []) + attached:
        if bound and number > bound[0] and not _is_device(view, number):
            yield f"step {number}: {view.steps[number - 1].pointer} must stand before the devices"


def _is_device(view: View, number: int) -> bool:
    return view.steps[number - 1].pointer.startswith("/linux/devices")


def late_readonly(view: View) -> Iterator[str]:
    """A step that closes a mount stands for one that was made."""
    mounted = {step.pointer for step in view.steps if step.verb in ("mount", "remount", "attach_root")}
    for number in view.places.get("set_readonly", ()):
        if view.steps[number - 1].pointer not in mounted:
            yield f"step {number}: set_readonly for a mount that no step made"


def root_before_mounts(view: View) -> Iterator[str]:
    """What belongs to the root file system is attached before the mounts of the config, in its own order."""
    for number in view.places.get(COVERED, ())[:1]:
        if view.steps[number - 1].pointer != "/root/path":
            yield f"step {number}: the root of the config must be attached first"
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


def root_of_its_users(view: View) -> Iterator[str]:
    """Where there is another user namespace, its root makes and mounts; it is entered after all others."""
    last = (CLONE_NEWNS, CLONE_NEWUSER)
    late = [(n, view.steps[n - 1].args[1]) for n in view.places.get("join_namespace", ())]
    for (number, kind), (_, follower) in pairwise(late):
        if kind in last and (follower not in last or kind == CLONE_NEWUSER):
            yield f"step {number}: the mount and then the user namespace must be joined last"
    for verb, place in (("clone_init", 0), ("join_namespace", 1), ("join_namespaces", 1)):
        for number in view.places.get(verb, ()):
            entered = int(str(view.steps[number - 1].args[place])) & CLONE_NEWUSER
            if entered and "become_root" not in view.places:
                yield f"step {number}: nobody becomes root of the user namespace"
    entering = {"make_user_namespace", "enter_user_namespace"} & view.places.keys()
    if entering and "become_root" not in view.places:
        yield "nobody becomes root of the user namespace"


def locked_for_its_users(view: View) -> Iterator[str]:
    """What goes into another user namespace is opened as one sees it; who entered one before does anyhow."""
    places = (("clone_init", 0), ("join_namespace", 1), ("join_namespaces", 1))
    entered = [flags for verb, place in places for flags in _flags_of(view, verb, place)]
    users = any(flags & CLONE_NEWUSER for flags in entered)
    if (
        users
        and not {"enter_view", "make_user_namespace"} & view.places.keys()
        and "open_tree" in view.places
    ):
        yield "the mounts of the host are not locked for the user namespace"


def _flags_of(view: View, verb: str, place: int) -> Iterator[int]:
    for number in view.places.get(verb, ()):
        yield int(str(view.steps[number - 1].args[place]))


def leaves_the_container_alone(view: View) -> Iterator[str]:
    """Nothing is made in the container but a process, which lives where init lives."""
    for number, step in enumerate(view.steps, 1):
        if step.verb not in ENTERING_MANDATORY and step.verb not in ENTERING_OPTIONAL:
            yield f"step {number}: {step.verb} has no place in a plan that enters a container"
        arguments = dict(zip(names(step.verb), step.args, strict=True))
        if step.verb in ("clone_init", "become_root") and arguments["namespaces"]:
            yield f"step {number}: a new namespace in a plan that enters a container"
        if step.verb == "join_namespaces" and not int(str(arguments["namespaces"])) & CLONE_NEWNS:
            yield f"step {number}: the mount namespace is not joined"
        if step.verb == "make_console" and arguments["bind"]:
            yield f"step {number}: the console of the container is that of its init"


def changes_mounts_alone(view: View) -> Iterator[str]:
    """It holds what it needs, joins the mount namespace, and either adds mounts or takes some away."""
    for name in MOUNTING_MANDATORY:
        if name not in view.places and (name, "become_root" in view.places) != _FROM_INSIDE:
            yield f"{name} is missing"
    for number, step in enumerate(view.steps, 1):
        if step.verb not in MOUNTING_MANDATORY and step.verb not in MOUNTING_OPTIONAL:
            yield f"step {number}: {step.verb} has no place in a plan that changes mounts"
    if not any(flags & CLONE_NEWNS for flags in _flags_of(view, "join_namespaces", 1)):
        yield "the mount namespace is not joined"
    if any(_flags_of(view, "clone_init", 0)) or any(_flags_of(view, "become_root", 0)):
        yield "a new namespace in a plan that enters a container"
    if "unmount" in view.places and {"mount", "attach"} & view.places.keys():
        yield "mounts are added and taken away at once"


def listeners_are_handed_on(view: View) -> Iterator[str]:
    """A filter that asks somebody has its descriptor handed to him, by a stage that has it in common."""
    asking = False
    for number in view.places.get("load_seccomp", ()):
        arguments = dict(zip(names("load_seccomp"), view.steps[number - 1].args, strict=True))
        asking = bool(arguments.get("listener"))
        if asking != bool(int(str(arguments.get("flags", 0))) & _NEW_LISTENER):
            yield f"step {number}: the flags and the listener of the filter contradict each other"
    if asking != ("send_listener" in view.places):
        yield "nobody gets the listener of the filter" if asking else "there is no listener to send"
    if "clone_init" in view.places and asking != bool(view.argument("clone_init", "sharing")):
        yield "stage stays for a listener, and only for one"


def programs_whole(view: View) -> Iterator[str]:
    """A device program has instructions of eight bytes, the last of which leaves it (linux/bpf.h)."""
    leave = b"\x95" + bytes(7)
    for place in view.places.get("allow_devices", ()):
        code = view.steps[place - 1].args[names("allow_devices").index("program")]
        if not isinstance(code, bytes) or len(code) % 8 or code[-8:] != leave:
            yield f"step {place}: the device program is cut off"


EVERY_PLAN: tuple[Callable[[View], Iterator[str]], ...] = (
    order_of_the_table,
    once,
    actors_in_turn,
    slots_filled_once,
    traces_have_inverses,
    pointers_say_who_asked,
    lists_in_their_order,
    allowed_under_a_filter,
    slots_of_their_kind,
    no_twins,
    programs_whole,
    listeners_are_handed_on,
)
CREATING: tuple[Callable[[View], Iterator[str]], ...] = (
    order_of_creation,
    mandatory,
    companions,
    labelled_alike,
    default_devices,
    devices_after_mounts,
    late_readonly,
    root_before_mounts,
    prestart_first,
    root_of_its_users,
    locked_for_its_users,
    askers_fit,
    covered,
    values_of_the_config,
)
ENTERING: tuple[Callable[[View], Iterator[str]], ...] = (
    order_of_creation,
    mandatory,
    companions,
    leaves_the_container_alone,
    root_of_its_users,
    askers_fit,
    process_covered,
    values_of_the_config,
)
MOUNTING: tuple[Callable[[View], Iterator[str]], ...] = (
    order_of_creation,
    changes_mounts_alone,
    companions,
    late_readonly,
    root_of_its_users,
    locked_for_its_users,
    askers_fit,
    mounts_covered,
    values_of_the_config,
)
