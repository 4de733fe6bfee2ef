"""Reading config.json: every kind of fault with its exact place, and what a document knows of itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import ocirun_spec
import pytest

import ocirun
from ocirun.config import PROCESS, SIZE, Document, load, load_bytes, parse, read
from ocirun.config.positions import scan
from ocirun.errors import ConfigError, Fault

if TYPE_CHECKING:
    from pathlib import Path

MINIMAL = '{"ociVersion": "1.3.0", "root": {"path": "rootfs"}'


def told(text: str | bytes) -> list[str]:
    """The faults as users see them, without their hints."""
    with pytest.raises(ConfigError) as caught:
        read(text.encode() if isinstance(text, str) else text)
    return [
        f"{fault.line}:{fault.column} {fault.pointer}: {fault.value}: {fault.rule}"
        for fault in caught.value.faults
    ]


def test_a_sound_document_is_read() -> None:
    document = read((MINIMAL + "}\n").encode())
    assert document.config == {"ociVersion": "1.3.0", "root": {"path": "rootfs"}}
    assert document.warnings == ()
    assert document.name == "config.json"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (",}", "1:51 : : a comma may not follow the last entry"),
        (',"mounts": [1,]}', "1:64 /mounts: : a comma may not follow the last entry"),
        (', , "mounts": []}', "1:53 : : something is missing before this comma"),
        (' "mounts": []}', "1:51 : : a comma is missing here"),
        (', "mounts" []}', "1:61 /mounts: : a colon is missing after the name"),
        (', "mounts" = []}', "1:61 /mounts: : a colon is missing after the name"),
        (', "mounts": }', "1:63 : : the value of mounts is missing"),
        (', "mounts": ]}', "1:63 : : a value cannot begin with ']'"),
        (', "mounts": [}', "1:64 /mounts: }: ] is missing for the [ of line 1, column 63"),
        (", mounts: []}", "1:53 : mounts: the name of a member must stand in double quotes"),
        (", 7: []}", "1:53 : 7: the name of a member must stand in double quotes"),
        (", -: []}", "1:53 : -: the name of a member is expected here"),
        (", 'mounts': []}", "1:53 : 'mounts': a string must stand in double quotes"),
        (', "mounts": [] // none\n}', "1:66 : // none: JSON has no comments"),
        (', "mounts": [] /* none */}', "1:66 : /* none */: JSON has no comments"),
        ("} # end", "1:53 : # end: JSON has no comments"),
        (', "mounts": [] /* none }', "1:66 : : this comment does not end; JSON has no comments"),
        (', "hostname": "x\n}', '1:65 : "x: the closing quote of this string is missing'),
        (', "hostname": "a\\xb"}', "1:67 /hostname: \\x: this escape is not known"),
        (', "hostname": "a\tb"}', "1:67 /hostname: : a control character in a string must be escaped"),
        (', "annotations": {"a": True}}', "1:74 /annotations/a: True: is no JSON value"),
        (', "annotations": {"a": NaN}}', "1:74 /annotations/a: NaN: is no JSON value"),
        (', "annotations": {"a": -Infinity}}', "1:74 /annotations/a: -Infinity: is no JSON value"),
        (', "x": 0644}', "1:58 /x: 0644: is no JSON number"),
        (', "x": +1}', "1:58 /x: +1: is no JSON number"),
        (', "x": .5}', "1:58 /x: .5: is no JSON number"),
        (', "x": 5.}', "1:58 /x: 5.: is no JSON number"),
        (', "x": 0x1f}', "1:58 /x: 0x1f: is no JSON number"),
        (', "x": 1e}', "1:58 /x: 1e: is no JSON number"),
        (', "x": ' + "1" * 4301 + "}", "1:58 /x: " + "1" * 59 + "…: this number is too long"),
        ("} {", "1:53 : {: nothing may follow the document"),
        ("", "1:51 : : the document ends too early"),
        (";}", "1:51 : ;: a comma or } is expected here"),
        (
            ', "root": 1, "root": {"path": "x"}}',
            '1:64 /root: "root": stands twice in one object, first at 1:25',
        ),
    ],
)
def test_a_fault_of_the_syntax_is_told_at_its_place(more: str, expected: str) -> None:
    assert expected in told(MINIMAL + more)


def test_all_faults_of_the_syntax_are_told_at_once() -> None:
    text = '{\n  \'ociVersion\': "1.3.0",\n  root: {"path": "rootfs",},  // here\n  "hostname": Null\n}'
    assert told(text) == [
        "2:3 : 'ociVersion': a string must stand in double quotes",
        "3:3 : root: the name of a member must stand in double quotes",
        "3:26 /root: : a comma may not follow the last entry",
        "3:31 : // here: JSON has no comments",
        "4:15 /hostname: Null: is no JSON value",
    ]


def test_syntax_types_and_rules_are_told_in_one_run() -> None:
    text = '{\n "ociVersion": 13,\n "root": {"path": "rootfs", "path": ""},\n "process": {"args": [1]},\n}'
    assert told(text) == [
        '2:16 /ociVersion: 13: must be a string',
        '3:29 /root/path: "path": stands twice in one object, first at 3:11',
        '4:13 /process/cwd: : is required',
        '4:23 /process/args/0: 1: must be a string',
        '4:26 : : a comma may not follow the last entry',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", "1:1 : : the file is empty"),
        (b" \n", "2:1 : : the file is empty"),
        (b"null", "1:1 : null: must be an object"),
        (b"[]", "1:1 : []: must be an object"),
        (b"{", "1:2 : : the document ends too early"),
        (b'\n{"a": "\xff"}', "2:8 : ff: must be UTF-8"),
        ("{}".encode("utf-16"), "1:1 : ff: must be UTF-8"),
        (b"\xef\xbb\xbf{}", "1:1 : : must not begin with a byte order mark"),
        (b"{}", "1:1 /ociVersion: : is required"),
    ],
)
def test_what_is_no_document_is_told(text: bytes, expected: str) -> None:
    assert expected in told(text)


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        ('"mounts": {}', "1:63 /mounts: {}: must be an array"),
        ('"process": []', "1:64 /process: []: must be an object"),
        ('"hostname": null', "1:65 /hostname: null: must be a string"),
        ('"hooks": {"poststop": [{}]}', "1:76 /hooks/poststop/0/path: : is required"),
        ('"hooks": {"poststop": [{"path": "/x", "timeout": 0}]}',
         "1:102 /hooks/poststop/0/timeout: 0: must be an integer of at least 1"),
        ('"root": {"path": 1}', "1:70 /root/path: 1: must be a string"),
        ('"linux": {"namespaces": [{"type": "net"}]}',
         ('1:87 /linux/namespaces/0/type: "net": '
         "must be one of pid, network, mount, ipc, uts, user, cgroup, time")),
        ('"linux": {"rootfsPropagation": "peer"}',
         ('1:84 /linux/rootfsPropagation: "peer": must be one of private, shared, slave, unbindable, '
         "rprivate, rshared, rslave, runbindable")),
        ('"linux": {"devices": [{"type": "x", "path": "/x"}]}',
         '1:84 /linux/devices/0/type: "x": must be "c", "b", "u" or "p"'),
        ('"linux": {"resources": {"pids": {"limit": 1.0}}}',
         ("1:95 /linux/resources/pids/limit: 1.0: "
         "must be an integer from -9223372036854775808 to 9223372036854775807")),
        ('"linux": {"resources": {"blockIO": {"weight": true}}}',
         "1:99 /linux/resources/blockIO/weight: true: must be an integer from 0 to 65535"),
        (('"linux": {"seccomp": {"defaultAction": "SCMP_ACT_LOG", "syscalls": '
         '[{"names": [], "action": "SCMP_ACT_LOG"}]}}'),
         "1:131 /linux/seccomp/syscalls/0/names: []: must have at least 1 item"),
        ('"annotations": {"a/b~c": 1}', "1:78 /annotations/a~1b~0c: 1: must be a string"),
    ],
)  # fmt: skip
def test_a_broken_schema_is_told_at_its_place(member: str, expected: str) -> None:
    text = f"{MINIMAL}, {member}}}"
    assert expected in told(text)


def test_null_gets_the_hint_to_leave_the_member_out() -> None:
    with pytest.raises(ConfigError) as caught:
        read(f'{MINIMAL}, "hostname": null}}'.encode())
    assert caught.value.faults[0].hint == "null is not allowed: leave the member out"


def test_the_hint_of_a_broken_schema_says_what_the_member_is() -> None:
    with pytest.raises(ConfigError) as caught:
        read(f'{MINIMAL}, "linux": {{"netDevices": {{"a": {{"name": 1}}}}}}}}'.encode())
    assert "the name of the device inside the container" in [fault.hint for fault in caught.value.faults]


def test_nul_and_half_surrogates_are_no_text() -> None:
    text = MINIMAL + ', "hostname": "a\\u0000", "process": {"cwd": "/\\ud800", "args": ["\\ud83d\\ude00"]}}'
    assert [line.split(": ")[-1] for line in told(text) if "namespace" not in line] == [
        "must not have a NUL character in it",
        "must be text",
    ]


def test_an_escaped_backslash_before_u0000_is_no_nul() -> None:
    document = read(f'{MINIMAL}, "annotations": {{"a": "\\\\u0000"}}}}'.encode())
    assert document.config.get("annotations") == {"a": "\\u0000"}


def test_depth_has_a_limit_wherever_it_is() -> None:
    deep = "[" * 511 + "]" * 511
    assert read(f'{MINIMAL}, "unknown": {deep}}}'.encode()).warnings == ()
    assert told(f'{MINIMAL}, "unknown": [{deep}]}}')[-1].endswith("nested deeper than 512")
    assert told("[" * 100_000)[0].endswith("nested deeper than 512")


def test_the_longest_number_is_read_by_both_scanners() -> None:
    text = MINIMAL + ', "x": -' + "1" * 4300 + "}"
    assert parse(text.encode())[1]
    assert scan(text, 512).faults == []


def test_many_flat_objects_are_not_deep() -> None:
    value, sound = parse(json.dumps([{} for _ in range(1000)]).encode())
    assert sound
    assert value == [{}] * 1000


@pytest.mark.parametrize(
    ("name", "meant"),
    [("hostnam", "hostname"), ("hosstname", "hostname"), ("hosntame", "hostname"), ("hostnane", "hostname"),
     ("HostName", "hostname"), ("mount", "mounts")],
)  # fmt: skip
def test_an_unknown_member_near_a_known_one_is_a_warning(name: str, meant: str) -> None:
    (warning,) = read(f'{MINIMAL},\n "{name}": 5}}'.encode()).warnings
    assert (warning.line, warning.column, warning.pointer) == (2, 2, f"/{name}")
    assert warning.value == f'"{name}"'
    assert warning.hint.startswith(f"perhaps {meant} was meant")


def test_unknown_members_far_from_any_are_ignored() -> None:
    assert read(f'{MINIMAL}, "org.example": {{"hostnam": 1}}, "vm": {{"x": 1}}}}'.encode()).warnings == ()


def test_a_misspelling_is_found_deep_inside() -> None:
    text = MINIMAL + ', "linux": {"resources": {"memory": {"limits": 5}}}}'
    (warning,) = read(text.encode()).warnings
    assert warning.pointer == "/linux/resources/memory/limits"


def test_place_counts_characters_and_falls_back_to_what_holds_the_member() -> None:
    document = read(
        '{"annotations": {"é": "ü",\n "x": "y"}, "ociVersion": "1.0.0", "root": {"path": "r"}}'.encode()
    )
    assert document.place("") == (1, 1)
    assert document.place("/annotations/é") == (1, 23)
    assert document.place("/annotations/x") == (2, 7)
    assert document.place("/annotations/absent") == (1, 17)
    assert document.place("/linux/absent/0") == (1, 1)


def test_locate_fills_in_what_the_planner_does_not_know() -> None:
    document = read(b'{"ociVersion": "1.0.0",\n "root": {"path": "r"}, "hooks": {}}', "b/config.json")
    error = ConfigError([Fault("/hooks", "is not built"), Fault("/root/path", "is odd", hint="h")])
    document.locate(error)
    assert (
        str(error)
        == 'b/config.json:2:19 /root/path: "r": is odd (h)\nb/config.json:2:34 /hooks: {}: is not built'
    )
    assert error.pointer == "/root/path"
    fault = Fault("/ociVersion", "is old")
    document.locate(fault)
    assert (fault.line, fault.column, fault.value) == (1, 16, '"1.0.0"')


def test_long_values_are_shown_shortened_on_one_line() -> None:
    text = f'{MINIMAL}, "hostname": {{"a":\n {"1" * 100}}}}}'
    assert '{"a": 11111' in told(text)[0]
    assert "…" in told(text)[0]


# -- files ------------------------------------------------------------------------------------------


def test_load_reads_a_file_and_names_it_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(MINIMAL + "}")
    document = load(str(path))
    assert isinstance(document, Document)
    assert document.name == str(path)
    assert document.source == (MINIMAL + "}").encode()


@pytest.mark.parametrize(
    ("kind", "rule", "hint"),
    [
        ("missing", "cannot be read: no such file or directory (ENOENT)", "`ocirun spec` writes"),
        ("directory", "is not a regular file", "config.json of a bundle"),
        ("fifo", "is not a regular file", "config.json of a bundle"),
        ("below a file", "cannot be read: not a directory (ENOTDIR)", "is a file"),
        ("large", "is larger than 16 MiB", "kilobytes"),
    ],
)
def test_load_says_why_a_file_cannot_be_read(tmp_path: Path, kind: str, rule: str, hint: str) -> None:
    path = tmp_path / "config.json"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "below a file":
        path.touch()
        path /= "config.json"
    elif kind == "large":
        path.touch()
        os.truncate(path, SIZE + 1)
    with pytest.raises(ConfigError) as caught:
        load(str(path))
    assert caught.value.code == "config-unreadable"
    assert caught.value.faults[0].rule == rule
    assert hint in caught.value.hint
    assert str(caught.value).startswith(f"{path} /: {rule}")


def test_a_part_may_come_through_a_pipe_and_is_bounded() -> None:
    inside, outside = os.pipe()
    os.write(outside, b'{"args": ["true"], "cwd": "/"}')
    os.close(outside)
    process = load(f"/proc/self/fd/{inside}", PROCESS).config.get("process")
    assert process == {"args": ["true"], "cwd": "/"}
    os.close(inside)
    with subprocess.Popen(["/bin/cat", "/dev/zero"], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        with pytest.raises(ConfigError) as caught:
            load_bytes(f"/proc/self/fd/{writer.stdout.fileno()}", bundled=False)
        writer.stdout.close()
        assert writer.wait() != 0, "nobody reads it to its end, which it has not"
    assert caught.value.faults[0].rule == "is larger than 16 MiB"


def test_a_fifo_that_nobody_writes_to_hangs_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert load_bytes(str(tmp_path / "fifo"), bundled=False) == b""


@pytest.mark.parametrize(
    ("path", "rule", "hint"),
    [("/nonexist", "no such file", "on the host"), ("/dev/null", "neither a regular file nor a pipe", "")],
)
def test_a_part_is_not_told_of_bundles(path: str, rule: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(path, PROCESS)
    assert rule in str(caught.value)
    assert hint in caught.value.hint
    assert "bundle" not in str(caught.value)


def test_reading_imports_nothing_dear() -> None:
    program = (
        "import sys; sys.path[:0] = sys.argv[1:]; before = set(sys.modules)\n"
        "from ocirun.config import read\n"
        f"read(b'''{MINIMAL}}}''')\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    roots = [os.path.dirname(package.__path__[0]) for package in (ocirun, ocirun_spec)]
    command = [sys.executable, "-I", "-S", "-B", "-c", program, *roots]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert loaded == [
        "__future__",
        "ocirun",
        "ocirun.config",
        "ocirun.config.access",
        "ocirun.config.mount_rules",
        "ocirun.config.path_rules",
        "ocirun.config.resource_rules",
        "ocirun.config.rules",
        "ocirun.config.seccomp_rules",
        "ocirun.config.sysctl_rules",
        "ocirun.errors",
        "ocirun.files",
        "ocirun.full",
        "ocirun.jsonscan",
        "ocirun_spec",
        "ocirun_spec.checker",
    ]
