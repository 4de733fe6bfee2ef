"""Who the process is and how much it may use: groups, ids, umask, resource limits."""

from __future__ import annotations

from ocirun.plan import steps
from ocirun.plan.model import ASKED, DEFAULT
from ocirun.planner.namespaces import drops_groups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft

#: Name in the config -> number of setrlimit (asm-generic/resource.h; x86-64, arm64 and most others).
RLIMITS: dict[str, int] = {
    "RLIMIT_CPU": 0,
    "RLIMIT_FSIZE": 1,
    "RLIMIT_DATA": 2,
    "RLIMIT_STACK": 3,
    "RLIMIT_CORE": 4,
    "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6,
    "RLIMIT_NOFILE": 7,
    "RLIMIT_MEMLOCK": 8,
    "RLIMIT_AS": 9,
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}

#: (uid_t) -1 and (gid_t) -1 mean "leave it" to the kernel: asking for them would silently keep root.
_NOBODY = 0xFFFFFFFF
#: The kernel's NGROUPS_MAX.
_MOST_GROUPS = 65536


def rlimits(draft: Draft) -> Sequence[Step]:
    """``process.rlimits``, while there is still the capability to raise them."""
    planned: list[Step] = []
    for number, limit in enumerate(draft.process.get("rlimits", ())):
        pointer = f"/process/rlimits/{number}"
        if limit["type"] not in RLIMITS:
            draft.fault(pointer + "/type", limit["type"], "is no resource limit of Linux")
            continue
        if limit["soft"] > limit["hard"]:
            draft.fault(pointer + "/soft", limit["soft"], f"must not exceed the hard limit, {limit['hard']}")
        planned.append(
            steps.set_rlimit(
                resource=RLIMITS[limit["type"]], soft=limit["soft"], hard=limit["hard"], pointer=pointer
            )
        )
    return planned


def groups(draft: Draft) -> Sequence[Step]:
    """The groups, before the ids, as changing them needs the privilege that the ids give up; always, so that
    none of the caller's stay (CVE-2022-2989 and its kin), unless the kernel lets nobody change them."""
    asked = draft.user.get("additionalGids", [])
    for number, value in enumerate(asked):
        if value == _NOBODY:
            draft.fault(
                f"/process/user/additionalGids/{number}", value, "must be below 4294967295, which is no id"
            )
    if len(asked) > _MOST_GROUPS:
        draft.fault("/process/user/additionalGids", asked, f"must not hold more than {_MOST_GROUPS} groups")
    if drops_groups(draft):
        return ()
    if draft.host.unprivileged:
        from ocirun.planner import unprivileged

        if not unprivileged.may_set_groups(draft):
            return ()
    why = ASKED if asked else DEFAULT
    return (steps.set_groups(groups=asked, pointer="/process/user/additionalGids", why=why),)


def ids(draft: Draft) -> Sequence[Step]:
    """The user and the group of the process."""
    for name, value in (("uid", draft.uid), ("gid", draft.gid)):
        if value == _NOBODY:
            draft.fault(f"/process/user/{name}", value, "must be below 4294967295, which is no id")
    return (steps.set_ids(uid=draft.uid, gid=draft.gid, pointer="/process/user"),)


def umask(draft: Draft) -> Sequence[Step]:
    """``process.user.umask``; absent, the caller's, which the helper has changed meanwhile, comes back."""
    mask = draft.user.get("umask")
    if mask is None:
        return (steps.set_umask(mask=-1, pointer="/process/user/umask", why=DEFAULT),)
    if mask > 0o777:
        draft.fault("/process/user/umask", mask, "must not exceed 511 (octal 777)")
        mask = 0
    return (steps.set_umask(mask=mask, pointer="/process/user/umask"),)
