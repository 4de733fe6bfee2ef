"""Plain containers of Podman, containerd and Docker in a guest: the configs that they write, unchanged."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conformance import peers
from conformance.image import IMAGE, unpack_root, write_image
from tests.host import observe

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

SECONDS = 180
#: What a container tells of its cgroup, which is the root of the hierarchy that it sees.
FILES = ("pids.max", "memory.max", "cpu.max", "cpu.weight")
TELL = ("cat", *(f"/sys/fs/cgroup/{name}" for name in FILES))
MEMORY, PIDS = 64 << 20, 50
#: What a container has that asks for no limits; systemd limits the number of processes of every unit.
UNLIMITED = {"memory.max": "max", "cpu.max": "max 100000", "cpu.weight": "100"}

#: Who makes the cgroups: systemd where it is process 1, as engines decide too.
BY_SYSTEMD = Path("/run/systemd/system").is_dir()
MANAGER = "systemd" if BY_SYSTEMD else "cgroupfs"
if not BY_SYSTEMD:
    UNLIMITED["pids.max"] = "max"

_numbers = itertools.count(1)


def _program(name: str) -> Path:
    found = Path(sys.executable).with_name("ocirun") if name == "ocirun" else peers.peer(name)
    assert found is not None
    return found


@pytest.fixture(params=["ocirun", "runc", "crun"])
def program(request: pytest.FixtureRequest) -> str:
    """Each runtime in turn."""
    return str(_program(request.param))


def _run(*words: str) -> str:
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert done.returncode == 0, f"{' '.join(words)}: {done.returncode}: {done.stderr}"
    return done.stdout


def _told(text: str) -> dict[str, str]:
    lines = text.splitlines()
    assert len(lines) == len(FILES), text
    return dict(zip(FILES, lines, strict=True))


@contextlib.contextmanager
def _daemon(log: Path, ready: tuple[str, ...], *words: str) -> Generator[None]:
    """Runs a daemon until ``ready`` succeeds and ends it afterwards."""
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        until = time.monotonic() + SECONDS
        while subprocess.run(ready, capture_output=True, check=False, timeout=SECONDS).returncode:
            assert process.poll() is None, f"{words[0]} ends: {log.read_text()[-2000:]}"
            assert time.monotonic() < until, f"{words[0]} is not ready: {log.read_text()[-2000:]}"
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(SECONDS)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image as an archive."""
    path = tmp_path_factory.mktemp("image") / "image.tar"
    write_image(path)
    return path


# -- Podman ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def podman(archive: Path) -> tuple[str, ...]:
    """The command line of Podman, which has the image."""
    words = ("podman", f"--cgroup-manager={MANAGER}")
    _run(*words, "load", "--input", str(archive))
    return words


def test_a_plain_container_of_podman(podman: tuple[str, ...], program: str) -> None:
    told = _told(_run(*podman, "--runtime", program, "run", "--rm", "--network=none", IMAGE, *TELL))
    assert told == {"pids.max": "2048", "memory.max": "max", "cpu.max": "max 100000", "cpu.weight": "100"}


def test_a_limited_container_of_podman(podman: tuple[str, ...], program: str) -> None:
    flags = ("--memory", str(MEMORY), "--pids-limit", str(PIDS), "--cpus=0.5", "--cpu-shares=512")
    told = _told(_run(*podman, "--runtime", program, "run", "--rm", "--network=none", *flags, IMAGE, *TELL))
    assert told == _LIMITED


_LIMITED = {
    "pids.max": str(PIDS),
    "memory.max": str(MEMORY),
    "cpu.max": "50000 100000",
    "cpu.weight": "59",
}


