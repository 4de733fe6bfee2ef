"""Hostile images and containers against exec: the helper enters where they already run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import execs, observe, terminals
from tests.host.bundles import BUSYBOX
from tests.host.execs import execute

if TYPE_CHECKING:
    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

ROUNDS = 40


def _spy(bundle: Bundle) -> Bundle:
    source, program = Path(__file__).with_name("spy.c"), bundle.rootfs / "bin/spy"
    subprocess.run(["gcc", "-O2", "-static", "-o", program, source], check=True)
    os.link(bundle.rootfs / "bin/busybox", bundle.rootfs / "bin/busybox.seen")
    return bundle.args("spy")


@pytest.mark.slow
def test_a_process_inside_cannot_look_into_the_helper_nor_trace_it(ocirun: Runtime, bundle: Bundle) -> None:
    """CVE-2016-9962: whoever gets hold of the helper has its descriptors, and the host's capabilities."""
    container = ocirun.running(_spy(bundle))
    observe.eventually(lambda: "ready" in container.output, "the spy runs")

    def seen() -> set[str]:
        result = execute(container, "busybox.seen", "sh", "-c", "sleep 0.01; exit 7")
        assert result.code == 7, "whoever traced the program to its end"
        return set(container.output.splitlines()) - {"ready"}

    for _ in range(ROUNDS):
        seen()
    all_it_may_see = {"exe /bin/busybox.seen", "traced /bin/busybox.seen"}
    observe.eventually(lambda: all_it_may_see <= seen(), "the spy sees what it may see")
    assert {line for line in seen() if "busybox" not in line} == set()


def test_the_helper_cannot_be_made_the_interpreter_of_a_script(ocirun: Runtime, bundle: Bundle) -> None:
    """CVE-2019-5736: the file that would be overwritten through it is a sealed copy, and it does nothing."""
    bundle.file("bin/trap", "#!/proc/self/exe\n", 0o755)
    container = ocirun.running(bundle.sleeping())
    assert execute(container, "trap").code == 2
    assert execute(container, "echo", "well").ok().stdout == "well\n"


def test_a_working_directory_in_a_descriptor_is_refused_or_inside(runtime: Runtime, bundle: Bundle) -> None:
    """CVE-2024-21626."""
    container = runtime.running(bundle.sleeping())
    ours = os.stat("/")
    for number in range(3, 12):
        result = execute(
            container, "stat", "-L", "-c", "%d:%i", ".", flags=("--cwd", f"/proc/self/fd/{number}")
        )
        assert result.stdout.strip() != f"{ours.st_dev}:{ours.st_ino}"
        assert runtime.name != "ocirun" or result.code == 255


def test_a_working_directory_that_is_a_link_to_a_descriptor_is_refused(
    ocirun: Runtime, bundle: Bundle
) -> None:
    for number in range(3, 9):
        (bundle.rootfs / f"trap{number}").symlink_to(f"/proc/self/fd/{number}")
    container = ocirun.running(bundle.sleeping())
    for number in range(3, 9):
        result = execute(container, "pwd", flags=("--cwd", f"/trap{number}"))
        assert (result.code, result.stdout) == (255, ""), "ELOOP, or ENOENT where none is open"


def test_a_passwd_that_never_answers_hangs_nobody(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    (bundle.rootfs / "etc/passwd").unlink()
    os.mkfifo(bundle.rootfs / "etc/passwd")
    process, result = runtime.popen("exec", "--user", "1000", container.id, "sh", "-c", "echo $HOME")
    try:
        code = process.wait(30 if runtime.name == "ocirun" else 5)  # the peers are known to wait for ever
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        container.executed += sorted(execs.members_of(container) - {container.pid})
        raise
    assert (code, result.stdout) == (0, "/\n")


@pytest.mark.parametrize("fake", ["fifo", "file", "link"])
def test_a_terminal_is_not_taken_from_what_is_no_devpts(ocirun: Runtime, bundle: Bundle, fake: str) -> None:
    """CVE-2025-52565: /dev is the container's to fill."""
    script = {
        "fifo": "mkdir /dev/pts; mknod /dev/pts/ptmx p",
        "file": "mkdir /dev/pts; echo > /dev/pts/ptmx",
        "link": "mkdir /dev/other; mknod /dev/other/ptmx p; ln -s /dev/other /dev/pts",
    }[fake]
    bundle.without_mount("/dev/pts").sh(f"{script}; echo done; sleep 1000")
    container = ocirun.running(bundle)
    observe.eventually(lambda: "done" in container.output, "the container has set its trap")
    result = execute(container, "tty", flags=("--tty",))
    assert (result.code, result.stdout) == (255, "")
    assert "/dev/pts" in result.stderr


def test_a_console_of_the_image_is_left_alone(ocirun: Runtime, bundle: Bundle, scratch: Path) -> None:
    container = ocirun.running(bundle.sh("ln -sf /dev/null /dev/console; echo done; sleep 1000"))
    observe.eventually(lambda: "done" in container.output, "the container has set its trap")
    with terminals.ConsoleSocket(scratch / "console") as console:
        flags = ("--detach", "--tty", "--console-socket", str(console.path))
        pid = execs.settled(execs.detached(container, "sleep", "1000", flags=flags))
        assert os.isatty(console.receive())
        assert observe.descriptors(pid)[0] == "/dev/pts/0"
    assert os.readlink(observe.inside(container.pid, "/dev/console")) == "/dev/null"


@pytest.mark.parametrize("user", ["1000x", "-1", "4294967295", "0x0", "1:", ":1", "1:2:3", "", " 1", "1_0"])
def test_half_a_number_is_no_user(ocirun: Runtime, bundle: Bundle, user: str) -> None:
    """CVE-2026-30892: what could not be read became root."""
    container = ocirun.running(bundle.sleeping())
    result = execute(container, "id", flags=(f"--user={user}",))
    assert (result.code, result.stdout) == (255, "")
    assert "is no id" in result.stderr


def test_the_busybox_of_the_host_is_not_touched(ocirun: Runtime, bundle: Bundle) -> None:
    before = BUSYBOX.stat()
    container = ocirun.running(bundle.writable().sleeping())
    execute(container, "sh", "-c", "echo x > /proc/self/exe; true").ok()
    assert BUSYBOX.stat().st_mtime_ns == before.st_mtime_ns
