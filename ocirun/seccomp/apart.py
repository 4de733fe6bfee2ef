"""The compiler in a child of ours: with rules that overlap in an unlucky way libseccomp never comes to an end
(2.5.4 and 2.6.1; runc hangs as well), and while it is at it no signal reaches us."""

from __future__ import annotations

import time

from ocirun.child import Child, parts
from ocirun.errors import EXHAUSTED, HostError, words_of
from ocirun.jsontext import dumps, loads
from ocirun.seccomp.compile import Compiled, compile_profile

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any

    from ocirun_spec.types import Seccomp

    from ocirun.waiting import Task

_POINTER = "/linux/seccomp"
#: Seconds; the longest profiles of engines take some hundredths of one.
_PATIENCE = 10.0


def compile_apart(profile: Seccomp, *, strict: bool = False) -> Task[Compiled]:
    """As ``compile_profile``, and raises HostError, too, for a profile that takes too long."""
    try:
        child = Child(lambda to: _tell(to, profile, strict=strict))
    except OSError as error:
        number = error.errno or 0
        words = f"fork for libseccomp: {words_of(number)}"
        raise HostError(words, pointer=_POINTER, errno=number, hint=EXHAUSTED.get(number, "")) from error
    try:
        said = yield from child.hear(time.monotonic() + _PATIENCE)
    finally:
        child.finish(wait=True)
    if said[-1:] != b"\n":
        raise HostError(
            f"libseccomp has not compiled the profile within {_PATIENCE:.0f} seconds, or was killed",
            pointer=_POINTER,
            hint="two rules of one system call whose conditions overlap may keep it for ever: join them",
        )
    told: Any = loads(said.decode())
    if "error" in told:
        raise HostError(**told["error"])
    return Compiled(bytes.fromhex(told["program"]), told["rules"], told["library"])


def _tell(to: _socket.socket, profile: Seccomp, *, strict: bool) -> None:
    try:
        made = compile_profile(profile, strict=strict)
        told: dict[str, object] = {
            "program": made.program.hex(), "rules": made.rules, "library": made.library
        }  # fmt: skip
    except HostError as error:
        told = {"error": parts(error)}
    to.sendall(f"{dumps(told)}\n".encode())
