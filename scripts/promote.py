#!/usr/bin/env python3
"""Names what an environment runs, by digest: one line of its overlay, and nothing else.

    scripts/promote.py OVERLAY NAME IMAGE@sha256:DIGEST

OVERLAY is a folder with a kustomization.yaml, NAME the entry of its `images` list (`weir`,
`weir-canary`). Its place and digest are replaced; comments, order and all other lines stay. Exit
status 0: the file says so now, also where it did before (`unchanged`). 1: it could not be said, and nothing was
written. 2: wrong arguments.

The file is edited as text: a YAML library would write it anew, and a change of a digest would
show as a change of the whole file. A tag is refused: it can be moved after it was checked.
"""

import re
import sys
from pathlib import Path

IMAGE = re.compile(r"(?P<name>[a-z0-9][a-z0-9._-]*(?::\d+)?(?:/[a-z0-9][a-z0-9._-]*)*)"
                   r"(?::(?P<tag>[\w][\w.-]{0,127}))?@(?P<digest>sha256:[0-9a-f]{64})")
FILE = "kustomization.yaml"


class Refused(Exception):
    """What cannot be done, and what to do instead."""


def parse(image):
    """The repository and the digest of an image."""
    found = IMAGE.fullmatch(image)
    if not found:
        raise Refused(f"`{image}` is not NAME@sha256: and 64 hexadecimal digits: a tag alone can be moved after the check")
    return found["name"], found["digest"]


def promote(text, name, image):
    """The text of the kustomization in which the entry `name` of `images` is `image`."""
    repository, digest = parse(image)
    lines = text.splitlines(keepends=True)
    begin, end = entry(lines, name)
    dash = re.match(r"\s*- ", lines[begin])[0]
    indent = " " * len(dash)
    kept = [line for line in lines[begin + 1:end] if not re.match(r"\s*(newName|newTag|digest):", line)]
    # What follows the entry's keys (a blank line, a comment) stays behind them.
    replaced = [lines[begin], f"{indent}newName: {repository}\n", f"{indent}digest: {digest}\n"]
    return "".join(lines[:begin] + replaced + kept + lines[end:])


def entry(lines, name):
    """The lines of one entry of `images`, from its `- name:` on: first, and one beyond the last."""
    starts = [at for at, line in enumerate(lines) if re.match(r"images:\s*(#.*)?$", line)]
    if len(starts) != 1:
        raise Refused(f"{len(starts)} lists `images:` that begin at the margin; there has to be one")
    names = {}
    at = starts[0] + 1
    while at < len(lines) and re.match(r"\s*$|\s*#|\s+|- ", lines[at]):
        item = re.match(r"(\s*)- name:\s*(['\"]?)([^\s'\"#]+)\2\s*(#.*)?$", lines[at])
        if item:
            names.setdefault(item[3], []).append(at)
        at += 1
    found = names.get(name, [])
    if len(found) != 1:
        there = ", ".join(names) or "none"
        raise Refused(f"`images` has {len(found)} entries named `{name}`; there are: {there}")
    begin = found[0]
    end = begin + 1
    width = len(re.match(r"\s*- ", lines[begin])[0])
    while end < len(lines) and re.match(rf" {{{width}}}\S", lines[end]):
        end += 1
    return begin, end


def main(arguments):
    if len(arguments) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    overlay, name, image = arguments
    path = Path(overlay) / FILE
    try:
        before = path.read_text()
        after = promote(before, name, image)
    except (OSError, Refused) as error:
        print(f"promote: {path}: {error}", file=sys.stderr)
        return 1
    if after == before:
        print(f"{path}: {name} unchanged")
        return 0
    path.write_text(after)
    print(f"{path}: {name} → {image}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
