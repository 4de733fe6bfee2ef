"""The mounts that make the root file system of a restore: the helper has opened them, attached nowhere, and
they are attached where criu restores, in mounts that nobody else sees.

Cold: needs ctypes, as Python has none of these calls.
"""

from __future__ import annotations

import ctypes
import os

from ocirun.errors import HostError, words_of
from ocirun.lifecycle.resolve import place_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.plan.model import Step
    from ocirun.waiting import Task

#: System calls, whose numbers are the same on all architectures since Linux 5.1 (syscalls(2)).
_MOVE_MOUNT, _MOUNT_SETATTR = 429, 442
_F_EMPTY_PATH, _T_EMPTY_PATH = 0x4, 0x40
_AT_EMPTY_PATH, _AT_RECURSIVE = 0x1000, 0x8000
#: The kernel takes a change of atime only together with clearing all of what was there (mount_setattr(2)).
_ATIME = 0x70


class _Attributes(ctypes.Structure):
    """struct mount_attr."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns"))


class RootTrees:
    """The mounts that were kept, in their order: the root first, then what lies below it."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: list[tuple[int, Step]] = []

    def keep(self, step: Step, slots: dict[str, int]) -> Task[None]:
        """Performs keep_tree; raises HostError for attributes that the kernel refuses."""
        yield from ()
        tree = slots.pop(str(step.args[0]))
        self._kept.append((tree, step))
        top_set, top_clear, below_set, below_clear = (int(str(one)) for one in step.args[2:])
        _set(tree, top_set, top_clear, 0, step)
        _set(tree, below_set, below_clear, _AT_RECURSIVE, step)

    def __bool__(self) -> bool:
        return bool(self._kept)

    @property
    def descriptors(self) -> list[int]:
        """Those that hold them."""
        return [tree for tree, _ in self._kept]

    def attach(self, place: str) -> None:
        """Attaches all at and below the directory ``place``, in the mounts that we are in.

        Raises HostError.
        """
        for tree, step in self._kept:
            root = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                target = place_in(root, str(step.args[1]), step.pointer)
            finally:
                os.close(root)
            try:
                flags = _F_EMPTY_PATH | _T_EMPTY_PATH
                _call("move_mount", step, _MOVE_MOUNT, tree, b"", target, b"", flags)
            finally:
                os.close(target)

    def close(self) -> None:
        """Lets go of all; what was attached stays."""
        for tree, _ in self._kept:
            os.close(tree)
        self._kept = []


def _set(tree: int, on: int, off: int, flags: int, step: Step) -> None:
    if not on | off:
        return
    wanted = _Attributes(on, off | (_ATIME if (on | off) & _ATIME else 0), 0, 0)
    flags |= _AT_EMPTY_PATH
    size = ctypes.sizeof(wanted)
    _call("mount_setattr", step, _MOUNT_SETATTR, tree, b"", flags, ctypes.byref(wanted), size)


def _call(operation: str, step: Step, *words: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    told = [ctypes.c_long(word) if isinstance(word, int) else word for word in words]
    if libc.syscall(*told) < 0:
        number = ctypes.get_errno()
        raise HostError(
            f"{operation} of the root file system on {step.args[1]!s}: {words_of(number)}",
            operation=operation,
            errno=number,
            pointer=step.pointer,
            code="criu",
        )
