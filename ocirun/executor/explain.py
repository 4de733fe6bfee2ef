"""Turns a step and an errno into an error with place, operation, errno and the way out (cold)."""

from __future__ import annotations

import errno

from ocirun.errors import HelperError, HookError, OcirunError, StepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun_spec.types import Hook

    from ocirun.executor.wire import Report
    from ocirun.plan.compile import Program
    from ocirun.plan.model import Step

#: The way out, by verb and errno; "" as the verb is any.
HINTS: dict[tuple[str, int], str] = {
    ("open_tree", errno.ENOENT): "the path does not exist on the host: make it, or correct the config",
    ("open_tree", errno.ENOTDIR): "a directory is needed here",
    ("open_tree", errno.EACCES): "a directory above it has no search permission for this user",
    ("open_device", errno.ENOENT): "the host's /dev lacks the device",
    ("attach_root", errno.ENOTDIR): "the root file system must be a directory",
    ("allow_devices", errno.EPERM): "loading a device program needs CAP_BPF or CAP_SYS_ADMIN: run as root",
    ("clone_init", errno.EPERM): "making these namespaces needs CAP_SYS_ADMIN: run as root",
    (
        "clone_init",
        errno.ENOSPC,
    ): "a limit under /proc/sys/user (max_*_namespaces) or of nested pid namespaces is reached",
    (
        "clone_init",
        errno.EINVAL,
    ): "the kernel does not know one of the namespaces, or it is too old for clone3 into a cgroup (5.7)",
    (
        "clone_init",
        errno.EAGAIN,
    ): "a limit on processes is reached: RLIMIT_NPROC, pids.max or kernel.threads-max",
    ("mount", errno.ENODEV): "the kernel does not know this type of file system",
    ("mount", errno.ENOENT): "the target or the source does not exist",
    (
        "mount",
        errno.ELOOP,
    ): "the image has a symbolic link where the mount must go: refused, for it could lead anywhere",
    ("mount", errno.EINVAL): "the file system refused an option, or its source",
    (
        "mount",
        errno.EPERM,
    ): "this file system cannot be mounted here: it needs a namespace of the container's own",
    ("attach", errno.ELOOP): "too many symbolic links in the target",
    ("attach", errno.ENOTDIR): "a directory can only be bound on a directory, a file only on a file",
    ("make_device", errno.EEXIST): "the image has another file there: remove it from the image",
    ("make_device", errno.ELOOP): "the image has a symbolic link in place of a directory: refused",
    ("make_symlink", errno.EEXIST): "the image has another file there: remove it from the image",
    ("make_symlink", errno.ELOOP): "the image has a symbolic link in place of a directory: refused",
    ("make_device", errno.EPERM): "making device nodes needs CAP_MKNOD",
    ("make_device", errno.EROFS): "the directory is read-only: mount a tmpfs on /dev",
    ("make_console", errno.ENOENT): "a terminal needs a devpts mounted on /dev/pts",
    ("make_console", errno.EEXIST): "the image has something else at /dev/console: remove it from the image",
    (
        "set_rlimit",
        errno.EPERM,
    ): "raising a hard limit needs CAP_SYS_RESOURCE, which this ocirun does not have",
    ("set_rlimit", errno.EINVAL): "the soft limit must not be above the hard one",
    ("enter_cwd", errno.ENOENT): "the working directory does not exist in the image",
    ("enter_cwd", errno.ENOTDIR): "the working directory is not a directory",
    ("enter_cwd", errno.ELOOP): "the working directory leads through /proc: refused (CVE-2024-21626)",
    (
        "set_oom_score",
        errno.EACCES,
    ): "going below the score of the caller needs CAP_SYS_RESOURCE, which this ocirun does not have",
    ("set_sysctl", errno.ENOENT): "this kernel has no such parameter: a module may have to be loaded for it",
    ("set_sysctl", errno.EINVAL): "the kernel refused the value",
    ("set_sysctl", errno.EACCES): "the parameter is read-only, or not the container's to set",
    ("set_sysctl", errno.EPERM): "the parameter is not the container's to set",
    ("open_proc", errno.EXDEV): "/proc on this host is not a procfs: mount one",
    ("open_namespace", errno.ENOENT): "there is no such namespace: leave the path out for a new one",
    ("open_namespace", errno.EINVAL): "it is no namespace of this type: see readlink /proc/PID/ns/*",
    ("join_namespace", errno.EBUSY): "it is the host's own, whose root would be switched: leave the path out",
    ("join_namespace", errno.EPERM): "joining needs CAP_SYS_ADMIN in the namespace that owns it",
    ("join_namespace", errno.EINVAL): "a pid namespace can only be joined from one above it",
    ("join_cgroup_namespace", errno.EPERM): "the user namespace of the container does not own it",
    ("clone_init", errno.ENOMEM): "the first process of the pid namespace that was joined has ended",
    ("make_time_namespace", errno.ERANGE): "the offset would set a clock before 0 or too far ahead",
    ("become_root", errno.EINVAL): "the id 0 has no mapping in the user namespace",
    ("set_ids", errno.EINVAL): "the user or group has no mapping in the user namespace",
    (
        "",
        errno.ENOSYS,
    ): "this kernel is too old, or a filter hides the system call from us: ocirun needs 5.15",
    ("", errno.ENOSPC): "a file system or a limit on mounts (fs.mount-max) is full",
    ("", errno.EROFS): "the place is read-only",
    ("", errno.EACCES): "this user has no permission there",
}


