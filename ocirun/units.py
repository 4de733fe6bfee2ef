"""What the files of a unit of a user's systemd say of Delegate= (systemd.unit(5), CGROUP_DELEGATION.md).

To ask systemd itself would take its bus, a package and a moment that a plan has not.  Cold: loaded for an
ordinary user in a unit of his.
"""

from __future__ import annotations

import posix as os

from ocirun.files import read_file

_NO = ("no", "n", "false", "f", "off", "0")


def delegate(unit: str, manager: str) -> bool:
    """Whether what is below the cgroup of ``unit`` is not systemd's; also for a unit that has no file.

    ``manager`` is the service of the user's manager, such as user@1000.service, "" where it is not known.
    """
    directories = _directories(manager)
    main = _main(unit, directories)
    dropped = _dropped(unit, directories)
    if main is None and not dropped:
        return True
    told = "no"
    for text in (main or "", *dropped):
        for line in text.split("\n"):
            name, equals, value = line.partition("=")
            if equals and name.strip() == "Delegate":
                told = value.strip().lower()  # nothing at all means every controller
    return told not in _NO


def _main(unit: str, directories: list[str]) -> str | None:
    """The text of the first file of that name, or of the template of an instance."""
    for name in (unit, _template(unit)):
        for directory in directories if name else ():
            text = _text(f"{directory}/{name}")
            if text is not None:
                return text
    return None


def _dropped(unit: str, directories: list[str]) -> list[str]:
    """The texts of its drop-ins, in the order of their names; of two of a name the first counts."""
    found: dict[str, str] = {}
    for name in _dropping(unit):
        for directory in directories:
            for file in _names(f"{directory}/{name}.d"):
                if file.endswith(".conf"):
                    found.setdefault(file, f"{directory}/{name}.d/{file}")
    return [_text(path) or "" for _, path in sorted(found.items())]


def _dropping(unit: str) -> list[str]:
    """By which names it has drop-ins: its own, its template's, those that end at a dash, and its kind's."""
    stem, _, kind = unit.rpartition(".")
    names = [unit, _template(unit)]
    parts = stem.split("@")[0].split("-")
    names += ["-".join(parts[:count]) + f"-.{kind}" for count in range(len(parts) - 1, 0, -1)]
    return [name for name in (*names, kind) if name]


def _template(unit: str) -> str:
    stem, _, kind = unit.rpartition(".")
    prefix, at, _ = stem.partition("@")
    return f"{prefix}@.{kind}" if at else ""


def _directories(manager: str) -> list[str]:
    """Where a user's manager looks for units, the first first.

    Its runtime directory is that of the user, whatever ours is: a daemon may have one of its own, and `su`
    leaves that of another.
    """
    home = _variable("HOME", "/")
    number = manager.removeprefix("user@").removesuffix(".service")
    his = f"/run/user/{number or os.geteuid()}"
    runtimes = [f"{place}/systemd" for place in dict.fromkeys((his, _variable("XDG_RUNTIME_DIR", his)))]
    config = _variable("XDG_CONFIG_HOME", f"{home}/.config") + "/systemd"
    data = _variable("XDG_DATA_HOME", f"{home}/.local/share") + "/systemd"
    return [
        f"{config}/user.control",
        *(f"{one}/{name}" for name in ("user.control", "transient", "generator.early") for one in runtimes),
        f"{config}/user", "/etc/systemd/user", *(f"{one}/user" for one in runtimes),
        "/run/systemd/user", *(f"{one}/generator" for one in runtimes), f"{data}/user",
        "/usr/local/share/systemd/user", "/usr/share/systemd/user", "/usr/local/lib/systemd/user",
        "/usr/lib/systemd/user", *(f"{one}/generator.late" for one in runtimes),
    ]  # fmt: skip


def _variable(name: str, default: str) -> str:
    return os.environ.get(name.encode(), b"").decode("utf-8", "surrogateescape") or default


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _text(path: str) -> str | None:
    try:
        return read_file(path).decode("utf-8", "surrogateescape")
    except OSError:
        return None
