"""Why a program is not found or not executed: start, run and exec tell the cause, and the code of it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.host import observe
from tests.host.bundles import BUSYBOX
from tests.host.execs import execute
from tests.host.runtimes import new_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Result, Runtime

X86 = os.uname().machine == "x86_64"
#: A machine of elf(5) that this host is not, and its name.
FOREIGN, NAME = (183, "aarch64") if X86 else (62, "x86_64")
PT_INTERP = 3


def elf(machine: int, *, bits: int = 64, order: str = "little", loader: bytes = b"") -> bytes:
    """A program without code for ``machine``, which wants the ``loader``."""

    def number(value: int, size: int) -> bytes:
        return value.to_bytes(size, "big" if order == "big" else "little")

    wide = bits == 64
    word, header, entry = (8, 64, 56) if wide else (4, 52, 32)
    ident = b"\x7fELF" + bytes([2 if wide else 1, 2 if order == "big" else 1, 1]) + bytes(9)
    head = ident + number(2, 2) + number(machine, 2) + number(1, 4)
    head += number(0, word) + number(header, word) + number(0, word) + number(0, 4)
    head += b"".join(number(value, 2) for value in (header, entry, 1, 0, 0, 0))
    at, length = number(header + entry, word), number(len(loader) + 1, word)
    if wide:
        row = number(PT_INTERP, 4) + number(4, 4) + at + number(0, 16) + length + length + number(1, 8)
    else:
        row = number(PT_INTERP, 4) + at + number(0, 8) + length + length + number(4, 4) + number(1, 4)
    return head + row + loader + b"\0"


def put(bundle: Bundle, name: str, content: bytes, mode: int = 0o755) -> None:
    """A file in /bin of the image."""
    path = bundle.rootfs / "bin" / name
    path.write_bytes(content)
    path.chmod(mode)


def logged(runtime: Runtime, *args: str) -> tuple[Result, dict[str, object]]:
    """Runs a command that must fail, and gives the last entry of its log."""
    log = runtime.file("log")
    result = runtime.call("--log", str(log), "--log-format", "json", *args)
    assert result.code in (1, 255), result.stderr
    assert "Traceback" not in result.stderr
    entry: dict[str, object] = json.loads(log.read_text().splitlines()[-1])
    assert entry["level"] == "error"
    return result, entry


def failures(ocirun: Runtime, bundle: Bundle, program: str) -> Iterator[dict[str, object]]:
    """What start, run and exec log of ``program``, and that init ends as a shell would."""
    container = ocirun.create(bundle.args(program))
    result, entry = logged(ocirun, "start", container.id)
    assert "config.json:" in result.stderr, "the place in the frozen config"
    assert entry["line"]
    yield entry
    assert container.exit_status() == (127 if entry["errno"] == 2 else 126)
    yield logged(ocirun, "run", "--bundle", str(bundle.path), new_id())[1]
    running = ocirun.running(bundle.sleeping())
    yield logged(ocirun, "exec", running.id, program)[1]


CAUSES: dict[str, tuple[bytes, str, str]] = {
    "script": (
        b"#!/opt/missing -x\n",
        "program-interpreter-missing",
        "the script /bin/script names the interpreter /opt/missing, which is not in the image",
    ),
    "nested": (
        b"#!/bin/inner\n",
        "program-interpreter-missing",
        "interpreter /bin/inner, itself a script that names the interpreter /opt/gone, which is not in the",
    ),
    "dos": (b"#!/bin/sh\r\necho\r\n", "program-interpreter-missing", "ends in CR LF"),
    "directory": (b"#!/etc\n", "program-not-executable", "the interpreter /etc, which is a directory"),
    "locked": (b"#!/bin/plain\n", "program-not-executable", "/bin/plain (-rw-r--r-- 0:0) has no execute"),
    "text": (b"echo hello\n", "program-format", "neither an ELF program nor a script"),
    "empty": (b"", "program-format", "the file is empty"),
    "nameless": (b"#!\n", "program-format", "names no interpreter"),
    "of-text": (b"#!/bin/words\n", "program-format", "and /bin/words is neither"),
    "foreign": (elf(FOREIGN), "program-architecture", f"a program for {NAME} (64 bits), this host is"),
    "big": (elf(21, order="big"), "program-architecture", "for ppc64 (64 bits, big-endian), this host"),
    "narrow": (elf(8, bits=32, order="big"), "program-architecture", "mips (32 bits, big-endian)"),
    "dynamic": (
        elf(62 if X86 else 183, loader=b"/lib/ld-musl-x.so.1"),
        "program-loader-missing",
        "its loader /lib/ld-musl-x.so.1 is not in the image: it was built for musl",
    ),
    "by-dynamic": (
        b"#!/bin/linked\n",
        "program-loader-missing",
        "/bin/linked, which is linked dynamically and its loader /lib/gone.so is not in the image",
    ),
}


@pytest.mark.parametrize("name", CAUSES)
def test_the_cause_of_a_failed_execve_is_told(ocirun: Runtime, bundle: Bundle, name: str) -> None:
    content, code, hint = CAUSES[name]
    put(bundle, name, content)
    put(bundle, "inner", b"#!/opt/gone\n")
    put(bundle, "plain", b"#!/bin/sh\n", 0o644)
    put(bundle, "words", b"some words\n")
    put(bundle, "linked", elf(62 if X86 else 183, loader=b"/lib/gone.so"))
    for entry in failures(ocirun, bundle, name):
        assert (entry["code"], hint in str(entry["hint"])) == (code, True), entry


@pytest.mark.skipif(not X86, reason="asks for the smaller sibling of x86_64")
def test_a_program_of_32_bits(ocirun: Runtime, bundle: Bundle) -> None:
    """A kernel that executes them looks for the loader, another knows no such format."""
    put(bundle, "small", elf(3, bits=32, loader=b"/lib/ld-linux.so.2"))
    for entry in failures(ocirun, bundle, "small"):
        assert entry["code"] in ("program-loader-missing", "program-architecture"), entry
        assert "/lib/ld-linux.so.2 is not in" in str(entry["hint"]) or "support for 32 bits" in str(
            entry["hint"]
        )


def test_the_peers_do_not_run_them_either(runtime: Runtime, bundle: Bundle) -> None:
    for name, (content, _, _) in CAUSES.items():
        put(bundle, name, content)
    container = runtime.running(bundle.sleeping())
    assert {name for name in CAUSES if execute(container, name).code == 0} == set()


@pytest.fixture(params=["program", "interpreter", "loader"])
def noexec(bundle: Bundle, scratch: Path, request: pytest.FixtureRequest) -> Bundle:
    """A bundle with a file on a mount without exec that its program needs."""
    (scratch / "files").mkdir()
    (scratch / "files" / "tool").write_bytes(BUSYBOX.read_bytes())
    (scratch / "files" / "tool").chmod(0o755)
    loaded = elf(62 if X86 else 183, loader=b"/mnt/tool")
    put(bundle, "odd", b"#!/mnt/tool sh\n" if request.param == "interpreter" else loaded)
    bundle.directory("mnt").bind(str(scratch / "files"), "/mnt", "noexec")
    return bundle.args("/mnt/tool" if request.param == "program" else "odd")


def test_a_mount_without_exec_is_told_from_a_missing_permission(ocirun: Runtime, noexec: Bundle) -> None:
    result, entry = logged(ocirun, "run", "--bundle", str(noexec.write().path), new_id())
    assert "permission denied" in result.stderr
    assert (entry["code"], entry["errno"]) == ("program-on-noexec-mount", 13)
    assert "/mnt/tool" in str(entry["hint"])
    assert "is on /mnt, which is mounted with the option noexec" in str(entry["hint"])


def test_a_program_that_is_still_being_written(ocirun: Runtime, bundle: Bundle) -> None:
    put(bundle, "busy", BUSYBOX.read_bytes())
    container = ocirun.create(bundle.args("busy"))
    with (bundle.rootfs / "bin/busy").open("ab"):
        result, entry = logged(ocirun, "start", container.id)
    assert "text file busy (ETXTBSY)" in result.stderr
    assert (entry["code"], "open for writing" in str(entry["hint"])) == ("program-busy", True)


@pytest.mark.parametrize("long", [["x" * 200_000], ["y" * 100_000] * 80])
def test_arguments_that_are_too_long(ocirun: Runtime, bundle: Bundle, long: list[str]) -> None:
    _, entry = logged(ocirun, "run", "--bundle", str(bundle.args("echo", *long).write().path), new_id())
    assert (entry["code"], entry["errno"]) == ("arguments-too-long", 7)
    alone = len(long) == 1
    assert entry["pointer"] == ("/process/args/1" if alone else "/process/args")
    assert ("131072 in one string" if alone else "a quarter of its RLIMIT_STACK") in str(entry["hint"])


SUGGESTIONS = {
    "bsh": "did you mean sh?",
    "slep": "did you mean sleep?",
    "/bin/bsh": "/bin/bsh is not in the image; did you mean /bin/sh?",
    "/bni/sh": "/bni is not in the image",
    "echo hi": 'no shell reads them: ["echo", "hi"]',
    "hidden": "but there is a /opt/bin/hidden",
    "qqqqqqqq": "the image has no such program in /usr/local/sbin",
    "/bin/dangling": "/bin/dangling is a symbolic link to what is not there",
    "evil\x1b": "did you mean evil\\x1b[2J?",
}


@pytest.mark.parametrize("name", SUGGESTIONS)
def test_a_program_that_is_not_found_suggests(ocirun: Runtime, bundle: Bundle, name: str) -> None:
    bundle.file("opt/bin/hidden", "#!/bin/sh\n", 0o755)
    put(bundle, "evil\x1b[2J", b"#!/bin/sh\n")
    (bundle.rootfs / "bin/dangling").symlink_to("/nowhere")
    result, entry = logged(ocirun, "run", "--bundle", str(bundle.args(name).write().path), new_id())
    words = "no such file or directory" if "/" in name else "executable file not found in $PATH"
    assert words in result.stderr
    assert (entry["code"], entry["errno"]) == ("program-not-found", 2)
    assert SUGGESTIONS[name] in str(entry["hint"])
    running = ocirun.running(bundle.sleeping())
    assert SUGGESTIONS[name] in execute(running, name).stderr


def test_without_a_path_it_says_so(ocirun: Runtime, bundle: Bundle) -> None:
    bundle.put([], "process", "env").args("qqqqqqqq")
    ocirun.attempt(bundle).refused("in $PATH", "PATH is not set in process.env, or empty")
    ocirun.attempt(bundle.args("sh")).refused(
        "PATH is not set in process.env, or empty, but there is a /bin/sh"
    )


def test_an_image_with_very_many_names_costs_little(ocirun: Runtime, bundle: Bundle) -> None:
    for number in range(20_000):
        (bundle.rootfs / "tmp" / f"name{number}").touch()
    bundle.put(["PATH=/tmp"], "process", "env").args("nam")
    ocirun.attempt(bundle).refused("executable file not found in $PATH")


def test_what_waited_to_be_looked_at_is_gone_afterwards(ocirun: Runtime, bundle: Bundle) -> None:
    put(bundle, "text", b"?")
    container = ocirun.create(bundle.args("text"))
    ocirun.call("start", container.id).refused("exec format error")
    observe.eventually(lambda: not observe.alive(container.pid), "init ends")
    ocirun.call("start", container.id).refused("stopped")
    assert sorted(path.name for path in (ocirun.root / container.id).iterdir()) == ["config.json", "journal"]
    container.delete().ok()


def test_a_start_that_is_killed_meanwhile_can_be_repeated(ocirun: Runtime, bundle: Bundle) -> None:
    """Init waits at the gate until somebody has looked; another start lets it go."""
    put(bundle, "text", b"?")
    container = ocirun.create(bundle.args("text"))
    proof = os.open(ocirun.root / container.id / "proof", os.O_RDONLY | os.O_NONBLOCK)
    gate = os.open(ocirun.root / container.id / "gate", os.O_WRONLY | os.O_NONBLOCK)
    os.write(gate, b"1")
    said = b""

    def told() -> bool:
        nonlocal said
        try:
            said += os.read(proof, 4096)
        except BlockingIOError:
            return False
        return b"T" in said

    observe.eventually(told, "init tells")
    os.close(gate)
    os.close(proof)
    assert said == b"RE" + (8).to_bytes(4, "little") + b"T?"
    assert observe.alive(container.pid)
    ocirun.call("start", container.id).refused("init died before it executed the program")
    assert container.exit_status() == 126


@pytest.fixture
def endless(bundle: Bundle) -> Bundle:
    """A bundle whose root has a directory of links that lead nowhere and everywhere."""
    bundle.directory("maze")
    (bundle.rootfs / "maze/loop").symlink_to("loop")
    (bundle.rootfs / "maze/up").symlink_to("../../../../../../etc/passwd")
    os.mkfifo(bundle.rootfs / "maze/fifo")
    return bundle


def test_a_look_stays_inside_and_opens_nothing_that_answers_late(ocirun: Runtime, endless: Bundle) -> None:
    ocirun.attempt(endless.args("/maze/loop")).refused("too many symbolic links")
    ocirun.attempt(endless.args("/maze/fifo")).refused("permission denied", "is no regular file")
    ocirun.attempt(endless.args("/maze/up")).refused("permission denied", "/etc/passwd (-rw-r--r-- 0:0)")
