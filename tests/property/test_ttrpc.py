"""ttrpc: however the bytes are cut, whatever they are, each call gets one answer."""

from __future__ import annotations

import itertools
import os
import socket
import struct
import tempfile
import threading
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from ocirun_shim.messages.task_pb2 import StartResponse, StateRequest
from ocirun_shim.messages.ttrpc_pb2 import Request, Response
from ocirun_shim.ttrpc import codes, frames
from ocirun_shim.ttrpc.client import Answer, ClientConnection
from ocirun_shim.ttrpc.server import LONGEST_TEXT, Call, ServerConnection

from conformance.ttrpc import CallError, Client

if TYPE_CHECKING:
    from collections.abc import Generator

    from ocirun_shim.ttrpc.frames import Received

MEBI = 1 << 20
U32 = st.integers(0, 0xFFFFFFFF)
BYTE = st.integers(0, 0xFF)
TEXT = st.text(max_size=8)
KINDS = st.sampled_from([0, frames.REQUEST, frames.RESPONSE, frames.DATA, 4, 255])
STREAMS = st.integers(0, 12) | U32
PAYLOADS = st.binary(max_size=40)
REQUESTS = st.builds(Request, service=TEXT, method=TEXT, payload=PAYLOADS).map(
    lambda message: message.SerializeToString()
)
DATA = PAYLOADS | REQUESTS


def packed(stream: int, kind: int, flags: int, data: bytes) -> bytes:
    """A frame, written by hand."""
    return struct.pack(">IIBB", len(data), stream, kind, flags) + data


