"""The systemd driver: has systemd make the scope of a container, with its limits (org.freedesktop.systemd1).

A scope is a unit of processes that somebody else has started; it needs one from the beginning.  That is
stage, which systemd moves into the new cgroup, where it clones init and ends: so init is born in its cgroup,
as with the files driver.
"""

from __future__ import annotations

import os

from ocirun import gvariant
from ocirun.cgroup.bus import CallError, connect, system_addresses, user_addresses
from ocirun.errors import DriverError, HostError, words_of
from ocirun.files import read_file
from ocirun.full import full_interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import TypeGuard

    from ocirun.cgroup.bus import Bus
    from ocirun.waiting import Task

    #: The name of a property and its variant, as jeepney has it.
    Value = tuple[str, tuple[str, object]]

_NAME = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_MANAGER = (_PATH, _NAME, f"{_NAME}.Manager")
_PROPERTIES = "org.freedesktop.DBus.Properties"
#: JobRemoved(id, job, unit, result).
_JOB_REMOVED = ("JobRemoved", f"{_NAME}.Manager", "uoss")
_MATCH = f"type='signal',sender='{_NAME}',interface='{_NAME}.Manager',member='JobRemoved'"
#: What systemd says of a unit that is not there (any more), and of one that is there already.
_GONE, _EXISTS = f"{_NAME}.NoSuchUnit", f"{_NAME}.UnitExists"
_ERROR = "org.freedesktop.DBus.Error"
_POINTER = "/linux/cgroupsPath"
_ALL_IDS = ["0", "0", "4294967295"]


