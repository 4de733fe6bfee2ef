"""What a program of the suite means: it passes, or why not."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

PASSED = ""

# TAP 13: a test that is yet to be written may fail.
_FAILED = re.compile(r"^not ok \d+(?: - )?(?!.*# TODO)(.*)$", re.MULTILINE)
_NOTHING_PLANNED = re.compile(r"^1\.\.0$", re.MULTILINE)
_ERROR = re.compile(r'"error": ("(?:[^"\\]|\\.)*")(?:,(?:\n.*)?\n\s*"stderr": ("(?:[^"\\]|\\.)*"))?')
#: What differs from run to run: ids, bundles, times of logs, addresses of the Go program.
_CHANGING = (
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "ID"),
    (re.compile(r"/\S*/(ocitest|oci-pid)\d+"), "BUNDLE"),
    (re.compile(r'time="[^"]*" '), ""),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z?:? "), ""),
    (re.compile(r"/tmp/[^\s/]*\d{6,}"), "DIRECTORY"),
)
_LONGEST = 240


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that has ended; ``code`` is None when it was killed for taking too long."""

    code: int | None
    stdout: str
    stderr: str


def verdict(ended: Ended) -> str:
    """PASSED, or why not, in one line that is the same in each run.

    A program passes when it exits with 0, reports no failed test and, where it plans none, no error: some
    report an error and no test.
    """
    return _shortened(_why(ended))


def _why(ended: Ended) -> str:
    if ended.code is None:
        return "does not end"
    if failed := _FAILED.search(ended.stdout):
        said = _error(ended.stdout[failed.end() :]) or _said(ended.stderr)
        return f"not ok: {failed[1]}{said}"
    if ended.code != 0:
        return f"exit status {ended.code}{_said(ended.stderr) or ': it says nothing'}"
    if _NOTHING_PLANNED.search(ended.stdout) and (error := _error(ended.stdout)):
        return f"no test planned{error}"
    return PASSED


def _error(text: str) -> str:
    """The error that belongs to a test, with which ``text`` goes on, or what the runtime said of it."""
    block = re.split(r"^(?:not )?ok ", text, maxsplit=1, flags=re.MULTILINE)[0]
    found = _ERROR.search(block)
    return f": {json.loads(found[2] or found[1])}" if found else ""


def _said(stderr: str) -> str:
    """The panic of the program, or what it says and then the error of the runtime."""
    lines = [line for line in stderr.splitlines() if line.strip() and "level=warning" not in line]
    panics = [line for line in lines if line.startswith("panic: ")]
    return ": " + "; ".join(panics[:1] or lines[:2]) if lines else ""


def _shortened(why: str) -> str:
    line = " ".join(why.split())
    for pattern, name in _CHANGING:
        line = pattern.sub(name, line)
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
