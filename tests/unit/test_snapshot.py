"""The snapshot in the launcher: a start that happened at build time, of which nothing else is left."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ocirun.native import build, snapshot
from tests.unit import corelauncher
from tests.unit.corelauncher import run, told

if TYPE_CHECKING:
    from collections.abc import Generator

#: What the C library does in each process anew, and what Python asks in vain for in every start.
OF_A_START = {
    "execve", "arch_prctl", "set_tid_address", "set_robust_list", "rseq", "prlimit64", "readlink",
    "mprotect", "brk", "sysinfo", "rt_sigaction", "rt_sigprocmask", "exit_group",
}  # fmt: skip
#: What differs in a second run (differences), or is the reading and writing of files.
OF_ITS_PROCESS = {"gettid", "getrandom", "fcntl", "openat", "read", "close", "fstat", "newfstatat", "write"}

OWN = range(0x1000, 0x3000)


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The launcher with a snapshot, built with a variable and by a process that ignores signals."""
    with pytest.MonkeyPatch.context() as patch, _ignored(signal.SIGHUP, signal.SIGUSR1):
        patch.setenv("OCIRUN_TEST_SECRET", "build-secret")
        return corelauncher.build_core(tmp_path_factory.mktemp("core") / "first")


@contextlib.contextmanager
def _ignored(*signums: int) -> Generator[None]:
    """Signals that this process ignores for a while, and hands on so."""
    before = [signal.signal(signum, signal.SIG_IGN) for signum in signums]
    try:
        yield
    finally:
        for signum, action in zip(signums, before, strict=True):
            signal.signal(signum, action)


