// Beyond what fits: the rate climbs to PEAK, stays, and falls back. Too much may be refused, in one way only: at
// once, 503 or 429, with Retry-After. Whatever is answered is right, and afterwards all is as before.
//   RATE=50 PEAK=2000 DEADLINE=1 k6 run bench/k6/stress.js
//
// RATE (20) before and after, PEAK (1000), STEP the length of each of five stages (30s), VUS at most (1000);
// REFUSED_P99_MS (50) is how fast a refusal is.
import exec from "k6/execution";
import { ask, number, row } from "./lib/weir.js";

const [rate, peak, step] = [number("RATE", 20), number("PEAK", 1000), __ENV.STEP || "30s"];
const vus = number("VUS", 1000);
const stages = [[rate, step], [peak, step], [peak, step], [rate, "1s"], [rate, step]];

export const options = {
  scenarios: {
    stress: {
      executor: "ramping-arrival-rate",
      startRate: rate,
      timeUnit: "1s",
      preAllocatedVUs: Math.min(100, vus),
      maxVUs: vus,
      stages: stages.map(([target, duration]) => ({ target, duration })),
    },
  },
  thresholds: {
    // A deadline that passes under way is 504, neither right nor refused: one in a hundred at most.
    right: ["rate>=0.99"],
    // It is a stress only where something had to be refused.
    refused: ["count>0"],
    refused_duration: [`p(99)<${number("REFUSED_P99_MS", 50)}`],
    "right{part:after}": ["rate==1"],
    "refused{part:after}": ["count==0"],
  },
};

// Behind the peak the queue has a second and half a stage to empty.
const last = 0.5 / (stages.length - 1);

export default function () {
  exec.vu.metrics.tags.part = exec.scenario.progress > 1 - last ? "after" : "before";
  ask(row());
}