def failed_step(program: Program, report: Report) -> OcirunError:
    """The error for a FAILED report: which step, what the kernel said, what to do."""
    step = _step(program, report.step)
    if step is not None and step.verb == "find_program":
        return _no_program(str(step.args[0]), report)
    if step is not None and step.verb == "run_hook_inside":
        return _failed_step_of_hook(step, report)
    name = errno.errorcode.get(report.errno, str(report.errno))
    what = _describe(step) if step is not None else "read the plan"
    if step is not None and step.verb == "attach_root":
        what, report.path = f"attach root {_root_of(program)}", _root_of(program)
    detail = f" ({_detail(report)})" if _detail(report) else ""
    verb = step.verb if step is not None else ""
    hint = HINTS.get((verb, report.errno)) or HINTS.get(("", report.errno), "")
    return StepError(
        f"{what}: {name}{detail}",
        step=report.step,
        pointer=step.pointer if step is not None else "",
        operation=report.operation,
        errno=report.errno,
        path=report.path,
        hint=hint,
    )


def hook_error(
    pointer: str, path: str, words: Sequence[str], how: str, tail: bytes, number: int = 0
) -> HookError:
    """The error for a hook: which, what it was called with, how it ended, and the last it printed.

    ``pointer`` is that of the hook, ``words`` its arguments, ``tail`` the end of what it printed, ``number``
    an errno.
    """
    kind, place = pointer.split("/")[2:4]
    argv = " ".join(words)
    called = path if argv == path else f"{path} as {argv!r}"
    said = tail.decode("utf-8", "replace").strip()
    printed = f"; it printed: {said}" if said else ""
    return HookError(
        f"error running {kind} hook #{place}: {called}: {how}{printed}",
        pointer=pointer,
        operation="run_hook",
        path=path,
        errno=number,
    )


def _failed_step_of_hook(step: Step, report: Report) -> HookError:
    kind, number, path, words, _, timeout, _ = step.args
    assert isinstance(words, tuple)
    how = hook_end(report.errno, report.value, report.operation, int(str(timeout)))
    tail = report.path.encode("utf-8")
    argv = [str(word) for word in words]
    return hook_error(f"/hooks/{kind!s}/{number!s}", str(path), argv, how, tail, report.errno)


def hook_end(number: int, status: int, operation: str, timeout: int) -> str:
    """How a hook that init ran came to its end: by an errno of ``operation`` before it was executed, with the
    wait status ``status``, or, where that is -1 in 32 bits, by its time limit of ``timeout`` seconds."""
    import os

    if number:
        return os.strerror(number) if operation == "execve" else f"{operation}: {os.strerror(number)}"
    if status & 0xFFFFFFFF == 0xFFFFFFFF:
        return f"it took longer than its timeout of {timeout} s"
    code = os.waitstatus_to_exitcode(status)
    return f"exit status {code}" if code >= 0 else f"killed by signal {-code}"


def failed_start_hook(hooks: Sequence[Hook], proof: bytes) -> OcirunError:
    """The error for a startContainer hook of ``hooks``.

    ``proof`` is what init told of it: three numbers (which one, errno, wait status), the operation that
    failed up to a NUL, then the end of what it printed.
    """
    number, error, status = (int.from_bytes(proof[at : at + 4], "little", signed=True) for at in (0, 4, 8))
    operation, _, tail = proof[12:].partition(b"\0")
    if not 0 <= number < len(hooks):  # what comes from inside the container may be anything
        return HelperError("init told of a startContainer hook that the config does not have")
    hook = hooks[number]
    how = hook_end(error, status, operation.decode("utf-8", "replace"), hook.get("timeout", 0))
    words = hook.get("args") or [hook["path"]]
    return hook_error(f"/hooks/startContainer/{number}", hook["path"], words, how, tail, error)


def _detail(report: Report) -> str:
    return f"{report.operation} {report.path}".strip()


def _step(program: Program, index: int) -> Step | None:
    for number, step in program.records:
        if number == index and step.verb != "meet":
            return step
    return None


