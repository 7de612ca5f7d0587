"""redis-py against a running cluster: python redis_py.py PROXY_PORT NODE_PORT"""

import sys

import redis
from redis.cluster import ClusterNode, RedisCluster

PROXY_PORT, NODE_PORT = int(sys.argv[1]), int(sys.argv[2])


def exercise(client, name):
    """What applications do, on keys of its own."""
    key = lambda suffix: f"{name}:{suffix}"
    for number in range(300):
        assert client.set(key(number), f"value {number}")
    for number in range(300):
        assert client.get(key(number)) == f"value {number}", number
    assert client.get(key("absent")) is None
    assert client.set(key(0), "x", nx=True) is None
    assert client.set(key("ttl"), "x", ex=100) and 0 < client.ttl(key("ttl")) <= 100

    assert client.incr(key("counter"), 5) == 5
    assert client.incrbyfloat(key("float"), 0.5) == 0.5

    assert client.hset(key("hash"), mapping={"a": "1", "b": "2"}) == 2
    assert client.hgetall(key("hash")) == {"a": "1", "b": "2"}
    assert client.hmget(key("hash"), "a", "nope") == ["1", None]

    assert client.rpush(key("list"), "a", "b", "c") == 3
    assert client.lrange(key("list"), 0, -1) == ["a", "b", "c"]
    assert client.lpop(key("list")) == "a"

    assert client.sadd(key("set"), "a", "b") == 2
    assert client.smembers(key("set")) == {"a", "b"}
    assert client.sismember(key("set"), "a")

    assert client.zadd(key("zset"), {"a": 1, "b": 2.5}) == 2
    assert [[m, float(s)] for m, s in client.zrange(key("zset"), 0, -1, withscores=True)] == [["a", 1.0], ["b", 2.5]]
    assert client.zscore(key("zset"), "b") == 2.5

    many = {key(f"m{number}"): str(number) for number in range(50)}
    if isinstance(client, RedisCluster):
        client.mset_nonatomic(many)
        assert client.mget_nonatomic(list(many)) == list(many.values())
    else:
        assert client.mset(many)
        assert client.mget(list(many)) == list(many.values())
        assert client.exists(*many) == 50
    assert client.delete(*many) == 50
    assert client.delete(key("hash"), key("list"), key("set")) == 3

    pipe = client.pipeline(transaction=False)
    for number in range(200):
        pipe.set(key(f"p{number}"), number)
    for number in range(200):
        pipe.get(key(f"p{number}"))
    replies = pipe.execute()
    assert replies[:200] == [True] * 200 and replies[200:] == [str(n) for n in range(200)]

    try:
        client.incr(key(1))
        raise AssertionError("INCR of text must fail")
    except redis.ResponseError as error:
        assert "not an integer" in str(error)

    found = set(client.scan_iter(match=f"{name}:p*", count=20))
    assert found == {key(f"p{number}") for number in range(200)}, len(found)


def through_the_proxy(protocol):
    client = redis.Redis(port=PROXY_PORT, protocol=protocol, decode_responses=True)
    name = f"py-proxy-resp{protocol}"
    assert client.ping()
    exercise(client, name)

    # A transaction in one slot, watched.
    tag = f"{{{name}}}"
    with client.pipeline() as pipe:
        pipe.watch(f"{tag}:a")
        pipe.multi()
        pipe.set(f"{tag}:a", "1")
        pipe.incr(f"{tag}:a")
        assert pipe.execute() == [True, 2]
    with client.pipeline() as pipe:
        pipe.watch(f"{tag}:a")
        client.set(f"{tag}:a", "changed")
        pipe.multi()
        pipe.get(f"{tag}:a")
        try:
            pipe.execute()
            raise AssertionError("a watched key that changed must void the transaction")
        except redis.WatchError:
            pass
    assert client.dbsize() > 0
    assert "redis_version" in client.info()
    assert client.client_id() > 0
    assert client.client_setname("larder-test") and client.client_getname() == "larder-test"


def as_a_cluster_client(port, protocol):
    client = RedisCluster(
        startup_nodes=[ClusterNode("127.0.0.1", port)], protocol=protocol, decode_responses=True
    )
    exercise(client, f"py-cluster-{port}-resp{protocol}")


for protocol in (2, 3):
    through_the_proxy(protocol)
    for port in (NODE_PORT, PROXY_PORT):
        as_a_cluster_client(port, protocol)
print("redis-py", redis.__version__, "is served")
