"""What create writes into the journal as it goes on, and its head."""

from __future__ import annotations

import posix as os
import time

from ocirun import journal, paths
from ocirun.errors import Fault
from ocirun.executor.run import Observer
from ocirun.lifecycle.frozen import checksum
from ocirun.lifecycle.process import look, pid_namespace
from ocirun.plan.steps import VERBS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun_spec.types import Linux

    from ocirun.config import Document
    from ocirun.plan.model import Plan, Step


class Recorder(Observer):
    """Writes the journal as the executor goes on; tells ``warn`` what the helper could not do."""

    __slots__ = ("_document", "_plan", "_warn", "_writer")

    def __init__(
        self, writer: journal.Writer, planned: Plan, document: Document, warn: Callable[[Fault], None]
    ) -> None:
        self._writer = writer
        self._plan = planned
        self._document = document
        self._warn = warn

    def before(self, index: int, step: Step) -> None:
        """The trace that the step is about to leave."""
        undo_verb = VERBS[step.verb][3]
        if undo_verb:
            self._writer.trace(journal.Trace(index, undo_verb, step.args))

    def born(self, pid: int) -> None:
        """Pid and start time of init, which is in the user namespace that it joins; raises ConfigError for
        mappings that this has not."""
        process = look(pid)
        self._writer.write({"born": pid, "start": process.start if process else ""})
        linux = self._document.config.get("linux", {})
        if _joins_users(linux) and ("uidMappings" in linux or "gidMappings" in linux):
            from ocirun.lifecycle.joined import check_mappings

            check_mappings(linux, pid)

    def warning(self, step: int, text: str) -> None:
        """As a fault at the member of the config that asked for the step."""
        pointer = self._plan.steps[step - 1].pointer if 0 < step <= len(self._plan.steps) else ""
        fault = Fault(pointer, text)
        self._document.locate(fault)
        self._warn(fault)


def _joins_users(linux: Linux) -> bool:
    return any(one["type"] == "user" and one.get("path") for one in linux.get("namespaces", ()))


def head(container: str, document: Document, bundle: str) -> dict[str, object]:
    """The first line of the journal of ``container``."""
    config = document.config
    root = config.get("root", {"path": ""})["path"]
    process = config.get("process")
    hooks = config.get("hooks", {})
    return {
        "version": journal.VERSION,
        "id": container,
        "bundle": bundle,
        "rootfs": paths.normal(paths.join(bundle, root)),
        "created": _now(),
        "owner": "root" if os.geteuid() == 0 else str(os.geteuid()),
        "pids": pid_namespace(),
        "program": process["args"][0] if process and process.get("args") else "",
        "annotations": config.get("annotations", {}),
        "config": checksum(document.source),
        #: the kinds there are, so that nobody reads the config to learn that there are none
        "hooks": [kind for kind, listed in hooks.items() if listed],
    }


def _now() -> str:
    """The time as RFC 3339 with nanoseconds, UTC."""
    seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanos:09d}Z"
