"""The names of signals on Linux (signal(7)), for every architecture but alpha, mips, parisc and sparc."""

from __future__ import annotations

from ocirun.errors import UsageError

SIGTERM = 15
RTMIN, RTMAX = 34, 64  # of the C library, which keeps 32 and 33 for itself

#: In the order of their numbers, from 1.
NAMES = (
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN"
    " TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
).split()

_SYNONYMS = {"IOT": 6, "CLD": 17, "POLL": 29, "UNUSED": 31, "RTMIN": RTMIN, "RTMAX": RTMAX}


def signal_number(text: str) -> int:
    """The number of a signal by its number or its name, with or without SIG, in either case, RTMIN+N and
    RTMAX-N too; raises UsageError.  0 is no signal but asks whether there is somebody to send one to
    (kill(2)).
    """
    if text == "0":
        return 0
    number = int(text) if _is_number(text) else _by_name(text.upper().removeprefix("SIG"))
    if not 0 < number <= RTMAX:
        raise UsageError(f"unknown signal {text!r}", hint=_hint(text))
    return number


def _is_number(text: str) -> bool:
    """Digits of ASCII alone, and no more than int() takes."""
    return text.isascii() and text.isdigit() and len(text) < 10


def _by_name(name: str) -> int:
    if name in NAMES:
        return NAMES.index(name) + 1
    for base, sign in (("RTMIN+", 1), ("RTMAX-", -1)):
        offset = name.removeprefix(base)
        if offset != name and _is_number(offset):
            number = _SYNONYMS[base[:-1]] + sign * int(offset)
            return number if RTMIN <= number <= RTMAX else 0
    return _SYNONYMS.get(name, 0)


def _hint(text: str) -> str:
    from ocirun.nearest import nearest

    if text[:1] == "-":
        return f"without the dash: {text[1:]}"
    name = nearest(text.upper().removeprefix("SIG"), NAMES)
    return f"did you mean {name}?" if name else "a name as in `kill -l`, or a number from 1 to 64"
