"""What Docker users type, with our shim, with our command line below the oracle's, and with the oracle."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, cast

import pytest

from conformance.private_view import TIMEOUT, eventually
from tests.engines.command_scenes import converses
from tests.engines.scenes import fetch, signalled
from tests.host.terminals import read_until

if TYPE_CHECKING:
    from tests.engines.docker_scenes import DockerScene


def test_docker_run_gives_output_errors_and_exit_status(docker: DockerScene) -> None:
    done = docker.run("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.code) == ("out\n", "err\n", 7)


def test_docker_run_reads_standard_input_to_its_end(docker: DockerScene) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(b"typed\n")
    with os.fdopen(reading, "rb") as pipe:
        assert docker.run("cat", flags=("--interactive",), stdin=pipe).ok().stdout == "typed\n"


@pytest.mark.parametrize(
    ("flags", "script", "said"),
    [
        ((), "id; pwd", "uid=0(root) gid=0(root) groups=0(root)\n/\n"),
        (("--hostname", "named", "--domainname", "of"), "cat /proc/sys/kernel/*name", "of\nnamed\n"),
        (("--user", "someone", "--group-add", "1234"), "id -u; id -G", "1000\n1000 1234\n"),
        (("--workdir", "/made", "--env", "A=b"), "pwd; echo $A", "/made\nb\n"),
        (("--read-only", "--tmpfs", "/x"), "touch /a || touch /x/a && ls /x", "a\n"),
        (("--volume", "/etc:/there:ro"), "touch /there/a 2>&1", "touch: /there/a: Read-only file system\n"),
        (("--volume", "/kept"), "touch /kept/a && ls /kept", "a\n"),
        (("--network", "none"), "ls /sys/class/net", "lo\n"),
        (("--network", "host"), "ls /sys/class/net | grep docker0", "docker0\n"),
        (("--pid", "host"), "ps | grep -q '[d]ockerd' && echo y", "y\n"),
        (("--uts", "host"), "hostname", f"{os.uname().nodename}\n"),
        (("--ipc", "host", "--cgroupns", "host"), "grep -c : /proc/self/cgroup >/dev/null && echo y", "y\n"),
        (("--sysctl", "net.ipv4.ip_default_ttl=7"), "cat /proc/sys/net/ipv4/ip_default_ttl", "7\n"),
        (("--ulimit", "nofile=100:200"), "ulimit -n; ulimit -Hn", "100\n200\n"),
        (("--device", "/dev/full:/dev/mine"), "stat -c '%F %t:%T' /dev/mine", "character special file 1:7\n"),
        (("--shm-size", "1m"), "df -k /dev/shm | tail -n 1 | awk '{print $2}'", "1024\n"),
        (("--cap-drop", "ALL"), "grep CapEff /proc/self/status", "CapEff:\t0000000000000000\n"),
        (("--cap-add", "SYS_PTRACE"), "grep CapEff /proc/self/status", "CapEff:\t00000000a80c25fb\n"),
        (("--security-opt", "no-new-privileges"), "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n"),
        (("--oom-score-adj", "500"), "cat /proc/self/oom_score_adj", "500\n"),
        (("--privileged",), "touch /proc/sys/kernel/hostname && cat /dev/null && echo y", "y\n"),
        (("--add-host", "other:10.9.8.7"), "grep other /etc/hosts", "10.9.8.7\tother\n"),
    ],
)  # fmt: skip
def test_docker_run_is_obeyed(docker: DockerScene, flags: tuple[str, ...], script: str, said: str) -> None:
    assert docker.run("sh", "-c", script, flags=flags).stdout == said


def test_docker_run_with_a_terminal(docker: DockerScene, terminal: tuple[int, int]) -> None:
    converses(docker, *terminal)


def test_a_published_port_is_reached_from_outside(docker: DockerScene) -> None:
    program = ("httpd", "-f", "-p", "80", "-h", "/etc")
    docker.start(*program, flags=("--publish", "8080:80"))
    for address in ("127.0.0.1", "172.17.0.1"):
        assert fetch(docker.engine, f"http://{address}:8080/passwd").startswith("root:x:0:0:")


def test_a_container_reaches_the_outside(docker: DockerScene) -> None:
    """The view's end of the bridge, by the route that libnetwork has set."""
    assert "1 packets received" in docker.run("ping", "-c", "1", "-W", "30", "172.17.0.1").ok().stdout


def test_docker_exec(docker: DockerScene) -> None:
    name = docker.start()
    done = docker.engine.docker("exec", name, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.stdout, done.stderr, done.code) == ("out\n", "err\n", 3)
    flags = ("--user", "someone", "--workdir", "/var", "--env", "A=b")
    assert docker.docker("exec", *flags, name, "sh", "-c", "id -u; pwd; echo $A") == "1000\n/var\nb\n"
    assert docker.docker(
        "exec", "--privileged", name, "grep", "CapEff", "/proc/self/status"
    ) != docker.docker("exec", name, "grep", "CapEff", "/proc/self/status")
    missing = docker.engine.docker("exec", name, "/no/such")
    assert missing.code == 127
    assert "no such file or directory" in missing.stdout + missing.stderr


