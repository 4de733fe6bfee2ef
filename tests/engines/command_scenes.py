"""Containers that a command such as ``docker`` runs, the same way whichever engine and runtime are below."""

from __future__ import annotations

import itertools
import os
import subprocess
from typing import IO, TYPE_CHECKING, Generic, TypeVar

from conformance.private_view import TIMEOUT, PrivateView, eventually
from tests.engines.scenes import PATIENT
from tests.host.terminals import read_until

if TYPE_CHECKING:
    from conformance.result import Result

IMAGE = "scene"
Engine = TypeVar("Engine", bound=PrivateView)

_numbers = itertools.count(1)


class CommandScene(Generic[Engine]):
    """An engine, a runtime in it, and the containers of one test.

    ``tool`` is its command, ``at_once`` what ``rm --force`` is told so as not to wait.
    """

    tool: str
    at_once: tuple[str, ...] = ()

    def __init__(self, engine: Engine, runtime: str) -> None:
        self.engine = engine
        self.runtime = runtime
        self.names: list[str] = []

    def new_name(self) -> str:
        """A name that no other test uses; its container is removed after this one."""
        self.names.append(f"{self.tool[0]}{next(_numbers)}")
        return self.names[-1]

    def arguments(self, *flags: str) -> tuple[str, ...]:
        """What runs a container of a new name with our runtime."""
        raise NotImplementedError

    def run(
        self, *command: str, flags: tuple[str, ...] = (), stdin: int | IO[bytes] = subprocess.DEVNULL
    ) -> Result:
        """Runs a container in the foreground to its end, with ``--rm``."""
        return self.engine.run(self.tool, *self.arguments("--rm", *flags), IMAGE, *command, stdin=stdin)

    def popen(
        self, *command: str, flags: tuple[str, ...] = (), terminal: int | None = None
    ) -> tuple[subprocess.Popen[bytes], Result]:
        """The same, without waiting."""
        words = (self.tool, *self.arguments("--rm", *flags), IMAGE, *command)
        return self.engine.popen(*words, terminal=terminal)

    def start(self, *command: str, flags: tuple[str, ...] = ()) -> str:
        """Starts a container that goes on, PATIENT by default: its name."""
        self.told(*self.arguments("--detach", *flags), IMAGE, *(command or PATIENT))
        return self.names[-1]

    def told(self, *args: str) -> str:
        """What the command prints; it must succeed."""
        return self.engine.run(self.tool, *args).ok().stdout

    def inspect(self, name: str, member: str) -> str:
        """A member of what ``inspect`` tells."""
        return self.told("inspect", "--format", "{{" + member + "}}", name).strip()

    def says(self, name: str, text: str) -> None:
        """Waits until the logs of a container hold ``text``."""
        eventually(lambda: text in self.told("logs", name), f"{name} says {text!r}")

    def clean_up(self) -> None:
        """Removes by force the commands and containers that the test has left to us."""
        self.engine.end_commands()
        there = self.told("ps", "--all", "--format", "{{.Names}}").split()
        for name in {*there} & {*self.names}:
            self.told("rm", "--force", *self.at_once, "--volumes", name)


def converses(scene: CommandScene[Engine], master: int, slave: int) -> None:
    """Holds a conversation with a container over a terminal of 33 rows and 77 columns."""
    program = 'until [ "$(stty size)" = "33 77" ]; do sleep 0.02; done; tty; read x; echo "<$x>"; exit 5'
    process, _ = scene.popen("sh", "-c", program, flags=("-it",), terminal=slave)
    read_until(master, "/dev/pts/0\r\n")
    os.write(master, b"typed\n")
    assert read_until(master, ">\r\n") == "typed\n<typed>\n"
    assert process.wait(TIMEOUT) == 5
