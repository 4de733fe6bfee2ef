"""What happens to containers, told to containerd: each event, in order, until it has it.

Events go to the service containerd.services.events.ttrpc.v1.Events at containerd's ttrpc socket, one at a
time: it serves the calls of a connection concurrently, so two under way could change places.  An event is
spooled before it is sent and sent again until it is answered: containerd may see one twice, and never misses
one.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections import deque

from google.protobuf.any_pb2 import Any
from google.protobuf.timestamp_pb2 import Timestamp

from ocirun_shim import events_spool as spool
from ocirun_shim import log
from ocirun_shim.loop import Loop
from ocirun_shim.messages.events_pb2 import ForwardRequest
from ocirun_shim.messages.types_pb2 import Envelope
from ocirun_shim.ttrpc import codes
from ocirun_shim.ttrpc.client import ClientConnection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    from ocirun_shim.loop import Timer, Watch
    from ocirun_shim.ttrpc.client import Answer

SERVICE, METHOD = "containerd.services.events.ttrpc.v1.Events", "Forward"
#: Seconds: for one call; before containerd is tried again, growing from the first to the last.
_CALL, _SOON, _SELDOM = 5.0, 0.1, 5.0
_NANO = 1_000_000_000
_CHUNK = 65536
#: containerd will never take it: it said that the event itself is wrong.
_REFUSALS = frozenset({codes.INVALID_ARGUMENT})
#: containerd is about to go or to come, or has too much to do.
_PASSING = frozenset({codes.CANCELED, codes.DEADLINE_EXCEEDED, codes.ABORTED, codes.UNAVAILABLE})
#: How often it may answer anything else before the event gives way to those behind it.
_TRIES = 5


class _Event:
    """An event that containerd does not have: an Envelope without the namespace, and where it is spooled."""

    __slots__ = ("bundle", "number", "payload", "tries")

    def __init__(self, number: int, bundle: str, payload: bytes) -> None:
        self.number = number
        self.bundle = bundle
        self.payload = payload
        self.tries = 0


class _Link:
    """A connection to containerd, and one call at a time on it.

    ``answered`` gets the answer of a call; ``broken`` is called when the connection ends by itself.
    """

    __slots__ = ("_answered", "_broken", "_client", "_sock", "_unsent", "_watch")

    def __init__(
        self, loop: Loop, path: str, answered: Callable[[Answer], None], broken: Callable[[], None]
    ) -> None:
        """Connects without waiting; raises OSError when containerd is away or its backlog full (unix(7))."""
        self._answered = answered
        self._broken = broken
        self._client = ClientConnection()
        self._unsent = b""
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._sock.connect(path)
            self._watch: Watch = loop.watch(self._sock.fileno(), select.EPOLLIN, self._ready)
        except BaseException:
            self._sock.close()
            raise

    def call(self, payload: bytes) -> None:
        """Sends the request; raises ValueError for one that no frame holds."""
        self._client.call(SERVICE, METHOD, payload, timeout_nano=int(_CALL * _NANO))
        self._unsent = self._client.take()
        self._send()

    def _send(self) -> None:
        try:
            while self._unsent:
                sent = self._sock.send(self._unsent, socket.MSG_NOSIGNAL)
                self._unsent = self._unsent[sent:]
        except BlockingIOError:
            pass
        except OSError:
            return  # EPIPE, ECONNRESET: the end of the stream is told by recv, not in the middle of a call
        self._watch.change(select.EPOLLIN | (select.EPOLLOUT if self._unsent else 0))

    def _ready(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self._send()
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            self._broken()
            return
        for answer in self._client.feed(data):
            self._answered(answer)

    def close(self) -> None:
        """Hangs up, and tells nobody."""
        self._watch.close()
        self._sock.close()


class Publisher:
    """Tells the events of one shim to the containerd that listens at ``ttrpc_address``, a path.

    An empty address, as CRI-O gives it, is no containerd: then events go nowhere.
    """

    __slots__ = (
        "_address", "_calling", "_closed", "_delay", "_link", "_loop", "_namespace", "_number", "_open",
        "_queue", "_timer", "_waiting",
    )  # fmt: skip

    def __init__(self, loop: Loop, ttrpc_address: str, namespace: str) -> None:
        self._loop = loop
        self._address = ttrpc_address.removeprefix("unix://")
        self._namespace = namespace
        self._queue: deque[_Event] = deque()
        #: How many events of a bundle are in the queue.
        self._open: dict[str, int] = {}
        #: Numbers grow over the shims that may have written to one spool.
        self._number = time.time_ns()
        self._waiting: list[Callable[[], None]] = []
        self._link: _Link | None = None
        self._calling = False
        self._timer: Timer | None = None
        self._delay = _SOON
        self._closed = False

    # -- for the service -------------------------------------------------------------------------------------

    def publish(self, topic: str, message: Message, bundle: str) -> None:
        """Queues ``message`` under ``topic`` ("/tasks/start"), behind all that were published before.

        It is spooled in ``bundle``, the directory of its container; where that is not possible it is sent
        from memory.  Never waits and never fails.
        """
        if not self._address:
            return
        seconds, nanos = divmod(time.time_ns(), _NANO)
        # containerd's typeurl is the bare full name, without a host in front of it
        event = Any(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())
        envelope = Envelope(timestamp=Timestamp(seconds=seconds, nanos=nanos), topic=topic, event=event)
        self._number += 1
        payload = envelope.SerializeToString()
        if not spool.append(bundle, self._number, payload):
            log.debug(f"the event {topic} is not spooled: {bundle} does not take it")
        self.adopt(bundle, self._number, payload)

    def adopt(self, bundle: str, number: int, payload: bytes) -> None:
        """Queues an event that is in the spool of ``bundle`` already."""
        self._queue.append(_Event(number, bundle, payload))
        self._open[bundle] = self._open.get(bundle, 0) + 1
        self._advance()

    @property
    def idle(self) -> bool:
        """Whether containerd has every event."""
        return not self._queue

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Calls ``callback`` once, as soon as ``idle``: now if it is already."""
        if self.idle:
            callback()
        else:
            self._waiting.append(callback)

    def close(self) -> None:
        """Hangs up; what containerd does not have stays in the spools, for ``replay``."""
        self._closed = True
        self._waiting.clear()
        self._cancel()
        self.hang_up()

    # -- one event after the other ---------------------------------------------------------------------------

    def _advance(self) -> None:
        """Sends the first event, unless one is under way or containerd is to be left alone for a while."""
        if not self._queue or self._calling or self._timer is not None or self._closed:
            return
        if self._link is None and not self._connect():
            self._retry()
            return
        assert self._link is not None
        envelope = Envelope.FromString(self._queue[0].payload)
        envelope.namespace = self._namespace
        self._calling = True
        self._timer = self._loop.call_at(self._loop.now() + _CALL, self._late)
        try:
            self._link.call(ForwardRequest(envelope=envelope).SerializeToString())
        except ValueError as error:  # no frame holds it: it will never be sent
            self._end_call()
            self._drop(str(error))

    def _connect(self) -> bool:
        try:
            self._link = _Link(self._loop, self._address, self._answered, self._broken)
        except OSError as error:
            number = errno.errorcode.get(error.errno or 0, str(error))
            log.debug(f"events wait for containerd at {self._address}: {number}")
            return False
        return True

    def _answered(self, answer: Answer) -> None:
        self._end_call()
        if answer.code == codes.OK:
            self._delay = _SOON
            self._done()
            return
        event = self._queue[0]
        event.tries += answer.code not in _PASSING
        if answer.code in _REFUSALS or event.tries >= _TRIES:
            self._drop(f"{answer.message} (code {answer.code})")
        else:
            self._retry()

    def _broken(self) -> None:
        """Containerd hung up.  Between two events that needs no answer: the next one connects again."""
        self._link = None
        if self._calling:
            self._end_call()
            self._retry()

    def _late(self) -> None:
        """No answer in time.  Whatever comes yet, comes to nobody: the event is sent on a new connection."""
        self._end_call()
        self.hang_up()
        self._retry()

    def _drop(self, reason: str) -> None:
        """Gives up the first event: those behind it have waited for it long enough."""
        topic = Envelope.FromString(self._queue[0].payload).topic
        log.warning(f"containerd does not take the event {topic}: {reason}")
        self._done()

    def _done(self) -> None:
        """The first event needs no more care."""
        event = self._queue.popleft()
        left = self._open.pop(event.bundle) - 1
        if left:
            self._open[event.bundle] = left
            spool.mark(event.bundle, event.number)
        else:
            spool.clear(event.bundle)
        if self._queue:
            self._advance()
            return
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback()

    # -- waiting ---------------------------------------------------------------------------------------------

    def _retry(self) -> None:
        self._timer = self._loop.call_at(self._loop.now() + self._delay, self._again)
        self._delay = min(2 * self._delay, _SELDOM)

    def _again(self) -> None:
        self._timer = None
        self._advance()

    def _end_call(self) -> None:
        self._calling = False
        self._cancel()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def hang_up(self) -> None:
        """Ends the connection; the next event makes a new one."""
        if self._link is not None:
            self._link.close()
            self._link = None


def replay(bundle: str, ttrpc_address: str, namespace: str, *, patience: float = 2.0) -> int:
    """Sends what a shim that was killed left in the spool of ``bundle``, in order.

    Gives how many containerd took, or refused for good.  Waits at most ``patience`` seconds.  What is not
    taken stays in the spool; a bundle that is gone has none.
    """
    left = spool.unmarked(bundle) if os.path.isabs(bundle) else []
    if not left or not ttrpc_address:
        return 0
    loop = Loop()
    publisher = Publisher(loop, ttrpc_address, namespace)
    try:
        for number, payload in left:
            publisher.adopt(bundle, number, payload)
        publisher.when_idle(loop.stop)
        loop.call_at(loop.now() + patience, loop.stop)
        if not publisher.idle:
            loop.run()
    finally:
        publisher.close()
        loop.close()
    return len(left) - len(spool.unmarked(bundle))