@pytest.mark.parametrize("name", ["ocirun", "crun"])
def test_a_container_of_podman_without_a_cgroup(podman: tuple[str, ...], name: str, tmp_path: Path) -> None:
    """--cgroups=disabled, which Podman asks of those runtimes alone that its configuration names for it."""
    config = tmp_path / "containers.conf"
    config.write_text(
        f'[engine]\nruntime = "{name}"\nruntime_supports_nocgroup = ["{name}"]\n'
        f'[engine.runtimes]\n{name} = ["{_program(name)}"]\n'
    )
    words = ("env", f"CONTAINERS_CONF_OVERRIDE={config}", *podman, "run", "--rm", "--network=none")
    told = _run(*words, "--cgroups=disabled", IMAGE, "cat", "/proc/self/cgroup").strip()
    assert told == "0::/"
    ident = _run(*words, "--detach", "--cgroups=disabled", IMAGE, "sleep", "1000").strip()
    place = _run(*words[:2], *podman, "inspect", "--format", "{{.State.Pid}} {{.State.ConmonPid}}", ident)
    init, monitor = (observe.cgroup(int(pid)) for pid in place.split())
    assert init == monitor
    _run(*words[:2], *podman, "exec", ident, "true")
    _run(*words[:2], *podman, "rm", "--force", "--time=0", ident)


# -- containerd ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def containerd(tmp_path_factory: pytest.TempPathFactory, archive: Path) -> Iterator[None]:
    """containerd runs and has the image."""
    config = tmp_path_factory.mktemp("containerd") / "config.toml"
    config.write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    with _daemon(config.with_name("log"), ("ctr", "version"), "containerd", "--config", str(config)):
        _run("ctr", "images", "import", str(archive))
        yield


@contextlib.contextmanager
def _detached(*flags: str) -> Generator[str]:
    """A container that sleeps; nothing of it may stay."""
    name = f"plain{next(_numbers)}"
    if BY_SYSTEMD and not flags[0].startswith("--runtime="):  # ctr has this flag for its own shim alone
        flags = (*flags, "--runc-systemd-cgroup", f"--cgroup=system.slice:plain:{name}")
    _run("ctr", "run", "--detach", *flags, IMAGE, name, "sleep", "1000")
    where = _cgroup(name)
    yield name
    _run("ctr", "task", "rm", "--force", name)
    _run("ctr", "containers", "rm", name)
    observe.eventually(lambda: not where.exists(), "its cgroup is gone")


def _cgroup(name: str) -> Path:
    rows = [line.split() for line in _run("ctr", "task", "ls").splitlines()]
    (pid,) = [int(row[1]) for row in rows if row[0] == name]
    return Path(f"/sys/fs/cgroup{observe.cgroup(pid)}")


def _ctr_run(*flags: str) -> dict[str, str]:
    """The files of the cgroup from outside: ctr gives its containers no view of it."""
    with _detached(*flags) as name:
        return _told("".join((_cgroup(name) / file).read_text() for file in FILES))


@pytest.mark.usefixtures("containerd")
def test_a_plain_container_of_containerd(program: str) -> None:
    assert _ctr_run("--runc-binary", program).items() >= UNLIMITED.items()


@pytest.mark.usefixtures("containerd")
def test_a_limited_container_of_containerd(program: str) -> None:
    flags = ("--memory-limit", str(MEMORY), "--cpu-quota=50000", "--cpu-period=100000", "--cpu-shares=512")
    told = _ctr_run("--runc-binary", program, *flags)
    assert told.items() >= {**_LIMITED, "pids.max": UNLIMITED.get("pids.max", told["pids.max"])}.items()


@pytest.mark.usefixtures("containerd")
def test_a_limited_container_of_our_shim() -> None:
    flags = ("--memory-limit", str(MEMORY), "--cpu-quota=50000", "--cpu-period=100000", "--cpu-shares=512")
    assert _ctr_run("--runtime=io.containerd.ocirun.v2", *flags) == {**_LIMITED, "pids.max": "max"}


SHIMS = ("io.containerd.ocirun.v2", "io.containerd.runc.v2")


