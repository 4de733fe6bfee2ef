"""The filter of system calls, by what comes of calls that are made under it."""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.host import observe
from tests.host.execs import by_file, execute
from tests.host.filters import (
    LEAST,
    LEAST_TO_BECOME,
    allowing,
    calling,
    denying,
    filters_of,
    known,
    native,
    with_caller,
)
from tests.host.runtimes import new_id
from tests.host.test_hooks import add_hook

if TYPE_CHECKING:
    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Runtime

SIGSYS = 128 + 31
PRIVILEGES = pytest.mark.parametrize("forbidden", [True, False], ids=["nnp", "privileged"])


def filtered(bundle: Bundle, profile: dict[str, Json], *, forbidden: bool = True) -> Bundle:
    """The bundle with a profile, and with or without noNewPrivileges."""
    return bundle.put(profile, "linux", "seccomp").put(forbidden, "process", "noNewPrivileges")


@PRIVILEGES
@pytest.mark.parametrize("uid", [0, 1000])
def test_init_has_the_filter_and_nothing_of_what_it_took_to_load_it(
    runtime: Runtime, bundle: Bundle, forbidden: bool, uid: int
) -> None:
    bundle.sleeping().user(uid, uid).capabilities(bounding=[], permitted=[], effective=[])
    container = runtime.running(filtered(bundle, denying("mkdir", "mkdirat"), forbidden=forbidden))
    assert filters_of(container) == ("2", "1")
    status = observe.status(container.pid)
    assert status["NoNewPrivs"] == str(int(forbidden))
    assert {status[f"Cap{kind}"] for kind in ("Bnd", "Prm", "Eff", "Inh", "Amb")} == {"0" * 16}
    assert status["Uid"].split() == [str(uid)] * 4


@PRIVILEGES
@pytest.mark.parametrize("errno_ret", [None, errno.EACCES, errno.ENOSYS])
def test_a_denied_call_gets_its_errno(
    runtime: Runtime, bundle: Bundle, forbidden: bool, errno_ret: int | None
) -> None:
    filtered(bundle, denying("munlockall", errno_ret=errno_ret), forbidden=forbidden)
    assert runtime.run(calling(bundle, native("munlockall"))).ok().stdout == f"-{errno_ret or errno.EPERM}\n"


@pytest.mark.parametrize(
    ("action", "code", "told"),
    [
        ("SCMP_ACT_KILL", SIGSYS, ""),
        ("SCMP_ACT_KILL_THREAD", SIGSYS, ""),
        ("SCMP_ACT_KILL_PROCESS", SIGSYS, ""),
        ("SCMP_ACT_TRAP", SIGSYS, ""),
        ("SCMP_ACT_TRACE", 0, f"-{errno.ENOSYS}\n"),
        ("SCMP_ACT_LOG", 0, "0\n"),
        ("SCMP_ACT_ERRNO", 0, f"-{errno.EPERM}\n"),
    ],
)
def test_an_action_does_what_it_says(
    runtime: Runtime, bundle: Bundle, action: str, code: int, told: str
) -> None:
    result = runtime.run(
        calling(filtered(bundle, denying("munlockall", action=action)), native("munlockall"))
    )
    assert (result.code, result.stdout) == (code, told), result.stderr


def test_what_is_not_denied_is_done(runtime: Runtime, bundle: Bundle) -> None:
    assert runtime.run(calling(filtered(bundle, denying("mkdir")), native("munlockall"))).ok().stdout == "0\n"


@pytest.mark.parametrize(
    ("operator", "value", "two", "denied", "done"),
    [
        ("SCMP_CMP_NE", 7, 0, 8, 7),
        ("SCMP_CMP_LT", 7, 0, 6, 7),
        ("SCMP_CMP_LE", 7, 0, 7, 8),
        ("SCMP_CMP_EQ", 1 << 33, 0, 1 << 33, 0),
        ("SCMP_CMP_GE", 1 << 33, 0, 1 << 33, 7),
        ("SCMP_CMP_GT", 7, 0, 8, 7),
        ("SCMP_CMP_MASKED_EQ", 0xF0, 0x10, 0x11F, 0x12F),
    ],
)
def test_a_condition_looks_at_the_argument(
    runtime: Runtime, bundle: Bundle, operator: str, value: int, two: int, denied: int, done: int
) -> None:
    condition: Json = {"index": 2, "op": operator, "value": value, "valueTwo": two}
    filtered(bundle, denying("munlockall", args=[condition]))
    assert runtime.run(calling(bundle, native("munlockall"), 0, 0, denied)).ok().stdout == "-1\n"
    assert (
        runtime.run(bundle.args("/bin/caller", str(native("munlockall")), "0", "0", str(done))).ok().stdout
        == "0\n"
    )


