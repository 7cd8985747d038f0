"""The pages on production: the first section of production.md is done as a newcomer does it, its files written and
its commands run; what all of them name is there."""

import functools
import json
import re
import shlex
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from manifests import ROOT, WEIR, clean_environment
from process import ask, weir

GUIDE = ROOT / "docs/guide"
PAGES = [GUIDE / f"{name}.md" for name in ("production", "container", "kubernetes", "rolling", "monitoring", "delivery")]
PAGE = PAGES[0]
PLACES = r"(?:\.github|bench|crates|deploy|docs|examples|scripts|tests)/[\w./-]*"
# The page's port may be taken here.
HERE = {"WEIR_SERVER__LISTEN": "127.0.0.1:0"}


def blocks(number):
    """(language, text) of what is fenced in one section."""
    [section] = [part for part in PAGE.read_text().split("\n## ") if part.startswith(f"{number}. ")]
    return re.findall(r"^```(\w+)\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def files(found):
    """Name → text of the configurations, which begin with their name."""
    named = [re.match(r"# (\w+\.toml)\n", text) and (text.split()[1], text) for language, text in found if language == "toml"]
    assert all(named), "a file without a name"
    return dict(named)


def commands(found):
    """The words of every call of weir, without its name and the comment."""
    lines = [line for language, text in found if language == "sh" for line in text.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("weir ")]


def question(found):
    """Path, body and answer of the one request."""
    [text] = [text for language, text in found if language == "console"]
    path, body, answer = re.fullmatch(r"\$ curl localhost:8000(\S+) --json '(.*?)'\n(.*)\n", text, re.DOTALL).groups()
    return path, json.loads(body), json.loads(answer)


@functools.cache
def help_of(*words):
    done = subprocess.run([WEIR, *words, "--help"], env=clean_environment(), capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None


def unknown(line):
    """Flags of a call of weir that its help does not name, or the call itself."""
    words = shlex.split(line, comments=True)[1:]
    call = words[:2] if words[0] in ("cache", "config") else words[:1]
    told = help_of(*call)
    if told is None:
        return [" ".join(["weir", *call])]
    flags = [word.split("=")[0] for word in words if word.startswith("--")]
    return [f"weir {' '.join(call)} {flag}" for flag in flags if not re.search(rf"{flag}\b", told)]


def missing(text, folder=GUIDE):
    """What a page names and is not there: pages, paths, make targets, calls of weir."""
    makefile = (ROOT / "Makefile").read_text()
    found = [link for link in re.findall(r"\]\((?!https?:)([^)#\s]+)", text) if not (folder / link).exists()]
    code = "\n".join(re.findall(r"`([^`\n]+)`", text) + re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    found += [path for path in re.findall(rf"(?<![\w./{{\\-]){PLACES}", code) if not (ROOT / path).exists()]
    found += [f"make {name}" for name in re.findall(r"\bmake ([a-z][\w-]+)", code) if not re.search(rf"^{name}:", makefile, re.MULTILINE)]
    for line in re.findall(r"^(?:\$ |[A-Z_]+='[^']*' )?(weir [a-z][^\n`]*)", code, re.MULTILINE):
        found += [] if "…" in line else unknown(line)
    return found


class Pages(unittest.TestCase):
    def test_what_they_name_is_there(self):
        for page in PAGES:
            self.assertEqual(missing(page.read_text()), [], page.name)

    def test_what_is_not_there_is_seen(self):
        for text, wanted in [
            ("[gone](gone.md#top)", ["gone.md"]),
            ("`deploy/k8s/gone.yaml`", ["deploy/k8s/gone.yaml"]),
            ("```sh\nmake gone # it\n```", ["make gone"]),
            ("```sh\nweir serve --config weir.toml --gone=1\n```", ["weir serve --gone"]),
            ("`weir gone`", ["weir gone"]),
            ("`weir config gone --config a.toml`", ["weir config gone"]),
            ("[k](kubernetes.md) [w](https://x/y) `deploy/k8s` `make stack` `weir load http://a b --rate 1`", []),
        ]:
            self.assertEqual(missing(text), wanted, text)


class Laptop(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder, self.found = Path(folder.name), blocks(1)
        shutil.copytree(ROOT / "examples/models/housing", self.folder / "models/housing")
        for name, text in files(self.found).items():
            (self.folder / name).write_text(text)

    def test_every_command_does_what_the_page_says(self):
        path, body, answer = question(self.found)
        served = 0
        for words in commands(self.found):
            with self.subTest(" ".join(words)):
                if words[0] == "serve":
                    with weir([*words, "--listen", "127.0.0.1:0"], {}, self.folder) as (_, port):
                        self.assertEqual(ask(port, path, body)[::2], (200, answer))
                    served += 1
                else:
                    done = subprocess.run([WEIR, *words], cwd=self.folder, env=clean_environment() | HERE, capture_output=True, text=True)
                    self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual((served, len(commands(self.found))), (2, 6))

    def test_what_an_environment_changes_is_seen_by_origin(self):
        [words] = [words for words in commands(self.found) if "--origin" in words]
        done = subprocess.run([WEIR, *words], cwd=self.folder, env=clean_environment(), capture_output=True, text=True, check=True)
        self.assertRegex(done.stdout, r'server\.listen +"0\.0\.0\.0:8000" +prod\.toml:3')


if __name__ == "__main__":
    unittest.main()
