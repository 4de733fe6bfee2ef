"""``ocirun spec``."""

from __future__ import annotations

import os

from ocirun.cli.output import write_whole
from ocirun.cli.where import bundle_of
from ocirun.errors import UsageError, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parse import Invocation
    from ocirun.cli.report import Reporter

_SOURCE = "default-config.json"


def command(invocation: Invocation, _reporter: Reporter) -> int:
    """Writes the default config.json into the bundle; raises UsageError when there is one, or it cannot."""
    text = default_config() if not invocation.switch("rootless") else rootless_config()
    path = os.path.join(bundle_of(invocation), "config.json")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            write_whole(fd, text)
        finally:
            os.close(fd)
    except FileExistsError:
        raise UsageError("File config.json exists. Remove it first", path=path) from None
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {words_of(error.errno or 0)}", errno=error.errno or 0, path=path
        ) from error
    return 0


def default_config() -> str:
    """The text of runc's default config.json on a cgroup2 host: we know no other cgroups."""
    with open(os.path.join(os.path.dirname(__file__), _SOURCE), encoding="utf-8") as source:
        return source.read()


def rootless_config() -> str:
    """The same for anybody but root: the caller is root in a user namespace and nobody else is in it, the
    network is the host's, sysfs is bound (a new one needs a network namespace of its own), and there are no
    limits (cgroups belong to root)."""
    import json

    config = json.loads(default_config())
    kinds = [one for one in config["linux"]["namespaces"] if one["type"] != "network"]
    config["linux"]["namespaces"] = [*kinds, {"type": "user"}]
    config["linux"]["uidMappings"] = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
    config["linux"]["gidMappings"] = [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
    del config["linux"]["resources"]
    words = ["rbind", "nosuid", "noexec", "nodev", "ro"]
    bound = {"destination": "/sys", "type": "none", "source": "/sys", "options": words}
    config["mounts"] = [bound if one["destination"] == "/sys" else one for one in config["mounts"]]
    for one in config["mounts"]:
        if "options" in one:
            one["options"] = [word for word in one["options"] if not word.startswith(("uid=", "gid="))]
    return json.dumps(config, indent="\t")
