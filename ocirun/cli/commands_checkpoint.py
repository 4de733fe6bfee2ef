"""``ocirun checkpoint``."""

from __future__ import annotations

from ocirun import paths
from ocirun.cli.signals import complete
from ocirun.cli.where import store_of
from ocirun.criu.requests import Dump, Wanted
from ocirun.errors import UsageError
from ocirun.lifecycle.checkpoint import checkpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parse import Invocation
    from ocirun.cli.report import Reporter

#: Where the images are unless the command is told, below the working directory, as with runc.
DEFAULT_IMAGES = "checkpoint"
_HIGHEST_PORT = 65535


def command(invocation: Invocation, reporter: Reporter) -> int:
    """Takes a checkpoint of a container."""
    wanted = Dump(*directories(invocation))
    take_common(invocation, wanted)
    wanted.parent = invocation.text("parent-path")
    wanted.leave_running = invocation.switch("leave-running")
    wanted.pre_dump = invocation.switch("pre-dump")
    wanted.tcp_skip_in_flight = invocation.switch("tcp-skip-in-flight")
    wanted.link_remap = invocation.switch("link-remap")
    if invocation.given("page-server"):
        wanted.page_server = page_server(invocation.text("page-server"))
    complete(checkpoint(store_of(invocation), invocation.arguments[0], wanted, reporter.warn))
    return 0


def directories(invocation: Invocation) -> tuple[str, str]:
    """The directories of the images and of what criu writes beside them, absolute; "" for the same one."""
    work = invocation.text("work-path")
    images = invocation.text("image-path") or DEFAULT_IMAGES
    return paths.absolute(images), paths.absolute(work) if work else ""


def take_common(invocation: Invocation, wanted: Wanted) -> None:
    """The flags that checkpoint and restore have both."""
    wanted.tcp_established = invocation.switch("tcp-established")
    wanted.ext_unix_sk = invocation.switch("ext-unix-sk")
    wanted.shell_job = invocation.switch("shell-job")
    wanted.file_locks = invocation.switch("file-locks")
    wanted.auto_dedup = invocation.switch("auto-dedup")
    wanted.cgroups = invocation.text("manage-cgroups-mode")
    wanted.network_lock = invocation.text("network-lock")


def page_server(text: str) -> tuple[str, int]:
    """ADDRESS:PORT, the address of IPv6 in brackets; raises UsageError."""
    address, _, port = text.rpartition(":")
    if address and port.isascii() and port.isdigit() and 0 < int(port) <= _HIGHEST_PORT:
        return address.removeprefix("[").removesuffix("]"), int(port)
    raise UsageError(f"--page-server {text!r} is not ADDRESS:PORT", hint="such as 192.0.2.1:9876")
