"""One container through every command, each measured; and the container's init while it waits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from conformance import inside, machine, peers
from conformance.bench.bundles import KINDS, write_bundle
from conformance.bench.spawn import CommandFailedError
from conformance.private_view import eventually, remove_cgroup

if TYPE_CHECKING:
    from conformance.bench.bundles import Kind
    from conformance.bench.spawn import Cost, Spawner

OURS, BAR = "ocirun", "runc"
NAMES = (OURS, BAR, "crun")
COMMANDS = ("run", "create", "start", "state", "exec", "kill", "delete")
#: Programs of the container: what `run` and `exec` run, and what the others do.
_SHORT, _LONG = ("/bin/true",), ("/bin/sleep", "1000")


class MissingPeerError(Exception):
    """A program that we are compared with cannot be had; the message says why."""


def programs(ocirun: Path) -> dict[str, Path]:
    """The programs by name, ours first; raises MissingPeerError."""
    found = {OURS: ocirun}
    for name in NAMES[1:]:
        program = peers.peer(name)
        if program is None:
            raise MissingPeerError(peers.reason(name))
        found[name] = program
    return found


@dataclass(frozen=True, slots=True)
class Place:
    """One candidate with one kind of bundle: where its bundles and states are, how its commands begin.

    ``directory`` is of its own; its name and that of its parent are those of its cgroups.
    """

    candidate: str
    program: Path
    kind: Kind
    directory: Path

    @property
    def section(self) -> str:
        """What its figures stand under."""
        return self.kind.name

    @property
    def root(self) -> Path:
        """Where the runtime keeps its states."""
        return self.directory / "states"

    @property
    def id(self) -> str:
        """The only container here; one follows the other."""
        return self.directory.name

    @property
    def pid_file(self) -> Path:
        """Where `create` writes the pid of init."""
        return self.directory / "pid"

    def write(self, rootfs: Path, *, seccomp: bool) -> None:
        """Writes the two bundles; raises PeerError."""
        cgroup = f"/{self.directory.parent.name}/{self.id}"
        for name, args in (("short", _SHORT), ("long", _LONG)):
            write_bundle(self.directory / name, self.kind, rootfs, cgroup, args, seccomp=seccomp)

    def words(self, command: str) -> tuple[str, ...]:
        """The command line of one of COMMANDS, the same for all candidates."""
        made = ("--pid-file", str(self.pid_file), "--bundle")
        tail = {
            "run": ("--bundle", str(self.directory / "short"), self.id),
            "create": (*made, str(self.directory / "long"), self.id),
            "exec": (self.id, *_SHORT),
            "kill": (self.id, "KILL"),
        }.get(command, (self.id,))
        return (str(self.program), "--root", str(self.root), command, *tail)

    def init(self) -> int:
        """The pid of the init that the last `create` has made."""
        return int(self.pid_file.read_text())

    def await_end(self) -> None:
        """Waits until the init that was killed is reaped, which process 1 does."""
        process = Path(f"/proc/{self.init()}")
        eventually(lambda: not process.exists(), f"the end of init of {self.candidate}")


def places(found: dict[str, Path], top: Path) -> list[Place]:
    """Every candidate with every kind of bundle, in the order of a round."""
    pairs = [(kind, name) for kind in KINDS for name in found]
    return [Place(name, found[name], kind, top / f"c{n}") for n, (kind, name) in enumerate(pairs)]


def cycle(place: Place, spawner: Spawner) -> tuple[dict[str, Cost], dict[str, float]]:
    """What each command cost, and the memory of init between `create` and `start`.

    Raises CommandFailedError, also where `state` does not say that the container runs.
    """
    costs: dict[str, Cost] = {}
    memory: dict[str, float] = {}
    for command in COMMANDS:
        if command == "delete":
            place.await_end()
        costs[command] = spawner.run(*place.words(command))
        if command == "create":
            memory = waiting(place.init())
        elif command == "state" and json.loads(spawner.output())["status"] != "running":
            raise CommandFailedError(f"{place.candidate}: not running after start: {spawner.output()}")
    return costs, memory


def waiting(pid: int) -> dict[str, float]:
    """The memory of a process, in kB (proc_pid_smaps(5)): its own, and with its part of what is shared."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    memory = dict(line.split()[:2] for line in lines)
    return {"resident, kB": float(memory["Rss:"]), "proportional, kB": float(memory["Pss:"])}


def clear(top: Path) -> None:
    """Ends what an interrupted run has left in the cgroups below the name of ``top``, and removes them."""
    cgroup = Path(inside.CGROUP, top.name)
    if cgroup.exists():
        (cgroup / "cgroup.kill").write_text("1")
        remove_cgroup(str(cgroup))


def facts(found: dict[str, Path], commit: str) -> dict[str, str]:
    """What stands beside every figure."""
    told = {name: machine.version(program) for name, program in found.items()}
    told[OURS] += f", commit {commit}"
    return {**told, **machine.facts(), "processor": machine.model()}
