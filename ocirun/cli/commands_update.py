"""``ocirun update``."""

from __future__ import annotations

import sys

from ocirun.cli.signals import complete
from ocirun.cli.where import store_of
from ocirun.config import SIZE, load_bytes, parse
from ocirun.errors import ConfigError, Fault, UsageError
from ocirun.files import read_whole
from ocirun.lifecycle.update import update

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parse import Invocation
    from ocirun.cli.report import Reporter

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
#: Flag -> where its value belongs in the Resources object.
NUMBERS = {
    "blkio-weight": ("blockIO", "weight"),
    "cpu-period": ("cpu", "period"),
    "cpu-quota": ("cpu", "quota"),
    "cpu-burst": ("cpu", "burst"),
    "cpu-share": ("cpu", "shares"),
    "cpu-idle": ("cpu", "idle"),
    "pids-limit": ("pids", "limit"),
}
SIZES = {
    "memory": ("memory", "limit"),
    "memory-reservation": ("memory", "reservation"),
    "memory-swap": ("memory", "swap"),
}
TEXTS = {"cpuset-cpus": ("cpu", "cpus"), "cpuset-mems": ("cpu", "mems")}


def command(invocation: Invocation, reporter: Reporter) -> int:
    """Changes the limits of a container, by flags or by a Resources object in a file."""
    by_flags = _by_flags(invocation)
    name = "the flags"
    wanted: dict[str, object] = dict(by_flags)
    if invocation.given("resources"):
        if by_flags:
            raise UsageError("update: flags of limits beside --resources", hint="the file says all of that")
        name = invocation.text("resources")
        wanted = _from_file(name)
    elif not by_flags:
        raise UsageError("update: no limit is named", hint="see ocirun update --help")
    complete(update(store_of(invocation), invocation.arguments[0], wanted, name, reporter.warn))
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
    """A whole number, also a negative one; with ``units`` it may end in b, k, m, g or t, powers of 1024."""
    digits = text.lower().rstrip("bkmgt") if units else text
    unit = text.lower()[len(digits) :]
    plain = digits.removeprefix("-")
    if not (plain.isascii() and plain.isdigit() and len(plain) < 20 and unit in _UNITS):
        more = ", perhaps with b, k, m, g or t behind" if units else ""
        raise UsageError(f"update: --{flag}: {text!r} is not a whole number{more}")
    return int(digits) * _UNITS[unit]


def _from_file(name: str) -> dict[str, object]:
    source = read_whole(sys.stdin.fileno(), SIZE) if name == "-" else load_bytes(name)
    value, sound = parse(source)
    if sound and isinstance(value, dict):
        return dict(value)
    raise ConfigError([Fault("", "must be a JSON object, the resources of a config.json")], name=name)
