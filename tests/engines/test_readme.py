"""The lines of README.md about Docker and Podman, as they stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conformance.docker import RUNTIME

if TYPE_CHECKING:
    from conformance.private_view import PrivateView
    from tests.engines.docker_scenes import DockerScene
    from tests.engines.podman_scenes import PodmanScene

README = (Path(__file__).parents[2] / "README.md").read_text()
SECTION = README.partition("## Below Docker and Podman\n")[2].partition("\n## ")[0]


def _lines(program: str) -> list[str]:
    return re.findall(rf"^    {program} (.*)$", SECTION, re.MULTILINE)


def _runs(view: PrivateView, program: str, line: str, image: str, *more: str) -> None:
    words = [image if word == "IMAGE" else word for word in shlex.split(line)]
    at = words.index("run") + 1
    done = view.run(program, *words[:at], *more, *words[at:])
    assert (done.stdout, done.code) == ("it runs\n", 0), done.stderr


@pytest.mark.parametrize("docker", ["ocirun"], indirect=True)
@pytest.mark.parametrize("line", _lines("docker"))
def test_the_lines_of_docker_run(docker: DockerScene, line: str) -> None:
    _runs(docker.engine, "docker", line, "scene")


def test_the_line_of_dockerd_is_what_the_scenes_are_played_with() -> None:
    assert [tuple(shlex.split(line)) for line in _lines("dockerd")] == [RUNTIME]


@pytest.mark.parametrize("podman", ["cli"], indirect=True)
@pytest.mark.parametrize("line", _lines("podman"))
def test_the_lines_of_podman_run(podman: PodmanScene, line: str) -> None:
    # No cgroup2 of the host has the controller for the limit that Podman gives everybody.
    host = ("--pids-limit", "-1", "--cgroup-parent", f"/{podman.engine.name}")
    _runs(podman.engine, "podman", line, "scene", *host)


@pytest.mark.parametrize("docker", ["cli"], indirect=True)
def test_it_may_be_the_default_of_docker(docker: DockerScene) -> None:
    docker.engine.restart_dockerd(*RUNTIME, "--default-runtime", "ocirun")
    try:
        assert docker.docker("info", "--format", "{{.DefaultRuntime}}") == "ocirun\n"
        name = ("--name", docker.new_name())
        assert docker.docker("run", "--rm", *name, "scene", "echo", "fine") == "fine\n"
        assert "ocirun" in docker.docker("info", "--format", "{{json .Runtimes}}")
    finally:
        docker.engine.restart_dockerd(*RUNTIME)
