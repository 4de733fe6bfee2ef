"""What the systemd driver says on D-Bus, and what it makes of the answers, before a bus of our own."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from jeepney import (
    DBusAddress,
    HeaderFields,
    MessageType,
    Parser,
    new_error,
    new_method_return,
    new_signal,
)

from ocirun.cgroup import bus as under_test
from ocirun.cgroup.bus import paths_of, system_addresses, user_addresses
from ocirun.cgroup.systemd import check_place, manager
from ocirun.errors import DriverError, HostError
from ocirun.executor.run import Execution
from ocirun.lifecycle.systemd import join_performer
from ocirun.plan.model import Step
from ocirun.waiting import Wait, drive, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from jeepney import Message

    from ocirun.cgroup.systemd import Manager

GONE, EXISTS = "org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.systemd1.UnitExists"
SYSTEMD, STRANGER = ":1.0", ":1.9"
MANAGER = "org.freedesktop.systemd1.Manager"
JOB = "/org/freedesktop/systemd1/job/7"
UNIT_PATH = "/org/freedesktop/systemd1/unit/a_2escope"


def _signal(
    member: str, signature: str, body: tuple[object, ...], *, sender: str = SYSTEMD, interface: str = MANAGER
) -> Message:
    """A signal; jeepney's own constructor needs the object that emits it."""
    where = DBusAddress("/org/freedesktop/systemd1", interface=interface)
    message = new_signal(where, member, signature, body)
    message.header.fields[HeaderFields.sender] = sender
    return message


def _silence(call: Message) -> Iterable[Message]:
    del call
    return []


class Fake:
    """A bus with a systemd on it, for one connection; ``answers`` gives for a method what is sent back."""

    def __init__(self, path: Path) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        #: The methods that were answered, or not, so that nothing more comes unless it is asked again.
        self.answered: list[str] = []
        self.answers: dict[str, Callable[[Message], Iterable[Message]]] = {
            "Hello": lambda call: [new_method_return(call, "s", (":1.5",))],
            "GetConnectionUnixProcessID": lambda call: [new_method_return(call, "u", (os.getpid(),))],
            "GetNameOwner": lambda call: [new_method_return(call, "s", (SYSTEMD,))],
            "AddMatch": lambda call: [new_method_return(call)],
            "Get": self._get,
            "GetUnit": lambda call: [new_method_return(call, "o", (UNIT_PATH,))],
            "ResetFailedUnit": lambda call: [new_error(call, GONE, "s", ("not loaded",))],
            "SetUnitProperties": lambda call: [new_method_return(call)],
            "StartTransientUnit": self.job("done"),
            "StopUnit": self.job("done"),
        }
        self.greeting = b"DATA\r\nOK 0123456789abcdef\r\n"
        self.properties = {"ControlGroup": "", "Version": "257.13-1~deb13u1", "Description": "mine"}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def job(self, result: str) -> Callable[[Message], list[Message]]:
        """A method that makes a job: another's ends first, then it answers, then it ends."""

        def answer(call: Message) -> list[Message]:
            removed = (
                ("uoss", (6, "/job/6", "other.scope", "failed")),
                ("uoss", (7, JOB, call.body[0], result)),
            )
            return [
                _signal("JobRemoved", *removed[0]),
                new_method_return(call, "o", (JOB,)),
                _signal("JobRemoved", *removed[1]),
            ]

        return answer

    def _get(self, call: Message) -> list[Message]:
        return [new_method_return(call, "v", (("s", self.properties[str(call.body[1])]),))]

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            said = b""
            while b"BEGIN\r\n" not in said:
                said += connection.recv(4096)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may go at any time
                connection.sendall(self.greeting)
                self._talk(connection, said.partition(b"BEGIN\r\n")[2])

    def _talk(self, connection: socket.socket, rest: bytes) -> None:
        parser, serial = Parser(), 0
        parser.add_data(rest)
        while True:
            while (call := parser.get_next_message()) is not None:
                assert call.header.message_type is MessageType.method_call
                name = str(call.header.fields[HeaderFields.member])
                self.calls.append((name, call.body))
                for answer in self.answers.get(name, _silence)(call):
                    serial += 1
                    connection.sendall(answer.serialise(serial))
                self.answered.append(name)
            data = connection.recv(65536)
            if not data:
                return
            parser.add_data(data)

    def silent_after(self, method: str) -> Callable[[Wait], tuple[int, ...]]:
        """Waits for what is said, and lets the time pass at once when that method was the last of it."""

        def waiter(what: Wait) -> tuple[int, ...]:
            while True:
                silent = method in self.answered
                ready = wait(Wait(what.reads, what.writes, time.monotonic()))
                if ready or silent:
                    return ready
                time.sleep(0.005)

        return waiter

    def close(self) -> None:
        """Waits until the connection has ended."""
        self._thread.join(60)
        self._listener.close()


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Fake]:
    server = Fake(tmp_path / "bus")
    yield server
    with socket.socket(socket.AF_UNIX) as last:  # for a test in which nobody has come
        last.connect(str(tmp_path / "bus"))
        last.sendall(b"BEGIN\r\n")
    server.close()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={tmp_path}/bus"}


