// What all scripts share: bodies, one way to ask, and what counts as a right answer.
//
// Environment (docs/guide/load-testing.md):
//   URL      the server, http://127.0.0.1:8000
//   MODEL    housing
//   SAMPLES  rows with golden predictions, the model's samples.jsonl; default: those of the demo model
//   REPEAT   the share of requests that repeat one of KNOWN rows (0.95, 200); the others are new each time
//   DEADLINE seconds, sent along as Request-Timeout; none
import http from "k6/http";
import exec from "k6/execution";
import { SharedArray } from "k6/data";
import { Counter, Rate, Trend } from "k6/metrics";

export const url = __ENV.URL || "http://127.0.0.1:8000";
export const model = __ENV.MODEL || "housing";
export const predict = `${url}/v1/models/${model}:predict?outputs=prediction`;
const repeat = number("REPEAT", 0.95);
const file = __ENV.SAMPLES || import.meta.resolve("../../../examples/models/housing/samples.jsonl");

// One copy for all virtual users.
export const samples = new SharedArray("samples", () =>
  open(file).split("\n").filter((line) => line).slice(0, number("KNOWN", 200)).map((line) => JSON.parse(line)));

// Every answer is one of three: right, refused as overload is to be refused, or wrong.
export const right = new Rate("right");
export const wrong = new Counter("wrong");
export const refused = new Counter("refused");
export const refusedDuration = new Trend("refused_duration", true);
export const hits = new Rate("cache_hits");

/** A number from the environment. What is no number is a mistake, not the default. */
export function number(name, otherwise) {
  if (__ENV[name] === undefined) return otherwise;
  const value = Number(__ENV[name]);
  if (__ENV[name] === "" || Number.isNaN(value)) throw new Error(`${name} is "${__ENV[name]}", not a number`);
  return value;
}

/** A row: one that everybody asks, with its golden prediction, or one that nobody asked before. */
export function row() {
  const sample = samples[Math.floor(Math.random() * samples.length)];
  return Math.random() < repeat ? sample : { input: fresh(sample.input) };
}

// The same row but for its first text or fractional number.
function fresh(input) {
  const changed = Object.assign({}, input);
  for (const [name, value] of Object.entries(input)) {
    if (typeof value === "string") changed[name] = `${value} ${exec.vu.idInTest} ${exec.vu.iterationInInstance}`;
    // A float32 tells a million apart.
    else if (typeof value === "number" && !Number.isInteger(value)) changed[name] = value * (1 + Math.random());
    else continue;
    break;
  }
  return changed;
}

const parameters = { headers: { "content-type": "application/json" }, timeout: "60s" };
if (__ENV.DEADLINE) parameters.headers["request-timeout"] = String(number("DEADLINE"));

/** Asks once and counts what came. */
export function ask(sample) {
  const answer = http.post(predict, JSON.stringify(sample.input), parameters);
  if ((answer.status === 503 || answer.status === 429) && answer.headers["Retry-After"]) {
    refused.add(1);
    refusedDuration.add(answer.timings.duration);
    return answer;
  }
  const good = isRight(answer, sample);
  right.add(good);
  if (!good) wrong.add(1, { status: String(answer.status) });
  // An answer that says nothing of a cache is no hit: a threshold without samples would pass.
  if (good) hits.add(answer.headers["X-Cache"] === "hit");
  return answer;
}

/** A success with a prediction: the golden one where it is known. */
export function isRight(answer, sample) {
  if (answer.status !== 200) return false;
  const rows = answer.json("predictions");
  if (!rows || rows.length !== 1) return false;
  return sample.prediction === undefined || isNear(rows[0].prediction, sample.prediction, sample.tolerance || 1e-5);
}

function isNear(found, expected, tolerance) {
  if (typeof expected !== "number") return JSON.stringify(shape(found)) === JSON.stringify(shape(expected));
  return Math.abs(found - expected) <= tolerance * Math.max(1, Math.abs(expected));
}

// Of scores that a library orders and rounds, what must be the same: the labels in their order.
function shape(value) {
  if (Array.isArray(value)) return value.map(shape);
  return value && typeof value === "object" ? value.label : value;
}

/** The sum of the samples of one metric of the server. */
export function metric(text, name) {
  const lines = text.split("\n").filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));
  return lines.reduce((sum, line) => sum + Number(line.split(" # ")[0].trim().split(" ").pop()), 0);
}
