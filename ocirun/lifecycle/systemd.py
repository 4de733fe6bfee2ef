"""Scopes of systemd in the life of a container: made at create, stopped at its end."""

from __future__ import annotations

import os

from ocirun import gvariant, paths
from ocirun.cgroup.files import own
from ocirun.cgroup.systemd import check_place, manager
from ocirun.errors import DriverError, Fault, HostError
from ocirun.files import read_file
from ocirun.host import cgroup2
from ocirun.planner import scope_limits
from ocirun.planner.draft import Systemd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ocirun import journal
    from ocirun.cgroup.systemd import Manager, Value
    from ocirun.executor.run import Execution, Performer
    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft
    from ocirun.waiting import Task


def facts(connected: Manager) -> Systemd:
    """What the planner has to know of it."""
    mount, _ = cgroup2()
    try:
        told = read_file(f"{mount}{connected.root}/cgroup.controllers").decode()
    except OSError:  # no cgroup2: the planner tells
        told = ""
    return Systemd(
        user=connected.user, root=connected.root, version=connected.version,
        controllers=frozenset(told.split()),
    )  # fmt: skip


def look() -> Task[Systemd]:
    """As ``facts``, of the systemd that would make a cgroup now; raises HostError, DriverError."""
    connected = yield from manager()
    connected.close()
    return facts(connected)


def scope_performer(
    connected: Manager, writer: journal.Writer, execution: Execution, directory: str
) -> Performer:
    """Does the step make_scope: the scope of stage, owned by the container of this state ``directory``."""

    def make(step: Step, slots: dict[str, int]) -> Task[None]:
        del slots
        mount, path, inner, unit, _, properties = step.args
        assert isinstance(properties, tuple)
        yield from connected.start_scope(str(unit), [str(word) for word in properties], execution.stage)
        check_place(execution.stage, str(path))
        where = f"{mount!s}{path!s}"
        note = own(where, directory)
        if inner:
            os.makedirs(paths.join(where, str(inner)), exist_ok=True)
        writer.write({"cgroups_made": 1, "note": note})

    return make


def join_performer(execution: Execution, path: str) -> Performer:
    """Does the step join_scope: has the manager of the scope move stage into the cgroup ``path``, which is
    that of the scope or below it; raises DriverError where the kernel then has stage elsewhere."""

    def join(step: Step, slots: dict[str, int]) -> Task[None]:
        del slots
        unit, user, inner = step.args
        connected = yield from manager(user=bool(user))
        try:
            yield from connected.attach(str(unit), str(inner), execution.stage)
        finally:
            connected.close()
        check_place(execution.stage, path)

    return join


def stop_arguments(trace: journal.Trace) -> tuple[str, int, str]:
    """The unit of a scope, whether it is of a user's manager, and its description, from the journal."""
    properties = trace.args[5]
    words = [str(word) for word in properties] if isinstance(properties, (list, tuple)) else []
    told = dict(zip(words[::2], words[1::2], strict=False)).get("Description", "")
    try:
        description = str(gvariant.parse(told)[1])
    except ValueError:  # damaged: no unit has that, so that none is touched
        description = ""
    return str(trace.args[3]), int(str(trace.args[4])), description


def stop_performer(*, lenient: bool, warn: Callable[[Fault], None]) -> Performer:
    """Does the step stop_scope; ``lenient`` goes on where systemd does not answer, and warns."""

    def stop(step: Step, slots: dict[str, int]) -> Task[None]:
        del slots
        unit, user, description = step.args
        try:
            yield from _stop(str(unit), bool(user), str(description))
        except (HostError, DriverError) as error:
            if not lenient:
                raise
            warn(Fault("/linux/cgroupsPath", f"the scope {unit!s} is not known to be gone: {error.message}"))

    return stop


def _stop(unit: str, user: bool, description: str) -> Task[None]:
    connected = yield from manager(user=user)
    try:
        yield from connected.stop_scope(unit, description)
    finally:
        connected.close()


def forget(trace: journal.Trace) -> Task[None]:
    """Stops a scope of which nobody knows whether it was made: stage, which alone can be in it, has ended.

    What systemd answers does not matter: an empty scope goes by itself.
    """
    unit, user, description = stop_arguments(trace)
    try:
        yield from _stop(unit, bool(user), description)
    except (HostError, DriverError):
        return


def update_scope(
    trace: journal.Trace, writes: Sequence[Sequence[str]], draft: Draft | None, before: list[Value]
) -> Task[None]:
    """Tells systemd the new limits of a running container, as what is written into files, and the rules of
    devices in ``draft``; returns when it has obeyed.  ``before`` gets what was so, for ``restore_scope``.
    Raises HostError, DriverError."""
    unit, user, _ = stop_arguments(trace)
    connected = yield from manager(user=bool(user))
    try:
        properties = scope_limits.of_writes(writes, connected.version)
        words = [word for pair in properties.items() for word in pair]
        if draft is not None and not user:
            # an empty list takes away what is there
            words += ["DeviceAllow", "@a(ss) []"]
            words += [word for pair in scope_limits.of_devices(draft).items() for word in pair]
        if words:
            before += yield from connected.values(unit, words[::2])
            yield from connected.set_properties(unit, words)
    finally:
        connected.close()


def restore_scope(trace: journal.Trace, before: Sequence[Value]) -> Task[None]:
    """Tells systemd the limits once more that the container had before ``update_scope``; raises as that."""
    unit, user, _ = stop_arguments(trace)
    connected = yield from manager(user=bool(user))
    try:
        yield from connected.set_values(unit, before)
    finally:
        connected.close()
