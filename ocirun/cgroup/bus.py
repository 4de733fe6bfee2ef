"""A connection to D-Bus that waits and does not block: the messages are jeepney's, the socket is ours.

A call is a generator that yields what it waits for.  Each has a deadline: who does not answer is an error.
"""

from __future__ import annotations

import _socket
import os
import time

from ocirun.errors import DriverError, HostError
from ocirun.waiting import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jeepney import Message

    from ocirun.waiting import Task

#: Seconds for an answer; runc waits as long for a job.
PATIENCE = 30.0
_PIECE = 65536
#: As sd-bus says it: who we are is told by the socket itself (SO_PEERCRED), also from a user namespace, whose
#: numbers of users mean nothing outside.
_HELLO = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n"
_DAEMON = ("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")


class CallError(Exception):
    """Who was called has said no: ``name`` is the error of D-Bus, ``text`` its words."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{text} ({name})")
        self.name = name
        self.text = text


class Bus:
    """One connection, open until ``close``.

    ``direct`` says that systemd itself is at the other end, and no bus.  ``signals`` are those that came
    while something else was waited for; ``keeps`` says which are kept: their kind, their interface, their
    signature, and on a bus their sender.  ``name`` is ours on the bus.
    """

    __slots__ = ("_parser", "_patience", "_serial", "_socket", "direct", "keeps", "name", "signals")

    def __init__(self, socket: _socket.socket, *, direct: bool) -> None:
        from jeepney import Parser

        self._socket = socket
        self._parser = Parser()
        self._serial = 0
        self._patience = PATIENCE
        self.direct = direct
        self.name = ""
        self.keeps: tuple[str, str, str, str] | None = None
        self.signals: list[tuple[object, ...]] = []

    def deadline(self) -> float:
        """The moment until which an answer that is asked for now is waited for."""
        return time.monotonic() + self._patience

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def greet(self) -> Task[None]:
        """Authenticates and, on a bus, gets a name; raises DriverError for a bus that does not want us."""
        until = self.deadline()
        yield from self._send(_HELLO, until)
        said, accepted, rest = b"", b"", b""
        while not accepted and b"REJECTED" not in said and b"ERROR" not in said:
            said += yield from self._receive(until, "AUTH")
            _, accepted, line = said.partition(b"OK ")
            _, accepted, rest = line.partition(b"\r\n")
        if not accepted:
            raise DriverError(
                "D-Bus does not let us in",
                hint="is this user known to it, and not one of another user namespace?",
            )
        self._parser.add_data(rest)
        if not self.direct:
            self.name = str((yield from self.ask_daemon("Hello")))

    def ask_daemon(
        self, method: str, signature: str = "", body: tuple[object, ...] = (), until: float = 0.0
    ) -> Task[object]:
        """What the bus itself answers."""
        answer = yield from self.call(_DAEMON, method, signature, body, until)
        return answer[0] if answer else None

    def peer(self) -> int:
        """The pid of whoever listens at the other end, 0 where our pid namespace has none (unix(7))."""
        told = self._socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
        return int.from_bytes(told[:4], "little")

    def call(
        self,
        where: tuple[str, str, str],
        method: str,
        signature: str = "",
        body: tuple[object, ...] = (),
        until: float = 0.0,
    ) -> Task[tuple[object, ...]]:
        """Calls a method of the object ``where`` (path, name on the bus, interface) and gives its answer.

        ``until`` is the moment until which it is waited for, 0 for as long as is usual.
        Raises CallError for a no, DriverError for none at all.
        """
        from jeepney import DBusAddress, HeaderFields, MessageType, new_method_call

        path, name, interface = where
        message = new_method_call(
            DBusAddress(path, bus_name=name, interface=interface), method, signature or None, body
        )
        self._serial += 1
        serial = self._serial
        until = until or self.deadline()
        yield from self._send(message.serialise(serial), until)
        while True:
            self._check_time(until, method)
            answer = yield from self._next(until, method)
            kind, fields = answer.header.message_type, answer.header.fields
            if fields.get(HeaderFields.reply_serial) != serial:
                continue
            if kind is MessageType.error:
                raise CallError(
                    str(fields.get(HeaderFields.error_name)), str(answer.body[0]) if answer.body else ""
                )
            return answer.body

    def signal(self, waits_for: str, until: float) -> Task[tuple[object, ...]]:
        """The body of the next signal that is kept; ``waits_for`` tells what it means, for the error."""
        while not self.signals:
            self._check_time(until, waits_for)
            yield from self._next(until, waits_for)
        return self.signals.pop(0)

    def _next(self, until: float, what: str) -> Task[Message]:
        """The next message; one that is a signal of those in ``keeps`` is kept as well."""
        while (message := self._parser.get_next_message()) is None:
            self._parser.add_data((yield from self._receive(until, what)))
        if self._is_kept(message):
            self.signals.append(message.body)
        return message

    def _is_kept(self, message: Message) -> bool:
        """Anybody on the bus may send us whatever he likes; but the bus itself writes who has sent it."""
        from jeepney import HeaderFields, MessageType

        fields = message.header.fields
        if message.header.message_type is not MessageType.signal or self.keeps is None:
            return False
        told = (HeaderFields.member, HeaderFields.interface, HeaderFields.signature, HeaderFields.sender)
        *what, sender = (fields.get(one) for one in told)
        return (*what,) == self.keeps[:3] and (self.direct or sender == self.keeps[3])

    def _check_time(self, until: float, what: str) -> None:
        """What keeps coming, and is not what is waited for, must not hold us for ever."""
        if time.monotonic() > until:
            raise self._silent(what)

    def _send(self, data: bytes, until: float) -> Task[None]:
        while data:
            try:
                data = data[self._socket.send(data, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                if not (yield Wait(writes=(self._socket.fileno(),), until=until)):
                    raise self._silent("a call") from None
            except OSError as error:
                raise _gone() from error

    def _receive(self, until: float, what: str = "") -> Task[bytes]:
        while True:
            try:
                data = self._socket.recv(_PIECE, _socket.MSG_DONTWAIT)
            except BlockingIOError:
                if not (yield Wait(reads=(self._socket.fileno(),), until=until)):
                    raise self._silent(what) from None
                continue
            except OSError as error:
                raise _gone() from error
            if not data:
                raise _gone()
            return data

    def _silent(self, what: str) -> DriverError:
        return DriverError(
            f"systemd does not answer within {self._patience:.0f} seconds" + (f" ({what})" if what else ""),
            operation=what,
            hint="`systemctl status` and its journal tell what it does; try again when it answers",
        )


def _gone() -> DriverError:
    return DriverError("the connection to systemd was closed", hint="is it being restarted? try again")


def connect(addresses: Sequence[tuple[str, bool]], whose: str, hint: str) -> Task[Bus]:
    """A connection to the first of ``addresses`` where somebody listens: paths, with a NUL in front for the
    abstract ones, and whether systemd itself is there.

    Raises HostError where nobody listens at any; ``whose`` names the manager that was looked for.
    """
    tried: list[str] = []
    for path, direct in addresses:
        try:
            socket = yield from _connected(path)
        except OSError as error:
            tried.append(f"{path.replace(chr(0), '@')}: {os.strerror(error.errno or 0)}")
            continue
        bus = Bus(socket, direct=direct)
        try:
            yield from bus.greet()
        except BaseException:
            bus.close()
            raise
        return bus
    raise HostError(
        f"no D-Bus of the {whose} is there ({'; '.join(tried) or 'no address is known'})", hint=hint
    )


def _connected(path: str) -> Task[_socket.socket]:
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        socket.settimeout(0)
        until = time.monotonic() + PATIENCE
        while True:
            try:
                socket.connect(path)
            except BlockingIOError:  # too many others wait to be let in (unix(7), connect)
                if time.monotonic() > until:
                    raise
                yield Wait(until=time.monotonic() + 0.01)
            else:
                return socket
    except BaseException:
        socket.close()
        raise


def paths_of(address: str) -> list[str]:
    """The sockets that an address of D-Bus names: ``unix:path=/run/bus;unix:abstract=/x,guid=…``."""
    found: list[str] = []
    for one in address.split(";"):
        kind, _, rest = one.partition(":")
        keys: dict[str, str] = {}
        for pair in rest.split(","):
            key, _, value = pair.partition("=")
            keys[key] = value
        if kind == "unix" and "path" in keys:
            found.append(_unescaped(keys["path"]))
        elif kind == "unix" and "abstract" in keys:
            found.append("\0" + _unescaped(keys["abstract"]))
    return found


def _unescaped(text: str) -> str:
    """Octets that stand as %XX."""
    first, *others = text.split("%")
    try:
        return first + "".join(chr(int(part[:2], 16)) + part[2:] for part in others)
    except ValueError:
        return text


def system_addresses(environment: Mapping[str, str]) -> list[tuple[str, bool]]:
    """Where the bus of the system manager may be, then where systemd itself listens for root."""
    given = environment.get("DBUS_SYSTEM_BUS_ADDRESS", "")
    if given:
        return [(path, False) for path in paths_of(given)]
    return [("/run/dbus/system_bus_socket", False), ("/run/systemd/private", True)]


def user_addresses(environment: Mapping[str, str]) -> list[tuple[str, bool]]:
    """Where the bus of the user's manager may be (as runc and crun look for it)."""
    given = environment.get("DBUS_SESSION_BUS_ADDRESS", "")
    if given:
        return [(path, False) for path in paths_of(given)]
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    return [(f"{runtime}/bus", False), (f"{runtime}/systemd/private", True)] if runtime else []
