"""The one table of commands and flags: parsing, ``--help``, usage errors and docs/commands.md come from it.

Plain data, cheap to import.  The flags are those of runc, as far as this version has them; what runc has and
we have not is known by name and refused, so that nobody believes it was obeyed.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: For ``Flag.unbuilt``: whatever value it is given.
ANY = ("*",)


class Flag:
    """One flag.  ``value`` names its value in the help, "" makes it a switch.

    ``choices`` limits the value, ``number`` asks for a whole number from 0, ``many`` lets it be given more
    than once, ``unbuilt`` has the values that this version knows but refuses, ``hidden`` keeps it out of the
    help (it is there for old callers).
    """

    __slots__ = (
        "choices", "default", "help", "hidden", "many", "name", "number", "short", "unbuilt", "value",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        text: str,
        *,
        value: str = "",
        short: str = "",
        default: str = "",
        number: bool = False,
        many: bool = False,
        choices: Sequence[str] = (),
        unbuilt: Sequence[str] = (),
        hidden: bool = False,
    ) -> None:
        self.name = name
        self.help = text
        self.many = many
        self.value = value
        self.short = short
        self.default = default
        self.number = number
        self.choices = choices
        self.unbuilt = unbuilt
        self.hidden = hidden

    def is_shown(self) -> bool:
        """Whether help and suggestions name it: it does something, and it is not hidden."""
        return not self.hidden and (bool(self.choices) or not self.unbuilt)

    def spellings(self) -> str:
        """How it is written, for example ``--bundle, -b DIR``."""
        short = f", -{self.short}" if self.short else ""
        return f"--{self.name}{short}{' ' + self.value if self.value else ''}"


class Command:
    """One command.  ``needs`` and ``takes`` are the names of its arguments that must and that may be there.

    With ``program`` all words after those that it needs are a program and its arguments, flags or not;
    ``rest`` is what the usage calls them.
    ``failure`` is the exit status where the command itself fails.
    ``module`` holds its ``command(invocation, reporter) -> exit status``; a ``hot`` one imports only what a
    list names (design: start-up is the product's speed).
    """

    __slots__ = (
        "about", "failure", "flags", "hot", "module", "name", "needs", "program", "rest", "summary", "takes",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        summary: str,
        about: str = "",
        *,
        needs: Sequence[str] = (),
        takes: Sequence[str] = (),
        flags: Sequence[Flag] = (),
        hot: bool = False,
        program: bool = False,
        rest: str = "COMMAND [ARG …]",
        failure: int = 1,
    ) -> None:
        self.name = name
        self.summary = summary
        self.about = about
        self.needs = needs
        self.takes = takes
        self.flags = flags
        self.hot = hot
        self.program = program
        self.rest = rest
        self.failure = failure
        self.module = f"ocirun.cli.commands_{name}"

    def usage(self) -> str:
        """The line of its usage, without the name of the program."""
        words = [self.name, "[flags]", *self.needs, *(f"[{name}]" for name in self.takes)]
        return " ".join([*words, self.rest] if self.program else words)


HELP = Flag("help", "show this help", short="h")
VERSION = Flag("version", "show the version of ocirun and of the specification", short="v")
BUNDLE = Flag("bundle", "the bundle: a directory with config.json", value="DIR", short="b", default=".")
REPORT = Flag(
    "format",
    "how to print it: text or json",
    value="FORMAT",
    short="f",
    default="text",
    choices=("text", "json"),
)

GLOBAL: tuple[Flag, ...] = (
    Flag(
        "root",
        "where the state of containers lies; $XDG_RUNTIME_DIR/ocirun for anybody but root",
        value="DIR",
        default="/run/ocirun",
    ),
    Flag(
        "log",
        "append errors and warnings to this file, one line each; the last error is the cause",
        value="FILE",
    ),
    Flag(
        "log-format",
        "how to write the log: json or text (runc's default is text)",
        value="FORMAT",
        default="json",
        choices=("json", "text"),
    ),
    Flag("debug", "show the traceback of an internal error"),
    Flag("systemd-cgroup", "have systemd make the cgroup, as --cgroup-manager systemd"),
    Flag(
        "cgroup-manager",
        "who makes the cgroup: we ourselves (cgroupfs), systemd, or nobody (disabled: in that of the caller)",
        value="MANAGER",
        default="cgroupfs",
        choices=("cgroupfs", "systemd", "disabled"),
    ),
    Flag(
        "rootless",
        "whether a container without limits may do without a cgroup where none can be made",
        value="WHETHER",
        default="auto",
        choices=("auto", "false", "true"),
    ),
    HELP,
    VERSION,
)

_CREATE: tuple[Flag, ...] = (
    BUNDLE,
    Flag("console-socket", "a Unix socket that receives the master end of the terminal", value="PATH"),
    Flag("pid-file", "write the process id of the container into this file", value="PATH"),
    Flag("preserve-fds", "pass N more descriptors, from 3 upward", value="N", default="0", number=True),
    Flag("pidfd-socket", "a Unix socket that receives a pidfd of the container", value="PATH"),
    Flag("no-pivot", "enter the root by chroot(2), for an initramfs: the old root stays below"),
    Flag("no-new-keyring", "keep the session keyring of the caller"),
)

_EXEC: tuple[Flag, ...] = (
    Flag("process", "a file with the Process object to execute", value="FILE", short="p"),
    Flag("tty", "give it a terminal of the container's", short="t"),
    Flag("detach", "do not wait: return when the program was executed", short="d"),
    Flag("cwd", "its working directory", value="DIR"),
    Flag("env", "add to its environment", value="NAME=VALUE", short="e", many=True),
    Flag("user", "its user, and with :GID its group, by number", value="UID[:GID]", short="u"),
    Flag("additional-gids", "one more group, by number", value="GID", short="g", number=True, many=True),
    Flag("cap", "one more capability", value="CAP", short="c", many=True),
    Flag("no-new-privs", "forbid new privileges by execve, or with =false allow them"),
    Flag("console-socket", "a Unix socket that receives the master end of the terminal", value="PATH"),
    Flag("pid-file", "write the process id into this file", value="PATH"),
    Flag("preserve-fds", "pass N more descriptors, from 3 upward", value="N", default="0", number=True),
    Flag("ignore-paused", "start it in a paused container, where it waits to be resumed"),
    Flag(
        "cgroup",
        "the cgroup below the container's to run in, / for its own; without it, where init is if need be",
        value="PATH",
    ),
    Flag("apparmor", "the AppArmor profile of the process", value="PROFILE"),
    Flag("process-label", "the SELinux label of the process", value="LABEL"),
    Flag("pidfd-socket", "a Unix socket that receives a pidfd of the process", value="PATH"),
)

_UPDATE: tuple[Flag, ...] = (
    Flag("resources", "a file with a Resources object, - for standard input", value="FILE", short="r"),
    Flag("blkio-weight", "the weight at block devices, from 10 to 1000", value="N"),
    Flag("cpu-period", "the period of the quota, in microseconds", value="N"),
    Flag("cpu-quota", "the processor time in each period, in microseconds, -1 for any", value="N"),
    Flag("cpu-burst", "how much unused quota may be saved up, in microseconds", value="N"),
    Flag("cpu-share", "the weight at processors, 1024 being that of others", value="N"),
    Flag("cpu-idle", "1 to run only when nothing else does, else 0", value="N"),
    Flag("cpuset-cpus", "the processors to use", value="LIST"),
    Flag("cpuset-mems", "the memory nodes to use", value="LIST"),
    Flag("memory", "the limit of memory, such as 512m, -1 for none", value="SIZE"),
    Flag("memory-reservation", "how much memory is protected when it runs short", value="SIZE"),
    Flag("memory-swap", "the limit of memory and swap together, -1 for none", value="SIZE"),
    Flag("pids-limit", "the greatest number of processes, -1 for any", value="N"),
    Flag("cpu-rt-period", "the period of real-time work: cgroup2 has none", value="N", hidden=True),
    Flag("cpu-rt-runtime", "real-time work in each period: cgroup2 has none", value="N", hidden=True),
    Flag("kernel-memory", "of cgroup v1, and ignored with a warning", value="SIZE", hidden=True),
    Flag("kernel-memory-tcp", "of cgroup v1, and ignored with a warning", value="SIZE", hidden=True),
    Flag(
        "l3-cache-schema", "the line of the L3 cache for the container's own class of resctrl", value="LINE"
    ),
    Flag("mem-bw-schema", "the line of the memory bandwidth for that class", value="LINE"),
)

_CRIU: tuple[Flag, ...] = (
    Flag("image-path", "the directory of the images", value="DIR", default="checkpoint"),
    Flag("work-path", "the directory of criu's log; without it that of the images", value="DIR"),
    Flag("tcp-established", "open connections of TCP are kept"),
    Flag("ext-unix-sk", "Unix sockets may have their other end outside"),
    Flag("shell-job", "the terminal may be that of the caller"),
    Flag("file-locks", "locks of files are kept"),
    Flag("auto-dedup", "pages that are in later images, or are restored, go from the earlier ones"),
    Flag(
        "manage-cgroups-mode",
        "what criu does with cgroups: soft, full, strict or ignore",
        value="MODE",
        default="soft",
        choices=("soft", "full", "strict", "ignore"),
    ),
    Flag(
        "network-lock",
        "how connections are held up meanwhile: iptables or nftables",
        value="METHOD",
        choices=("iptables", "nftables"),
    ),
    Flag(
        "empty-ns",
        "a namespace that is restored empty: network, which always is",
        value="KIND",
        choices=("network",),
        many=True,
    ),
    Flag("lazy-pages", "restore pages when they are touched", unbuilt=ANY),
)

_CHECKPOINT: tuple[Flag, ...] = (
    *_CRIU,
    Flag("parent-path", "the checkpoint before, relative to the images", value="DIR"),
    Flag("pre-dump", "write the memory alone, and let the container run on"),
    Flag("leave-running", "let the container run on"),
    Flag("tcp-skip-in-flight", "connections of TCP that are not open yet are left out"),
    Flag("link-remap", "files that were deleted may get a name again"),
    Flag("page-server", "a criu that takes the pages", value="ADDRESS:PORT"),
    Flag("status-fd", "a descriptor that is told when pages can be asked for", value="N", unbuilt=ANY),
)

_RESTORE: tuple[Flag, ...] = (
    BUNDLE,
    Flag("detach", "do not wait, and do not delete", short="d"),
    Flag("console-socket", "a Unix socket that receives the master end of the terminal", value="PATH"),
    Flag("pid-file", "write the process id of the container into this file", value="PATH"),
    *_CRIU,
    Flag("tcp-close", "connections of TCP are restored closed"),
    Flag("lsm-profile", "the profile of its processes, as TYPE:NAME", value="PROFILE"),
    Flag("lsm-mount-context", "the SELinux context of its mounts", value="CONTEXT"),
    Flag("no-subreaper", "do not adopt orphans of the container, as always", hidden=True),
    Flag("no-pivot", "criu enters the root in its own way", hidden=True),
)

_ID = ("ID",)

COMMANDS: tuple[Command, ...] = (
    Command(
        "spec",
        "write a config.json to begin with",
        "Writes config.json into the bundle; an existing one is left alone. It runs `sh` on a read-only root"
        " file system in the directory `rootfs`.",
        flags=(
            Flag("bundle", "the directory to write to", value="DIR", short="b", default="."),
            Flag("rootless", "one for a user namespace in which the caller is root"),
        ),
    ),
    Command(
        "run",
        "create a container, start it and wait for it",
        "The exit status is that of its program, or 128 plus the number of the signal that ended it. The"
        " container is deleted afterwards.",
        needs=_ID,
        hot=True,
        flags=(
            *_CREATE,
            Flag("detach", "do not wait, and do not delete", short="d"),
            Flag("keep", "do not delete the container when its program has ended"),
            Flag("no-subreaper", "do not adopt orphans of the container, as always", hidden=True),
        ),
    ),
    Command(
        "create",
        "create a container, without starting its program",
        "Everything config.json asks for is done, and the program waits for `start`. Later edits of"
        " config.json change nothing.",
        needs=_ID,
        hot=True,
        flags=_CREATE,
    ),
    Command(
        "start",
        "start the program of a created container",
        "Returns when the program runs; one that cannot be executed is an error that says why.",
        needs=_ID,
        hot=True,
    ),
    Command(
        "exec",
        "run one more program in a container",
        "The program runs as that of the container, but for what the flags say, or as the Process object of"
        " --process says. What follows ID is the program's, flags too. The exit status is that of the"
        " program, 128 plus the number of the signal that ended it, or 255 where it could not be executed.",
        needs=_ID,
        hot=True,
        program=True,
        failure=255,
        flags=_EXEC,
    ),
    Command("state", "show the state of a container as JSON", needs=_ID, hot=True),
    Command(
        "kill",
        "send a signal to a container",
        "SIGNAL is a name, with or without SIG and in either case, or a number.",
        needs=_ID,
        takes=("SIGNAL",),
        hot=True,
        flags=(Flag("all", "send it to every process of the container", short="a", hidden=True),),
    ),
    Command(
        "delete",
        "remove a stopped or created container",
        "Removes all that `create` made. A running container needs --force.",
        needs=_ID,
        hot=True,
        flags=(Flag("force", "kill it first if it runs; succeed if it does not exist", short="f"),),
    ),
    Command(
        "list",
        "list the containers",
        flags=(
            Flag(
                "format",
                "how to print it: table or json",
                value="FORMAT",
                short="f",
                default="table",
                choices=("table", "json"),
            ),
            Flag("quiet", "only the ids", short="q"),
        ),
    ),
    Command(
        "pause",
        "stop every process of a container until it is resumed",
        "Returns when all are stopped. Of a created container too: it can then only be resumed or deleted.",
        needs=_ID,
    ),
    Command("resume", "let the processes of a paused container go on", needs=_ID),
    Command(
        "ps",
        "list the processes of a container",
        "What follows ID are options of ps(1), -ef without any; their output must have the column PID. Where"
        " ps(1) is not installed, the table is ours and takes none.",
        needs=_ID,
        program=True,
        rest="[PS-OPTION …]",
        flags=(
            Flag(
                "format",
                "how to print it: table or json, an array of the pids",
                value="FORMAT",
                short="f",
                default="table",
                choices=("table", "json"),
            ),
        ),
    ),
    Command(
        "update",
        "change the limits of a container",
        "What is not named stays as it is, and so does everything where the kernel refuses a part. The limits"
        " are those of `linux.resources`; one whose controller this host does not have on cgroup2 is an"
        " error. Rules of devices, which only a file can give, take the place of those there are.",
        needs=_ID,
        flags=_UPDATE,
    ),
    Command(
        "mounts",
        "add mounts to a container, or take some away",
        "ACTION is `add` or `remove`. FILE, - for standard input, holds an array like `mounts` of a config."
        " All of it is added or nothing: what was mounted before one that fails is taken away again. `remove`"
        " looks at the destinations alone, from the last to the first; what is mounted there goes at once for"
        " all who look it up, and for good when nobody uses it any more. It follows no symbolic link, and"
        " leaves what masks a path or makes it read-only, and what that is mounted on. Ordinary users cannot"
        " add bind mounts.",
        needs=("ACTION", *_ID, "FILE"),
    ),
    Command(
        "events",
        "tell what happens to a container, until its end",
        "Each event is a line of JSON, as runc has them: the numbers of its cgroup at each interval, and"
        " `oom` when the kernel has killed a process of it for want of memory.",
        needs=_ID,
        flags=(
            Flag("interval", "the time between numbers", value="DURATION", default="5s"),
            Flag("stats", "only the numbers of now, once"),
        ),
    ),
    Command(
        "checkpoint",
        "write the processes of a container into files, and end it",
        "The program criu does it, and has to be installed. The container is deleted then, unless it is to"
        " run on; `restore` makes it again from the files and its bundle. Networks are not written.",
        needs=_ID,
        flags=_CHECKPOINT,
    ),
    Command(
        "restore",
        "make a container from a checkpoint, and let it run on",
        "All around it is made as by `create`, and prestart and createRuntime hooks run. The exit status is"
        " that of its program, as with `run`.",
        needs=_ID,
        flags=_RESTORE,
    ),
    Command("features", "show as JSON what this version can do, whatever the host"),
    Command(
        "plan",
        "show every step that `create` would take, and do none of them",
        "Each step is shown with who performs it and with the member of config.json that asks for it. ID is"
        " the name of the bundle unless it is given.",
        takes=_ID,
        flags=(BUNDLE, REPORT),
    ),
    Command(
        "validate",
        "find every fault of a config.json",
        "Each fault is shown with its line, its column, its value, the rule and the cure. The exit status is"
        " 1 if there is one. Members and system calls that look misspelt are warnings, and so is what the"
        " specification allows and create refuses, because it is not built.",
        flags=(BUNDLE, REPORT),
    ),
    Command("help", "show the help of the program or of a command", takes=("COMMAND",)),
)


def find(name: str) -> Command | None:
    """The command of that name."""
    for command in COMMANDS:
        if command.name == name:
            return command
    return None
