"""``ocirun create``."""

from __future__ import annotations

import posix as os

from ocirun.cli.signals import complete
from ocirun.cli.where import bundle_of, manager_of, store_of
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
    listening = listen_fds()
    return CreateOptions(
        bundle_of(invocation),
        console_socket=invocation.text("console-socket"),
        pid_file=invocation.text("pid-file"),
        pidfd_socket=invocation.text("pidfd-socket"),
        new_keyring=not invocation.switch("no-new-keyring"),
        pivot=not invocation.switch("no-pivot"),
        preserve_fds=listening + invocation.number("preserve-fds"),
        listen_fds=listening,
        foreground=foreground,
        cgroup_manager=manager_of(invocation),
        rootless=invocation.text("rootless"),
        notify=notify_socket(),
        warn=reporter.warn,
    )


def notify_socket() -> str:
    """Where who started us wants to hear of the container, "" for nowhere; few load the module for it."""
    if b"NOTIFY_SOCKET" not in os.environ:
        return ""
    from ocirun.lifecycle.notify import manager

    return manager()


def listen_fds() -> int:
    """How many sockets systemd hands over to us, from descriptor 3 upward (sd_listen_fds(3)): they are for
    the container.  What names another process, or no number, was not meant for us."""
    told = os.environ.get(b"LISTEN_FDS", b"")
    mine = told.isdigit() and os.environ.get(b"LISTEN_PID", b"") == b"%d" % os.getpid()
    return int(told) if mine else 0
