"""What must be true of an image at rest: size, contents, configuration."""

import io
import re
import tarfile

MEGABYTE = 1_000_000
LIMIT = 60 * MEGABYTE
UID = 10001
# What loads programs, and where libraries are, by Docker's name of the architecture.
LOADERS = {"amd64": "lib64/ld-linux-x86-64.so.2", "arm64": "lib/ld-linux-aarch64.so.1"}
LIBRARY = re.compile(r"(usr/)?lib/(x86_64|aarch64)-linux-gnu/(\S+\.so\S*)")
# All that may be in an image, beside the licences and time zones.
FILES = {
    "etc/debian_version", "etc/group", "etc/nsswitch.conf", "etc/os-release", "etc/passwd",
    "etc/ssl/certs/ca-certificates.crt", "etc/weir/weir.toml", "usr/local/bin/weir", *LOADERS.values(),
}


def export(docker, image):
    """The image's file system as a tar archive, with what Docker adds to a container."""
    name = docker.run("create", image).stdout.strip()
    archive = docker.folder / "export.tar"
    docker.run("export", "--output", archive, name)
    docker.run("rm", name)
    return archive


def files(docker, image):
    """The members of the image's file system, without what Docker adds to a container."""
    archive = export(docker, image)
    members = tarfile.open(fileobj=io.BytesIO(archive.read_bytes())).getmembers()
    archive.unlink()
    added = re.compile(r"dev/|proc|sys|dev$|\.dockerenv|etc/(hostname|hosts|mtab|resolv\.conf)$")
    return [member for member in members if not added.match(member.name)]


def size(docker, image, limit=LIMIT):
    """Bytes of all layers, unpacked."""
    found = docker.inspect(image, "image")["Size"]
    assert found <= limit, f"{image} has {found} bytes, at most {limit}"
    return f"{found / MEGABYTE:.1f} MB"


def layers(docker, image):
    """How large each layer is that is not empty, the first first."""
    lines = docker.run("history", "--no-trunc", "--human=false", "--format", "{{.Size}}\t{{.CreatedBy}}", image).stdout
    rows = [line.split("\t", 1) for line in reversed(lines.splitlines())]
    return [(int(found), by.removesuffix(" # buildkit")) for found, by in rows if int(found)]


def configuration(docker, image):
    """User, signal, health check, command and labels are those that are promised."""
    found = docker.inspect(image, "image")["Config"]
    assert found["User"] == f"{UID}:{UID}", found["User"]
    assert found["StopSignal"] == "SIGTERM"
    assert found["Entrypoint"] == ["/usr/local/bin/weir"]
    assert found["Cmd"] == ["serve", "--config", "/etc/weir/weir.toml"]
    assert found["Healthcheck"]["Test"][:3] == ["CMD", "/usr/local/bin/weir", "health"]
    assert list(found["ExposedPorts"]) == ["8000/tcp"] and not found.get("Volumes")
    labels = {f"org.opencontainers.image.{name}" for name in
              ("title", "description", "licenses", "base.name", "version", "revision", "source")}
    assert labels == set(found["Labels"]), found["Labels"]
    return f"user {found['User']}, {len(labels)} labels"


def contents(docker, image, more=()):
    """Exactly the files that are meant to be there: no shell, nothing that others may write, no set-uid."""
    members = files(docker, image)
    odd, libraries = [], set()
    for member in members:
        if member.mode & 0o6022 and not member.issym():
            odd.append(f"{member.name} has mode {member.mode:o}")
        if member.uid != (UID if member.name == "var/lib/weir" else 0):
            odd.append(f"{member.name} belongs to {member.uid}")
        library = LIBRARY.fullmatch(member.name)
        if library:
            libraries.add(library[3])
        elif not member.isdir() and not known(member.name, more):
            odd.append(f"{member.name} has no business there")
    assert not odd, "\n".join(odd)
    return f"{sum(not m.isdir() for m in members)} files, no shell", libraries


def no_shell(docker, image):
    """Nor does the container find one."""
    shell = docker.once(image, "--entrypoint", "/bin/sh")
    assert shell.returncode == 127 and "no such file" in shell.stderr, shell.stderr
    return "/bin/sh: no such file"


def known(name, more):
    return (name in FILES or name in more or name.startswith(("usr/share/zoneinfo/", "usr/share/doc/"))
            or name.startswith("var/lib/dpkg/status.d/"))


def linked(docker, image, libraries, programs):
    """What the loader loads, asked in the image itself, is what is there: nothing missing, nothing spare."""
    loader = f"/{LOADERS['amd64']}"
    loaded = {loader.rsplit("/", 1)[1]}
    for program in programs:
        answer = docker.once(image, "--entrypoint", loader, command=("--list", program))
        assert answer.returncode == 0 and "not found" not in answer.stdout, answer.stdout + answer.stderr
        loaded |= set(re.findall(r"^\s*(\S+\.so\S*) =>", answer.stdout, re.MULTILINE))
    # A library may have a second name that links to the file.
    targets = {m.linkname.rsplit("/", 1)[-1] for m in files(docker, image) if m.issym()}
    assert loaded <= libraries, f"missing: {loaded - libraries}"
    assert libraries <= loaded | targets, f"nothing loads {libraries - loaded - targets}"
    return f"{len(loaded)} libraries, all found"
