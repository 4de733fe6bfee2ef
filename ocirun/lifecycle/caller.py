"""What surrounds a process, be it init or a later one: terminal, descriptors, the filter of system calls."""

from __future__ import annotations

import posix as os

from ocirun import full
from ocirun.errors import ConfigError, Fault, UsageError
from ocirun.planner.draft import PLUGINS, RAW_FILTER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun_spec.types import Config

    from ocirun.executor.run import Performer
    from ocirun.plan.model import Step
    from ocirun.planner.draft import Filter
    from ocirun.waiting import Task


def filter_of(config: Config, root: str, *, keep: bool = True) -> Task[Filter | None]:
    """The filter of system calls that ``config`` asks for, as it is compiled or kept below ``root``.

    Its module is loaded only for a container that has one.
    """
    profile = config.get("linux", {}).get("seccomp")
    annotations = config.get("annotations", {})
    if PLUGINS in annotations:
        full.become_full()  # what loads a library is none of the core
    raw = annotations.get(RAW_FILTER)
    if raw is not None:
        from ocirun.seccomp.raw import raw_filter

        return raw_filter(raw)
    if not profile:
        return None
    from ocirun.lifecycle.filter import compiled_filter
    from ocirun.seccomp.cache import FAIL_UNKNOWN

    strict = annotations.get(FAIL_UNKNOWN, "0") != "0"
    return (yield from compiled_filter(profile, root, keep=keep, strict=strict))


def without_process() -> ConfigError:
    """What is wrong with a config that is to be started and has no process (runtime.md#start)."""
    return ConfigError(
        [
            Fault(
                "/process",
                "must be there for a start: without it there is no program",
                hint="add it and create the container anew",
            )
        ]
    )


def check_terminal(*, wanted: bool, console_socket: str, foreground: bool) -> None:
    """Raises UsageError, in runc's words, for a terminal that nobody would hold or that nobody asked for."""
    if wanted and not foreground and not console_socket:
        raise UsageError(
            "cannot allocate tty if ocirun will detach without setting console socket",
            pointer="/process/terminal",
            hint="give --console-socket, or set process.terminal to false",
        )
    if console_socket and (foreground or not wanted):
        raise UsageError(
            "cannot use console socket if ocirun will not detach or allocate tty",
            hint="leave --console-socket out, or set process.terminal to true and detach",
        )


def check_preserved(count: int) -> None:
    """Raises UsageError unless all are open: what we open meanwhile must not take the place of one."""
    for fd in range(3, 3 + count):
        if not _is_inherited(fd):
            raise UsageError(
                f"descriptor {fd} of --preserve-fds {count} is not open",
                hint="open it in the caller and let it be inherited; LISTEN_FDS counts too",
            )


def _is_inherited(fd: int) -> bool:
    """Whether the caller gave it to us: what we open ourselves is close-on-exec."""
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


def console_performer(console_socket: str) -> Performer:
    """Does the step send_console: to the socket, or nothing where the caller keeps the master."""

    def console(step: Step, slots: dict[str, int]) -> Task[None]:
        if console_socket:
            from ocirun.lifecycle.console import send_console

            yield from send_console(console_socket, slots[str(step.args[0])])

    return console
