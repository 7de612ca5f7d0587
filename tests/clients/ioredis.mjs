// ioredis against a running cluster: node ioredis.mjs PROXY_PORT NODE_PORT
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { exercise } from "./exercise.mjs";

// Installed outside of this folder, so that the working tree stays clean.
const require = createRequire(process.env.LARDER_NODE_MODULES + "/");
const { Redis, Cluster } = require("ioredis");
const [proxyPort, nodePort] = process.argv.slice(2).map(Number);

const proxy = new Redis(proxyPort, "127.0.0.1");
await exercise((...words) => proxy.call(...words), "ioredis-proxy");
const pipeline = proxy.pipeline();
for (let number = 0; number < 100; number++) pipeline.set(`ioredis:p${number}`, number);
for (const [error, reply] of await pipeline.exec()) assert.deepEqual([error, reply], [null, "OK"]);
assert.deepEqual(await proxy.mget("ioredis:p1", "ioredis:absent", "ioredis:p99"), ["1", null, "99"]);
assert.deepEqual(
  await proxy.multi().set("{io}a", "1").incr("{io}a").exec(),
  [[null, "OK"], [null, 2]],
);
await proxy.quit();

for (const port of [nodePort, proxyPort]) {
  const cluster = new Cluster([{ host: "127.0.0.1", port }]);
  await exercise((...words) => cluster.call(...words), `ioredis-cluster-${port}`);
  assert.equal(await cluster.set("ioredis:own", "1"), "OK");
  assert.equal(await cluster.get("ioredis:own"), "1");
  await cluster.quit();
}
console.log("ioredis is served");
