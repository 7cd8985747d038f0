// Checks custom resources by the schemas of their CRDs. Reads a JSON list of objects from standard
// input; writes a JSON list of [index, problem].
import { readFileSync } from "node:fs";

// API group → [package, what its schemas' names begin with].
const groups = {
  "networking.istio.io": ["istio", "NetworkingIstioIo"],
  "security.istio.io": ["istio", "SecurityIstioIo"],
  "gateway.networking.k8s.io": ["gateway-api", "IoK8sSigsGatewayApiApis"],
  "keda.sh": ["keda", "ComGithubKedacoreKedaV2ApisKeda"],
  "monitoring.coreos.com": ["prometheus-operator", "ComGithubPrometheusOperatorPrometheusOperatorPkgApisMonitoring"],
};

async function schema({ apiVersion, kind }) {
  const [group, version] = apiVersion.split("/");
  if (!groups[group]) throw new Error(`no schema for the group ${group}`);
  const [name, prefix] = groups[group];
  return import(`./node_modules/@kubernetes-models/${name}/_schemas/${prefix}${version[0].toUpperCase()}${version.slice(1)}${kind}.js`);
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
