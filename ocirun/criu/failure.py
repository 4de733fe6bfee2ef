"""Why criu failed: its answer is a number at most, so that the errors of its log have to tell."""

from __future__ import annotations

from ocirun.errors import HostError, escaped
from ocirun.files import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.criu.messages import Message

#: How many of its errors are repeated from the beginning, which is nearest to the cause, and from the end.
_LINES = 3
_LONGEST = 300
#: What criu says -> the way out.
_HINTS = {
    "iptables-restore": "install iptables, or give --network-lock nftables",
    "consider using --": "the text names the flag, which checkpoint and restore have as well",
    "has bad size": "a file must be as it was, also one that is standard input or output; a pipe need not",
    "doesn't have a proper root mount": "it is of the host, and in no config: `mounts remove` takes it away",
    "Can't dump ghost file": "a file that was deleted is too big: ghost-limit in criu's configuration",
}


def judge(doing: str, log: str, answer: Message) -> None:
    """Raises HostError unless the ``answer`` of a criu that was to "checkpoint" or "restore" is a success,
    with the lines of its ``log`` that say why."""
    if answer.number(2):
        return
    told = "; ".join(_errors(log)) or answer.text(9) or "it has ended without a word"
    hint = next((one for words, one in _HINTS.items() if words in told), "")
    raise HostError(
        f"criu cannot {doing} the container: {told}",
        operation=doing,
        path=log,
        hint=f"{hint}; its log is {log}" if hint else f"its log is {log}",
        code="criu",
    )


def _errors(log: str) -> list[str]:
    """The errors of a log without time and place, each once, as many as fit."""
    try:
        text = read_file(log).decode("utf-8", "replace")
    except OSError:
        return []
    found = [line.partition("Error ")[2] for line in text.split("\n") if "Error (" in line]
    plain = dict.fromkeys(escaped(one.partition("): ")[2])[:_LONGEST] for one in found)
    told = [one for one in plain if one]
    return told if len(told) <= 2 * _LINES else [*told[:_LINES], "…", *told[-_LINES:]]
