"""--no-pivot: the root is entered by chroot(2), as in an initramfs; told by mountinfo from inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ocirun.errors import ConfigError
from ocirun.planner import plan
from tests.golden import cases
from tests.unit.test_planner_scope import asking

if TYPE_CHECKING:
    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime


def test_the_program_runs_in_its_root(runtime: Runtime, bundle: Bundle) -> None:
    bundle.file("mark", "here").args("cat", "/mark")
    assert runtime.run(bundle, "--no-pivot").ok().stdout == "here"


@pytest.mark.parametrize("flags", [(), ("--no-pivot",)])
def test_masks_of_proc_cannot_be_got_rid_of(ocirun: Runtime, bundle: Bundle, flags: tuple[str, ...]) -> None:
    """A new procfs in a user namespace needs one that is seen whole (fs/namespace.c, mount_too_revealing).

    That of the old root would do.
    """
    bundle.user(1000, 1000).sh(
        "unshare -U -r true && unshare -U -r -p -f -m --mount-proc true 2>&1 || echo refused"
    )
    done = ocirun.run(bundle, *flags).ok()
    assert "Operation not permitted" in done.stdout
    assert done.stdout.endswith("refused\n")


def test_a_user_namespace_is_refused() -> None:
    config: Any = asking("/linux/namespaces", [{"type": "mount"}, {"type": "user"}])
    mapping = [{"containerID": 0, "hostID": 1, "size": 1}]
    config["linux"] |= {"uidMappings": mapping, "gidMappings": mapping}
    options = cases.options()
    options.pivot = False
    with pytest.raises(ConfigError, match="without pivot_root"):
        plan(config, cases.a_host(), options)
