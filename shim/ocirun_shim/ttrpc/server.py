"""The server's end of a ttrpc connection, without the socket (PROTOCOL.md of ttrpc)."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from ocirun_shim.messages.ttrpc_pb2 import Request, Response, Status
from ocirun_shim.ttrpc import codes, frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun_shim.ttrpc.frames import Received

#: The most bytes of text in a status: an answer has to fit into a frame, and into a line of a log.
LONGEST_TEXT = 32768


class Call:
    """One call: ``service`` by its full name, ``payload`` the encoded request.

    ``timeout_nano`` is how long the client waits, in nanoseconds, 0 for ever.  It gives up silently: ttrpc
    has no cancel.  ``metadata`` are pairs of key and value; a key may come more than once.
    """

    __slots__ = ("metadata", "method", "payload", "service", "stream", "timeout_nano")

    def __init__(self, stream: int, request: Request) -> None:
        self.stream = stream
        self.service = request.service
        self.method = request.method
        self.payload = request.payload
        self.timeout_nano = request.timeout_nano
        self.metadata = tuple((pair.key, pair.value) for pair in request.metadata)


class ServerConnection(frames.Outgoing):
    """Takes calls, and answers each once with ``reply`` or ``fail``, in any order.

    What breaks the protocol is answered here; nothing that a client sends ends the connection or raises.
    """

    __slots__ = ("_last", "_open", "_parser")

    def __init__(self) -> None:
        super().__init__()
        self._parser = frames.Parser()
        #: The highest stream that the client has used, and those it waits for.
        self._last = 0
        self._open: set[int] = set()

    @property
    def unanswered(self) -> frozenset[int]:
        """The streams of the calls that are not answered yet."""
        return frozenset(self._open)

    @property
    def rests(self) -> bool:
        """Whether no frame is half received, and none waits to be sent."""
        return self._parser.empty and not self.pending()

    def save(self) -> tuple[int, list[int]]:
        """The highest stream, and those that are not answered: all there is while it ``rests``."""
        return self._last, sorted(self._open)

    def restore(self, last: int, unanswered: list[int]) -> None:
        """Goes on, as a new connection, with what ``save`` gave."""
        self._last, self._open = last, set(unanswered)

    def feed(self, data: bytes) -> list[Call]:
        """The calls that ``data`` completes, in their order; never raises."""
        calls = [self._received(frame) for frame in self._parser.feed(data)]
        return [call for call in calls if call]

    def reply(self, stream: int, payload: bytes) -> None:
        """Answers a call with an encoded response; raises ValueError when none of this stream is open.

        A response that no frame can hold becomes a status of RESOURCE_EXHAUSTED.
        """
        self._settle(stream)
        data = Response(payload=payload).SerializeToString()
        if len(data) > frames.LIMIT:
            self._refuse(stream, codes.RESOURCE_EXHAUSTED, _too_long("response", len(data)))
        else:
            self._put(stream, frames.RESPONSE, data)

    def fail(self, stream: int, code: int, message: str) -> None:
        """Answers a call with a status; raises ValueError when none of this stream is open.

        ``code`` is one of ocirun_shim.ttrpc.codes, but OK.  Of ``message``, 32 KiB are sent.
        """
        self._settle(stream)
        self._refuse(stream, code, message)

    def _settle(self, stream: int) -> None:
        if stream not in self._open:
            raise ValueError(f"no call of stream {stream} waits for an answer")
        self._open.remove(stream)

    def _refuse(self, stream: int, code: int, message: str) -> None:
        # what the kernel gave as a name may hold bytes that are no UTF-8, which no string of protobuf admits
        text = message.encode(errors="replace")[:LONGEST_TEXT].decode(errors="ignore")
        status = Status(code=code, message=text)
        self._put(stream, frames.RESPONSE, Response(status=status).SerializeToString())

    def _received(self, frame: Received) -> Call | None:
        if frame.kind == frames.REQUEST:
            return self._request(frame)
        if frame.kind == frames.DATA and frame.stream not in self._open:
            self._refuse(frame.stream, codes.INVALID_ARGUMENT, f"stream {frame.stream} is not active")
        # Data for a call that waits is no part of a unary call; kinds that we do not know are for others
        return None

    def _request(self, frame: Received) -> Call | None:
        stream = frame.stream
        if stream % 2 == 0:
            self._refuse(stream, codes.INVALID_ARGUMENT, f"stream {stream} must be odd: a client opens it")
        elif stream <= self._last:
            self._refuse(stream, codes.INVALID_ARGUMENT, f"stream {stream} comes after stream {self._last}")
        else:
            self._last = stream
            return self._opened(frame)
        return None

    def _opened(self, frame: Received) -> Call | None:
        """The call of a request on a stream that may be opened."""
        if isinstance(frame, frames.Oversize):
            self._refuse(frame.stream, codes.RESOURCE_EXHAUSTED, _too_long("request", frame.length))
            return None
        if frame.flags & (frames.REMOTE_OPEN | frames.REMOTE_CLOSED):
            self._refuse(frame.stream, codes.UNIMPLEMENTED, "streaming calls are not served")
            return None
        try:
            request = Request.FromString(frame.data)
        except DecodeError as error:
            self._refuse(frame.stream, codes.INVALID_ARGUMENT, f"the frame holds no request: {error}")
            return None
        self._open.add(frame.stream)
        return Call(frame.stream, request)


def _too_long(what: str, length: int) -> str:
    return f"a {what} of {length} bytes: a frame holds {frames.LIMIT}"