def _root_of(program: Program) -> str:
    """The path on the host of the root file system, which init knows only as a slot."""
    paths = [
        str(step.args[0])
        for _, step in program.records
        if step.verb in ("open_tree", "open_filesystem") and step.args[-1] == "root"
    ]
    return paths[0] if paths else "root"


def _describe(step: Step) -> str:
    from ocirun.plan.show import describe

    return f"{step.verb.replace('_', ' ')} {describe(step)}".strip()


def _no_program(name: str, report: Report) -> StepError:
    """In runc's words, which engines turn into exit status 127 and 126."""
    if report.errno == errno.ENOENT:
        where = "no such file or directory" if "/" in name else "executable file not found in $PATH"
        stat = f"stat {name}: " if "/" in name else ""
        return _exec_error(
            f'exec: "{name}": {stat}{where}',
            report.errno,
            "program-not-found",
            name,
            "look into the image for it, or set PATH in process.env",
            report.step,
        )
    if report.errno == errno.EISDIR:
        message, hint = f'exec: "{name}": is a directory', "name a program in it"
        return _exec_error(message, report.errno, "program-not-executable", name, hint, report.step)
    hint = "it has no execute permission for the user of the process: chmod +x in the image"
    return _exec_error(f'exec: "{name}": permission denied', report.errno, "program-not-executable",
                       report.path or name, hint, report.step)  # fmt: skip


def _exec_error(message: str, number: int, code: str, path: str, hint: str, step: int = 0) -> StepError:
    return StepError(
        message,
        step=step,
        pointer="/process/args/0",
        operation="execve",
        errno=number,
        path=path,
        hint=hint,
        code=code,
    )


def failed_exec(name: str, number: int, head: bytes) -> StepError:
    """The error for an execve that failed at start; ``head`` is how the program's file begins."""
    code = "program-not-executable"
    if number == errno.ENOENT:
        reason, hint, code = "no such file or directory", _missing(head), "program-not-found"
    elif number == errno.ENOEXEC:
        reason, hint = "exec format error", _format(head)
    elif number == errno.EACCES:
        reason, hint = "permission denied", _denied(head)
    else:
        reason, hint = errno.errorcode.get(number, str(number)), ""
    return _exec_error(f'exec: "{name}": {reason}', number, code, name, hint)


def _interpreter(head: bytes) -> str:
    """The interpreter of a ``#!`` script, as binfmt_script reads it; "" for anything else."""
    if not head.startswith(b"#!"):
        return ""
    words = head[2:].split(b"\n", 1)[0].strip(b" \t").split(b" ", 1)
    return words[0].decode("utf-8", "replace")


def _missing(head: bytes) -> str:
    interpreter = _interpreter(head)
    if interpreter.endswith("\r"):
        return f"its first line ends in CR LF, so the kernel looks for {interpreter!r}: convert it to LF"
    if interpreter:
        return f"the script names the interpreter {interpreter}, which is not in the image"
    loader = _loader(head)
    if loader:
        return f"it is linked dynamically and its loader {loader} is not in the image"
    return "the file vanished between create and start"


def _denied(head: bytes) -> str:
    interpreter = _interpreter(head)
    if interpreter:
        return f"the script or its interpreter {interpreter} must be executable, on a mount without noexec"
    return "it must be executable, on a mount without noexec"


def _loader(head: bytes) -> str:
    """The path in PT_INTERP of an ELF file of 64 bits, little-endian, where ``head`` reaches it (elf(5))."""
    if head[:6] != b"\x7fELF\x02\x01":
        return ""
    start, size, count = (
        int.from_bytes(head[at : at + n], "little") for at, n in ((32, 8), (54, 2), (56, 2))
    )
    for at in range(start, start + size * count, size or 1):
        if head[at : at + 4] == b"\x03\0\0\0":
            offset = int.from_bytes(head[at + 8 : at + 16], "little")
            length = int.from_bytes(head[at + 32 : at + 40], "little")
            return head[offset : offset + length].rstrip(b"\0").decode("utf-8", "replace")
    return ""


#: e_machine of elf(5), the ones an image is made for.
_MACHINES = {
    3: "i386",
    8: "mips",
    20: "ppc",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
    258: "loongarch64",
}


def _format(head: bytes) -> str:
    """Why the kernel knows no way to execute it."""
    import os

    if head[:4] == b"\x7fELF":
        order = "big" if head[5:6] == b"\x02" else "little"
        machine = int.from_bytes(head[18:20], "big" if order == "big" else "little")
        name = _MACHINES.get(machine, f"machine {machine}")
        here = os.uname().machine
        return f"it is a program for {name}, this host is {here}: use an image for this architecture"
    if not head:
        return "the file is empty"
    if head.startswith(b"#!"):
        return "the #! line is malformed or names no interpreter"
    return "it is neither an ELF program nor a script with #!: give it a first line such as #!/bin/sh"
