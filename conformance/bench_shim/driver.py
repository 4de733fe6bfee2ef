"""One container from `start` to `delete`, as containerd drives it: programs and calls, each step timed."""

from __future__ import annotations

import itertools
import json
import os
import secrets
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty
from ocirun_shim.messages import task_pb2 as pb

from conformance import inside
from conformance.bench_shim.candidates import write_bundle
from conformance.private_view import remove_cgroup
from conformance.ttrpc import NAMESPACE as NAMESPACE_KEY
from conformance.ttrpc import Client

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from conformance.bench_shim.candidates import Candidate

NAMESPACE = "bench"
TASK = "containerd.task.v3.Task"
_ADDRESS = "/run/containerd/containerd.sock"
_EXEC = b'{"cwd": "/", "args": ["/bin/true"], "user": {"uid": 0, "gid": 0}}'
#: Seconds that a shim has to end; it is stuck if it takes longer.
_PATIENCE = 10
_numbers = itertools.count(1)


class StuckShimError(Exception):
    """A shim did not end after Shutdown; the message says whose."""


class Place:
    """Where the bench works: a directory of bundles, a root file system, containerd's sockets.

    The directory's name is also that of the parent of all cgroups, and no other run has it.
    """

    def __init__(self, top: Path, candidate: Candidate) -> None:
        self.candidate = candidate
        self.rootfs = top / "rootfs"
        self.ttrpc = top / "events.sock"
        self.bundles = top / f"bench-{secrets.token_hex(4)}"

    def environment(self, action: str) -> dict[str, str]:
        """The variables that containerd gives to the shim's programs."""
        added = {"TTRPC_ADDRESS": str(self.ttrpc), "GRPC_ADDRESS": _ADDRESS, "NAMESPACE": NAMESPACE}
        if action == "start":
            added |= {"GOMAXPROCS": "2", "MAX_SHIM_VERSION": "2"}
        return {**os.environ, **added}

    def container(self, *args: str, group: str = "") -> Driven:
        """A new container that will run ``args``, in a shim of its own or that of ``group``."""
        bundle = self.bundles / f"c{next(_numbers)}"
        write_bundle(bundle, self.rootfs, group, *args)
        os.mkfifo(bundle / "log")
        return Driven(self, bundle)

    def clear(self) -> None:
        """Ends what an interrupted run has left in its cgroups, and removes them."""
        top = Path(inside.CGROUP, self.bundles.name)

        if top.exists():
            (top / "cgroup.kill").write_text("1")
            remove_cgroup(str(top))


