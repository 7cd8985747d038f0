#!/bin/sh
# Unpacks Debian packages of an architecture, with no script of theirs run: packages.sh ARCHITECTURE NAME…
# → /packages, and the description of each in /packages/status.d.
set -eu
architecture=$1
shift

[ "$architecture" = "$(dpkg --print-architecture)" ] || dpkg --add-architecture "$architecture"
apt-get update
# For readelf, which rootfs.sh asks; it is no part of the image.
apt-get install --yes --no-install-recommends binutils
mkdir -p /download /packages/status.d
# apt gives up its rights before it fetches.
chown _apt /download
cd /download
for name in "$@"; do
    # One that is for all architectures has to be asked for without.
    if apt-cache show --no-all-versions "$name" | grep -q '^Architecture: all$'; then
        apt-get download "$name"
    else
        apt-get download "$name:$architecture"
    fi
done
for archive in *.deb; do
    dpkg-deb --extract "$archive" /packages
    # Scanners read these to know which versions are inside where there is no dpkg.
    dpkg-deb --field "$archive" | sed '/^$/d' >"/packages/status.d/${archive%%_*}"
done
rm -rf /download /var/lib/apt/lists/*
