#!/bin/sh
# Checks what no compiler reads: Dockerfiles (hadolint), shell scripts (shellcheck) and workflows with the
# scripts inside them (actionlint). The programs come from `scripts/venvs.sh tools`.
set -eu
cd "$(dirname "$0")/.."
tools=.cache/venvs/tools/bin
# actionlint looks for shellcheck there too.
PATH="$PWD/$tools:$PATH"
command -v shellcheck >/dev/null || {
    echo "shellcheck is not installed, and has no wheel for this machine. Debian: apt-get install shellcheck" >&2
    exit 1
}

# New files count before they are committed.
files() { git ls-files --cached --others --exclude-standard -- "$@" | sort; }
dockerfiles=$(files '*Dockerfile')
scripts="$(files '*.sh') .ci/run"
workflows=$(files '.github/workflows/*.yml')

failed=0
# shellcheck disable=SC2086 # the names have no spaces
{
    "$tools/hadolint" $dockerfiles || failed=1
    shellcheck --external-sources $scripts || failed=1
    "$tools/actionlint" -color=false $workflows || failed=1
}
count() { echo "$1" | wc -w; }
echo "lint-files: $(count "$dockerfiles") Dockerfiles, $(count "$scripts") scripts, $(count "$workflows") workflows"
exit $failed
