// The load of every day: a steady rate, 95 of 100 requests among the rows that everybody asks.
//   RATE=500 DURATION=5m P99_MS=50 HITS=0.9 k6 run bench/k6/load.js
//
// RATE requests a second (100), DURATION (1m), VUS at most (200); P99_MS (200) is the objective, HITS the least
// share of answers from the cache (unset: not required, a model without a cache has none).
import { ask, number, row } from "./lib/weir.js";

export const options = {
  discardResponseBodies: false,
  scenarios: {
    load: {
      // Open loop: requests are sent when they are due, whatever the server does.
      executor: "constant-arrival-rate",
      rate: number("RATE", 100),
      timeUnit: "1s",
      duration: __ENV.DURATION || "1m",
      preAllocatedVUs: Math.min(20, number("VUS", 200)),
      maxVUs: number("VUS", 200),
    },
  },
  thresholds: {
    right: ["rate==1"],
    wrong: ["count==0"],
    refused: ["count==0"],
    // Not sent, because all virtual users were waiting: they are requests that were not answered in time.
    dropped_iterations: ["count==0"],
    http_req_duration: [`p(99)<${number("P99_MS", 200)}`],
  },
};
if (__ENV.HITS !== undefined) options.thresholds.cache_hits = [`rate>=${number("HITS")}`];

export default function () {
  ask(row());
}