class Driven:
    """One container; ``milliseconds`` has each step by its name, in their order."""

    def __init__(self, place: Place, bundle: Path) -> None:
        self.place = place
        self.id = bundle.name
        self.bundle = bundle
        self.milliseconds: dict[str, float] = {}
        self.pid = 0
        self._log = os.open(bundle / "log", os.O_RDWR | os.O_NONBLOCK)  # a shim waits for its reader
        self._client: Client | None = None
        self._shim = -1
        self._began = time.perf_counter()

    def _mark(self, step: str) -> None:
        now = time.perf_counter()
        self.milliseconds[step] = (now - self._began) * 1000
        self._began = now

    def _program(self, *words: str, stdin: bytes = b"") -> bytes:
        command = (
            str(self.place.candidate.program), "-namespace", NAMESPACE, "-address", _ADDRESS,
            "-publish-binary", str(self.place.candidate.containerd), "-id", self.id, *words,
        )  # fmt: skip
        environment = self.place.environment(words[-1])
        done = subprocess.run(
            command, cwd=self.bundle, env=environment, input=stdin, stdout=subprocess.PIPE,
            check=True, timeout=60,
        )  # fmt: skip
        return done.stdout

    @property
    def client(self) -> Client:
        """The connection, which ``launch`` makes."""
        assert self._client is not None
        return self._client

    def _call(self, method: str, request: Message, response: type[Message]) -> None:
        self.client.call(TASK, method, request, response)

    def launch(self) -> None:
        """`start`, and Create; then, beyond the clock, Connect, as containerd does for the shim's pid."""
        options = self.place.candidate.options()
        self._began = time.perf_counter()
        answer = self._program("start", stdin=options.SerializeToString())
        self._mark("start")
        address = json.loads(answer)["address"] if answer.startswith(b"{") else answer.decode()
        metadata = ((NAMESPACE_KEY, NAMESPACE),)
        self._client = Client(address.removeprefix("unix://"), timeout=60, metadata=metadata)
        request = pb.CreateTaskRequest(id=self.id, bundle=str(self.bundle), options=options)
        self.pid = self._client.call(TASK, "Create", request, pb.CreateTaskResponse).pid
        self._mark("Create")
        connect = self._client.call(TASK, "Connect", pb.ConnectRequest(id=self.id), pb.ConnectResponse)
        self._shim = os.pidfd_open(connect.shim_pid)
        self._began = time.perf_counter()

    def begin(self) -> None:
        """Start."""
        self._call("Start", pb.StartRequest(id=self.id), pb.StartResponse)
        self._mark("Start")

    def state(self) -> None:
        """State."""
        self._call("State", pb.StateRequest(id=self.id), pb.StateResponse)
        self._mark("State")

    def execute(self) -> None:
        """Exec, Start, Wait and Delete of one more program."""
        spec = Any(type_url="types.containerd.io/opencontainers/runtime-spec/1/Process", value=_EXEC)
        self._call("Exec", pb.ExecProcessRequest(id=self.id, exec_id="e", spec=spec), Empty)
        self._call("Start", pb.StartRequest(id=self.id, exec_id="e"), pb.StartResponse)
        self._call("Wait", pb.WaitRequest(id=self.id, exec_id="e"), pb.WaitResponse)
        self._call("Delete", pb.DeleteRequest(id=self.id, exec_id="e"), pb.DeleteResponse)
        self._mark("exec")

    def kill(self) -> None:
        """Kill and Wait."""
        self._call("Kill", pb.KillRequest(id=self.id, signal=signal.SIGKILL), Empty)
        self.wait()
        self._mark("Kill, Wait")

    def wait(self) -> None:
        """Wait."""
        self._call("Wait", pb.WaitRequest(id=self.id), pb.WaitResponse)

    def shut_down(self) -> None:
        """Delete, and Shutdown until the shim has hung up, which is when containerd goes on."""
        self._delete()
        self.client.send(TASK, "Shutdown", pb.ShutdownRequest(id=self.id))
        self.client.drain()
        self._mark("Shutdown")

    def end(self) -> None:
        """``shut_down``, the end of the shim's process, and `delete`."""
        self.shut_down()
        self.await_end()
        self._mark("its end")
        self.remove()

    def leave(self) -> None:
        """Delete, Shutdown, which a shim that has other containers just answers, and `delete`."""
        self._delete()
        self._call("Shutdown", pb.ShutdownRequest(id=self.id), Empty)
        os.close(self._shim)
        self.remove()

    def vanish(self) -> float:
        """Delete, at once Shutdown, and hangs up at once; gives when the shim has ended (CLOCK_MONOTONIC)."""
        self._delete()
        self.client.send(TASK, "Shutdown", pb.ShutdownRequest(id=self.id))
        self.client.close()
        self.await_end()
        return time.monotonic()

    def remove(self) -> None:
        """Hangs up, and `delete`."""
        self.client.close()
        os.close(self._log)
        self._began = time.perf_counter()
        self._program("-bundle", str(self.bundle), "delete")
        self._mark("delete")

    def _delete(self) -> None:
        self._call("Delete", pb.DeleteRequest(id=self.id), pb.DeleteResponse)
        self._mark("Delete")

    def await_end(self) -> None:
        """Waits until the shim's process has ended; raises StuckShimError."""
        ready, _, _ = select.select([self._shim], [], [], _PATIENCE)
        os.close(self._shim)
        if not ready:
            raise StuckShimError(f"a shim of {self.place.candidate.name} has not ended after Shutdown")


def whole(milliseconds: dict[str, float]) -> float:
    """All steps together but exec, which not every container has."""
    return sum(time for step, time in milliseconds.items() if step != "exec")


def cycle(place: Place, *, executes: bool = True) -> dict[str, float]:
    """Every step once, in milliseconds."""
    one = place.container("/bin/sleep", "1000")
    one.launch()
    one.begin()
    one.state()
    if executes:
        one.execute()
    one.kill()
    one.end()
    return one.milliseconds
