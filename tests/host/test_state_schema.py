"""The state that is printed is the state of the specification, by its schema."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import ocirun_spec

from tests.host.bundles import Bundle
from tests.host.runtimes import Runtime

SCHEMA = Path(ocirun_spec.__file__).with_name("state-schema.json")
#: runtime.md#state names these and lets a runtime add others for statuses it adds; we add none.
STATUSES = {"creating", "created", "running", "stopped"}


def test_the_state_fits_its_schema_in_every_status(ocirun: Runtime, bundle: Bundle) -> None:
    schema = json.loads(SCHEMA.read_text())
    bundle.put({"org.example.key": "välue"}, "annotations")
    container = ocirun.create(bundle.sleeping())
    seen: list[str] = []
    for step in (container.start, container.kill, None):
        state = json.loads(ocirun.call("state", container.id).ok().stdout)
        jsonschema.validate(state, schema)
        assert state["annotations"] == {"org.example.key": "välue"}
        seen.append(state["status"])
        if step:
            step()
        if step == container.kill:
            container.wait()
    assert seen == ["created", "running", "stopped"]
    assert set(seen) <= STATUSES