@pytest.mark.parametrize(("indices", "second"), [((0, 1), "0\n"), ((0, 0), "-1\n")])
def test_conditions_on_one_argument_stand_each_for_itself(
    runtime: Runtime, bundle: Bundle, indices: tuple[int, int], second: str
) -> None:
    conditions: Json = [{"index": at, "op": "SCMP_CMP_EQ", "value": 7 + n} for n, at in enumerate(indices)]
    filtered(bundle, denying("munlockall", args=conditions))
    assert runtime.run(calling(bundle, native("munlockall"), 7, 8)).ok().stdout == "-1\n"
    assert runtime.run(bundle.args("/bin/caller", str(native("munlockall")), "8", "0")).ok().stdout == second


def test_an_architecture_is_filtered_where_the_profile_names_it_and_foreign_where_not(
    runtime: Runtime, bundle: Bundle
) -> None:
    if native("munlockall") != 152:
        pytest.skip("calls as those of x86 are made on x86-64")
    profile = denying("munlockall")
    calling(filtered(bundle, profile), "old", 153)
    assert runtime.run(bundle).code == SIGSYS
    profile["architectures"] = ["SCMP_ARCH_X86"]
    assert runtime.run(bundle).ok().stdout == "-1\n"
    assert runtime.run(bundle.args("/bin/caller", "152")).ok().stdout == "-1\n"
    assert runtime.run(bundle.args("/bin/caller", "old", "20")).ok().stdout == "1\n"


@PRIVILEGES
def test_a_call_that_is_newer_than_the_profile_does_not_exist(
    runtime: Runtime, bundle: Bundle, forbidden: bool
) -> None:
    """C libraries try what is new and fall back on ENOSYS; EPERM they believe."""
    newest = native("openat2")
    names = [name for name in known(newest) if name != "munlockall"]
    filtered(bundle, allowing(*names), forbidden=forbidden)
    answers = {number: runtime.run(calling(bundle, number)).ok().stdout for number in (newest + 2, 9999)}
    assert answers == {newest + 2: "-38\n", 9999: "-38\n"}, "openat2 is there, faccessat2 and 9999 are not"
    assert runtime.run(bundle.args("/bin/caller", str(native("munlockall")))).ok().stdout == "-1\n"


def test_where_the_default_lets_through_nothing_is_hidden(runtime: Runtime, bundle: Bundle) -> None:
    filtered(bundle, denying("munlockall", action="SCMP_ACT_KILL"))
    number = native("faccessat2")
    assert runtime.run(calling(bundle, number, 0, 0)).ok().stdout == f"-{errno.EFAULT}\n"


@PRIVILEGES
@pytest.mark.parametrize("uid", [0, 1000])
def test_a_filter_that_kills_for_nearly_everything_is_lived_under(
    ocirun: Runtime, bundle: Bundle, forbidden: bool, uid: int
) -> None:
    """The peers need far more calls of their own between the filter and the program."""
    calls = LEAST if forbidden else LEAST_TO_BECOME
    profile = allowing(*calls, default="SCMP_ACT_KILL_PROCESS")
    with_caller(filtered(bundle, profile, forbidden=forbidden)).args("caller").user(uid, uid, 7)
    assert ocirun.run(bundle).ok().stdout == "0\n"
    container = ocirun.create(bundle)
    assert filters_of(container) == ("2", "1")
    container.start()
    assert container.exit_status() == 0
    assert container.output == "0\n"


@PRIVILEGES
@pytest.mark.parametrize("call", ["read", "openat2"])
def test_a_filter_that_init_cannot_live_under_fails_create(
    ocirun: Runtime, bundle: Bundle, forbidden: bool, call: str
) -> None:
    """After read everything is newer, and answers ENOSYS; before openat2 it is killed."""
    filtered(bundle, allowing(call, default="SCMP_ACT_KILL"), forbidden=forbidden)
    ocirun.attempt(bundle).refused("the helper was killed", "seccomp")


