"""Masked and read-only paths (config-linux.md)."""

from __future__ import annotations

from ocirun.plan import steps
from ocirun.planner.mounts import KERNEL, clean, is_bind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft

_S_IFCHR = 0o020000


def open_null(draft: Draft) -> Sequence[Step]:
    """The host's /dev/null, checked to be it, to lay over masked files: the container's may be anything."""
    if not draft.linux.get("maskedPaths"):
        return ()
    return (
        steps.open_device(
            path="/dev/null", kind=_S_IFCHR, major=1, minor=3, device="null", pointer="/linux/maskedPaths"
        ),
    )


def readonly(draft: Draft) -> Sequence[Step]:
    """``readonlyPaths``, in listed order, but the root itself, of which another copy would show nothing."""
    points = _points(draft)
    return [
        steps.readonly_path(
            path=clean(path),
            below=_below(path, points),
            pointer=_absolute(draft, f"/linux/readonlyPaths/{number}", path),
        )
        for number, path in enumerate(draft.linux.get("readonlyPaths", ()))
        if clean(path) != "/"
    ]


def mask(draft: Draft) -> Sequence[Step]:
    """``maskedPaths``, in listed order, after the read-only ones: these hide them."""
    points = _points(draft)
    return [
        steps.mask_path(
            path=clean(path),
            below=_below(path, points),
            null="null",
            pointer=_absolute(draft, f"/linux/maskedPaths/{number}", path),
        )
        for number, path in enumerate(draft.linux.get("maskedPaths", ()))
    ]


def _points(draft: Draft) -> list[str]:
    """Where the config has mounted a procfs or sysfs of its own, with nothing of its own over it."""
    found = {
        clean(mount["destination"]): mount.get("type") in KERNEL and not is_bind(mount)
        for mount in draft.config.get("mounts", ())
        if "remount" not in mount.get("options", ())
    }
    hidden = {clean(path) for path in draft.linux.get("maskedPaths", ())}
    return [point for point, kernel in found.items() if kernel and point not in hidden and ".." not in point]


def _below(path: str, points: Sequence[str]) -> str:
    """The one of ``points`` that ``path`` lies below by its name, "" when it lies below none, or leads out
    again with its dots."""
    if ".." in path.split("/"):
        return ""
    return next((point for point in points if f"{clean(path)}/".startswith(f"{point}/")), "")


def _absolute(draft: Draft, pointer: str, path: str) -> str:
    """``pointer``; notes a fault when ``path`` is not absolute, as the specification demands."""
    if not path.startswith("/"):
        draft.fault(pointer, path, "must be an absolute path in the container")
    return pointer
