"""The agent that decides for a seccomp filter: it gets the listener with the state of the process.

The structure is that of config-linux.md, The Container Process State; each process has a connection of its
own.
"""

from __future__ import annotations

import posix as os

from ocirun import SPEC_VERSION, journal, paths
from ocirun.executor.listener import slept, unanswered
from ocirun.jsontext import dumps
from ocirun.lifecycle.console import send_descriptor
from ocirun.lifecycle.frozen import frozen
from ocirun.lifecycle.hooks import state_for
from ocirun.planner.seccomp import PLUGINS_POINTER, may_ask, receiver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ocirun.plan.model import Step
    from ocirun.waiting import Task


def send_listener(
    step: Step,
    slots: dict[str, int],
    pid: int,
    head: Mapping[str, object],
    status: str,
    *,
    directory: str,
    init: int = 0,
) -> Task[None]:
    """Does the step send_listener for the process ``pid``, and closes our copy of the descriptor: with the
    agent gone nobody shall wait for its answer.

    ``head`` is that of the journal of its container in the state ``directory``, which has this ``status`` and
    this ``init``, 0 where the process is the init itself.  Raises HostError when the agent does not take it.
    """
    slot, path, metadata = map(str, step.args)
    listener = slots.pop(slot)
    try:
        if step.pointer == PLUGINS_POINTER:
            from ocirun.lifecycle.plugins import hand_on

            about = (directory, str(head["id"]), str(head["bundle"]), paths.join(directory, "config.json"))
            yield from hand_on(listener, path, about, step.pointer)
            return
        data = dumps(process_state(pid, metadata, state_for(head, status, init or pid))).encode()
        path = paths.join(str(head["bundle"]), path)
        yield from send_descriptor(path, listener, data, "the seccomp listener to the agent", step.pointer)
    finally:
        os.close(listener)


def check_agent(directory: str, before: bytes) -> bytes:
    """Raises HostError where init waits for the agent of its filter as it did at the look ``before``, and
    gives this look.  A hook inside, for which init waits, may take the time that it is given.

    ``directory`` is the state of a container that is being started.
    """
    entries = journal.read(directory)
    config = frozen(directory, entries)
    if not may_ask(config):
        return b""
    now = slept(entries.pid)
    if now and now == before:
        raise unanswered(*receiver(config))
    return now


def process_state(pid: int, metadata: str, state: Mapping[str, object]) -> dict[str, object]:
    """The container process state (config-linux.md)."""
    members: dict[str, object] = {"ociVersion": SPEC_VERSION, "fds": ["seccompFd"], "pid": pid}
    if metadata:
        members["metadata"] = metadata
    return {**members, "state": state}
