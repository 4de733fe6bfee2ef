"""The full interpreter, for the commands that need more than the standard library, or than the core."""

from __future__ import annotations

import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal

    from ocirun.errors import HostError
else:
    import _signal

#: Whether this is the launcher's core interpreter; ocirun/core.py says so.
in_core = False


def become_full() -> None:
    """Becomes ``python3`` with the same words, descriptors and variables, where we are in the core.

    Nothing may have been done yet, for all of it is done again.  Raises HostError (execve(2)).
    """
    if in_core:
        # Everything of ours is close-on-exec.  A Ctrl-C waits for boot.py, as it does in the launcher.
        _signal.pthread_sigmask(_signal.SIG_BLOCK, (2,))
        try:
            posix.execv(sys.executable, sys.orig_argv)
        except OSError as error:
            raise _not_executed(error) from error


def _not_executed(error: OSError) -> HostError:
    from ocirun.errors import HostError, words_of

    number = error.errno or 0
    return HostError(
        f"execute {sys.executable}: {words_of(number)}",
        operation="execve", errno=number, path=sys.executable,
        hint="install ocirun into a virtual environment: its launcher needs the python3 beside it",
    )  # fmt: skip


def full_interpreter() -> None:
    """Does what -S left out, so that jsonschema and the like can be imported; a second call does nothing.

    The launcher starts every command without site (boot.py says why); only commands nobody waits for in a
    loop, ``validate`` for one, pay for it.
    """
    if sys.flags.no_site and "site" not in sys.modules:
        import site

        site.main()
