// Does it work at all: every face of a deployment once, one virtual user, nothing may be wrong.
//   k6 run bench/k6/smoke.js
import http from "k6/http";
import { check } from "k6";
import { ask, isRight, model, number, predict, samples, url } from "./lib/weir.js";

export const options = {
  scenarios: { smoke: { executor: "per-vu-iterations", vus: 1, iterations: number("ITERATIONS", 3), maxDuration: "1m" } },
  thresholds: { checks: ["rate==1"], right: ["rate==1"], wrong: ["count==0"], refused: ["count==0"] },
};

const json = { headers: { "content-type": "application/json" } };

export default function () {
  check(http.get(`${url}/livez`), { "it lives": (r) => r.status === 200 });
  check(http.get(`${url}/readyz`), { "it is ready": (r) => r.status === 200 });
  check(http.get(`${url}/openapi.json`), { "the model has a typed route": (r) => r.body.includes(`/v1/models/${model}:predict`) });
  check(http.get(`${url}/v2/models/${model}`), { "the model tells its tensors": (r) => r.json("inputs").length > 0 });
  check(ask(samples[0]), { "it names the version": (r) => r.headers["X-Weir-Model"].startsWith(`${model}/`) });
  samples.slice(0, 20).forEach(ask);
  const many = http.post(predict, JSON.stringify({ instances: [samples[0].input, samples[0].input] }), json);
  check(many, { "two rows, two answers": (r) => r.status === 200 && r.json("predictions").length === 2 });
  const none = http.post(predict, "{", Object.assign({ responseCallback: http.expectedStatuses(422) }, json));
  check(none, { "no JSON is 422": (r) => r.status === 422 && !isRight(r, samples[0]) });
}