@pytest.fixture
def connected(fake: Fake, environment: dict[str, str]) -> Iterator[Manager]:
    found = drive(manager(user=False, environment=environment))
    yield found
    found.close()


def test_the_manager_tells_its_cgroup_and_its_version(fake: Fake, environment: dict[str, str]) -> None:
    fake.properties["ControlGroup"] = "/user.slice/"
    found = drive(manager(user=False, environment=environment))
    found.close()
    assert (found.root, found.version) == ("/user.slice", 257)


def test_a_scope_is_started_with_its_process_and_its_job_is_waited_for(
    fake: Fake, connected: Manager
) -> None:
    drive(connected.start_scope("a.scope", ["Delegate", "true", "TasksMax", "uint64 5"], 4711))
    body = dict(fake.calls)["StartTransientUnit"]
    assert body == (
        "a.scope",
        "replace",
        [("Delegate", ("b", True)), ("TasksMax", ("t", 5)), ("PIDs", ("au", [4711]))],
        [],
    )
    names = [name for name, _ in fake.calls]
    assert names.index("AddMatch") < names.index("StartTransientUnit")


def test_a_failed_unit_of_that_name_is_reset_and_replaced(fake: Fake, connected: Manager) -> None:
    done = fake.answers["StartTransientUnit"]

    def refuse(call: Message) -> list[Message]:
        fake.answers["StartTransientUnit"] = done
        return [new_error(call, EXISTS, "s", ("Unit a.scope was already loaded",))]

    fake.answers["StartTransientUnit"] = refuse
    drive(connected.start_scope("a.scope", [], 1))
    names = [name for name, _ in fake.calls][-3:]
    assert names == ["StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"]


def test_a_unit_that_lives_is_somebody_elses(fake: Fake, connected: Manager) -> None:
    fake.answers["StartTransientUnit"] = lambda call: [new_error(call, EXISTS, "s", ("already loaded",))]
    with pytest.raises(DriverError, match=r"make the scope a\.scope: already loaded.*another container"):
        drive(connected.start_scope("a.scope", [], 1))


def test_a_job_that_fails_is_told(fake: Fake, connected: Manager) -> None:
    fake.answers["StartTransientUnit"] = fake.job("failed")
    with pytest.raises(DriverError, match=r"did not start a\.scope: failed .*journalctl -u a\.scope"):
        drive(connected.start_scope("a.scope", [], 1))


def test_a_property_that_systemd_does_not_know(fake: Fake, connected: Manager) -> None:
    name = "org.freedesktop.DBus.Error.PropertyReadOnly"
    text = "Cannot set property Nonsense, or unknown property."
    fake.answers["StartTransientUnit"] = lambda call: [new_error(call, name, "s", (text,))]
    with pytest.raises(DriverError, match="Nonsense") as caught:
        drive(connected.start_scope("a.scope", ["Nonsense", "true"], 1))
    assert caught.value.pointer == "/annotations/org.systemd.property.Nonsense"


def test_a_job_that_does_not_end_is_waited_for_so_long(fake: Fake, connected: Manager) -> None:
    fake.answers["StartTransientUnit"] = lambda call: [new_method_return(call, "o", (JOB,))]
    with pytest.raises(DriverError, match=r"systemd does not answer .*the job of StartTransientUnit"):
        drive(connected.start_scope("a.scope", [], 1), fake.silent_after("StartTransientUnit"))


