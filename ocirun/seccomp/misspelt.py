"""The system calls of a profile that look misspelt; only ``validate`` asks.

A name that libseccomp does not know filters nothing, and no create says so: profiles name what only newer
kernels have.  One that is a letter away from a known name is told, unless it ends with a digit: the newer
ones of old calls do.
"""

from __future__ import annotations

import contextlib

from ocirun.config.spelling import nearly
from ocirun.errors import Fault
from ocirun.seccomp.compile import is_known

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocirun_spec.types import Seccomp

#: More than any architecture has, whose numbers begin at 0 (x86_64, aarch64).
_NUMBERS = 1024


def misspelt(profile: Seccomp) -> Iterator[Fault]:
    """A warning for each such name, without its line; nothing without libseccomp."""
    known: list[str] = []
    for index, rule in enumerate(profile.get("syscalls", ())):
        for at, name in enumerate(rule["names"]):
            if is_known(name) or name[-1:].isdigit():
                continue
            known = known or _all_names()
            meant = next((one for one in known if nearly(name, one)), "")
            if meant:
                pointer = f"/linux/seccomp/syscalls/{index}/names/{at}"
                yield Fault(pointer, "is not known and filters nothing", hint=f"perhaps {meant} was meant")


def _all_names() -> list[str]:
    from pyseccomp import Arch, resolve_syscall

    names: list[str] = []
    for number in range(_NUMBERS):
        with contextlib.suppress(ValueError):  # a gap
            names.append(resolve_syscall(Arch.NATIVE, number).decode())
    return names
