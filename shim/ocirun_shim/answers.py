"""What a method of the service gives back: an answer that may come now or later, or a refusal."""

from __future__ import annotations

from ocirun.errors import OcirunError, StateError
from ocirun_shim import log
from ocirun_shim.stdio_paths import StdioError
from ocirun_shim.ttrpc import codes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Encoded(Protocol):
        """A protobuf message."""

        def SerializeToString(self) -> bytes:
            """The message as bytes."""
            ...

    class Answer(Protocol):
        """The one answer of one call, on the ``stream`` of a connection."""

        stream: int

        @property
        def connection(self) -> int:
            """The descriptor of the connection."""
            ...

        @property
        def open(self) -> bool:
            """Whether the client is still there."""
            ...

        def send(self, message: Encoded) -> None:
            """The call succeeded."""
            ...

        def fail(self, code: int, text: str) -> None:
            """It did not: ``code`` is one of ocirun_shim.ttrpc.codes."""
            ...


class Refused(Exception):  # noqa: N818 - it is an answer, not a mistake
    """A call that cannot be done, with the code its client acts upon."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


#: Codes of our errors that say more to a client than "unknown"; engines match the words of the others.
_CODES = {
    "container-exists": codes.ALREADY_EXISTS,
    "container-unknown": codes.NOT_FOUND,
    "container-id-invalid": codes.INVALID_ARGUMENT,
}


def refusal(error: BaseException, operation: str = "") -> Refused:
    """``error`` as an answer; ``operation`` stands before the words of a failure of the runtime."""
    if isinstance(error, Refused):
        return error
    before = f"{operation}: " if operation else ""
    if isinstance(error, OcirunError):
        code = _CODES.get(error.code, codes.UNKNOWN)
        if isinstance(error, StateError) and "not running" in error.message:
            code = codes.NOT_FOUND
        return Refused(code, f"{before}{error}{_notes(error)}")
    if isinstance(error, StdioError):
        return Refused(error.code, f"{before}{error}")
    if isinstance(error, OSError):
        return Refused(
            codes.UNKNOWN, f"{before}{error.strerror or error}: {error.filename or ''}".rstrip(": ")
        )
    if isinstance(error, ValueError) and "embedded null byte" in str(error):  # what os says of such a path
        return Refused(codes.INVALID_ARGUMENT, f"{before}a path of the bundle or a name has a null byte")
    log.exception("a call failed", error)
    return Refused(codes.INTERNAL, f"{before}a fault of ocirun itself: {type(error).__name__}: {error}")


def _notes(error: BaseException) -> str:
    return "".join(f"; {note}" for note in getattr(error, "__notes__", ()))


def fail(answer: Answer, error: BaseException, operation: str = "") -> None:
    """Answers with the refusal that ``error`` means."""
    refused = refusal(error, operation)
    answer.fail(refused.code, refused.text)
