"""The container's cgroup: where it is, that it was fit, and that delete takes away only what create made."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import execs, observe
from tests.host.bundles import Bundle, Json
from tests.host.runtimes import Container, Runtime, new_id
from tests.host.users import UID, as_user, of_user
from tests.host.view import View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: crun is not: it takes a cgroup with others in it, and in a frozen one waits for ever.
CAREFUL = pytest.mark.parametrize("runtime", ["ocirun", "runc"], indirect=True)


def _cgroup(pid: int) -> str:
    """The cgroup2 path of a process, as the test sees it (cgroups(7))."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next(line.removeprefix("0::") for line in lines if line.startswith("0::"))


def _path(bundle: Bundle, path: str) -> Bundle:
    return bundle.put(path, "linux", "cgroupsPath")


def test_init_is_born_in_the_cgroup_named_by_its_id(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.create(bundle.sleeping())
    assert _cgroup(container.pid) == f"/ocirun/{container.id}"


def test_the_parent_goes_with_the_last_container(ocirun: Runtime, bundle: Bundle, view: View) -> None:
    first, second = ocirun.create(bundle.sleeping()), ocirun.create(bundle.sleeping())
    first.delete().ok()
    assert (view.cgroup2 / "ocirun" / second.id).is_dir()
    second.delete().ok()
    assert not (view.cgroup2 / "ocirun" / second.id).exists()


def test_an_absolute_path_is_below_the_mount_of_cgroup2(runtime: Runtime, bundle: Bundle, view: View) -> None:
    name = new_id()
    container = runtime.create(_path(bundle.sleeping(), f"/{name}/deep/er"))
    assert _cgroup(container.pid) == f"/{name}/deep/er"
    container.delete("--force").ok()
    if runtime.name != "ocirun":  # the peers leave the parents they made
        observe.eventually(lambda: not (view.cgroup2 / name / "deep/er").exists(), "the cgroup is gone")
        for left in (f"{name}/deep", name):
            if (view.cgroup2 / left).exists():
                (view.cgroup2 / left).rmdir()
    assert not (view.cgroup2 / name).exists()


def test_a_relative_path_is_the_same_place_every_time(runtime: Runtime, bundle: Bundle, view: View) -> None:
    name = new_id()
    places: set[str] = set()
    for _ in range(2):
        container = runtime.create(_path(bundle.sleeping(), f"{name}/deeper"))
        places.add(_cgroup(container.pid))
        container.delete("--force").ok()
    [found] = places
    assert found.endswith(f"/{name}/deeper")
    if runtime.name != "ocirun":
        (view.cgroup2 / found.lstrip("/")).parent.rmdir()
    assert not (view.cgroup2 / found.lstrip("/")).parent.exists()


@pytest.fixture
def place(view: View) -> Iterator[Path]:
    """A cgroup that is there, and is removed with all below it."""
    where = view.cgroup2 / new_id()
    where.mkdir()
    yield where
    for directory, _, _ in os.walk(where, topdown=False):
        Path(directory).rmdir()


@CAREFUL
@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_cgroup_with_processes_is_refused(
    runtime: Runtime, bundle: Bundle, place: Path, below: str
) -> None:
    procs = place / below / "cgroup.procs"
    procs.parent.mkdir(exist_ok=True)
    with subprocess.Popen(("sleep", "1000")) as other:
        try:
            procs.write_text(str(other.pid))
            result = runtime.attempt(_path(bundle, f"/{place.name}"))
            result.refused("container's cgroup is not empty: 1 process(es) found")
            assert other.poll() is None, "a stranger was killed"
        finally:
            other.kill()
    observe.eventually(lambda: not procs.read_text(), "the cgroup is empty")
    if runtime.name == "ocirun":
        result.refused("/linux/cgroupsPath")


@CAREFUL
def test_a_frozen_cgroup_is_refused(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    (place / "cgroup.freeze").write_text("1")
    runtime.attempt(_path(bundle, f"/{place.name}")).refused("container's cgroup unexpectedly frozen")
    (place / "cgroup.freeze").write_text("0")


def test_a_cgroup_below_a_frozen_one_is_refused_and_not_made(
    ocirun: Runtime, bundle: Bundle, place: Path
) -> None:
    """Init would be born standing still, and create hang."""
    (place / "cgroup.freeze").write_text("1")
    refused = ocirun.attempt(_path(bundle, f"/{place.name}/new/er"))
    refused.refused("container's cgroup unexpectedly frozen", "one above it", "/linux/cgroupsPath")
    assert not (place / "new").exists()
    (place / "cgroup.freeze").write_text("0")


def test_cgroups_that_a_container_made_go_with_it(runtime: Runtime, bundle: Bundle, view: View) -> None:
    """Such as an init that is systemd makes, with processes in them."""
    for mount in bundle.items("mounts"):
        assert isinstance(mount, dict)
        if mount["destination"] == "/sys/fs/cgroup":
            mount["options"] = ["nosuid", "noexec", "nodev"]
    script = (
        "cd /sys/fs/cgroup; umask 077; mkdir -p a/b/c d; "
        "sh -c 'echo 0 >a/b/c/cgroup.procs; exec sleep 1000' & "
        "sh -c 'echo 0 >d/cgroup.procs; exec sleep 1000' & "
        "until grep -q . a/b/c/cgroup.procs && grep -q . d/cgroup.procs; do :; done; echo made; wait"
    )
    container = runtime.running(bundle.sh(script))
    observe.eventually(lambda: "made" in container.output, "it has made cgroups")
    where = view.cgroup2 / observe.cgroup(container.pid).lstrip("/")
    inside = {int(pid) for path in where.rglob("cgroup.procs") for pid in path.read_text().split()}
    assert len(inside) == 3
    container.delete("--force").ok()
    assert not where.exists()
    observe.eventually(lambda: not any(map(observe.alive, inside)), "all are dead")


def test_a_refused_limit_leaves_a_cgroup_that_was_there_as_it_was(
    ocirun: Runtime, bundle: Bundle, place: Path
) -> None:
    (place / "cgroup.max.depth").write_text("5")
    unified: Json = {"cgroup.max.depth": "7", "cgroup.max.descendants": "9", "cgroup.nothing": "1"}
    bundle.put(unified, "linux", "resources", "unified")
    ocirun.attempt(_path(bundle, f"/{place.name}")).refused("/linux/resources/unified/cgroup.nothing")
    assert (place / "cgroup.max.depth").read_text() == "5\n"
    assert (place / "cgroup.max.descendants").read_text() == "max\n"


# -- exec in a cgroup below that of the container


@pytest.fixture
def parted(runtime: Runtime, bundle: Bundle) -> tuple[Container, str]:
    """A container with a cgroup below its own, and the path of its own."""
    container = runtime.running(bundle.sleeping())
    execs.cgroup_file(container, "cgroup.procs").with_name("sub").mkdir()
    return container, observe.cgroup(container.pid)


@pytest.mark.parametrize(("path", "below"), [("sub", "/sub"), ("/sub", "/sub"), ("/", "")])
def test_a_process_is_executed_in_the_cgroup_that_is_named(
    parted: tuple[Container, str], path: str, below: str
) -> None:
    container, own = parted
    assert observe.cgroup(execs.sleeping(container, "--cgroup", path)) == f"{own}{below}"
    inside = execs.execute(container, "cat", "/proc/self/cgroup", flags=("--cgroup", path)).ok().stdout
    assert inside.splitlines()[-1] == f"0::{below or '/'}"


@pytest.mark.parametrize("path", ["../", "sub/../../..", "nothing", "cgroup.procs"])
def test_no_other_cgroup_can_be_named(parted: tuple[Container, str], path: str) -> None:
    container, _ = parted
    refused = execs.execute(container, "true", flags=("--cgroup", path))
    assert refused.code in execs.FAILURES
    if container.runtime.name == "ocirun":
        text = "not a sub cgroup path" if ".." in path else f"the container has no cgroup /{path}"
        assert text in refused.stderr


def test_a_cgroup_that_was_there_stays(ocirun: Runtime, bundle: Bundle, view: View) -> None:
    name = new_id()
    (view.cgroup2 / name).mkdir()
    ocirun.run(_path(bundle.args("true"), f"/{name}")).ok()
    assert (view.cgroup2 / name).is_dir()
    (view.cgroup2 / name).rmdir()


def test_who_took_the_cgroup_of_a_stopped_container_is_not_killed_with_it(
    ocirun: Runtime, bundle: Bundle, bundles: Callable[[str], Bundle], view: View
) -> None:
    name = new_id()
    first = ocirun.detach(_path(bundle.args("true"), f"/{name}"))
    first.wait()
    second = ocirun.running(_path(bundles("other").sleeping(), f"/{name}"))
    first.delete().ok()
    assert observe.alive(second.pid)
    second.delete("--force").ok()
    (view.cgroup2 / name).rmdir()  # neither made it alone


def test_who_is_in_a_cgroup_that_was_made_anew_is_not_killed(
    ocirun: Runtime, bundle: Bundle, view: View
) -> None:
    """Ours has gone, by somebody's hand, and one of its name serves a stranger."""
    name = new_id()
    container = ocirun.running(_path(bundle.sleeping(), f"/{name}"))
    container.kill("KILL").ok()
    container.wait()
    (view.cgroup2 / name).rmdir()
    (view.cgroup2 / name).mkdir()
    with subprocess.Popen(("sleep", "1000")) as stranger:
        (view.cgroup2 / name / "cgroup.procs").write_text(str(stranger.pid))
        container.delete().ok()
        assert stranger.poll() is None, "a stranger was killed"
        assert _cgroup(stranger.pid) == f"/{name}"
        stranger.kill()
    observe.eventually(lambda: not (view.cgroup2 / name / "cgroup.procs").read_text(), "the cgroup is empty")
    (view.cgroup2 / name).rmdir()


@pytest.fixture
def killed(view: View) -> Iterator[str]:
    """The name of a cgroup that was killed when nobody was in it."""
    name = new_id()
    (view.cgroup2 / name).mkdir()
    (view.cgroup2 / name / "cgroup.kill").write_text("1")
    yield name
    with contextlib.suppress(FileNotFoundError):  # the peers remove what they did not make
        (view.cgroup2 / name).rmdir()


def test_a_cgroup_that_was_killed_once_serves_again(runtime: Runtime, bundle: Bundle, killed: str) -> None:
    container = runtime.create(_path(bundle.sleeping(), f"/{killed}"))
    runtime.call("start", container.id).ok()
    assert observe.cgroup(container.pid) == f"/{killed}"
    assert runtime.call("exec", container.id, "/bin/echo", "hello").ok().stdout == "hello\n"
    container.delete("--force").ok()


@pytest.mark.parametrize("command", ["run", "delete"])
def test_what_outlives_init_is_killed_through_the_cgroup(
    command: str, ocirun: Runtime, bundle: Bundle
) -> None:
    bundle.without_namespace("pid").sh("sleep 1000 </dev/null >/dev/null 2>&1 & echo $!; exec true")
    if command == "run":
        left = int(ocirun.run(bundle).ok().stdout)
    else:
        container = ocirun.create(bundle)
        ocirun.call("start", container.id).ok()
        container.wait()
        left = int(container.output)
        assert observe.alive(left)
        container.delete().ok()
    observe.eventually(lambda: not observe.alive(left), "what outlived init is dead")
    assert os.getpid() != left


# -- whose it is


def _writable(bundle: Bundle) -> Bundle:
    """The container may write to its cgroup."""
    return bundle.without_mount("/sys/fs/cgroup").mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid")


def _owners(container: Container) -> dict[str, int]:
    """Who owns the cgroup and each file in it."""
    where = execs.cgroup_file(container, "cgroup.procs").parent
    return {"": where.stat().st_uid} | {path.name: path.stat().st_uid for path in where.iterdir()}


@pytest.mark.parametrize("uid", [0, 1000])
def test_the_user_owns_what_the_kernel_delegates(runtime: Runtime, bundle: Bundle, uid: int) -> None:
    bundle = _writable(bundle.mapped(100000, 65536)).user(uid, uid)
    container = runtime.running(bundle.sleeping())
    owners = _owners(container)
    names = {"", *Path("/sys/kernel/cgroup/delegate").read_text().split()} & {*owners}
    assert {name for name, owner in owners.items() if owner == 100000 + uid} == names
    assert {owner for name, owner in owners.items() if name not in names} == {0}


@pytest.mark.parametrize("uid", [0, 1000])
def test_a_process_is_executed_in_what_its_user_owns(runtime: Runtime, bundle: Bundle, uid: int) -> None:
    container = runtime.running(_writable(bundle.mapped(100000, 65536)).user(uid, uid).sleeping())
    own = observe.cgroup(container.pid)
    assert observe.cgroup(execs.sleeping(container)) == own
    execs.execute(container, "mkdir", "/sys/fs/cgroup/made").ok()
    assert (execs.cgroup_file(container, "cgroup.procs").parent / "made").is_dir()


def test_with_it_a_user_parts_his_cgroup_and_lifts_no_limit(runtime: Runtime, bundle: Bundle) -> None:
    script = (
        "cd /sys/fs/cgroup && mkdir mine && echo $$ >mine/cgroup.procs && cat /proc/self/cgroup; "
        "for file in cgroup.max.depth cgroup.freeze; do echo 7 2>&1 >$file; done; echo tried; exec sleep 1000"
    )
    container = runtime.running(_writable(bundle.mapped(100000, 65536)).sh(script))
    observe.eventually(lambda: "tried" in container.output, "it has moved and tried")
    assert "0::/mine" in container.output
    where = execs.cgroup_file(container, "cgroup.procs").parent.parent
    assert (where / "cgroup.max.depth").read_text() == "max\n"


def test_a_user_of_the_host_owns_it_too(ocirun: Runtime, bundle: Bundle) -> None:
    assert _owners(ocirun.running(_writable(bundle).user(1000, 1000).sleeping()))["cgroup.procs"] == 1000


@pytest.mark.parametrize("why", ["read-only", "not mounted", "not its own"])
def test_a_cgroup_that_nobody_writes_to_is_not_given_away(runtime: Runtime, bundle: Bundle, why: str) -> None:
    """config-linux.md#cgroup-ownership; that of the caller is not its own."""
    if why == "not mounted":
        bundle.without_mount("/sys/fs/cgroup")
    elif why == "not its own":
        _writable(bundle.without_namespace("cgroup"))
    bundle.mapped(100000, 65536).user(1000, 1000)
    assert {*_owners(runtime.running(bundle.sleeping())).values()} == {0}


def test_a_cgroup_that_was_there_is_not_given_away(ocirun: Runtime, bundle: Bundle, place: Path) -> None:
    """It stays, and the user would keep it."""
    before = place.stat().st_uid
    config = _path(_writable(bundle.mapped(100000, 65536)).sleeping(), f"/{place.name}")
    container = ocirun.create(config)
    owners = {*_owners(container).values()}
    container.delete("--force").ok()
    assert f"{place.name} was there before and is not given to the user 100000" in container.result.stderr
    assert owners == {before}


# -- the note of an ordinary user, which his container may change


@pytest.fixture
def users(ocirun: Runtime, place: Path) -> Iterator[Runtime]:
    """ocirun of a user to whom a cgroup was given, in one below it."""
    (place / "caller").mkdir()
    for path in (place, place / "cgroup.procs", place / "cgroup.subtree_control"):
        os.chown(path, UID, UID)
    as_user(ocirun)
    script = f'echo 0 >{place}/caller/cgroup.procs && exec "$@"'
    ocirun.prefix = ("sh", "-c", script, "sh", *ocirun.prefix)
    yield ocirun
    ocirun.clean_up()


@pytest.mark.parametrize("pids", ["its own", "of the host"])
@pytest.mark.parametrize("forged", ["nowhere", "in its root", "of another cgroup", "no path"])
def test_a_note_that_the_container_forged_saves_it_from_nothing(
    users: Runtime, bundle: Bundle, bundles: Callable[[str], Bundle], place: Path, forged: str, pids: str
) -> None:
    of_user(bundle).sh("sleep 1000 & exec sleep 1001")
    if pids == "of the host":
        listed = [one for one in bundle.items("linux", "namespaces") if one != {"type": "pid"}]
        bundle.put(listed, "linux", "namespaces").without_mount("/proc").bind("/proc", "/proc", "rbind")
    container = users.running(_path(bundle, f"/{place.name}/box"))
    observe.eventually(lambda: len(observe.descendants(container.pid)) == 1, "both run")
    (beside,) = observe.descendants(container.pid)
    other = users.running(_path(of_user(bundles("other")).sleeping(), f"/{place.name}/other"))
    state = users.root / container.id
    assert os.getxattr(place / "box", "user.ocirun").decode() == str(state)
    told = {"nowhere": users.root / "nowhere", "in its root": bundle.rootfs / "forged"}
    shutil.copytree(state, bundle.rootfs / "forged", ignore=shutil.ignore_patterns("gate", "proof"))
    for path in (bundle.rootfs / "forged", *(bundle.rootfs / "forged").iterdir()):
        os.chown(path, UID, UID)
    told["of another cgroup"] = users.root / other.id
    told["no path"] = users.root / "\0"
    os.setxattr(place / "box", "user.ocirun", str(told[forged]).encode())
    container.delete("--force").ok()
    assert not (place / "box").exists()
    assert not observe.alive(container.pid)
    assert not observe.alive(beside)
    assert observe.alive(other.pid)


def test_a_note_of_a_user_that_is_true_is_believed(
    users: Runtime, bundle: Bundle, bundles: Callable[[str], Bundle], place: Path
) -> None:
    subprocess.run((*users.prefix, "mkdir", str(place / "box")), check=True, timeout=30)
    first = users.detach(_path(of_user(bundle).args("true"), f"/{place.name}/box"))
    first.wait()
    second = users.running(_path(of_user(bundles("other")).sleeping(), f"/{place.name}/box"))
    first.delete().ok()
    assert observe.alive(second.pid)


def test_a_note_of_another_root_is_believed_too(
    users: Runtime, bundle: Bundle, bundles: Callable[[str], Bundle], place: Path
) -> None:
    subprocess.run((*users.prefix, "mkdir", str(place / "box")), check=True, timeout=30)
    first = users.detach(_path(of_user(bundle).args("true"), f"/{place.name}/box"))
    first.wait()
    mine, users.root = users.root, users.scratch / "another"
    users.root.mkdir()
    os.chown(users.root, UID, UID)
    second = users.running(_path(of_user(bundles("other")).sleeping(), f"/{place.name}/box"))
    users.root = mine
    first.delete().ok()
    assert observe.alive(second.pid)
    users.root = users.scratch / "another"
    second.delete("--force").ok()


@pytest.mark.parametrize("of", ["root", "a user"])
@pytest.mark.parametrize("spelling", ["link", "trailing", "relative", "dots"])
def test_a_root_has_several_names(
    ocirun: Runtime, bundle: Bundle, place: Path, request: pytest.FixtureRequest, of: str, spelling: str
) -> None:
    """/var/run is /run: what was created by one name is deleted by the other."""
    runtime = request.getfixturevalue("users") if of == "a user" else ocirun
    config = of_user(bundle) if of == "a user" else bundle
    container = runtime.running(_path(config.sleeping(), f"/{place.name}/box"))
    root = runtime.root
    link = runtime.scratch / "link"
    link.symlink_to(root)
    words = {"link": f"{link}", "trailing": f"{root}//", "relative": "state", "dots": f"{root}/../link/."}
    words_of_it = runtime.command("delete", "--force", container.id)
    words_of_it[words_of_it.index("--root") + 1] = words[spelling]
    done = subprocess.run(
        words_of_it,
        cwd=runtime.scratch,
        env=runtime.environment,
        check=False,
        capture_output=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    container.deleted = True
    assert not (place / "box").exists()
    assert not observe.alive(container.pid)


def test_a_cgroup_that_is_mounted_read_only_stays_roots(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.mapped(100000, 65536).sleeping())
    assert {*_owners(container).values()} == {0}


def test_who_is_in_a_threaded_cgroup_below_is_listed_and_signalled(
    runtime: Runtime, bundle: Bundle, view: View
) -> None:
    """That one cannot list processes (cgroup-v2.rst, Threads), and whoever owns his cgroup can make one."""
    container = runtime.running(bundle.sleeping())
    below = Path(f"{view.cgroup2}{observe.cgroup(container.pid)}/threaded")
    second = execs.sleeping(container)
    below.mkdir()
    (below / "cgroup.type").write_text("threaded")
    (below / "cgroup.threads").write_text(str(second))
    told = json.loads(runtime.call("ps", "--format", "json", container.id).ok().stdout)
    assert sorted(told) == sorted((container.pid, second))
    runtime.call("kill", "--all", container.id, "TERM").ok()
    observe.eventually(lambda: not observe.alive(second), "it has heard of it")
    container.end_executed()


# -- a cgroup of the payload's

_DELEGATE = "run.oci.delegate-cgroup"


def test_the_payload_has_a_cgroup_of_its_own_below(runtime: Runtime, bundle: Bundle) -> None:
    """Its cgroup namespace begins above, where the limits are."""
    container = runtime.running(bundle.put({_DELEGATE: "payload/in"}, "annotations").sleeping())
    own = observe.cgroup(container.pid)
    assert own.endswith("/payload/in")
    assert execs.execute(container, "cat", "/proc/1/cgroup").ok().stdout.splitlines()[-1] == "0::/payload/in"
    assert observe.cgroup(execs.sleeping(container)) == own
    if runtime.name == "ocirun":  # crun counts from the payload's
        above = own.removesuffix("/payload/in")
        assert observe.cgroup(execs.sleeping(container, "--cgroup", "/")) == above


def test_the_cgroup_of_the_payload_is_its_users(ocirun: Runtime, bundle: Bundle, view: View) -> None:
    bundle.mapped(100000, 65536).without_mount("/sys/fs/cgroup").mount("/sys/fs/cgroup", "cgroup", "cgroup")
    container = ocirun.running(bundle.put({_DELEGATE: "payload"}, "annotations").sleeping())
    place = view.cgroup2 / observe.cgroup(container.pid).strip("/")
    assert place.name == "payload"
    assert (place.stat().st_uid, (place / "cgroup.procs").stat().st_uid) == (100000, 100000)
    made = execs.execute(container, "mkdir", "/sys/fs/cgroup/payload/sub")
    made.ok()
    assert (place / "sub").is_dir()


@pytest.mark.parametrize("inner", ["", "..", "a/../..", "/"])
def test_a_cgroup_of_the_payload_lies_below(ocirun: Runtime, bundle: Bundle, inner: str) -> None:
    bundle.put({_DELEGATE: inner}, "annotations")
    ocirun.attempt(bundle).refused(
        f"/annotations/{_DELEGATE}", "must name a cgroup below that of the container"
    )


def test_below_a_cgroup_that_stays_there_is_none_of_the_payload(
    ocirun: Runtime, bundle: Bundle, view: View
) -> None:
    name = new_id()
    (view.cgroup2 / name).mkdir()
    bundle.put({_DELEGATE: "payload"}, "annotations")
    ocirun.attempt(_path(bundle, f"/{name}")).refused("was there before", f"/annotations/{_DELEGATE}")
    assert not (view.cgroup2 / name / "payload").exists()
    (view.cgroup2 / name).rmdir()
