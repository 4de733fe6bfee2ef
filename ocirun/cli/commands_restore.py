"""``ocirun restore``."""

from __future__ import annotations

from ocirun.cli.commands_checkpoint import directories, take_common
from ocirun.cli.commands_create import notify_socket
from ocirun.cli.signals import ENDING, FORWARDED, Inbox
from ocirun.cli.where import bundle_of, manager_of, store_of
from ocirun.criu.requests import Restore
from ocirun.errors import Fault
from ocirun.lifecycle.create import CreateOptions
from ocirun.lifecycle.restore import restore_and_accompany
from ocirun.waiting import drive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parse import Invocation
    from ocirun.cli.report import Reporter


def command(invocation: Invocation, reporter: Reporter) -> int:
    """Restores a container; the exit status is its program's, or 128 and the signal that ended it."""
    wanted = Restore(*directories(invocation))
    take_common(invocation, wanted)
    wanted.tcp_close = invocation.switch("tcp-close")
    wanted.lsm_profile = invocation.text("lsm-profile")
    wanted.lsm_mount_context = invocation.text("lsm-mount-context")
    detach = invocation.switch("detach")
    if notify_socket():
        rule = "NOTIFY_SOCKET is not passed on: a restored container has no socket for it"
        reporter.warn(Fault("/process/env", rule))
    options = CreateOptions(
        bundle_of(invocation),
        console_socket=invocation.text("console-socket"),
        pid_file=invocation.text("pid-file"),
        foreground=not detach,
        cgroup_manager=manager_of(invocation),
        rootless=invocation.text("rootless"),
        warn=reporter.warn,
    )
    inbox = Inbox(ENDING if detach else FORWARDED)
    task = restore_and_accompany(
        store_of(invocation), invocation.arguments[0], options, wanted, detach=detach, signals=inbox
    )
    return drive(task, inbox.waiter)
