"""`start` and `delete` of the shim's program: the stub, the zygote, and what happens without one."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.protobuf.any_pb2 import Any
from ocirun_shim.messages.bootstrap_pb2 import BootstrapParams
from ocirun_shim.messages.runc_options_pb2 import Options
from ocirun_shim.messages.task_pb2 import DeleteResponse
from ocirun_shim.messages.types_pb2 import RuntimeInfo

from tests.host import observe, shims
from tests.host.rests import read
from tests.host.runtimes import OCIRUN, new_id
from tests.host.shims import SHIM, Shims

if TYPE_CHECKING:
    from tests.host.bundles import Bundle
    from tests.host.view import View

STATE = "/run/containerd/ocirun/ns"


def in_group(name: str) -> dict[str, object]:
    """A config whose annotation names a group."""
    return {"annotations": {"io.containerd.runc.v2.group": name}}


# -- what start answers ------------------------------------------------------------------------------------


def test_start_answers_with_the_address_by_the_recipe_and_writes_it(ours: Shims) -> None:
    answer = ours.start("c1")
    assert answer == {"version": 2, "address": shims.address_of("c1"), "protocol": "ttrpc"}
    assert (ours.bundle("c1") / "address").read_text() == answer["address"]
    assert shims.answers(answer["address"])


def test_the_second_start_is_served_by_the_zygote_that_the_first_has_made(ours: Shims) -> None:
    ours.start("c1")
    zygote = shims.the_zygote()
    ours.start("c2")
    assert shims.the_zygote() == zygote
    assert int(observe.status(shims.the_shim("c2"))["PPid"]) == shims.the_nursery()


def test_members_of_a_group_share_a_shim(ours: Shims) -> None:
    ours.bundle("c1", in_group("pod"))
    ours.bundle("c2", {"annotations": {"io.kubernetes.cri.sandbox-id": "pod"}})
    first, second = ours.start("c1"), ours.start("c2")
    assert first["address"] == second["address"] == shims.address_of("pod")
    assert (ours.bundle("c2") / "address").read_text() == second["address"]
    observe.eventually(  # a fork of it has its name for a moment
        lambda: shims.processes("containerd-shim") == [shims.the_shim("c1")], "there is one shim"
    )


@pytest.mark.parametrize(
    "config", ["{", "[]", '{"annotations": 3}', '{"annotations": {"io.containerd.runc.v2.group": 1}}']
)
def test_a_config_that_is_none_does_not_break_start(ours: Shims, config: str) -> None:
    ours.bundle("c1", config)
    assert ours.start("c1")["address"] == shims.address_of("c1")


@pytest.mark.parametrize(
    ("says", "version"),
    [
        ("containerd github.com/containerd/containerd/v2 v2.1.9 abc", 3),
        ("containerd github.com/containerd/containerd v1.7.34 abc", 2),
        ("crio version 2.0.0", 2),
    ],
)
def test_the_api_version_is_that_of_the_containerd_that_asks(ours: Shims, says: str, version: int) -> None:
    program = ours.scratch / "containerd"
    program.write_text(f"#!/bin/sh\necho {says}\n")
    program.chmod(0o755)
    flags = ("-publish-binary", str(program))
    for container in ("c1", "c2"):
        assert ours.start(container, flags=flags)["version"] == version


def test_a_containerd_that_hangs_is_taken_for_an_old_one(ours: Shims) -> None:
    program = ours.scratch / "containerd"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    assert ours.start("c1", flags=("-publish-binary", str(program)))["version"] == 2


def test_bootstrap_params_mean_version_3_and_may_move_the_sockets(ours: Shims) -> None:
    place = shims.RUN / "elsewhere"
    for container in ("c1", "c2"):  # without a zygote and with one
        params = BootstrapParams(instance_id=container, namespace=shims.NAMESPACE, socket_dir=str(place))
        answer = ours.start(container, params.SerializeToString())
        assert answer["version"] == 3
        assert answer["address"] == shims.address_of(container, place)


def test_a_shim_cgroup_that_exists_takes_the_shim_and_a_missing_one_fails(ours: Shims, view: View) -> None:
    cgroup = view.cgroup2 / new_id()
    options = Any(type_url="containerd.runc.v1.Options")
    options.value = Options(shim_cgroup=f"/{cgroup.name}").SerializeToString()
    with ours.popen("c1", "start") as process:
        _, err = process.communicate(options.SerializeToString(), shims.TIMEOUT)
    assert process.returncode == 1
    assert b"there is no cgroup" in err
    observe.eventually(lambda: not shims.processes("containerd-shim"), "no shim is left")
    cgroup.mkdir()
    ours.start("c1", options.SerializeToString())
    assert observe.cgroup(shims.the_shim("c1")) == f"/{cgroup.name}"
    os.kill(shims.the_shim("c1"), signal.SIGKILL)
    observe.eventually(lambda: "populated 0" in (cgroup / "cgroup.events").read_text(), "it is empty")
    cgroup.rmdir()


def test_nobody_at_the_other_end_of_stdout_means_no_shim(ours: Shims) -> None:
    for container in ("c1", "c2"):  # without a zygote and with one
        with ours.popen(container, "start") as process:
            assert process.stdout
            process.stdout.close()
            assert process.stdin
            process.stdin.close()
            assert process.wait(shims.TIMEOUT) == 1
        observe.eventually(lambda: not shims.processes("containerd-shim"), "no shim is left")
        assert list(shims.SOCKETS.iterdir()) == []


# -- races -------------------------------------------------------------------------------------------------


def test_first_starts_at_once_make_one_zygote(ours: Shims) -> None:
    started = [ours.popen(f"c{i}", "start") for i in range(4)]
    for process in started:
        with process:
            _, err = process.communicate(b"", shims.TIMEOUT)
        assert (process.returncode, err) == (0, b"")
    shims.the_zygote()
    shims.expect(4)


def test_starts_of_one_group_at_once_make_one_shim(ours: Shims) -> None:
    ours.start("c0")
    for i in range(1, 5):
        ours.bundle(f"c{i}", in_group("pod"))
    started = [ours.popen(f"c{i}", "start") for i in range(1, 5)]
    answers: set[bytes] = set()
    for process in started:
        with process:
            answers.add(process.communicate(b"", shims.TIMEOUT)[0])
    assert {shims.parsed(answer)["address"] for answer in answers} == {shims.address_of("pod")}
    shims.expect(2)


def test_a_killed_zygote_is_replaced_and_its_shims_stay(ours: Shims) -> None:
    ours.start("c1")
    ours.start("c2")
    killed = shims.the_zygote()
    os.kill(killed, signal.SIGKILL)
    observe.eventually(lambda: not observe.alive(killed), "it is dead")
    ours.start("c3")
    assert shims.the_zygote() != killed
    shims.expect(3)
    assert shims.answers(shims.address_of("c2"))


def test_a_stopped_zygote_is_not_waited_for_for_ever(ours: Shims) -> None:
    ours.start("c1")
    zygote = shims.the_zygote()
    os.kill(zygote, signal.SIGSTOP)
    assert ours.start("c2")["address"] == shims.address_of("c2")
    os.kill(zygote, signal.SIGCONT)
    ours.start("c3")
    shims.expect(3)  # the request it found late was not done twice


# -- what the shim is --------------------------------------------------------------------------------------


def oom_score(pid: int) -> int:
    """What the process says to the kernel's choice of whom to kill."""
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def test_the_shim_is_as_its_stub_was_and_keeps_nothing_of_it(ours: Shims, view: View) -> None:
    cgroup = view.cgroup2 / new_id()
    cgroup.mkdir()
    ours.start("c1")
    inherited = os.open("/etc/hostname", os.O_RDONLY)
    script = f'echo $$ >{cgroup}/cgroup.procs; umask 027; ulimit -n 321; exec "$@"'
    environment = {**os.environ, "SECRET": "s", "TTRPC_ADDRESS": "/run/ttrpc", "NAMESPACE": shims.NAMESPACE}
    done = subprocess.run(
        ["sh", "-c", script, "sh", *shims.command("c2", "start")],
        cwd=ours.bundle("c2"), env=environment, pass_fds=(inherited,), stdin=subprocess.DEVNULL,
        capture_output=True, timeout=shims.TIMEOUT, check=True,
    )  # fmt: skip
    os.close(inherited)
    assert done.stderr == b""
    pid = shims.the_shim("c2")
    assert int(observe.status(pid)["PPid"]) == shims.the_nursery()
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] == 321
    assert observe.cgroup(pid) == f"/{cgroup.name}"
    assert Path(f"/proc/{pid}/cwd").readlink() == ours.bundle("c2")
    assert oom_score(pid) == oom_score(os.getpid()) + 1
    assert observe.status(pid)["NSsid"] == observe.status(pid)["NSpid"]
    fds = observe.descriptors(pid)
    assert [fds.pop(fd) for fd in (0, 1, 2)] == ["/dev/null"] * 3
    assert all(name.startswith(("socket:", "pipe:")) for name in fds.values()), fds
    with shims.woken("c2") as worker:
        log = str(ours.bundle("c2") / "log")
        fds = observe.descriptors(worker)
        assert [fds.pop(fd) for fd in (0, 1, 2)] == ["/dev/null", log, log]
        assert all(name.startswith(("socket:", "anon_inode:[eventpoll]")) for name in fds.values()), fds
        assert observe.status(worker)["Umask"] == "0027"
        assert resource.prlimit(worker, resource.RLIMIT_NOFILE)[0] == 321
        assert b"SECRET" not in Path(f"/proc/{worker}/environ").read_bytes()
    for process in (pid, shims.the_zygote()):
        assert b"SECRET" not in Path(f"/proc/{process}/environ").read_bytes()
    os.kill(pid, signal.SIGKILL)
    observe.eventually(lambda: "populated 0" in (cgroup / "cgroup.events").read_text(), "it is empty")
    cgroup.rmdir()


