"""The one table of error codes: what ``code`` can be in the log, what it means and the way out.

docs/errors.md is generated from it.  A test reads the sources and holds that they use these codes and no
others, and that each is reached by the test it names.  Codes are never renamed and never hold a value.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Code:
    """One row: who raises it (a class of ocirun.errors), meaning, cure, and the test that reaches it."""

    __slots__ = ("cure", "meaning", "name", "raised", "test")

    def __init__(self, name: str, raised: str, meaning: str, cure: str, test: str) -> None:
        self.name = name
        self.raised = raised
        self.meaning = meaning
        self.cure = cure
        self.test = test


_HOST = "tests/host/test_error_codes.py::"
_EXEC = "tests/host/test_exec_failures.py::"
_WHY = f"{_EXEC}test_the_cause_of_a_failed_execve_is_told"

CODES: Sequence[Code] = (
    Code(
        "config-invalid",
        "ConfigError",
        "config.json breaks rules of the specification; all of them are told, each with its place",
        "correct the members that are named; `ocirun validate` finds the same without a container",
        f"{_HOST}test_a_config_that_breaks_a_rule",
    ),
    Code(
        "config-unreadable",
        "ConfigError",
        "config.json is missing, is no file or cannot be read",
        "name a bundle, a directory with a config.json that this user may read",
        f"{_HOST}test_a_config_that_is_not_there",
    ),
    Code(
        "config-unsupported",
        "ConfigError",
        "config.json asks for a property that this version does not build, or of another platform",
        "leave the member out; nothing that is asked for is ignored",
        f"{_HOST}test_a_member_of_another_platform",
    ),
    Code(
        "host-lacks",
        "HostError",
        "this host or kernel cannot do what was asked, a controller or a capability is missing",
        "the hint names what is missing and how to get it",
        f"{_HOST}test_a_host_without_cgroups",
    ),
    Code(
        "out-of-resources",
        "StateError, HostError, HelperError",
        "descriptors or memory of the host or of the caller are used up",
        "raise the limit that the hint names; nothing was made",
        f"{_HOST}test_too_few_descriptors_are_told_and_leave_nothing",
    ),
    Code(
        "memory-limit",
        "HostError",
        "the memory limit of the container is too small for its init: the kernel killed it, or had no more",
        "raise memory.limit; the text has the limit and the peak",
        "tests/host/test_smallest.py::test_an_init_without_memory_is_told_of_its_limit",
    ),
    Code(
        "usage",
        "UsageError",
        "the command line is wrong",
        "see `ocirun COMMAND --help`; the hint names the nearest command or flag",
        f"{_HOST}test_a_mistyped_command_and_flag",
    ),
    Code(
        "socket",
        "HostError",
        "a terminal, a pidfd or the listener of a filter could not be sent to the socket that was given for "
        "it, or the agent there does not answer",
        "something must listen on it, and this user must be allowed to write to it",
        f"{_HOST}test_a_socket_that_nobody_listens_on",
    ),
    Code(
        "container-unknown",
        "StateError",
        "no container has this id",
        "`ocirun list` shows those there are; --root must be the one of create",
        f"{_HOST}test_what_is_wrong_with_an_id",
    ),
    Code(
        "container-exists",
        "StateError",
        "a container with this id exists",
        "choose another id, or delete it",
        f"{_HOST}test_what_is_wrong_with_an_id",
    ),
    Code(
        "container-id-invalid",
        "StateError",
        "the container id has characters that are not allowed",
        "an id has letters, digits and _ + - . and does not begin with a dot",
        f"{_HOST}test_what_is_wrong_with_an_id",
    ),
    Code(
        "container-status",
        "StateError, RemovalError",
        "the container is in a status that does not admit the operation, locked by another command, or being "
        "removed",
        "`ocirun state` tells the status",
        f"{_HOST}test_a_start_too_many",
    ),
    Code(
        "state-io",
        "StateError",
        "the state directory, or a file that was asked for, cannot be read or written, or is damaged",
        "the hint names the directory without permission, or what is full; --root chooses another place",
        f"{_HOST}test_a_pid_file_that_cannot_be_written",
    ),
    Code(
        "step-failed",
        "StepError",
        "the kernel refused a step of the plan",
        "the text has the step and the errno, the pointer names the member that asked for it",
        f"{_HOST}test_a_step_that_the_kernel_refuses",
    ),
    Code(
        "no-search-permission",
        "StepError",
        "a path leads through a directory that this user may not search",
        "the hint names the first such directory, its mode, its owner and who was denied: chmod or chown it",
        "tests/host/test_denied_paths.py::test_a_program_below_a_closed_directory",
    ),
    Code(
        "program-not-found",
        "StepError",
        "the program of the container does not exist; a shell would exit with 127",
        "the hint names the nearest program, or where it is outside of PATH",
        f"{_EXEC}test_a_program_that_is_not_found_suggests",
    ),
    Code(
        "program-not-executable",
        "StepError",
        "the program is there and cannot be executed: no permission, a directory; 126 in a shell",
        "chmod +x it in the image, or name another",
        _WHY,
    ),
    Code(
        "program-interpreter-missing",
        "StepError",
        "the program is a script whose interpreter is not in the image, or whose lines end in CR LF",
        "install the interpreter, correct the first line, or convert the file to LF",
        _WHY,
    ),
    Code(
        "program-loader-missing",
        "StepError",
        "the program is linked dynamically and its loader is not in the image",
        "use an image with the C library it was built for, or link it statically",
        _WHY,
    ),
    Code(
        "program-format",
        "StepError",
        "the file is empty, cut off, or neither an ELF program nor a script",
        "give a script a first line such as #!/bin/sh",
        _WHY,
    ),
    Code(
        "program-architecture",
        "StepError",
        "the program is for another machine or another word size",
        "use the image for the architecture of the host",
        _WHY,
    ),
    Code(
        "program-on-noexec-mount",
        "StepError",
        "the program, its interpreter or its loader is on a mount with the option noexec",
        "take noexec out of the options of that mount, or put the program elsewhere",
        f"{_EXEC}test_a_mount_without_exec_is_told_from_a_missing_permission",
    ),
    Code(
        "program-busy",
        "StepError",
        "the program's file is open for writing",
        "close it before start; write a new file and rename it",
        f"{_EXEC}test_a_program_that_is_still_being_written",
    ),
    Code(
        "arguments-too-long",
        "StepError",
        "args and env are more than the kernel takes",
        "shorten them or pass a file; the hint has the sizes; RLIMIT_STACK of the process sets the limit",
        f"{_EXEC}test_arguments_that_are_too_long",
    ),
    Code(
        "hook-failed",
        "HookError",
        "a hook could not be executed, failed, or took too long",
        "the text has the end of what it printed",
        f"{_HOST}test_a_hook_that_is_not_there",
    ),
    Code(
        "cgroup",
        "DriverError",
        "the cgroup cannot be made, used or removed, or a limit cannot be set",
        "give a cgroupsPath of its own that this user may write",
        f"{_HOST}test_a_cgroup_with_processes",
    ),
    Code(
        "criu",
        "HostError",
        "criu could not take or restore a checkpoint, or there is none to restore",
        "the text has the errors of its log, the hint says where that lies",
        "tests/host/test_checkpoint_refused.py::test_a_checkpoint_that_is_not_there",
    ),
    Code(
        "helper-died",
        "HelperError",
        "the helper ended before its work was done",
        "somebody killed it, or memory ran out: see the kernel log",
        f"{_HOST}test_a_helper_that_is_missing",
    ),
    Code(
        "helper-protocol",
        "HelperError",
        "the helper is not the one that this version was built with",
        "reinstall ocirun, or finish the upgrade",
        "tests/host/test_sealed_helper.py::test_a_helper_of_another_build_is_refused",
    ),
    Code(
        "interrupted",
        "Interrupted",
        "a signal ended the command, which undid what it had made; the exit status is 128 and its number",
        "run it again",
        f"{_HOST}test_a_signal_while_a_hook_runs",
    ),
    Code(
        "internal",
        "",
        "a fault of ocirun itself",
        "please report it, with the output of --debug",
        "tests/unit/test_cli_main.py::test_an_unexpected_exception_is_reported_without_a_traceback",
    ),
)
