"""Whose the cgroup of the container is: that of its user where it may write to it (config-linux.md, Cgroup
ownership), so that an init without rights on the host makes cgroups of its own below."""

from __future__ import annotations

from ocirun.plan import steps
from ocirun.plan.model import ASKED
from ocirun.planner.cgroup import exists, home
from ocirun.planner.mounts import clean
from ocirun.planner.namespaces import index_of, is_new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft

_CLOSING = ("ro", "rro")
#: The annotation, crun's, that names the cgroup of the payload.
DELEGATE = "run.oci.delegate-cgroup"


def own(draft: Draft) -> Sequence[Step]:
    """The step that gives the cgroup away; none where the user is ours already, or has no id on the host.

    Only root of the host can give something away (chown(2)).
    """
    if not exists(draft):
        return ()
    mount = _writable_mount(draft)
    owner = _outside(draft, draft.uid, "uidMappings")
    if mount < 0 or owner in (-1, draft.host.euid) or draft.host.unprivileged or not is_new(draft, "cgroup"):
        return ()
    return (
        steps.own_cgroup(
            path=home(draft), owner=owner, group=_group(draft), pointer=f"/mounts/{mount}", why=ASKED
        ),
    )


def enter_subgroup(draft: Draft) -> Sequence[Step]:
    """The cgroup below the container's that is all the payload's: init lives there and not where the limits
    are, so that it can have controllers of its own (cgroup-v2.rst, No Internal Process Constraint)."""
    pointer = f"/annotations/{DELEGATE}"
    text = draft.config.get("annotations", {}).get(DELEGATE, "")
    inner = text.strip("/")
    if not {".", "..", ""}.isdisjoint(inner.split("/")):
        draft.fault(pointer, text, "must name a cgroup below that of the container", "such as payload")
    if not exists(draft):
        draft.fault(pointer, text, "needs a container with a cgroup of its own", "leave it out")
    _, owner, group = next((step.args for step in own(draft)), ("", -1, -1))
    return (
        steps.enter_subgroup(
            path=home(draft),
            inner=inner,
            owner=int(str(owner)),
            group=int(str(group)),
            pointer=pointer,
            why=ASKED,
        ),
    )


def _writable_mount(draft: Draft) -> int:
    """The place in /mounts of the cgroup file system that may be written to, -1 without one."""
    for number, mount in enumerate(draft.config.get("mounts", ())):
        closed = any(word in _CLOSING for word in mount.get("options", ()))
        if mount.get("source") == "cgroup" and clean(mount["destination"]) == "/sys/fs/cgroup" and not closed:
            return number
    return -1


def _group(draft: Draft) -> int:
    """The id on the host of the group of the process.  A cgroup of a user namespace is not to have one that
    is not mapped: not even root in there could override the mode of its files (user_namespaces(7)), and put a
    process that is executed later into it."""
    return _outside(draft, draft.gid, "gidMappings") if index_of(draft, "user") >= 0 else -1


def _outside(draft: Draft, inside: int, member: Literal["uidMappings", "gidMappings"]) -> int:
    """The id on the host of one of the container, -1 where nothing is mapped to it."""
    if index_of(draft, "user") < 0:
        return inside
    for mapping in draft.linux.get(member, ()):
        if 0 <= inside - mapping["containerID"] < mapping["size"]:
            return mapping["hostID"] + inside - mapping["containerID"]
    return -1
