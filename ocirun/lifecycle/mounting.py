"""Adds mounts to a container that is there, or takes them away: all that were asked for, or none.

As with exec no lock is taken, for a mount may wait for a server while the container is to be deleted; and
nothing is written, for its mounts end with the container.  What was mounted before another one failed is
taken away again.
"""

from __future__ import annotations

from ocirun import host as facts
from ocirun.errors import ConfigError, OcirunError, StateError, StepError
from ocirun.executor.run import Execution, Observer, execute
from ocirun.files import read_file
from ocirun.lifecycle.exec import end_process, look_into, open_init
from ocirun.lifecycle.given import checked
from ocirun.lifecycle.undo import despite, ignore
from ocirun.plan.compile import compile_plan
from ocirun.planner.exec import ExecOptions
from ocirun.planner.mounting import plan_adding, plan_removing
from ocirun.planner.mounts import clean
from ocirun.waiting import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeAlias, TypeGuard

    from ocirun_spec.types import Config

    from ocirun.errors import Fault
    from ocirun.host import Host
    from ocirun.lifecycle.exec import Target
    from ocirun.lifecycle.store import Store
    from ocirun.plan.model import Plan, Step
    from ocirun.waiting import Task

    Warn: TypeAlias = Callable[[Fault], None]

#: Where the file would stand in a config.
_AT = "/mounts"
#: What a config says of the ids of a container.
_IDS = ("namespaces", "uidMappings", "gidMappings")
#: What refuses when a step has mounted, but not where it should (helper_mount.c).
_MOUNTED_ELSEWHERE = "check after mounting"


def add_mounts(
    store: Store, container: str, wanted: Sequence[object], name: str, warn: Warn = ignore
) -> Task[None]:
    """Mounts what ``wanted``, an array as ``mounts`` of a config, lists; errors call it ``name``.

    Raises ConfigError with every fault of it, StateError for a container that is not there or has stopped,
    HostError for what this caller cannot do, StepError for a mount the kernel refuses.  Whatever it raises,
    the container has the mounts that it had, and the mount points that were made stay.
    """
    target = look_into(store, container, "mount in")
    change = _Change(target, wanted, name, warn)
    planned = change.adding()
    before = {mount[0] for mount in _mounted(target)}
    try:
        yield from change.run(planned)
    except BaseException as error:
        made = _made(planned, error, change.config, [m for m in _mounted(target) if m[0] not in before])
        yield from despite(error, "taking mounts away again", change.take_back(made))
        _blame_the_end(target, error)
        raise


def remove_mounts(
    store: Store, container: str, wanted: Sequence[object], name: str, warn: Warn = ignore
) -> Task[None]:
    """Takes away what is mounted at the destinations that ``wanted`` lists, the last one first.

    Raises as ``add_mounts``; where one cannot be taken away, it is told when the others are gone.
    """
    target = look_into(store, container, "unmount in")
    change = _Change(target, [_place(mount) for mount in wanted], name, warn)
    yield from change.remove([*reversed(range(len(wanted)))])


def _place(mount: object) -> object:
    """``mount`` with nothing but its destination, and a type, which every entry has."""
    if not _is_object(mount):
        return mount
    return {"type": "none", **{name: mount[name] for name in mount if name == "destination"}}