def test_signals_do_not_end_a_shim_and_usr1_tells_where_it_is(ours: Shims) -> None:
    log = os.open(ours.bundle("c1") / "log", os.O_RDWR | os.O_NONBLOCK)
    ours.start("c1")
    pid = shims.the_shim("c1")
    with shims.woken("c1") as worker:
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            for process in (pid, worker):
                os.kill(process, signum)
            time.sleep(0.05)
        read(log, b"most recent call first")
        assert observe.alive(worker)
    os.close(log)
    assert observe.alive(pid)


def test_a_log_that_nobody_reads_does_not_stop_the_shim(ours: Shims) -> None:
    ours.start("c1")
    with shims.woken("c1") as pid:
        for _ in range(1500):  # more lines than a pipe holds
            os.kill(pid, signal.SIGTERM)
            time.sleep(0.0002)
        assert shims.answers(shims.address_of("c1"))
        observe.eventually(lambda: observe.state_letter(pid) == "S", "it sleeps in its loop")


# -- delete ------------------------------------------------------------------------------------------------


def test_delete_of_what_never_was(ours: Shims) -> None:
    for _ in range(2):  # without a zygote and with one
        response = ours.delete("never")
        assert (response.pid, response.exit_status) == (0, 255)
        assert response.exited_at.seconds > time.time() - 60


