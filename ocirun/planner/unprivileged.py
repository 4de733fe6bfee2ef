"""Containers of those who are not root of the host: what they have to bring, and what they do without.

An ordinary user has no right to any of it but in a user namespace of his own (user_namespaces(7)).  So the
helper enters one before all else, and what follows is the plan of root, who is inside of it.
"""

from __future__ import annotations

from ocirun.errors import IN_A_SCOPE
from ocirun.plan import steps
from ocirun.plan.model import ASKED, DEFAULT
from ocirun.planner import cgroup
from ocirun.planner.joining import mappings
from ocirun.planner.namespaces import index_of, is_entered, is_new
from ocirun.reach import LEAF

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeGuard

    from ocirun_spec.types import IDMapping

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft

_RESOURCES = "/linux/resources"
#: What asks for no limit, of members where 0 is a limit too.
_NONE = {"pids": (-1,)}
#: How to get a cgroup of one's own.
DELEGATE = f"run it in one that is delegated to you: {IN_A_SCOPE}"
_SETGROUPS = "in a user namespace where setgroups(2) is denied nobody has other groups (user_namespaces(7))"


def complete(draft: Draft) -> None:
    """Gives an ordinary user's container the user namespace that it needs, and one without mappings some: his
    own id is root, and those follow that he was given, as with crun (subuid(5))."""
    linux, reach = draft.linux, draft.host.reach
    assert reach is not None
    joined = index_of(draft, "user") >= 0 and not is_new(draft, "user")
    if joined or linux.get("uidMappings") or linux.get("gidMappings"):
        return
    completed = linux.copy()
    if index_of(draft, "user") < 0:
        completed["namespaces"] = [*linux.get("namespaces", ()), {"type": "user"}]
    completed["uidMappings"] = _given(draft, "uidMappings", draft.host.euid, reach.uids, reach.newuidmap)
    completed["gidMappings"] = _given(draft, "gidMappings", reach.gid, reach.gids, reach.newgidmap)
    draft.linux, draft.automatic = completed, True


def _given(
    draft: Draft, member: str, own: int, ranges: Sequence[tuple[int, int]], program: str
) -> list[IDMapping]:
    found: list[IDMapping] = [{"containerID": 0, "hostID": own, "size": 1}]
    if not (ranges and program):
        what = f"the new{member[:3]}map of package uidmap" if ranges else f"a range in /etc/sub{member[:3]}"
        rule = f"is not there: only the own id, {own}, has a mapping"
        draft.warn(f"/linux/{member}", None, rule, f"more take {what}")
        return found
    for first, size in ranges:
        inside = found[-1]["containerID"] + found[-1]["size"]
        found.append({"containerID": inside, "hostID": first, "size": size})
    return found


def complete_exec(draft: Draft, differing: Sequence[str]) -> None:
    """The user namespace of the container that a process enters, where its config has none."""
    if index_of(draft, "user") >= 0:
        return
    if "user" not in differing:
        if draft.host.euid != 0:
            rule = "an ordinary user may enter only a container that has a user namespace"
            draft.lack("/linux/namespaces", rule, "run as root")
        return
    completed = draft.linux.copy()
    completed["namespaces"] = [*draft.linux.get("namespaces", ()), {"type": "user"}]
    draft.linux = completed


def make_user_namespace(draft: Draft) -> Sequence[Step]:
    """The namespace and its mappings; more than the caller's own id only a program with the right to it may
    map.  One that exists has them."""
    number = index_of(draft, "user")
    if not is_new(draft, "user"):
        path = draft.linux.get("namespaces", [])[number].get("path", "")
        return (steps.enter_user_namespace(path=path, pointer=f"/linux/namespaces/{number}/path"),)
    uids, gids = mappings(draft)
    return (
        steps.make_user_namespace(
            uids=uids,
            gids=gids,
            newuidmap=_mapper(draft, "uidMappings", draft.linux.get("uidMappings", ())),
            newgidmap=_mapper(draft, "gidMappings", draft.linux.get("gidMappings", ())),
            pointer="/linux/uidMappings",
            why=DEFAULT if draft.automatic else ASKED,
        ),
    )


def _mapper(draft: Draft, member: str, wanted: Sequence[IDMapping]) -> str:
    """The program that writes these mappings, "" where the caller may write them himself."""
    reach = draft.host.reach
    assert reach is not None
    own, name, found = (
        (draft.host.euid, "newuidmap", reach.newuidmap)
        if member == "uidMappings"
        else (reach.gid, "newgidmap", reach.newgidmap)
    )
    if is_own(wanted, own):
        return ""
    if not found:
        draft.lack(
            f"/linux/{member}",
            f"mapping more than the own id, {own}, takes {name}, which is not on PATH",
            "install it (package uidmap or shadow-utils), or map only "
            f'{{"containerID": 0, "hostID": {own}, "size": 1}}',
        )
    return found or name