@PRIVILEGES
def test_an_executed_process_has_the_filter_of_the_container(
    runtime: Runtime, bundle: Bundle, forbidden: bool
) -> None:
    profile = denying("munlockall", errno_ret=errno.EXDEV)
    container = runtime.running(with_caller(filtered(bundle.sleeping(), profile, forbidden=forbidden)))
    assert execute(container, "/bin/caller", str(native("munlockall"))).ok().stdout == f"-{errno.EXDEV}\n"
    pid = by_file(container, "sleep", "1000", noNewPrivileges=forbidden, user={"uid": 1000, "gid": 1000})
    status = observe.status(pid)
    assert (status["Seccomp"], status["Seccomp_filters"]) == ("2", "1")
    assert status["NoNewPrivs"] == str(int(forbidden))
    assert execute(container, "/not/there").code in {127, 255, 1}


@PRIVILEGES
def test_start_container_hooks_run_under_the_filter_and_create_container_hooks_do_not(
    runtime: Runtime, bundle: Bundle, forbidden: bool
) -> None:
    """Their files come from the image, those of the others from the host."""
    bundle.writable().args("true")
    filtered(bundle, denying("mkdir", "mkdirat"), forbidden=forbidden)
    add_hook(bundle, "createContainer", f"mkdir {bundle.rootfs}/made")
    add_hook(bundle, "startContainer", "if mkdir /denied; then echo yes; else echo no; fi > /told")
    runtime.run(bundle).ok()
    assert (bundle.rootfs / "made").is_dir()
    assert not (bundle.rootfs / "denied").exists()
    assert (bundle.rootfs / "told").read_text() == "no\n"


@pytest.mark.parametrize("forbidden", [True, False])
def test_in_a_user_namespace(runtime: Runtime, bundle: Bundle, forbidden: bool) -> None:
    with_caller(filtered(bundle, denying("munlockall"), forbidden=forbidden)).mapped(100000, 65536)
    assert runtime.run(bundle.args("/bin/caller", str(native("munlockall")))).ok().stdout == "-1\n"
    container = runtime.running(bundle.sleeping())
    assert execute(container, "/bin/caller", str(native("munlockall"))).ok().stdout == "-1\n"


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["SECCOMP_FILTER_FLAG_TSYNC"],
        ["SECCOMP_FILTER_FLAG_LOG"],
        ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
        ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"],
    ],
    ids=lambda flags: "+".join(flags).replace("SECCOMP_FILTER_FLAG_", "") or "none",
)
def test_every_flag_is_taken(runtime: Runtime, bundle: Bundle, flags: list[Json]) -> None:
    filtered(bundle, {**denying("munlockall"), "flags": flags})
    assert runtime.run(calling(bundle, native("munlockall"))).ok().stdout == "-1\n"


