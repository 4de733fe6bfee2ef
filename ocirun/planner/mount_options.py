"""The words of ``mounts[].options`` and what each asks of the kernel (config.md, mount(8), mount_setattr(2)).

One table per kind of word; a word that is in none goes to the file system as data.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: Attributes of one mount (linux/mount.h).
RDONLY, NOSUID, NODEV, NOEXEC = 0x1, 0x2, 0x4, 0x8
NOATIME, STRICTATIME, RELATIME, NODIRATIME, NOSYMFOLLOW = 0x10, 0x20, 0x0, 0x80, 0x200000
#: The three bits in which the kernel keeps one of RELATIME, NOATIME and STRICTATIME.
ATIME_MASK = 0x70

#: word -> (attribute, whether the word sets it).  With an "r" before it a word counts for all mounts below,
#: too.
ATTRIBUTES: dict[str, tuple[int, bool]] = {
    "ro": (RDONLY, True),
    "rw": (RDONLY, False),
    "nosuid": (NOSUID, True),
    "suid": (NOSUID, False),
    "nodev": (NODEV, True),
    "dev": (NODEV, False),
    "noexec": (NOEXEC, True),
    "exec": (NOEXEC, False),
    "nodiratime": (NODIRATIME, True),
    "diratime": (NODIRATIME, False),
    "nosymfollow": (NOSYMFOLLOW, True),
    "symfollow": (NOSYMFOLLOW, False),
}
#: word -> (mode, whether the word chooses it); one that unchooses goes back to the kernel's own, relatime.
ATIMES: dict[str, tuple[int, bool]] = {
    "noatime": (NOATIME, True),
    "atime": (NOATIME, False),
    "strictatime": (STRICTATIME, True),
    "nostrictatime": (STRICTATIME, False),
    "relatime": (RELATIME, True),
    "norelatime": (RELATIME, False),
}
#: word -> (flag of the file system for fsconfig(2), whether the word sets it).
FLAGS: dict[str, tuple[str, bool]] = {
    "sync": ("sync", True),
    "async": ("sync", False),
    "dirsync": ("dirsync", True),
    "lazytime": ("lazytime", True),
    "nolazytime": ("lazytime", False),
    "mand": ("mand", True),
    "nomand": ("mand", False),
}
_REC = 0x4000
#: word -> flags of mount(2).
PROPAGATIONS: dict[str, int] = {
    "unbindable": 1 << 17,
    "private": 1 << 18,
    "slave": 1 << 19,
    "shared": 1 << 20,
    "runbindable": 1 << 17 | _REC,
    "rprivate": 1 << 18 | _REC,
    "rslave": 1 << 19 | _REC,
    "rshared": 1 << 20 | _REC,
}
#: Words that ask for what happens anyhow: the kernel's own choice, or (silent, loud) how it reports a failed
#: mount, which through the mount API goes to us and never to the console.
NEUTRAL = frozenset(("defaults", "silent", "loud", "noiversion"))
BINDS = {"bind": 1, "rbind": 2}
#: The longest text that fsconfig(2) takes as a value, in bytes (fs/fsopen.c: 256 with the NUL).
LONGEST_VALUE = 255
#: word -> what to tell; also with "=VALUE" behind it.
REFUSED: dict[str, str] = {
    "remount": "is not built yet",
    "iversion": "is not built: the mount API of the kernel has no such flag",
    "tmpcopyup": "is not built yet",
    "idmap": "is not built yet",
    "ridmap": "is not built yet",
    "copy-symlink": "is not built yet",
    "src-nofollow": "is not built yet",
    "dest-nofollow": "is not built yet",
}


def known_words() -> list[str]:
    """Every word that has a meaning here, sorted."""
    recursive = ["r" + word for word in (*ATTRIBUTES, *ATIMES)]
    words = {*ATTRIBUTES, *ATIMES, *FLAGS, *PROPAGATIONS, *NEUTRAL, *BINDS, *recursive}
    return sorted(words)


class Attributes:
    """What is to be set and cleared by mount_setattr, filled word by word: the later word wins."""

    __slots__ = ("clear", "set")

    def __init__(self) -> None:
        self.set = 0
        self.clear = 0

    def apply(self, word: str) -> bool:
        """Takes ``word`` in; False when it is not of this kind."""
        if word in ATTRIBUTES:
            bit, sets = ATTRIBUTES[word]
            self.set = self.set | bit if sets else self.set & ~bit
            self.clear = self.clear & ~bit if sets else self.clear | bit
            return True
        if word in ATIMES:
            self._choose_atime(*ATIMES[word])
            return True
        return False

    def _choose_atime(self, mode: int, chooses: bool) -> None:
        """The kernel changes the mode only when all its three bits are cleared in the same call."""
        if chooses:
            self.set = self.set & ~ATIME_MASK | mode
        elif self.set & ATIME_MASK == mode:
            self.set &= ~ATIME_MASK
        self.clear |= ATIME_MASK


def _layers(word: str) -> list[str]:
    """A ``lowerdir=`` that is too long for one parameter as one parameter a layer; there nothing is escaped.

    Two colons go before layers that hold data alone (the kernel's overlayfs.rst).
    """
    if not word.startswith("lowerdir=") or len(word.encode("utf-8", "surrogateescape")) <= 9 + LONGEST_VALUE:
        return [word]
    name = "lowerdir+"
    found: list[str] = []
    for layer in _split(word[9:], ":"):
        if layer:
            found.append(f"{name}={_unescaped(layer)}")
        else:
            name = "datadir+"
    return found


def _split(text: str, mark: str) -> list[str]:
    """``text`` split at each ``mark`` that no backslash stands before."""
    parts: list[str] = []
    begin = at = 0
    while at < len(text):
        if text[at] == mark:
            parts.append(text[begin:at])
            begin = at + 1
        at += 2 if text[at] == "\\" else 1
    return [*parts, text[begin:]]


def _unescaped(text: str) -> str:
    letters = iter(text)
    return "".join([next(letters, "") if letter == "\\" else letter for letter in letters])


class MountOptions:
    """The meaning of one list of words."""

    __slots__ = ("below", "bind", "data", "flags", "propagations", "refused", "top")

    def __init__(self, words: Sequence[str]) -> None:
        #: 0 for a new file system, 1 for ``bind``, 2 for ``rbind``.
        self.bind = 0
        self.top = Attributes()
        self.below = Attributes()
        self.flags: dict[str, bool] = {}
        self.propagations: list[str] = []
        #: Words for the file system itself, and words that are refused, each with its place in the list.
        self.data: list[tuple[int, str]] = []
        self.refused: list[tuple[int, str]] = []
        for number, word in enumerate(words):
            self._take(number, word)

    @property
    def propagation(self) -> int:
        """The flags of the last word of that kind; 0 without one."""
        return PROPAGATIONS[self.propagations[-1]] if self.propagations else 0

    def parameters(self, fstype: str) -> list[str]:
        """What is for the file system itself, each a parameter of fsconfig(2).

        The kernel took them as one text, split at commas; now each has a call of its own.
        """
        data = [part for _, word in self.data for part in _split(word, ",")]
        if fstype == "overlay":
            data = [part for word in data for part in _layers(word)]
        return data + [name for name, on in self.flags.items() if on]

    def _take(self, number: int, word: str) -> None:
        if self.top.apply(word) or (word[:1] == "r" and self.below.apply(word[1:])):
            return
        if word in FLAGS:
            name, sets = FLAGS[word]
            self.flags[name] = sets
        elif word in PROPAGATIONS:
            self.propagations.append(word)
        elif word in BINDS:
            self.bind = max(self.bind, BINDS[word])
        elif word.partition("=")[0] in REFUSED:
            self.refused.append((number, word))
        elif word and word not in NEUTRAL:
            self.data.append((number, word))
