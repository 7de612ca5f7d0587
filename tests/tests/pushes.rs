//! What clients get unasked, compared with a real redis-server: messages, invalidations, commands shown by MONITOR.
//!
//! Each script is played to both servers; everybody must get the same.

use larder_tests::RedisServer;
use larder_tests::standalone::Standalone;
use larder_tests::talk::replay;

fn compare(script: &str) {
    let redis = RedisServer::start();
    let node = Standalone::start();
    let (theirs, ours) = (replay(redis.addr(), script), replay(node.addr(), script));
    let differs = theirs
        .iter()
        .zip(&ours)
        .position(|(theirs, ours)| theirs != ours)
        .unwrap_or(theirs.len().min(ours.len()));
    let tail = |lines: &[String]| lines[differs.saturating_sub(6)..].join("\n");
    assert!(
        theirs == ours,
        "redis:\n{}\n\nlarder:\n{}",
        tail(&theirs),
        tail(&ours)
    );
    assert!(theirs.len() > script.lines().count() / 2);
}

#[test]
fn messages_reach_subscribers_of_channels_and_patterns() {
    compare(
        "
        a: SUBSCRIBE one two one
        a: GET x; CONFIG GET maxmemory; PING; PING hi
        b: HELLO 3; PSUBSCRIBE o* x; SUBSCRIBE one
        c: PUBLISH one hello; PUBLISH two hello; PUBLISH three hello; PUBLISH
        c: PUBSUB CHANNELS t*; PUBSUB NUMSUB one two three; PUBSUB NUMPAT; PUBSUB NUMSUB
        c: PUBSUB CHANNELS a b; PUBSUB NONE; PUBSUB; PUBSUB NUMPAT x; PUBSUB HELP
        b: GET x; PUNSUBSCRIBE x y; PING; UNSUBSCRIBE; UNSUBSCRIBE; PUNSUBSCRIBE
        a: UNSUBSCRIBE two nowhere; UNSUBSCRIBE; GET x; UNSUBSCRIBE; PUNSUBSCRIBE; SUNSUBSCRIBE
        c: PUBLISH one hello
        a: PSUBSCRIBE c b a; PUNSUBSCRIBE
        a: PSUBSCRIBE [a-c]x h?llo h\\*; PUBLISH x y
        c: PUBLISH bx 1; PUBLISH hello 2; PUBLISH h* 3; PUBLISH hxx 4
        a!
        c: PUBSUB NUMPAT; PUBLISH bx 1
        ",
    );
}

#[test]
fn shard_channels_are_apart_from_others() {
    compare(
        "
        a: SSUBSCRIBE one; SSUBSCRIBE two; SUBSCRIBE one
        b: HELLO 3; SSUBSCRIBE one
        c: SPUBLISH one hello; PUBLISH one hello; SPUBLISH three x
        c: PUBSUB SHARDNUMSUB one two three; PUBSUB SHARDCHANNELS t*; PUBSUB CHANNELS; PUBSUB SHARDCHANNELS a b
        a: SUNSUBSCRIBE one; PING; UNSUBSCRIBE; GET x; SUNSUBSCRIBE; GET x; SUNSUBSCRIBE
        c: SPUBLISH one hello; SPUBLISH two hello
        b!
        c: SPUBLISH one hello; PUBSUB SHARDCHANNELS
        ",
    );
}

#[test]
fn transactions_and_reset_know_of_subscriptions() {
    compare(
        "
        a: MULTI; SUBSCRIBE one two; PSUBSCRIBE p*; GET x; EXEC
        c: PUBLISH one hello; PUBLISH pp hello
        a: GET x; RESET; GET x
        c: PUBLISH one hello; PUBSUB CHANNELS
        b: HELLO 3; MULTI; SUBSCRIBE one; SET x 1; UNSUBSCRIBE one; EXEC
        b: SUBSCRIBE one; RESET; PING
        c: PUBLISH one hello
        c: MULTI; SSUBSCRIBE one; MONITOR; EXEC
        ",
    );
}

