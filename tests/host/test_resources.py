"""Limits as the files of the cgroup tell them; a hybrid host may have no controller there but hugetlb."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.host import execs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Runtime
    from tests.host.view import View

PAGE = 2 << 20


def _limited(bundle: Bundle, pages: int, size: str = "2MB") -> Bundle:
    return bundle.put([{"pageSize": size, "limit": pages * PAGE}], "linux", "resources", "hugepageLimits")


@pytest.fixture(autouse=True)
def hugetlb(view: View) -> None:
    """Skips where cgroup2 has no hugetlb."""
    if "hugetlb" not in (view.cgroup2 / "cgroup.controllers").read_text().split():
        pytest.skip("the hugetlb controller is not on cgroup2")


def test_a_limit_of_huge_pages(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.create(_limited(bundle.sleeping(), 3))
    assert execs.cgroup_file(container, "hugetlb.2MB.max").read_text() == f"{3 * PAGE}\n"
    if runtime.name != "crun":  # which sets only the limit of faults
        assert execs.cgroup_file(container, "hugetlb.2MB.rsvd.max").read_text() == f"{3 * PAGE}\n"


def test_a_size_that_the_kernel_has_not(ocirun: Runtime, bundle: Bundle) -> None:
    refused = ocirun.attempt(_limited(bundle, 1, "3MB"))
    refused.refused("/linux/resources/hugepageLimits/0", "hugetlb.3MB.max", "ENOENT")


def test_a_file_by_its_name(ocirun: Runtime, bundle: Bundle) -> None:
    unified: Json = {"hugetlb.2MB.max": str(2 * PAGE), "cgroup.max.depth": "7"}
    container = ocirun.create(bundle.sleeping().put(unified, "linux", "resources", "unified"))
    assert execs.cgroup_file(container, "hugetlb.2MB.max").read_text() == f"{2 * PAGE}\n"
    assert execs.cgroup_file(container, "cgroup.max.depth").read_text() == "7\n"


def test_a_file_that_is_not_there(ocirun: Runtime, bundle: Bundle) -> None:
    unified: Json = {"hugetlb.nothing": "1"}
    refused = ocirun.attempt(bundle.put(unified, "linux", "resources", "unified"))
    refused.refused("/linux/resources/unified/hugetlb.nothing", "ENOENT")


def test_a_limit_without_controller(ocirun: Runtime, bundle: Bundle, view: View) -> None:
    if "memory" in (view.cgroup2 / "cgroup.controllers").read_text().split():
        pytest.skip("this host has the memory controller on cgroup2")
    refused = ocirun.attempt(bundle.put(1 << 26, "linux", "resources", "memory", "limit"))
    refused.refused("/linux/resources/memory/limit", "the memory controller is not on cgroup2")


def _file(scratch: Path, value: Json) -> str:
    path = scratch / "resources.json"
    path.write_text(json.dumps(value))
    return str(path)


def test_update_by_file_changes_a_container_that_had_no_limit(
    ocirun: Runtime, bundle: Bundle, scratch: Path
) -> None:
    container = ocirun.running(bundle.sleeping())
    wanted: dict[str, Json] = {
        "hugepageLimits": [{"pageSize": "2MB", "limit": 5 * PAGE}],
        "devices": [{"allow": True}],
    }
    name = _file(scratch, wanted)
    ocirun.call("update", "-r", name, container.id).ok()
    assert execs.cgroup_file(container, "hugetlb.2MB.max").read_text() == f"{5 * PAGE}\n"
    wanted["hugepageLimits"] = [{"pageSize": "2MB", "limit": PAGE}]
    _file(scratch, wanted)
    with open(name, "rb") as source:
        ocirun.call("update", "--resources", "-", container.id, stdin=source).ok()
    assert execs.cgroup_file(container, "hugetlb.2MB.max").read_text() == f"{PAGE}\n"


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ({"memory": {"limit": "x"}}, ("/linux/resources/memory/limit",)),
        ({"cpu": {"idle": 7}}, ("/linux/resources/cpu/idle", "0 or 1")),
        ([], ("must be a JSON object",)),
        ({"unified": {"cgroup.freeze": "1"}}, ("/linux/resources/unified/cgroup.freeze",)),
    ],
)
def test_update_finds_every_fault_first(
    ocirun: Runtime, bundle: Bundle, scratch: Path, value: Json, texts: tuple[str, ...]
) -> None:
    container = ocirun.create(_limited(bundle.sleeping(), 3))
    before = execs.cgroup_file(container, "hugetlb.2MB.max").read_text()
    if isinstance(value, dict):
        value["hugepageLimits"] = [{"pageSize": "2MB", "limit": PAGE}]
    ocirun.call("update", "-r", _file(scratch, value), container.id).refused(*texts)
    assert execs.cgroup_file(container, "hugetlb.2MB.max").read_text() == before


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ((), "no limit is named"),
        (("--memory", "12q"), "not a whole number"),
        (("--cpu-share", "1k"), "not a whole number"),
        (("--l3-cache-schema", "L3:0=f"), "the container has no class of service"),
        (("--mem-bw-schema", "L3:0=f"), "/linux/intelRdt/memBwSchema"),
        (("--pids-limit", "5", "-r", "-"), "beside --resources"),
        (("-r", "/nowhere"), "/nowhere"),
    ],
)
def test_update_refuses_what_it_cannot_read(
    ocirun: Runtime, bundle: Bundle, flags: tuple[str, ...], text: str
) -> None:
    container = ocirun.create(bundle.sleeping())
    ocirun.call("update", *flags, container.id).refused(text)


def test_update_of_a_stopped_container(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(bundle.sleeping())
    container.kill("KILL").ok()
    container.wait()
    ocirun.call("update", "--pids-limit", "5", container.id).refused("container not running")