FRAMES = st.builds(packed, STREAMS, KINDS, BYTE | st.just(0), DATA)
GARBAGE = st.lists(FRAMES | PAYLOADS, max_size=8).map(b"".join)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """``data`` in pieces, cut at ``places`` as far as they lie in it."""
    bounds = [0, *sorted(place for place in places if place <= len(data)), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


def shown(received: list[Received]) -> list[tuple[int, int, int, bytes | int]]:
    """What can be compared of frames."""
    return [
        (one.stream, one.kind, one.flags, one.length if isinstance(one, frames.Oversize) else one.data)
        for one in received
    ]


def answers(server: ServerConnection) -> list[Answer]:
    """What the server has sent, undone without the client's state."""
    found: list[Answer] = []
    for frame in frames.Parser().feed(server.take()):
        assert isinstance(frame, frames.Frame)
        assert (frame.kind, frame.flags) == (frames.RESPONSE, 0)
        response = Response.FromString(frame.data)
        found.append(Answer(frame.stream, response.status.code, response.status.message, response.payload))
    return found


def request(service: str = "s", method: str = "m", payload: bytes = b"") -> bytes:
    return Request(service=service, method=method, payload=payload).SerializeToString()


# -- frames --------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(STREAMS, KINDS, BYTE, PAYLOADS), max_size=8), st.lists(st.integers(0, 400)))
def test_frames_are_the_same_however_they_are_cut(
    sent: list[tuple[int, int, int, bytes]], places: list[int]
) -> None:
    parser = frames.Parser()
    pieces = cut(b"".join(packed(*one) for one in sent), places)
    assert [one for piece in pieces for one in shown(parser.feed(piece))] == sent


@given(GARBAGE, st.lists(st.integers(0, 400)))
def test_garbage_is_the_same_however_it_is_cut(data: bytes, places: list[int]) -> None:
    parser = frames.Parser()
    pieces = [one for piece in cut(data, places) for one in shown(parser.feed(piece))]
    assert pieces == shown(frames.Parser().feed(data))


@pytest.mark.parametrize("chunk", [1 << 16, 10 * MEBI])
def test_a_frame_beyond_the_limit_passes_by_and_the_next_is_whole(chunk: int) -> None:
    parser = frames.Parser()
    data = packed(1, frames.REQUEST, 0, bytes(5 * MEBI)) + packed(3, frames.REQUEST, 0, b"next")
    found: list[Received] = []
    for start in range(0, len(data), chunk):
        found += parser.feed(data[start : start + chunk])
        assert len(parser._buffer) < frames.HEADER.size, "nothing of what passes by is kept"
    assert shown(found) == [(1, 1, 0, 5 * MEBI), (3, 1, 0, b"next")]


def test_a_frame_of_the_limit_is_a_frame() -> None:
    data = packed(1, frames.DATA, 0, bytes(frames.LIMIT))
    parser = frames.Parser()
    assert parser.feed(data[:-1]) == []
    (frame,) = parser.feed(data[-1:])
    assert isinstance(frame, frames.Frame)
    assert len(frame.data) == frames.LIMIT


# -- the server ----------------------------------------------------------------------------------------------


@given(GARBAGE, st.lists(st.integers(0, 400)))
def test_a_server_survives_whatever_comes(data: bytes, places: list[int]) -> None:
    server, whole = ServerConnection(), ServerConnection()
    calls = [call.stream for piece in cut(data, places) for call in server.feed(piece)]
    assert calls == [call.stream for call in whole.feed(data)]
    assert calls == sorted(set(calls)), "streams rise"
    assert all(stream % 2 for stream in calls)
    assert {answer.code for answer in answers(server)} <= {
        codes.INVALID_ARGUMENT,
        codes.UNIMPLEMENTED,
        codes.RESOURCE_EXHAUSTED,
    }
    assert server.unanswered == set(calls)


@given(GARBAGE, st.lists(st.integers(0, 400)))
def test_a_server_that_is_handed_over_goes_on_as_if_nothing_was(data: bytes, places: list[int]) -> None:
    stays, moves = ServerConnection(), ServerConnection()
    for piece in cut(data, places):
        assert [call.stream for call in stays.feed(piece)] == [call.stream for call in moves.feed(piece)]
        assert stays.take() == moves.take()
        if moves.rests:
            last, unanswered = moves.save()
            moves = ServerConnection()
            moves.restore(last, unanswered)
    assert stays.unanswered == moves.unanswered


@pytest.mark.parametrize(
    ("sent", "codes_of_answers"),
    [
        ([packed(2, 1, 0, request())], [codes.INVALID_ARGUMENT]),
        ([packed(0, 1, 0, request())], [codes.INVALID_ARGUMENT]),
        ([packed(5, 1, 0, request()), packed(3, 1, 0, request())], [codes.INVALID_ARGUMENT]),
        ([packed(5, 1, 0, request()), packed(5, 1, 0, request())], [codes.INVALID_ARGUMENT]),
        ([packed(1, 1, 0, b"\xff")], [codes.INVALID_ARGUMENT]),
        ([packed(1, 1, 0, b"\x0a\x01\xff")], [codes.INVALID_ARGUMENT]),
        ([packed(1, 1, 0, bytes(5 * MEBI))], [codes.RESOURCE_EXHAUSTED]),
        ([packed(1, 1, frames.REMOTE_OPEN, request())], [codes.UNIMPLEMENTED]),
        ([packed(1, 1, frames.REMOTE_CLOSED, request())], [codes.UNIMPLEMENTED]),
        ([packed(1, 3, 0, b"data")], [codes.INVALID_ARGUMENT]),
        ([packed(1, 1, 0, request()), packed(1, 3, 0, b"data"), packed(1, 3, 5, b"")], []),
        ([packed(1, 2, 0, b""), packed(1, 7, 0, b""), packed(2, 9, 0, bytes(5 * MEBI))], []),
        ([packed(1, 1, 0, request())[:-1]], []),
    ],
)
def test_what_breaks_the_protocol_is_answered(sent: list[bytes], codes_of_answers: list[int]) -> None:
    server = ServerConnection()
    server.feed(b"".join(sent))
    assert [answer.code for answer in answers(server)] == codes_of_answers


def test_a_call_has_all_that_the_client_sent() -> None:
    server = ServerConnection()
    client = ClientConnection()
    pairs = (("containerd-namespace-ttrpc", "n"), ("traceparent", "0"), ("traceparent", "1"))
    client.call("s", "m", b"p", 2_990_000_000, pairs)
    (call,) = server.feed(client.take())
    assert (call.stream, call.service, call.method, call.payload) == (1, "s", "m", b"p")
    assert (call.timeout_nano, call.metadata) == (2_990_000_000, pairs)


def test_an_empty_success_is_a_frame_without_data() -> None:
    server = ServerConnection()
    server.feed(packed(1, 1, 0, request()))
    server.reply(1, b"")
    assert server.pending() == 10
    assert server.take() == b"\0\0\0\0\0\0\0\1\2\0"
    assert server.pending() == 0


@pytest.mark.parametrize(("below", "code"), [(5, codes.OK), (4, codes.RESOURCE_EXHAUSTED)])
def test_a_response_that_no_frame_holds_becomes_a_status(below: int, code: int) -> None:
    """A payload of this size has five bytes of tag and length before it."""
    server = ServerConnection()
    server.feed(packed(1, 1, 0, request()))
    server.reply(1, bytes(4 * MEBI - below))
    assert [answer.code for answer in answers(server)] == [code]


@pytest.mark.parametrize("text", ["not UTF-8: \udcff", "é" * LONGEST_TEXT, "x" * (5 * MEBI), ""])
def test_any_text_can_be_the_reason_of_a_failure(text: str) -> None:
    server = ServerConnection()
    server.feed(packed(1, 1, 0, request()))
    server.fail(1, codes.NOT_FOUND, text)
    (answer,) = answers(server)
    assert answer.code == codes.NOT_FOUND
    assert len(answer.message.encode()) <= LONGEST_TEXT
    assert text.replace("\udcff", "?").startswith(answer.message)


def test_a_call_is_answered_once() -> None:
    server = ServerConnection()
    server.feed(packed(1, 1, 0, request()))
    server.reply(1, b"")
    with pytest.raises(ValueError, match="stream 1"):
        server.fail(1, codes.INTERNAL, "again")
    with pytest.raises(ValueError, match="stream 3"):
        server.reply(3, b"")


# -- the client ----------------------------------------------------------------------------------------------


@given(GARBAGE, st.lists(st.integers(0, 400)), st.integers(0, 4))
def test_a_client_survives_whatever_comes(data: bytes, places: list[int], calls: int) -> None:
    client = ClientConnection()
    streams = [client.call("s", "m") for _ in range(calls)]
    found = [one.stream for piece in cut(data, places) for one in client.feed(piece)]
    found += [one.stream for one in client.abandon()]
    assert sorted(found) == streams


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (packed(1, 2, 0, b""), codes.OK),
        (packed(1, 2, 0, b"\x0a\x05\x08\x05\x12\x01m"), codes.NOT_FOUND),
        (packed(1, 2, 0, b"\x0a\x00\x12\x01p"), codes.OK),
        (packed(1, 2, 0, b"\xff"), codes.INTERNAL),
        (packed(1, 2, 0, bytes(5 * MEBI)), codes.RESOURCE_EXHAUSTED),
        (packed(1, 3, 5, b""), codes.INTERNAL),
    ],
)
def test_what_a_client_makes_of_a_frame(frame: bytes, code: int) -> None:
    client = ClientConnection()
    client.call("s", "m")
    assert [one.code for one in client.feed(frame + frame)] == [code]
    assert client.abandon() == []


