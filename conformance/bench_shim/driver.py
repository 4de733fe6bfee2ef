"""One container from `start` to `delete`, as containerd drives it: programs and calls, each step timed."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty
from ocirun_shim.messages import task_pb2 as pb

from conformance.bench_shim.candidates import write_bundle
from conformance.ttrpc import Client

if TYPE_CHECKING:
    from pathlib import Path

    from google.protobuf.message import Message

    from conformance.bench_shim.candidates import Candidate

NAMESPACE = "bench"
TASK = "containerd.task.v3.Task"
_EXEC = b'{"cwd": "/", "args": ["/bin/true"], "user": {"uid": 0, "gid": 0}}'
_numbers = itertools.count(1)


class Place:
    """Where the bench works: a directory of bundles, a root file system, containerd's sockets."""

    def __init__(self, top: Path, candidate: Candidate) -> None:
        self.top = top
        self.candidate = candidate
        self.rootfs = top / "rootfs"
        self.ttrpc = top / "events.sock"

    def environment(self) -> dict[str, str]:
        """The variables of the shim's programs."""
        return {**os.environ, "TTRPC_ADDRESS": str(self.ttrpc), "NAMESPACE": NAMESPACE}

    def container(self, *args: str) -> Driven:
        """A new container that will run ``args``."""
        ident = f"c{next(_numbers)}"
        bundle = self.top / f"bench{os.getpid()}" / ident
        write_bundle(bundle, self.rootfs, *args)
        os.mkfifo(bundle / "log")
        return Driven(self, ident, bundle)


class Driven:
    """One container; ``milliseconds`` has each step by its name, in their order."""

    def __init__(self, place: Place, ident: str, bundle: Path) -> None:
        self.place = place
        self.id = ident
        self.bundle = bundle
        self.milliseconds: dict[str, float] = {}
        self.pid = 0
        self._log = os.open(bundle / "log", os.O_RDWR | os.O_NONBLOCK)  # a shim waits for its reader
        self._client: Client | None = None
        self._began = time.perf_counter()

    def _mark(self, step: str) -> None:
        now = time.perf_counter()
        self.milliseconds[step] = (now - self._began) * 1000
        self._began = now

    def _program(self, *words: str) -> bytes:
        command = (
            str(self.place.candidate.program), "-namespace", NAMESPACE, "-address", "/run/containerd.sock",
            "-publish-binary", "/nowhere", "-id", self.id, *words,
        )  # fmt: skip
        done = subprocess.run(
            command, cwd=self.bundle, env=self.place.environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, check=True, timeout=60,
        )  # fmt: skip
        return done.stdout

    def _call(self, method: str, request: Message, response: type[Message]) -> Message:
        assert self._client is not None
        return self._client.call(TASK, method, request, response)

    def launch(self) -> None:
        """`start`, and Create."""
        self._began = time.perf_counter()
        answer = self._program("start")
        self._mark("start")
        address = json.loads(answer)["address"] if answer.startswith(b"{") else answer.decode()
        self._client = Client(address.removeprefix("unix://"), timeout=60)
        options = self.place.candidate.options()
        request = pb.CreateTaskRequest(id=self.id, bundle=str(self.bundle), options=options)
        created = self._client.call(TASK, "Create", request, pb.CreateTaskResponse)
        self.pid = created.pid
        self._mark("Create")

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

    def end(self) -> None:
        """Delete, Shutdown until the shim has hung up, and `delete`."""
        self._call("Delete", pb.DeleteRequest(id=self.id), pb.DeleteResponse)
        self._mark("Delete")
        assert self._client is not None
        self._client.send(TASK, "Shutdown", pb.ShutdownRequest(id=self.id, now=True))
        self._client.drain()
        self._client.close()
        os.close(self._log)
        self._mark("Shutdown")
        self._program("-bundle", str(self.bundle), "delete")
        self._mark("delete")

    def end_abruptly(self) -> None:
        """Delete, and at once Shutdown, whose answer nobody waits for."""
        assert self._client is not None
        self._call("Delete", pb.DeleteRequest(id=self.id), pb.DeleteResponse)
        self._client.send(TASK, "Shutdown", pb.ShutdownRequest(id=self.id, now=True))
        self._client.drain()
        self._client.close()
        os.close(self._log)


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
