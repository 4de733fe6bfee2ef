"""What the planners of one plan share: the config, the host, the options, and what they found wrong."""

from __future__ import annotations

from ocirun.errors import ConfigError, Fault, HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun_spec.types import Config, Linux, Process, User

    from ocirun.host import Host
    from ocirun.plan.model import Step
    from ocirun.planner.rootfs import RootMount

#: Who makes the cgroup of a container: we by its files, systemd, or nobody.
CGROUPFS, SYSTEMD, DISABLED = "cgroupfs", "systemd", "disabled"
#: Stand in for members whose absence is already a fault, so that the other faults are found as well.
_NO_PROCESS: Process = {"cwd": "/", "args": ["-"]}
_NO_LINUX: Linux = {}
_NO_USER: User = {}
#: The annotation, crun's, that holds the filter of system calls itself, in place of a profile.
RAW_FILTER = "run.oci.seccomp_bpf_data"
#: That which names the plugins that decide for a filter, in place of who listens at any socket.
PLUGINS = "run.oci.seccomp.plugins"


class Filter:
    """What became of the profile in /linux/seccomp, or of RAW_FILTER: the planner does not compile.

    ``program`` is classic BPF, ``rules`` how many system calls with their conditions it was made of,
    ``origin`` says where it comes from.  One that nobody compiled has ``rules`` instructions, and ``asks``
    says whether it may leave a decision to a listener.  Where there is none, ``lack`` and ``hint`` say why,
    or what is ``wrong`` with the value that asked for it, and ``place`` is the pointer of that.
    """

    __slots__ = ("asks", "hint", "lack", "origin", "place", "program", "rules", "wrong")

    def __init__(
        self,
        program: bytes = b"",
        rules: int = 0,
        origin: str = "",
        *,
        asks: bool = False,
        lack: str = "",
        wrong: str = "",
        hint: str = "",
        place: str = "",
    ) -> None:
        self.program = program
        self.rules = rules
        self.origin = origin
        self.asks = asks
        self.lack = lack
        self.wrong = wrong
        self.hint = hint
        self.place = place


class Systemd:
    """The systemd that makes the cgroups: the ``user``'s manager or the system's, the cgroup ``root`` below
    which it has its units ("" for the root), with the ``controllers`` there, and its ``version``."""

    __slots__ = ("controllers", "root", "user", "version")

    def __init__(
        self,
        *,
        user: bool = False,
        root: str = "",
        version: int = 0,
        controllers: frozenset[str] = frozenset(),
    ) -> None:
        self.controllers = controllers
        self.user = user
        self.root = root
        self.version = version


class Options:
    """What the caller of ``create`` and ``run`` decides, not the bundle.

    ``bundle`` and ``state_directory`` are absolute paths; ``state_directory`` is the container's own.
    ``console_socket`` and ``foreground_terminal`` say who will hold the master of a terminal.  ``listen_fds``
    of the ``preserve_fds`` descriptors are sockets that the program is told of (sd_listen_fds(3)).
    ``rootfs`` are mounts that make the root file system, in place of /root/path.  ``seccomp`` is the filter
    of the config, None where there is no profile, or none that is built.  ``systemd`` makes the cgroup, None:
    we do.  With ``cgroup_needed`` nobody does without one who can make none; with ``no_cgroup`` none is to be
    made.
    """

    __slots__ = (
        "bundle",
        "cgroup_needed",
        "console_socket",
        "foreground_terminal",
        "id",
        "listen_fds",
        "new_keyring",
        "no_cgroup",
        "pivot",
        "preserve_fds",
        "rootfs",
        "seccomp",
        "state_directory",
        "systemd",
    )

    def __init__(
        self,
        container: str,
        *,
        bundle: str,
        state_directory: str,
        console_socket: bool = False,
        foreground_terminal: bool = False,
        preserve_fds: int = 0,
        listen_fds: int = 0,
        new_keyring: bool = True,
        pivot: bool = True,
        rootfs: Sequence[RootMount] = (),
        seccomp: Filter | None = None,
        systemd: Systemd | None = None,
        cgroup_needed: bool = False,
        no_cgroup: bool = False,
    ) -> None:
        self.id = container
        self.bundle = bundle
        self.state_directory = state_directory
        self.console_socket = console_socket
        self.foreground_terminal = foreground_terminal
        self.preserve_fds = preserve_fds
        self.listen_fds = listen_fds
        self.new_keyring = new_keyring
        self.pivot = pivot
        self.rootfs = rootfs
        self.seccomp = seccomp
        self.systemd = systemd
        self.cgroup_needed = cgroup_needed
        self.no_cgroup = no_cgroup


