"""The edge of the command line: reads sys.argv, hands over to one command, reports what went wrong, exits.

Only here errors end; a command lives in a module of its own and imports what it needs itself, so that a hot
one pays for nothing else.
"""

from __future__ import annotations

import posix as os
import sys

from ocirun import full
from ocirun.cli.log import Log
from ocirun.cli.output import OutputClosed
from ocirun.cli.parse import Invocation, parse
from ocirun.cli.report import FAILURE, Reporter
from ocirun.cli.signals import end_on_interrupt
from ocirun.errors import OcirunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn, TypeAlias

    #: What a module of a command has under the name ``command``: gives the exit status, raises OcirunError.
    Handler: TypeAlias = Callable[[Invocation, Reporter], int]


def main() -> NoReturn:
    """The program: does what sys.argv says and ends the process, without the finalisation of the
    interpreter."""
    end_on_interrupt()
    status = execute(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:  # its reader is gone, and so is whatever was in the buffer
            status = status or FAILURE
    os._exit(status)  # noqa: SLF001 - its name in the library


def execute(words: Sequence[str]) -> int:
    """Does what ``words`` say and gives the exit status; raises nothing."""
    reporter = Reporter()
    invocation = Invocation()
    try:
        try:
            parse(words, invocation)
        finally:  # a fault of usage is logged too, if --log stood before it
            _prepare(invocation, reporter)
        return _hand_over(invocation, reporter)
    except OcirunError as error:
        return reporter.error(error)
    except OSError as error:
        return reporter.refused(error)
    except OutputClosed:
        return FAILURE
    except BaseException as error:  # noqa: BLE001 - the one place where all that is left must end
        return reporter.unexpected(error)


def _prepare(invocation: Invocation, reporter: Reporter) -> None:
    reporter.debug = invocation.switch("debug")
    if invocation.command is not None:
        reporter.failure = invocation.command.failure
    path = invocation.text("log")
    if path:
        reporter.log = Log(path, invocation.text("log-format"))


def _hand_over(invocation: Invocation, reporter: Reporter) -> int:
    if invocation.wants_help or invocation.command is None or not invocation.command.hot:
        full.become_full()
    if invocation.switch("version"):
        name = "ocirun.cli.commands_version"
    elif invocation.wants_help or invocation.command is None:
        name = "ocirun.cli.commands_help"
    else:
        name = invocation.command.module
    __import__(name)
    handler: Handler = sys.modules[name].command
    return handler(invocation, reporter)
