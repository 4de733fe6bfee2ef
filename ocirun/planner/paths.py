"""Masked and read-only paths (config-linux.md)."""

from __future__ import annotations

from ocirun.plan import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft


def open_null(draft: Draft) -> Sequence[Step]:
    """The host's /dev/null, checked to be it, to lay over masked files: the container's may be anything."""
    if not draft.linux.get("maskedPaths"):
        return ()
    return (
        steps.open_device(path="/dev/null", major=1, minor=3, device="null", pointer="/linux/maskedPaths"),
    )


def readonly(draft: Draft) -> Sequence[Step]:
    """``readonlyPaths``, in listed order."""
    return [
        steps.readonly_path(path=path, pointer=_absolute(draft, f"/linux/readonlyPaths/{number}", path))
        for number, path in enumerate(draft.linux.get("readonlyPaths", ()))
    ]


def mask(draft: Draft) -> Sequence[Step]:
    """``maskedPaths``, in listed order, after the read-only ones: these hide them."""
    return [
        steps.mask_path(
            path=path, null="null", pointer=_absolute(draft, f"/linux/maskedPaths/{number}", path)
        )
        for number, path in enumerate(draft.linux.get("maskedPaths", ()))
    ]


def _absolute(draft: Draft, pointer: str, path: str) -> str:
    """``pointer``; notes a fault when ``path`` is not absolute, as the specification demands."""
    if not path.startswith("/"):
        draft.fault(pointer, path, "must be an absolute path in the container")
    return pointer
