"""Podman as root, which has conmon execute the runtime: our command line, and the oracle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.private_view import eventually
from tests.engines.command_scenes import converses
from tests.engines.scenes import fetch, signalled

if TYPE_CHECKING:
    from tests.engines.podman_scenes import PodmanScene


def test_podman_run_gives_output_errors_and_exit_status(podman: PodmanScene) -> None:
    done = podman.run("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.code) == ("out\n", "err\n", 7)


@pytest.mark.parametrize(
    ("flags", "script", "said"),
    [
        ((), "id; pwd", "uid=0(root) gid=0(root)\n/\n"),
        (("--user", "someone", "--group-add", "1234"), "id -u; id -G", "1000\n1000 1234\n"),
        (("--volume", "/etc:/there:ro"), "touch /there/a 2>&1", "touch: /there/a: Read-only file system\n"),
        (("--network", "none"), "ls /sys/class/net", "lo\n"),
        (("--network", "host"), "ls /sys/class/net | grep lo", "lo\n"),
        (("--device", "/dev/full:/dev/mine"), "stat -c '%F %t:%T' /dev/mine", "character special file 1:7\n"),
        (("--uidmap", "0:10000:5000"), "cat /proc/self/uid_map | xargs", "0 10000 5000\n"),
        (("--cap-drop", "ALL"), "grep CapEff /proc/self/status", "CapEff:\t0000000000000000\n"),
        (("--privileged",), "touch /proc/sys/kernel/hostname && cat /dev/null && echo y", "y\n"),
    ],
)  # fmt: skip
def test_podman_run_is_obeyed(podman: PodmanScene, flags: tuple[str, ...], script: str, said: str) -> None:
    assert podman.run("sh", "-c", script, flags=flags).stdout == said


def test_podman_run_with_a_terminal(podman: PodmanScene, terminal: tuple[int, int]) -> None:
    converses(podman, *terminal)


def test_podman_exec(podman: PodmanScene) -> None:
    name = podman.start()
    done = podman.engine.podman("exec", name, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.stdout, done.stderr, done.code) == ("out\n", "err\n", 3)
    flags = ("--user", "someone", "--workdir", "/var", "--env", "A=b")
    assert podman.podman("exec", *flags, name, "sh", "-c", "id -u; pwd; echo $A") == "1000\n/var\nb\n"
    assert podman.engine.podman("exec", name, "/no/such").code == 127


def test_podman_stop_asks_and_podman_logs_tells(podman: PodmanScene) -> None:
    name = podman.start()
    podman.says(name, "up")
    podman.podman("stop", "--time", "30", name)
    assert podman.inspect(name, ".State.ExitCode") == "3"
    assert podman.podman("logs", name) == "up\nbye\n"
    podman.podman("start", name)
    eventually(lambda: podman.podman("logs", name) == "up\nbye\nup\n", "it is up again")
    podman.podman("kill", name)
    assert podman.podman("wait", name).strip() == str(signalled("KILL"))
    podman.podman("rm", name)


def test_podman_pause_and_unpause(podman: PodmanScene) -> None:
    name = podman.start()
    podman.podman("pause", name)
    assert podman.inspect(name, ".State.Status") == "paused"
    podman.podman("unpause", name)
    assert podman.podman("exec", name, "echo", "on") == "on\n"


def test_podman_top_and_stats(podman: PodmanScene) -> None:
    name = podman.start("sleep", "1000")
    assert podman.podman("top", name, "args").split()[1:] == ["sleep", "1000"]
    assert podman.podman("stats", "--no-stream", "--format", "{{.Name}}", name).strip() == name


@pytest.mark.parametrize(("program", "code"), [("/no/such", 127), ("no-such", 127), ("/etc/passwd", 126)])
def test_a_program_podman_cannot_run_has_the_exit_status_of_shells(
    podman: PodmanScene, program: str, code: int
) -> None:
    done = podman.run(program)
    assert done.code == code
    assert program in done.stderr


def test_podman_publishes_to_its_bridge(podman: PodmanScene) -> None:
    """netavark gives the container an address; the firewall is left out, so ports are not forwarded."""
    name = podman.start("httpd", "-f", "-p", "80", "-h", "/etc")
    address = podman.inspect(name, ".NetworkSettings.Networks.podman.IPAddress")
    assert fetch(podman.engine, f"http://{address}/passwd").startswith("root:x:0:0:")