def test_what_answers_no_call_is_passed_over() -> None:
    client = ClientConnection()
    client.call("s", "m")
    assert client.feed(packed(3, 2, 0, b"") + packed(1, 9, 0, b"") + packed(1, 3, 0, b"part")) == []
    assert client.unanswered == {1}


def test_a_request_that_no_frame_holds_is_not_sent() -> None:
    client = ClientConnection()
    with pytest.raises(ValueError, match="a frame holds"):
        client.call("s", "m", bytes(4 * MEBI))
    assert (client.pending(), client.unanswered) == (0, frozenset())


def test_the_streams_of_a_connection_end() -> None:
    client = ClientConnection()
    client._next = 0xFFFFFFFF
    assert client.call("s", "m") == 0xFFFFFFFF
    with pytest.raises(ValueError, match="every stream"):
        client.call("s", "m")


# -- both ----------------------------------------------------------------------------------------------------


class Conversation(RuleBasedStateMachine):
    """A client and a server, a wire between them that stops anywhere, and what each call must come to."""

    def __init__(self) -> None:
        super().__init__()
        self.client = ClientConnection()
        self.server = ServerConnection()
        self.to_server = b""
        self.to_client = b""
        #: Calls by stream: the payload of the request, then what the answer must be.
        self.asked: dict[int, bytes] = {}
        self.arrived: dict[int, Call] = {}
        self.expected: dict[int, tuple[int, bytes]] = {}
        self.told: dict[int, tuple[int, bytes]] = {}

    @rule(payload=PAYLOADS, service=TEXT, timeout=st.integers(0, 2**63 - 1))
    def ask(self, payload: bytes, service: str, timeout: int) -> None:
        stream = self.client.call(service, "m", payload, timeout)
        assert stream == 2 * len(self.asked) + 1
        self.asked[stream] = payload
        self.to_server += self.client.take()

    @precondition(lambda self: bool(cast("Conversation", self).to_server))
    @rule(share=st.floats(0, 1))
    def carry_there(self, share: float) -> None:
        place = int(len(self.to_server) * share)
        for call in self.server.feed(self.to_server[:place]):
            assert call.payload == self.asked[call.stream]
            assert call.stream not in self.arrived
            self.arrived[call.stream] = call
        self.to_server = self.to_server[place:]

    @precondition(lambda self: bool(cast("Conversation", self).server.unanswered))
    @rule(pick=st.data(), payload=PAYLOADS, code=st.integers(1, 16), success=st.booleans())
    def answer(self, pick: st.DataObject, payload: bytes, code: int, success: bool) -> None:
        stream = pick.draw(st.sampled_from(sorted(self.server.unanswered)))
        if success:
            self.server.reply(stream, payload)
        else:
            self.server.fail(stream, code, "reason")
        self.expected[stream] = (codes.OK, payload) if success else (code, b"")
        self.to_client += self.server.take()

    @precondition(lambda self: bool(cast("Conversation", self).to_client))
    @rule(share=st.floats(0, 1))
    def carry_back(self, share: float) -> None:
        place = int(len(self.to_client) * share)
        for one in self.client.feed(self.to_client[:place]):
            assert one.stream not in self.told
            self.told[one.stream] = (one.code, one.payload)
        self.to_client = self.to_client[place:]

    @invariant()
    def each_call_is_where_it_should_be(self) -> None:
        assert self.told == {stream: self.expected[stream] for stream in self.told}
        assert self.client.unanswered == self.asked.keys() - self.told.keys()
        assert self.server.unanswered == self.arrived.keys() - self.expected.keys()

    def teardown(self) -> None:
        """All that is on its way arrives: then nothing is missing, and nothing was told twice."""
        self.carry_there(1.0)
        for stream in sorted(self.server.unanswered, reverse=True):
            self.server.reply(stream, b"late")
            self.expected[stream] = (codes.OK, b"late")
        self.to_client += self.server.take()
        self.carry_back(1.0)
        assert self.told == self.expected
        assert self.told.keys() == self.asked.keys()
        assert self.client.abandon() == []


