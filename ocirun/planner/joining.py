"""Namespaces that exist, user namespaces and time namespaces: what only some configs ask for.

Stage joins while it still has the privileges of the host, the user namespace last: who owns the others does
not matter then.  The cgroup namespace hides the way to the cgroup that init is born in, so init joins it.
"""

from __future__ import annotations

from ocirun.plan import steps
from ocirun.plan.model import LIFECYCLE
from ocirun.planner.namespaces import FLAGS, index_of, is_new, later

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
        steps.join_namespace(namespace=f"namespace.{kind}", kind=FLAGS[kind], pointer=f"{pointer}/path")
        for pointer, kind in sorted(joined, key=lambda one: _LATE.get(one[1], 0))
    ]


def id_maps(draft: Draft) -> Sequence[Step]:
    """The mappings of a new user namespace; one that is joined has its own."""
    if not is_new(draft, "user"):
        return ()
    uids = _map(draft, "uidMappings", draft.linux.get("uidMappings", ()))
    gids = _map(draft, "gidMappings", draft.linux.get("gidMappings", ()))
    return (steps.set_id_maps(proc="proc", uids=uids, gids=gids, pointer="/linux/uidMappings"),)


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
    """Pointer, type and path of each namespace with a path."""
    for number, namespace in enumerate(draft.linux.get("namespaces", ())):
        path = namespace.get("path", "")
        if path and namespace["type"] in FLAGS:
            yield f"/linux/namespaces/{number}", namespace["type"], path


def _map(draft: Draft, member: str, mappings: Sequence[IDMapping]) -> str:
    """The text for uid_map or gid_map; notes what the kernel, or the making of a container, cannot take."""
    pointer = f"/linux/{member}"
    lines = [f"{one['containerID']} {one['hostID']} {one['size']}\n" for one in mappings]
    if not lines:
        draft.fault(pointer, None, "must be given for a new user namespace", "without, nobody is in it")
    elif not any(one["containerID"] == 0 and one["size"] for one in mappings):
        draft.fault(pointer, mappings, "must map the id 0 of the container, who makes its mounts")
    text = "".join(lines)
    if len(text) >= _PAGE:
        draft.fault(pointer, mappings, "is longer than the kernel takes (user_namespaces(7))")
    return text


def _offsets(offsets: TimeOffsets) -> str:
    """The text for timens_offsets (time_namespaces(7))."""
    monotonic, boottime = offsets.get("monotonic"), offsets.get("boottime")
    return "".join(
        f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}\n"
        for clock, offset in (("monotonic", monotonic), ("boottime", boottime))
        if offset is not None
    )
