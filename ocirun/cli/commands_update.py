"""``ocirun update``."""

from __future__ import annotations

import re
import sys
from fractions import Fraction

from ocirun.cli.signals import complete
from ocirun.cli.where import store_of
from ocirun.config import SIZE, load_bytes, read_resources
from ocirun.errors import UsageError
from ocirun.files import read_whole
from ocirun.lifecycle.update import update

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parse import Invocation
    from ocirun.cli.report import Reporter
    from ocirun.errors import Fault

#: As runc takes them: 64m, 64M, 64MiB, 1.5g, "64 mb".
_SIZE = re.compile(r"(-?[0-9]{1,19}(?:\.[0-9]{1,9})?) ?([kmgtp]?)i?b?", re.IGNORECASE)
_NUMBER = re.compile(r"(-?[0-9]{1,19})()")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
#: Flag -> where its value belongs in the Resources object.
NUMBERS = {
    "blkio-weight": ("blockIO", "weight"),
    "cpu-period": ("cpu", "period"),
    "cpu-quota": ("cpu", "quota"),
    "cpu-burst": ("cpu", "burst"),
    "cpu-share": ("cpu", "shares"),
    "cpu-idle": ("cpu", "idle"),
    "cpu-rt-period": ("cpu", "realtimePeriod"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime"),
    "pids-limit": ("pids", "limit"),
}
SIZES = {
    "memory": ("memory", "limit"),
    "memory-reservation": ("memory", "reservation"),
    "memory-swap": ("memory", "swap"),
    "kernel-memory": ("memory", "kernel"),
    "kernel-memory-tcp": ("memory", "kernelTCP"),
}
TEXTS = {"cpuset-cpus": ("cpu", "cpus"), "cpuset-mems": ("cpu", "mems")}
#: And in the IntelRdt object.
LINES = {"l3-cache-schema": "l3CacheSchema", "mem-bw-schema": "memBwSchema"}


def command(invocation: Invocation, reporter: Reporter) -> int:
    """Changes the limits of a container, by flags or by a Resources object in a file."""
    by_flags = _by_flags(invocation)
    lines = {LINES[flag]: invocation.text(flag) for flag in LINES if invocation.given(flag)}
    name = "the flags"
    wanted: dict[str, object] = dict(by_flags)
    if invocation.given("resources"):
        if by_flags:
            raise UsageError("update: flags of limits beside --resources", hint="the file says all of that")
        name = invocation.text("resources")
        wanted = _from_file(name)
    elif not by_flags and not lines:
        raise UsageError("update: no limit is named", hint="see ocirun update --help")

    def warn(fault: Fault) -> None:
        reporter.warn(fault, name)

    complete(update(store_of(invocation), invocation.arguments[0], wanted, name, warn, intel_rdt=lines))
    return 0


def _by_flags(invocation: Invocation) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = {}
    for flag, (part, member) in (*NUMBERS.items(), *SIZES.items(), *TEXTS.items()):
        if invocation.given(flag):
            text = invocation.text(flag)
            value = text if flag in TEXTS else amount(flag, text, units=flag in SIZES)
            found.setdefault(part, {})[member] = value
    return found


def amount(flag: str, text: str, *, units: bool) -> int:
    """A whole number, also a negative one; with ``units`` it may have k, m, g, t or p behind, powers of 1024,
    and then a fraction."""
    found = (_SIZE if units else _NUMBER).fullmatch(text)
    if found is None or ("." in found[1] and not found[2]):
        more = ", perhaps with k, m, g or t behind" if units else ""
        raise UsageError(f"update: --{flag}: {text!r} is not a whole number{more}")
    return int(Fraction(found[1]) * _UNITS[found[2].lower()])


def _from_file(name: str) -> dict[str, object]:
    source = read_whole(sys.stdin.fileno(), SIZE) if name == "-" else load_bytes(name, bundled=False)
    return {**read_resources(source, name)}
