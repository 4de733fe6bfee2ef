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

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft

_CLOSING = ("ro", "rro")


def own(draft: Draft) -> Sequence[Step]:
    """The step that gives the cgroup away; none where the user is ours already, or has no id on the host.

    Only root of the host can give something away (chown(2)).
    """
    if not exists(draft):
        return ()
    mount = _writable_mount(draft)
    owner = _owner(draft)
    if mount < 0 or owner in (-1, draft.host.euid) or draft.host.unprivileged or not is_new(draft, "cgroup"):
        return ()
    return (steps.own_cgroup(path=home(draft), owner=owner, pointer=f"/mounts/{mount}", why=ASKED),)


def _writable_mount(draft: Draft) -> int:
    """The place in /mounts of the cgroup file system that may be written to, -1 without one."""
    for number, mount in enumerate(draft.config.get("mounts", ())):
        closed = any(word in _CLOSING for word in mount.get("options", ()))
        if mount.get("source") == "cgroup" and clean(mount["destination"]) == "/sys/fs/cgroup" and not closed:
            return number
    return -1


def _owner(draft: Draft) -> int:
    """The id on the host of the user of the process, -1 where nothing is mapped to it."""
    if index_of(draft, "user") < 0:
        return draft.uid
    for mapping in draft.linux.get("uidMappings", ()):
        if 0 <= draft.uid - mapping["containerID"] < mapping["size"]:
            return mapping["hostID"] + draft.uid - mapping["containerID"]
    return -1
