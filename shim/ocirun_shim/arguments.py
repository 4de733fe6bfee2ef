"""The command line of a shim, in the syntax of Go's flag package: containerd writes it, and people try it."""

from __future__ import annotations

from ocirun.errors import UsageError

_TEXTS = {
    "namespace": "namespace of containerd that owns the container",
    "id": "id of the container (or of the first of a group)",
    "address": "gRPC socket of containerd",
    "publish-binary": "containerd's own program; its version decides what `start` answers",
    "bundle": "bundle to delete",
    "socket": "socket to listen on, instead of descriptor 3",
    "debug-socket": "accepted, and not used",
}
_SWITCHES = {
    "debug": "say more in containerd's log",
    "v": "print the version and end",
    "version": "print the version and end",
    "info": "print what this runtime can do (containerd.types.RuntimeInfo) and end",
    "h": "print this text and end",
    "help": "print this text and end",
}
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))

#: What an identifier of containerd may hold between letters and digits (pkg/identifiers).
_JOINTS = "._-"
_LONGEST = 76

START, DELETE, SERVE = "start", "delete", ""


class Arguments:
    """What the command line says; texts are "" and switches False where it says nothing.

    ``action`` is START, DELETE or SERVE; words after it are for later versions of containerd, and ignored.
    """

    __slots__ = ("action", "switches", "texts")

    def __init__(self, texts: dict[str, str], switches: frozenset[str], action: str) -> None:
        self.texts = texts
        self.switches = switches
        self.action = action

    def text(self, name: str) -> str:
        """The value of a flag."""
        return self.texts.get(name, "")

    def switch(self, *names: str) -> bool:
        """Whether one of these switches is on."""
        return not self.switches.isdisjoint(names)

    @property
    def id(self) -> str:
        """The id of the container."""
        return self.text("id")

    @property
    def namespace(self) -> str:
        """The namespace of containerd."""
        return self.text("namespace")

    def check(self) -> None:
        """Raises UsageError unless namespace, id and action are such as containerd gives.

        Both name files below, so that nothing but an identifier may pass.
        """
        for name in ("namespace", "id"):
            if not is_identifier(self.text(name)):
                raise UsageError(f"-{name} {self.text(name)[:80]!r} is no identifier of containerd")
        if self.action not in (START, DELETE, SERVE):
            raise UsageError(f"unknown action {self.action!r}", hint="there are start and delete")


def is_identifier(text: str) -> bool:
    """Whether containerd takes ``text`` as a name: letters and digits, joined by single . _ or -."""
    plain = text
    for joint in _JOINTS:
        plain = plain.replace(joint, ".")
    return len(text) <= _LONGEST and text.isascii() and all(part.isalnum() for part in plain.split("."))


def parse(words: list[str]) -> Arguments:
    """Reads the words after the program's name.

    Flags end at the first word that is none, or at ``--``, as Go's flag package has it: ``-name value``,
    ``-name=value``, either with two dashes.  Raises UsageError for what it does not know.
    """
    texts: dict[str, str] = {}
    switches: set[str] = set()
    left = list(words)
    while left and len(left[0]) > 1 and left[0].startswith("-"):
        word = left.pop(0)
        if word == "--":
            break
        name, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
        if name in _SWITCHES:
            (switches.add if _truth(name, value if equals else "true") else switches.discard)(name)
        elif name not in _TEXTS:
            raise UsageError(f"flag provided but not defined: {word}", hint="-help lists the flags")
        elif equals:
            texts[name] = value
        elif left:
            texts[name] = left.pop(0)
        else:
            raise UsageError(f"flag needs an argument: {word}")
    return Arguments(texts, frozenset(switches), left[0] if left else SERVE)


def _truth(name: str, value: str) -> bool:
    if value not in _TRUE | _FALSE:
        raise UsageError(f"invalid boolean value {value!r} for -{name}")
    return value in _TRUE


def usage() -> str:
    """The text of -help."""
    lines = ["Usage: containerd-shim-ocirun-v2 [FLAGS] [start | delete]", ""]
    lines += [f"  -{name} TEXT".ljust(26) + what for name, what in _TEXTS.items()]
    lines += [f"  -{name}".ljust(26) + what for name, what in _SWITCHES.items()]
    return "\n".join([*lines, "", "containerd runs it; without an action it serves on descriptor 3.", ""])
