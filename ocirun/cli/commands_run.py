"""``ocirun run``."""

from __future__ import annotations

from ocirun.cli.commands_create import options_of
from ocirun.cli.signals import ENDING, FORWARDED, Inbox
from ocirun.cli.where import store_of
from ocirun.lifecycle.run import run
from ocirun.waiting import drive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parse import Invocation
    from ocirun.cli.report import Reporter


def command(invocation: Invocation, reporter: Reporter) -> int:
    """Runs a container; the exit status is its program's, or 128 and the signal that ended it."""
    detach, keep = invocation.switch("detach"), invocation.switch("keep")
    options = options_of(invocation, reporter, foreground=not detach)
    inbox = Inbox(ENDING if detach else FORWARDED)  # open to the end, as in complete()
    task = run(
        store_of(invocation), invocation.arguments[0], options, detach=detach, keep=keep, signals=inbox
    )
    return drive(task, inbox.waiter)
