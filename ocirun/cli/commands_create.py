"""``ocirun create``."""

from __future__ import annotations

from ocirun.cli.signals import complete
from ocirun.cli.where import bundle_of, store_of
from ocirun.lifecycle.create import CreateOptions, create

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parse import Invocation
    from ocirun.cli.report import Reporter


def command(invocation: Invocation, reporter: Reporter) -> int:
    """Creates a container whose program waits for start."""
    complete(create(store_of(invocation), invocation.arguments[0], options_of(invocation, reporter)))
    return 0


def options_of(invocation: Invocation, reporter: Reporter, *, foreground: bool = False) -> CreateOptions:
    """What the flags of create and run ask for; ``foreground`` holds the master of a terminal here."""
    return CreateOptions(
        bundle_of(invocation),
        console_socket=invocation.text("console-socket"),
        pid_file=invocation.text("pid-file"),
        pidfd_socket=invocation.text("pidfd-socket"),
        new_keyring=not invocation.switch("no-new-keyring"),
        pivot=not invocation.switch("no-pivot"),
        preserve_fds=invocation.number("preserve-fds"),
        foreground=foreground,
        warn=reporter.warn,
    )
