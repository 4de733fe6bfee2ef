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
    "iversion": ("iversion", True),
    "noiversion": ("iversion", False),
}
#: The same flags for mount(2); iversion is known to it alone.
CLASSIC: dict[str, int] = {
    "ro": 1 << 0,
    "sync": 1 << 4,
    "mand": 1 << 6,
    "dirsync": 1 << 7,
    "iversion": 1 << 23,
    "lazytime": 1 << 25,
}
#: MS_SILENT: the log of the kernel is not for what a config says.
SILENT = 1 << 15
#: Of a remount: the words that take a flag of the file system back.
OFF = {"sync": "async", "lazytime": "nolazytime", "mand": "nomand"}
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
SHARING = ("shared", "rshared")
#: Words that ask for what happens anyhow: the kernel's own choice, or (silent, loud) how it reports a failed
#: mount, which through the mount API goes to us and never to the console.
NEUTRAL = frozenset(("defaults", "silent", "loud"))
BINDS = {"bind": 1, "rbind": 2}
REMOUNT, COPY = "remount", "tmpcopyup"
#: What a bind mount does with a symbolic link at the end of its source or its destination (as crun).
COPY_LINK, SOURCE_LINK, TARGET_LINK = "copy-symlink", "src-nofollow", "dest-nofollow"
LINKS = (COPY_LINK, SOURCE_LINK, TARGET_LINK)
#: Whether the mounts below are mapped, too.  crun knows them with a mapping behind: ``idmap=uids=…;gids=…``.
IDMAPS = {"idmap": False, "ridmap": True}
#: Words that are not for the kernel but for mount(8), which takes them for those that stand with them.
MOUNT_8: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("auto", "noauto", "nouser", "nousers", "noowner", "nogroup", "_netdev"), ()),
    **dict.fromkeys(("user", "users"), ("nosuid", "nodev", "noexec")),
    **dict.fromkeys(("owner", "group"), ("nosuid", "nodev")),
}
#: The longest text that fsconfig(2) takes as a name or value, in bytes (fs/fsopen.c: 256 with the NUL), and
#: mount(2) for all options together or as the source (a page with the NUL).
LONGEST_VALUE, LONGEST_TEXT = 255, 4095
#: word -> what to tell; also with "=VALUE" behind it.
REFUSED: dict[str, str] = {
    "nofail": "is not built: a mount that fails is an error",
    "loop": "is not built: make the loop device before, and name it as the source",
}


def known_words() -> list[str]:
    """Every word that has a meaning here, sorted."""
    recursive = ["r" + word for word in (*ATTRIBUTES, *ATIMES)]
    kinds = {*NEUTRAL, *BINDS, *LINKS, *IDMAPS, REMOUNT, COPY}
    return sorted({*ATTRIBUTES, *ATIMES, *FLAGS, *PROPAGATIONS, *recursive, *kinds})


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


def length(text: str) -> int:
    """How many bytes the kernel sees of ``text``."""
    return len(text.encode("utf-8", "surrogatepass"))


def fits(parameter: str) -> bool:
    """Whether fsconfig(2) takes ``parameter``, NAME or NAME=VALUE."""
    return all(length(part) <= LONGEST_VALUE for part in parameter.split("=", 1))


def _layers(word: str) -> list[str]:
    """A ``lowerdir=`` that is too long for one parameter as one parameter a layer; there nothing is escaped.

    Two colons go before layers that hold data alone (the kernel's overlayfs.rst).
    """
    if not word.startswith("lowerdir=") or fits(word):
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


def _joined_lists(parts: list[str]) -> list[str]:
    """``mpol=bind:0,2`` of tmpfs: a comma before a digit is part of the value (mm/shmem.c)."""
    found: list[str] = []
    for part in parts:
        if found and part[:1].isdigit():
            found[-1] += f",{part}"
        else:
            found.append(part)
    return found


class MountOptions:
    """The meaning of one list of words; each that is kept comes with its place in the list."""

    __slots__ = (
        "below", "bind", "copy", "data", "flags", "idmap", "idmap_below", "links", "mapping", "propagations",
        "refused", "remount", "top",
    )  # fmt: skip

    def __init__(self, words: Sequence[str]) -> None:
        #: 0 for a new file system, 1 for ``bind``, 2 for ``rbind``.
        self.bind = 0
        #: Where ``remount``, ``tmpcopyup`` and ``idmap`` stand, -1 where they do not.
        self.remount = self.copy = self.idmap = -1
        #: Whether ``ridmap`` is there, and what mapping the word brings.
        self.idmap_below = False
        self.mapping = ""
        #: Where each of LINKS stands, that is there.
        self.links: dict[str, int] = {}
        self.top = Attributes()
        self.below = Attributes()
        #: Flag of the file system -> whether it is set, and by which word.
        self.flags: dict[str, tuple[bool, int]] = {}
        #: Words of propagation, which take effect one after the other.
        self.propagations: list[str] = []
        #: Words for the file system itself, and words that are refused.
        self.data: list[tuple[int, str]] = []
        self.refused: list[tuple[int, str]] = []
        for number, word in enumerate(words):
            self._take(number, word)

    @property
    def propagation(self) -> list[int]:
        """The flags of the words of that kind."""
        return [PROPAGATIONS[word] for word in self.propagations]

    @property
    def attributes(self) -> int:
        """Those of a mount that has nothing below it: the recursive words come after the plain ones."""
        return self.top.set & ~self.below.clear | self.below.set

    def words(self, fstype: str) -> list[str]:
        """What is for the file system itself, as it is written, but one at a time.

        The kernel took them as one text, split at commas; with fsconfig(2) each has a call of its own.
        """
        data = [part for _, word in self.data for part in _split(word, ",")]
        return _joined_lists(data) if fstype == "tmpfs" else data

    def parameters(self, fstype: str) -> list[str]:
        """``words`` and the flags that are set, each a parameter of fsconfig(2)."""
        data = self.words(fstype)
        if fstype == "overlay":
            data = [part for word in data for part in _layers(word)]
        return data + self.names()

    def names(self) -> list[str]:
        """The flags of the file system that are set."""
        return [name for name, (on, _) in self.flags.items() if on]

    def _is_kind(self, number: int, word: str) -> bool:
        """Takes a word in that says what kind of mount it is; False when it is not of these."""
        if word in BINDS:
            self.bind = max(self.bind, BINDS[word])
        elif word == REMOUNT:
            self.remount = number
        elif word == COPY:
            self.copy = number
        elif word in LINKS:
            self.links[word] = number
        elif word.partition("=")[0] in IDMAPS:
            name, _, self.mapping = word.partition("=")
            self.idmap, self.idmap_below = number, self.idmap_below or IDMAPS[name]
        else:
            return False
        return True

    def _take(self, number: int, word: str) -> None:
        if self.top.apply(word) or (word[:1] == "r" and self.below.apply(word[1:])):
            return
        if self._is_kind(number, word):
            return
        if word in FLAGS:
            name, sets = FLAGS[word]
            self.flags[name] = sets, number
        elif word in PROPAGATIONS:
            self.propagations.append(word)
        elif word.partition("=")[0] in REFUSED:
            self.refused.append((number, word))
        elif word in MOUNT_8 or word.startswith(("x-", "comment=")):
            for meant in MOUNT_8.get(word, ()):
                self.top.apply(meant)
        elif word and word not in NEUTRAL:
            self.data.append((number, word))