class Manager:
    """The systemd that manages units for us, the system's or that of a user, on one connection.

    ``root`` is the cgroup below which all its units are, "" for the root; ``version`` its version.
    """

    __slots__ = ("_bus", "root", "user", "version")

    def __init__(self, bus: Bus, *, user: bool) -> None:
        self._bus = bus
        self.user = user
        self.root = ""
        self.version = 0

    def close(self) -> None:
        """Closes the connection."""
        self._bus.close()

    def look(self) -> Task[None]:
        """Asks what the planner has to know; raises HostError for a systemd that is not of our world."""
        yield from self._check_same_pids()
        try:
            root = yield from self._get(_PATH, f"{_NAME}.Manager", "ControlGroup")
            version = yield from self._get(_PATH, f"{_NAME}.Manager", "Version")
        except CallError as error:
            raise HostError(
                f"no systemd answers on the bus of the {whose(user=self.user)}: {error}",
                hint="the systemd cgroup manager needs it; --cgroup-manager cgroupfs does without",
            ) from None
        self.root = str(root).rstrip("/")
        digits = str(version).split(" ")[0].partition(".")[0]
        self.version = int(digits) if digits.isdigit() else 0

    def _check_same_pids(self) -> Task[None]:
        """Our pids must be those of systemd: it would put somebody else into the scope, whom delete kills."""
        if self._bus.direct:
            same = self._bus.peer() == 1 or self.user
        else:
            told = yield from self._bus.ask_daemon("GetConnectionUnixProcessID", "s", (self._bus.name,))
            same = told == os.getpid()
        if not same:
            raise HostError(
                "systemd is in another pid namespace: it does not know our processes by their pids",
                hint="use the cgroupfs manager in a container",
            )

    def start_scope(self, unit: str, properties: Sequence[str], pid: int) -> Task[None]:
        """Makes the scope ``unit`` of the process ``pid``; ``properties`` are names and values in turn, these
        in the text format of GVariant.  Returns when systemd has done it.

        Raises DriverError; nothing of ours remains then, but for a systemd that does not answer.
        """
        values = [*encoded(properties), ("PIDs", ("au", [pid]))]
        try:
            yield from self._run_job(unit, "StartTransientUnit", "ssa(sv)a(sa(sv))", (values, []))
        except CallError as error:
            if error.name != _EXISTS:
                raise _refused(error, "make", unit, properties) from None
        else:
            return
        # one that has failed stays until somebody resets it, and then is gone
        yield from self.reset(unit)
        try:
            yield from self._run_job(unit, "StartTransientUnit", "ssa(sv)a(sa(sv))", (values, []))
        except CallError as error:
            raise _refused(error, "make", unit) from None

    def stop_scope(self, unit: str, description: str) -> Task[None]:
        """Stops a scope whose processes have ended, and forgets that it has failed; one that is gone, or is
        somebody else's by its ``description``, is left alone.  Raises DriverError."""
        try:
            answer = yield from self._bus.call(_MANAGER, "GetUnit", "s", (unit,))
            path = str(answer[0])
            if (yield from self._get(path, f"{_NAME}.Unit", "Description")) != description:
                return
            yield from self._run_job(unit, "StopUnit", "ss", ())
        except CallError as error:
            if error.name != _GONE and not error.name.endswith(".UnknownObject"):
                raise _refused(error, "stop", unit) from None
        yield from self.reset(unit)

    def attach(self, unit: str, inner: str, pid: int) -> Task[None]:
        """Moves the process ``pid`` into the cgroup of a unit, or ``inner`` below it; raises DriverError.

        A user's manager, which may no more than the user, asks that of the system for it.
        """
        below = f"/{inner}" if inner else ""
        try:
            yield from self._bus.call(_MANAGER, "AttachProcessesToUnit", "ssau", (unit, below, [pid]))
        except CallError as error:
            raise _refused(error, "enter", unit) from None

    def reset(self, unit: str) -> Task[None]:
        """Lets systemd forget a unit that has failed; one that has not is left alone (ResetFailedUnit)."""
        try:
            yield from self._bus.call(_MANAGER, "ResetFailedUnit", "s", (unit,))
        except CallError as error:
            if error.name != _GONE:
                raise _refused(error, "reset", unit) from None

    def set_properties(self, unit: str, properties: Sequence[str]) -> Task[None]:
        """Changes limits of a unit until it ends; returns when they are in the files.  Raises DriverError."""
        yield from self.set_values(unit, encoded(properties))

    def set_values(self, unit: str, values: Sequence[Value]) -> Task[None]:
        """As ``set_properties``, with values as D-Bus has them."""
        body = (unit, True, [*values])
        try:
            yield from self._bus.call(_MANAGER, "SetUnitProperties", "sba(sv)", body)
            # it writes before it reads the next message, and not before it answers this one
            yield from self._get(_PATH, f"{_NAME}.Manager", "Version")
        except CallError as error:
            raise _refused(error, "set properties of", unit) from None

    def values(self, unit: str, names: Collection[str]) -> Task[list[Value]]:
        """What brings those properties of a scope, by name, back to what they are now, for ``set_values``;
        one that this systemd does not tell is left out.  Raises DriverError."""
        try:
            answer = yield from self._bus.call(_MANAGER, "GetUnit", "s", (unit,))
            where = (str(answer[0]), _NAME, _PROPERTIES)
            answer = yield from self._bus.call(where, "GetAll", "s", (f"{_NAME}.Scope",))
        except CallError as error:
            raise _refused(error, "read properties of", unit) from None
        told = answer[0]
        assert _is_dictionary(told)
        found: list[Value] = []
        for name, value in told.items():
            if name not in names:
                continue
            if value[0].startswith("a("):  # entries are added to those that are there, unless there are none
                found.append((name, (value[0], [])))
            if value[1] or not value[0].startswith("a("):
                found.append((name, value))
        return found

    def _get(self, path: str, interface: str, name: str) -> Task[object]:
        answer = yield from self._bus.call((path, _NAME, _PROPERTIES), "Get", "ss", (interface, name))
        value = answer[0]
        assert _is_variant(value)
        return value[1]

    def _run_job(self, unit: str, method: str, signature: str, more: tuple[object, ...]) -> Task[None]:
        """Calls what makes a job of ``unit``, and waits for its end (JobRemoved); all within one deadline."""
        until = self._bus.deadline()
        yield from self._listen(until)
        answer = yield from self._bus.call(_MANAGER, method, signature, (unit, "replace", *more), until)
        job = answer[0]
        while True:
            removed = yield from self._bus.signal(f"the job of {method}", until)
            if removed[1] == job:
                break
        result = str(removed[3])
        if result != "done":
            raise DriverError(
                f"systemd did not {'start' if method.startswith('Start') else 'stop'} {unit}: {result}",
                operation=method,
                pointer=_POINTER,
                hint=f"`journalctl -u {unit}` tells why",
            )

    def _listen(self, until: float) -> Task[None]:
        """Asks the bus for the signals of jobs, before there is one; systemd itself sends them unasked."""
        if self._bus.keeps is not None:
            return
        owner = ""
        if not self._bus.direct:
            owner = str((yield from self._bus.ask_daemon("GetNameOwner", "s", (_NAME,), until)))
            yield from self._bus.ask_daemon("AddMatch", "s", (_MATCH,), until)
        self._bus.keeps = (*_JOB_REMOVED, owner)


