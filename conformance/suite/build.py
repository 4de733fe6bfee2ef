"""The programs of the suite, built once into the cache of the peers.

The source is Debian's, which has a commit, for the project makes no releases any more.  A mirror that has
stopped may lack the .dsc, while the archive itself is there; apt checks it against the signed index.

``python -m conformance.suite.build`` builds them and prints where they are.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from conformance import peers

_SOURCE = "golang-github-opencontainers-runtime-tools"
_SUITE = "trixie"
#: The compiler, and the libraries at which the suite was last built without modules.
_COMPILER = peers.Kit(
    name="compiler",
    suite="bookworm",
    packages=(
        "golang-go", "golang-github-blang-semver-dev", "golang-github-google-uuid-dev",
        "golang-github-hashicorp-go-multierror-dev", "golang-github-mrunalp-fileutils-dev",
        "golang-github-opencontainers-specs-dev", "golang-github-opencontainers-selinux-dev",
        "golang-github-sirupsen-logrus-dev", "golang-github-urfave-cli-dev",
        "golang-github-xeipuuv-gojsonschema-dev", "golang-gocapability-dev", "golang-golang-x-sys-dev",
    ),
    programs=(),
)  # fmt: skip
_GO = "/usr/lib/go-1.19/bin/go"

_TAP = Path(__file__).with_name("tap") / "tap.go"
_IMPORT = "github.com/opencontainers/runtime-tools"
_ROOTFS = "rootfs-amd64.tar.gz"
_LAYOUT = 2  # raise it when what lies in the cache changes shape


@dataclass(frozen=True, slots=True)
class Suite:
    """The suite in ``directory``: ``programs/``, and what they look for in the current directory."""

    directory: Path

    @property
    def version(self) -> str:
        """The version of its source."""
        return (self.directory / "version").read_text().strip()

    @property
    def programs(self) -> tuple[str, ...]:
        """The names of the programs."""
        return tuple(sorted(path.name for path in (self.directory / "programs").iterdir()))


def suite(checkout: Path | None = None) -> Suite:
    """The suite, of Debian's source or of a checkout, built when there is none; raises PeerError."""
    if platform.machine() != "x86_64":
        raise peers.PeerError("the suite has root file systems for x86 only")
    final = peers.cache() / f"validation-{_digest(checkout)}"
    try:
        with peers.locked(final.with_name("validation.lock")):
            if not final.is_dir():
                _build(checkout, final)
    except OSError as error:
        raise peers.PeerError(f"the suite cannot be built: {error}") from error
    return Suite(final)


def _digest(checkout: Path | None) -> str:
    digest = hashlib.sha256(repr((_LAYOUT, _SUITE, _COMPILER, _TAP.read_text())).encode())
    for file in sorted((checkout or Path("/nonexistent")).glob("**/*.go")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _build(checkout: Path | None, final: Path) -> None:
    """Builds beside ``final`` and renames, so that what stands there is always whole."""
    with tempfile.TemporaryDirectory(dir=final.parent, prefix="building-") as scratch:
        root, made = Path(scratch, "root"), Path(scratch, "made")
        peers.unpack(_COMPILER, root)
        source = root / "build/src" / _IMPORT
        source.mkdir(parents=True)
        version = _copy(checkout, source) if checkout else _fetch(Path(scratch, "apt"), source)
        tap = root / "build/src/github.com/mndrix/tap-go"
        tap.mkdir(parents=True)
        shutil.copy(_TAP, tap)
        _compile(root)
        (root / "build/out").rename(made)
        (programs := made / "programs").mkdir()
        for path in [path for path in made.iterdir() if path not in (programs, made / "runtimetest")]:
            path.rename(programs / path.name)
        _repack(source / _ROOTFS, made)
        (made / "version").write_text(version)
        made.rename(final)


def _copy(checkout: Path, target: Path) -> str:
    shutil.copytree(checkout, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".git"))
    return peers.command("git", "-C", str(checkout), "describe", "--always", "--dirty", "--tags")


def _fetch(scratch: Path, target: Path) -> str:
    """Unpacks the source from Debian by an apt with directories of its own; gives its version."""
    for directory in ("lists/partial", "cache/archives/partial"):
        (scratch / directory).mkdir(parents=True)
    (scratch / "sources.list").write_text(f"deb-src {peers.mirror()} {_SUITE} main\n")
    settings = (
        f"Dir::Etc::SourceList={scratch}/sources.list", "Dir::Etc::SourceParts=/dev/null",
        f"Dir::State::Lists={scratch}/lists", f"Dir::Cache={scratch}/cache", "APT::Sandbox::User=root",
        "Acquire::Check-Valid-Until=false",
    )  # fmt: skip
    words = ("apt-get", *(word for setting in settings for word in ("-o", setting)))
    peers.command(*words, "update")
    done = subprocess.run(
        (*words, "source", "--download-only", _SOURCE),
        cwd=scratch, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    archives = sorted(scratch.glob("*.orig.tar.*"))
    if not archives:
        raise peers.PeerError(f"no source of the suite: {done.stderr.strip().splitlines()[-1:]}")
    peers.command("tar", "-xf", str(archives[0]), "-C", str(target), "--strip-components=1")
    return archives[0].name.removeprefix(f"{_SOURCE}_").partition(".orig.")[0]


def _compile(root: Path) -> None:
    """Without modules, which would be fetched, and static, for runtimetest runs in containers."""
    (root / "build/out").mkdir()
    # Since 1.19 this raises the soft limit of open files of each program to its hard one, and runtimetest
    # would report its own doing as the runtime's.
    (root / "usr/lib/go-1.19/src/os/rlimit.go").unlink()
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/build", "GOPATH": "/build:/usr/share/gocode",
        "GO111MODULE": "off", "GOCACHE": "/build/cache", "GOTMPDIR": "/build", "CGO_ENABLED": "0",
    }  # fmt: skip
    wanted = (f"{_IMPORT}/validation/...", f"{_IMPORT}/cmd/runtimetest")
    flags = ("-trimpath", "-ldflags=-s -w", "-o", "/build/out/")
    peers.command("chroot", str(root), _GO, "build", *flags, *wanted, environment=environment)


def _repack(rootfs: Path, made: Path) -> None:
    """The root file system with runtimetest in it, which misc_props runs and does not put there."""
    unpacked = rootfs.with_name("unpacked")
    unpacked.mkdir()
    peers.command("tar", "-xf", str(rootfs), "-C", str(unpacked))
    shutil.copy(made / "runtimetest", unpacked)
    peers.command("tar", "-cf", str(made / rootfs.name), "-C", str(unpacked), ".")


def main() -> None:
    """Prints where the programs are, and of which version."""
    found = suite()
    print(found.directory, found.version)


if __name__ == "__main__":
    main()
