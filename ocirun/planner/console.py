"""The terminal of the process, and who owns its standard streams."""

from __future__ import annotations

from ocirun.plan import steps
from ocirun.plan.model import LIFECYCLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft

_POINTER = "/process/terminal"
#: struct winsize counts rows and columns in 16 bits.
_LARGEST = 0xFFFF


def make(draft: Draft, *, bind: bool = True) -> Sequence[Step]:
    """A terminal pair of the container's own devpts; its master goes out before the old root is let go.

    ``bind`` makes it /dev/console: the terminal of init, not of those that come later.
    """
    if not draft.process.get("terminal", False):
        return ()
    if not (draft.options.console_socket or draft.options.foreground_terminal):
        draft.fault(
            _POINTER, True, "needs somebody to hold the terminal", "give --console-socket, or do not detach"
        )
    size = draft.process.get("consoleSize")
    columns, rows = (size["width"], size["height"]) if size else (0, 0)
    if columns > _LARGEST or rows > _LARGEST:
        draft.fault("/process/consoleSize", size, f"must not be larger than {_LARGEST} by {_LARGEST}")
        columns = rows = 0
    return (
        steps.make_console(
            columns=columns,
            rows=rows,
            bind=int(bind),
            console="console",
            terminal="terminal",
            pointer=_POINTER,
        ),
        steps.send_console(console="console", pointer=_POINTER),
    )


def take(draft: Draft) -> Sequence[Step]:
    """A session of its own, always; with a terminal, that becomes the controlling one and the streams."""
    session = steps.new_session(pointer="", why=LIFECYCLE)
    if not draft.process.get("terminal", False):
        return (session,)
    owner = draft.uid
    return (session, steps.take_terminal(terminal="terminal", owner=owner, pointer=_POINTER))


def own_stdio(draft: Draft) -> Sequence[Step]:
    """Without a terminal the caller's pipes become the user's, so that /dev/stderr can be opened again."""
    if draft.process.get("terminal", False):
        return ()
    return (steps.own_stdio(uid=draft.uid, pointer="/process/user/uid"),)