def manager(*, user: bool | None = None, environment: Mapping[str, str] | None = None) -> Task[Manager]:
    """Connects to systemd: the user's manager for whoever is not root of the host, unless ``user`` says.

    Raises HostError where there is none, DriverError for one that does not answer.
    """
    _load()
    whose_manager = is_rootless() if user is None else user
    known = os.environ if environment is None else environment
    addresses = user_addresses(known) if whose_manager else system_addresses(known)
    bus = yield from connect(addresses, whose(user=whose_manager), _HINTS[whose_manager])
    found = Manager(bus, user=whose_manager)
    try:
        yield from found.look()
    except BaseException:
        found.close()
        raise
    return found


_HINTS = {
    False: "is systemd process 1 here? --cgroup-manager cgroupfs does without",
    True: "set XDG_RUNTIME_DIR, as a login does (`loginctl enable-linger` keeps the user's manager), or use "
    "--cgroup-manager cgroupfs",
}


def whose(*, user: bool) -> str:
    """Which manager, in words."""
    return "user's manager" if user else "system"


def is_rootless() -> bool:
    """Whether we are not root, or that of a user namespace: then the system's manager does not obey us."""
    if os.geteuid() != 0:
        return True
    return read_file("/proc/self/uid_map").decode().split() != _ALL_IDS


def _load() -> None:
    """Jeepney lies in site-packages, which hot commands do without."""
    try:
        try:
            __import__("jeepney")
        except ImportError:
            full_interpreter()
            __import__("jeepney")
    except ImportError as error:
        raise HostError(
            f"the systemd cgroup manager needs the package jeepney: {error}",
            hint="pip install jeepney, or python3-jeepney of the distribution",
        ) from error


def encoded(properties: Sequence[str]) -> list[Value]:
    """Names and texts in turn as what D-Bus takes."""
    return [(properties[at], gvariant.parse(properties[at + 1])) for at in range(0, len(properties), 2)]


def _is_variant(value: object) -> TypeGuard[tuple[str, object]]:
    """A variant as jeepney has it: its signature and its value."""
    return isinstance(value, tuple)


def _is_dictionary(value: object) -> TypeGuard[dict[str, tuple[str, object]]]:
    """Names and their variants."""
    return isinstance(value, dict)


def check_place(pid: int, path: str) -> None:
    """Raises DriverError unless the kernel has ``pid`` in the cgroup ``path``: only what is there counts."""
    try:
        told = read_file(f"/proc/{pid}/cgroup").decode("utf-8", "surrogateescape")
    except OSError as error:
        raise DriverError(
            f"read /proc/{pid}/cgroup: {words_of(error.errno or 0)}", errno=error.errno or 0
        ) from error
    place = next((line[3:] for line in told.splitlines() if line.startswith("0::")), "")
    if place != path:
        raise DriverError(
            f"systemd says that it is done, but our process is in {place}, not in {path}",
            path=path,
            pointer=_POINTER,
            hint="a user's manager can move only processes below user@UID.service: "
            "`systemd-run --user --scope` starts a shell there",
        )


def _refused(error: CallError, doing: str, unit: str, properties: Sequence[str] = ()) -> DriverError:
    """The error as ours; where systemd names a property that no member asks for, an annotation did."""
    hints = {
        _EXISTS: "another container has it: give each a cgroupsPath of its own",
        f"{_ERROR}.AccessDenied": "only root may ask the system's manager",
        f"{_ERROR}.InteractiveAuthorizationRequired": "only root may ask the system's manager",
        f"{_ERROR}.PropertyReadOnly": "this version of systemd has no such property of a scope",
    }
    return DriverError(
        f"{doing} the scope {unit}: {error.text or error.name}",
        operation=error.name,
        pointer=_pointer(error, properties),
        hint=hints.get(error.name, f"`systemctl status {unit}` and `journalctl -b` tell more"),
    )


def _pointer(error: CallError, properties: Sequence[str]) -> str:
    words = {word.strip(",.:'\"") for word in error.text.split()}
    for name in properties[::2]:
        if name in words:
            return f"/annotations/org.systemd.property.{name}"
    return _POINTER
