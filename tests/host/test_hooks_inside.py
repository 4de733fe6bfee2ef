"""The hooks of the container's namespaces, which init runs: createContainer and startContainer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.host import observe
from tests.host.test_hooks import NONE_MORE, OF_THE_SHELL, add_hook

if TYPE_CHECKING:
    from pathlib import Path

    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Result, Runtime

KINDS = ("createContainer", "startContainer")
NAMESPACES = ("mnt", "pid", "net", "uts", "ipc")
#: Tells the namespaces and the state it was given; ``$0`` is where to.
TELL = "for kind in mnt pid net uts ipc; do readlink /proc/self/ns/$kind; done > $0.ns; cat > $0.state"


def read_state(path: Path) -> dict[str, Json]:
    """What a hook got as its standard input."""
    state: dict[str, Json] = json.loads(path.read_text())
    return state


def runs(runtime: Runtime, bundle: Bundle, kind: str) -> Result:
    """What the command says in which hooks of that kind run."""
    return runtime.attempt(bundle) if kind == "createContainer" else runtime.run(bundle)


def namespaces(pid: int) -> list[str]:
    """Those of a process, as TELL writes them."""
    return [observe.namespace(pid, kind) for kind in NAMESPACES]


def test_create_container_hooks_run_in_the_namespaces_of_the_container_before_the_root_is_switched(
    runtime: Runtime, bundle: Bundle, scratch: Path
) -> None:
    log = scratch / "log"
    add_hook(bundle.sleeping(), "createRuntime", f"echo createRuntime >> {log}.order")
    add_hook(bundle, "createContainer", f"echo one >> {log}.order; " + TELL, str(log))
    add_hook(bundle, "createContainer", f"echo two >> {log}.order")
    bundle.put({"a": "b"}, "annotations")
    container = runtime.create(bundle)
    assert (scratch / "log.order").read_text().split() == ["createRuntime", "one", "two"]
    assert (scratch / "log.ns").read_text().split() == namespaces(container.pid)
    state = read_state(scratch / "log.state")
    assert (state["id"], state["status"], state["bundle"]) == (container.id, "created", str(bundle.path))
    assert state["annotations"] == {"a": "b"}


def test_start_container_hooks_run_as_the_program_will_and_before_it(
    runtime: Runtime, bundle: Bundle
) -> None:
    out = bundle.path / "rootfs/out"
    out.mkdir(mode=0o777)
    out.chmod(0o777)
    add_hook(bundle.writable(), "startContainer", "pwd > $0.cwd; id -u > $0.uid; " + TELL, "/out/log")
    bundle.user(1000, 1000).cwd("/bin")
    bundle.sh("test -e /out/log.state && echo program > /out/program; exec sleep 1000")
    container = runtime.create(bundle)
    assert list(out.iterdir()) == [], "nothing of it ran at create"
    container.start()
    observe.eventually((out / "program").exists, "the program came after the hook")
    assert (out / "log.ns").read_text().split() == namespaces(container.pid)
    assert (out / "log.cwd").read_text() == "/bin\n"
    assert (out / "log.uid").read_text() == "1000\n"
    state = read_state(out / "log.state")
    assert (state["id"], state["status"], state["bundle"]) == (container.id, "created", str(bundle.path))


def test_the_program_is_of_the_host_for_create_container_and_of_the_image_for_start_container(
    runtime: Runtime, bundle: Bundle, scratch: Path
) -> None:
    script = "#!/bin/sh\necho $0 >$1\n"
    outside, inside = scratch / "only-on-the-host", bundle.path / "rootfs/only-in-the-image"
    for program in (outside, inside):
        program.write_text(script)
        program.chmod(0o755)
    create: Json = {"path": str(outside), "args": ["hook", str(scratch / "outside")]}
    start: Json = {"path": "/only-in-the-image", "args": ["hook", "/inside"]}
    bundle.put({"createContainer": [create], "startContainer": [start]}, "hooks")
    runtime.run(bundle.writable().args("true")).ok()
    assert (scratch / "outside").read_text() == f"{outside}\n"
    assert (bundle.path / "rootfs/inside").read_text() == "/only-in-the-image\n"


def test_the_pid_is_the_one_that_the_container_sees(ocirun: Runtime, bundle: Bundle, scratch: Path) -> None:
    """runtime.md#state: for hooks executed in the container namespace, the pid as seen by the container."""
    log = scratch / "log"
    add_hook(bundle.writable(), "createContainer", TELL, str(log))
    add_hook(bundle, "startContainer", TELL, "/log")
    bundle.sleeping()
    ocirun.create(bundle).start()
    for state in (read_state(scratch / "log.state"), read_state(bundle.path / "rootfs/log.state")):
        assert state["pid"] == 1
        assert state["ociVersion"] == "1.3.0"


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_but_its_own_environment_and_its_three_streams(
    ocirun: Runtime, bundle: Bundle, scratch: Path, kind: str
) -> None:
    log = scratch / "log" if kind == "createContainer" else bundle.path / "rootfs/log"
    where = log if kind == "createContainer" else "/log"
    script = f"env > {where}.env; ls /proc/self/fd > {where}.fds; umask > {where}.umask"
    add_hook(bundle.writable(), kind, script, env=["A=b", "C="])
    ocirun.run(bundle.args("true")).ok()
    environment = (log.parent / "log.env").read_text().split()
    of_the_shell = (*OF_THE_SHELL, "PATH=")  # that of busybox
    assert {entry for entry in environment if not entry.startswith(of_the_shell)} == {"A=b", "C="}
    assert set((log.parent / "log.fds").read_text().split()) == NONE_MORE


