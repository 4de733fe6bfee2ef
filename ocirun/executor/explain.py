"""Turns a step and an errno into an error with place, operation, errno and the way out (cold)."""

from __future__ import annotations

import errno

from ocirun.errors import (
    EXHAUSTED,
    IN_A_SCOPE,
    HelperError,
    HookError,
    OcirunError,
    StepError,
    escaped,
    words_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun_spec.types import Hook

    from ocirun.executor.inside import Finding, Inside
    from ocirun.executor.wire import Report
    from ocirun.plan.compile import Program
    from ocirun.plan.model import Step
    from ocirun.waiting import Task

#: How many lines, and characters, an error repeats of what a hook printed: the last.
_LINES, _LONGEST = 10, 4096

#: The way out, by verb and errno; "" as the verb is any.
HINTS: dict[tuple[str, int], str] = {
    ("open_tree", errno.ENOENT): "the path does not exist on the host: make it, or correct the config",
    (
        "open_tree",
        errno.EINVAL,
    ): "it is unbindable, or mounts lie below it that a user namespace must not leave out, for they may hide "
    "something (mount_namespaces(7)): bind it with them, by rbind in place of bind",
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
    ("unmount", errno.EINVAL): "nothing is mounted there, or it came with the root of the container",
    ("unmount", errno.ENOENT): "there is no such path in the container",
    (
        "unmount",
        errno.ELOOP,
    ): "there is a symbolic link on the way, which who is inside may change: name the place it leads to",
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
    (
        "mount",
        errno.ENOSPC,
    ): "what tmpcopyup copies does not fit: raise size= or nr_inodes=; or fs.mount-max is reached",
    ("mount", errno.ENAMETOOLONG): "the directory that tmpcopyup copies is too deep, or a name is too long",
    ("mount", errno.ENOTDIR): "the image has a file in place of a directory of the target",
    ("mount", errno.EXDEV): 'a ".." behind a directory that is missing leads nowhere',
    ("attach", errno.EXDEV): 'a ".." behind a directory that is missing leads nowhere',
    ("mount", errno.EBUSY): "a link of the image leads to its root, or the file system is in use otherwise",
    ("attach", errno.EBUSY): "a link of the image leads to its root, which cannot be mounted over",
    ("readonly_path", errno.EBUSY): "it leads to the root of the container: set root.readonly for that",
    ("mask_path", errno.EBUSY): "it leads to the root of the container, which cannot be hidden",
    (
        "attach",
        errno.EPERM,
    ): "the host's mount is locked (mount_namespaces(7)): leave out words that open it up, as rw or exec",
    ("attach", errno.EISDIR): "a file can only be bound on a file: the image has a directory there",
    ("remount", errno.EINVAL): "nothing is mounted there, or the file system refused an option",
    ("remount", errno.ENOENT): "nothing is mounted there",
    ("remount", errno.EPERM): "the mount or its file system belongs to the host",
    ("attach", errno.ELOOP): "too many symbolic links in the target",
    ("attach", errno.EEXIST): "the image has something else there, and copy-symlink replaces nothing",
    ("attach", errno.ENOENT): "dest-nofollow makes nothing: what is to be mounted over must be there",
    ("attach", errno.EINVAL): "a directory can only be bound on a directory, here there is a link",
    (
        "attach",
        errno.ESTALE,
    ): "its place was renamed meanwhile; or a link was bound where a link of the image leads to: add "
    "dest-nofollow to bind it over that",
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
    (
        "make_directory",
        errno.ELOOP,
    ): "the working directory leads through /proc (CVE-2024-21626) or in a circle: refused",
    ("set_rlimit", errno.EINVAL): "the soft limit must not be above the hard one",
    ("enter_cwd", errno.ENOENT): "the working directory does not exist in the image",
    ("enter_cwd", errno.ENOTDIR): "the working directory is not a directory",
    ("enter_cwd", errno.ELOOP): "the working directory leads through /proc: refused (CVE-2024-21626)",
    (
        "set_oom_score",
        errno.EACCES,
    ): "going below the score of the caller needs CAP_SYS_RESOURCE, which this ocirun does not have",
    ("set_scheduler", errno.EPERM): "the policy takes CAP_SYS_NICE on the host, or a part of the time of the "
    "CPUs that is given away already; a cgroup may have none of it (cpu.rt_runtime_us)",
    ("set_scheduler", errno.EINVAL): "the kernel refused the values together: see sched(7)",
    ("set_scheduler", errno.EOPNOTSUPP): "this kernel was built without clamps (CONFIG_UCLAMP_TASK)",
    ("set_io_priority", errno.EPERM): "the class takes CAP_SYS_NICE or CAP_SYS_ADMIN on the host",
    ("set_memory_policy", errno.EINVAL): "this kernel lacks the mode, or this host a node of the list",
    ("set_memory_policy", errno.ENOSYS): "this kernel was built without memory nodes (CONFIG_NUMA)",
    ("set_affinity", errno.EINVAL): "none of these CPUs is in the cgroup of the container, or on this host",
    ("set_initial_affinity", errno.EINVAL): "none of these CPUs is on this host, or ours to use",
    **dict.fromkeys(
        (("label_keyring", errno.EINVAL), ("set_selinux", errno.EINVAL)),
        "SELinux knows no such label: see the policy that is loaded",
    ),
    **dict.fromkeys(
        (("label_keyring", errno.EACCES), ("set_selinux", errno.EACCES)),
        "the policy of SELinux does not let us give this label",
    ),
    ("set_apparmor", errno.ENOENT): "the kernel has no profile of that name: load it by apparmor_parser",
    ("make_mapping", errno.EINVAL): "the kernel takes no id twice, and none beyond 4294967294",
    ("make_mapping", errno.EPERM): "this ocirun may not map these ids: they are not of its user namespace",
    (
        "make_mapping",
        errno.ENOSPC,
    ): "no more user namespaces are allowed: raise user.max_user_namespaces, or nest them less",
    (
        "enter_view",
        errno.ENOSPC,
    ): "no more namespaces are allowed: raise user.max_user_namespaces and user.max_mnt_namespaces",
    ("enter_view", errno.EPERM): "this host lets us make no user namespace, or we are in a chroot",
    ("set_sysctl", errno.ENOENT): "this kernel has no such parameter: a module may have to be loaded for it",
    ("set_sysctl", errno.EINVAL): "the kernel refused the value",
    ("set_sysctl", errno.EACCES): "the parameter is read-only, or not the container's to set",
    ("set_sysctl", errno.EPERM): "the parameter is not the container's to set",
    ("join_keyring", errno.EDQUOT): "this user has as many keys as he may: raise kernel.keys.maxkeys and "
    "kernel.keys.maxbytes, or use --no-new-keyring",
    ("open_proc", errno.EXDEV): "/proc on this host is not a procfs: mount one",
    ("open_namespace", errno.ENOENT): "there is no such namespace: leave the path out for a new one",
    (
        "open_namespace",
        errno.EACCES,
    ): "the process in it is of another user, or of a user namespace that this one does not own",
    ("open_namespace", errno.EINVAL): "it is no namespace of this type: see readlink /proc/PID/ns/*",
    (
        "make_user_namespace",
        errno.EPERM,
    ): "this host lets ordinary users make no user namespace: see kernel.unprivileged_userns_clone and "
    "kernel.apparmor_restrict_unprivileged_userns, and no chroot; or run as root",
    (
        "make_user_namespace",
        errno.ENOSPC,
    ): "no more user namespaces are allowed: raise user.max_user_namespaces, or nest them less",
    ("enter_user_namespace", errno.ENOENT): "there is no such namespace: leave the path out for a new one",
    ("enter_user_namespace", errno.EPERM): "its owner may, and who has CAP_SYS_ADMIN in it: run as that user",
    ("enter_user_namespace", errno.EACCES): "the process in it is of another user: run as that user",
    ("enter_user_namespace", errno.EINVAL): "it is no user namespace, or has no id 0 mapped",
    ("make_user_namespace", errno.EINVAL): "the id 0 of the container was not mapped",
    (
        "clone_init",
        errno.EACCES,
    ): "the kernel lets you put a process into a cgroup only where you may write to "
    "cgroup.procs there and in the nearest cgroup above both that one and your own (cgroups(7), Delegation): "
    f"run it in the same delegated cgroup, {IN_A_SCOPE}",
    (
        "set_groups",
        errno.EPERM,
    ): "setgroups(2) is denied in this user namespace (user_namespaces(7)): have its "
    "groups mapped by newgidmap",
    ("join_namespace", errno.EBUSY): "it is the host's own, whose root would be switched: leave the path out",
    ("join_namespace", errno.EPERM): "joining needs CAP_SYS_ADMIN in the namespace that owns it",
    ("join_namespace", errno.EINVAL): "a pid namespace can only be joined from one above it",
    ("join_cgroup_namespace", errno.EPERM): "the user namespace of the container does not own it",
    ("clone_init", errno.ENOMEM): "the first process of the pid namespace that was joined has ended",
    ("make_time_namespace", errno.ERANGE): "the offset would set a clock before 0 or too far ahead",
    ("become_root", errno.EINVAL): "the id 0 has no mapping in the user namespace",
    ("set_ids", errno.EINVAL): "the user or group has no mapping in the user namespace",
    (
        "load_seccomp",
        errno.EACCES,
    ): "without noNewPrivileges a filter takes CAP_SYS_ADMIN, which this ocirun does not have",
    (
        "load_seccomp",
        errno.EINVAL,
    ): "this kernel lacks a flag of the profile, or filters altogether, or refuses a raw one",
    (
        "",
        errno.ENOSYS,
    ): "this kernel is too old, or a filter hides the system call from us: ocirun needs 5.15",
    ("", errno.ESTALE): "its place was renamed meanwhile: who else writes to this root file system?",
    ("", errno.ENOSPC): "a file system or a limit on mounts (fs.mount-max) is full",
    ("", errno.EROFS): "the place is read-only",
    ("", errno.EACCES): "this user has no permission there",
    ("", errno.EMFILE): EXHAUSTED[errno.EMFILE],
    ("", errno.ENFILE): EXHAUSTED[errno.ENFILE],
}


#: The member of a mount that a step of it is about, by verb and the system call that refused; "" is any.
_MEMBERS: dict[tuple[str, str], str] = {
    ("open_tree", ""): "source",
    ("attach", ""): "destination",
    ("mount", "openat2"): "destination",
    ("mount", "fsopen"): "type",
}


def failed_step(program: Program, report: Report) -> OcirunError:
    """The error for a FAILED report: which step, what the kernel said, what to do."""
    step = _step(program, report.step)
    if step is not None and step.verb == "find_program":
        from ocirun.executor.program import failed_lookup

        return failed_lookup(step, report)
    if step is not None and step.verb == "run_hook_inside":
        return _failed_step_of_hook(step, report)
    what = _describe(step) if step is not None else "read the plan"
    if step is not None and step.verb == "attach_root" and step.pointer == "/root/path":
        what, report.path = f"attach root {_root_of(program)}", _root_of(program)
    detail = f": {_detail(report)}" if _detail(report) else ""
    verb = step.verb if step is not None else ""
    hint = HINTS.get((verb, report.errno)) or HINTS.get(("", report.errno), "")
    if verb == "mount" and report.errno == errno.EINVAL and (owner := _owner(report.path)):
        hint = _UNMAPPED.format(owner) if _in_user_namespace(program) else hint
    if step is not None and step.verb == "map_ids":
        from ocirun.executor import unmappable

        what, hint = unmappable.told([one for _, one in program.records], step, report.errno)
    return StepError(
        f"{what}{detail}: {words_of(report.errno)}",
        step=report.step,
        pointer=_pointer(step, report) if step is not None else "",
        operation=report.operation,
        errno=report.errno,
        path=report.path,
        hint=hint,
    )


#: For a file system that is to belong to the uid or gid of an option.
_UNMAPPED = (
    "has the user namespace of the container no such {0}? Leave the option out, as `ocirun spec --rootless` "
    "does, or map it in linux.{0}Mappings, which takes a range in /etc/sub{0} where an ordinary user runs it"
)


def _owner(refused: str) -> str:
    """Which id the option names that a file system has ``refused``, "" for another option, or no number."""
    named = [word.partition("=")[::2] for word in refused.replace(":", " ").split()]
    return next((name for name, value in named if name in ("uid", "gid") and value.isdigit()), "")


def _in_user_namespace(program: Program) -> bool:
    """Whether the container has a user namespace, in which some ids may have no mapping."""
    return any(step.verb in ("become_root", "make_user_namespace") for _, step in program.records)


def _pointer(step: Step, report: Report) -> str:
    """The pointer of the step, or of the member of a mount that is to blame."""
    parts = step.pointer.split("/")
    if len(parts) != 3 or parts[1] != "mounts":
        return step.pointer
    member = _MEMBERS.get((step.verb, report.operation)) or _MEMBERS.get((step.verb, ""))
    if _is_of_an_option(step, report):
        member = "options"
    return f"{step.pointer}/{member}" if member else step.pointer


def _is_of_an_option(step: Step, report: Report) -> bool:
    """Whether the helper named an option that the step gives to a file system: TARGET: OPTION, and what else
    the kernel said."""
    said = f"{report.path}: ".partition(": ")[2]
    options = [one for argument in step.args if isinstance(argument, tuple) for one in argument]
    return report.operation == "fsconfig" and any(said.startswith(f"{option}: ") for option in options)


def explained_step(program: Program, report: Report, pid: int) -> Task[OcirunError]:
    """The error for a FAILED report of stage, or of the init with this ``pid``, which waits while we look for
    the cause."""
    error = failed_step(program, report)
    step = _step(program, report.step)
    if step is None or not isinstance(error, StepError):
        return error
    if step.verb == "find_program":
        from ocirun.executor.program import explain_lookup

        yield from explain_lookup(error, step, report.path, pid, _cwd_of(program))
    elif report.errno == errno.EACCES and report.path[:1] == "/":
        yield from _explain_denial(error, program, report, pid)
    return error


def _explain_denial(error: StepError, program: Program, report: Report, pid: int) -> Task[None]:
    """Names the directory that may not be searched: of the host for stage, of the root file system for init,
    which has it below a path of the host until it enters it."""
    from ocirun.executor.inside import look_inside
    from ocirun.walk import NOTHING_MORE, SEARCH, reason, why_denied

    if not pid:
        told = why_denied(report.path, NOTHING_MORE)
    else:
        want = SEARCH if report.operation == "fchdir" else NOTHING_MORE

        def ask(inside: Inside) -> Finding:
            walk = inside.walk(report.path)
            return "", reason(walk, want, inside.who)

        switch = [number for number, step in program.records if step.verb == "pivot_root"]
        top = _root_of(program) if switch and report.step <= switch[0] else ""
        _, told = yield from look_inside(pid, ask, top)
    if told:
        error.code, error.hint = "no-search-permission", told


def _cwd_of(program: Program) -> str:
    return next((str(step.args[0]) for _, step in program.records if step.verb == "enter_cwd"), "/")


def hook_error(
    pointer: str, path: str, words: Sequence[str], how: str, tail: bytes, number: int = 0, *, hint: str = ""
) -> HookError:
    """The error for a hook: which, what it was called with, how it ended, and the last it printed.

    ``pointer`` is that of the hook, ``words`` its arguments, ``tail`` the end of what it printed, ``number``
    an errno.
    """
    kind, place = pointer.split("/")[2:4]
    argv = " ".join(words)
    called = path if argv == path else f"{path} as {argv!r}"
    said = said_by_hook(tail)
    printed = f"; it printed: {said}" if said else ""
    return HookError(
        f"error running {kind} hook #{place}: {called}: {how}{printed}",
        pointer=pointer,
        operation="run_hook",
        path=path,
        errno=number,
        hint=hint,
    )


def said_by_hook(tail: bytes) -> str:
    """The last lines of what a hook printed, fit for a terminal and a log; "" where it printed nothing.

    A hook inside is a program of the image: what would steer the terminal is shown as its escape.
    """
    lines = tail.decode("utf-8", "replace").strip().splitlines()[-_LINES:]
    text = "\n".join(escaped(line, kept="\t") for line in lines)
    return text[-_LONGEST:].strip()


def why_no_hook(path: str) -> str:
    """Why a program of the host cannot be executed; "" where nothing is seen to be in the way."""
    from ocirun.executor.inside import Inside
    from ocirun.executor.unrunnable import refusal

    try:
        inside = Inside("self", "/")
    except OSError:
        return ""
    try:
        return refusal(inside, path)[1].replace("in the image", "on the host")
    except OSError:
        return ""
    finally:
        inside.close()


def _failed_step_of_hook(step: Step, report: Report) -> HookError:
    kind, number, path, words, _, timeout, _ = step.args
    assert isinstance(words, tuple)
    how = hook_end(report.errno, report.value, report.operation, int(str(timeout)))
    tail = report.path.encode("utf-8")
    argv = [str(word) for word in words]
    hint = why_no_hook(str(path)) if report.operation == "execve" and report.errno else ""
    return hook_error(f"/hooks/{kind!s}/{number!s}", str(path), argv, how, tail, report.errno, hint=hint)


def hook_end(number: int, status: int, operation: str, timeout: int) -> str:
    """How a hook that init ran came to its end: by an errno of ``operation`` before it was executed, with the
    wait status ``status``, or, where that is -1 in 32 bits, by its time limit of ``timeout`` seconds."""
    import posix as os

    if number:
        return words_of(number) if operation == "execve" else f"{operation}: {words_of(number)}"
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
    for number, step in (*program.before, *program.records):
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
