"""Plugins that decide for a filter, as crun has them, in an agent of ours."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import observe
from tests.host.filters import calling, denying, filters_of, native, with_caller
from tests.host.rests import read, rested, streams, zombies_of
from tests.host.runtimes import new_id
from tests.host.test_raw_filters import CALL, tried
from tests.host.test_seccomp import filtered

if TYPE_CHECKING:
    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime
    from tests.host.serving import Serving

PLUGINS = "run.oci.seccomp.plugins"
BOTH = pytest.mark.parametrize("runtime", ["ocirun", "crun"], indirect=True)


class Made:
    """A plugin that was compiled, and the file that it tells what it is told."""

    def __init__(self, directory: Path, name: str, *linked: str, **defined: int | str) -> None:
        self.path = directory / f"{name}.so"
        self.told = directory / f"{name}.told"
        words = {"CALL": native(CALL), "ANSWER": -errno.EXDEV, **defined}
        flags = [f'-DTOLD="{self.told}"', *(f"-D{key}={value}" for key, value in words.items())]
        source = Path(__file__).with_name("plugin.c")
        subprocess.run(["gcc", "-shared", "-fPIC", *flags, "-o", self.path, source, *linked], check=True)

    def lines(self) -> list[str]:
        """What it was told."""
        return self.told.read_text().splitlines() if self.told.exists() else []


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory that only we can write."""
    (tmp_path / "plugins").mkdir(mode=0o755)
    return tmp_path / "plugins"


def asking(bundle: Bundle, *plugins: Path | str) -> Bundle:
    """The bundle with a filter that asks the plugins about two calls."""
    filtered(bundle, denying(CALL, "mlockall", action="SCMP_ACT_NOTIFY"))
    return bundle.put({PLUGINS: ":".join(map(str, plugins))}, "annotations")


@BOTH
@pytest.mark.parametrize(
    ("defined", "told"),
    [
        ({}, -errno.EXDEV),
        ({"ANSWER": 0, "HANDLED": 3}, 0),
        ({"HANDLED": 2}, -errno.EXDEV),
        ({"HANDLED": 0}, -errno.ENOTSUP),
    ],
    ids=["answered", "goes-on", "later", "not-handled"],
)
def test_a_plugin_decides(
    runtime: Runtime, bundle: Bundle, directory: Path, defined: dict[str, int], told: int
) -> None:
    made = Made(directory, "one", **defined)
    result = runtime.run(asking(calling(bundle, native(CALL)), made.path)).ok()
    assert result.stdout.splitlines()[-1] == str(told)  # in crun it prints itself, too


@BOTH
def test_plugins_are_asked_in_their_order(runtime: Runtime, bundle: Bundle, directory: Path) -> None:
    first = Made(directory, "first", CALL=native("mlockall"))
    second = Made(directory, "second", ANSWER=-errno.EBADF)
    result = runtime.run(asking(calling(bundle, native(CALL)), first.path, second.path)).ok()
    assert result.stdout.splitlines()[-1] == f"-{errno.EBADF}"


@BOTH
def test_a_plugin_is_told_of_the_container(runtime: Runtime, bundle: Bundle, directory: Path) -> None:
    made, ident = Made(directory, "one"), new_id()
    runtime.run(asking(calling(bundle, native(CALL)), made.path), ident=ident).ok()
    state = runtime.root / ident
    assert made.lines()[0] == f"start {state} {ident} {bundle.path} {state}/config.json"


@pytest.mark.parametrize("defined", [{"HANDLED": 9}, {"FAILURE": -errno.EINVAL}], ids=["unknown", "failed"])
def test_a_plugin_that_does_not_know_what_to_say_has_the_call_fail(
    ocirun: Runtime, bundle: Bundle, directory: Path, defined: dict[str, int]
) -> None:
    made = Made(directory, "one", **defined)
    assert ocirun.run(asking(calling(bundle, native(CALL)), made.path)).ok().stdout == f"-{errno.EINVAL}\n"


@pytest.mark.parametrize(
    ("defined", "told"),
    [
        ({"HANDLED": 3}, 0),
        ({"HANDLED": 1, "SENDS": 1}, -errno.EXDEV),
        ({"HANDLED": 1, "FLAGS": 0x80}, -errno.EINVAL),
    ],
    ids=["goes-on-with-an-error", "answered-twice", "unknown-flags"],
)
def test_no_answer_that_the_kernel_refuses_ends_the_agent(
    ocirun: Runtime, bundle: Bundle, directory: Path, defined: dict[str, int], told: int
) -> None:
    made = Made(directory, "one", **defined)
    assert ocirun.run(asking(calling(bundle, native(CALL)), made.path)).ok().stdout == f"{told}\n"
    observe.eventually(lambda: made.lines()[-1] == "stop known", "the agent comes to its end")


