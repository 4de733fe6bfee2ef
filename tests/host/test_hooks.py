"""The hooks of the runtime namespace, told by what they wrote themselves."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, cast

import pytest

from ocirun.errors import HookError, Interrupted
from ocirun.lifecycle import hooks
from ocirun.waiting import drive, wait
from tests.host import observe
from tests.host.runtimes import new_id

if TYPE_CHECKING:
    from pathlib import Path

    from ocirun_spec.types import Hook

    from ocirun.waiting import Wait
    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Runtime

KINDS = ("prestart", "createRuntime", "poststart", "poststop")
NAMESPACES = ("mnt", "pid", "net", "uts", "ipc", "user", "cgroup")
#: Appends the name it was called with, its environment and its standard input to a file.
TELL = (
    'printf "%s\\n" "$0" >> {log}.order; env > {log}.$0.env; cat > {log}.$0.state; '
    "ls /proc/self/fd > {log}.$0.fds"
)
#: What ls finds: 0, 1, 2, and what it reads the directory with.
#: Variables that the shell sets by itself: they are no inheritance.
OF_THE_SHELL = ("PWD=", "OLDPWD=", "SHLVL=", "_=")
NONE_MORE = {"0", "1", "2", "3"}


def add_hook(bundle: Bundle, kind: str, script: str, name: str = "hook", **more: Json) -> Bundle:
    """Adds a hook that is a script of the shell; ``name`` is its $0."""
    hook: Json = {"path": "/bin/sh", "args": ["sh", "-c", script, name], **more}
    bundle.items("hooks", kind).append(hook)
    return bundle


def telling(bundle: Bundle, scratch: Path) -> Path:
    """Adds two hooks of each kind that tell, with the start of the names of their files."""
    log = scratch / "log"
    for kind in KINDS:
        for number in range(2):
            add_hook(bundle, kind, TELL.format(log=log), f"{kind}{number}", env=["A=b", "C="])
    return log


def read_state(log: Path, name: str) -> dict[str, Json]:
    """What the hook of that name got as its standard input."""
    return cast("dict[str, Json]", json.loads((log.parent / f"{log.name}.{name}.state").read_text()))


def test_they_run_in_order_with_the_state_and_their_own_environment(
    runtime: Runtime, bundle: Bundle, scratch: Path
) -> None:
    log = telling(bundle.sleeping(), scratch)
    bundle.put({"a": "b"}, "annotations")
    container = runtime.create(bundle)
    order = log.with_suffix(".order")
    created = ["prestart0", "prestart1", "createRuntime0", "createRuntime1"]
    assert order.read_text().split() == created
    container.start()
    created += ["poststart0", "poststart1"]
    assert order.read_text().split() == created
    container.kill()
    container.wait()
    container.delete().ok()
    assert order.read_text().split() == [*created, "poststop0", "poststop1"]
    statuses = ("created", "created", "running", "stopped")
    for kind, status in zip(KINDS, statuses, strict=True):
        state = read_state(log, f"{kind}1")
        assert (state["id"], state["status"], state["bundle"]) == (container.id, status, str(bundle.path))
        assert state.get("pid", 0) == (0 if kind == "poststop" else container.pid)
        assert state["annotations"] == {"a": "b"}
        environment = (scratch / f"log.{kind}1.env").read_text().split()
        assert {"A=b", "C="} <= set(environment)


def test_the_state_is_of_this_version_and_nothing_else_leaks_in(
    ocirun: Runtime, bundle: Bundle, scratch: Path
) -> None:
    log = telling(bundle.args("true"), scratch)
    ocirun.run(bundle).ok()
    assert read_state(log, "poststop0")["ociVersion"] == "1.3.0"
    for kind in KINDS:
        environment = (scratch / f"log.{kind}0.env").read_text().split()
        assert {entry for entry in environment if not entry.startswith(OF_THE_SHELL)} == {"A=b", "C="}
        assert set((scratch / f"log.{kind}0.fds").read_text().split()) == NONE_MORE


def test_descriptors_that_are_preserved_for_the_container_are_not_for_hooks(
    ocirun: Runtime, bundle: Bundle, scratch: Path
) -> None:
    log = scratch / "fds"
    add_hook(bundle.sh("echo yes <&4"), "createRuntime", f"ls /proc/self/fd > {log}")
    command = ocirun.command("run", "--preserve-fds", "2", "--bundle", str(bundle.write().path), new_id())
    called = ["sh", "-c", 'exec "$@" 3</etc/hostname 4</etc/hostname', "sh", *command]
    done = subprocess.run(called, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert done.stdout == "yes\n"
    assert set(log.read_text().split()) == NONE_MORE


def test_they_are_programs_of_the_host_in_the_namespaces_of_the_caller(
    runtime: Runtime, bundle: Bundle, scratch: Path
) -> None:
    program = scratch / "only-on-the-host"
    program.write_text(
        f"#!/bin/sh\nfor one in {' '.join(NAMESPACES)}; do readlink /proc/$$/ns/$one; done >{scratch}/$1\n"
    )
    program.chmod(0o755)
    for kind in KINDS:
        bundle.items("hooks", kind).append({"path": str(program), "args": ["hook", f"ns.{kind}"]})
    runtime.run(bundle.mapped(100000, 65536).args("true")).ok()
    called = [os.readlink(f"/proc/self/ns/{one}") for one in NAMESPACES]
    for kind in KINDS:
        assert (scratch / f"ns.{kind}").read_text().split() == called


def test_those_of_create_see_the_mounts_made_and_the_root_not_switched(
    ocirun: Runtime, bundle: Bundle, scratch: Path
) -> None:
    log = scratch / "mounts"
    script = (
        'pid=$(sed "s/.*\\"pid\\": *\\([0-9]*\\).*/\\1/"); '
        f"cat /proc/$pid/mountinfo > {log}; cat /proc/$pid/cgroup > {log}.cgroup"
    )
    add_hook(bundle.sleeping(), "createRuntime", script)
    container = ocirun.create(bundle)
    mounts = [observe.parse_mount(line) for line in log.read_text().splitlines()]
    assert len([mount for mount in mounts if mount.kind == "proc" and mount.point.endswith("/proc")]) >= 2
    assert len([mount for mount in mounts if mount.point == "/"]) > 1, "the old root is still below"
    assert container.id in (scratch / "mounts.cgroup").read_text()


@pytest.mark.parametrize("kind", ["prestart", "createRuntime"])
def test_a_failing_hook_fails_create_which_undoes_all_and_runs_poststop(
    runtime: Runtime, bundle: Bundle, scratch: Path, kind: str
) -> None:
    log = scratch / "log"
    add_hook(bundle.sleeping(), kind, f"echo one >> {log}; echo sorry >&2; exit 3")
    add_hook(bundle, kind, f"echo two >> {log}")
    add_hook(bundle, "poststop", f"echo poststop >> {log}")
    done = runtime.attempt(bundle)
    assert done.code != 0
    assert "sorry" in done.stderr
    assert log.read_text().split() == ["one", "poststop"]


def test_the_error_names_the_hook_and_what_it_printed(ocirun: Runtime, bundle: Bundle) -> None:
    add_hook(bundle.sleeping(), "createRuntime", "true")
    add_hook(bundle, "createRuntime", "echo out; yes x | head -c 8000; echo sorry >&2; kill -TERM $$")
    done = ocirun.attempt(bundle)
    done.refused("error running createRuntime hook #1: /bin/sh as 'sh -c ", "killed by signal 15", "sorry")
    assert "config.json:" in done.stderr
    assert "out\n" not in done.stderr, "only the end of what it printed is told"


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer"])
def test_what_it_printed_does_not_steer_the_terminal(ocirun: Runtime, bundle: Bundle, kind: str) -> None:
    add_hook(bundle.sleeping(), kind, "yes | head -c 9000; printf '\\033[2J\\000'; exit 3")
    done = ocirun.attempt(bundle)
    done.refused("it printed: y\n", r"\x1b[2J")
    assert not set("\0\x1b") & set(done.stderr)
    assert done.stderr.count("y\n") < 20


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer"])
def test_words_that_are_nothing_but_nuls_do_not_vanish(ocirun: Runtime, bundle: Bundle, kind: str) -> None:
    add_hook(bundle.sleeping(), kind, "printf '\\000\\000'; exit 3")
    ocirun.attempt(bundle).refused("it printed: ")


def test_nobody_waits_for_what_prints_on_in_the_background(ocirun: Runtime, bundle: Bundle) -> None:
    add_hook(bundle.sleeping(), "createRuntime", "echo y; yes & yes & yes & exit 3")
    ocirun.attempt(bundle).refused("exit status 3; it printed: y")


def test_a_hook_that_does_not_exist(runtime: Runtime, bundle: Bundle) -> None:
    bundle.sleeping().items("hooks", "prestart").append({"path": "/not/there"})
    assert runtime.attempt(bundle).code != 0


def test_a_failing_poststart_hook_stops_and_deletes_the_container(
    ocirun: Runtime, bundle: Bundle, scratch: Path
) -> None:
    log = scratch / "log"
    add_hook(bundle.sleeping(), "poststart", "echo sorry; exit 9")
    add_hook(bundle, "poststart", f"echo second >> {log}")
    add_hook(bundle, "poststop", f"echo poststop >> {log}")
    container = ocirun.create(bundle)
    told = ocirun.call("start", container.id)
    told.refused("error running poststart hook #0", "exit status 9; it printed: sorry")
    assert log.read_text().split() == ["poststop"]
    assert not observe.alive(container.pid)
    ocirun.call("state", container.id).refused("does not exist")


def test_poststart_runs_when_the_program_was_executed(ocirun: Runtime, bundle: Bundle, scratch: Path) -> None:
    """As told by the file that it executes: the process gets that name a moment after start heard of it."""
    log = scratch / "exe"
    script = f'pid=$(sed "s/.*\\"pid\\": *\\([0-9]*\\).*/\\1/"); readlink /proc/$pid/exe > {log}'
    add_hook(bundle.sleeping(), "poststart", script)
    for _ in range(10):
        container = ocirun.create(bundle).start()
        assert log.read_text() == "/bin/busybox\n"
        container.delete("--force").ok()


def test_a_failing_poststop_hook_is_a_warning_and_the_others_run(
    ocirun: Runtime, bundle: Bundle, scratch: Path
) -> None:
    log = scratch / "log"
    add_hook(bundle.args("true"), "poststop", f"echo first >> {log}; exit 1")
    add_hook(bundle, "poststop", f"test -e {ocirun.root}/$0 || echo second >> {log}", ident := new_id())
    done = ocirun.run(bundle, ident=ident).ok()
    assert "warning" in done.stderr
    assert "error running poststop hook #0" in done.stderr
    assert log.read_text().split() == ["first", "second"], "the state directory was there, or one did not run"


def test_the_config_of_create_counts_not_what_became_of_the_bundle(
    runtime: Runtime, bundle: Bundle, scratch: Path
) -> None:
    log = scratch / "log"
    add_hook(bundle.args("true"), "poststop", f"cat >/dev/null; echo old >> {log}")
    container = runtime.create(bundle)
    bundle.drop("hooks").write()
    container.start()
    container.wait()
    container.delete().ok()
    assert log.read_text().split() == ["old"]


def test_a_hook_that_takes_too_long_is_killed_with_its_children(
    ocirun: Runtime, bundle: Bundle, scratch: Path
) -> None:
    pids = scratch / "pids"
    script = f"sleep 1000 & echo $! $$ > {pids}; wait"
    add_hook(bundle.sleeping(), "createRuntime", script, timeout=1)
    before = time.monotonic()
    ocirun.attempt(bundle).refused("createRuntime hook #0", "it took longer than its timeout of 1 s")
    assert time.monotonic() - before >= 1
    both = [int(pid) for pid in pids.read_text().split()] if pids.exists() else []
    observe.eventually(lambda: not any(map(observe.alive, both)), "the hook and its child are gone")


STATE: dict[str, object] = {"id": "x"}


def test_its_children_are_killed_however_late_it_is(scratch: Path) -> None:
    """The clock goes on when its child is there."""
    pids = scratch / "pids"
    hook = _hook(f"sleep 1000 & echo $! $$ > {pids}; wait", timeout=1)

    def waiter(what: Wait) -> tuple[int, ...]:
        observe.eventually(lambda: pids.read_text().endswith("\n"), "its child is there")
        return wait(what)

    with pytest.raises(HookError, match="it took longer than its timeout of 1 s"):
        drive(hooks.run_hook("prestart", 0, hook, STATE), waiter)
    both = [int(pid) for pid in pids.read_text().split()]
    observe.eventually(lambda: not any(map(observe.alive, both)), "the hook and its child are gone")


def _hook(script: str, **more: int) -> Hook:
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script], **more}
    return cast("Hook", hook)


def test_a_hook_does_not_block_whoever_waits_for_it() -> None:
    reader, writer = os.pipe()
    task = hooks.run_hook(
        "prestart", 0, _hook(f"read word </proc/{os.getpid()}/fd/{reader}", timeout=30), STATE
    )
    what = next(task)
    os.write(writer, b"now it may end\n")
    with contextlib.suppress(StopIteration):
        while True:
            what = task.send(wait(what))
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_one_that_reads_nothing_and_prints_without_end_is_read_on(size: int) -> None:
    state = {"id": "x", "annotations": {"a": "b" * size}}
    drive(hooks.run_hook("prestart", 0, _hook("yes | head -c 1000000"), state))
    with pytest.raises(HookError, match="exit status 1"):
        drive(hooks.run_hook("prestart", 0, _hook(f"test $(wc -c) -lt {size}"), state))


def test_what_runs_on_in_the_background_is_not_waited_for(scratch: Path) -> None:
    pid_file = scratch / "pid"
    drive(hooks.run_hook("prestart", 0, _hook(f"sleep 1000 & echo $! > {pid_file}"), STATE))
    pid = int(pid_file.read_text())
    assert observe.alive(pid)
    os.kill(pid, signal.SIGKILL)


def test_an_interrupted_hook_is_killed_and_reaped(scratch: Path) -> None:
    pid_file = scratch / "pid"

    def waiter(what: Wait) -> tuple[int, ...]:
        if what.until is None:
            observe.eventually(lambda: pid_file.read_text().endswith("\n"), "its child is there")
            raise Interrupted(2)
        return wait(what)

    with pytest.raises(Interrupted):
        drive(hooks.run_hook("prestart", 0, _hook(f"sleep 1234 & echo $! > {pid_file}; wait"), STATE), waiter)
    child = int(pid_file.read_text())
    observe.eventually(lambda: not observe.alive(child), "its child is gone")


def test_a_container_whose_hooks_of_create_run_is_being_created(
    ocirun: Runtime, bundle: Bundle, scratch: Path
) -> None:
    """Before its root is there, an exec would be in that of the host."""
    begun, gate = scratch / "begun", scratch / "gate"
    os.mkfifo(gate)
    add_hook(bundle.sleeping(), "createRuntime", f": > {begun}; read line < {gate}")
    ident = new_id()
    process, _ = ocirun.popen("create", "--bundle", str(bundle.write().path), ident)
    try:
        observe.eventually(begun.exists, "the hook runs")
        assert json.loads(ocirun.call("state", ident).ok().stdout)["status"] == "creating"
        refused = ocirun.call("exec", ident, "true")
        assert (refused.code, "still being created" in refused.stderr) == (255, True)
    finally:
        gate.write_text("go on\n")
        assert process.wait(30) == 0
    assert json.loads(ocirun.call("state", ident).ok().stdout)["status"] == "created"
    assert ocirun.call("exec", ident, "true").code == 0
    ocirun.call("delete", "--force", ident).ok()
