// node-redis against a running cluster: node node_redis.mjs PROXY_PORT NODE_PORT
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { exercise } from "./exercise.mjs";

// Installed outside of this folder, so that the working tree stays clean.
const require = createRequire(process.env.LARDER_NODE_MODULES + "/");
const { createClient, createCluster } = require("redis");
const [proxyPort, nodePort] = process.argv.slice(2).map(Number);

for (const RESP of [2, 3]) {
  const proxy = createClient({ url: `redis://127.0.0.1:${proxyPort}`, RESP });
  await proxy.connect();
  await exercise((...words) => proxy.sendCommand(words), `node-redis-proxy-${RESP}`);
  assert.deepEqual(await proxy.multi().set("{node}a", "1").incr("{node}a").exec(), ["OK", 2]);
  await proxy.mSet([["node:a", "1"], ["node:b", "2"], ["node:c", "3"]]);
  assert.deepEqual(await proxy.mGet(["node:c", "node:absent", "node:a"]), ["3", null, "1"]);
  assert.deepEqual({ ...(await proxy.hGetAll(`node-redis-proxy-${RESP}:hash`)) }, { a: "1", b: "2" });
  await proxy.close();

  for (const port of [nodePort, proxyPort]) {
    const cluster = createCluster({ rootNodes: [{ url: `redis://127.0.0.1:${port}` }], defaults: { RESP } });
    await cluster.connect();
    const call = (...words) => cluster.sendCommand(words[1], false, words);
    await exercise(call, `node-redis-cluster-${port}-${RESP}`);
    assert.equal(await cluster.set("node:own", "1"), "OK");
    assert.equal(await cluster.get("node:own"), "1");
    await cluster.close();
  }
}
console.log("node-redis is served");
