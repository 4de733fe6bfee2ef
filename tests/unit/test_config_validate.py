"""``validate``: the faults of a bundle by jsonschema, as text and as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ocirun.cli.validate import main_validate, validate
from ocirun.config import read
from ocirun.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

BROKEN = """{
  "ociVersion": "1.3.0",
  "root": {"path": "rootfs", "readonly": "yes"},
  "hostnam": "x",
  "process": {"args": ["sh"], "user": {"uid": -1}, "rlimits": [{"type": "NOFILE\\n"}],},
  "linux": {"namespaces": [{"type": "uts"}, {"type": "uts"}], "seccomp": {"defaultAction": "NO"}}
}
"""


#: What every container needs, without the end.
SOUND = """{"ociVersion": "1.3.0", "root": {"path": "rootfs"}, "process": {"cwd": "/", "args": ["sh"]},
 "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]}"""


def bundle(directory: Path, text: str) -> str:
    (directory / "config.json").write_text(text)
    return str(directory)


def test_a_sound_bundle_has_no_fault(tmp_path: Path) -> None:
    where = bundle(tmp_path, SOUND + "}")
    assert main_validate(where, "text") == (0, f"{where}/config.json: no fault\n")
    assert main_validate(where, "json") == (0, "[]\n")


def test_every_fault_is_told_with_its_place(tmp_path: Path) -> None:
    path = f"{bundle(tmp_path, BROKEN)}/config.json"
    assert [(fault.line, fault.column, fault.pointer) for fault in validate(path)] == [
        (3, 42, "/root/readonly"),
        (5, 14, "/process/cwd"),
        (5, 47, "/process/user/uid"),
        (5, 64, "/process/rlimits/0/soft"),
        (5, 64, "/process/rlimits/0/hard"),
        (5, 73, "/process/rlimits/0/type"),
        (5, 85, "/process"),
        (6, 54, "/linux/namespaces/1/type"),
        (6, 92, "/linux/seccomp/defaultAction"),
    ]


def test_validate_and_read_tell_the_same(tmp_path: Path) -> None:
    told = validate(f"{bundle(tmp_path, BROKEN)}/config.json")
    with pytest.raises(ConfigError) as caught:
        read(BROKEN.encode())
    assert {fault.render("") for fault in told} == {fault.render("") for fault in caught.value.faults}


def test_json_lists_the_faults_and_text_the_warnings_too(tmp_path: Path) -> None:
    where = bundle(tmp_path, BROKEN)
    status, text = main_validate(where, "json")
    listed = json.loads(text)
    assert status == 1
    assert [entry["level"] for entry in listed].count("error") == 9
    assert (listed[1]["level"], listed[1]["pointer"]) == ("warning", "/hostnam")
    assert listed[0] == {
        "level": "error",
        "pointer": "/root/readonly",
        "line": 3,
        "column": 42,
        "value": '"yes"',
        "rule": "must be true or false",
        "hint": "whether the root file system is read-only inside",
    }
    status, text = main_validate(where, "text")
    lines = text.splitlines()
    assert status == 1
    assert lines[0].startswith(f'{where}/config.json:3:42 /root/readonly: "yes": must be true or false')
    assert lines[1].startswith(
        f'warning: {where}/config.json:4:3 /hostnam: "hostnam": is not known and ignored'
    )
    assert lines[-1] == f"{where}/config.json: 9 faults"


def test_a_warning_alone_is_no_fault(tmp_path: Path) -> None:
    where = bundle(tmp_path, SOUND + ', "mount": []}')
    status, text = main_validate(where, "text")
    assert status == 0
    assert "perhaps mounts was meant" in text
    told = json.loads(main_validate(where, "json")[1])
    assert [(entry["level"], entry["pointer"]) for entry in told] == [("warning", "/mount")]


def test_a_valid_config_that_create_refuses_says_so(tmp_path: Path) -> None:
    """Valid by the specification, and for other platforms: the members are named with their places."""
    where = bundle(tmp_path, SOUND + ',\n "solaris": {"milestone": "multi-user"}}')
    status, told = main_validate(where, "text")
    assert status == 0
    assert f"create refuses: {where}/config.json:3:13 /solaris: {{…}}: belongs to another platform" in told
    assert told.endswith("config.json: no fault, but 1 member that create refuses\n")


def test_a_profile_and_a_filter_are_nothing_that_create_refuses(tmp_path: Path) -> None:
    config = json.loads(SOUND + "}")
    config["process"]["apparmorProfile"] = "docker-default"
    config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}],
    }
    path = bundle(tmp_path, json.dumps(config))
    assert main_validate(path, "text") == (0, f"{path}/config.json: no fault\n")


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_bundle_without_config_is_a_fault(tmp_path: Path, form: str) -> None:
    status, text = main_validate(str(tmp_path), form)
    assert status == 1
    assert "no such file" in text
    assert "ocirun spec" in text


def test_the_singular_is_used_for_one_fault(tmp_path: Path) -> None:
    where = bundle(tmp_path, '{"ociVersion": "1.3.0"}')
    assert main_validate(where, "text")[1].endswith("config.json: 1 fault\n")


def test_a_system_call_that_looks_misspelt_is_a_warning(tmp_path: Path) -> None:
    """Neither what is newer than libseccomp nor what only another architecture has."""
    names = ["mkdir", "mkdri", "chwn", "fchmodat9", "stat64", "flobnicate", "é"]
    rule = {"names": names, "action": "SCMP_ACT_LOG"}
    profile = json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}, ensure_ascii=False)
    where = bundle(tmp_path, SOUND[:-1] + f',\n "seccomp": {profile}}}}}')
    status, text = main_validate(where, "json")
    told = [
        (one["level"], one["line"], one["pointer"], one["value"], one["hint"]) for one in json.loads(text)
    ]
    assert status == 0
    assert told == [
        ("warning", 3, "/linux/seccomp/syscalls/0/names/1", '"mkdri"', "perhaps mkdir was meant"),
        ("warning", 3, "/linux/seccomp/syscalls/0/names/2", '"chwn"', "perhaps chown was meant"),
    ]