#[test]
fn events_of_keys_are_told_by_class() {
    compare(
        "
        c: CONFIG SET notify-keyspace-events KEA
        a: PSUBSCRIBE __key*
        c: SET s 1; SETEX s 100 1; APPEND s x; DEL s; INCR s; DECRBY s 3; INCRBYFLOAT s 1; GETDEL s; GETEX s
        c: SET s 1 EX 100 GET; SETNX s 1; SETNX t 1; MSET s 1 t 2; GETSET s 3; SETRANGE s 2 x; GETEX s EX 10; GETEX s PERSIST; GETEX s PXAT 1
        c: SETBIT s 3 1; SETBIT s 3 1; BITFIELD s SET u8 0 3; BITOP AND d s t; BITOP AND d none; PFADD h a; PFADD h a; PFMERGE i h
        c: LPUSH l a b c; RPUSH l d; LPUSHX l x; LPUSHX none x; LINSERT l BEFORE a y; LSET l 0 z; LTRIM l 0 3; LREM l 1 z; LPOP l; RPOP l 9
        c: RPUSH l a b; LMOVE l m LEFT RIGHT; RPOPLPUSH l m; RPOPLPUSH l m; LMPOP 1 m LEFT COUNT 9
        c: SADD s2 a b c; SREM s2 a x; SMOVE s2 s3 b; SPOP s3; SMOVE s2 s3 c; SPOP s3 9; SADD s2 a b; SADD s3 b; SINTERSTORE d s2 s3; SINTERSTORE d s2 none; SUNIONSTORE d s2 s3; SDIFFSTORE d s3 s2
        c: ZADD z 1 a 2 b 3 c; ZADD z 1 a; ZINCRBY z 1 a; ZADD z INCR 3 a; ZREM z a none; ZPOPMIN z; ZPOPMAX z; ZADD z 1 a 2 b 3 c 4 d; ZREMRANGEBYRANK z 0 0; ZREMRANGEBYSCORE z 2 2; ZREMRANGEBYLEX z [c [c; ZRANGESTORE y z 0 -1; ZUNIONSTORE y 1 z; ZINTERSTORE y 1 none; ZDIFFSTORE y 1 z; ZMPOP 1 z MAX
        c: GEOADD g 1 2 a; GEOSEARCHSTORE y g FROMLONLAT 1 2 BYRADIUS 1 km ASC; GEORADIUS g 1 2 1 km STORE y; GEORADIUS none 1 2 1 km STORE y
        c: HSET k a 1 b 2; HSETNX k a 1; HSETNX k c 1; HINCRBY k a 1; HINCRBYFLOAT k a 1; HDEL k a b c; HMSET k a 1
        c: XADD x 1-1 a b; XADD x MAXLEN 1 2-1 a b; XTRIM x MAXLEN 0; XDEL x 2-1; XADD x 3-1 a b; XDEL x 3-1; XSETID x 9-9; XGROUP CREATE x g $; XGROUP CREATE w g $ MKSTREAM; XGROUP SETID x g 0; XGROUP CREATECONSUMER x g c; XGROUP CREATECONSUMER x g c; XGROUP DELCONSUMER x g c; XGROUP DELCONSUMER x g c
        c: XADD x 10-1 a b; XREADGROUP GROUP g me STREAMS x >; XCLAIM x g you 0 10-1; XAUTOCLAIM x g they 0 0; XACK x g 10-1; XGROUP DESTROY x g
        c: RENAME k r; RENAMENX r k; COPY k r; COPY k r REPLACE; EXPIRE k 100; PERSIST k; EXPIRE k -1; RPUSH n 3 1 2; SORT n STORE o; SORT none STORE o
        c: MOVE n 1; SELECT 1; DEL n; UNLINK n; FLUSHALL
        c: SELECT 0; CONFIG SET notify-keyspace-events KEnm
        c: SET a 1; SET a 2; GET none; MGET a none; EXISTS none; TTL none; TYPE none; RENAME a b; COPY b c; COPY b c REPLACE; LPUSH l a; SUNIONSTORE d none; BITOP NOT n b; BITOP NOT n b; OBJECT ENCODING none; HGET none a; SISMEMBER none a; LLEN none; ZSCORE none a
        c: CONFIG SET notify-keyspace-events Kl; LPUSH l a; SET a 1
        c: CONFIG SET notify-keyspace-events El; LPUSH l a; SET a 1
        c: CONFIG SET notify-keyspace-events l; LPUSH l a; CONFIG GET notify-keyspace-events
        c: CONFIG SET notify-keyspace-events KEA; CONFIG GET notify-keyspace-events; CONFIG SET notify-keyspace-events q
        c: MULTI; SET a 1; DEL a; EXEC
        ",
    );
}

#[test]
fn tracking_clients_are_told_what_is_invalid() {
    compare(
        "
        a: HELLO 3; CLIENT TRACKING on; CLIENT TRACKINGINFO
        b: MSET x 1 y 1 z 1
        a: GET x; MGET y z; GET none
        b: SET x 2; SET x 3; DEL y; SET none 1; DEL gone
        a: GET x; SET x 4; GET x
        a: MULTI; GET x; SET x 5; GET z; EXEC
        b: MULTI; SET x 1; SET z 1; EXEC
        a: GET x; LRANGE l 0 -1; HGET h f
        b: LPUSH l a; HSET h f v; RENAME x w
        a: GET w; STRLEN z; TTL z; OBJECT ENCODING z; SINTER s1 s2
        b: EXPIRE z 100; SADD s1 a; SUNIONSTORE s2 s1
        a: GET w; GET z
        b: FLUSHALL
        a: GET w; CLIENT TRACKING off; CLIENT TRACKINGINFO; CLIENT GETREDIR
        b: SET w 1
        a: CLIENT TRACKING on NOLOOP; GET w; SET w 2; GET w
        b: SET w 3
        a: CLIENT TRACKING off; CLIENT TRACKING on OPTIN; GET w; CLIENT CACHING yes; CLIENT TRACKINGINFO; GET z; CLIENT TRACKINGINFO
        b: SET w 4; SET z 4
        a: CLIENT CACHING yes; MULTI; GET w; GET z; EXEC; GET v
        b: SET w 4; SET z 4; SET v 4
        a: CLIENT CACHING no; CLIENT TRACKING on OPTOUT; CLIENT TRACKING off; CLIENT TRACKING on OPTOUT; GET w; CLIENT CACHING no; GET z; CLIENT CACHING yes
        b: SET w 4; SET z 4
        a: RESET; CLIENT TRACKINGINFO
        ",
    );
}

#[test]
fn prefixes_are_told_of_all_changes() {
    compare(
        "
        a: HELLO 3; CLIENT TRACKING on BCAST PREFIX a: PREFIX b:; CLIENT TRACKINGINFO
        b: SET a:1 1; SET c:1 1; MSET a:3 1 b:1 1 a:2 1
        b: MULTI; SET a:1 1; SET b:1 1; EXEC
        a: GET c:1; SET a:1 2
        a: CLIENT TRACKING on BCAST PREFIX c:; CLIENT TRACKING on BCAST PREFIX c:1; CLIENT TRACKING on BCAST PREFIX x PREFIX xy
        b: SET c:2 1; FLUSHALL
        a: CLIENT TRACKING on; CLIENT TRACKING on PREFIX x; CLIENT TRACKING on BCAST OPTIN; CLIENT TRACKING off
        b: SET a:1 1
        a: CLIENT TRACKING on BCAST NOLOOP; SET k 1
        b: SET k 2
        a: CLIENT TRACKING on OPTIN OPTOUT; CLIENT TRACKING maybe; CLIENT TRACKING on WORD; CLIENT TRACKING on PREFIX; CLIENT CACHING yes; CLIENT CACHING maybe
        a: CLIENT TRACKING on REDIRECT 99999; CLIENT TRACKING on REDIRECT x
        b: CLIENT CACHING yes; CLIENT TRACKING; CLIENT CACHING
        ",
    );
}

#[test]
fn another_client_is_told_in_place_of_one_that_redirects() {
    compare(
        "
        r: SUBSCRIBE __redis__:invalidate
        s: HELLO 3
        a?: CLIENT TRACKING on REDIRECT {r}; CLIENT GETREDIR; CLIENT TRACKINGINFO
        b: HELLO 3; CLIENT TRACKING on REDIRECT {s}
        c: MSET x 1 y 1
        a: GET x; GET y
        b: GET x; GET y
        c: SET x 2; FLUSHALL; PUBLISH __redis__:invalidate hello
        a: GET x
        b: GET x
        r: UNSUBSCRIBE
        c: SET x 2
        s!
        b: GET x
        c: SET x 2
        b?: CLIENT TRACKINGINFO; CLIENT TRACKING on REDIRECT {a} REDIRECT {a}
        b: CLIENT TRACKING on BCAST REDIRECT {r} PREFIX p; CLIENT TRACKING off; CLIENT TRACKING on BCAST REDIRECT {r} PREFIX p
        r: SUBSCRIBE __redis__:invalidate
        c: SET p1 1; SET q1 1
        ",
    );
}

#[test]
fn monitors_are_shown_every_command() {
    compare(
        "
        m: MONITOR
        a: SET x 1; GET x; get none; LPUSH x a; NONSENSE; GET; CONFIG GET maxmemory; CLIENT LIST x; SELECT 2; ECHO hi
        a: AUTH secret; AUTH default secret; HELLO 3 AUTH default secret; HELLO 2; CLIENT SETNAME me
        a: MULTI; SET x 1; GET x; EXEC; MULTI; NONSENSE; EXEC; MULTI; GET x; DISCARD; MULTI; ECHO a; EXEC x
        m: PING; GET x; SET x 1; PUBLISH a b; SUBSCRIBE c; MONITOR
        a: PUBLISH c hello
        m: RESET; GET x
        a: GET x
        n: HELLO 3; MONITOR; PING
        a: GET x
        ",
    );
}
