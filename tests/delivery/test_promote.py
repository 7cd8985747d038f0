"""scripts/promote.py, on the overlays that are there."""

import io
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from contextlib import redirect_stdout
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
import promote  # noqa: E402

DIGEST = "sha256:" + "0123456789abcdef" * 4
IMAGE = f"registry.example.com/team/weir-housing@{DIGEST}"
FILES = sorted(p.relative_to(ROOT) for p in (ROOT / "deploy/k8s").glob("*/*/kustomization.yaml")
               if re.search(r"^images:", p.read_text(), re.MULTILINE))
# Where the tests of the manifests unpack it.
KUBECTL = ROOT / ".cache/venvs/deploy/bin/kubectl"


def names(text):
    return re.findall(r"^  - name: (\S+)\n    newName", text, re.MULTILINE)


class Promote(unittest.TestCase):
    def test_each_overlay_takes_a_digest_and_changes_nothing_else(self):
        self.assertGreaterEqual(len(FILES), 3)
        for file in FILES:
            text = (ROOT / file).read_text()
            self.assertTrue(names(text), file)
            for name in names(text):
                after = promote.promote(text, name, IMAGE)
                gone = [line for line in text.splitlines() if line not in after.splitlines()]
                come = [line for line in after.splitlines() if line not in text.splitlines()]
                self.assertEqual(come, ["    newName: registry.example.com/team/weir-housing", f"    digest: {DIGEST}"])
                self.assertEqual([line.split(":")[0].strip() for line in gone], ["newName", "newTag"], file)
                self.assertEqual(promote.promote(after, name, IMAGE), after, "a second time changes nothing")

    def test_comments_order_and_neighbours_stay(self):
        text = ("images: # who runs what\n  # first\n  - name: a\n    newName: r/a\n    newTag: '1'\n\n  # second\n"
                "  - name: b\n    newTag: 2\npatches: []\n")
        after = promote.promote(text, "b", IMAGE)
        self.assertEqual(after, text.replace("    newTag: 2\n", f"    newName: {IMAGE.split('@')[0]}\n    digest: {DIGEST}\n"))
        self.assertTrue(promote.promote(text, "a", IMAGE).endswith("\n\n  # second\n  - name: b\n    newTag: 2\npatches: []\n"))

    def test_a_list_at_the_margin_is_read_too(self):
        text = "images:\n- name: weir\n  newTag: 1\nresources: []\n"
        after = promote.promote(text, "weir", IMAGE)
        self.assertEqual(after, f"images:\n- name: weir\n  newName: {IMAGE.split('@')[0]}\n  digest: {DIGEST}\nresources: []\n")

    def test_what_could_be_moved_or_is_not_there_is_refused(self):
        text = (ROOT / FILES[0]).read_text()
        for image in ("weir:1.2", "weir", f"weir@{DIGEST[:-1]}", f"weir@{DIGEST.upper()}", f"we ir@{DIGEST}", f"-x@{DIGEST}"):
            with self.assertRaisesRegex(promote.Refused, "a tag alone can be moved"):
                promote.promote(text, "weir", image)
        with self.assertRaisesRegex(promote.Refused, "there are: weir"):
            promote.promote(text, "weird", IMAGE)
        with self.assertRaisesRegex(promote.Refused, "2 entries"):
            promote.promote("images:\n- name: a\n- name: a\n", "a", IMAGE)
        with self.assertRaisesRegex(promote.Refused, "0 lists"):
            promote.promote("resources: []\n", "a", IMAGE)

    def test_the_command_writes_the_file_and_a_refusal_does_not(self):
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / "kustomization.yaml"
            file.write_text("images:\n  - name: weir\n    newTag: main\n")

            def run(*arguments):
                return subprocess.run([sys.executable, ROOT / "scripts/promote.py", *arguments], text=True, capture_output=True)

            refused = run(place, "weir", "weir:main")
            self.assertEqual((refused.returncode, file.read_text()), (1, "images:\n  - name: weir\n    newTag: main\n"))
            self.assertIn("kustomization.yaml", refused.stderr)
            self.assertEqual(run(place, "weir", IMAGE).returncode, 0)
            self.assertIn(DIGEST, file.read_text())
            self.assertIn("unchanged", run(place, "weir", IMAGE).stdout)
            self.assertEqual(run(place).returncode, 2)

    def test_the_cluster_gets_the_digest(self):
        self.assertTrue(KUBECTL.exists(), f"{KUBECTL} is not there: run `make venvs`")
        with tempfile.TemporaryDirectory() as place:
            shutil.copytree(ROOT / "deploy/k8s", Path(place) / "k8s")
            for where, name, overlay in (("environments/dev", "weir", "dev"), ("overlays/prod", "weir-canary", "prod")):
                with redirect_stdout(io.StringIO()) as told:
                    self.assertEqual(promote.main([f"{place}/k8s/{where}", name, IMAGE]), 0)
                self.assertIn(IMAGE, told.getvalue())
                rendered = subprocess.run([KUBECTL, "kustomize", f"{place}/k8s/overlays/{overlay}"], text=True, capture_output=True)
                self.assertEqual(rendered.returncode, 0, rendered.stderr)
                images = re.findall(r"^\s+image: (\S*weir\S*)$", rendered.stdout, re.MULTILINE)
                self.assertEqual(images.count(IMAGE), 1, images)


if __name__ == "__main__":
    unittest.main()
