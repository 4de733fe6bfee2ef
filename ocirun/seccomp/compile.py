"""Compiles a profile through libseccomp: only when no compiled one is kept (ocirun.seccomp.cache)."""

from __future__ import annotations

import errno
import os

from ocirun.errors import HostError
from ocirun.files import read_file
from ocirun.seccomp import newer
from ocirun.seccomp.cache import FAIL_UNKNOWN
from ocirun.seccomp.rules import default_action, rules
from ocirun.seccomp.tables import ARCHITECTURES, KERNEL_NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun_spec.types import Seccomp
    from pyseccomp import SyscallFilter

_POINTER = "/linux/seccomp"
_INSTALL = "install libseccomp 2.5 or newer (libseccomp2 in Debian) and pyseccomp"
_ACTIONS = "/proc/sys/kernel/seccomp/actions_avail"
#: __NR_SCMP_ERROR (seccomp_syscall_resolve_name(3)); other negative numbers are of calls that only other
#: architectures have.
_UNKNOWN = -1
#: What the kernel takes (linux/bpf_common.h), in instructions of eight bytes.
_LONGEST = 4096 * 8


class Compiled:
    """A program of classic BPF, how many rules it was made of, and the libseccomp that made it."""

    __slots__ = ("library", "program", "rules")

    def __init__(self, program: bytes, count: int, library: str) -> None:
        self.program = program
        self.rules = count
        self.library = library


def compile_profile(profile: Seccomp, *, strict: bool = False) -> Compiled:
    """The program of ``profile``, which was checked.

    Names that libseccomp does not know are left out, unless it is ``strict``: profiles name what only newer
    kernels have.  Raises HostError without libseccomp, for what it or the kernel does not know, and for a
    program that is too long.
    """
    _load()
    _check_actions(profile)
    if strict:
        _check_names(profile)
    import pyseccomp

    try:
        made = pyseccomp.SyscallFilter(default_action(profile))
    except OSError as error:
        raise _refused(f"the action {profile['defaultAction']}", "/defaultAction", error) from error
    tokens = _add_architectures(made, profile)
    known = _add_rules(made, profile)
    program = _export(made)
    if newer.needed(default_action(profile)):
        program = newer.prefix(_newest(tokens, profile)) + program
    if len(program) > _LONGEST:
        raise HostError(
            f"the profile makes a program of {len(program) // 8} instructions, the kernel takes 4096",
            pointer=_POINTER,
            hint="it has too many conditions on arguments",
        )
    return Compiled(program, known, _path_of("libseccomp.so"))


def is_known(name: str) -> bool:
    """Whether libseccomp knows a system call of that name, on whatever architecture; raises HostError."""
    _load()
    from pyseccomp import Arch

    return _number(Arch.NATIVE, name) != _UNKNOWN


def _load() -> None:
    """Imports pyseccomp; it lies in site-packages, which hot commands do without."""
    try:
        try:
            __import__("pyseccomp")
        except ImportError:
            from ocirun.full import full_interpreter

            full_interpreter()
            __import__("pyseccomp")
    except (ImportError, RuntimeError, OSError) as error:  # without the library itself it is a RuntimeError
        raise HostError(
            f"a seccomp profile needs libseccomp: {error}", pointer=_POINTER, hint=_INSTALL
        ) from error


def _check_actions(profile: Seccomp) -> None:
    """The kernel tells which actions it has (seccomp(2)); where it does not, the load will."""
    try:
        available = read_file(_ACTIONS).decode().split()
    except OSError:
        return
    asked = [(profile["defaultAction"], "/defaultAction")]
    asked += [
        (rule["action"], f"/syscalls/{number}/action")
        for number, rule in enumerate(profile.get("syscalls", ()))
    ]
    for action, place in asked:
        if KERNEL_NAMES[action] not in available:
            raise HostError(
                f"this kernel does not know {action}", pointer=_POINTER + place, hint=f"see {_ACTIONS}"
            )


