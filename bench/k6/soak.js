// For hours: does anything grow? A steady load, and the server's own metrics beside it.
//   RATE=200 DURATION=4h k6 run bench/k6/soak.js
//
// RATE (50), DURATION (1h), EVERY seconds the metrics are read (10), WARMUP seconds that are left out of the slope
// (300); SLOPE_MIB_H (1) is how much memory may grow in an hour, FDS (8) how many descriptors; METRICS where they
// are (URL/metrics). Ask one replica, not a proxy: the metrics are one process's.
import http from "k6/http";
import exec from "k6/execution";
import { sleep } from "k6";
import { Counter, Gauge } from "k6/metrics";
import { ask, metric, number, row, url } from "./lib/weir.js";

const every = number("EVERY", 10);
const warmup = number("WARMUP", 300);
const slope = new Gauge("rss_slope_mib_per_h");
const growth = new Gauge("descriptors_grown");
const measured = new Counter("measured");
const duration = __ENV.DURATION || "1h";

export const options = {
  scenarios: {
    load: {
      executor: "constant-arrival-rate",
      rate: number("RATE", 50),
      timeUnit: "1s",
      duration,
      preAllocatedVUs: 20,
      maxVUs: number("VUS", 100),
    },
    watch: { executor: "constant-vus", vus: 1, duration, exec: "watch", gracefulStop: "0s" },
  },
  thresholds: {
    right: ["rate==1"],
    wrong: ["count==0"],
    refused: ["count==0"],
    // A server that was never measured has not passed.
    measured: ["count>=3"],
    rss_slope_mib_per_h: [`value<${number("SLOPE_MIB_H", 1)}`],
    descriptors_grown: [`value<=${number("FDS", 8)}`],
  },
};

export default function () {
  ask(row());
}

// What the one virtual user that watches has seen: [hours, MiB] after the warm-up.
const seen = [];
let descriptors;

export function watch() {
  sleep(every);
  const seconds = exec.instance.currentTestRunDuration / 1000;
  if (seconds < warmup) return;
  const text = http.get(__ENV.METRICS || `${url}/metrics`, { tags: { name: "metrics" } }).body;
  const [rss, fds] = [metric(text, "process_resident_memory_bytes"), metric(text, "process_open_fds")];
  if (!(rss > 0 && fds > 0)) return;
  seen.push([seconds / 3600, rss / (1 << 20)]);
  if (descriptors === undefined) descriptors = fds;
  measured.add(1);
  growth.add(fds - descriptors);
  if (seen.length >= 3) slope.add(leastSquares(seen));
}

function leastSquares(points) {
  const [x, y] = [mean(points, 0), mean(points, 1)];
  const above = points.reduce((sum, p) => sum + (p[0] - x) * (p[1] - y), 0);
  return above / points.reduce((sum, p) => sum + (p[0] - x) ** 2, 0);
}

function mean(points, at) {
  return points.reduce((sum, p) => sum + p[at], 0) / points.length;
}
