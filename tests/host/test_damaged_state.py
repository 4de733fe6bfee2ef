"""Whatever is in a state directory, in a file that a flag names, on the command line: a named answer."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ocirun.cli.table import COMMANDS
from ocirun.lifecycle.undo import end
from ocirun.waiting import drive
from tests.host import generated
from tests.host.inprocess import Made, making
from tests.host.racing import fault
from tests.host.warm import Warm, warming

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

Json = Any

CGROUPS = Path("/sys/fs/cgroup/ocirun")
#: Commands that leave the container in the status it has, more or less.
ON_A_CONTAINER: dict[str, tuple[str, ...]] = {
    "state": ("ID",),
    "list": (),
    "ps": ("--format", "json", "ID"),
    "kill": ("ID", "URG"),
    "pause": ("ID",),
    "resume": ("ID",),
    "exec": ("ID", "true"),
    "update": ("--cpu-idle", "0", "ID"),
}


class Trial:
    """Calls commands in a warm process and notes what is wrong with their ends."""

    def __init__(self, warm: Warm, scratch: Path) -> None:
        self.warm = warm
        self.root = scratch / "state"
        self.log = scratch / "log"
        self.faults: list[str] = []
        self.refused = 0

    def call(self, name: str, *words: str, told: str = "") -> int:
        """Calls one command; ``told`` is what errors of the test call the case."""
        self.log.unlink(missing_ok=True)
        before = ("--root", str(self.root), "--log", str(self.log), "--log-format", "json")
        code, stderr = self.warm.call(*before, name, *words)
        self.refused += code != 0
        if wrong := fault(name, code, stderr, self.log):
            self.faults.append(f"{told}: {wrong}")
        return code


@pytest.fixture
def trial(scratch: Path) -> Iterator[Trial]:
    """Commands on the state directory of the test."""
    for warm in warming(scratch):
        yield Trial(warm, scratch)


@pytest.fixture
def made(scratch: Path) -> Iterator[Made]:
    """Containers made in this process."""
    yield from making(scratch / "state")


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def _entries(path: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Every member of every line of a journal taken out, and replaced by values of all types."""
    lines = _lines(path)
    for number, line in enumerate(lines):
        document: Json = json.loads(line)
        for pointer, text in generated.each_member(document):
            changed = b"".join([*lines[:number], text.replace(b"\n", b"") + b"\n", *lines[number + 1 :]])
            yield f"line {number} {pointer}", partial(path.write_bytes, changed)


def _bytes(path: Path, chance: random.Random) -> Iterator[tuple[str, Callable[[], object]]]:
    """A file cut off, with bytes changed, and something else in its place."""
    content = path.read_bytes()
    for end_ in chance.sample(range(len(content)), 25):
        yield f"cut off at {end_}", partial(path.write_bytes, content[:end_])
    for at in chance.sample(range(len(content) - 1), 40):
        for byte in (b"z", b"\0", b"\xff", b'"'):
            changed = content[:at] + byte + content[at + 1 :]
            yield f"{byte!r} at {at}", partial(path.write_bytes, changed)
    lines = content.splitlines(keepends=True)
    for number in range(len(lines)):
        rest = b"".join(lines[:number] + lines[number + 1 :])
        yield f"without line {number}", partial(path.write_bytes, rest)
    yield "random", lambda: path.write_bytes(chance.randbytes(5000))
    yield from _replacements(path, content)


def _replacements(path: Path, content: bytes) -> Iterator[tuple[str, Callable[[], object]]]:
    """Something else in the place of a file with that content."""

    def other(make: Callable[[], object]) -> Callable[[], object]:
        def replace() -> None:
            path.unlink()
            make()

        return replace

    yield "empty", other(lambda: path.write_bytes(b""))
    yield "other JSON", other(lambda: path.write_bytes(b"[1]\n[2]\n"))
    yield "deep", other(lambda: path.write_bytes(b"[" * 100_000 + b"\n"))
    yield "another version", other(lambda: path.write_bytes(content.replace(b'"version":1', b'"version":2')))
    yield "gone", path.unlink
    yield "a directory", other(path.mkdir)
    yield "a FIFO", other(lambda: os.mkfifo(path))
    yield "a link", other(lambda: path.symlink_to("/etc/hostname"))
    yield "a device", other(lambda: path.symlink_to("/dev/zero"))


