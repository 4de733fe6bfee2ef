"""The shim of an ordinary user, in a cgroup that systemd has delegated to him: it needs no root, and no user
namespace but that of the container.

They need a machine with systemd as process 1 and the user that it has; tests/vm runs them in one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.protobuf.empty_pb2 import Empty
from ocirun_shim.messages import task_pb2 as pb
from ocirun_shim.messages.runc_options_pb2 import Options

from tests.host import observe, serving, shims
from tests.host.limits import limited
from tests.host.serving import Serving
from tests.host.users import has_manager, logged_in, of_user, owner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conformance.ttrpc import Client
    from tests.host.runtimes import Runtime
    from tests.host.serving import Task
    from tests.host.view import View


#: Our mount namespace does not hear of the mounts of systemd any more.
ROOT = Path("/proc/1/root")


class Served(Serving):
    """Shims of the user, whose sockets are in his runtime directory, and who speak with nobody else."""

    def client(self, path: str) -> Client:
        directory, _, name = path.rpartition("/")
        his = (ROOT / directory[1:]).stat()
        fd = os.open(f"{ROOT}{directory}", os.O_PATH | os.O_DIRECTORY)
        os.setegid(his.st_gid)
        os.seteuid(his.st_uid)
        try:
            return super().client(f"/proc/self/fd/{fd}/{name}")
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.close(fd)


@pytest.fixture(scope="module", autouse=True)
def user() -> int:
    """The number of the user, whose own systemd runs."""
    return has_manager()


@pytest.fixture
def his(ocirun: Runtime, user: int, view: View, scratch: Path, busybox: Path) -> Iterator[Serving]:
    """Shims that he starts, each in a scope of his."""
    users = logged_in(ocirun, user, view)
    environment = [f"{name}={value}" for name, value in users.environment.items()]
    scope = ("systemd-run", "--user", "--scope", "--quiet", "--collect", "-p", "Delegate=yes", "--")
    served = Served(shims.Shims(scratch, (*users.prefix, "env", *environment, *scope)), busybox)
    yield served
    served.clean_up()
    observe.eventually(lambda: not shims.kill_all(), "his zygote is dead")


@pytest.fixture
def task(his: Serving, user: int) -> Task:
    """A container of his with a limit, whose shim serves."""
    one = his.task()
    limited(of_user(one.bundle, user), pids={"limit": 20}).write()
    for name in ("log", "config.json"):
        os.chown(one.bundle.path / name, user, user)
    his.ours.start(one.id, prefix=("env", f"--chdir={one.bundle.path}"))  # nsenter(1) goes to the root
    return one


@pytest.mark.parametrize("by_systemd", [False, True], ids=["cgroupfs", "systemd"])
def test_its_life_from_create_to_delete(task: Task, user: int, by_systemd: bool) -> None:
    request = task.request()
    request.options.type_url = "containerd.runc.v1.Options"
    request.options.value = Options(systemd_cgroup=by_systemd).SerializeToString()
    pid = task.call("Create", request, pb.CreateTaskResponse).pid
    assert task.start() == pid
    assert task.running
    assert {owner(pid), owner(serving.keeper(task))} == {user}
    where = Path(f"/sys/fs/cgroup{observe.cgroup(pid)}")
    assert where.match(f"user@{user}.service/user.slice/ocirun-{task.id}.scope") == by_systemd
    assert (where / "pids.max").read_text() == "20\n"
    state = ROOT / f"run/user/{user}/containerd/ocirun/{shims.NAMESPACE}/{task.id}"
    assert state.exists()
    task.call("Pause", pb.PauseRequest(id=task.id), Empty)
    assert "frozen 1" in (where / "cgroup.events").read_text()
    task.call("Resume", pb.ResumeRequest(id=task.id), Empty)
    assert task.end() == 137
    assert not state.exists()
    observe.eventually(lambda: not where.exists(), "the cgroup is gone")


def test_what_is_left_of_a_shim_that_was_killed_goes_at_its_delete(his: Serving, task: Task) -> None:
    pid = task.create()
    task.start()
    where = Path(f"/sys/fs/cgroup{observe.cgroup(pid)}")
    serving.kill_shims()
    assert observe.alive(pid)
    assert his.ours.delete(task.id).exit_status == 137
    assert not observe.alive(pid)
    assert not where.exists()
