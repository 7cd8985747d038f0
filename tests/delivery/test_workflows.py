"""Rules for .github/workflows beyond what actionlint knows: pins, rights, bounds, and that what they run exists."""

import re
import subprocess
import unittest
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))
PIN = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
# What may write where; everything else reads.
RIGHTS = {
    ("image.yml", "push"): {"packages"},
    ("release.yml", "images"): {"packages", "id-token", "attestations"},
    ("release.yml", "archives"): {"id-token", "attestations"},
    ("release.yml", "publish"): {"contents"},
    ("model.yml", "publish"): {"packages", "id-token"},
    ("model.yml", "promote"): {"contents", "pull-requests"},
}
# What has to be done before what follows it, by the names of steps or of their actions, and of the jobs before.
ORDER = {
    ("image.yml", "build"): ([], ["Build for this machine", "Scan", "Run hardened", "Build for both architectures"]),
    ("image.yml", "push"): (["build"], ["docker/login-action", "Push"]),
    ("release.yml", "test"): ([], ["The tag is the version", ".ci/run"]),
    ("release.yml", "images"): (["test"], ["docker/build-push-action", "Scan", "SBOM", "Sign", "actions/attest-build-provenance"]),
    ("release.yml", "archives"): (["images"], ["cargo xtask release --binary weir-of-the-image", "actions/attest-build-provenance", "actions/upload-artifact"]),
    ("release.yml", "publish"): (["archives"], ["actions/download-artifact", "Publish"]),
    ("model.yml", "check"): ([], ["The binary that will serve it", "Train, check, pack", "actions/upload-artifact"]),
    ("model.yml", "publish"): (["check"], ["actions/download-artifact", "Unpack what was checked", "docker/build-push-action", "It has every model that the routes name", "Sign"]),
    ("model.yml", "promote"): (["publish"], ["Name it in the overlay", "Open the change"]),
}
# Values that whoever opens a change or starts a run chooses: in a script they would be code.
CHOSEN = re.compile(r"\$\{\{[^}]*\b(inputs|github\.(head_ref|event)|needs|steps|vars)\b")


def jobs():
    for file in FILES:
        for name, job in yaml.safe_load(file.read_text())["jobs"].items():
            yield file, name, job


def scripts():
    for file, name, job in jobs():
        for step in job["steps"]:
            if "run" in step:
                yield f"{file.name}, {name}", step["run"]


def targets():
    return set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def xtasks():
    """The names of xtask's commands, as it tells them itself."""
    usage = re.search(r'USAGE: &str = "(.*?)";', (ROOT / "xtask/src/main.rs").read_text(), re.DOTALL)[1]
    return set(re.findall(r"^  ([a-z][\w-]*) ", usage, re.MULTILINE))


def missing(script):
    """Make targets, xtasks and files of the repository that a script names and that are not there."""
    words = script.replace("\\\n", " ")
    found = [f"make {name}" for name in re.findall(r"\bmake ([a-z][\w-]*)", words) if name not in targets()]
    found += [f"cargo xtask {name}" for name in re.findall(r"\bcargo xtask ([a-z][\w-]*)", words) if name not in xtasks()]
    for path in re.findall(r"(?<![\w./$}-])((?:\.ci|scripts|deploy|tests|bench|examples)/[\w./-]+)", words):
        if not (ROOT / path).exists():
            found.append(path)
    return found


def triggers(workflow):
    """What starts a workflow; YAML 1.1 reads the key `on` as true."""
    return workflow[True]


def context():
    """Paths of what Docker is given to build the image of, as a workflow's filter writes them."""
    lines = (ROOT / "deploy/docker/Dockerfile.dockerignore").read_text().splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    assert lines[0] == "*", "the file lists what is let in"
    inside = lambda path: path if (ROOT / path).is_file() or path.endswith(".md") else f"{path}/**"
    # dist/ holds binaries that somebody compiled: git ignores it.
    return {inside(line[1:]) if line[0] == "!" else f"!{inside(line)}" for line in lines[1:]} - {"dist/**"}