def is_own(wanted: Sequence[IDMapping], own: int) -> bool:
    """Whether only the caller's ``own`` id is mapped, which he may write himself."""
    return len(wanted) == 1 and wanted[0]["hostID"] == own and wanted[0]["size"] == 1


def may_set_groups(draft: Draft) -> bool:
    """Whether setgroups(2) is allowed in the user namespace; the kernel has it denied where its creator
    writes the mapping of groups himself, and below one where it is denied."""
    reach = draft.host.reach
    assert reach is not None
    denied = not reach.setgroups
    exists = index_of(draft, "user") >= 0 and not is_new(draft, "user")
    if exists or not draft.options.bundle:
        denied = reach.denied_there  # that has its own rule
    elif is_entered(draft):
        denied = denied or is_own(draft.linux.get("gidMappings", ()), reach.gid)
    if denied and draft.user.get("additionalGids"):
        draft.fault(
            "/process/user/additionalGids",
            draft.user.get("additionalGids"),
            _SETGROUPS,
            "leave them out, or have /linux/gidMappings written by newgidmap: map more than your own group",
        )
    return not denied


# -- cgroups


def without_cgroup(draft: Draft) -> None:
    """Notes what asks for a cgroup, where the caller may make none, or wants none."""
    why, way = _without(draft)
    path = draft.linux.get("cgroupsPath", "")
    if draft.options.cgroup_needed:
        draft.lack("", f"{why}, and --rootless false asks for one", way)
    if path:
        draft.lack("/linux/cgroupsPath", f"{why}, and this one is asked for", f"leave it out, or {way}")
    for member in _limits(draft):
        draft.lack(f"{_RESOURCES}/{member}", f"{why}, and a limit needs one", f"leave it out, or {way}")
    if not is_new(draft, "pid"):
        draft.warn(
            "/linux/namespaces",
            None,
            "without a cgroup and without a pid namespace of its own, processes may outlive the container",
            'add {"type": "pid"}',
        )


def _without(draft: Draft) -> tuple[str, str]:
    """Why there is no cgroup, and what would help."""
    if draft.options.no_cgroup:
        return (
            "--cgroup-manager disabled makes no cgroup",
            "have one made: --cgroup-manager cgroupfs or systemd",
        )
    return "this user may make no cgroup" if draft.host.cgroup_mount else "cgroup2 is not mounted", DELEGATE


def vacate(draft: Draft) -> Sequence[Step]:
    """The caller's cgroup is emptied where there are limits: as long as processes are in it, no controller
    can be given to those below it."""
    if not _limits(draft):
        return ()
    where = draft.host.cgroup_mount + cgroup.base(draft)
    return (steps.vacate_cgroup(path=where, leaf=LEAF, pointer=_RESOURCES),)


def _limits(draft: Draft) -> list[str]:
    """The members of /linux/resources that are limits and ask for something."""
    from ocirun.planner.scope import neutral

    return [
        name
        for name, value in draft.linux.get("resources", {}).items()
        if name != "devices" and not neutral(value) and not _asks_nothing(value, _NONE.get(name, (0, -1)))
    ]


def _asks_nothing(value: object, none: tuple[int, ...]) -> bool:
    """Whether all numbers in ``value`` are among ``none``, and ask for no limit; engines write such."""
    if _is_object(value):
        return all(_asks_nothing(one, none) for one in value.values())
    return value in none


def _is_object(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


def lack_controller(draft: Draft, pointer: str, controller: str) -> None:
    """Notes a limit whose controller was not delegated."""
    reach, systemd = draft.host.reach, draft.options.systemd
    if systemd is not None:
        where, offered = systemd.root, systemd.controllers
    elif reach is not None and reach.cgroup is not None:
        where, offered = reach.cgroup, reach.controllers
    else:
        if cgroup.exists(draft):
            draft.lack(pointer, f"the {controller} controller is not delegated to this user", DELEGATE)
        return  # that there is no cgroup at all was told
    wanted = " ".join(sorted({controller, *offered}))
    draft.lack(
        pointer,
        f"the {controller} controller is not delegated to this user: {where or '/'} offers "
        f"{' '.join(sorted(offered)) or 'none'}",
        f"as root: `systemctl edit user@.service`, there [Service] Delegate={wanted}, and log in again",
    )
