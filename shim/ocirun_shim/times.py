"""Points in time as containerd writes and reads them (google/protobuf/timestamp.proto)."""

from __future__ import annotations

import time

from google.protobuf.timestamp_pb2 import Timestamp

_NANO = 1_000_000_000

#: The zero of Go's time.Time, the year 1: "not yet" to a client, which takes an absent timestamp for 1970.
NOT_YET = Timestamp(seconds=-62135596800)


def to_timestamp(when: int) -> Timestamp:
    """``when``, in nanoseconds after 1970, also negative (time.time_ns, CLOCK_REALTIME)."""
    seconds, nanos = divmod(when, _NANO)
    return Timestamp(seconds=seconds, nanos=nanos)


def from_timestamp(when: Timestamp) -> int:
    """Nanoseconds after 1970; negative before."""
    return when.seconds * _NANO + when.nanos


def now() -> Timestamp:
    """This moment."""
    return to_timestamp(time.time_ns())
