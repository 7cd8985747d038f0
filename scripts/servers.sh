#!/bin/sh
# Brings the servers that tests run against into .cache/servers, without root and without a service
# that starts by itself, from the packages of Debian or Ubuntu:
#   scripts/servers.sh          all of them
#   scripts/servers.sh haproxy  only that one
# Does nothing for one that is there already and new enough, in that folder or on PATH.
#   redis       redis-server
#   prometheus  prometheus, promtool, amtool (alertmanager itself looks for its templates in /usr/share)
#   haproxy     haproxy
set -eu
cd "$(dirname "$0")/.."

folder=.cache/servers
mkdir -p "$folder/bin"
# Several checkouts may share .cache: each unpacks in a folder of its own, the last to finish stays.
new=$(mktemp -d "$folder/new.XXXXXX")
trap 'rm -rf "$new"' EXIT

# The programs that a server consists of.
programs() {
    case $1 in
        redis) echo redis-server ;;
        prometheus) echo prometheus promtool amtool ;;
        haproxy) echo haproxy ;;
        *) echo "scripts/servers.sh: no server is called $1; there are redis, prometheus, haproxy" >&2; exit 1 ;;
    esac
}

# The packages with the programs.
packages() {
    case $1 in
        redis) echo redis-server redis-tools ;;
        prometheus) echo prometheus prometheus-alertmanager ;;
        haproxy) echo haproxy ;;
    esac
}

# Libraries that nothing else brings. Releases name them differently: those that a release does
# not have, its packages do not need.
libraries() {
    case $1 in
        redis) echo liblzf1 libjemalloc2 libatomic1 ;;
        haproxy) echo liblua5.3-0 liblua5.4-0 libopentracing-c-wrapper0 libopentracing1 ;;
    esac
}

# The oldest version that the tests hold for.
oldest() {
    case $1 in
        redis-server) echo 6.2 ;;
        prometheus | promtool) echo 2.40 ;;
        amtool) echo 0.23 ;;
        haproxy) echo 2.4 ;;
    esac
}

# Whether the program at $2 runs and is no older than the tests need; $1 is its name.
works() {
    case $1 in haproxy) flag=-v ;; *) flag=--version ;; esac
    # The first number with a dot is the version, in each of them.
    version=$("$2" $flag 2>&1) || return 1
    version=$(printf '%s\n' "$version" | grep -oE '[0-9]+\.[0-9]+' | head -n 1)
    wanted=$(oldest "$1")
    [ "${version%%.*}" -gt "${wanted%%.*}" ] ||
        { [ "${version%%.*}" -eq "${wanted%%.*}" ] && [ "${version#*.}" -ge "${wanted#*.}" ]; }
}

# Whether every program of server $1 is there.
there() {
    for program in $(programs "$1"); do
        works "$program" "$folder/bin/$program" 2>/dev/null || works "$program" "$program" 2>/dev/null || return 1
    done
}

give_up() {
    echo "scripts/servers.sh: $1" >&2
    echo "  the tests need: $(programs "$server")" >&2
    echo "  Debian, Ubuntu: apt-get install $(packages "$server")" >&2
    case $server in
        prometheus) echo "  macOS: brew install prometheus alertmanager" >&2 ;;
        *) echo "  macOS: brew install $server" >&2 ;;
    esac
    exit 1
}

# apt-get with the lists of the system, or, once `lists` was asked, with lists of our own.
apt() {
    # shellcheck disable=SC2086 # several words
    apt-get -qq $apt_options "$@"
}
apt_options=

# A fresh machine has no package lists, an old one stale ones, and only root may fetch them for all.
lists() {
    [ -z "$apt_options" ] || return 1
    mkdir -p "$new/lists/partial" "$new/archives/partial"
    apt_options="-o Dir::State::Lists=$PWD/$new/lists -o Dir::Cache=$PWD/$new -o APT::Sandbox::User="
    apt update
}

# Fetches package $1 into the current folder.
download() {
    apt download "$1" 2>/dev/null
}

# Unpacks the packages of server $1 in $new/$1/root.
unpack() {
    mkdir "$new/$1"
    for package in $(packages "$1"); do
        (cd "$new/$1" && download "$package") && continue
        lists || give_up "apt-get update failed"
        (cd "$new/$1" && download "$package") || give_up "apt-get download $package failed"
    done
    for package in $(libraries "$1"); do
        (cd "$new/$1" && download "$package") || true
    done
    for archive in "$new/$1"/*.deb; do
        dpkg -x "$archive" "$new/$1/root"
        rm -- "$archive"
    done
}

# Writes a program that starts program $2 of server $1 with the libraries that came with it.
wrapper() {
    cat <<WRAPPER
#!/bin/sh
# The unpacked program with the libraries that came with it.
root=\$(cd "\$(dirname "\$0")/../$1/root" && pwd)
libraries=\$(find "\$root" -name '*.so*' -exec dirname {} + | sort -u | tr '\n' ':')
export LD_LIBRARY_PATH="\$libraries\${LD_LIBRARY_PATH:-}"
for place in usr/bin usr/sbin; do
    [ -x "\$root/\$place/$2" ] && exec "\$root/\$place/$2" "\$@"
done
echo "\$0: \$root has no $2" >&2
exit 127
WRAPPER
}

install() {
    rm -rf "${folder:?}/$1"
    mv "$new/$1" "$folder/$1"
    for program in $(programs "$1"); do
        wrapper "$1" "$program" >"$new/$program"
        chmod +x "$new/$program"
        mv "$new/$program" "$folder/bin/$program"
        works "$program" "$folder/bin/$program" ||
            give_up "what was fetched does not run: $("$folder/bin/$program" --version 2>&1)"
    done
}

[ $# -gt 0 ] || set -- redis prometheus haproxy
for server in "$@"; do
    programs "$server" >/dev/null
    there "$server" && continue
    # shellcheck disable=SC2015 # giving up is right in both cases
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || give_up "there is no apt-get to fetch it with"
    unpack "$server"
    install "$server"
done