class Damage:
    """Damages one container after another and calls commands on each; what is left is removed by hand."""

    def __init__(self, trial: Trial, made: Made, bundle: Bundle) -> None:
        self.trial = trial
        self.made = made
        self.bundle = bundle.sleeping()
        self.container = made.create(self.bundle)
        self._names = itertools.cycle(ON_A_CONTAINER)

    @property
    def directory(self) -> Path:
        """The state directory of the container."""
        return self.trial.root / self.container.id

    def damage(self, told: str, what: Callable[[], object], commands: int = 3) -> None:
        """One kind of damage, after which the directory is put back as it was."""
        kept = self.trial.root.parent / "kept"
        shutil.copytree(self.directory, kept, ignore=shutil.ignore_patterns("gate", "proof"))
        what()
        for name in itertools.islice(self._names, commands):
            words = ON_A_CONTAINER[name]
            self.trial.call(name, *(self.container.id if word == "ID" else word for word in words), told=told)
        for name in ("config.json", "journal"):
            _remove(self.directory / name)
            shutil.copy2(kept / name, self.directory / name)
        shutil.rmtree(kept)

    def finish(self, told: str, what: Callable[[], object], name: str) -> None:
        """As ``damage``, with a start or a delete and then one by force, after which a new one is made."""
        what()
        self.trial.call(name, self.container.id, told=told)
        self.trial.call("delete", "--force", self.container.id, told=told)
        drive(end(os.dup(self.container.pidfd)))  # what a damaged journal does not tell, nobody can end
        shutil.rmtree(self.directory, ignore_errors=True)
        cgroup = CGROUPS / self.container.id
        if cgroup.is_dir():
            cgroup.rmdir()
        self.container = self.made.create(self.bundle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    path.unlink(missing_ok=True)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["journal", "config.json"])
def test_a_damaged_file_of_the_state_is_told(trial: Trial, made: Made, bundle: Bundle, file: str) -> None:
    damage = Damage(trial, made, bundle)
    path = damage.directory / file
    chance = random.Random(file)  # noqa: S311 - a choice, not a secret
    cases = [*_bytes(path, chance)]
    if file == "journal":
        cases += chance.sample([*_entries(path)], 200)
    for told, what in cases:
        damage.damage(told, what)

    assert trial.faults == []
    assert trial.refused > 50


@pytest.mark.slow
@pytest.mark.parametrize("file", ["journal", "config.json", "gate", "proof"])
@pytest.mark.parametrize("name", ["start", "delete"])
def test_what_is_damaged_is_started_and_deleted_or_refused(
    trial: Trial, made: Made, bundle: Bundle, file: str, name: str
) -> None:
    damage = Damage(trial, made, bundle)
    told_ones = [told for told, _ in _replacements(damage.directory / file, b"")]
    for told in (*told_ones, "half"):
        path = damage.directory / file
        content = path.read_bytes() if file in ("journal", "config.json") else b""
        cases = dict(_replacements(path, content))
        damage.finish(told, cases.get(told, partial(_put, path, content)), name)

    assert trial.faults == []
    assert trial.refused > 0