def test_only_the_signals_of_systemd_count(fake: Fake, connected: Manager) -> None:
    """Anybody on the bus may send us one that looks like it."""
    failed = (7, JOB, "a.scope", "failed")

    def answer(call: Message) -> list[Message]:
        return [
            new_method_return(call, "o", (JOB,)),
            _signal("JobRemoved", "s", ("a",)),
            _signal("JobRemoved", "", ()),
            _signal("JobRemoved", "uoss", failed, sender=STRANGER),
            _signal("JobRemoved", "uoss", failed, interface="org.example.Manager"),
            _signal("UnitRemoved", "uoss", failed),
            _signal("JobRemoved", "uoss", (7, JOB, "a.scope", "done")),
        ]

    fake.answers["StartTransientUnit"] = answer
    drive(connected.start_scope("a.scope", [], 1))
    fake.answers["StartTransientUnit"] = fake.job("failed")
    with pytest.raises(DriverError, match=r"did not start a\.scope: failed"):
        drive(connected.start_scope("a.scope", [], 1))


class Clock:
    """The time of the driver, which passes when it is told to as well."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


@pytest.mark.parametrize("sender", [SYSTEMD, STRANGER])
def test_the_jobs_of_others_do_not_make_it_wait_longer(
    fake: Fake, connected: Manager, monkeypatch: pytest.MonkeyPatch, sender: str
) -> None:
    """The patience is over when three of them have been heard, and more keep coming."""
    sent_all: list[bool] = []
    heard: list[Message] = []
    clock = Clock()
    is_kept = under_test.Bus._is_kept

    def others(call: Message) -> Iterator[Message]:
        yield new_method_return(call, "o", (JOB,))
        for _ in range(1500):
            yield _signal("JobRemoved", "uoss", (6, "/job/6", "other.scope", "done"), sender=sender)
            time.sleep(0.02)
        sent_all.append(True)

    def hear(bus: under_test.Bus, message: Message) -> bool:
        heard.extend([message] if message.header.message_type is MessageType.signal else [])
        clock.ahead = under_test.PATIENCE + 1 if len(heard) > 2 else 0.0
        return is_kept(bus, message)

    monkeypatch.setattr(under_test.Bus, "_is_kept", hear)
    monkeypatch.setattr(under_test, "time", clock)
    fake.answers["StartTransientUnit"] = others
    with pytest.raises(DriverError, match=r"systemd does not answer .*the job of StartTransientUnit"):
        drive(connected.start_scope("a.scope", [], 1))
    assert not sent_all
    assert len(heard) < 10


@pytest.mark.parametrize("method", ["Hello", "Get"])
def test_a_systemd_that_does_not_answer(fake: Fake, environment: dict[str, str], method: str) -> None:
    del fake.answers[method]
    with pytest.raises(DriverError, match=rf"systemd does not answer .*\({method}\)"):
        drive(manager(user=False, environment=environment), fake.silent_after(method))


def test_a_scope_is_stopped_and_forgotten(fake: Fake, connected: Manager) -> None:
    drive(connected.stop_scope("a.scope", "mine"))
    assert [name for name, _ in fake.calls][-2:] == ["StopUnit", "ResetFailedUnit"]


def test_the_scope_of_another_is_left_alone(fake: Fake, connected: Manager) -> None:
    drive(connected.stop_scope("a.scope", "another's"))
    assert {"StopUnit", "ResetFailedUnit"}.isdisjoint(name for name, _ in fake.calls)


def test_a_scope_that_is_gone_is_stopped(fake: Fake, connected: Manager) -> None:
    fake.answers["GetUnit"] = lambda call: [new_error(call, GONE, "s", ("not loaded",))]
    drive(connected.stop_scope("a.scope", "mine"))
    fake.answers["GetUnit"] = lambda call: [
        new_error(call, "org.freedesktop.DBus.Error.Failed", "s", ("no",))
    ]
    with pytest.raises(DriverError, match=r"stop the scope a\.scope: no"):
        drive(connected.stop_scope("a.scope", "mine"))


def test_limits_are_changed_until_the_unit_ends(fake: Fake, connected: Manager) -> None:
    drive(connected.set_properties("a.scope", ["TasksMax", "uint64 9"]))
    assert fake.calls[-2] == ("SetUnitProperties", ("a.scope", True, [("TasksMax", ("t", 9))]))


def test_what_limits_were_before_is_said_as_it_was(fake: Fake, connected: Manager) -> None:
    """Entries of a list are added, so that it is emptied first."""
    told: dict[str, tuple[str, object]] = {
        "TasksMax": ("t", 5), "CPUWeight": ("t", 7), "DeviceAllow": ("a(ss)", [("/dev/null", "rw")]),
        "IODeviceWeight": ("a(st)", []),
    }  # fmt: skip
    fake.answers["GetAll"] = lambda call: [new_method_return(call, "a{sv}", (told,))]
    names = ("TasksMax", "DeviceAllow", "IODeviceWeight", "Unknown")
    before = drive(connected.values("a.scope", names))
    drive(connected.set_values("a.scope", before))
    expected: list[tuple[str, tuple[str, object]]] = [
        ("TasksMax", ("t", 5)),
        ("DeviceAllow", ("a(ss)", [])),
        ("DeviceAllow", ("a(ss)", [("/dev/null", "rw")])),
        ("IODeviceWeight", ("a(st)", [])),
    ]
    assert dict(fake.calls)["SetUnitProperties"] == ("a.scope", True, expected)


def test_a_process_that_was_not_moved_after_all_is_not_taken_for_one_of_the_scope(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be a process of the container outside its cgroup and its limits."""
    fake.answers["AttachProcessesToUnit"] = lambda call: [new_method_return(call)]
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/bus")
    execution = Execution()
    execution.stage = os.getpid()
    join = join_performer(execution, "/a.scope/inner")
    with pytest.raises(DriverError, match=r"our process is in .*, not in /a\.scope/inner"):
        drive(join(Step("join_scope", ("a.scope", 0, "inner"), ""), {}))
    assert dict(fake.calls)["AttachProcessesToUnit"] == ("a.scope", "/inner", [os.getpid()])


