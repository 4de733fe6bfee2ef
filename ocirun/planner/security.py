"""Capabilities, no_new_privs, the profile of AppArmor, the session keyring, and when the filter of system
calls is loaded."""

from __future__ import annotations

from ocirun.plan import steps
from ocirun.plan.model import ASKED, DEFAULT, LIFECYCLE
from ocirun.planner import identity, program
from ocirun.planner.namespaces import index_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft

_POINTER = "/process/capabilities"

#: The capabilities of Linux in the order of their numbers (linux/capability.h).
CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
_BITS = {name: 1 << number for number, name in enumerate(CAPABILITIES)}


def keyring(draft: Draft) -> Sequence[Step]:
    """A session keyring of its own, so that the caller's keys are not the container's (keyrings(7)).

    It has the label of the program, which could not use it under that of the runtime.
    """
    if not draft.options.new_keyring:
        return ()
    joined = steps.join_keyring(name=f"_ses.{draft.options.id}", pointer="", why=LIFECYCLE)
    if not is_labelled(draft):
        return (joined,)
    label = draft.process.get("selinuxLabel", "")
    return steps.label_keyring(proc="proc", label=label, pointer="/process/selinuxLabel"), joined


def is_labelled(draft: Draft) -> bool:
    """Whether ``process.selinuxLabel`` is a label to get."""
    return draft.host.selinux and bool(draft.process.get("selinuxLabel", ""))


def selinux(draft: Draft) -> Sequence[Step]:
    """``process.selinuxLabel``: for the program only."""
    if not is_labelled(draft):
        return ()
    label = draft.process.get("selinuxLabel", "")
    return (steps.set_selinux(proc="proc", label=label, pointer="/process/selinuxLabel"),)


def is_confined(draft: Draft) -> bool:
    """Whether ``process.apparmorProfile`` names a profile to get."""
    return draft.host.apparmor and bool(draft.process.get("apparmorProfile", ""))


def apparmor(draft: Draft) -> Sequence[Step]:
    """The profile of AppArmor, where there is one: only then is its planner loaded."""
    if not is_confined(draft):
        return ()
    from ocirun.planner import procfs

    return procfs.apparmor(draft)


def scheduling(draft: Draft) -> Sequence[Step]:
    """When and where the program runs: its planner is loaded only for a config that says something of it."""
    asked = "scheduler" in draft.process or "ioPriority" in draft.process
    if not asked and not draft.linux.get("personality") and not draft.linux.get("memoryPolicy"):
        return ()
    from ocirun.planner import scheduling as planner

    return planner.plan(draft)


def new_privileges(draft: Draft) -> Sequence[Step]:
    """``process.noNewPrivileges``."""
    if not draft.process.get("noNewPrivileges", False):
        return ()
    return (steps.forbid_new_privileges(pointer="/process/noNewPrivileges"),)


def become(draft: Draft) -> Sequence[Step]:
    """The steps between the last resource limit and the start: from root to the user of the program.

    Whoever may not gain privileges may load a filter at the very end.  Without no_new_privs it takes
    CAP_SYS_ADMIN (seccomp(2)), so the filter comes before the capabilities go, and what it may refuse comes
    before the filter: under it the laws let only calls pass that no program can do without.
    """
    ids, groups = identity.ids(draft), identity.groups(draft)
    dropped, given = bounding(draft), capabilities(draft)
    early = draft.filtered and not draft.process.get("noNewPrivileges", False)
    mask, searched = identity.umask(draft), program.find_program(draft, early=early)
    if early:
        return [*groups, *mask, *searched, *_filter(draft), *dropped, *ids, *given]
    return [*dropped, *groups, *ids, *given, *mask, *searched, *_filter(draft)]


def _filter(draft: Draft) -> Sequence[Step]:
    """Its planner is loaded only for a container that has one."""
    if not draft.filtered:
        return ()
    from ocirun.planner import seccomp

    return seccomp.load(draft)


def bounding(draft: Draft) -> Sequence[Step]:
    """The bounding set, while CAP_SETPCAP is still there; absent capabilities mean none, as in runc."""
    asked = draft.process.get("capabilities", {})
    keep = _bits(
        draft, "bounding", asked.get("bounding", ()), _grantable(draft), "this process does not have it"
    )
    return (steps.drop_bounding(keep=keep, pointer=f"{_POINTER}/bounding", why=_why(draft, "bounding")),)


def capabilities(draft: Draft) -> Sequence[Step]:
    """The sets of the process.

    What cannot be granted is warned of and left out, for the specification forbids to fail because of it:
    what the host does not have, what capset(2) would refuse (effective outside of permitted, inheritable
    outside of bounding) and ambient outside of permitted and inheritable (capabilities(7)).  Ambient and
    inheritable hold nothing that was not asked for.
    """
    asked = draft.process.get("capabilities", {})
    has = _grantable(draft)
    kept = sum({_BITS.get(name, 0) for name in asked.get("bounding", ())}) & has
    permitted = _bits(draft, "permitted", asked.get("permitted", ()), has, "this process does not have it")
    effective = _bits(draft, "effective", asked.get("effective", ()), permitted, "it is not permitted")
    inheritable = _bits(
        draft, "inheritable", asked.get("inheritable", ()), kept, "it is not in the bounding set"
    )
    ambient = _bits(
        draft,
        "ambient",
        asked.get("ambient", ()),
        permitted & inheritable,
        "it is not permitted and inheritable",
    )
    why = ASKED if asked else DEFAULT
    return (
        steps.set_capabilities(
            effective=effective, permitted=permitted, inheritable=inheritable, pointer=_POINTER, why=why
        ),
        steps.raise_ambient(capabilities=ambient, pointer=f"{_POINTER}/ambient", why=_why(draft, "ambient")),
    )


def _grantable(draft: Draft) -> int:
    """What init has to give: in a user namespace all there is, else what the caller has
    (user_namespaces(7))."""
    if index_of(draft, "user") >= 0:
        return (1 << len(CAPABILITIES)) - 1
    return draft.host.capabilities


def _why(draft: Draft, name: str) -> str:
    sets: Mapping[str, object] = draft.process.get("capabilities", {})
    return ASKED if sets.get(name) else DEFAULT


def _bits(draft: Draft, kind: str, names: Sequence[str], grantable: int, reason: str) -> int:
    """The bits of ``names`` that are in ``grantable``; a warning for each of the others."""
    bits = 0
    for number, name in enumerate(names):
        bit = _BITS.get(name, 0)
        if not bit:
            draft.warn(f"{_POINTER}/{kind}/{number}", name, "is no capability this version knows: left out")
        elif not bit & grantable:
            draft.warn(f"{_POINTER}/{kind}/{number}", name, f"cannot be granted, {reason}: left out")
        else:
            bits |= bit
    return bits