def test_a_profile_of_the_default_alone_is_a_filter(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(filtered(bundle.sleeping(), {"defaultAction": "SCMP_ACT_ALLOW"}))
    assert filters_of(container) == ("2", "1")


# -- who looks for the program, where the filter comes before the change of user


@pytest.mark.parametrize(
    ("owner", "mode", "runs"),
    [((0, 0), 0o700, False), ((1000, 0), 0o700, True), ((0, 1001), 0o750, True), ((0, 7), 0o750, True)],
    ids=["roots", "own", "group", "additional"],
)
def test_the_program_is_looked_for_as_the_user_that_runs_it(
    runtime: Runtime, bundle: Bundle, owner: tuple[int, int], mode: int, runs: bool
) -> None:
    place = bundle.directory("secret").rootfs / "secret"
    filtered(with_caller(bundle), denying("munlockall"), forbidden=False).capabilities().user(1000, 1001, 7)
    (bundle.rootfs / "bin/caller").rename(place / "caller")
    (place / "caller").chmod(0o755)
    place.chmod(mode)
    os.chown(place, *owner)
    done = runtime.run(bundle.args("/secret/caller"))
    assert (done.code == 0) is runs, done.stderr
    assert runs or "permission denied" in done.stderr.lower()


def test_a_user_who_may_read_everything_finds_it_too(runtime: Runtime, bundle: Bundle) -> None:
    sets = dict.fromkeys(("bounding", "effective", "permitted"), ("CAP_DAC_OVERRIDE",))
    filtered(with_caller(bundle), denying("munlockall"), forbidden=False).capabilities(**sets).user(
        1000, 1000
    )
    bundle.directory("secret", 0o700)
    (bundle.rootfs / "bin/caller").rename(bundle.rootfs / "secret/caller")
    assert runtime.run(bundle.args("/secret/caller")).ok().stdout == "0\n"


# -- what is refused


@pytest.mark.parametrize(
    ("profile", "texts"),
    [
        ({**denying("a"), "flags": ["SECCOMP_FILTER_FLAG_X"]}, ("/linux/seccomp/flags/0", "must be one of")),
        (denying("a", action="SCMP_ACT_X"), ("/linux/seccomp/syscalls/0/action", "must be one of")),
        (denying("a", action="SCMP_ACT_LOG", errno_ret=1), ("/linux/seccomp/syscalls/0/errnoRet", "beside")),
        ({"defaultAction": "SCMP_ACT_TRAP", "defaultErrnoRet": 1}, ("/linux/seccomp/defaultErrnoRet", "be")),
        ({**denying("a"), "architectures": ["SCMP_ARCH_S390"]},
         ("libseccomp refuses the architecture SCMP_ARCH_S390", "/linux/seccomp/architectures/0")),
    ],
)  # fmt: skip
def test_a_profile_that_cannot_be_is_refused_by_its_place(
    ocirun: Runtime, bundle: Bundle, profile: dict[str, Json], texts: tuple[str, ...]
) -> None:
    ocirun.attempt(filtered(bundle, profile)).refused(*texts)


def test_an_errno_beside_an_action_that_takes_none_is_an_error(runtime: Runtime, bundle: Bundle) -> None:
    """config-linux.md#seccomp."""
    assert runtime.attempt(filtered(bundle, denying("mkdir", action="SCMP_ACT_LOG", errno_ret=1))).code != 0


_FAIL_UNKNOWN = "run.oci.seccomp_fail_unknown_syscall"


def test_a_call_that_nobody_knows_is_left_out_unless_the_annotation_refuses_it(
    runtime: Runtime, bundle: Bundle
) -> None:
    filtered(bundle, denying("mkdir", "no_such_call")).put({_FAIL_UNKNOWN: "0"}, "annotations")
    assert runtime.run(bundle.args("echo", "run")).ok().stdout == "run\n"
    result = runtime.attempt(bundle.put({_FAIL_UNKNOWN: "1"}, "annotations"))
    assert result.code != 0
    assert "no_such_call" in result.stderr


@pytest.mark.parametrize(
    ("annotation", "told"),
    [("run.oci.handler", "is not built: a program is executed by the kernel alone")],
)
def test_an_annotation_that_would_make_another_container_is_refused(
    ocirun: Runtime, bundle: Bundle, annotation: str, told: str
) -> None:
    ocirun.attempt(bundle.put({annotation: "x"}, "annotations")).refused(f"/annotations/{annotation}", told)


def test_an_annotation_that_can_be_done_without_is_told(ocirun: Runtime, bundle: Bundle) -> None:
    bundle.put({"run.oci.keep_original_groups": "1"}, "annotations")
    log = ocirun.file("log")
    ocirun.call("--log", str(log), "run", "--bundle", str(bundle.write().path), "oh-annotated").ok()
    assert "/annotations/run.oci.keep_original_groups" in log.read_text()


def test_a_compiler_that_never_comes_to_its_end_can_be_interrupted(ocirun: Runtime, bundle: Bundle) -> None:
    """Two rules whose conditions overlap in this way keep libseccomp for ever; peers have to be killed."""
    masked: Json = {"index": 3, "value": 1, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    compared: Json = {"index": 4, "value": 8, "op": "SCMP_CMP_LE"}
    low: Json = {"index": 0, "value": 8, "op": "SCMP_CMP_LE"}
    rules: list[Json] = [
        {"names": ["mmap"], "action": "SCMP_ACT_ERRNO", "args": [low, other]} for other in (masked, compared)
    ]
    bundle.put({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}, "linux", "seccomp")
    ident = new_id()
    process, result = ocirun.popen("create", "--bundle", str(bundle.sleeping().write().path), ident)
    observe.eventually(lambda: bool(observe.descendants(process.pid)), "it compiles")
    (compiler,) = observe.descendants(process.pid)
    process.terminate()
    assert process.wait(observe.PATIENCE) == 128 + signal.SIGTERM, result.stderr
    assert not observe.alive(compiler)
    ocirun.call("state", ident).refused("does not exist")
