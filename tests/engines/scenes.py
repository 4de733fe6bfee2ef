"""What the scenes are made of: containers that ``ctr`` runs, the same way whichever shim is below."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from conformance.image import IMAGE
from conformance.private_view import EnvironmentFaultError, end, eventually

if TYPE_CHECKING:
    from collections.abc import Generator

    from conformance.containerd import Containerd
    from conformance.private_view import PrivateView, Process
    from conformance.result import Result

OCIRUN = Path(sys.executable).parent / "ocirun"
#: Our shim; our command line below the oracle's shim, which executes it as it executes runc; the oracle.
RUNTIMES = {
    "ocirun": "io.containerd.ocirun.v2",
    "cli": "io.containerd.runc.v2",
    "runc": "io.containerd.runc.v2",
}
#: The flags of ctr that choose the program below the shim.
BELOW = {"cli": ("--runc-binary", str(OCIRUN))}
#: A program that lives until TERM, and says so.
PATIENT = ("sh", "-c", 'trap "echo bye; exit 3" TERM; echo up; while :; do sleep 0.02; done')

#: Before a script that is executed: ctr opens the FIFOs meanwhile, and gives up those it has not yet opened
#: when the program has ended; so it loses the output of one execution in a hundred, whichever the shim.
LINGERING = "trap 'sleep 0.5' EXIT; "

_numbers = itertools.count(1)
_EVENT = re.compile(r"\S+ \S+ \S+ \S+ \S+ (/tasks/\S+) (\{.*\})$")
_FAILED = re.compile(r"exit with non-zero exit code (\d+)")


class Task:
    """A container with its task, started by ``ctr run --detach``; its output goes to ``log``."""

    def __init__(self, scene: Scene, ident: str, log: Path) -> None:
        self.scene = scene
        self.containerd = scene.containerd
        self.id = ident
        self.log = log
        self._execs = itertools.count(1)

    @property
    def output(self) -> str:
        """What the container has written so far."""
        return self.log.read_text() if self.log.exists() else ""

    @property
    def status(self) -> str:
        """The status in ``ctr task ls``, "" when the task is not in it."""
        return self.scene.tasks().get(self.id, (0, ""))[1]

    @property
    def pid(self) -> int:
        """The process of the task as the environment numbers it."""
        return self.scene.tasks()[self.id][0]

    @property
    def shim(self) -> Process:
        """The shim: the process whose child the program is."""
        table = {process.pid: process for process in self.containerd.processes()}
        return table[table[self.pid].parent]

    def says(self, text: str) -> Task:
        """Waits until the output holds ``text``."""
        eventually(lambda: text in self.output, f"{self.id} says {text!r}")
        return self

    def exec(self, *command: str, flags: tuple[str, ...] = (), stdin: int = subprocess.DEVNULL) -> Result:
        """``ctr task exec`` to its end."""
        return self.containerd.ctr(
            "task", "exec", "--exec-id", f"e{next(self._execs)}", *flags, self.id, *command, stdin=stdin
        )

    def shell(self, script: str, flags: tuple[str, ...] = ()) -> Result:
        """``ctr task exec`` of a script whose output matters."""
        return self.exec("sh", "-c", LINGERING + script, flags=flags)

    def kill(self, name: str = "KILL", *flags: str) -> Result:
        """``ctr task kill``."""
        return self.containerd.ctr("task", "kill", "-s", name, *flags, self.id)

    def wait(self) -> Task:
        """Waits until containerd says that the task has stopped."""
        eventually(lambda: self.status != "RUNNING", f"{self.id} stops")
        assert self.status == "STOPPED"
        return self

    def remove(self) -> int:
        """``ctr task rm``, which must succeed: the exit status it tells; removes the container as well."""
        done = self.containerd.ctr("task", "rm", self.id).ok()
        self.containerd.ctr("container", "rm", self.id).ok()
        found = _FAILED.search(done.stderr)
        return int(found[1]) if found else 0


class Recorder:
    """A ``ctr events`` that writes to a file."""

    def __init__(self, result: Result) -> None:
        self._result = result

    def of(self, ident: str) -> list[tuple[str, dict[str, object]]]:
        """Topic and content of every event of the tasks of container ``ident``, in order."""
        found: list[tuple[str, dict[str, object]]] = []
        whole, _, _ = self._result.stdout.rpartition("\n")
        for line in whole.splitlines():
            match = _EVENT.match(line)
            if match:
                content = cast("dict[str, object]", json.loads(match[2]))
                if content["container_id"] == ident:
                    found.append((match[1].removeprefix("/tasks/"), content))
        return found

    def topics(self, ident: str) -> list[str]:
        """The same, only topics."""
        return [topic for topic, _ in self.of(ident)]

    def until(self, ident: str, *topics: str) -> Recorder:
        """Waits until the container had these events; fails the test when it had others."""
        with contextlib.suppress(EnvironmentFaultError):
            eventually(lambda: len(self.topics(ident)) >= len(topics), "as many events")
        had = self.topics(ident)
        assert had == [*topics], f"{ident} had the events {', '.join(had)}"
        return self

    def one(self, ident: str, topic: str) -> dict[str, object]:
        """The content of the only event of a topic."""
        (content,) = [content for name, content in self.of(ident) if name == topic]
        return content


class Scene:
    """A containerd, a runtime in it, and the containers of one test."""

    def __init__(self, containerd: Containerd, runtime: str) -> None:
        self.containerd = containerd
        self.name = runtime
        self.runtime = RUNTIMES[runtime]
        self.below = BELOW.get(runtime, ())
        self.ids: list[str] = []

    def new_id(self) -> str:
        """A container id that no other test uses, removed after this one."""
        self.ids.append(f"c{next(_numbers)}")
        return self.ids[-1]

    def arguments(self, *flags: str, snapshotter: str = "native") -> tuple[str, ...]:
        """``ctr run`` for our runtime: without cpu shares, as no cgroup2 of the host has the controller."""
        common = ("--snapshotter", snapshotter, "--cpu-shares", "0")
        return ("run", "--runtime", self.runtime, *self.below, *common, *flags)

    def run(
        self,
        *command: str,
        flags: tuple[str, ...] = (),
        snapshotter: str = "native",
        stdin: int | IO[bytes] = subprocess.DEVNULL,
    ) -> Result:
        """Runs a container in the foreground to its end, with ``--rm``."""
        words = self.arguments("--rm", *flags, snapshotter=snapshotter)
        return self.containerd.ctr(*words, IMAGE, self.new_id(), *command, stdin=stdin)

    def popen(
        self,
        *command: str,
        flags: tuple[str, ...] = (),
        stdin: int = subprocess.DEVNULL,
        terminal: int | None = None,
    ) -> tuple[subprocess.Popen[bytes], Result]:
        """The same, without waiting."""
        words = ("ctr", *self.arguments("--rm", *flags), IMAGE, self.new_id(), *command)
        return self.containerd.popen(*words, stdin=stdin, terminal=terminal)

    def start(self, *command: str, flags: tuple[str, ...] = ()) -> Task:
        """Starts a container that goes on, PATIENT by default; its program may not be executed yet."""
        ident = self.new_id()
        log = self.containerd.scratch / "logs" / f"{ident}.log"
        words = self.arguments("--detach", "--log-uri", f"file://{log}", *flags)
        self.containerd.ctr(*words, IMAGE, ident, *(command or PATIENT)).ok()
        return Task(self, ident, log)

    def tasks(self) -> dict[str, tuple[int, str]]:
        """``ctr task ls``: process and status by container."""
        lines = self.containerd.ctr("task", "ls").ok().stdout.splitlines()[1:]
        return {ident: (int(pid), status) for ident, pid, status in (line.split() for line in lines)}

    def bundle(self, ident: str) -> Path:
        """Where containerd keeps what belongs to a task, as the host reaches it."""
        state = "/run/containerd/io.containerd.runtime.v2.task"
        return self.containerd.path(f"{state}/{self.containerd.namespace}/{ident}")

    @contextlib.contextmanager
    def events(self) -> Generator[Recorder]:
        """Records the events of containerd while the context lasts."""
        process, result = self.containerd.popen("ctr", "events")
        try:
            eventually(lambda: self._heard(result), "ctr events has subscribed")
            yield Recorder(result)
        finally:
            end(process)

    def _heard(self, result: Result) -> bool:
        label = f"poked={next(_numbers)}"
        self.containerd.ctr("namespaces", "label", self.containerd.namespace, label).ok()
        return result.stdout != ""

    def clean_up(self) -> None:
        """Removes by force the commands, tasks and containers that the test has left to us."""
        if not self.containerd.runs:
            self.containerd.start()
        self.containerd.end_commands()
        containers = self.containerd.ctr("container", "ls", "-q").ok().stdout.split()
        for ident in {*containers} & {*self.ids}:
            self.containerd.ctr("task", "rm", "--force", ident)
            self.containerd.ctr("container", "rm", ident)


def signalled(name: str) -> int:
    """The exit status after death by a signal."""
    return 128 + signal.Signals[f"SIG{name}"]


def fetch(view: PrivateView, url: str) -> str:
    """What a server answers to a request from inside the view, once it does."""
    script = (
        "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"
    )
    answered: list[str] = []

    def answers() -> bool:
        done = view.run(sys.executable, "-I", "-c", script, url)
        answered.extend([done.stdout] if done.code == 0 else [])
        return bool(answered)

    eventually(answers, f"{url} answers")
    return answered[0]
