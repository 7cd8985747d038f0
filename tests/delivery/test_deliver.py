"""scripts/deliver.py on the housing model, with the artefact that is there: each gate lets it through, and stops it.

Training and packing are in the slow lane `make test-delivery`, which runs the whole chain.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
import deliver  # noqa: E402

WEIR = os.environ["WEIR"]
HOUSING = ROOT / "examples/models/housing"
# What any machine keeps, however busy: these tests are about the gate, not about speed.
LENIENT = 'duration = "1s"\nrate = 50\nfail_if = ["p99>30s", "errors>0%", "wrong>0"]\n'


class Deliver(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.folder, self.out = Path(place.name) / "housing", Path(place.name) / "out"
        shutil.copytree(HOUSING, self.folder)
        self.describe(LENIENT)

    def describe(self, check, tolerance=1e-5):
        text = (HOUSING / "delivery.toml").read_text()
        head = text[: text.index("[check]")]
        (self.folder / "delivery.toml").write_text(f"{head}[check]\ntolerance = {tolerance}\n{check}")

    def deliver(self, *options):
        return subprocess.run(
            [sys.executable, ROOT / "scripts/deliver.py", self.folder, "--weir", WEIR, "--out", self.out, "--trained", *options],
            text=True, capture_output=True)

    def test_what_holds_goes_through_and_its_figures_are_written(self):
        done = self.deliver("--stop-after", "latency")
        self.assertEqual(done.returncode, 0, done.stderr)
        figures = json.loads((self.out / "delivery.json").read_text())
        self.assertEqual(figures["parity"]["rows"], 500)
        self.assertLess(figures["parity"]["largest_gap"], 1e-6)
        self.assertEqual(figures["latency"]["count"], 50)
        self.assertEqual(figures["inspect"]["engine"].split()[0], "native")
        text = (self.out / "delivery.md").read_text()
        for word in ("housing/1", figures["inspect"]["digest"], "500 golden rows", "p99"):
            self.assertIn(word, text)
        self.assertEqual(sorted(p.name for p in HOUSING.iterdir()), sorted(p.name for p in self.folder.iterdir()),
                         "training's folder is left as it was")

    def test_an_answer_that_differs_from_training_stops_it(self):
        samples = self.folder / "samples.jsonl"
        rows = [json.loads(line) for line in samples.read_text().splitlines()]
        rows[41]["prediction"] += 0.001
        samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
        done = self.deliver()
        self.assertEqual(done.returncode, 1)
        self.assertIn("parity: FAILED", done.stderr)
        self.assertIn("sample on line 42", done.stderr)
        self.assertFalse((self.out / "delivery.json").exists())

    def test_a_tolerance_that_is_tighter_than_the_samples_is_held_too(self):
        self.describe(LENIENT, tolerance=1e-9)
        done = self.deliver()
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"golden row \d+ is 2\.\d+e-07 away, 1e-09 is allowed")

    def test_no_golden_rows_and_no_model_stop_it(self):
        (self.folder / "samples.jsonl").write_text("")
        self.assertIn("FAILED", self.deliver("--stop-after", "parity").stderr)
        (self.folder / "model.onnx").write_bytes((self.folder / "model.onnx").read_bytes()[:1000])
        done = self.deliver()
        self.assertEqual(done.returncode, 1)
        self.assertIn("inspect: FAILED", done.stderr)

    def test_a_latency_that_is_not_kept_stops_it(self):
        self.describe('duration = "1s"\nrate = 50\nfail_if = ["p99>1us"]\n')
        done = self.deliver()
        self.assertEqual(done.returncode, 1)
        self.assertIn("latency: FAILED", done.stderr)
        self.assertIn("p99>1us", done.stderr)

    def test_gaps_are_of_values_and_shapes(self):
        gap = deliver.gap
        self.assertEqual(gap({"a": [1.0, 2]}, {"a": [1.5, 2.0]}), 0.5)
        self.assertEqual(gap("high", "high"), 0)
        for expected, found in (("high", "low"), ([1], [1, 2]), ({"a": 1}, {"b": 1}), (1.0, math.nan), (1, "1"), (True, 1.5), ([], None)):
            self.assertEqual(gap(expected, found), math.inf, (expected, found))


if __name__ == "__main__":
    unittest.main()
