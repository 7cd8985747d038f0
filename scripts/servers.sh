#!/bin/sh
# Brings the servers that tests run against into .cache/servers, without root and without a service
# that starts by itself: Redis, from the packages of Debian or Ubuntu. Does nothing where a Redis of
# version 6.2 or later is there already, in that folder or on PATH.
set -eu
cd "$(dirname "$0")/.."

folder=.cache/servers
# Debian starts a service with `apt-get install`; these are unpacked only. The libraries are those
# that nothing else brings; where the machine has them, they are the same.
packages="redis-server redis-tools liblzf1 libjemalloc2 libatomic1"

works() {
    version=$("$1" --version 2>/dev/null) || return 1
    version=${version#*v=}
    major=${version%%.*}
    minor=${version#*.}
    minor=${minor%%.*}
    [ "$major" -gt 6 ] || { [ "$major" -eq 6 ] && [ "$minor" -ge 2 ]; }
}

give_up() {
    echo "scripts/servers.sh: $1" >&2
    echo "  tests need redis-server 6.2 or later on PATH. Debian, Ubuntu: apt-get install redis-server" >&2
    echo "  macOS: brew install redis" >&2
    exit 1
}

works "$folder/bin/redis-server" && exit 0
works redis-server && exit 0
command -v apt-get >/dev/null && command -v dpkg >/dev/null || give_up "there is no apt-get to fetch it with"

# Several checkouts may share .cache: each builds a folder of its own, the last one to finish stays.
mkdir -p "$folder"
new=$(mktemp -d "$folder/new.XXXXXX")
trap 'rm -rf "$new"' EXIT
(
    cd "$new"
    for package in $packages; do
        apt-get download -qq "$package" 2>/dev/null && continue
        case $package in redis-*) false ;; esac || give_up "apt-get download $package failed; try apt-get update"
    done
    for archive in *.deb; do
        dpkg -x "$archive" root
    done
    rm -- *.deb
    mkdir bin
    cat >bin/redis-server <<'WRAPPER'
#!/bin/sh
# The unpacked program with the libraries that came with it.
here=$(cd "$(dirname "$0")/.." && pwd)
libraries=$(find "$here/root/usr/lib" -name '*.so*' -exec dirname {} + | sort -u | tr '\n' ':')
LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:-}" exec "$here/root/usr/bin/redis-server" "$@"
WRAPPER
    chmod +x bin/redis-server
)
works "$new/bin/redis-server" || give_up "what was fetched does not run: $("$new/bin/redis-server" --version 2>&1)"
rm -rf "$folder/root" "$folder/bin"
mv "$new/root" "$new/bin" "$folder/"
