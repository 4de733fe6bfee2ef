"""``ocirun help``, ``--help`` and ``ocirun`` alone: the table as text."""

from __future__ import annotations

from ocirun.cli.output import write
from ocirun.cli.table import COMMANDS, GLOBAL, find
from ocirun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.cli.parse import Invocation
    from ocirun.cli.report import Reporter
    from ocirun.cli.table import Command, Flag

_WIDTH = 100


def command(invocation: Invocation, _reporter: Reporter) -> int:
    """Prints the help of a command, or of the program; raises UsageError for an unknown command."""
    about = invocation.command
    if about is not None and about.name == "help" and invocation.arguments:
        about = _known(invocation.arguments[0])
    write(program_help() if about is None or about.name == "help" else command_help(about))
    return 0


def _known(name: str) -> Command:
    about = find(name)
    if about is None:
        from ocirun.cli.nearest import suggest_command

        raise UsageError(f"unknown command: {name}", hint=suggest_command(name))
    return about


def program_help() -> str:
    """The help of the program."""
    width = max(len(each.name) for each in COMMANDS)
    commands = "".join(f"  {each.name:{width}}  {each.summary}\n" for each in COMMANDS)
    return (
        "ocirun runs containers from OCI bundles: it plans, shows the plan if you like, and then acts.\n\n"
        "usage: ocirun [flags] COMMAND [flags] [arguments]\n\n"
        f"commands:\n{commands}\n"
        f"flags:\n{flag_lines(GLOBAL)}\n"
        "`ocirun COMMAND --help` shows the flags of a command.\n"
    )


def command_help(about: Command) -> str:
    """The help of one command."""
    body = f"\n{_wrap(about.about, '')}" if about.about else ""
    flags = flag_lines(about.flags)
    tail = f"\nflags:\n{flags}" if flags else ""
    return f"ocirun {about.name}: {about.summary}\n\nusage: ocirun [flags] {about.usage()}\n{body}{tail}"


def flag_lines(flags: Sequence[Flag]) -> str:
    """A line for each flag that is shown and built."""
    shown = [flag for flag in flags if flag.is_shown()]
    width = max((len(flag.spellings()) for flag in shown), default=0)
    return "".join(_hang(f"  {flag.spellings():{width}}  ", explained(flag)) for flag in shown)


def explained(flag: Flag) -> str:
    """The help of a flag with its default."""
    return f"{flag.help} (default {flag.default})" if flag.default else flag.help


def _hang(head: str, text: str) -> str:
    return head + _wrap(text, " " * len(head)).lstrip()


def _wrap(text: str, margin: str) -> str:
    lines = [margin]
    for word in text.split():
        if len(lines[-1]) + len(word) >= _WIDTH and lines[-1].strip():
            lines.append(margin)
        lines[-1] += ("" if lines[-1] == margin else " ") + word
    return "\n".join(lines) + "\n"
