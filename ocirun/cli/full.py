"""The full interpreter, for the commands that need more than the standard library."""

from __future__ import annotations

import sys


def full_interpreter() -> None:
    """Does what -S left out, so that jsonschema and the like can be imported; a second call does nothing.

    The launcher starts every command without site (boot.py says why); only commands nobody waits for in a
    loop, ``validate`` for one, pay for it.
    """
    if sys.flags.no_site and "site" not in sys.modules:
        import site

        site.main()
