"""Stand-ins for the two official images that the Dockerfile begins with.

Where no registry can be reached, Debian is made by debootstrap and Rust from this machine's own
toolchain. They differ from the official ones in size, not in kind: the same Debian release, the same compiler.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
DEBIAN, RUST = "debian:bookworm-slim", "rust:1.95.0-slim-bookworm"


def certificates():
    """This machine's authorities: a network may have one of its own, which builds have to trust."""
    for path in (os.environ.get("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt"):
        if path and Path(path).exists():
            return path
    sys.exit("no certificates are installed. Debian, Ubuntu: apt-get install ca-certificates")


def debian(docker, cache):
    """Imports a minimal Debian, bootstrapped once and kept in `cache`."""
    archive = cache / "bookworm.tar"
    if not archive.exists():
        tree = cache / "bookworm"
        shutil.rmtree(tree, ignore_errors=True)
        run("debootstrap", "--variant=minbase", "bookworm", tree)
        # Where this machine is Debian 12 too, its sources: they have the security updates.
        if 'VERSION_ID="12"' in Path("/etc/os-release").read_text():
            sources = [*Path("/etc/apt/sources.list.d").glob("debian*.sources")]
            for path in sources:
                shutil.copy(path, tree / "etc/apt/sources.list.d")
            if sources:
                (tree / "etc/apt/sources.list").unlink(missing_ok=True)
        run("tar", "--create", "--file", f"{archive}.new", "--directory", tree, ".")
        shutil.rmtree(tree)
        Path(f"{archive}.new").rename(archive)
    docker.run("import", archive, DEBIAN)


def rust(docker):
    """Builds the image with the compiler that rust-toolchain.toml names."""
    sysroot = subprocess.run(["rustc", "--print", "sysroot"], cwd=ROOT, check=True, text=True, capture_output=True)
    channel = re.search(r'channel = "(.*)"', (ROOT / "rust-toolchain.toml").read_text())[1]
    assert RUST == f"rust:{channel}-slim-bookworm", f"rust-toolchain.toml has {channel}, the Dockerfile {RUST}"
    docker.run("build", "--network", "host", "--file", HERE / "rust.Dockerfile", "--tag", RUST,
               "--secret", f"id=certificates,src={certificates()}", sysroot.stdout.strip())


def run(*command):
    result = subprocess.run([*map(str, command)], text=True, capture_output=True, cwd=ROOT)
    if result.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{result.stdout}{result.stderr}")