def test_a_systemd_that_numbers_processes_otherwise(fake: Fake, environment: dict[str, str]) -> None:
    """It would take somebody else for stage, and delete would kill him."""
    fake.answers["GetConnectionUnixProcessID"] = lambda call: [new_method_return(call, "u", (1,))]
    with pytest.raises(HostError, match="another pid namespace"):
        drive(manager(user=False, environment=environment))


def test_a_bus_without_systemd(fake: Fake, environment: dict[str, str]) -> None:
    name = "org.freedesktop.DBus.Error.ServiceUnknown"
    fake.answers["Get"] = lambda call: [new_error(call, name, "s", ("no such name",))]
    with pytest.raises(HostError, match=r"no systemd answers .*--cgroup-manager cgroupfs"):
        drive(manager(user=False, environment=environment))


def test_a_bus_that_refuses_us(fake: Fake, environment: dict[str, str]) -> None:
    fake.greeting = b"DATA\r\nREJECTED EXTERNAL\r\n"
    with pytest.raises(DriverError, match="does not let us in"):
        drive(manager(user=False, environment=environment))


def test_a_host_without_systemd(tmp_path: Path) -> None:
    environment = {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={tmp_path}/none"}
    with pytest.raises(HostError, match=r"no D-Bus of the system is there .*/none: No such file.*cgroupfs"):
        drive(manager(user=False, environment=environment))


def test_a_user_without_a_manager() -> None:
    with pytest.raises(HostError, match=r"user's manager is there \(no address is known\).*XDG_RUNTIME_DIR"):
        drive(manager(user=True, environment={}))


@pytest.mark.parametrize(
    ("address", "paths"),
    [
        ("unix:path=/run/bus", ["/run/bus"]),
        ("unix:path=/a%20b,guid=1;unix:abstract=/x", ["/a b", "\0/x"]),
        ("unix:path=/a%zz", ["/a%zz"]),
        ("tcp:host=a;autolaunch:", []),
    ],
)
def test_addresses(address: str, paths: list[str]) -> None:
    assert paths_of(address) == paths


def test_where_a_bus_is_looked_for() -> None:
    assert system_addresses({}) == [("/run/dbus/system_bus_socket", False), ("/run/systemd/private", True)]
    assert system_addresses({"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/a"}) == [("/a", False)]
    assert user_addresses({"XDG_RUNTIME_DIR": "/run/user/1"}) == [
        ("/run/user/1/bus", False),
        ("/run/user/1/systemd/private", True),
    ]
    both = {"XDG_RUNTIME_DIR": "/run/user/1", "DBUS_SESSION_BUS_ADDRESS": "unix:path=/a"}
    assert user_addresses(both) == [("/a", False)]


def test_the_kernel_has_the_last_word() -> None:
    with pytest.raises(DriverError, match=r"our process is in .*, not in /no/such"):
        check_place(os.getpid(), "/no/such")
    with pytest.raises(DriverError, match=r"read /proc/0/cgroup"):
        check_place(0, "/")
