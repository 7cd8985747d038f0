#!/bin/sh
# Puts the image's files together in /rootfs: rootfs.sh FILE…, from /packages and the current folder, for the
# programs and libraries named. What they load is found by reading them, and one that
# asks for a library that no package brought fails the build.
set -eu

mkdir -p /rootfs/etc/ssl/certs /rootfs/etc/weir /rootfs/models /rootfs/usr/share/doc/weir \
    /rootfs/var/lib/dpkg /rootfs/var/lib/weir

# Copies a file of the packages, and what it links to, to the same place.
take() {
    mkdir -p "/rootfs$(dirname "$1")"
    cp -a "/packages$1" "/rootfs$1"
    [ -L "/packages$1" ] || return 0
    link=$(readlink "/packages$1")
    case $link in /*) take "$link" ;; *) take "$(dirname "$1")/$link" ;; esac
}

# Copies the loader and the libraries that a file asks for, and what those ask for.
load() {
    for name in $(readelf --dynamic "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
        found=$(find /packages/lib /packages/usr/lib -name "$name" | head -n 1)
        [ -n "$found" ] || { echo "$1 needs $name, which no package brought" >&2; exit 1; }
        [ ! -e "/rootfs${found#/packages}" ] || continue
        take "${found#/packages}"
        load "$found"
    done
}

for file in "$@"; do
    interpreter=$(readelf --program-headers "$file" | sed -n 's/.*program interpreter: \(.*\)\]/\1/p')
    [ -z "$interpreter" ] || take "$interpreter"
    load "$file"
done

# Certificates: one file, as `update-ca-certificates` makes it of those that Mozilla trusts.
find /packages/usr/share/ca-certificates/mozilla -name '*.crt' | sort | xargs cat \
    >/rootfs/etc/ssl/certs/ca-certificates.crt

# Time zones, without the second and third set (`posix`, `right`) of the same.
mkdir -p /rootfs/usr/share
cp -a /packages/usr/share/zoneinfo /rootfs/usr/share/
rm -rf /rootfs/usr/share/zoneinfo/posix /rootfs/usr/share/zoneinfo/right

# Licences, and what scanners look for. The libraries of GCC link to the text in gcc-12-base.
for package in /packages/status.d/*; do
    name=$(basename "$package")
    mkdir -p "/rootfs/usr/share/doc/$name"
    cp -L "/packages/usr/share/doc/$name/copyright" "/rootfs/usr/share/doc/$name/"
done
cp -a /packages/status.d /rootfs/var/lib/dpkg/
cp -L /etc/os-release /etc/debian_version /rootfs/etc/

# Users by name: none can log in, there is no shell.
printf '%s\n' 'root:x:0:0:root:/:/sbin/nologin' 'weir:x:10001:10001:weir:/var/lib/weir:/sbin/nologin' >/rootfs/etc/passwd
printf '%s\n' 'root:x:0:' 'weir:x:10001:' >/rootfs/etc/group
echo 'hosts: files dns' >/rootfs/etc/nsswitch.conf

cp LICENSE NOTICE /rootfs/usr/share/doc/weir/
cp weir.toml /rootfs/etc/weir/
chown 10001:10001 /rootfs/var/lib/weir
