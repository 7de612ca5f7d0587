// What applications do, by either of the two JavaScript clients: `call` sends one command's words.
import assert from "node:assert/strict";

export async function exercise(call, name) {
  const key = (suffix) => `${name}:${suffix}`;
  const sets = [];
  for (let number = 0; number < 300; number++) sets.push(call("SET", key(number), `value ${number}`));
  for (const reply of await Promise.all(sets)) assert.equal(reply, "OK");
  const gets = [];
  for (let number = 0; number < 300; number++) gets.push(call("GET", key(number)));
  (await Promise.all(gets)).forEach((reply, number) => assert.equal(reply, `value ${number}`));

  assert.equal(await call("GET", key("absent")), null);
  assert.equal(await call("INCRBY", key("counter"), "5"), 5);
  assert.equal(await call("HSET", key("hash"), "a", "1", "b", "2"), 2);
  assert.equal(await call("HGET", key("hash"), "b"), "2");
  assert.equal(await call("RPUSH", key("list"), "a", "b", "c"), 3);
  assert.deepEqual(await call("LRANGE", key("list"), "0", "-1"), ["a", "b", "c"]);
  assert.equal(await call("SADD", key("set"), "a", "b"), 2);
  assert.equal(await call("ZADD", key("zset"), "1", "a", "2.5", "b"), 2);
  assert.deepEqual(await call("ZRANGE", key("zset"), "0", "-1"), ["a", "b"]);
  await assert.rejects(call("INCR", key("hash")), /WRONGTYPE/);
}
