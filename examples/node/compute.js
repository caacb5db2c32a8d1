// Calls a service through the balancer with grpc-js alone: `node compute.js [COUNT]`.
//
// Nothing here is ours but the target. GRPC_XDS_BOOTSTRAP names the file that `lbctl xds-bootstrap --out FILE` has written. The
// messages are those of lb-worker; of your own service, take the code that you have.
"use strict";

const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");
require("@grpc/grpc-js-xds").register();

const protos = path.join(__dirname, "../../proto");
const definition = loader.loadSync("lb/v1/compute.proto", { includeDirs: [protos], keepCase: true });
const { Compute } = grpc.loadPackageDefinition(definition).lb.v1;

const client = new Compute("xds:///lb.v1.Compute", grpc.credentials.createInsecure());
const run = (task) =>
  new Promise((resolve, reject) => {
    const deadline = Date.now() + 10_000;
    client.Run(task, { deadline }, (error, result) => (error ? reject(error) : resolve(result)));
  });

async function main(count) {
  const answered = {};
  for (let call = 0; call < count; call++) {
    const result = await run({ sum: { n: 100 } });
    if (Number(result.number) !== 5050) throw new Error(`the sum is ${result.number}`);
    answered[result.worker_id] = (answered[result.worker_id] ?? 0) + 1;
  }
  for (const worker of Object.keys(answered).sort()) console.log(worker, answered[worker]);
}

// A program that ends by itself must say so: the stream from the balancer stays open.
main(Number(process.argv[2] ?? 100)).then(() => process.exit(0));
