"""Mounts whose destination is the root itself: what they show is the root from there on (as crun does it).

Stage opens or makes them, as it does the root: init has only to put them where the root is.
"""

from __future__ import annotations

from ocirun.plan import steps
from ocirun.planner.idmap import OF_THE_KERNEL, open_filesystem
from ocirun.planner.mount_options import COPY, RDONLY
from ocirun.planner.mounts import is_bind, is_mapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun_spec.types import Mount

    from ocirun.planner.draft import Draft
    from ocirun.planner.mount_options import MountOptions
    from ocirun.planner.mounts import Mounts


def plan(
    draft: Draft, planned: Mounts, number: int, mount: Mount, options: MountOptions, *, late: bool
) -> None:
    """Adds the steps that put ``mount.N``, which is opened when it is a bind mount, over the root."""
    _check(draft, number, mount, options)
    top, below = options.top, options.below
    bind = is_bind(mount)
    if not bind:
        attributes = options.attributes & ~RDONLY if late else options.attributes
        planned.filesystems.append(open_filesystem(draft, number, mount, options, attributes))
    planned.made.append(
        steps.attach_root(
            root=f"mount.{number}",
            set=top.set if bind else 0,
            clear=top.clear if bind else 0,
            rset=below.set if bind else 0,
            rclear=below.clear if bind else 0,
            propagation=options.propagation,
            pointer=f"/mounts/{number}",
        )
    )


def _check(draft: Draft, number: int, mount: Mount, options: MountOptions) -> None:
    pointer = f"/mounts/{number}"
    if mount.get("type", "") in OF_THE_KERNEL and not is_bind(mount):
        rule = "cannot be the root: it shows what belongs to a namespace or to the kernel"
        draft.fault(f"{pointer}/type", mount.get("type"), rule, "bind a directory, or take a tmpfs")
    if is_mapped(mount, options):
        draft.gap(f"{pointer}/destination", mount["destination"], "with a mapping of ids is not built")
    if options.copy >= 0:
        draft.gap(f"{pointer}/options/{options.copy}", COPY, "over the root is not built")
    for word, at in options.links.items():
        draft.fault(f"{pointer}/options/{at}", word, "can be used only below the root", "leave it out")