def _is_object(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


class _Change:
    """Mounts of a container that are to come or to go: ``config`` is its frozen one with those alone."""

    __slots__ = ("_name", "_target", "_warn", "config")

    def __init__(self, target: Target, wanted: Sequence[object], name: str, warn: Warn) -> None:
        self._target = target
        self._name = name
        self._warn = warn
        try:
            # what of its ids a mapped mount takes where it has none of its own
            has = target.config.get("linux", {})
            linux = {member: value for member, value in has.items() if member in _IDS}
            listed = checked({"mounts": wanted, "linux": linux}, name).get("mounts", [])
        except ConfigError as error:
            raise self._placed(error) from None
        self.config = target.config.copy()
        self.config["mounts"] = listed

    def adding(self) -> Plan:
        """The plan that adds all of them; warnings are told."""
        try:
            planned = plan_adding(self.config, self._host(), _options(self._target))
        except OcirunError as error:
            raise self._placed(error) from None
        for fault in planned.warnings:
            fault.pointer = fault.pointer.removeprefix(_AT)
            self._warn(fault)
        return planned

    def take_back(self, places: Sequence[str]) -> Task[None]:
        """Takes away what was mounted at ``places``, as the kernel told them, as ``remove`` does."""
        self.config["mounts"] = [{"destination": place} for place in places]
        yield from self.remove([*range(len(places))][::-1], known=True)

    def remove(self, numbers: Sequence[int], *, known: bool = False) -> Task[None]:
        """Takes away every one of these that can be; the first error is raised in the end, and the others are
        its notes."""
        rest, refused = [*numbers], list[OcirunError]()
        while rest:
            try:
                planned = plan_removing(self.config, self._host(), _options(self._target), rest, known=known)
            except OcirunError as error:
                raise self._placed(error) from None
            try:
                yield from self.run(planned)
            except StepError as error:
                refused.append(error)
                stopped = planned.steps[error.step - 1]
                rest = rest[rest.index(_number(stopped)) + 1 :] if stopped.verb == "unmount" else []
            else:
                break
        if refused:
            for other in refused[1:]:
                refused[0].add_note(str(other))
            _blame_the_end(self._target, refused[0])
            raise refused[0]

    def run(self, planned: Plan) -> Task[None]:
        """Does the steps; the process inside has ended and is reaped, whether it has done them or not."""
        execution = Execution()
        try:
            yield from execute(compile_plan(planned), {"open_init": open_init}, Observer(), execution)
            yield Wait(reads=(execution.pidfd,))
        except BaseException as error:
            yield from despite(error, "ending the process", end_process(execution))
            if isinstance(error, OcirunError):
                self._placed(error)
            raise
        else:
            yield from end_process(execution)
        finally:
            execution.close()

    def _host(self) -> Host:
        return facts.gather_for(self.config, pid=self._target.pid)

    def _placed(self, error: OcirunError) -> OcirunError:
        """``error`` with the place in the file instead of that in a config."""
        if isinstance(error, ConfigError):
            for fault in error.faults:
                fault.pointer = fault.pointer.removeprefix(_AT)
            return ConfigError(error.faults, name=self._name, code=error.code)
        if error.pointer.startswith(_AT):
            error.pointer, error.document = error.pointer.removeprefix(_AT), self._name
        return error


def _options(target: Target) -> ExecOptions:
    options = ExecOptions(target.id, pid=target.pid, start=target.start, cgroup="")
    options.bundle = str(target.head["bundle"])
    options.no_cgroup = not target.cgroup
    host = facts.gather_for(target.config, pid=target.pid)
    if host.unprivileged:
        from ocirun.lifecycle.members import differing

        options.differing = differing(target.pid)
    return options


def _mounted(target: Target) -> Iterator[tuple[str, str, str]]:
    """The id of each mount in the container, that of the one it is on, and where it is
    (proc_pid_mountinfo(5)); nothing once it has ended."""
    try:
        text = read_file(f"/proc/{target.pid}/mountinfo").decode("utf-8", "surrogateescape")
    except OSError:
        return
    for line in text.splitlines():
        fields = line.split(" ")
        yield fields[0], fields[1], _unescaped(fields[4])


def _unescaped(path: str) -> str:
    for octal, sign in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(octal, sign)
    return path


def _made(
    planned: Plan, error: BaseException, config: Config, new: Sequence[tuple[str, str, str]]
) -> list[str]:
    """Where that of ``new`` is, in the order of its making, which was mounted when ``error`` came.

    The kernel is asked, for a link may lead a mount elsewhere than its destination says.  What the container
    mounts meanwhile is left alone, unless something went behind a link, or nobody knows how far it came: then
    it cannot be told apart.  What was mounted with another one, below it, goes with that.
    """
    points = {number: point for number, _, point in new}
    roots = [point for _, parent, point in new if points.get(parent, point) == point]
    if not isinstance(error, StepError) or error.operation == _MOUNTED_ELSEWHERE:
        return roots
    done = [step for step in planned.steps[: error.step - 1] if step.verb in ("mount", "attach")]
    places = {clean(config.get("mounts", [])[_number(step)]["destination"]) for step in done}
    return [point for point in roots if point in places] if places <= {*roots} else roots


def _number(step: Step) -> int:
    """N of /mounts/N."""
    return int(step.pointer.rpartition("/")[2])


def _blame_the_end(target: Target, error: BaseException) -> None:
    """Raises StateError where ``error`` came because the container has ended meanwhile."""
    if isinstance(error, OcirunError) and target.stopped:
        raise StateError("the container has stopped meanwhile", hint="its mounts ended with it") from error