TestConversation = Conversation.TestCase
TestConversation.settings = settings(stateful_step_count=30)


# -- the blocking client -------------------------------------------------------------------------------------


def serve(accepted: socket.socket) -> None:
    """Answers pairs of calls, the second first; State of "unknown" fails; hangs up for the method Quit."""
    server = ServerConnection()
    calls: list[Call] = []
    with accepted:
        while data := accepted.recv(65536):
            calls += server.feed(data)
            if any(call.method == "Quit" for call in calls):
                return
            while len(calls) >= 2:
                for call in (calls.pop(1), calls.pop(0)):
                    _state(server, call)
            accepted.sendall(server.take())


def _state(server: ServerConnection, call: Call) -> None:
    asked = StateRequest.FromString(call.payload).id
    if asked == "unknown":
        server.fail(call.stream, codes.NOT_FOUND, "container not created")
    else:
        server.reply(call.stream, StartResponse(pid=int(asked)).SerializeToString())


@pytest.fixture
def server_path() -> Generator[str]:
    with tempfile.TemporaryDirectory() as scratch, socket.socket(socket.AF_UNIX) as listener:
        path = os.path.join(scratch, "s")
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=lambda: serve(listener.accept()[0]))
        thread.start()
        yield path
        thread.join(60)
        assert not thread.is_alive()


def test_the_blocking_client_keeps_calls_apart(server_path: str) -> None:
    with Client(server_path) as client:
        streams = [client.send("s", "State", StateRequest(id=name)) for name in ("1", "unknown", "3", "4")]
        assert client.receive(streams[3], StartResponse).pid == 4
        assert client.receive(streams[0], StartResponse).pid == 1
        with pytest.raises(CallError, match="container not created") as caught:
            client.receive(streams[1], StartResponse)
        assert caught.value.code == codes.NOT_FOUND
        assert client.receive(streams[2], StartResponse).pid == 3


def test_the_blocking_client_gives_up(server_path: str) -> None:
    with Client(server_path) as client:
        with pytest.raises(TimeoutError):
            client.call("s", "State", StateRequest(id="1"), StartResponse, timeout=0.05)
        assert client.call("s", "State", StateRequest(id="2"), StartResponse).pid == 2
        with pytest.raises(ConnectionError):
            client.call("s", "Quit", StateRequest(), StartResponse)
