// Virtual users that ask one sentence after the other: most of them one of a few that everybody
// asks, the others new each time. Prints one JSON line at the end.
import http from "k6/http";
import exec from "k6/execution";
import { Counter } from "k6/metrics";

const known = JSON.parse(open(__ENV.BODIES));
const share = Number(__ENV.SHARE);
const url = __ENV.URL;
const parameters = { headers: { "content-type": "application/json" }, timeout: "60s" };
const verdicts = { hit: new Counter("hit"), miss: new Counter("miss"), none: new Counter("none") };
const wrong = new Counter("wrong");

export const options = {
  vus: Number(__ENV.VUS),
  duration: __ENV.SECONDS + "s",
  discardResponseBodies: true,
  summaryTrendStats: ["p(50)", "p(99)"],
};

export default function () {
  const text = Math.random() < share
    ? known[Math.floor(Math.random() * known.length)]
    // Of the same length as the known ones, and asked by nobody else.
    : `${known[exec.scenario.iterationInTest % known.length]} ${exec.vu.idInTest} ${exec.scenario.iterationInTest}`;
  const answer = http.post(url, JSON.stringify({ text: [text] }), parameters);
  if (answer.status !== 200) {
    wrong.add(1);
    return;
  }
  (verdicts[answer.headers["X-Cache"]] || verdicts.none).add(1);
}

export function handleSummary(data) {
  const count = (name) => (data.metrics[name] ? data.metrics[name].values.count : 0);
  const duration = data.metrics.http_req_duration.values;
  const result = {
    requests: count("http_reqs"),
    per_s: data.metrics.http_reqs.values.rate,
    p50_ms: duration["p(50)"],
    p99_ms: duration["p(99)"],
    hit: count("hit"),
    miss: count("miss"),
    uncached: count("none"),
    wrong: count("wrong"),
  };
  return { stdout: `RESULT ${JSON.stringify(result)}\n` };
}
