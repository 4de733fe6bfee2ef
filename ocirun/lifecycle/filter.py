"""The filter of a config, for the planner, which compiles nothing itself."""

from __future__ import annotations

from ocirun import full
from ocirun.errors import HostError
from ocirun.planner.draft import Filter
from ocirun.seccomp.cache import look_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun_spec.types import Seccomp

    from ocirun.seccomp.compile import Compiled
    from ocirun.waiting import Task


def compiled_filter(profile: Seccomp, root: str, *, keep: bool = True, strict: bool = False) -> Task[Filter]:
    """The filter for ``profile`` from the cache below ``root``, else compiled, and kept there with ``keep``.

    What this host cannot compile is in the filter, for the planner to tell with all else that is wrong; with
    ``strict`` that is also a system call whose name it does not know.
    """

    def compiled(profile: Seccomp) -> Task[Compiled]:
        full.become_full()  # the compiler is a package, and a library, that the core has not
        from ocirun.seccomp.apart import compile_apart

        return (yield from compile_apart(profile, strict=strict))

    try:
        found = yield from look_up(root, profile, compiled, keep=keep, strict=strict)
    except HostError as error:
        return Filter(lack=error.message, hint=error.hint, place=error.pointer)
    return Filter(found.program, found.rules, f"{'compiled' if found.fresh else 'cached'} {found.key[:12]}…")
