"""Update by the shim: rules of devices in one moment, and nothing of what cannot be done whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.protobuf.empty_pb2 import Empty
from ocirun_shim.messages import task_pb2 as pb

from tests.host import observe

if TYPE_CHECKING:
    from tests.host.bundles import Json
    from tests.host.serving import Serving, Task
    from tests.host.view import View

OTHER = (10, 229)
TRYING = "while true; do dd if=/dev/other count=0 2>&1 | grep -c permitted >/dev/shm/denied; sleep 0.01; done"


@pytest.fixture
def trying(served: Serving) -> Task:
    """A container that tries again and again to open a device, which its rules deny."""
    task = served.task()
    task.bundle.device("/dev/other", "c", *OTHER, 0o666).sh(TRYING).write()
    return task.shim().run()


def _request(task: Task, resources: Json) -> pb.UpdateTaskRequest:
    request = pb.UpdateTaskRequest(id=task.id)
    request.resources.value = json.dumps(resources).encode()
    return request


def _denied(task: Task) -> str:
    return observe.inside(task.state().pid, "/dev/shm/denied").read_text().strip()  # noqa: S108 - of the container


def test_rules_of_devices_change_in_a_running_container(trying: Task) -> None:
    observe.eventually(lambda: _denied(trying) == "1", "it is denied")
    rules: list[Json] = [{"allow": False, "access": "rwm"}]
    allowed: Json = {"allow": True, "type": "c", "major": OTHER[0], "minor": OTHER[1], "access": "rw"}
    trying.call("Update", _request(trying, {"devices": [*rules, allowed]}), Empty)
    observe.eventually(lambda: _denied(trying) == "0", "it is allowed")
    trying.call("Update", _request(trying, {"devices": rules}), Empty)
    observe.eventually(lambda: _denied(trying) == "1", "it is denied again")
    assert trying.end() == 137


def test_what_cannot_be_done_whole_is_not_done(served: Serving, view: View) -> None:
    task = served.running()
    where = view.cgroup2 / observe.cgroup(task.state().pid).lstrip("/")
    wanted: Json = {"unified": {"cgroup.max.depth": "7", "cgroup.nothing": "1"}}
    assert "cgroup.nothing" in task.refused("Update", _request(task, wanted))[1]
    assert Path(where / "cgroup.max.depth").read_text() == "max\n"
    task.end()
