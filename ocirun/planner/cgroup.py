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
#: Enabled whatever is asked for, so that there are numbers to show of every container (as the peers do).
COUNTING = ("cpu", "io", "memory", "pids")


def make(draft: Draft) -> Sequence[Step]:
    """The directory, before anything that would have to be killed through it exists."""
    check(draft)
    if not exists(draft):
        from ocirun.planner import unprivileged

        unprivileged.without_cgroup(draft)
        return ()
    need_cgroup2(draft)
    path = place(draft)
    named = is_absolute(draft)
    ours = 0 if named else path.count("/") - base(draft).count("/") - 1
    vacated: Sequence[Step] = ()
    crowded = not named and draft.host.reach is not None and draft.host.reach.crowded
    if crowded:
        from ocirun.planner import unprivileged

        vacated = unprivileged.vacate(draft)
    counted = () if crowded and not vacated else COUNTING
    counting = " ".join(name for name in counted if name in draft.host.controllers)
    return (
        *vacated,
        steps.make_cgroup(
            mount=draft.host.cgroup_mount, path=path, parents=ours, controllers=counting, pointer=_POINTER,
            why=_why(draft),
        ),
    )  # fmt: skip


def need_cgroup2(draft: Draft) -> None:
    """Notes a host without the one hierarchy in which every container has its cgroup."""
    if not draft.host.cgroup_mount:
        draft.lack(
            "",
            "cgroup2 is not mounted",
            "mount it: mount -t cgroup2 cgroup2 /sys/fs/cgroup",
        )


def open_cgroup(draft: Draft) -> Sequence[Step]:
    """A handle for the clone and the device program."""
    if not exists(draft):
        return ()
    return (steps.open_cgroup(path=home(draft), cgroup="cgroup", pointer="", why=LIFECYCLE),)


def exists(draft: Draft) -> bool:
    """Whether the container gets a cgroup: somebody who may make none can do without (as with the peers),
    unless the config names one, and so can all who are told to."""
    if draft.options.no_cgroup:
        return False
    reach = draft.host.reach
    asked = draft.options.systemd is not None or is_absolute(draft)
    return reach is None or reach.cgroup is not None or asked


def slot(draft: Draft) -> str:
    """The name of the slot of that handle, "" for a container without a cgroup."""
    return "cgroup" if exists(draft) else ""


def base(draft: Draft) -> str:
    """The cgroup below the mount in which the caller may make others; "" for root, and for one that the
    config names."""
    reach = draft.host.reach
    if reach is None or is_absolute(draft):
        return ""
    return reach.cgroup or ""


def is_absolute(draft: Draft) -> bool:
    """Whether the config names the cgroup from the mount of cgroup2 on, wherever the caller's own is."""
    return draft.linux.get("cgroupsPath", "").startswith("/")


def absolute(draft: Draft) -> str:
    """The path of the container's cgroup as the host sees it."""
    if draft.options.systemd is not None:
        from ocirun.planner import systemd

        return draft.host.cgroup_mount + systemd.place(draft)
    return draft.host.cgroup_mount + place(draft)


def home(draft: Draft) -> str:
    """Where init is born: in that cgroup, or in one below a scope of systemd."""
    if draft.options.systemd is None:
        return absolute(draft)
    from ocirun.planner import systemd

    return "/".join(filter(None, (absolute(draft), systemd.inner(draft))))


def place(draft: Draft) -> str:
    """The cgroup below the mount of cgroup2: an absolute path is the config's, a relative one is below ours
    (config-linux.md lets the runtime choose), and without one it is named by the id."""
    wanted = draft.linux.get("cgroupsPath", "")
    if not wanted:
        return f"{base(draft)}/{PARENT}/{draft.options.id}"
    parts = [part for part in wanted.split("/") if part not in ("", ".")]
    return "/".join(["", *parts] if wanted.startswith("/") else [base(draft), PARENT, *parts])


def check(draft: Draft) -> None:
    """Notes what is wrong with ``linux.cgroupsPath``."""
    wanted = draft.linux.get("cgroupsPath", "")
    if ".." in wanted.split("/"):
        draft.fault(_POINTER, wanted, 'must not hold ".."')
    elif wanted and place(draft) in ("", "/", f"{base(draft)}/{PARENT}"):
        draft.fault(_POINTER, wanted, "must name a cgroup below the root")
    elif wanted.count(":") == 2 and not wanted.startswith("/"):
        draft.fault(
            _POINTER,
            wanted,
            "is the name of a scope, which only systemd can make",
            "use --systemd-cgroup (SystemdCgroup of containerd), or give a path instead of slice:prefix:name",
        )


def _why(draft: Draft) -> str:
    return ASKED if draft.linux.get("cgroupsPath") else DEFAULT
