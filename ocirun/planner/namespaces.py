"""Namespaces: which are new, the loopback of a new network, the host name of a new UTS namespace."""

from __future__ import annotations

from ocirun.plan import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft

#: Type in the config -> flag of clone3 (linux/sched.h); those that are built.
FLAGS: dict[str, int] = {
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "pid": 0x20000000,
    "network": 0x40000000,
}


def index_of(draft: Draft, kind: str) -> int:
    """The place in /linux/namespaces of a new namespace of this kind; -1 when it is inherited."""
    for number, namespace in enumerate(draft.linux.get("namespaces", ())):
        if namespace["type"] == kind:
            return number
    return -1


def clone(draft: Draft) -> Sequence[Step]:
    """Init is born in its new namespaces; a type that is not listed is inherited (config-linux.md)."""
    flags = 0
    for number, namespace in enumerate(draft.linux.get("namespaces", ())):
        pointer = f"/linux/namespaces/{number}"
        path = namespace.get("path", "")
        if path:
            draft.gap(pointer + "/path", path, "joining a namespace is not built yet")
        if namespace["type"] not in FLAGS:
            draft.gap(pointer + "/type", namespace["type"])
        flags |= FLAGS.get(namespace["type"], 0)
    if not flags & FLAGS["mount"]:
        # Without it every mount would be made in the host's own tree.
        draft.gap("/linux/namespaces", None, "must list a mount namespace: running without is not built yet")
    return (steps.clone_init(namespaces=flags, cgroup="cgroup", pointer="/linux/namespaces"),)


def loopback(draft: Draft) -> Sequence[Step]:
    """The loopback of a new network namespace is born down; every peer but youki brings it up."""
    number = index_of(draft, "network")
    if number < 0:
        return ()
    return (steps.set_link_up(name="lo", pointer=f"/linux/namespaces/{number}"),)


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
