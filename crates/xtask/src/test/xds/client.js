// The same as client.py, with grpc-js as it comes.
"use strict";

const readline = require("node:readline");
const grpc = require("@grpc/grpc-js");
require("@grpc/grpc-js-xds").register();

const CALLERS = 8;
// Task { sleep { duration_us: 25000 } }, as in client.py.
const SLEEP_25_MS = Buffer.from([0x0a, 0x04, 0x08, 0xa8, 0xc3, 0x01]);
const RUN = "/lb.v1.Compute/Run";

function varint(data, place) {
  let value = 0;
  for (let factor = 1; ; factor *= 128) {
    const byte = data[place++];
    value += (byte & 127) * factor;
    if (byte < 128) return [value, place];
  }
}

// TaskResult.worker_id, field 15.
function worker(answer) {
  for (let place = 0; place < answer.length; ) {
    let key, size;
    [key, place] = varint(answer, place);
    [size, place] = varint(answer, place);
    if ((key & 7) !== 2) continue;
    if (key >> 3 === 15) return answer.subarray(place, place + size).toString();
    place += size;
  }
  return "?";
}

const fresh = () => ({ answered: {}, failed: {}, begun: {}, longest: 0 });
let counts = fresh();

// Seconds, by the clock of client.py.
const now = () => Number(process.hrtime.bigint()) / 1e9;
const raw = (bytes) => bytes;
const deadline = (seconds) => ({ deadline: Date.now() + seconds * 1000 });

function call(client) {
  const begun = now();
  client.makeUnaryRequest(RUN, raw, raw, SLEEP_25_MS, new grpc.Metadata(), deadline(10), (error, answer) => {
    counts.longest = Math.max(counts.longest, now() - begun);
    if (error) {
      const what = `${grpc.status[error.code]}: ${String(error.details).slice(0, 150)}`;
      counts.failed[what] = (counts.failed[what] ?? 0) + 1;
      setTimeout(call, 10, client);
    } else {
      const who = worker(answer);
      counts.answered[who] = (counts.answered[who] ?? 0) + 1;
      counts.begun[who] = Math.max(begun, counts.begun[who] ?? 0);
      setImmediate(call, client);
    }
  });
}

function unknown(name) {
  const begun = now();
  const client = new grpc.Client(`xds:///${name}`, grpc.credentials.createInsecure());
  client.makeUnaryRequest(`/${name}/Any`, raw, raw, Buffer.alloc(0), new grpc.Metadata(), deadline(20), (error) => {
    const how = error ? grpc.status[error.code] : "OK";
    console.log(JSON.stringify({ seconds: now() - begun, how }));
    client.close();
  });
}

const client = new grpc.Client("xds:///lb.v1.Compute", grpc.credentials.createInsecure());
const commands = readline.createInterface({ input: process.stdin });
commands.on("line", (line) => {
  const [command, ...words] = line.split(" ");
  if (command === "unknown") return unknown(...words);
  if (command === "go") for (let caller = 0; caller < CALLERS; caller++) call(client);
  console.log(JSON.stringify(counts));
  counts = fresh();
});
commands.on("close", () => process.exit(0));