def test_a_failing_create_container_hook_fails_create_which_undoes_all_and_runs_poststop(
    runtime: Runtime, bundle: Bundle, scratch: Path
) -> None:
    log = scratch / "log"
    add_hook(bundle.sleeping(), "createContainer", f"echo one >> {log}; echo sorry >&2; exit 3")
    add_hook(bundle, "createContainer", f"echo two >> {log}")
    add_hook(bundle, "poststop", f"echo poststop >> {log}")
    done = runtime.attempt(bundle)
    assert done.code != 0
    assert "sorry" in done.stderr
    assert log.read_text().split() == ["one", "poststop"]


def test_a_failing_start_container_hook_stops_and_deletes_the_container(
    ocirun: Runtime, bundle: Bundle, scratch: Path
) -> None:
    log = scratch / "log"
    add_hook(bundle.writable(), "startContainer", "true")
    add_hook(bundle, "startContainer", "echo out; echo sorry >&2; exit 4")
    add_hook(bundle, "startContainer", "echo third > /third")
    add_hook(bundle, "poststop", f"echo poststop >> {log}")
    container = ocirun.create(bundle.sh("echo > /program"))
    told = ocirun.call("start", container.id)
    told.refused("error running startContainer hook #1: /bin/sh as 'sh -c ", "exit status 4", "out", "sorry")
    assert log.read_text().split() == ["poststop"]
    assert not (bundle.path / "rootfs/program").exists()
    assert not (bundle.path / "rootfs/third").exists()
    assert not observe.alive(container.pid)
    ocirun.call("state", container.id).refused("does not exist")


ENDS = {
    "kill -TERM $$": "killed by signal 15",
    "yes x | head -c 100000; echo sorry; exit 5": "exit status 5; it printed: x",
    "exec sleep 1000": "it took longer than its timeout of 1 s",
    "sleep 1000 & sleep 1000": "it took longer than its timeout of 1 s",
}


@pytest.mark.parametrize("script", ENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_error_says_how_it_ended(ocirun: Runtime, bundle: Bundle, kind: str, script: str) -> None:
    late = "timeout" in ENDS[script]
    add_hook(bundle.args("true"), kind, script, timeout=1 if late else 60)
    runs(ocirun, bundle, kind).refused(f"error running {kind} hook #0", ENDS[script])


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_does_not_exist(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    bundle.args("true").items("hooks", kind).append({"path": "/not/there"})
    done = runs(runtime, bundle, kind)
    assert done.code != 0
    assert "/not/there" in done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_state_that_nobody_reads_and_output_without_end(
    ocirun: Runtime, bundle: Bundle, kind: str
) -> None:
    bundle.put({"a": "b" * 100000}, "annotations")
    add_hook(bundle.args("true"), kind, "yes | head -c 1000000")
    ocirun.run(bundle).ok()
    add_hook(bundle, kind, "test $(wc -c) -gt 100000")
    ocirun.run(bundle).ok()


@pytest.mark.parametrize("kind", KINDS)
def test_what_runs_on_in_the_background_is_not_waited_for(ocirun: Runtime, bundle: Bundle, kind: str) -> None:
    add_hook(bundle.args("true"), kind, "sleep 600 & true")
    ocirun.run(bundle).ok()


def test_a_root_in_a_user_namespace_runs_them_too(ocirun: Runtime, bundle: Bundle, scratch: Path) -> None:
    out = scratch / "out"
    out.mkdir()
    out.chmod(0o777)
    bundle.mapped(100000, 65536)
    add_hook(bundle.sleeping(), "createContainer", "cat /proc/self/uid_map > $0", str(out / "map"))
    ocirun.create(bundle)
    assert (out / "map").read_text().split() == ["0", "100000", "65536"]
