"""A page cache: what is there comes with one MGET, only what is missing is made, and kept for a while.

The keys lie on all shards; the proxy splits the MGET by node and gathers the answers in order.
Usage: cache_aside.py [PORT]
"""

import json
import sys

import redis

KEEP_SECONDS = 60


def render(page: int) -> dict:
    """Stands for slow work: a database query, a template."""
    return {"page": page, "title": f"Page {page}"}


def pages(client: redis.Redis, wanted: list[int]) -> tuple[list[dict], int]:
    """The wanted pages, and how many of them had to be made."""
    keys = [f"page:{page}" for page in wanted]
    found = [json.loads(text) if text else None for text in client.mget(keys)]
    keep = client.pipeline(transaction=False)
    made = 0
    for index, page in enumerate(wanted):
        if found[index] is None:
            found[index] = render(page)
            keep.set(keys[index], json.dumps(found[index]), ex=KEEP_SECONDS)
            made += 1
    keep.execute()
    return found, made


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 6379
    client = redis.Redis(port=port, protocol=3)
    client.delete(*(f"page:{page}" for page in range(150)))
    for wanted, expected in ((range(100), 100), (range(50, 150), 50), (range(150), 0)):
        found, made = pages(client, list(wanted))
        print(f"{len(found)} pages, {made} made")
        assert made == expected and [page["page"] for page in found] == list(wanted)
    assert 0 < client.ttl("page:7") <= KEEP_SECONDS


if __name__ == "__main__":
    main()
