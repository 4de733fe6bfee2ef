"""Namespaces: which init is born in, the loopback of a new network, the host name of a new UTS namespace."""

from __future__ import annotations

from ocirun.plan import steps
from ocirun.planner.cgroup import slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft

#: Type in the config -> flag of clone3 and setns (linux/sched.h).
FLAGS: dict[str, int] = {
    "time": 0x00000080,
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "network": 0x40000000,
}


def index_of(draft: Draft, kind: str) -> int:
    """The place in /linux/namespaces of this kind, new or joined; -1 when it is inherited."""
    for number, namespace in enumerate(draft.linux.get("namespaces", ())):
        if namespace["type"] == kind:
            return number
    return -1


def is_new(draft: Draft, kind: str) -> bool:
    """Whether the container gets a namespace of this kind that nobody else has been in."""
    number = index_of(draft, kind)
    return number >= 0 and not draft.linux.get("namespaces", [])[number].get("path")


def is_simple(draft: Draft) -> bool:
    """Whether clone3 alone makes all namespaces: nothing to join, to map or to set a clock in."""
    return not any(
        namespace.get("path") or namespace["type"] in ("user", "time")
        for namespace in draft.linux.get("namespaces", ())
    )


def is_entered(draft: Draft) -> bool:
    """Whether the helper enters the user namespace before all else, as it does for an ordinary user: he has
    no right to anything outside of it.  Whoever enters a container later joins what its init has."""
    if draft.host.euid == 0 or index_of(draft, "user") < 0:
        return False
    return is_new(draft, "user") or bool(draft.options.bundle)


def drops_groups(draft: Draft) -> bool:
    """Whether stage gives its groups up before it joins a user namespace that exists, in which it may be that
    nobody can."""
    joined = index_of(draft, "user") >= 0 and not is_new(draft, "user")
    reach = draft.host.reach
    may = draft.host.euid == 0 and (reach is None or reach.setgroups)
    return joined and may and not draft.user.get("additionalGids")


def later(draft: Draft) -> int:
    """The flags of new namespaces that only the root of the user namespace may make: the root directory of
    mqueue, which is born with its ipc namespace, belongs to who made that (ipc/mqueue.c)."""
    return FLAGS["ipc"] if is_new(draft, "ipc") and index_of(draft, "user") >= 0 else 0


def clone(draft: Draft) -> Sequence[Step]:
    """Init is born in its new namespaces, and in those that stage joined; a type that is not listed is
    inherited (config-linux.md).  Its time namespace it makes itself: clone3 would freeze the offsets."""
    flags = 0
    for number, namespace in enumerate(draft.linux.get("namespaces", ())):
        kind = namespace["type"]
        if kind not in FLAGS:
            draft.gap(f"/linux/namespaces/{number}/type", kind)
        if not namespace.get("path") and kind != "time" and not (kind == "user" and is_entered(draft)):
            flags |= FLAGS.get(kind, 0)
    if index_of(draft, "mount") < 0:
        # Without it every mount would be made in the host's own tree.
        rule, hint = (
            "must list a mount namespace",
            "without one its mounts would be made among those of the host",
        )
        draft.gap("/linux/namespaces", None, rule, hint)
    return (
        steps.clone_init(
            namespaces=flags & ~later(draft),
            cgroup=slot(draft),
            sharing=is_asking(draft),
            pointer="/linux/namespaces",
        ),
    )


def is_asking(draft: Draft) -> int:
    """1 where the filter of the process leaves decisions to an agent: its planner is loaded only for one."""
    if not draft.filtered:
        return 0
    from ocirun.planner.seccomp import is_asking

    return int(is_asking(draft))


def loopback(draft: Draft) -> Sequence[Step]:
    """The loopback of a new network namespace is born down; every peer but youki brings it up."""
    if not is_new(draft, "network"):
        return ()
    return (steps.set_link_up(name="lo", pointer=f"/linux/namespaces/{index_of(draft, 'network')}"),)


def hostname(draft: Draft) -> Sequence[Step]:
    """The host name, in a UTS namespace that was asked for."""
    name = draft.config.get("hostname", "")
    if not name:
        return ()
    _check_uts_name(draft, "/hostname", name)
    return (steps.set_hostname(name=name, pointer="/hostname"),)


def domainname(draft: Draft) -> Sequence[Step]:
    """The NIS domain name, under the rules of the host name."""
    name = draft.config.get("domainname", "")
    if not name:
        return ()
    _check_uts_name(draft, "/domainname", name)
    return (steps.set_domainname(name=name, pointer="/domainname"),)


def _check_uts_name(draft: Draft, pointer: str, name: str) -> None:
    """Without a UTS namespace it would be the host's name that changes; the kernel takes 64 bytes."""
    if index_of(draft, "uts") < 0:
        draft.fault(pointer, name, "needs a UTS namespace", 'add {"type": "uts"} to /linux/namespaces')
    if len(name.encode("utf-8", "surrogatepass")) > 64:
        draft.fault(pointer, name, "must not be longer than 64 bytes")