@pytest.mark.usefixtures("containerd")
@pytest.mark.parametrize("shim", SHIMS)
def test_a_container_without_limits_is_measured(shim: str) -> None:
    with _detached(f"--runtime={shim}") as name:
        # runc has several threads until it executes the program, which may be later than it says so.
        observe.eventually(lambda: _metrics(name)["pids.current"] == 1, "its program is counted alone")
        numbers = _metrics(name)
    assert numbers["memory.usage"] > 0
    assert "cpu.usage_usec" in numbers


def _metrics(name: str) -> dict[str, int]:
    told = _run("ctr", "task", "metrics", name)
    return {row[0]: int(row[1]) for row in map(str.split, told.splitlines()) if row[1:] and row[1].isdigit()}


@pytest.mark.usefixtures("containerd")
@pytest.mark.parametrize("shim", SHIMS)
def test_who_is_killed_for_want_of_memory_is_an_event(shim: str, tmp_path: Path) -> None:
    script = "dd if=/dev/zero of=/dev/null bs=64M count=1 || echo killed; read end"
    name = f"plain{next(_numbers)}"
    flags = (f"--runtime={shim}", "--memory-limit", str(16 << 20))
    with _events(tmp_path / "events") as told:
        words = ("ctr", "run", "--rm", *flags, IMAGE, name, "sh", "-c", script)
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
            observe.eventually(lambda: told("/tasks/oom") != [], "the kill is told", SECONDS)
            said, _ = run.communicate("\n", SECONDS)
        assert (said, run.returncode) == ("killed\n", 0)
        assert name in told("/tasks/oom")[0]
        observe.eventually(lambda: told("/tasks/delete") != [], "the end is told", SECONDS)


@contextlib.contextmanager
def _events(file: Path) -> Generator[Callable[[str], list[str]]]:
    """Gives what tells the events of a topic that containerd has told since; it is subscribed to them."""

    def told(topic: str) -> list[str]:
        whole, _, _ = file.read_text().rpartition("\n")
        return [line for line in whole.splitlines() if topic in line]

    def heard() -> bool:
        _run("ctr", "namespaces", "label", "default", f"poked={next(_numbers)}")
        return file.read_text() != ""

    with file.open("wb") as output, subprocess.Popen(("ctr", "events"), stdout=output) as events:
        try:
            observe.eventually(heard, "ctr events has subscribed", SECONDS)
            yield told
        finally:
            events.terminate()


# -- Docker ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory, containerd: None) -> Iterator[None]:
    """dockerd runs, knows all runtimes and has the image."""
    scratch = tmp_path_factory.mktemp("docker")
    unpack_root(scratch / "root")
    root = shutil.make_archive(str(scratch / "root"), "tar", scratch / "root")
    words = ["dockerd", "--containerd=/run/containerd/containerd.sock", "--iptables=false", "--bridge=none"]
    words.append(f"--exec-opt=native.cgroupdriver={MANAGER}")
    words += [f"--add-runtime=our-{name}={_program(name)}" for name in ("ocirun", "runc", "crun")]
    with _daemon(scratch / "log", ("docker", "version"), *words):
        _run("docker", "import", root, "scene")
        yield


def _docker_run(program: str, *flags: str) -> dict[str, str]:
    runtime = f"--runtime=our-{Path(program).name}"
    return _told(_run("docker", "run", "--rm", "--network=none", runtime, *flags, "scene", *TELL))


@pytest.mark.usefixtures("docker")
def test_a_plain_container_of_docker(program: str) -> None:
    assert _docker_run(program).items() >= UNLIMITED.items()


@pytest.mark.usefixtures("docker")
def test_a_limited_container_of_docker(program: str) -> None:
    flags = ("--memory", str(MEMORY), "--pids-limit", str(PIDS), "--cpus=0.5", "--cpu-shares=512")
    assert _docker_run(program, *flags) == _LIMITED
