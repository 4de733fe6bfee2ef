"""Limits and device rules as properties of a unit (systemd.resource-control(5), org.freedesktop.systemd1(5)).

They are made of what is to be written into the files of the cgroup, so that both say the same.  A value that
systemd cannot say is left to the file alone.
"""

from __future__ import annotations

from ocirun.planner.device_program import MKNOD, READ, WRITE
from ocirun.planner.devices import DEFAULT_RULES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ocirun_spec.types import DeviceRule

    from ocirun.planner.draft import Draft

#: Processes that stage may need beside init until init is born.
ROOM = 4
_INFINITY = (1 << 64) - 1
_LARGEST_CPU = 8191
#: The first that knows CPUWeight=idle.
_KNOWS_IDLE = 252
#: Files with one number -> their property.
_NUMBERS = {
    "memory.max": "MemoryMax", "memory.high": "MemoryHigh", "memory.low": "MemoryLow",
    "memory.min": "MemoryMin", "memory.swap.max": "MemorySwapMax", "memory.zswap.max": "MemoryZSwapMax",
    "pids.max": "TasksMax", "cpu.weight": "CPUWeight", "io.weight": "IOWeight",
}  # fmt: skip
_SETS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}
_RATES = {
    "rbps": "IOReadBandwidthMax", "wbps": "IOWriteBandwidthMax", "riops": "IOReadIOPSMax",
    "wiops": "IOWriteIOPSMax",
}  # fmt: skip
_UNITS = {"K": 10, "M": 20, "G": 30, "T": 40}


def of_writes(wanted: Iterable[Sequence[str]], version: int) -> dict[str, str]:
    """Names of properties with values in the text format of GVariant, for files and values in turn;
    ``version`` is that of systemd."""
    found: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    for writes in wanted:
        for at in range(0, len(writes), 2):
            file, value = writes[at : at + 2]
            if file in ("io.max", "io.weight") and ":" in value:
                for name, entry in _of_device(file, value):
                    lists.setdefault(name, []).append(entry)
            else:
                found.update(_of_file(file, value, version))
    return found | {name: f"@a(st) [{', '.join(entries)}]" for name, entries in lists.items()}


def _of_file(file: str, value: str, version: int) -> dict[str, str]:
    if file in _NUMBERS:
        number = _number(value.removeprefix("default ") if file == "io.weight" else value)
        return {} if number is None else {_NUMBERS[file]: f"uint64 {number}"}
    if file in _SETS:
        octets = mask(value)
        return {_SETS[file]: f"@ay [{', '.join(map(str, octets))}]"} if octets else {}
    if file == "cpu.max":
        return _quota(*value.split())
    if file == "cpu.idle" and value == "1" and version >= _KNOWS_IDLE:
        return {"CPUWeight": "uint64 0"}
    return {}


def _number(value: str) -> int | None:
    """A number as the kernel reads it, also with K, M, G or T behind; None for what systemd cannot say."""
    if value == "max":
        return _INFINITY
    digits, shift = value, 0
    if value[-1:].upper() in _UNITS:
        digits, shift = value[:-1], _UNITS[value[-1].upper()]
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 19:
        return None
    return min(int(digits) << shift, _INFINITY)


def _quota(most: str, period: str = "") -> dict[str, str]:
    """Systemd counts in time for each second, and keeps whole percents of a processor."""
    length = _number(period) if period else 100_000
    quota = _number(most)
    if not length or quota is None:
        return {}
    if most != "max":
        quota = -(-quota * 1_000_000 // (length * 10_000)) * 10_000
    found = {"CPUQuotaPerSecUSec": f"uint64 {quota}"}
    return found | ({"CPUQuotaPeriodUSec": f"uint64 {length}"} if period else {})


def mask(text: str) -> bytes:
    """The bits of a list such as ``0-3,7``, the first in the lowest; b"" for what is no such list."""
    bits = 0
    for part in text.strip().split(","):
        first, dash, last = part.strip().partition("-")
        ends = (first, last if dash else first)
        if not all(end.isascii() and end.isdigit() and int(end) <= _LARGEST_CPU for end in ends):
            return b""
        low, high = map(int, ends)
        bits |= ((1 << (high - low + 1)) - 1) << low if high >= low else 0
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def _of_device(file: str, value: str) -> Iterator[tuple[str, str]]:
    """A line ``MAJOR:MINOR WEIGHT``, or ``MAJOR:MINOR rbps=… wiops=…``."""
    device, *words = value.split()
    for word in words:
        key, _, text = word.rpartition("=")
        name = "IODeviceWeight" if file == "io.weight" else _RATES.get(key, "")
        number = _number(text)
        if name and number is not None:
            yield name, f"('/dev/block/{device}', {number})"


def of_devices(draft: Draft) -> dict[str, str]:
    """What systemd lets pass: never less than the device program of ours does, which stays on the cgroup.

    Both programs are asked, so that a rule that systemd cannot say is held by ours alone, and a reload, when
    systemd puts its own on again, takes nothing away.
    """
    everything = False
    passes: list[tuple[str, str]] = []
    for rule in draft.linux.get("resources", {}).get("devices", ()):
        if _is_all(rule):
            everything, passes = rule["allow"], []
        elif rule["allow"]:
            passes += _nodes(
                rule.get("type", "a") or "a",
                rule.get("major", -1),
                rule.get("minor", -1),
                rule.get("access", ""),
            )
    if everything:
        return {"DevicePolicy": "'auto'"}
    for one in DEFAULT_RULES:
        major, minor = (-1 if number is None else number for number in (one.major, one.minor))
        access = "".join(
            letter for letter, bit in (("r", READ), ("w", WRITE), ("m", MKNOD)) if one.access & bit
        )
        passes += _nodes(one.kind, major, minor, access)
    unique = dict.fromkeys(f"('{node}', '{access}')" for node, access in passes)
    return {"DevicePolicy": "'strict'", "DeviceAllow": f"@a(ss) [{', '.join(unique)}]"}


def _is_all(rule: DeviceRule) -> bool:
    return (
        (rule.get("type", "a") or "a") == "a"
        and rule.get("major", -1) == -1
        and rule.get("minor", -1) == -1
        and {*(rule.get("access", "") or "rwm")} == {*"rwm"}
    )


def _nodes(kind: str, major: int, minor: int, access: str) -> list[tuple[str, str]]:
    """The names by which systemd knows devices: a node, all of one major, or all.  A minor of any major is
    none of them, and is let pass for ours to judge."""
    if kind == "a":
        return [*_nodes("c", major, minor, access), *_nodes("b", major, minor, access)]
    word = {"c": "char", "b": "block"}.get(kind, "")
    if not word:
        return []
    if major >= 0 and minor >= 0:
        return [(f"/dev/{word}/{major}:{minor}", access or "rwm")]
    return [(f"{word}-{major if major >= 0 else '*'}", access or "rwm")]