@BOTH
def test_a_plugin_finds_the_libraries_beside_it(runtime: Runtime, bundle: Bundle, directory: Path) -> None:
    library = directory / "libbeside.so"
    flags = ("-shared", "-Wl,-soname,libbeside.so")
    subprocess.run(["gcc", *flags, "-o", library, "-xc", "/dev/null"], check=True)
    made = Made(directory, "one", "-Wl,--no-as-needed", str(library), "-Wl,-rpath,$ORIGIN")
    result = runtime.run(asking(calling(bundle, native(CALL)), made.path)).ok()
    assert result.stdout.splitlines()[-1] == f"-{errno.EXDEV}"


def agents(made: Made) -> list[int]:
    """The processes that have the plugin mapped."""
    found: list[int] = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            maps = Path(f"/proc/{pid}/maps").read_text()
        except OSError:
            continue
        found += [pid] if str(made.path) in maps else []
    return found


def test_it_decides_for_a_container_that_was_detached_and_for_what_is_executed(
    ocirun: Runtime, bundle: Bundle, directory: Path
) -> None:
    made = Made(directory, "one")
    container = ocirun.running(asking(with_caller(bundle.sleeping()), made.path))
    assert filters_of(container) == ("2", "1")
    (agent,) = agents(made)
    assert tried(container, CALL) == f"-{errno.EXDEV}\n"
    observe.eventually(lambda: made.lines().count("stop known") == 1, "the agent of the exec ends")
    observe.eventually(lambda: agents(made) == [agent], "that of init is left")
    container.delete("--force").ok()
    observe.eventually(lambda: made.lines().count("stop known") == 2, "the agent of init ends")
    observe.eventually(lambda: not agents(made), "no agent is left")


def test_the_agent_has_nothing_of_the_callers_open(ocirun: Runtime, bundle: Bundle, directory: Path) -> None:
    made = Made(directory, "one")
    asking(with_caller(bundle.sleeping()), made.path)
    ident = new_id()
    container = ocirun.create(bundle, ident=ident)
    (agent,) = agents(made)
    wanted = sorted(["/dev/null"] * 3 + ["anon_inode:seccomp notify"])
    # it closes the pipe when it has said by it that it is ready
    observe.eventually(lambda: sorted(observe.descriptors(agent).values()) == wanted, "it has these open")
    assert os.getsid(agent) == os.getpgid(agent)
    assert os.getsid(agent) not in {os.getsid(0), os.getsid(container.pid)}
    assert observe.status(agent)["Name"] == "ocirun-plugins"
    assert os.readlink(f"/proc/{agent}/cwd") == "/"
    container.delete("--force").ok()
    observe.eventually(lambda: not agents(made), "the agent ends")


def test_one_who_reads_what_an_exec_prints_comes_to_its_end(
    ocirun: Runtime, bundle: Bundle, directory: Path
) -> None:
    made = Made(directory, "one")
    container = ocirun.running(asking(with_caller(bundle.sleeping()), made.path))
    pid_file = ocirun.file("exec-pid")
    flags = ("--detach", "--pid-file", str(pid_file))
    command = ocirun.command("exec", *flags, container.id, "sh", "-c", "exec sleep 1000 >&- 2>&-")
    done = subprocess.run(command, check=True, capture_output=True, env=ocirun.environment, timeout=60)
    assert (done.stdout, done.stderr) == (b"", b"")
    container.executed.append(int(pid_file.read_text()))
    assert len(agents(made)) == 2
    container.delete("--force").ok()
    observe.eventually(lambda: not agents(made), "the agents end")


@pytest.mark.parametrize(
    ("defined", "told"),
    [
        ({"START": -errno.EPERM}, "did not start: Operation not permitted"),
        ({"VERSION": 2}, "is of version 2"),
    ],
)
def test_a_plugin_that_does_not_start_fails_create(
    ocirun: Runtime, bundle: Bundle, directory: Path, defined: dict[str, int], told: str
) -> None:
    made = Made(directory, "one", **defined)
    ocirun.attempt(asking(bundle, made.path)).refused(f"/annotations/{PLUGINS}", told)
    observe.eventually(lambda: not agents(made), "no agent is left")


