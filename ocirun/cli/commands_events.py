"""``ocirun events``."""

from __future__ import annotations

import re

from ocirun.cli.output import write
from ocirun.cli.where import store_of
from ocirun.errors import UsageError
from ocirun.jsontext import dumps
from ocirun.lifecycle.events import follow, stats_event
from ocirun.waiting import drive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parse import Invocation
    from ocirun.cli.report import Reporter

#: Durations as Go writes them: 500ms, 1m30s, 1.5h.
_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(h|ms|m|s|us|µs|ns)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
#: No cgroup has other numbers sooner than that, and nobody reads faster.
_LEAST = 1e-3


def command(invocation: Invocation, _reporter: Reporter) -> int:
    """Prints what happens to a container, an event a line, until its end."""
    store, container = store_of(invocation), invocation.arguments[0]
    interval = seconds(invocation.text("interval"))
    if invocation.switch("stats"):
        _tell(stats_event(store, container))
        return 0
    drive(follow(store, container, interval, _tell))  # nothing is made, so a signal may just end us
    return 0


def _tell(event: dict[str, object]) -> None:
    write(dumps(event) + "\n")


def seconds(text: str) -> float:
    """The seconds of a duration, such as 1m30s; raises UsageError for none, and for one of nothing."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise UsageError(f"events: --interval: {text!r} is no duration", hint="such as 5s, 500ms or 1m30s")
    total = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if total < _LEAST:
        raise UsageError(f"events: --interval: {text!r} is less than a millisecond")
    return total
