#!/usr/bin/env python3
"""Writes OCI layouts (image-spec 1.1), each with one image of the reference name "latest".

The same input gives the same digest: names are sorted, times and owners fixed (SOURCE_DATE_EPOCH,
if set, is the time). `build` makes the images of Ebb with it; as a command it makes one of a single
static program, which needs nothing else:

  deploy/images/layout.py FOLDER [--env NAME=VALUE]... FILE:PATH
"""

import argparse
import datetime
import gzip
import hashlib
import io
import json
import os
import pathlib
import platform
import shutil
import tarfile
import typing

# The account that distroless images use, too: "nonroot".
USER = 65532
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
KIND = "application/vnd.oci.image"


class Layer(typing.NamedTuple):
    """A layer as it lies in the layout, and the digest of the tar inside."""

    content: bytes
    media_type: str
    plain: str


def layer(entries, compress=True):
    """A layer of (path, bytes or None for a folder, mode)."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, content, mode in with_folders(entries):
            member = tarfile.TarInfo(path)
            member.mtime, member.mode = EPOCH, mode
            if content is None:
                member.type = tarfile.DIRTYPE
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    plain = raw.getvalue()
    if not compress:
        return Layer(plain, f"{KIND}.layer.v1.tar", digest(plain))
    # No name and no time in the header: they would change the digest.
    packed = gzip.compress(plain, compresslevel=6, mtime=0)
    return Layer(packed, f"{KIND}.layer.v1.tar+gzip", digest(plain))


def with_folders(entries):
    """The entries sorted, each after the folders that it lies in."""
    named = {path: (content, mode) for path, content, mode in entries}
    for path in list(named):
        for parent in pathlib.PurePosixPath(path).parents:
            if str(parent) != ".":
                named.setdefault(str(parent), (None, 0o755))
    return [(path, *named[path]) for path in sorted(named)]


def accounts():
    """Files that every image has."""
    passwd = f"root:x:0:0:root:/:/nologin\nnonroot:x:{USER}:{USER}:nonroot:/:/nologin\n"
    group = f"root:x:0:\nnonroot:x:{USER}:\n"
    return [
        ("etc/passwd", passwd.encode(), 0o644),
        ("etc/group", group.encode(), 0o644),
        ("tmp", None, 0o1777),
    ]


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def write(folder, layers, settings):
    """Writes the layout and returns the image's digest; an older layout is replaced.

    The settings are what a container starts with: its entrypoint, its environment.
    """
    shutil.rmtree(folder, ignore_errors=True)
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(content, media_type):
        name = digest(content)
        (blobs / name.removeprefix("sha256:")).write_bytes(content)
        return {"mediaType": media_type, "digest": name, "size": len(content)}

    def document(value, media_type):
        return blob(json.dumps(value, sort_keys=True).encode(), media_type)

    created = datetime.datetime.fromtimestamp(EPOCH, datetime.timezone.utc)
    config = {
        "created": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "architecture": ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": {"User": f"{USER}:{USER}", "WorkingDir": "/", **settings},
        "rootfs": {"type": "layers", "diff_ids": [each.plain for each in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{KIND}.manifest.v1+json",
        "config": document(config, f"{KIND}.config.v1+json"),
        "layers": [blob(each.content, each.media_type) for each in layers],
    }
    entry = document(manifest, manifest["mediaType"])
    entry["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    index = {"schemaVersion": 2, "manifests": [entry]}
    (folder / "index.json").write_text(json.dumps(index, sort_keys=True))
    # Last: without this file it is no layout, so an interrupted one is not taken for whole.
    (folder / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
    return entry["digest"]


def pair(text):
    source, separator, path = text.rpartition(":")
    if not separator or not path.startswith("/"):
        raise argparse.ArgumentTypeError(f"{text} is not FILE:PATH with an absolute PATH")
    if not os.path.isfile(source):
        raise argparse.ArgumentTypeError(f"there is no file {source}")
    return pathlib.Path(source), path


def main():
    parser = argparse.ArgumentParser(description="Makes an image of one static program.")
    parser.add_argument("folder", type=pathlib.Path, metavar="FOLDER", help="a new folder")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("program", type=pair, metavar="FILE:PATH")
    options = parser.parse_args()
    # A person may have named any folder: none is replaced here.
    if options.folder.exists():
        parser.error(f"{options.folder} exists: name a new folder")
    source, path = options.program
    entries = [*accounts(), (path.lstrip("/"), source.read_bytes(), 0o755)]
    # As it is: such an image goes to a registry nearby, which takes less time than to compress it.
    layers = [layer(entries, compress=False)]
    write(options.folder, layers, {"Entrypoint": [path], "Env": ["PATH=/usr/bin", *options.env]})


if __name__ == "__main__":
    main()
