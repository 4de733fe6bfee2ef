"""Namespaces that exist, user namespaces and time namespaces: what only some configs ask for.

Stage joins while it still has the privileges of the host, the user namespace last: who owns the others does
not matter then.  The cgroup namespace hides the way to the cgroup that init is born in, so init joins it.
"""

from __future__ import annotations

from ocirun.plan import steps
from ocirun.plan.model import DEFAULT, LIFECYCLE
from ocirun.planner.namespaces import FLAGS, drops_groups, index_of, is_entered, is_new, later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ocirun_spec.types import IDMapping, TimeOffsets

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft

#: Which namespaces are joined after the others, and in which order.
_LATE = {"mount": 1, "user": 2}
#: A file of mappings takes one write of less than a page (user_namespaces(7)).
_PAGE = 4096


def open_namespaces(draft: Draft) -> Sequence[Step]:
    """The namespaces with a path, of whose type stage makes sure, in listed order."""
    return [
        steps.open_namespace(
            path=path, kind=FLAGS[kind], namespace=f"namespace.{kind}", pointer=f"{pointer}/path"
        )
        for pointer, kind, path in _joined(draft)
    ]


def join(draft: Draft) -> Sequence[Step]:
    """All but that of cgroups; the one of mounts takes our view of the host, the one of users our rights."""
    for pointer, kind, path in _joined(draft):
        if kind == "mount":
            rule = "everybody who is in this mount namespace gets the root of the container for his own"
            draft.warn(f"{pointer}/path", path, rule, "leave the path out for a new one")
    joined = [(pointer, kind) for pointer, kind, _ in _joined(draft) if kind != "cgroup"]
    return [
        *drop_groups(draft),
        *(
            steps.join_namespace(namespace=f"namespace.{kind}", kind=FLAGS[kind], pointer=f"{pointer}/path")
            for pointer, kind in sorted(joined, key=lambda one: _LATE.get(one[1], 0))
        ),
    ]


def drop_groups(draft: Draft) -> Sequence[Step]:
    """None of root's groups go into a user namespace that exists: runc and crun let them, where setgroups(2)
    is denied in there."""
    if not drops_groups(draft):
        return ()
    return (steps.drop_groups(pointer="/process/user/additionalGids", why=DEFAULT),)


def id_maps(draft: Draft) -> Sequence[Step]:
    """The mappings of a new user namespace; one that is joined has its own."""
    if not is_new(draft, "user") or is_entered(draft):
        return ()
    uids, gids = mappings(draft)
    return (steps.set_id_maps(proc="proc", uids=uids, gids=gids, pointer="/linux/uidMappings"),)


def mappings(draft: Draft) -> tuple[str, str]:
    """The texts for uid_map and gid_map."""
    return (
        _map(draft, "uidMappings", draft.linux.get("uidMappings", ())),
        _map(draft, "gidMappings", draft.linux.get("gidMappings", ())),
    )


def enter(draft: Draft) -> Sequence[Step]:
    """What init does first: its cgroup and time namespaces, then its place as root of the user namespace."""
    entered: list[Step] = [
        steps.join_cgroup_namespace(init="namespace.cgroup", pointer=f"{pointer}/path")
        for pointer, kind, _ in _joined(draft)
        if kind == "cgroup"
    ]
    if is_new(draft, "time"):
        offsets = draft.linux.get("timeOffsets", {})
        pointer = "/linux/timeOffsets" if offsets else f"/linux/namespaces/{index_of(draft, 'time')}"
        entered.append(steps.make_time_namespace(proc="proc", offsets=_offsets(offsets), pointer=pointer))
    if index_of(draft, "user") >= 0:
        entered.append(become_root(draft, later(draft)))
    return entered


def become_root(draft: Draft, namespaces: int = 0) -> Step:
    """The ids of the caller mean nothing in there: what init makes belongs to the root of the namespace."""
    pointer = f"/linux/namespaces/{index_of(draft, 'user')}"
    return steps.become_root(namespaces=namespaces, pointer=pointer)


def locked(draft: Draft, opened: list[Step]) -> list[Step]:
    """The steps of ``opened``, so that the trees among them are opened as a user namespace sees them.

    Moved into its mounts they would be open to change otherwise: its root could make writable, or executable,
    what the host has mounted read-only or noexec.  Who has entered one before sees them so anyhow.
    """
    number = index_of(draft, "user")
    first = next((place for place, step in enumerate(opened) if step.verb == "open_tree"), len(opened))
    if number < 0 or first == len(opened) or draft.host.euid != 0:
        return opened
    pointer = f"/linux/namespaces/{number}"
    enter, leave = steps.enter_view(pointer=pointer), steps.leave_view(pointer=pointer)
    return [*opened[:first], enter, *opened[first:], leave]


def cgroup_of_init(draft: Draft, pid: int) -> Sequence[Step]:
    """The cgroup namespace of a running container with a user namespace, opened by path: in there nobody may
    look at an init that has not executed its program yet.  Were the pid another's by now, joining init by its
    pidfd would fail before this is used."""
    if index_of(draft, "cgroup") < 0:
        return ()
    path = f"/proc/{pid}/ns/cgroup"
    flag = FLAGS["cgroup"]
    return (steps.open_namespace(path=path, kind=flag, namespace="cgroups", pointer="", why=LIFECYCLE),)


def _joined(draft: Draft) -> Iterator[tuple[str, str, str]]:
    """Pointer, type and path of each namespace with a path that is not entered before all else."""
    entered = is_entered(draft)
    for number, namespace in enumerate(draft.linux.get("namespaces", ())):
        path = namespace.get("path", "")
        if path and namespace["type"] in FLAGS and not (entered and namespace["type"] == "user"):
            yield f"/linux/namespaces/{number}", namespace["type"], path


def _map(draft: Draft, member: str, mappings: Sequence[IDMapping]) -> str:
    """The text for uid_map or gid_map; notes what the kernel, or the making of a container, cannot take."""
    pointer = f"/linux/{member}"
    lines = [f"{one['containerID']} {one['hostID']} {one['size']}\n" for one in mappings]
    if not lines:
        draft.fault(pointer, None, "must be given for a new user namespace", "without, nobody is in it")
    elif not any(one["containerID"] == 0 and one["size"] for one in mappings):
        draft.fault(pointer, mappings, "must map the id 0 of the container, who makes its mounts")
    _check_ranges(draft, pointer, mappings)
    text = "".join(lines)
    if len(text) >= _PAGE:
        draft.fault(pointer, mappings, "is longer than the kernel takes (user_namespaces(7))")
    return text


def _check_ranges(draft: Draft, pointer: str, mappings: Sequence[IDMapping]) -> None:
    """The kernel takes no id twice, on neither side (user_namespaces(7))."""
    for side in ("containerID", "hostID"):
        taken: list[tuple[int, int]] = []
        for number, one in enumerate(mappings):
            first = one["containerID"] if side == "containerID" else one["hostID"]
            end = first + one["size"]
            if any(first < other_end and other < end for other, other_end in taken):
                rule = f"overlaps another mapping: this one is of {first} to {end - 1}"
                draft.fault(f"{pointer}/{number}/{side}", first, rule)
            taken.append((first, end))


def _offsets(offsets: TimeOffsets) -> str:
    """The text for timens_offsets (time_namespaces(7))."""
    monotonic, boottime = offsets.get("monotonic"), offsets.get("boottime")
    return "".join(
        f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}\n"
        for clock, offset in (("monotonic", monotonic), ("boottime", boottime))
        if offset is not None
    )