class Draft:
    """A plan in the making: its sources, and the faults, gaps and warnings found on the way."""

    __slots__ = (
        "_lacks",
        "automatic",
        "config",
        "faults",
        "filtered",
        "gaps",
        "has_process",
        "host",
        "linux",
        "options",
        "process",
        "root",
        "user",
        "warnings",
    )

    def __init__(self, config: Config, host: Host, options: Options) -> None:
        self.config = config
        self.host = host
        self.options = options
        self.linux = config.get("linux", _NO_LINUX)
        #: Whether the user namespace or its mappings are not the config's but ours (planner/unprivileged.py).
        self.automatic = False
        #: Without one a container can be created and not started: who waits in it has no rights at all.
        self.has_process = "process" in config
        self.process = config.get("process", _NO_PROCESS)
        self.user = self.process.get("user", _NO_USER)
        self.root = config["root"]
        #: Values that break a rule, and members that this version does not build.
        self.faults: list[Fault] = []
        self.gaps: list[Fault] = []
        self.warnings: list[Fault] = []
        self._lacks: list[Fault] = []
        #: Whether the process gets a filter of system calls.
        self.filtered = bool(self.linux.get("seccomp")) or RAW_FILTER in config.get("annotations", ())

    @property
    def uid(self) -> int:
        """The user of the process; absent it is 0, which the schema admits and the peers take."""
        return self.user.get("uid", 0)

    @property
    def gid(self) -> int:
        """The group of the process; absent it is 0."""
        return self.user.get("gid", 0)

    def fault(self, pointer: str, value: object, rule: str, hint: str = "") -> None:
        """The value at ``pointer`` breaks ``rule``."""
        self.faults.append(Fault(pointer, rule, value=short(value), hint=hint))

    def gap(self, pointer: str, value: object, rule: str = "is not built yet", hint: str = "") -> None:
        """The member at ``pointer`` asks for what this version does not build."""
        self.gaps.append(Fault(pointer, rule, value=short(value), hint=hint))

    def warn(self, pointer: str, value: object, rule: str, hint: str = "") -> None:
        """The member at ``pointer`` can only be followed in part; the container can live without the rest."""
        self.warnings.append(Fault(pointer, rule, value=short(value), hint=hint))

    def lack(self, pointer: str, what: str, hint: str) -> None:
        """The host cannot do what the member at ``pointer`` ("": every container) asks for."""
        self._lacks.append(Fault(pointer, what, hint=hint))

    def check_texts(self, steps: Sequence[Step], errors: str = "strict") -> None:
        """Notes what the kernel cannot be told in ``steps``: it takes bytes that end at a NUL, and JSON can
        say a NUL and half a surrogate pair.

        ``errors`` is "surrogateescape" for texts that may stem from a command line: there such halves are
        bytes.
        """
        for step in steps:
            for argument in step.args:
                self.check_words(
                    step.pointer, argument if isinstance(argument, tuple) else (argument,), errors
                )

    def check_words(self, pointer: str, words: Sequence[object], errors: str = "strict") -> None:
        """As ``check_texts``, for what the member at ``pointer`` asks for; what is no text passes."""
        for text in words:
            if not isinstance(text, str) or (text.isascii() and "\0" not in text):
                continue
            if not _is_text(text, errors):
                self.fault(pointer, text.encode("unicode_escape").decode("ascii"), _TEXT_RULE)

    def settle(self) -> None:
        """Raises what was found: ConfigError with every fault and gap of the config, else HostError."""
        if self.faults or self.gaps:
            code = "config-invalid" if self.faults else "config-unsupported"
            raise ConfigError(self.faults + self.gaps, code=code)
        if self._lacks:
            first = self._lacks[0]
            message = "; ".join(dict.fromkeys(lack.rule for lack in self._lacks))
            raise HostError(message, pointer=first.pointer, hint=first.hint)


_TEXT_RULE = "must hold neither a NUL character nor half a surrogate pair"


def _is_text(text: str, errors: str) -> bool:
    try:
        text.encode("utf-8", errors)
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def short(value: object) -> str:
    """``value`` as JSON text short enough for one line of an error; None, an absent member, gives ""."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 60 else f'"{value[:57]}…"'
    if isinstance(value, dict):
        return "{…}" if value else "{}"
    if isinstance(value, (list, tuple)):
        return "[…]" if value else "[]"
    return str(value)
