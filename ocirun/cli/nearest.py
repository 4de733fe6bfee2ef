"""What a mistyped command or flag was meant to be; imported only after a fault."""

from __future__ import annotations

from ocirun.cli.table import COMMANDS, GLOBAL
from ocirun.nearest import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.table import Command


def suggest_command(word: str) -> str:
    """The hint for an unknown command."""
    name = nearest(word.lower(), [command.name for command in COMMANDS])
    return f"did you mean `ocirun {name}`?" if name else "see ocirun --help"


def suggest_flag(word: str, command: Command | None) -> str:
    """The hint for an unknown flag of ``command``, of the program if that is None; "" when nothing is
    near."""
    flags = (*(command.flags if command else ()), *GLOBAL)
    name = nearest(word, [flag.name for flag in flags if flag.is_shown()])
    if name:
        return f"did you mean --{name}?"
    if command is None:
        for other in COMMANDS:
            if any(word in (flag.name, flag.short) for flag in other.flags):
                return f"it belongs after the command: ocirun {other.name} -{'-' * (len(word) > 1)}{word}"
    return ""