def test_docker_exec_with_a_terminal(docker: DockerScene, terminal: tuple[int, int]) -> None:
    master, slave = terminal
    name = docker.start()
    program = 'until [ "$(stty size)" = "33 77" ]; do sleep 0.02; done; tty; exit 6'
    process, _ = docker.engine.popen("docker", "exec", "-it", name, "sh", "-c", program, terminal=slave)
    assert read_until(master, "/dev/pts/0\r\n") == "/dev/pts/0\n"
    assert process.wait(TIMEOUT) == 6


def test_docker_stop_asks_and_docker_logs_tells(docker: DockerScene) -> None:
    name = docker.start()
    docker.says(name, "up")
    docker.docker("stop", "--time", "30", name)
    assert docker.inspect(name, ".State.ExitCode") == "3"
    assert docker.docker("logs", name) == "up\nbye\n"
    docker.docker("rm", name)


def test_docker_stop_kills_who_does_not_listen(docker: DockerScene) -> None:
    name = docker.start("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.02; done")
    docker.says(name, "up")
    docker.docker("stop", "--time", "1", name)
    assert docker.inspect(name, ".State.ExitCode") == str(signalled("KILL"))


def test_docker_kill_restart_and_rm(docker: DockerScene) -> None:
    name = docker.start()
    docker.says(name, "up")
    docker.docker("restart", "--time", "30", name)
    eventually(lambda: docker.docker("logs", name) == "up\nbye\nup\n", "it is up again")
    docker.docker("kill", "--signal", "USR1", name)
    assert docker.inspect(name, ".State.Running") == "true", "nobody minds USR1"
    docker.docker("kill", name)
    eventually(lambda: docker.inspect(name, ".State.Status") == "exited", "it is dead")
    docker.docker("start", name)
    docker.docker("rm", "--force", name)
    assert docker.engine.docker("inspect", name).code == 1


def test_docker_pause_and_unpause(docker: DockerScene) -> None:
    name = docker.start()
    docker.says(name, "up")
    docker.docker("pause", name)
    assert docker.inspect(name, ".State.Status") == "paused"
    assert docker.engine.docker("exec", name, "true").code != 0
    docker.docker("unpause", name)
    assert docker.docker("exec", name, "echo", "on") == "on\n"


def test_docker_top_stats_and_update(docker: DockerScene) -> None:
    name = docker.start("sleep", "1000")
    top = docker.docker("top", name).splitlines()
    assert [line.split(maxsplit=7)[7] for line in top[1:]] == ["sleep 1000"]
    line = docker.docker("stats", "--no-stream", "--format", "{{json .}}", name)
    assert cast("dict[str, str]", json.loads(line))["Name"] == name
    docker.docker("update", "--restart", "on-failure", "--pids-limit", "100", name)


@pytest.mark.parametrize(("program", "code"), [("/no/such", 127), ("no-such", 127), ("/etc/passwd", 126)])
def test_a_program_docker_cannot_run_has_the_exit_status_of_shells(
    docker: DockerScene, program: str, code: int
) -> None:
    done = docker.run(program)
    assert done.code == code
    assert program in done.stderr
    assert ("permission denied" if code == 126 else "no") in done.stderr


def test_docker_cp_into_a_created_and_out_of_a_running_container(docker: DockerScene) -> None:
    name = docker.new_name()
    program = ("sh", "-c", "cp /in /part; mv /part /out; sleep 1000")
    flags = docker.arguments()[1:-2]
    docker.docker("create", *flags, "--name", name, "scene", *program)
    source = docker.engine.scratch / "in"
    source.write_text("copied\n")
    docker.docker("cp", str(source), f"{name}:/in")
    docker.docker("start", name)
    out = docker.engine.scratch / "out"
    eventually(lambda: docker.engine.docker("cp", f"{name}:/out", str(out)).code == 0, "it is there")
    assert out.read_text() == "copied\n"


def test_the_network_of_another_container(docker: DockerScene) -> None:
    one = docker.start("sleep", "1000", flags=("--ipc", "shareable"))
    flags = tuple(f"--{kind}=container:{one}" for kind in ("network", "pid", "ipc"))
    script = "hostname -i; ps | grep -c '[s]leep 1000'"
    theirs = docker.docker("exec", one, "hostname", "-i")
    # The socket of the first is where the second's is: one address, and its program is seen.
    assert docker.run("sh", "-c", script, flags=flags).stdout == f"{theirs}1\n"


def test_eight_docker_containers_at_once(docker: DockerScene) -> None:
    started = [docker.popen("sh", "-c", f"echo {number}; exit {number}") for number in range(8)]
    assert [process.wait(2 * TIMEOUT) for process, _ in started] == [*range(8)]
    assert [result.stdout for _, result in started] == [f"{number}\n" for number in range(8)]