def _put(path: Path, content: bytes) -> None:
    _remove(path)
    path.write_bytes(content[: len(content) // 2])


def test_a_directory_of_somebody_else_is_not_removed(trial: Trial) -> None:
    (trial.root / "home").mkdir()
    (trial.root / "home" / "thesis").write_text("years")

    assert trial.call("delete", "--force", "home") == 1
    assert (trial.root / "home" / "thesis").read_text() == "years"
    assert trial.faults == []
    shutil.rmtree(trial.root / "home")


def _words(chance: random.Random, scratch: Path) -> list[str]:
    """A random command line, nearly right; of the flags that name a place it has none."""
    command = chance.choice(COMMANDS)
    flags = [f"--{flag.name}" for flag in command.flags if flag.name != "root"]
    odd = [
        "",
        "-",
        "--",
        "-x",
        "--no-such",
        "a/b",
        "..",
        "\udcff",
        "é",
        "0",
        "-1",
        "9" * 30,
        "1e9",
        "x" * 5000,
    ]
    words = [command.name if chance.random() < 0.9 else chance.choice(odd)]
    for _ in range(chance.randrange(6)):
        word = chance.choice([*flags, *odd, "oh-none", str(scratch / "bundle")])
        words.append(f"{word}={chance.choice(odd)}" if chance.random() < 0.2 else word)
    return words


@pytest.mark.slow
def test_any_command_line_has_an_answer(trial: Trial, scratch: Path) -> None:
    chance = random.Random("words")  # noqa: S311 - a choice, not a secret
    for _ in range(900):
        name, *words = _words(chance, scratch)
        trial.call(name, *words, told=repr([name, *words])[:300])

    assert trial.faults == []
    assert trial.refused > 400


def _spoilt(document: Json, chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """A document with a wrong member, or its text cut off."""
    yield from chance.sample([*generated.each_member(document)], 150)
    text = json.dumps(document).encode()
    yield from ((f"cut off at {at}", text[:at]) for at in range(0, len(text), 5))
    yield from (("garbage", chance.randbytes(99)), ("deep", b"[" * 100_000), ("twice", text * 2))


PROCESS: Json = {
    "args": ["true"],
    "cwd": "/",
    "env": ["PATH=/bin", "A=b"],
    "user": {"uid": 1, "gid": 2, "additionalGids": [3], "umask": 7},
    "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
    "capabilities": {"bounding": ["CAP_KILL"]},
    "terminal": False,
    "noNewPrivileges": True,
    "oomScoreAdj": 1000,
}
RESOURCES: Json = {
    "cpu": {"shares": 10, "quota": 10000, "period": 10000, "cpus": "0", "idle": 0},
    "memory": {"limit": 1 << 30, "swap": 1 << 31, "checkBeforeUpdate": True},
    "pids": {"limit": 100},
    "blockIO": {"weight": 100},
    "unified": {"pids.max": "9"},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "document"),
    [(("exec", "--process", "FILE", "ID"), PROCESS), (("update", "--resources", "FILE", "ID"), RESOURCES)],
)
def test_a_file_that_a_flag_names_may_be_anything(
    trial: Trial, made: Made, bundle: Bundle, scratch: Path, words: tuple[str, ...], document: Json
) -> None:
    container = made.create(bundle.sleeping())
    stands_for = {"FILE": str(scratch / "file"), "ID": container.id}
    chance = random.Random(words[0])  # noqa: S311 - a choice, not a secret
    for told, text in _spoilt(document, chance):
        (scratch / "file").write_bytes(text)
        name, *rest = [stands_for.get(word, word) for word in words]
        trial.call(name, *rest, told=told)

    assert trial.faults == []
    assert trial.refused > 100


@pytest.mark.slow
@pytest.mark.parametrize("command", ["plan", "validate"])
def test_what_only_looks_at_a_bundle_has_an_answer_too(trial: Trial, bundle: Bundle, command: str) -> None:
    chance = random.Random(command)  # noqa: S311 - a choice, not a secret
    documents = chance.sample([*generated.mutants("default", "hooks")], 80)
    for told, text in (*documents, *itertools.islice(generated.spoilt_texts(), 0, None, 30)):
        (bundle.path / "config.json").write_bytes(text)
        trial.call(command, "--bundle", str(bundle.path), told=told)

    assert trial.faults == []
    assert trial.refused > 50


def test_an_emptied_journal_does_not_lose_a_container_that_waits(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.create(bundle.sleeping())
    path = ocirun.root / container.id / "journal"
    content = path.read_bytes()
    path.write_bytes(b"")
    container.delete("--force").refused("was emptied")
    path.write_bytes(content)
    container.delete("--force").ok()
