"""Changes the limits of a container: a planner's settings, written to the files of its cgroup."""

from __future__ import annotations

from ocirun import host as facts
from ocirun.cgroup import resctrl
from ocirun.cgroup.restoring import Before
from ocirun.cgroup.settings import set_cgroup
from ocirun.errors import Fault
from ocirun.executor.run import Execution, Observer, execute
from ocirun.files import is_there
from ocirun.lifecycle.frozen import frozen
from ocirun.lifecycle.given import checked
from ocirun.lifecycle.present import Present, check_use, completed, contradictions
from ocirun.lifecycle.process import not_running
from ocirun.lifecycle.state import CREATED, PAUSED, RUNNING, State, entries_of
from ocirun.lifecycle.undo import despite, ignore
from ocirun.plan import steps
from ocirun.plan.compile import compile_plan
from ocirun.plan.model import LIFECYCLE, Plan
from ocirun.planner import devices
from ocirun.planner import resources as limits
from ocirun.planner.draft import Draft, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ocirun.cgroup.systemd import Value
    from ocirun.journal import Journal
    from ocirun.lifecycle.store import Store
    from ocirun.plan.model import Step
    from ocirun.waiting import Task


def update(
    store: Store,
    container: str,
    wanted: Mapping[str, object],
    name: str = "the new limits",
    warn: Callable[[Fault], None] = ignore,
    *,
    intel_rdt: Mapping[str, str] | None = None,
) -> Task[None]:
    """Sets the limits that ``wanted``, a Resources object from outside, asks for; others stay as they are.

    ``name`` is what errors call it.  Rules of devices take the place of those that the container has, in one
    moment; none leave them.  ``intel_rdt`` has l3CacheSchema, memBwSchema or both for the container's own
    class of service.
    Everything is checked before anything is written, and where the kernel refuses a limit, those before it
    are taken back.  All of it is done under the lock of the container: of two at once one would take back
    what the other has set.
    Raises ConfigError with every fault, HostError for a controller that is not there, StateError for a
    container that has stopped, DriverError and StepError for what the kernel refuses.
    """
    lock = yield from store.lock(container)
    try:
        yield from _update(store, container, wanted, name, warn, intel_rdt or {})
    finally:
        lock.close()


def _update(
    store: Store,
    container: str,
    wanted: Mapping[str, object],
    name: str,
    warn: Callable[[Fault], None],
    intel_rdt: Mapping[str, str],
) -> Task[None]:
    entries = entries_of(store, container)
    if State(container, entries).status not in (CREATED, RUNNING, PAUSED):
        raise not_running()
    where = entries.cgroup
    if not where and (wanted or not intel_rdt):
        from ocirun.lifecycle.members import without_cgroup

        raise without_cgroup("limit")
    kept = frozen(store.directory(container), entries)
    present = Present(where, kept)
    config = checked(
        {"linux": {"resources": completed(wanted, present), "intelRdt": {**intel_rdt}}},
        name,
    )
    if not where:
        from ocirun.lifecycle.resctrl_steps import own_class

        resctrl.rewrite(own_class(container, kept, intel_rdt))
        return
    resources = config.get("linux", {}).get("resources", {})
    draft = Draft(config, facts.gather(), Options(container, bundle="/", state_directory="/"))
    contradictions(draft, resources, present)
    planned = limits.limit(draft, where)
    rules = devices.allow(draft) if resources.get("devices") else ()
    draft.check_texts(planned)
    draft.settle()
    check_use(resources, present)
    for fault in draft.warnings:
        warn(fault)
    if not intel_rdt:
        yield from _apply(container, entries, planned, rules, draft)
        return
    from ocirun.lifecycle.resctrl_steps import own_class

    own = own_class(container, kept, intel_rdt)
    before = resctrl.rewrite(own)
    try:
        yield from _apply(container, entries, planned, rules, draft)
    except BaseException as error:
        resctrl.write_back(own, before, error)
        raise


def _apply(
    container: str, entries: Journal, planned: Sequence[Step], rules: Sequence[Step], draft: Draft
) -> Task[None]:
    before = Before()
    known: list[Value] = []
    try:
        _write(planned, before.note)
        if entries.scope is not None:
            from ocirun.lifecycle.systemd import update_scope

            writes = _writes(planned, entries.cgroup)
            yield from update_scope(entries.scope, writes, draft if rules else None, known)
            _write(planned, None)  # systemd has written what it can say of them
        if rules:  # the last of all: nobody can read the program that was there, so as to put it back
            opened = steps.open_cgroup(path=entries.home, cgroup="cgroup", pointer="", why=LIFECYCLE)
            program = compile_plan(Plan(container, [opened, *rules]))
            yield from execute(program, {}, Observer(), Execution())
    except BaseException as error:
        if not is_there(entries.cgroup):
            raise not_running() from error
        refused = before.restore()
        if entries.scope is not None and known:
            from ocirun.lifecycle.systemd import restore_scope

            yield from despite(
                error, "telling systemd the limits before", restore_scope(entries.scope, known)
            )
            refused = before.restore()  # systemd has written what it can say of them
        if refused:
            error.add_note(f"not as before: {', '.join(refused)}")
        raise


def _write(planned: Sequence[Step], note: Callable[[str, str], None] | None) -> None:
    for step in planned:
        path, writes, needed = step.args
        assert isinstance(writes, tuple)
        words = [str(word) for word in writes]
        set_cgroup(str(path), words, needed=bool(needed), pointer=step.pointer, note=note)


def _writes(planned: Sequence[Step], where: str) -> list[list[str]]:
    """Files of the cgroup itself and their values."""
    found: list[list[str]] = []
    for step in planned:
        path, writes, _ = step.args
        if path == where and isinstance(writes, tuple):
            found.append([str(word) for word in writes])
    return found