@pytest.mark.skipif(build.library() is None, reason="this Python has no static library")
def test_the_command_of_this_environment_has_one() -> None:
    program = Path(sys.executable).parent / "ocirun"
    assert program.stat().st_size > 8 << 20, "make build"
    # only a program without one knows the word
    done = subprocess.run([program, "--take-snapshot"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "--take-snapshot" in done.stderr


def test_every_module_of_the_core_is_there_before_the_first_command(core: Path) -> None:
    from ocirun.native import freeze

    ours, _ = freeze.closure()
    assert told(core, f"import sys; tell([n for n in {sorted(ours)} if n not in sys.modules])") == []


def test_nothing_of_the_build_s_environment_is_in_it(core: Path) -> None:
    content = core.read_bytes()
    assert b"build-secret" not in content
    assert os.fsencode(core.parent) not in content
    for names in ("import posix; found = map(bytes.decode, posix.environ)", "import os; found = os.environ"):
        assert told(core, f"{names}; tell(sorted(found))", env={"A": "1", "B": ""}) == ["A", "B"]


def test_nothing_of_the_build_s_zone_is_in_it(core: Path) -> None:
    assert b"TZif2" not in core.read_bytes(), "the file /etc/localtime"
    assert told(core, "import time; tell(time.tzname)", env={"TZ": "CET-1"}) == ["UTC", "UTC"]
    assert told(core, "import time; tell(time.localtime(0)[3])", env={"TZ": "CET-1"}) == 1


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_build_s_run_asks_the_system_for_nothing_that_it_could_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second run of the same machine would be told the same: its user, names, limits, directories."""

    def leave(_program: Path) -> None:
        """No snapshot is taken."""

    monkeypatch.setattr(snapshot, "put_into", leave)
    core = corelauncher.build_core(tmp_path / "core")
    subprocess.run(
        ["strace", "-o", tmp_path / "calls", core, snapshot.WORD],
        cwd=Path(build.__file__).parents[1] / "cli",
        env={**snapshot.ENVIRONMENT},
        capture_output=True,
        check=True,
    )
    made = (tmp_path / "calls").read_text()
    opened = re.findall(r'open\w*\(.*?"(.*?)".* = \d', made)
    assert opened == ["default-config.json"]
    calls = set(re.findall(r"^\w+", made, re.MULTILINE))
    assert calls - OF_A_START - OF_ITS_PROCESS == set()


@pytest.mark.skipif(
    Path("/proc/sys/kernel/randomize_va_space").read_text() != "2\n", reason="addresses are the same here"
)
def test_one_is_taken_where_the_build_has_the_same_addresses_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(_program: Path) -> None:
        """No snapshot is taken."""

    monkeypatch.setattr(snapshot, "put_into", leave)
    core = corelauncher.build_core(tmp_path / "core")
    code = (
        "import pathlib, sys; from ocirun.native import snapshot\n"
        "snapshot.put_into(pathlib.Path(sys.argv[1]))"
    )
    before = core.stat().st_size
    subprocess.run(["setarch", "-R", sys.executable, "-c", code, core], check=True)
    assert core.stat().st_size > before + (4 << 20)
    assert told(core, "tell(1)") == 1


def test_two_builds_are_the_same(core: Path, tmp_path: Path) -> None:
    home = core.parents[1]
    moved = home.with_name("moved")
    home.rename(moved)
    try:
        again = corelauncher.build_core(home)
        assert again.read_bytes() == (moved / "bin/ocirun").read_bytes()
    finally:
        shutil.rmtree(home)
        moved.rename(home)


def test_the_signals_that_its_caller_ignores_are_known(core: Path) -> None:
    code = "import _signal; tell([int(_signal.getsignal(n)) for n in (1, 2, 10, 15, 40)])"
    assert told(core, code) == [0, 0, 0, 0, 0]
    with _ignored(signal.SIGINT, signal.SIGTERM, 40):
        assert told(core, code) == [0, 1, 0, 1, 1]


def test_it_is_a_process_of_its_own(core: Path) -> None:
    code = (
        "import _thread, posix; pid = posix.fork()\n"
        "if not pid: posix._exit(3)\n"
        "tell([posix.waitpid(pid, 0)[1] >> 8, _thread.get_native_id() == posix.getpid()])"
    )
    assert told(core, code) == [3, True]


def test_memory_is_taken_and_given_back(core: Path) -> None:
    code = (
        "import gc, sys\n"
        "kept = [str(n) * 100 for n in range(50000)]; del kept[::2]; kept.sort()\n"
        "for name, module in list(sys.modules.items()):\n"
        "    if name.startswith('ocirun.planner'): vars(module).clear()\n"
        "gc.collect(); tell(len(kept))"
    )
    assert told(core, code) == 25000


@pytest.mark.parametrize("error", [snapshot.SnapshotError("not today"), PermissionError(13, "not today")])
def test_without_one_the_interpreter_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: Exception
) -> None:
    def refuse(_program: Path) -> None:
        raise error

    monkeypatch.setattr(snapshot, "put_into", refuse)
    core = corelauncher.build_core(tmp_path / "none")
    assert "not today; it will start its interpreter anew each time" in capfd.readouterr().err
    assert told(core, "tell(hash('a'))") != told(core, "tell(hash('a'))")
    assert "ZeroDivisionError" in run(core, "1/0").stderr


def test_whoever_calls_while_it_is_built_gets_one_with_a_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[bool] = []

    def look(_program: Path) -> None:
        there.append((tmp_path / "core/bin/ocirun").exists())

    monkeypatch.setattr(snapshot, "put_into", look)
    core = corelauncher.build_core(tmp_path / "core")
    assert there == [False]
    assert not list(core.parent.glob(".*")), "the directory it was built in"


# -- the file ---------------------------------------------------------------------------------------------


def _program(*segments: tuple[int, int, int, int]) -> bytes:
    """An ELF file with loaded segments of (offset, address, bytes in the file, bytes in memory)."""
    elf = bytearray(0x400)
    struct.pack_into("<Q", elf, 0x20, 0x40)
    struct.pack_into("<QIHHHHHH", elf, 0x28, 0x300, 0, 64, 56, len(segments), 64, 5, 4)
    for index, (offset, address, in_file, in_memory) in enumerate(segments):
        struct.pack_into(
            "<IIQQQQQQ", elf, 0x40 + 56 * index, 1, 6, offset, address, address, in_file, in_memory, 0x1000
        )
    return bytes(elf)


def _pieces(*words: int) -> list[snapshot.Piece]:
    content = struct.pack(f"<{len(words)}Q", *words)
    return [snapshot.Piece(OWN.start, content), snapshot.Piece(0x9000, b"end")]


def test_a_word_of_one_process_alone_is_found() -> None:
    assert list(snapshot.differences(_pieces(1, 2, 3), _pieces(1, 2, 3))) == []
    assert list(snapshot.differences(_pieces(1, 2, 3), _pieces(1, 4, 3))) == [(OWN.start + 8, 2, 4)]


@pytest.mark.parametrize(
    ("elsewhere", "other", "told_why"), [(1, 2, ""), (1, 1, "the same addresses"), (1, 3, "0x7 at 0x1000")]
)
def test_two_runs_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: int, other: int, told_why: str
) -> None:
    """Where the kernel gives both the same addresses, nothing is proved."""
    program = tmp_path / "program"
    program.write_bytes(_program((0x200, OWN.start, 0x100, len(OWN))))
    piece = snapshot.Piece(OWN.start, struct.pack("<Q", 7))
    changed = snapshot.Piece(OWN.start, struct.pack("<Q", 7 + other // 3))
    runs = iter([snapshot.Taken([piece], elsewhere), snapshot.Taken([changed], other)])

    def take(_program: Path, _prepare: object = None) -> snapshot.Taken:
        return next(runs)

    def run(_program: Path, _prepare: object) -> bytes:
        return struct.pack("<4Q", OWN.start + 0x100, 0x5000, 1 << 63, 0)

    monkeypatch.setattr(snapshot, "take", take)
    monkeypatch.setattr(snapshot, "_run", run)
    if told_why:
        with pytest.raises(snapshot.SnapshotError, match=told_why):
            snapshot.put_into(program)
    else:
        snapshot.put_into(program)
        made = program.read_bytes()
        assert made[0x200:0x208] == struct.pack("<Q", 7)
        assert made[0x300:0x310] == struct.pack("<QQ", 0x5000, 0x1000), "the table of pages"
    assert list(tmp_path.iterdir()) == [program]


HERE, FILE = 1 << 63, 1 << 63 | 1 << 61


def test_pages_that_lie_together_are_one_row_of_the_table() -> None:
    """What is written is no page of the file any more; what planning writes beyond that has its own part."""
    first = [HERE, HERE, FILE, FILE, HERE, FILE, FILE, FILE, HERE, 0]
    then = [*first[:-1], HERE]
    table = snapshot.footprint(struct.pack("<22Q", 0x77000, 0x5000, *first, *then))
    rows = list(struct.iter_unpack("<2Q", table.content))
    assert table.start == 0x77000
    assert [row for row in rows if row != (0, 0)] == [(0x5000, 0x5000), (0xD000, 0x1000), (0xE000, 0x1000)]
    assert rows.index((0xE000, 0x1000)) == len(rows) // 2


def test_more_rows_than_there_is_room_for_are_left_to_faults() -> None:
    scattered = [HERE, 0, 0, 0] * 400
    table = snapshot.footprint(struct.pack(f"<2Q{2 * len(scattered)}Q", 0, 0, *scattered, *scattered))
    rows = list(struct.iter_unpack("<2Q", table.content))
    half = len(rows) // 2
    assert all(length == 0x1000 for _, length in rows[:half])
    assert set(rows[half:]) == {(0, 0)}


@pytest.mark.parametrize("told_bytes", [0, 16, 24, 25, 39])
def test_a_footprint_that_is_cut_off_is_refused(told_bytes: int) -> None:
    with pytest.raises(snapshot.SnapshotError, match=f"in {told_bytes} bytes"):
        snapshot.footprint(bytes(told_bytes))


def test_snapshots_of_other_lengths_differ() -> None:
    assert list(snapshot.differences(_pieces(1), _pieces(1, 2))) == [(OWN.start, 8, 16)]


@pytest.mark.skipif(build.library() is None, reason="this Python has no static library")
@pytest.mark.parametrize("of_the_process", ["posix.getpid()", "str(posix.times())", "id(posix.urandom(1))"])
def test_a_program_that_keeps_what_is_of_one_process_is_told(
    tmp_path: Path, of_the_process: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(corelauncher, "MAIN", corelauncher.MAIN + f"\nKEPT = [{of_the_process}]\n")
    core = corelauncher.build_core(tmp_path / "core")
    if of_the_process.startswith("id"):  # addresses of ours are the same each time
        assert capfd.readouterr().err == ""
    else:
        assert "when it runs again; it will start its interpreter anew" in capfd.readouterr().err
    assert told(core, "tell(1)") == 1


def test_pieces_take_the_place_of_what_was_there() -> None:
    elf = _program((0, 0x400, 0x100, 0x100), (0x200, OWN.start, 0x100, len(OWN)))
    pieces = [snapshot.Piece(OWN.start + 0x10, b"first"), snapshot.Piece(OWN.start + 0x180, b"second")]
    made = snapshot.with_pieces(elf, pieces)
    *_, last = snapshot.loads(made)
    assert (last.in_file, last.in_memory) == (0x186, len(OWN))
    assert made[0x210:0x215] == b"first"
    assert made[0x300:0x380] == bytes(0x80), "what had no value in the file is zero, not a table of sections"
    assert made[0x380:] == b"second"


def test_pieces_outside_of_the_last_segment_are_refused() -> None:
    elf = _program((0x200, OWN.start, 0x100, len(OWN)))
    with pytest.raises(snapshot.SnapshotError, match="last segment"):
        snapshot.with_pieces(elf, [snapshot.Piece(OWN.stop - 1, b"ab")])


def test_one_can_be_taken_by_a_python_without_ctypes(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho no way >&2; exit 3\n")
    program.chmod(0o755)
    code = (
        "import pathlib, sys; sys.modules['ctypes'] = None; from ocirun.native import snapshot\n"
        "try: snapshot.put_into(pathlib.Path(sys.argv[1]))\n"
        "except snapshot.SnapshotError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, program], capture_output=True, text=True, check=True)
    assert "no way" in done.stdout


@pytest.mark.parametrize(
    ("script", "told_why"),
    [
        ("echo no way >&2; exit 3", "no way"),
        ("head -c 40 /dev/zero; exit 3", "--take-snapshot"),
        ("head -c 39 /dev/zero", "--take-snapshot"),
        ("head -c 41 /dev/zero", "cut off"),
    ],
)
def test_a_program_that_cannot_be_taken_says_why(tmp_path: Path, script: str, told_why: str) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    with pytest.raises(snapshot.SnapshotError, match=told_why):
        snapshot.take(program)
