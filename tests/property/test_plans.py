"""Whatever valid config is planned: the plan breaks no law, compiles, and shows itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirun.errors import ConfigError
from ocirun.plan.compile import compile_plan
from ocirun.plan.lint import lint
from ocirun.plan.show import as_json, show
from ocirun.planner import plan
from ocirun.planner.identity import RLIMITS
from ocirun.planner.mount_options import IDMAPS, LINKS, PROPAGATIONS, known_words
from ocirun.planner.scope import REFUSED
from ocirun.planner.security import CAPABILITIES
from tests.golden import cases

if TYPE_CHECKING:
    from ocirun_spec.types import Config

NAMES = st.text("abcé/.-", min_size=1, max_size=8)
PATHS = NAMES.map(lambda name: f"/a{name}")
U32 = st.integers(0, 0xFFFFFFFE)
#: Words that say what kind of a mount it is.
KINDS_OF_MOUNT = ("bind", "rbind", "remount", "tmpcopyup")
#: Those that some kinds refuse, and other members (tests/unit/test_planner_mounts.py, test_planner_idmap.py).
OF_SOME = (*LINKS, *IDMAPS)
WORDS = st.sampled_from([word for word in known_words() if word not in (*KINDS_OF_MOUNT, *OF_SOME)])
OPTIONS = st.lists(WORDS, max_size=4)
#: What does not lead to the root.
DESTINATIONS = PATHS.filter(lambda path: ".." not in path.split("/"))


def objects(required: dict[str, object], optional: dict[str, object]) -> st.SearchStrategy[dict[str, object]]:
    """JSON objects with these members, each a strategy."""
    strategies = cast("dict[str, st.SearchStrategy[object]]", required)
    return st.fixed_dictionaries(strategies, optional=cast("dict[str, st.SearchStrategy[object]]", optional))


BINDS = objects(
    {"destination": DESTINATIONS, "source": PATHS, "options": OPTIONS.map(lambda words: [*words, "rbind"])},
    {"type": st.sampled_from(["bind", "none"])},
)
CHANGED = objects(
    {
        "destination": DESTINATIONS,
        "options": OPTIONS.map(lambda words: ["remount", *(word for word in words if word != "iversion")]),
    },
    {"type": st.sampled_from(["tmpfs", "none"])},
)
COPIED = objects(
    {
        "destination": DESTINATIONS,
        "type": st.just("tmpfs"),
        "options": OPTIONS.map(lambda words: [*words, "tmpcopyup"]),
    },
    {},
)
NEW = objects(
    {
        "destination": DESTINATIONS,
        "type": st.sampled_from(["tmpfs", "proc", "sysfs", "mqueue", "cgroup", "devpts"]),
    },
    {"source": NAMES, "options": OPTIONS},
)
SETS = st.lists(st.sampled_from([*CAPABILITIES, "CAP_NEW"]), max_size=4)
LIMITS = st.tuples(st.sampled_from(sorted(RLIMITS)), st.integers(0, 9), st.integers(9, 1 << 63)).map(
    lambda limit: {"type": limit[0], "soft": limit[1], "hard": limit[2]}
)
PROCESS = objects(
    {"args": st.lists(NAMES, min_size=1, max_size=3), "cwd": PATHS | st.just("/")},
    {
        "env": st.lists(st.sampled_from(["A=1", "A=2", "HOME=", "HOME=/h", "PATH=/p"]), max_size=4),
        "terminal": st.booleans(),
        "consoleSize": st.just({"width": 80, "height": 24}),
        "user": objects(
            {"uid": U32, "gid": U32},
            {"umask": st.integers(0, 0o777), "additionalGids": st.lists(U32, max_size=3)},
        ),
        "capabilities": objects(
            {}, dict.fromkeys(("bounding", "permitted", "effective", "inheritable", "ambient"), SETS)
        ),
        "rlimits": st.lists(LIMITS, max_size=3),
        "noNewPrivileges": st.booleans(),
        "oomScoreAdj": st.integers(-1000, 1000),
    },
)
RULES = objects(
    {"allow": st.booleans()},
    {
        "type": st.sampled_from("abc"),
        "major": U32,
        "minor": U32,
        "access": st.sampled_from(["r", "rw", "rwm", "m"]),
    },
)
KINDS = ("pid", "network", "ipc", "cgroup", "user", "time")
NAMESPACES = st.tuples(*(st.sampled_from(["", "new", f"/run/ns/{kind}"]) for kind in KINDS)).map(
    lambda chosen: [
        {"type": "mount"},
        {"type": "uts"},
        *[
            {"type": kind} if how == "new" else {"type": kind, "path": how}
            for kind, how in zip(KINDS, chosen, strict=True)
            if how
        ],
    ]
)


def _with_mappings(linux: dict[str, object]) -> dict[str, object]:
    """A new user namespace has mappings."""
    if {"type": "user"} in cast("list[object]", linux["namespaces"]):
        mappings = [{"containerID": 0, "hostID": 9, "size": 7}, {"containerID": 9, "hostID": 99, "size": 1}]
        linux = {**linux, "uidMappings": mappings, "gidMappings": mappings[:1]}
    if {"type": "time"} in cast("list[object]", linux["namespaces"]):
        linux = {**linux, "timeOffsets": {"boottime": {"secs": 4}}}
    return linux


LINUX = objects(
    {"namespaces": NAMESPACES},
    {
        "cgroupsPath": PATHS.filter(lambda path: ".." not in path.split("/")),
        "resources": st.fixed_dictionaries({}, optional={"devices": st.lists(RULES, max_size=4)}),
        "maskedPaths": st.lists(PATHS, max_size=3),
        "readonlyPaths": st.lists(PATHS, max_size=3),
        "rootfsPropagation": st.sampled_from([*PROPAGATIONS]),
        "sysctl": st.dictionaries(st.sampled_from(["kernel.domainname", "net/ipv4/a.b"]), NAMES),
    },
).map(_with_mappings)
CONFIGS = objects(
    {
        "ociVersion": st.just("1.3.0"),
        "root": objects({"path": NAMES}, {"readonly": st.booleans()}),
        "process": PROCESS,
        "linux": LINUX,
    },
    {
        "mounts": st.lists(BINDS | NEW | CHANGED | COPIED, max_size=5),
        "hostname": st.text("abc-", max_size=9),
        "domainname": st.text("abc.", max_size=9),
    },
).map(lambda config: cast("Config", config))


@given(CONFIGS)
def test_a_valid_config_gives_a_lawful_plan(config: Config) -> None:
    planned = plan(config, cases.a_host(), cases.options())

    assert lint(planned, config) == []
    program = compile_plan(planned)
    helper_steps = [index for index, step in program.records if step.verb != "meet"]
    host_steps = [index for index, _ in program.before]
    host_steps += [index for meet in program.meets.values() for index, _ in meet.steps]
    assert sorted(helper_steps + host_steps) == list(range(1, len(planned.steps) + 1))


@given(CONFIGS)
def test_every_plan_shows_itself_in_a_line_a_step(config: Config) -> None:
    planned = plan(config, cases.a_host(), cases.options())

    assert len(show(planned).splitlines()) == len(planned.steps) + 1
    steps = as_json(planned)["steps"]
    assert isinstance(steps, list)
    assert len(cast("list[object]", steps)) == len(planned.steps)


@given(CONFIGS, st.data())
def test_what_is_of_another_platform_is_never_planned(config: Config, data: st.DataObject) -> None:
    member = data.draw(st.sampled_from(sorted(REFUSED[""])))
    cast("dict[str, object]", config)[member] = {"a": "b"}

    with pytest.raises(ConfigError) as caught:
        plan(config, cases.a_host(), cases.options())

    assert [fault.pointer for fault in caught.value.faults] == [f"/{member}"]