class Workflows(unittest.TestCase):
    def test_what_they_run_exists(self):
        named = 0
        for where, script in scripts():
            self.assertEqual(missing(script), [], where)
            named += len(re.findall(r"\bmake |scripts/|\.ci/run|deploy/", script))
        self.assertGreaterEqual(named, 6)

    def test_what_does_not_exist_is_seen(self):
        self.assertEqual(missing("make tset && cargo xtask nothing\nscripts/gone.py deploy/k8s\n.ci/run"),
                         ["make tset", "cargo xtask nothing", "scripts/gone.py"])
        self.assertEqual(missing("sudo -E make test-container BINARY=x; cargo xtask ci"), [])

    def test_every_script_can_be_executed(self):
        for path in {path for _, script in scripts() for path in re.findall(r"^\s*(scripts/\S+|\.ci/\S+)", script, re.MULTILINE)}:
            mode = subprocess.run(["git", "ls-files", "--stage", path], cwd=ROOT, text=True, capture_output=True).stdout
            self.assertTrue(mode.startswith("100755"), f"{path}: {mode or 'not in git'}")

    def test_actions_are_pinned_by_commit_and_say_which_version(self):
        count = 0
        for file in FILES:
            for line in file.read_text().splitlines():
                if "uses:" in line:
                    count += 1
                    self.assertRegex(line.strip().removeprefix("- "), PIN, file.name)
        self.assertGreaterEqual(count, 20)

    def test_one_action_has_one_pin(self):
        pins = {}
        for file in FILES:
            for name, pin in re.findall(r"uses: ([^@\s]+)@(\S+ # \S+)", file.read_text()):
                pins.setdefault(name, set()).add(pin)
        self.assertEqual({name: found for name, found in pins.items() if len(found) > 1}, {})

    def test_rights_are_the_least(self):
        for file in FILES:
            self.assertEqual(yaml.safe_load(file.read_text())["permissions"], {"contents": "read"}, file.name)
        for file, name, job in jobs():
            writes = {right for right, level in job.get("permissions", {}).items() if level == "write"}
            self.assertEqual(writes, RIGHTS.get((file.name, name), set()), f"{file.name}, {name}")

    def test_a_change_that_nobody_merged_writes_nothing(self):
        """Its author wrote what the job runs, so that the job has to be without rights, not the step."""
        held = 0
        for file in FILES:
            workflow = yaml.safe_load(file.read_text())
            self.assertNotIn("pull_request_target", triggers(workflow), file.name)
            for name, job in workflow["jobs"].items() if "pull_request" in triggers(workflow) else ():
                held += 1
                if (file.name, name) in RIGHTS:
                    self.assertEqual(job.get("if"), "github.event_name == 'push'", f"{file.name}, {name}")
        self.assertGreaterEqual(held, 4)

    def test_a_change_of_what_images_are_made_of_builds_them(self):
        paths = triggers(yaml.safe_load((ROOT / ".github/workflows/image.yml").read_text()))["pull_request"]["paths"]
        self.assertEqual(context() - set(paths), set())
        excluded = [at for at, path in enumerate(paths) if path.startswith("!")]
        self.assertGreater(min(excluded), paths.index("crates/**"), "what is left out has to come after what is let in")

    def test_nothing_is_given_away_before_it_was_checked(self):
        found = {(file.name, name): job for file, name, job in jobs()}
        self.assertEqual(set(found) - set(ORDER), {("ci.yml", "test"), ("ci.yml", "advisories")})
        for at, (needs, steps) in ORDER.items():
            needed = found[at].get("needs", [])
            self.assertEqual([needed] if isinstance(needed, str) else needed, needs, at)
            named = [step.get("name") or step.get("uses", "").partition("@")[0] or step["run"] for step in found[at]["steps"]]
            self.assertEqual([name for name in named if name in steps], steps, at)
            # A step that may fail, or is left out now and then, is no gate; the container lane has one image of two.
            for step, name in zip(found[at]["steps"], named):
                self.assertNotIn("continue-on-error", step, at)
                self.assertTrue("if" not in step or name == "Run hardened", f"{at}: {name}")
                if name == "Scan":
                    self.assertEqual(step["with"]["exit-code"], "1", at)

    def test_every_job_is_bounded_and_every_workflow_in_line(self):
        for file in FILES:
            self.assertIn("group", yaml.safe_load(file.read_text())["concurrency"], file.name)
        for file, name, job in jobs():
            self.assertLessEqual(job["timeout-minutes"], 120, f"{file.name}, {name}")

    def test_a_checkout_keeps_no_credentials_but_where_it_pushes(self):
        for file, name, job in jobs():
            for step in job["steps"]:
                if "actions/checkout@" in step.get("uses", "") and (file.name, name) != ("model.yml", "promote"):
                    self.assertIs(step.get("with", {}).get("persist-credentials"), False, f"{file.name}, {name}")

    def test_images_have_names_in_lower_case(self):
        for file in FILES:
            self.assertNotIn("ghcr.io/${{", file.read_text(), file.name)

    def test_what_is_pinned_gets_newer(self):
        tracked = subprocess.run(["git", "ls-files", "*requirements*.txt", "*package.json"], cwd=ROOT, text=True, capture_output=True, check=True).stdout.split()
        wanted = {("npm" if path.endswith("json") else "pip", "/" + str(Path(path).parent)) for path in tracked if not path.startswith("crates/")}
        wanted |= {("docker", "/deploy/docker"), ("docker-compose", "/deploy/docker"), ("cargo", "/"), ("github-actions", "/")}
        said = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())["updates"]
        self.assertEqual({(one["package-ecosystem"], at) for one in said for at in one.get("directories", [one.get("directory")])}, wanted)

    def test_no_script_is_made_of_what_somebody_else_chooses(self):
        for where, script in scripts():
            self.assertNotRegex(script, CHOSEN, where)


if __name__ == "__main__":
    unittest.main()