def _check_names(profile: Seccomp) -> None:
    """Raises HostError with every name that libseccomp does not know, at the place of the first."""
    from pyseccomp import Arch

    unknown = [
        (name, f"/syscalls/{number}/names/{place}")
        for number, rule in enumerate(profile.get("syscalls", ()))
        for place, name in enumerate(rule["names"])
        if _number(Arch.NATIVE, name) == _UNKNOWN
    ]
    if unknown:
        names = ", ".join(dict.fromkeys(name for name, _ in unknown))
        raise HostError(
            f"libseccomp does not know {names}",
            pointer=_POINTER + unknown[0][1],
            hint="a newer libseccomp knows more; without the annotation "
            + FAIL_UNKNOWN
            + " they are left out",
        )


def _add_architectures(made: SyscallFilter, profile: Seccomp) -> list[int]:
    """Adds those of the profile to the native one, which is there; gives the tokens of all."""
    from pyseccomp import system_arch

    tokens = [system_arch()]
    for number, name in enumerate(profile.get("architectures", ())):
        token = ARCHITECTURES[name]
        if token in tokens:
            continue
        try:
            made.add_arch(token)
        except OSError as error:
            raise _refused(f"the architecture {name}", f"/architectures/{number}", error) from error
        tokens.append(token)
    return tokens


def _add_rules(made: SyscallFilter, profile: Seccomp) -> int:
    """Adds the rules; gives how many were of calls that libseccomp knows."""
    from pyseccomp import Arch, Arg

    known = 0
    for rule in rules(profile):
        number = _number(Arch.NATIVE, rule.name)
        if number == _UNKNOWN:
            continue
        known += 1
        try:
            made.add_rule(rule.action, number, *(Arg(*one) for one in rule.conditions))
        except OSError as error:
            if error.errno != errno.EEXIST:  # the profile says it twice
                raise _refused(f"the rule for {rule.name}", "/syscalls", error) from error
    return known


def _newest(tokens: list[int], profile: Seccomp) -> dict[int, int]:
    """The newest call that the profile names, for each architecture on which it names any."""
    names = {name for rule in profile.get("syscalls", ()) for name in rule["names"]}
    found: dict[int, int] = {}
    for token in tokens:
        numbers = [_number(token, name) for name in names]
        ordinary = [number for number in numbers if newer.is_ordinary(token, number)]
        if ordinary:
            found[token] = max(ordinary)
    return found


def _number(token: int, name: str) -> int:
    """The number of a system call, _UNKNOWN for none; a config may hold texts that no C function takes."""
    from pyseccomp import resolve_syscall

    return resolve_syscall(token, name) if name.isascii() and "\0" not in name else _UNKNOWN


def _export(made: SyscallFilter) -> bytes:
    with os.fdopen(os.memfd_create("ocirun-filter", os.MFD_CLOEXEC), "r+b") as file:
        try:
            made.export_bpf(file)
        except OSError as error:
            raise _refused("the profile", "", error) from error
        file.seek(0)
        return file.read()


def _path_of(name: str) -> str:
    """The file that a library was loaded from (proc_pid_maps(5)), "" when it is not there."""
    for line in read_file("/proc/self/maps").decode("utf-8", "surrogateescape").splitlines():
        path = line[line.find("/") :] if "/" in line else ""
        if path.rpartition("/")[2].startswith(name):
            return path
    return ""


def _refused(what: str, place: str, error: OSError) -> HostError:
    reasons = {
        errno.EINVAL: "it does not know it",
        errno.EDOM: "it cannot filter it together with the architecture of this machine",
    }
    why = reasons.get(error.errno or 0, os.strerror(error.errno or 0))
    return HostError(
        f"libseccomp refuses {what}: {why}",
        pointer=_POINTER + place,
        operation="libseccomp",
        errno=error.errno or 0,
        hint="a newer libseccomp knows more" if error.errno == errno.EINVAL else "",
    )
