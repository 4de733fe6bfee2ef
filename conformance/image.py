"""A container image made here: one layer with a static busybox, as an OCI image layout in a tar archive."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
#: The name that an import gives it.
IMAGE = "docker.io/library/scene:latest"
SHORT = "scene:latest"

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_DIRECTORIES = ("bin", "dev", "etc", "proc", "root", "run", "sys", "var")
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nsomeone:x:1000:1000::/:/bin/sh\n",
    "etc/group": "root:x:0:\nsomeone:x:1000:\n",
}


def write_image(archive: Path, busybox: Path = BUSYBOX) -> None:
    """Writes the image ``IMAGE`` to ``archive`` (OCI image-layout.md); raises OSError.

    The same busybox gives the same bytes: there is no time in it.
    """
    layer = _layer(busybox)
    config = _json(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            "history": [{"created_by": "busybox"}],
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
        }
    )
    entry = _descriptor("application/vnd.oci.image.manifest.v1+json", manifest)
    entry["annotations"] = {"io.containerd.image.name": IMAGE, "org.opencontainers.image.ref.name": "latest"}
    with tarfile.open(archive, "w") as tar:
        _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(tar, "index.json", _json({"schemaVersion": 2, "manifests": [entry]}))
        _add(tar, "manifest.json", _json([_archived(config, layer)]))
        for blob in (layer, config, manifest):
            _add(tar, _place(blob), blob)


def _archived(config: bytes, layer: bytes) -> dict[str, object]:
    """The entry of manifest.json, which ``docker load`` wants where dockerd keeps the images itself."""
    return {"Config": _place(config), "RepoTags": [SHORT], "Layers": [_place(layer)]}


def _place(blob: bytes) -> str:
    return f"blobs/{_digest(blob).replace(':', '/')}"


def unpack_root(rootfs: Path, busybox: Path = BUSYBOX) -> None:
    """Makes the root file system of the image in a new directory ``rootfs``; raises OSError."""
    rootfs.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(_layer(busybox))) as tar:
        # an attribute, for Debian 12's tarfile knows no argument of that name
        tar.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
        tar.extractall(rootfs)  # noqa: S202 - written above, by us


def _layer(busybox: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in _DIRECTORIES:
            _add_directory(tar, name, 0o755)
        _add_directory(tar, "tmp", 0o1777)
        for name, text in _FILES.items():
            _add(tar, name, text.encode())
        _add(tar, "bin/busybox", busybox.read_bytes(), 0o755)
        for applet in _applets(busybox):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return buffer.getvalue()


def _applets(busybox: Path) -> list[str]:
    done = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True, timeout=30)
    return sorted(set(done.stdout.split()) - {"busybox"})


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))


def _add_directory(tar: tarfile.TarFile, name: str, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    tar.addfile(entry)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _descriptor(kind: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": kind, "digest": _digest(blob), "size": len(blob)}
