"""The root file system as a list of mounts, the way containerd hands it to a shim.

Nothing is mounted on the host: stage opens each mount detached, init attaches the first as the root and the
others below it.  So there is nothing to unmount at the end, and no trace to undo.
"""

from __future__ import annotations

from ocirun.plan import steps
from ocirun.planner.mount_options import COPY, RDONLY, REFUSED, REMOUNT, MountOptions
from ocirun.planner.mounts import call, clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft

_BUT_BIND = "uidmap gidmap loop".split()
#: Beginnings of types that containerd, not the kernel, mounts.
_NOT_OF_THE_KERNEL = ("fuse", "format/", "mkfs/", "mkdir/", "loop/")


class RootMount:
    """One mount of the root file system: type, source, target and options, as in containerd's types.Mount.

    ``target`` is "" for the first, which is the root itself, and a path below the root for the others.
    """

    __slots__ = ("options", "source", "target", "type")

    def __init__(self, kind: str, source: str, target: str = "", options: Sequence[str] = ()) -> None:
        self.type = kind
        self.source = source
        self.target = target
        self.options = tuple(options)

    def is_bind(self, options: MountOptions) -> bool:
        """Whether it is a bind mount, by its type or by its options."""
        return self.type == "bind" or options.bind > 0


def open_root(draft: Draft) -> Sequence[Step]:
    """The steps of stage: the slot ``root``, and ``root.N`` for what lies below.

    New file systems come before trees: any order would do, and the linter keeps this one.
    """
    filesystems: list[Step] = []
    trees: list[Step] = []
    for number, mount in enumerate(draft.options.rootfs):
        options = MountOptions(mount.options)
        _check(draft, number, mount, options)
        if mount.is_bind(options):
            trees.append(_open_tree(number, mount, options))
        else:
            filesystems.append(_open_filesystem(draft, number, mount, options))
    return [*filesystems, *trees]


def attach(draft: Draft) -> Sequence[Step]:
    """The steps of init: the root with its attributes, then the others in their order."""
    return [_attach(number, mount) for number, mount in enumerate(draft.options.rootfs)]


def _attach(number: int, mount: RootMount) -> Step:
    options = MountOptions(mount.options)
    if not mount.is_bind(options):
        options = MountOptions(())  # it was born with its attributes
    top, below = options.top, options.below
    if number == 0:
        return steps.attach_root(
            root="root",
            set=top.set,
            clear=top.clear,
            rset=below.set,
            rclear=below.clear,
            propagation=(),
            pointer="/root/path",
        )
    return steps.attach(
        tree=_slot(number),
        target=clean(mount.target),
        link=0,
        set=top.set,
        clear=top.clear,
        rset=below.set,
        rclear=below.clear,
        propagation=(),
        pointer=_pointer(number),
    )


def _open_tree(number: int, mount: RootMount, options: MountOptions) -> Step:
    recursive = int(options.bind > 1)
    return steps.open_tree(
        path=mount.source,
        recursive=recursive,
        shared=0,
        nofollow=0,
        tree=_slot(number),
        pointer=_pointer(number),
    )


def _open_filesystem(draft: Draft, number: int, mount: RootMount, options: MountOptions) -> Step:
    attributes = options.attributes
    # mount(2) writes to no file system that it mounts read-only, not its journal
    readonly = bool(attributes & RDONLY)
    flags, words = call(draft, _pointer(number), mount.type, mount.source, options, readonly=readonly)
    return steps.open_filesystem(
        fstype=mount.type,
        source=mount.source,
        flags=flags,
        options=words,
        set=attributes,
        tree=_slot(number),
        pointer=_pointer(number),
    )


def _slot(number: int) -> str:
    return f"root.{number}" if number else "root"


def _pointer(number: int) -> str:
    return f"rootfs[{number}]"


def _check(draft: Draft, number: int, mount: RootMount, options: MountOptions) -> None:
    pointer = _pointer(number)
    if number == 0 and clean(mount.target) != "/":
        draft.fault(pointer, mount.target, "must have no target: the first mount is the root itself")
    if number and clean(mount.target) == "/":
        draft.gap(pointer, mount.target, "a second mount over the root is not built")
    bind = mount.is_bind(options)
    if mount.type in ("", "none") and not bind:
        draft.fault(pointer, mount.type, "must name a file system", 'or have "rbind" among its options')
    if mount.type.startswith(_NOT_OF_THE_KERNEL):
        draft.gap(pointer, mount.type, hint="a helper of user space mounts this type")
    if bind and not mount.source.startswith("/"):
        draft.fault(pointer, mount.source, "must have an absolute path as its source")
    for word in options.propagations:
        draft.gap(pointer, word, hint="the propagation of the root is /linux/rootfsPropagation")
    kinds = {REMOUNT: options.remount, COPY: options.copy, **options.links}
    for word in (word for word, place in kinds.items() if place >= 0):
        draft.fault(pointer, word, "has no meaning for the root file system")
    for _, word in (*options.refused, *options.data):
        _check_word(draft, pointer, word, bind=bind)


def _check_word(draft: Draft, pointer: str, word: str, *, bind: bool) -> None:
    name = word.partition("=")[0]
    if name in REFUSED:
        draft.gap(pointer, word, REFUSED[name])
    elif name in _BUT_BIND or name[:2] in ("X-", "x-"):
        draft.gap(pointer, word)
    elif bind:
        draft.fault(pointer, word, "is not an option of a bind mount")
