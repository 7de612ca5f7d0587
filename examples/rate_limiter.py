"""At most so many requests a second for each caller, counted in Larder.

One key for each caller and second. INCR and EXPIRE go in one transaction: a counter without an end would stay for ever.
Usage: rate_limiter.py [PORT]
"""

import sys
import time

import redis


class RateLimiter:
    def __init__(self, client: redis.Redis, per_second: int) -> None:
        self.client = client
        self.per_second = per_second

    def allows(self, caller: str, now: float) -> bool:
        """True when `caller` may go on at `now` (seconds since 1970)."""
        key = f"rate:{{{caller}}}:{int(now)}"
        count, _ = self.client.pipeline(transaction=True).incr(key).expire(key, 2).execute()
        return count <= self.per_second


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 6379
    limiter = RateLimiter(redis.Redis(port=port), per_second=5)
    now = time.time()
    for caller in ("alice", "bob"):
        answers = [limiter.allows(caller, now) for _ in range(8)]
        print(caller, "".join("+" if allowed else "-" for allowed in answers))
        assert answers == [True] * 5 + [False] * 3, answers
    assert limiter.allows("alice", now + 1), "a second later she may again"


if __name__ == "__main__":
    main()