def test_a_plugin_that_kills_its_agent_as_it_starts_fails_create(
    ocirun: Runtime, bundle: Bundle, directory: Path
) -> None:
    made = Made(directory, "one", START="*(volatile int *)0")
    ocirun.attempt(asking(bundle, made.path)).refused("their agent has ended")


def test_a_plugin_may_fork_a_helper_as_it_starts(ocirun: Runtime, bundle: Bundle, directory: Path) -> None:
    helper = "prctl(PR_SET_PDEATHSIG, 9), getppid() == agent && pause(), _exit(0)"
    made = Made(directory, "one", START=f"({{ int agent = getpid(); fork() ? 0 : ({helper}, 0); }})")
    container = ocirun.create(asking(with_caller(bundle.sleeping()), made.path))
    assert len(agents(made)) == 2
    container.delete("--force").ok()
    observe.eventually(lambda: not agents(made), "the agent ends, and its helper with it")


def test_what_a_plugin_forked_ends_where_another_does_not_start(
    ocirun: Runtime, bundle: Bundle, directory: Path
) -> None:
    first = Made(directory, "first", START="(fork() ? 0 : (alarm(60), pause(), 0))")
    second = Made(directory, "second", START=-errno.EPERM)
    ocirun.attempt(asking(bundle, first.path, second.path)).refused("did not start: Operation not permitted")
    observe.eventually(lambda: not agents(first), "no process is left")


@pytest.mark.slow
def test_a_plugin_that_does_not_come_to_an_end_of_its_start_fails_create(
    ocirun: Runtime, bundle: Bundle, directory: Path
) -> None:
    made = Made(directory, "one", START="(sleep(1000), 0)")
    ocirun.attempt(asking(bundle, made.path)).refused("their agent has ended")
    observe.eventually(lambda: not agents(made), "no agent is left")


def test_what_is_no_plugin_fails_create(ocirun: Runtime, bundle: Bundle, directory: Path) -> None:
    subprocess.run(["gcc", "-shared", "-o", directory / "empty.so", "-xc", "/dev/null"], check=True)
    (directory / "text.so").write_text("no library")
    for name, told in (
        ("empty.so", "has no run_oci_seccomp_notify_handle_request"),
        ("text.so", "cannot be loaded"),
        ("none.so", "cannot be loaded: No such file or directory"),
        (".", "is not a regular file"),
    ):
        ocirun.attempt(asking(bundle, directory / name)).refused(told)
    ocirun.attempt(asking(bundle, "plugin.so")).refused("must be absolute paths")


def test_a_plugin_that_others_could_change_is_not_loaded(
    ocirun: Runtime, bundle: Bundle, directory: Path
) -> None:
    made = Made(directory, "one")
    above = directory.parent
    for path, mode in ((made.path, 0o666), (directory, 0o1777), (made.path, 0o775), (above, 0o777)):
        before = path.stat().st_mode
        path.chmod(mode)
        ocirun.attempt(asking(bundle, made.path)).refused(f"{path} can be written by others")
        path.chmod(before)
    os.chown(made.path, 1000, 1000)
    ocirun.attempt(asking(bundle, made.path)).refused(f"{made.path} can be written by others")
    assert made.lines() == []


def test_without_its_agent_a_call_does_not_exist(ocirun: Runtime, bundle: Bundle, directory: Path) -> None:
    made = Made(directory, "one")
    bundle = asking(calling(bundle, native(CALL)), made.path)
    container = ocirun.create(bundle)
    (agent,) = agents(made)
    os.kill(agent, 9)
    observe.eventually(lambda: not agents(made), "the agent is dead")
    ocirun.call("start", container.id).ok()
    container.wait()
    assert container.output == f"-{errno.ENOSYS}\n"


def test_the_shim_loads_nothing_and_may_rest(served: Serving, fds: dict[str, int], directory: Path) -> None:
    made = Made(directory, "one")
    task = served.task()
    asking(calling(task.bundle, native(CALL)), made.path).write()
    paths = streams(served, fds, "stdin", "stdout")
    task.shim().create(**paths)
    (agent,) = agents(made)
    keeper = rested(task)
    assert observe.alive(agent)
    task.start()
    read(fds["stdout"], f"-{errno.EXDEV}\n".encode())
    task.wait()
    observe.eventually(lambda: not agents(made), "the agent ends")
    observe.eventually(lambda: zombies_of(keeper) == [task.state().pid], "the agent is reaped")
    task.delete()
