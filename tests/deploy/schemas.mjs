// Checks custom resources by the schemas of their CRDs. Reads a JSON list of objects from standard
// input; writes a JSON list of [index, problem].
import { readFileSync } from "node:fs";

const packages = [
  ["networking.istio.io", "istio"],
  ["security.istio.io", "istio"],
  ["gateway.networking.k8s.io", "gateway-api"],
  ["keda.sh", "keda"],
  ["monitoring.coreos.com", "prometheus-operator"],
];

const capitals = (text) => text.split(/[.-]/).map((word) => word[0].toUpperCase() + word.slice(1)).join("");

async function schema({ apiVersion, kind }) {
  const [group, version] = apiVersion.split("/");
  const found = packages.find(([name]) => name === group);
  if (!found) throw new Error(`no schema package for the group ${group}`);
  return import(`@kubernetes-models/${found[1]}/_schemas/${capitals(group)}${capitals(version)}${kind}.js`);
}

const problems = [];
for (const [index, object] of JSON.parse(readFileSync(0, "utf8")).entries()) {
  try {
    const { validate } = await schema(object);
    if (!validate(object))
      for (const error of validate.errors)
        problems.push([index, `${error.instancePath || "/"}: ${error.keyword} ${JSON.stringify(error.params)}`]);
  } catch (error) {
    problems.push([index, error.message.split("\n")[0]]);
  }
}
process.stdout.write(JSON.stringify(problems));
