"""The client's end of a ttrpc connection, without the socket (PROTOCOL.md of ttrpc)."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from ocirun_shim.messages.ttrpc_pb2 import KeyValue, Request, Response
from ocirun_shim.ttrpc import codes, frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocirun_shim.ttrpc.frames import Received

_LAST_STREAM = 0xFFFFFFFF


class Answer:
    """The answer to the call of ``stream``: a ``payload`` when ``code`` is OK, else a ``message``.

    ``code`` is one of ocirun_shim.ttrpc.codes, or whatever number the server has sent.
    """

    __slots__ = ("code", "message", "payload", "stream")

    def __init__(self, stream: int, code: int, message: str, payload: bytes) -> None:
        self.stream = stream
        self.code = code
        self.message = message
        self.payload = payload


class ClientConnection(frames.Outgoing):
    """Calls, any number at a time; each gets one answer, of ``feed`` or of ``abandon``."""

    __slots__ = ("_next", "_parser", "_waiting")

    def __init__(self) -> None:
        super().__init__()
        self._parser = frames.Parser()
        self._next = 1
        #: The streams that wait for their answer, in the order of the calls.
        self._waiting: dict[int, None] = {}

    @property
    def unanswered(self) -> frozenset[int]:
        """The streams of the calls that are not answered yet."""
        return frozenset(self._waiting)

    def call(
        self,
        service: str,
        method: str,
        payload: bytes = b"",
        timeout_nano: int = 0,
        metadata: Iterable[tuple[str, str]] = (),
    ) -> int:
        """Makes a call of ``service`` (its full name) and gives its stream.

        ``timeout_nano`` tells the server how long the answer is of use, in nanoseconds, 0 for ever; nothing
        is timed here.  Raises ValueError for a request that no frame holds, and when no stream is left.
        """
        pairs = [KeyValue(key=key, value=value) for key, value in metadata]
        data = Request(
            service=service, method=method, payload=payload, timeout_nano=timeout_nano, metadata=pairs
        ).SerializeToString()
        if len(data) > frames.LIMIT:
            raise ValueError(f"a request of {len(data)} bytes: a frame holds {frames.LIMIT}")
        if self._next > _LAST_STREAM:
            raise ValueError("every stream of this connection has been used")
        stream = self._next
        self._next += 2
        self._waiting[stream] = None
        self._put(stream, frames.REQUEST, data)
        return stream

    def feed(self, data: bytes) -> list[Answer]:
        """The answers that ``data`` completes, in their order; never raises.

        What answers no call that waits is passed over.
        """
        answers = [_answer(frame) for frame in self._parser.feed(data) if frame.stream in self._waiting]
        # one that comes twice in these bytes counts once
        return [one for one in answers if one and self._waiting.pop(one.stream, self) is None]

    def abandon(self, message: str = "the connection was closed") -> list[Answer]:
        """Answers every call that still waits with UNAVAILABLE: for the end of the connection."""
        streams = tuple(self._waiting)
        self._waiting.clear()
        return [Answer(stream, codes.UNAVAILABLE, message, b"") for stream in streams]


def _answer(frame: Received) -> Answer | None:
    if frame.kind == frames.DATA:
        if not frame.flags & frames.REMOTE_CLOSED:
            return None
        return Answer(frame.stream, codes.INTERNAL, "a streaming answer to a unary call", b"")
    if frame.kind != frames.RESPONSE:
        return None
    if isinstance(frame, frames.Oversize):
        text = f"a response of {frame.length} bytes: a frame holds {frames.LIMIT}"
        return Answer(frame.stream, codes.RESOURCE_EXHAUSTED, text, b"")
    try:
        response = Response.FromString(frame.data)
    except DecodeError as error:
        return Answer(frame.stream, codes.INTERNAL, f"the frame holds no response: {error}", b"")
    status = response.status
    return Answer(frame.stream, status.code, status.message, b"" if status.code else response.payload)
