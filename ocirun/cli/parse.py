"""Command lines by the table: ``ocirun [global flags] COMMAND [flags] [arguments]``.

As with runc a flag may have one dash or two, and its value follows after ``=`` or as the next word.  Unlike
runc, flags may follow arguments, and the global ones the command; ``--`` ends them.
"""

from __future__ import annotations

from ocirun.cli.table import ANY, GLOBAL, HELP, find
from ocirun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ocirun.cli.table import Command, Flag


class Invocation:
    """What a command line asks for.  It is filled from left to right: after a UsageError it has what came
    before the fault, so that the error still finds its way into ``--log``."""

    __slots__ = ("_lists", "_values", "arguments", "command", "wants_help")

    def __init__(self) -> None:
        self.command: Command | None = None
        self.arguments: list[str] = []
        self.wants_help = False
        self._values: dict[str, str] = {}
        self._lists: dict[str, list[str]] = {}

    def set(self, flag: Flag, value: str) -> None:
        """Notes a flag; a later one of the same name wins, unless there may be many."""
        self._values[flag.name] = value
        if flag.many:
            self._lists.setdefault(flag.name, []).append(value)

    def given(self, name: str) -> bool:
        """Whether the flag stood on the command line."""
        return name in self._values

    def text(self, name: str) -> str:
        """The value of a flag, its default where it was not given."""
        value = self._values.get(name)
        return _default(name, self.command) if value is None else value

    def texts(self, name: str) -> list[str]:
        """All values of a flag that may be given more than once, in their order."""
        return self._lists.get(name, [])

    def switch(self, name: str) -> bool:
        """Whether a switch is on."""
        return self._values.get(name) == "true"

    def number(self, name: str) -> int:
        """The value of a flag that has a number."""
        return int(self.text(name))


def _default(name: str, command: Command | None) -> str:
    for flag in _flags(command):
        if flag.name == name:
            return flag.default
    raise KeyError(name)


def _flags(command: Command | None) -> Sequence[Flag]:
    return GLOBAL if command is None else (*command.flags, *GLOBAL)


def parse(words: Sequence[str], invocation: Invocation) -> None:
    """Fills ``invocation`` from ``words``; raises UsageError."""
    rest = iter(words)
    for word in rest:
        if word == "--":
            break
        if _is_flag(word):
            _take_flag(word, rest, invocation)
        else:
            _take_argument(word, invocation)
            if _begins_program(invocation):
                break
    for word in rest:
        _take_argument(word, invocation)
    if not invocation.wants_help:
        _check_arguments(invocation)


def _begins_program(invocation: Invocation) -> bool:
    """Whether what follows is not for us."""
    command = invocation.command
    return command is not None and command.program and len(invocation.arguments) == len(command.needs)


def _is_flag(word: str) -> bool:
    # "-" is a file name, and "-9" is meant as a signal.
    return word[:1] == "-" and word != "-" and not word[1:].isdigit()


def _take_argument(word: str, invocation: Invocation) -> None:
    if invocation.command is not None:
        invocation.arguments.append(word)
        return
    invocation.command = find(word)
    if invocation.command is None:
        from ocirun.cli.nearest import suggest_command

        raise UsageError(f"unknown command: {word}", hint=suggest_command(word))


def _take_flag(word: str, rest: Iterator[str], invocation: Invocation) -> None:
    name, equals, value = word[1:].removeprefix("-").partition("=")
    flag = _find_flag(word, name, invocation.command)
    if flag is HELP:
        invocation.wants_help = True
    elif flag.value:
        if not equals:
            value = _next(flag, rest, invocation.command)
        invocation.set(flag, _checked(flag, value, invocation.command))
    else:
        invocation.set(
            flag,
            _checked(
                flag, _switched(flag, value, invocation.command) if equals else "true", invocation.command
            ),
        )


def _find_flag(word: str, name: str, command: Command | None) -> Flag:
    for flag in _flags(command):
        # The short forms of the program itself count only before the command: afterwards they are the
        # command's.
        short = flag.short and (command is None or flag is HELP or flag in command.flags)
        if name and (name == flag.name or (short and name == flag.short and word[:2] != "--")):
            return flag
    from ocirun.cli.nearest import suggest_flag

    raise _fault(command, f"unknown flag: {word.partition('=')[0]}", suggest_flag(name, command))


def _next(flag: Flag, rest: Iterator[str], command: Command | None) -> str:
    for word in rest:
        return word
    raise _fault(command, f"--{flag.name} needs a value: {flag.spellings()}")


def _switched(flag: Flag, value: str, command: Command | None) -> str:
    if value in ("true", "1"):
        return "true"
    if value in ("false", "0"):
        return "false"
    raise _fault(command, f"--{flag.name} is a switch: true or false, not {value!r}")


def _checked(flag: Flag, value: str, command: Command | None) -> str:
    if flag.choices and value not in flag.choices:
        raise _fault(command, f"--{flag.name}: {value!r} is not one of {', '.join(flag.choices)}")
    if flag.number and not (value.isascii() and value.isdigit() and len(value) < 10):
        raise _fault(command, f"--{flag.name}: {value!r} is not a number from 0 to 999999999")
    if flag.unbuilt == ANY or value in flag.unbuilt:
        shown = f"--{flag.name} {value}" if flag.value and flag.unbuilt != ANY else f"--{flag.name}"
        raise _fault(command, f"{shown} is not built yet", "this version refuses what it cannot obey")
    return value


def _check_arguments(invocation: Invocation) -> None:
    command = invocation.command
    if command is None:
        return
    have, least = len(invocation.arguments), len(command.needs)
    if have < least:
        raise _fault(command, f"{' and '.join(command.needs[have:])} is missing: ocirun {command.usage()}")
    most = least + len(command.takes)
    if have > most and not command.program:
        raise _fault(command, f"too many arguments: {invocation.arguments[most]!r}: ocirun {command.usage()}")


def _fault(command: Command | None, message: str, hint: str = "") -> UsageError:
    place = f"{command.name}: " if command else ""
    name = f"{command.name} " if command else ""
    return UsageError(f"{place}{message}", hint=hint or f"see ocirun {name}--help")