def test_delete_tells_what_the_shim_has_recorded(ours: Shims) -> None:
    record = {"pid": 77, "exit_status": 3, "exited_at_ns": 1_700_000_000_000_000_005}
    (ours.bundle("c1") / "exit.json").write_text(json.dumps(record))
    response = ours.delete("c1")
    assert (response.pid, response.exit_status) == (77, 3)
    assert (response.exited_at.seconds, response.exited_at.nanos) == (1_700_000_000, 5)


def test_two_deletes_at_once_kill_a_running_container_and_tell_the_same(ours: Shims, bundle: Bundle) -> None:
    container = new_id()
    bundle.sleeping().write()
    subprocess.run(
        [OCIRUN, "--root", STATE, "run", "--detach", "--bundle", bundle.path, container],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    state = subprocess.run([OCIRUN, "--root", STATE, "state", container], capture_output=True, check=True)
    pid = json.loads(state.stdout)["pid"]
    ours.bundle(container)
    flags = ("-bundle", str(ours.bundle(container)))
    both = [ours.popen(container, "delete", flags=flags) for _ in range(2)]
    answers: list[bytes] = []
    for process in both:
        with process:
            out, err = process.communicate(b"", shims.TIMEOUT)
        assert (process.returncode, err) == (0, b"")
        answers.append(out)
    assert answers[0] == answers[1]
    response = DeleteResponse.FromString(answers[0])
    assert (response.pid, response.exit_status) == (pid, 137)
    assert not observe.alive(pid)
    assert not Path(STATE, container).exists()


def test_delete_removes_a_dead_socket_and_leaves_one_that_others_use(ours: Shims) -> None:
    for container in ("c1", "c2"):
        ours.bundle(container, in_group("pod"))
        ours.start(container)
    ours.start("alone")
    ours.delete("c2")
    assert shims.answers(shims.address_of("pod"))
    observe.eventually(lambda: not shims.kill_all("containerd-shim"), "they are dead")
    ours.delete("c1")
    shutil.rmtree(ours.bundle("alone"))
    ours.delete("alone")
    assert list(shims.SOCKETS.iterdir()) == []


# -- what is asked by hand ---------------------------------------------------------------------------------


def test_version_and_info() -> None:
    version = subprocess.run([SHIM, "-v"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("containerd-shim-ocirun-v2:\n  Version:  ")
    answer = subprocess.run([SHIM, "-info"], input=b"\xff garbage", capture_output=True, check=True)
    info = RuntimeInfo.FromString(answer.stdout)
    assert info.name == "io.containerd.ocirun.v2"
    assert json.loads(info.features.value)["ociVersionMax"] >= "1.2.0"


@pytest.mark.parametrize(
    "words",
    [
        ["start"], ["-namespace", "../x", "-id", "c", "start"], ["-namespace", "ns", "-id", "a/b", "start"],
        ["-nonsense", "start"], ["-namespace", "ns", "-id", "c", "begin"], ["-id"],
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_told_and_does_nothing(ours: Shims, words: list[str]) -> None:
    done = subprocess.run(
        [SHIM, *words], cwd=ours.scratch, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(b"containerd-shim-ocirun-v2: ")
    assert shims.processes("containerd-shim") == shims.processes("ocirun-zygote") == []
