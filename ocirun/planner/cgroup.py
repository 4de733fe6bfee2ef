"""The cgroup of the container on the cgroup2 hierarchy: where it is, made before init is born in it."""

from __future__ import annotations

from ocirun.plan import steps
from ocirun.plan.model import ASKED, DEFAULT, LIFECYCLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft

_POINTER = "/linux/cgroupsPath"
#: Where containers without an absolute path of their own live; ours, so it goes when it is empty.
PARENT = "ocirun"


def make(draft: Draft) -> Sequence[Step]:
    """The directory, before anything that would have to be killed through it exists."""
    mount = draft.host.cgroup_mount
    if not mount:
        draft.lack(
            "",
            "cgroup2 is not mounted",
            "mount it: mount -t cgroup2 cgroup2 /sys/fs/cgroup",
        )
    check(draft)
    path = place(draft)
    ours = 0 if draft.linux.get("cgroupsPath", "").startswith("/") else path.count("/") - 1
    return (steps.make_cgroup(mount=mount, path=path, parents=ours, pointer=_POINTER, why=_why(draft)),)


def open_cgroup(draft: Draft) -> Sequence[Step]:
    """A handle for the clone and the device program."""
    return (steps.open_cgroup(path=absolute(draft), cgroup="cgroup", pointer="", why=LIFECYCLE),)


def absolute(draft: Draft) -> str:
    """The path of the container's cgroup as the host sees it."""
    return draft.host.cgroup_mount + place(draft)


def place(draft: Draft) -> str:
    """The cgroup below the mount of cgroup2: an absolute path is the config's, a relative one is below ours
    (config-linux.md lets the runtime choose), and without one it is named by the id."""
    wanted = draft.linux.get("cgroupsPath", "")
    if not wanted:
        return f"/{PARENT}/{draft.options.id}"
    parts = [part for part in wanted.split("/") if part not in ("", ".")]
    return "/" + "/".join(parts if wanted.startswith("/") else [PARENT, *parts])


def check(draft: Draft) -> None:
    """Notes what is wrong with ``linux.cgroupsPath``."""
    wanted = draft.linux.get("cgroupsPath", "")
    if ".." in wanted.split("/"):
        draft.fault(_POINTER, wanted, 'must not hold ".."')
    elif wanted and place(draft) in ("/", f"/{PARENT}"):
        draft.fault(_POINTER, wanted, "must name a cgroup below the root")
    elif wanted.count(":") == 2 and not wanted.startswith("/"):
        draft.gap(
            _POINTER,
            wanted,
            "cgroups by systemd are not built yet",
            "give a path instead of slice:prefix:name",
        )


def _why(draft: Draft) -> str:
    return ASKED if draft.linux.get("cgroupsPath") else DEFAULT
