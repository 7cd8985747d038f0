"""Makes corpus/model_archive: archives that want to hurt, each with its trick in its name.

Run: python3 make_archives.py. The same bytes each time; those called good-* are to be unpacked.
"""

import io
import json
import pathlib
import tarfile

HERE = pathlib.Path(__file__).parent / "model_archive"


def entry(name, data=b"x", kind=tarfile.REGTYPE, link="", pax=None):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = len(data) if kind == tarfile.REGTYPE else 0
    info.pax_headers = pax or {}
    return info, data


def archive(name, *entries, form=tarfile.USTAR_FORMAT, tail=b""):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=form) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data) if info.isreg() else None)
    (HERE / f"{name}.tar").write_bytes(raw.getvalue()[:8192] + tail)


def patched(name, at, new, *entries):
    archive(name, *entries)
    path = HERE / f"{name}.tar"
    raw = bytearray(path.read_bytes())
    raw[at : at + len(new)] = new
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    path.write_bytes(raw)


def listed(name, files, *entries, extra=None):
    listing = {"format": 1, "models": [], "files": files} | (extra or {})
    archive(name, entry("weir-package.json", json.dumps(listing).encode()), *entries)


def main():
    HERE.mkdir(exist_ok=True)
    ok = entry("m/model.onnx")
    sha = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"  # of b"x"
    told = {"path": "m/model.onnx", "bytes": 1, "sha256": sha}
    archive("good-plain", entry("m", kind=tarfile.DIRTYPE), ok)
    archive("good-pax-mtime", entry("m/model.onnx", pax={"mtime": "1.5"}), form=tarfile.PAX_FORMAT)
    listed("good-listed", [told], ok)
    for name, path in {
        "up": "../evil", "up-inside": "m/../../evil", "absolute": "/tmp/weir-evil", "dots": "m/..",
        "backslash": "m\\..\\..\\evil", "drive": "C:evil", "percent": "%2e%2e/evil", "empty-part": "m//evil",
        "dot-part": "m/./evil", "hidden": "m/.ssh", "newline": "m/a\nb", "top": "evil", "deep": "a/" * 9 + "f",
        "apple": "m/._model.onnx", "overlong-up": "./" * 3 + "../evil",
    }.items():
        archive(f"path-{name}", entry(path))
    archive("folder-up", entry("../evil", kind=tarfile.DIRTYPE))
    archive("symlink", entry("m/l", kind=tarfile.SYMTYPE, link="/etc/passwd"))
    archive("symlink-then-through", entry("m", kind=tarfile.SYMTYPE, link="/tmp"), entry("m/evil"))
    archive("hardlink", ok, entry("m/l", kind=tarfile.LNKTYPE, link="m/model.onnx"))
    for name, kind in {"fifo": tarfile.FIFOTYPE, "char": tarfile.CHRTYPE, "block": tarfile.BLKTYPE}.items():
        archive(name, entry("m/d", kind=kind))
    archive("pax-path", entry("m/" + "a" * 300), form=tarfile.PAX_FORMAT)
    archive("pax-size", entry("m/f", pax={"size": "9"}), form=tarfile.PAX_FORMAT)
    archive("pax-link", entry("m/f", pax={"linkpath": "/etc"}), form=tarfile.PAX_FORMAT)
    archive("pax-sparse", entry("m/f", pax={"GNU.sparse.name": "/etc/x"}), form=tarfile.PAX_FORMAT)
    archive("gnu-long-name", entry("m/" + "a" * 300), form=tarfile.GNU_FORMAT)
    archive("twice", ok, ok)
    archive("file-then-folder", entry("m/a"), entry("m/a/b"))
    archive("folder-over-file", entry("m/a"), entry("m/a", kind=tarfile.DIRTYPE))
    archive("nothing")
    archive("behind", ok, tail=b"more")
    patched("size-base-256", 124, b"\x80" + b"\xff" * 11, ok)
    patched("size-huge", 124, b"77777777777\0", ok)
    patched("size-negative", 124, b"-0000000001\0", ok)
    patched("kind-unknown", 156, b"Z", ok)
    patched("path-not-utf8", 0, b"m/\xff\xfe", ok)
    patched("folder-with-contents", 156, b"5", ok)
    listed("listed-other-digest", [told | {"sha256": "0" * 64}], ok)
    listed("listed-other-size", [told | {"bytes": 2}], ok)
    listed("listed-missing", [told, told | {"path": "m/z"}], ok)
    listed("listed-less", [], ok)
    listed("listed-way-out", [told, told | {"path": "n/../../evil"}], ok)
    listed("listed-twice", [told, told], ok)
    listed("listed-other-form", [told], ok, extra={"format": 2})
    listed("listed-unknown-key", [told], ok, extra={"run": "sh"})
    archive("listed-late", ok, entry("weir-package.json", b'{"format":1,"models":[],"files":[]}'))
    archive("listed-no-json", entry("weir-package.json", b"[" * 2000), ok)


main()
