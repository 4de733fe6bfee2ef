"""Several commands on one container at the same time, and what the end of each may be."""

from __future__ import annotations

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from ocirun.error_codes import CODES
from tests.host.runtimes import Result, new_id

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

KNOWN = frozenset(code.name for code in CODES)
#: Every command that has to do with a container; ID and BUNDLE stand for those of the scene.
COMMANDS: dict[str, tuple[str, ...]] = {
    "create": ("create", "--bundle", "BUNDLE", "ID"),
    "start": ("start", "ID"),
    "run": ("run", "--detach", "--bundle", "BUNDLE", "ID"),
    "kill": ("kill", "ID", "KILL"),
    "delete": ("delete", "ID"),
    "state": ("state", "ID"),
    "exec": ("exec", "ID", "true"),
    "pause": ("pause", "ID"),
    "resume": ("resume", "ID"),
    "ps": ("ps", "--format", "json", "ID"),
    "update": ("update", "--cpu-idle", "0", "ID"),
    "list": ("list", "--format", "json"),
}
#: What is done to a container before the scene, so that it begins in that status.
STATUSES: dict[str, tuple[str, ...]] = {
    "absent": (),
    "created": ("create",),
    "running": ("run",),
    "stopped": ("run", "kill"),
    "paused": ("run", "pause"),
}
#: Seconds within which a command ends that nobody holds up, or that is let go again and again.
PATIENCE = 60.0
#: How many scenes go on at the same time.
ABREAST = 4
#: The exit status of what SIGKILL ended.
KILLED = 128 + signal.SIGKILL


class Launched:
    """A command that was launched and not waited for, with a log of its own."""

    def __init__(self, runtime: Runtime, name: str, ident: str, bundle: Bundle) -> None:
        words = {"ID": ident, "BUNDLE": str(bundle.path)}
        self.name = name
        self.log = runtime.file("log")
        self.process: subprocess.Popen[bytes]
        self.process, self.result = runtime.popen(
            "--log",
            str(self.log),
            "--log-format",
            "json",
            *(words.get(word, word) for word in COMMANDS[name]),
        )

    def ends(self, patience: float) -> bool:
        """Whether it ends in time."""
        until = time.monotonic() + patience
        while self.process.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        return self.process.returncode is not None

    def fault(self) -> str:
        """What is wrong with its end, "" when it is success or an error with a name."""
        code, stderr = self.process.returncode, self.result.stderr
        return fault(self.name, code, stderr, self.log)


def fault(name: str, code: int, stderr: str, log: Path) -> str:
    """As Launched.fault, for a command that was called in another way; ``log`` is its JSON log."""
    lines = log.read_text().splitlines() if log.exists() else []
    errors = [entry for entry in map(json.loads, lines) if entry["level"] == "error"]
    codes = [entry.get("code") for entry in errors]
    told = f"{name}: exit status {code}, {codes}, {stderr}"
    if "Traceback" in stderr or "internal" in codes or "please report" in stderr:
        return told
    if code == 0 or (name == "exec" and code == KILLED):
        return told if codes else ""
    return "" if code in (1, 255) and len(codes) == 1 and codes[0] in KNOWN else told


class Scene:
    """One container id on which commands race, and what was wrong with the ends of them."""

    def __init__(self, runtime: Runtime, bundle: Bundle, told: str) -> None:
        self.runtime = runtime
        self.bundle = bundle
        self.told = told
        self.ident = new_id()
        self.faults: list[str] = []

    def launch(self, name: str) -> Launched:
        """Launches one of COMMANDS."""
        return Launched(self.runtime, name, self.ident, self.bundle)

    def prepare(self, status: str) -> None:
        """Brings the container into that status."""
        for name in STATUSES[status]:
            self.finish([self.launch(name)])

    def finish(self, launched: Iterable[Launched]) -> None:
        """Waits for the commands and notes what is wrong with their ends.

        An exec or a start whose process was frozen waits for the thaw: those are let go by a resume, and once
        more where the pause came after it.
        """
        waiting = list(launched)
        until = time.monotonic() + PATIENCE
        while not all(one.ends(2.0) for one in waiting) and time.monotonic() < until:
            self.runtime.call("resume", self.ident)
        for one in waiting:
            if one.process.poll() is None:
                one.process.kill()
                one.process.wait()
                self.note(f"{one.name} did not end: {one.result.stderr}")
        for one in waiting:
            self.note(one.fault())

    def note(self, text: str) -> None:
        """Notes something that is wrong, unless it is nothing."""
        if text:
            self.faults.append(f"{self.told}: {text}")

    def delete(self) -> None:
        """The delete by force that must always succeed; a `run` may still be on its way to a new one."""
        log = self.runtime.file("log")
        command = ("--log", str(log), "--log-format", "json", "delete", "--force", self.ident)
        result: Result = self.runtime.call(*command, timeout=60)
        self.note(fault("delete --force", result.code, result.stderr, log))
        if result.code:
            self.note(f"delete --force: {result.stderr}")
        if (self.runtime.root / self.ident).exists():
            self.note("delete --force left the state directory")


def play(scenes: Iterable[Callable[[], Scene]]) -> list[str]:
    """Plays scenes, some abreast, and gives all that was wrong."""
    with ThreadPoolExecutor(ABREAST) as pool:
        played = [pool.submit(scene) for scene in scenes]
        return [text for one in played for text in one.result().faults]
