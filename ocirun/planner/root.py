"""The root file system: opened outside, attached inside, made the root, read-only when asked."""

from __future__ import annotations

from ocirun.plan import steps
from ocirun.plan.model import ASKED, DEFAULT, LIFECYCLE
from ocirun.planner.mount_options import PROPAGATIONS
from ocirun.planner.mounts import clean
from ocirun.planner.namespaces import is_new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft

_MS_REC, _MS_SLAVE = 0x4000, 0x80000
#: Values of /linux/rootfsPropagation that ask for what the root is anyhow.
_INHERITED = ("", "slave", "rslave")


def open_root(draft: Draft) -> Sequence[Step]:
    """``root.path``, absolute or relative to the bundle (config.md), with the mounts below it.

    Where the caller has mounts for the root instead, they are opened, and nobody looks at the path.
    """
    if draft.options.rootfs:
        from ocirun.planner import rootfs

        return rootfs.open_root(draft)
    path = draft.root["path"]
    if not path:
        draft.fault("/root/path", path, "must not be empty")
    absolute = path if path.startswith("/") else f"{draft.options.bundle}/{path}"
    return (
        steps.open_tree(path=absolute, recursive=1, shared=0, nofollow=0, tree="root", pointer="/root/path"),
    )


def attach(draft: Draft) -> Sequence[Step]:
    """Cut the inherited mounts from the host's before anything is mounted, then put the root there."""
    why = ASKED if draft.linux.get("rootfsPropagation") else DEFAULT
    cut = steps.set_propagation(flags=_MS_REC | _MS_SLAVE, pointer="/linux/rootfsPropagation", why=why)
    if draft.options.rootfs:
        from ocirun.planner import rootfs

        return (cut, *rootfs.attach(draft))
    return (
        cut,
        steps.attach_root(
            root="root", set=0, clear=0, rset=0, rclear=0, propagation=(), pointer="/root/path"
        ),
    )


def pivot(draft: Draft) -> Sequence[Step]:
    """The switch of the root."""
    stay = not draft.options.pivot
    if stay and is_new(draft, "user"):
        draft.fault(
            "/linux/namespaces",
            None,
            "must not have a user namespace without pivot_root: what is mounted on the old root cannot be "
            "taken away from there",
        )
    return (steps.pivot_root(stay=int(stay), pointer="", why=LIFECYCLE),)


def propagation(draft: Draft) -> Sequence[Step]:
    """``linux.rootfsPropagation``, when all is made: an unbindable mount cannot be cloned any more.

    That of the whole tree is cut from the host's before, whatever it says; so a shared root shares with what
    is made inside, and a bind mount of the config alone decides what it shares with the host.
    """
    word = draft.linux.get("rootfsPropagation", "")
    if word in _INHERITED:
        return ()
    return (steps.set_root_propagation(flags=PROPAGATIONS[word], pointer="/linux/rootfsPropagation"),)


def readonly(draft: Draft) -> Sequence[Step]:
    """``root.readonly``, and "/" among ``readonlyPaths``: after everything that is made in the root."""
    asked = ["/root/readonly"] if draft.root.get("readonly", False) else []
    for number, path in enumerate(draft.linux.get("readonlyPaths", ())):
        if not path.strip("/.") and clean(path) == "/":
            asked.append(f"/linux/readonlyPaths/{number}")
    if not asked:
        return ()
    return [steps.set_root_readonly(pointer=pointer) for pointer in asked]
