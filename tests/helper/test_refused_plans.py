"""A plan that is wrong anywhere is refused before its first step is done."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from ocirun.executor import wire
from ocirun.plan.steps import VERBS
from tests.helper import plans
from tests.helper.driver import encoded

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.helper.driver import Run
    from tests.helper.plans import Place

pytestmark = pytest.mark.root

HEADER = 32


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _records(plan: bytes) -> list[bytes]:
    records: list[bytes] = []
    at = HEADER
    while at < len(plan):
        size = int.from_bytes(plan[at : at + 4], "little")
        records.append(plan[at : at + size])
        at += size
    return records


def _joined(plan: bytes, records: list[bytes]) -> bytes:
    """A plan with a true header around ``records``."""
    body = b"".join(records)
    return plan[:4] + _u32(HEADER + len(body)) + plan[8:24] + _u32(len(records)) + plan[28:32] + body


def _record(verb: str, body: bytes, step: int = 1) -> bytes:
    number = VERBS[verb][0]
    return _u32(8 + len(body)) + number.to_bytes(2, "little") + step.to_bytes(2, "little") + body


def _text(raw: bytes) -> bytes:
    return _u32(len(raw)) + raw + bytes(4 - len(raw) % 4)


def _patched(plan: bytes, at: int, raw: bytes) -> bytes:
    return plan[:at] + raw + plan[at + len(raw) :]


def _last(record: bytes) -> Callable[[bytes], bytes]:
    """Puts ``record`` in the place of the last one."""
    return lambda plan: _joined(plan, [*_records(plan)[:-1], record])


ARGUMENTS = "the arguments are wrong"

#: What is wrong -> the broken plan made from a good one, what the helper says.
BROKEN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "not a plan"),
    "magic": (lambda plan: _patched(plan, 0, b"x"), "not a plan"),
    "size": (lambda plan: plan + bytes(4), "the size is wrong"),
    "cut": (lambda plan: plan[:-4], "the size is wrong"),
    "digest": (lambda plan: _patched(plan, 8, bytes([plan[8] ^ 1])), "made from another table of verbs"),
    "count": (lambda plan: _patched(plan, 24, b"\1\0\0\0"), "the records do not fill it"),
    "slots": (lambda plan: _patched(plan, 28, b"\0\0\0\1"), "too many slots"),
    "slot": (lambda plan: _patched(plan, 28, b"\1\0\0\0"), ARGUMENTS),
    "record too long": (_last(_u32(9999) + _record("new_session", b"")[4:]), "the records do not fill it"),
    "record too short": (_last(_u32(4) + _record("new_session", b"")[4:]), "the records do not fill it"),
    "record not aligned": (_last(_u32(9) + _record("new_session", b"")[4:]), "the records do not fill it"),
    "unknown verb": (_last(_u32(8) + b"\xff\xff\1\0"), "no verb of the helper"),
    "verb of the host": (_last(_record("send_console", _u32(0))), "no verb of the helper"),
    "init before the clone": (
        lambda plan: _joined(plan, [_record("new_session", b""), *_records(plan)]),
        "a verb of init before clone_init",
    ),
    "stage after the clone": (_last(_record("hide_process", b"")), "a verb of the stage after clone_init"),
    "no exec": (lambda plan: _joined(plan, _records(plan)[:-2]), "no exec at the end"),
    "more after exec": (
        lambda plan: _joined(plan, [*_records(plan), _record("new_session", b"")]),
        "a record after exec",
    ),
    "argument missing": (_last(_record("set_ids", _u32(0))), ARGUMENTS),
    "argument too many": (_last(_record("new_session", _u32(0))), ARGUMENTS),
    "NUL in a text": (_last(_record("set_hostname", _text(b"a\0b"))), ARGUMENTS),
    "text without end": (_last(_record("set_hostname", _u32(4) + b"abcd")), ARGUMENTS),
    "text of 4 GiB": (_last(_record("set_hostname", _u32(0xFFFFFFFF) + b"abc\0")), ARGUMENTS),
    "padding": (_last(_record("set_hostname", _u32(1) + b"a\0x\0")), ARGUMENTS),
    "list of 2^30": (_last(_record("set_groups", _u32(1 << 30))), ARGUMENTS),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_plan_is_refused_whole(place: Place, launch: Callable[..., Run], what: str) -> None:
    broken, says = BROKEN[what]
    run = launch(broken(encoded(plans.small(place, "true"))))
    report = run.until(wire.FAILED)
    assert (report.errno, report.operation, report.path) == (errno.EPROTO, "plan", says)
    assert run.wait_stage() == 1
    assert run.pid == 0
    assert not list(place.state.iterdir()), "open_handshake was not performed"


def test_the_plan_that_is_not_broken_runs(place: Place, launch: Callable[..., Run]) -> None:
    plan = encoded(plans.small(place, "true"))
    assert _joined(plan, _records(plan)) == plan
    launch(plan).until(wire.READY)
