//! The command table: one row a command or subcommand.
//!
//! The columns:
//! 1. the variant of [`CommandId`](super::CommandId)
//! 2. the name; a subcommand's row follows its container's and is named `container|sub`
//! 3. arity: arguments with the name, at least so many when negative (both names of a subcommand count)
//! 4. flags, without `movablekeys`, which follows from the keys
//! 5. ACL categories beyond those that follow from the flags
//! 6. key specifications, in the words of `columns.rs`
//! 7. the proxy's route
//! 8. who runs it on a node:
//!    - `store(string::get)`: the function `larder_store::exec::string::get`
//!    - `engine(connection::ping)`: the function `larder_engine::exec::connection::ping`
//!    - `container`: it only has subcommands
//!    - `nobody`: the row is there and nothing executes it; clients get "unknown command"
//!
//! A function that lands changes its row's last column from `nobody` and nothing else of it, so that rows
//! merge line by line. A row that names a function which does not exist does not compile.

/// Hands all rows to a macro that the caller has defined: `larder_wire::command_table!(dispatch);`
/// calls `dispatch! { rows }`. A caller that needs only the name and the last column writes
///
/// ```
/// macro_rules! dispatch {
///     ($($id:ident $name:literal $arity:literal $flags:tt $categories:tt $keys:tt
///        $route:ident $(($merge:ident))? $home:ident $(($($path:ident)::+))?;)*) => {
///         const HOMES: &[(&str, &str)] = &[$(($name, stringify!($home)),)*];
///     };
/// }
/// larder_wire::command_table!(dispatch);
/// assert!(HOMES.contains(&("config", "container")));
/// ```
///
/// and turns `$home $(($($path)::+))?` into a function by a macro of its own, with one arm for `store($($path:ident)::+)`
/// and one for each of the other three.
#[rustfmt::skip]
#[macro_export]
macro_rules! command_table {
    ($callback:ident) => {
        $callback! {
            // Strings
            Append      "append"       3 [WRITE DENYOOM FAST] [STRING] [one(1, RW_INSERT)]                       Key            store(string::append);
            Decr        "decr"         2 [WRITE DENYOOM FAST] [STRING] [one(1, RW_ACCESS_UPDATE)]                Key            store(string::decr);
            Decrby      "decrby"       3 [WRITE DENYOOM FAST] [STRING] [one(1, RW_ACCESS_UPDATE)]                Key            store(string::decrby);
            Delifeq     "delifeq"      3 [WRITE FAST]         [STRING] [one(1, RM_DELETE)]                       Key            store(string::delifeq);
            Get         "get"          2 [READONLY FAST]      [STRING] [one(1, RO_ACCESS)]                       Key            store(string::get);
            Getdel      "getdel"       2 [WRITE FAST]         [STRING] [one(1, RW_ACCESS_DELETE)]                Key            store(string::getdel);
            Getex       "getex"       -2 [WRITE FAST]         [STRING] [one(1, RW_ACCESS_UPDATE)]                Key            store(string::getex);
            Getrange    "getrange"     4 [READONLY]           [STRING] [one(1, RO_ACCESS)]                       Key            store(string::getrange);
            Getset      "getset"       3 [WRITE DENYOOM FAST] [STRING] [one(1, RW_ACCESS_UPDATE)]                Key            store(string::getset);
            Incr        "incr"         2 [WRITE DENYOOM FAST] [STRING] [one(1, RW_ACCESS_UPDATE)]                Key            store(string::incr);
            Incrby      "incrby"       3 [WRITE DENYOOM FAST] [STRING] [one(1, RW_ACCESS_UPDATE)]                Key            store(string::incrby);
            Incrbyfloat "incrbyfloat"  3 [WRITE DENYOOM FAST] [STRING] [one(1, RW_ACCESS_UPDATE)]                Key            store(string::incrbyfloat);
            Lcs         "lcs"         -3 [READONLY]           [STRING] [range(1, 1, 1, RO_ACCESS)]               Key            store(lcs::lcs);
            Mget        "mget"        -2 [READONLY FAST]      [STRING] [range(1, -1, 1, RO_ACCESS)]              Split(Ordered) store(string::mget);
            Mset        "mset"        -3 [WRITE DENYOOM]      [STRING] [range(1, -1, 2, OW_UPDATE)]              Split(AllOk)   store(string::mset);
            Msetex      "msetex"      -4 [WRITE DENYOOM]      [STRING] [counted_pairs(1, OW_UPDATE)]             Key            store(msetex::msetex);
            Msetnx      "msetnx"      -3 [WRITE DENYOOM]      [STRING] [range(1, -1, 2, OW_INSERT)]              Key            store(string::msetnx);
            Psetex      "psetex"       4 [WRITE DENYOOM]      [STRING] [one(1, OW_UPDATE)]                       Key            store(string::psetex);
            Set         "set"         -3 [WRITE DENYOOM]      [STRING] [one(1, RW_ACCESS_UPDATE_VARIABLE_FLAGS)] Key            store(string::set);
            Setex       "setex"        4 [WRITE DENYOOM]      [STRING] [one(1, OW_UPDATE)]                       Key            store(string::setex);
            Setnx       "setnx"        3 [WRITE DENYOOM FAST] [STRING] [one(1, OW_INSERT)]                       Key            store(string::setnx);
            Setrange    "setrange"     4 [WRITE DENYOOM]      [STRING] [one(1, RW_UPDATE)]                       Key            store(string::setrange);
            Strlen      "strlen"       2 [READONLY FAST]      [STRING] [one(1, RO)]                              Key            store(string::strlen);
            Substr      "substr"       4 [READONLY]           [STRING] [one(1, RO_ACCESS)]                       Key            store(string::substr);

            // Bits of strings
            Bitcount   "bitcount"    -2 [READONLY]      [BITMAP] [one(1, RO_ACCESS)]                            Key store(bits::bitcount);
            Bitfield   "bitfield"    -2 [WRITE DENYOOM] [BITMAP] [one(1, RW_ACCESS_UPDATE_VARIABLE_FLAGS)]      Key store(bitfield::bitfield);
            BitfieldRo "bitfield_ro" -2 [READONLY FAST] [BITMAP] [one(1, RO_ACCESS)]                            Key store(bitfield::bitfield_ro);
            Bitop      "bitop"       -4 [WRITE DENYOOM] [BITMAP] [one(2, OW_UPDATE), range(3, -1, 1, RO_ACCESS)] Key store(bits::bitop);
            Bitpos     "bitpos"      -3 [READONLY]      [BITMAP] [one(1, RO_ACCESS)]                            Key store(bits::bitpos);
            Getbit     "getbit"       3 [READONLY FAST] [BITMAP] [one(1, RO_ACCESS)]                            Key store(bits::getbit);
            Setbit     "setbit"       4 [WRITE DENYOOM] [BITMAP] [one(1, RW_ACCESS_UPDATE)]                     Key store(bits::setbit);

            // Hashes
            Hdel         "hdel"         -3 [WRITE FAST]         [HASH] [one(1, RW_DELETE)]        Key store(hash::hdel);
            Hexists      "hexists"       3 [READONLY FAST]      [HASH] [one(1, RO)]               Key store(hash::hexists);
            Hexpire      "hexpire"      -6 [WRITE FAST]         [HASH] [one(1, RW_UPDATE)]        Key store(hash_expire::hexpire);
            Hexpireat    "hexpireat"    -6 [WRITE FAST]         [HASH] [one(1, RW_UPDATE)]        Key store(hash_expire::hexpireat);
            Hexpiretime  "hexpiretime"  -5 [READONLY FAST]      [HASH] [one(1, RO_ACCESS)]        Key store(hash_expire::hexpiretime);
            Hget         "hget"          3 [READONLY FAST]      [HASH] [one(1, RO_ACCESS)]        Key store(hash::hget);
            Hgetall      "hgetall"       2 [READONLY]           [HASH] [one(1, RO_ACCESS)]        Key store(hash::hgetall);
            Hgetdel      "hgetdel"      -5 [WRITE FAST]         [HASH] [one(1, RW_ACCESS_DELETE)] Key store(hash_timed::hgetdel);
            Hgetex       "hgetex"       -5 [WRITE FAST]         [HASH] [one(1, RW_ACCESS_UPDATE)] Key store(hash_timed::hgetex);
            Hincrby      "hincrby"       4 [WRITE DENYOOM FAST] [HASH] [one(1, RW_ACCESS_UPDATE)] Key store(hash::hincrby);
            Hincrbyfloat "hincrbyfloat"  4 [WRITE DENYOOM FAST] [HASH] [one(1, RW_ACCESS_UPDATE)] Key store(hash::hincrbyfloat);
            Hkeys        "hkeys"         2 [READONLY]           [HASH] [one(1, RO_ACCESS)]        Key store(hash::hkeys);
            Hlen         "hlen"          2 [READONLY FAST]      [HASH] [one(1, RO)]               Key store(hash::hlen);
            Hmget        "hmget"        -3 [READONLY FAST]      [HASH] [one(1, RO_ACCESS)]        Key store(hash::hmget);
            Hmset        "hmset"        -4 [WRITE DENYOOM FAST] [HASH] [one(1, RW_UPDATE)]        Key store(hash::hmset);
            Hpersist     "hpersist"     -5 [WRITE FAST]         [HASH] [one(1, RW_UPDATE)]        Key store(hash_expire::hpersist);
            Hpexpire     "hpexpire"     -6 [WRITE FAST]         [HASH] [one(1, RW_UPDATE)]        Key store(hash_expire::hpexpire);
            Hpexpireat   "hpexpireat"   -6 [WRITE FAST]         [HASH] [one(1, RW_UPDATE)]        Key store(hash_expire::hpexpireat);
            Hpexpiretime "hpexpiretime" -5 [READONLY FAST]      [HASH] [one(1, RO_ACCESS)]        Key store(hash_expire::hpexpiretime);
            Hpttl        "hpttl"        -5 [READONLY FAST]      [HASH] [one(1, RO_ACCESS)]        Key store(hash_expire::hpttl);
            Hrandfield   "hrandfield"   -2 [READONLY]           [HASH] [one(1, RO_ACCESS)]        Key store(hash::hrandfield);
            Hscan        "hscan"        -3 [READONLY]           [HASH] [one(1, RO_ACCESS)]        Key store(hash::hscan);
            Hset         "hset"         -4 [WRITE DENYOOM FAST] [HASH] [one(1, RW_UPDATE)]        Key store(hash::hset);
            Hsetex       "hsetex"       -6 [WRITE DENYOOM FAST] [HASH] [one(1, RW_UPDATE)]        Key store(hash_timed::hsetex);
            Hsetnx       "hsetnx"        4 [WRITE DENYOOM FAST] [HASH] [one(1, RW_INSERT)]        Key store(hash::hsetnx);
            Hstrlen      "hstrlen"       3 [READONLY FAST]      [HASH] [one(1, RO)]               Key store(hash::hstrlen);
            Httl         "httl"         -5 [READONLY FAST]      [HASH] [one(1, RO_ACCESS)]        Key store(hash_expire::httl);
            Hvals        "hvals"         2 [READONLY]           [HASH] [one(1, RO_ACCESS)]        Key store(hash::hvals);

            // Lists
            Blmove     "blmove"      6 [WRITE DENYOOM NOSCRIPT BLOCKING] [LIST] [one(1, RW_ACCESS_DELETE), one(2, RW_INSERT)] Key engine(blocking::blmove);
            Blmpop     "blmpop"     -5 [WRITE BLOCKING]                  [LIST] [counted(2, RW_ACCESS_DELETE)]                Key engine(blocking::blmpop);
            Blpop      "blpop"      -3 [WRITE NOSCRIPT BLOCKING]         [LIST] [range(1, -2, 1, RW_ACCESS_DELETE)]           Key engine(blocking::blpop);
            Brpop      "brpop"      -3 [WRITE NOSCRIPT BLOCKING]         [LIST] [range(1, -2, 1, RW_ACCESS_DELETE)]           Key engine(blocking::brpop);
            Brpoplpush "brpoplpush"  4 [WRITE DENYOOM NOSCRIPT BLOCKING] [LIST] [one(1, RW_ACCESS_DELETE), one(2, RW_INSERT)] Key engine(blocking::brpoplpush);
            Lindex     "lindex"      3 [READONLY]                        [LIST] [one(1, RO_ACCESS)]                           Key store(list::lindex);
            Linsert    "linsert"     5 [WRITE DENYOOM]                   [LIST] [one(1, RW_INSERT)]                           Key store(list::linsert);
            Llen       "llen"        2 [READONLY FAST]                   [LIST] [one(1, RO)]                                  Key store(list::llen);
            Lmove      "lmove"       5 [WRITE DENYOOM]                   [LIST] [one(1, RW_ACCESS_DELETE), one(2, RW_INSERT)] Key store(list_move::lmove);
            Lmpop      "lmpop"      -4 [WRITE]                           [LIST] [counted(1, RW_ACCESS_DELETE)]                Key store(list_move::lmpop);
            Lpop       "lpop"       -2 [WRITE FAST]                      [LIST] [one(1, RW_ACCESS_DELETE)]                    Key store(list::lpop);
            Lpos       "lpos"       -3 [READONLY]                        [LIST] [one(1, RO_ACCESS)]                           Key store(list::lpos);
            Lpush      "lpush"      -3 [WRITE DENYOOM FAST]              [LIST] [one(1, RW_INSERT)]                           Key store(list::lpush);
            Lpushx     "lpushx"     -3 [WRITE DENYOOM FAST]              [LIST] [one(1, RW_INSERT)]                           Key store(list::lpushx);
            Lrange     "lrange"      4 [READONLY]                        [LIST] [one(1, RO_ACCESS)]                           Key store(list::lrange);
            Lrem       "lrem"        4 [WRITE]                           [LIST] [one(1, RW_DELETE)]                           Key store(list::lrem);
            Lset       "lset"        4 [WRITE DENYOOM]                   [LIST] [one(1, RW_UPDATE)]                           Key store(list::lset);
            Ltrim      "ltrim"       4 [WRITE]                           [LIST] [one(1, RW_DELETE)]                           Key store(list::ltrim);
            Rpop       "rpop"       -2 [WRITE FAST]                      [LIST] [one(1, RW_ACCESS_DELETE)]                    Key store(list::rpop);
            Rpoplpush  "rpoplpush"   3 [WRITE DENYOOM]                   [LIST] [one(1, RW_ACCESS_DELETE), one(2, RW_INSERT)] Key store(list_move::rpoplpush);
            Rpush      "rpush"      -3 [WRITE DENYOOM FAST]              [LIST] [one(1, RW_INSERT)]                           Key store(list::rpush);
            Rpushx     "rpushx"     -3 [WRITE DENYOOM FAST]              [LIST] [one(1, RW_INSERT)]                           Key store(list::rpushx);

            // Sets
            Sadd        "sadd"        -3 [WRITE DENYOOM FAST] [SET] [one(1, RW_INSERT)]                            Key store(set::sadd);
            Scard       "scard"        2 [READONLY FAST]      [SET] [one(1, RO)]                                   Key store(set::scard);
            Sdiff       "sdiff"       -2 [READONLY]           [SET] [range(1, -1, 1, RO_ACCESS)]                   Key store(set_algebra::sdiff);
            Sdiffstore  "sdiffstore"  -3 [WRITE DENYOOM]      [SET] [one(1, OW_UPDATE), range(2, -1, 1, RO_ACCESS)] Key store(set_algebra::sdiffstore);
            Sinter      "sinter"      -2 [READONLY]           [SET] [range(1, -1, 1, RO_ACCESS)]                   Key store(set_algebra::sinter);
            Sintercard  "sintercard"  -3 [READONLY]           [SET] [counted(1, RO_ACCESS)]                        Key store(set_algebra::sintercard);
            Sinterstore "sinterstore" -3 [WRITE DENYOOM]      [SET] [one(1, RW_UPDATE), range(2, -1, 1, RO_ACCESS)] Key store(set_algebra::sinterstore);
            Sismember   "sismember"    3 [READONLY FAST]      [SET] [one(1, RO)]                                   Key store(set::sismember);
            Smembers    "smembers"     2 [READONLY]           [SET] [one(1, RO_ACCESS)]                            Key store(set::smembers);
            Smismember  "smismember"  -3 [READONLY FAST]      [SET] [one(1, RO_ACCESS)]                            Key store(set::smismember);
            Smove       "smove"        4 [WRITE FAST]         [SET] [one(1, RW_ACCESS_DELETE), one(2, RW_INSERT)]  Key store(set::smove);
            Spop        "spop"        -2 [WRITE FAST]         [SET] [one(1, RW_ACCESS_DELETE)]                     Key store(set::spop);
            Srandmember "srandmember" -2 [READONLY]           [SET] [one(1, RO_ACCESS)]                            Key store(set::srandmember);
            Srem        "srem"        -3 [WRITE FAST]         [SET] [one(1, RW_DELETE)]                            Key store(set::srem);
            Sscan       "sscan"       -3 [READONLY]           [SET] [one(1, RO_ACCESS)]                            Key store(set::sscan);
            Sunion      "sunion"      -2 [READONLY]           [SET] [range(1, -1, 1, RO_ACCESS)]                   Key store(set_algebra::sunion);
            Sunionstore "sunionstore" -3 [WRITE DENYOOM]      [SET] [one(1, OW_UPDATE), range(2, -1, 1, RO_ACCESS)] Key store(set_algebra::sunionstore);

            // Sorted sets
            Bzmpop           "bzmpop"           -5 [WRITE BLOCKING]               [SORTEDSET] [counted(2, RW_ACCESS_DELETE)]             Key engine(blocking::bzmpop);
            Bzpopmax         "bzpopmax"         -3 [WRITE NOSCRIPT BLOCKING FAST] [SORTEDSET] [range(1, -2, 1, RW_ACCESS_DELETE)]        Key engine(blocking::bzpopmax);
            Bzpopmin         "bzpopmin"         -3 [WRITE NOSCRIPT BLOCKING FAST] [SORTEDSET] [range(1, -2, 1, RW_ACCESS_DELETE)]        Key engine(blocking::bzpopmin);
            Zadd             "zadd"             -4 [WRITE DENYOOM FAST]           [SORTEDSET] [one(1, RW_UPDATE)]                        Key store(zset::zadd);
            Zcard            "zcard"             2 [READONLY FAST]                [SORTEDSET] [one(1, RO)]                               Key store(zset::zcard);
            Zcount           "zcount"            4 [READONLY FAST]                [SORTEDSET] [one(1, RO_ACCESS)]                        Key store(zset_range::zcount);
            Zdiff            "zdiff"            -3 [READONLY]                     [SORTEDSET] [counted(1, RO_ACCESS)]                    Key store(zset_algebra::zdiff);
            Zdiffstore       "zdiffstore"       -4 [WRITE DENYOOM]                [SORTEDSET] [one(1, OW_UPDATE), counted(2, RO_ACCESS)] Key store(zset_algebra::zdiffstore);
            Zincrby          "zincrby"           4 [WRITE DENYOOM FAST]           [SORTEDSET] [one(1, RW_ACCESS_UPDATE)]                 Key store(zset::zincrby);
            Zinter           "zinter"           -3 [READONLY]                     [SORTEDSET] [counted(1, RO_ACCESS)]                    Key store(zset_algebra::zinter);
            Zintercard       "zintercard"       -3 [READONLY]                     [SORTEDSET] [counted(1, RO_ACCESS)]                    Key store(zset_algebra::zintercard);
            Zinterstore      "zinterstore"      -4 [WRITE DENYOOM]                [SORTEDSET] [one(1, OW_UPDATE), counted(2, RO_ACCESS)] Key store(zset_algebra::zinterstore);
            Zlexcount        "zlexcount"         4 [READONLY FAST]                [SORTEDSET] [one(1, RO_ACCESS)]                        Key store(zset_range::zlexcount);
            Zmpop            "zmpop"            -4 [WRITE]                        [SORTEDSET] [counted(1, RW_ACCESS_DELETE)]             Key store(zset_pop::zmpop);
            Zmscore          "zmscore"          -3 [READONLY FAST]                [SORTEDSET] [one(1, RO_ACCESS)]                        Key store(zset::zmscore);
            Zpopmax          "zpopmax"          -2 [WRITE FAST]                   [SORTEDSET] [one(1, RW_ACCESS_DELETE)]                 Key store(zset_pop::zpopmax);
            Zpopmin          "zpopmin"          -2 [WRITE FAST]                   [SORTEDSET] [one(1, RW_ACCESS_DELETE)]                 Key store(zset_pop::zpopmin);
            Zrandmember      "zrandmember"      -2 [READONLY]                     [SORTEDSET] [one(1, RO_ACCESS)]                        Key store(zset::zrandmember);
            Zrange           "zrange"           -4 [READONLY]                     [SORTEDSET] [one(1, RO_ACCESS)]                        Key store(zset_range::zrange);
            Zrangebylex      "zrangebylex"      -4 [READONLY]                     [SORTEDSET] [one(1, RO_ACCESS)]                        Key store(zset_range::zrangebylex);
            Zrangebyscore    "zrangebyscore"    -4 [READONLY]                     [SORTEDSET] [one(1, RO_ACCESS)]                        Key store(zset_range::zrangebyscore);
            Zrangestore      "zrangestore"      -5 [WRITE DENYOOM]                [SORTEDSET] [one(1, OW_UPDATE), one(2, RO_ACCESS)]     Key store(zset_range::zrangestore);
            Zrank            "zrank"            -3 [READONLY FAST]                [SORTEDSET] [one(1, RO_ACCESS)]                        Key store(zset::zrank);
            Zrem             "zrem"             -3 [WRITE FAST]                   [SORTEDSET] [one(1, RW_DELETE)]                        Key store(zset::zrem);
            Zremrangebylex   "zremrangebylex"    4 [WRITE]                        [SORTEDSET] [one(1, RW_DELETE)]                        Key store(zset_range::zremrangebylex);
            Zremrangebyrank  "zremrangebyrank"   4 [WRITE]                        [SORTEDSET] [one(1, RW_DELETE)]                        Key store(zset_range::zremrangebyrank);
            Zremrangebyscore "zremrangebyscore"  4 [WRITE]                        [SORTEDSET] [one(1, RW_DELETE)]                        Key store(zset_range::zremrangebyscore);
            Zrevrange        "zrevrange"        -4 [READONLY]                     [SORTEDSET] [one(1, RO_ACCESS)]                        Key store(zset_range::zrevrange);
            Zrevrangebylex   "zrevrangebylex"   -4 [READONLY]                     [SORTEDSET] [one(1, RO_ACCESS)]                        Key store(zset_range::zrevrangebylex);
            Zrevrangebyscore "zrevrangebyscore" -4 [READONLY]                     [SORTEDSET] [one(1, RO_ACCESS)]                        Key store(zset_range::zrevrangebyscore);
            Zrevrank         "zrevrank"         -3 [READONLY FAST]                [SORTEDSET] [one(1, RO_ACCESS)]                        Key store(zset::zrevrank);
            Zscan            "zscan"            -3 [READONLY]                     [SORTEDSET] [one(1, RO_ACCESS)]                        Key store(zset::zscan);
            Zscore           "zscore"            3 [READONLY FAST]                [SORTEDSET] [one(1, RO_ACCESS)]                        Key store(zset::zscore);
            Zunion           "zunion"           -3 [READONLY]                     [SORTEDSET] [counted(1, RO_ACCESS)]                    Key store(zset_algebra::zunion);
            Zunionstore      "zunionstore"      -4 [WRITE DENYOOM]                [SORTEDSET] [one(1, OW_UPDATE), counted(2, RO_ACCESS)] Key store(zset_algebra::zunionstore);

            // Streams
            Xack                 "xack"                  -4 [WRITE FAST]         [STREAM] [one(1, RW_UPDATE)]                     Key   store(stream_group::xack);
            Xadd                 "xadd"                  -5 [WRITE DENYOOM FAST] [STREAM] [one(1, RW_UPDATE)]                     Key   store(stream_add::xadd);
            Xautoclaim           "xautoclaim"            -6 [WRITE FAST]         [STREAM] [one(1, RW_DELETE)]                     Key   store(stream_claim::xautoclaim);
            Xclaim               "xclaim"                -6 [WRITE FAST]         [STREAM] [one(1, RW_UPDATE)]                     Key   store(stream_claim::xclaim);
            Xdel                 "xdel"                  -3 [WRITE FAST]         [STREAM] [one(1, RW_DELETE)]                     Key   store(stream::xdel);
            Xgroup               "xgroup"                -2 []                   []       []                                      Local container;
            XgroupCreate         "xgroup|create"         -5 [WRITE DENYOOM]      [STREAM] [one(2, RW_INSERT)]                     Key   store(stream_group::create);
            XgroupCreateconsumer "xgroup|createconsumer"  5 [WRITE DENYOOM]      [STREAM] [one(2, RW_INSERT)]                     Key   store(stream_group::createconsumer);
            XgroupDelconsumer    "xgroup|delconsumer"     5 [WRITE]              [STREAM] [one(2, RW_DELETE)]                     Key   store(stream_group::delconsumer);
            XgroupDestroy        "xgroup|destroy"         4 [WRITE]              [STREAM] [one(2, RW_DELETE)]                     Key   store(stream_group::destroy);
            XgroupHelp           "xgroup|help"            2 [LOADING STALE]      [STREAM] []                                      Local store(stream_group::help);
            XgroupSetid          "xgroup|setid"          -5 [WRITE]              [STREAM] [one(2, RW_UPDATE)]                     Key   store(stream_group::setid);
            Xinfo                "xinfo"                 -2 []                   []       []                                      Local container;
            XinfoConsumers       "xinfo|consumers"        4 [READONLY]           [STREAM] [one(2, RO_ACCESS)]                     Key   store(stream_info::consumers);
            XinfoGroups          "xinfo|groups"           3 [READONLY]           [STREAM] [one(2, RO_ACCESS)]                     Key   store(stream_info::groups);
            XinfoHelp            "xinfo|help"             2 [LOADING STALE]      [STREAM] []                                      Local store(stream_info::help);
            XinfoStream          "xinfo|stream"          -3 [READONLY]           [STREAM] [one(2, RO_ACCESS)]                     Key   store(stream_info::stream);
            Xlen                 "xlen"                   2 [READONLY FAST]      [STREAM] [one(1, RO)]                            Key   store(stream::xlen);
            Xpending             "xpending"              -3 [READONLY]           [STREAM] [one(1, RO_ACCESS)]                     Key   store(stream_group::xpending);
            Xrange               "xrange"                -4 [READONLY]           [STREAM] [one(1, RO_ACCESS)]                     Key   store(stream::xrange);
            Xread                "xread"                 -4 [READONLY BLOCKING]  [STREAM] [after("STREAMS", 1, -1, 2, RO_ACCESS)] Key   engine(blocking::xread);
            Xreadgroup           "xreadgroup"            -7 [WRITE BLOCKING]     [STREAM] [after("STREAMS", 4, -1, 2, RO_ACCESS)] Key   engine(blocking::xreadgroup);
            Xrevrange            "xrevrange"             -4 [READONLY]           [STREAM] [one(1, RO_ACCESS)]                     Key   store(stream::xrevrange);
            Xsetid               "xsetid"                -3 [WRITE DENYOOM FAST] [STREAM] [one(1, RW_UPDATE)]                     Key   store(stream::xsetid);
            Xtrim                "xtrim"                 -4 [WRITE]              [STREAM] [one(1, RW_DELETE)]                     Key   store(stream_add::xtrim);

            // HyperLogLog
            Pfadd      "pfadd"      -2 [WRITE DENYOOM FAST]  [HYPERLOGLOG] [one(1, RW_INSERT)]                            Key     store(hll::pfadd);
            Pfcount    "pfcount"    -2 [READONLY]            [HYPERLOGLOG] [range(1, -1, 1, RW_ACCESS)]                   Key     store(hll::pfcount);
            Pfdebug    "pfdebug"     3 [WRITE DENYOOM ADMIN] [HYPERLOGLOG] [one(2, RW_ACCESS)]                            Refused store(hll_debug::pfdebug);
            Pfmerge    "pfmerge"    -2 [WRITE DENYOOM]       [HYPERLOGLOG] [one(1, RW_ACCESS_INSERT), range(2, -1, 1, RO_ACCESS)] Key     store(hll::pfmerge);
            Pfselftest "pfselftest"  1 [ADMIN]               [HYPERLOGLOG] []                                             Refused store(hll_debug::pfselftest);

            // Places
            Geoadd              "geoadd"               -5 [WRITE DENYOOM] [GEO] [one(1, RW_UPDATE)]                            Key store(geo::geoadd);
            Geodist             "geodist"              -4 [READONLY]      [GEO] [one(1, RO_ACCESS)]                            Key store(geo::geodist);
            Geohash             "geohash"              -2 [READONLY]      [GEO] [one(1, RO_ACCESS)]                            Key store(geo::geohash);
            Geopos              "geopos"               -2 [READONLY]      [GEO] [one(1, RO_ACCESS)]                            Key store(geo::geopos);
            Georadius           "georadius"            -6 [WRITE DENYOOM] [GEO] [one(1, RO_ACCESS), after("STORE", 6, 0, 0, OW_UPDATE), after("STOREDIST", 6, 0, 0, OW_UPDATE)] Key store(geo_search::georadius);
            GeoradiusRo         "georadius_ro"         -6 [READONLY]      [GEO] [one(1, RO_ACCESS)]                            Key store(geo_search::georadius_ro);
            Georadiusbymember   "georadiusbymember"    -5 [WRITE DENYOOM] [GEO] [one(1, RO_ACCESS), after("STORE", 5, 0, 0, OW_UPDATE), after("STOREDIST", 5, 0, 0, OW_UPDATE)] Key store(geo_search::georadiusbymember);
            GeoradiusbymemberRo "georadiusbymember_ro" -5 [READONLY]      [GEO] [one(1, RO_ACCESS)]                            Key store(geo_search::georadiusbymember_ro);
            Geosearch           "geosearch"            -7 [READONLY]      [GEO] [one(1, RO_ACCESS)]                            Key store(geo_search::geosearch);
            Geosearchstore      "geosearchstore"       -8 [WRITE DENYOOM] [GEO] [one(1, OW_UPDATE), one(2, RO_ACCESS)]         Key store(geo_search::geosearchstore);

            // Keys of any type
            Copy           "copy"            -3 [WRITE DENYOOM] [KEYSPACE]                     [one(1, RO_ACCESS), one(2, OW_UPDATE)]         Key               engine(databases::copy);
            Del            "del"             -2 [WRITE]         [KEYSPACE]                     [range(1, -1, 1, RM_DELETE)]                   Split(Sum)        store(generic::del);
            Dump           "dump"             2 [READONLY]      [KEYSPACE]                     [one(1, RO_ACCESS)]                            Key               store(dump::dump);
            Exists         "exists"          -2 [READONLY FAST] [KEYSPACE]                     [range(1, -1, 1, RO)]                          Split(Sum)        store(generic::exists);
            Expire         "expire"          -3 [WRITE FAST]    [KEYSPACE]                     [one(1, RW_UPDATE)]                            Key               store(expire::expire);
            Expireat       "expireat"        -3 [WRITE FAST]    [KEYSPACE]                     [one(1, RW_UPDATE)]                            Key               store(expire::expireat);
            Expiretime     "expiretime"       2 [READONLY FAST] [KEYSPACE]                     [one(1, RO_ACCESS)]                            Key               store(expire::expiretime);
            Keys           "keys"             2 [READONLY]      [DANGEROUS KEYSPACE]           []                                             EveryNode(Concat) store(scan::keys);
            Migrate        "migrate"         -6 [WRITE]         [DANGEROUS KEYSPACE]           [one(3, RW_ACCESS_DELETE), after("KEYS", -2, -1, 0, RW_ACCESS_DELETE_INCOMPLETE)] Refused           store(migrate::migrate);
            Move           "move"             3 [WRITE FAST]    [KEYSPACE]                     [one(1, RW_ACCESS_UPDATE)]                     Refused           engine(databases::move_);
            Object         "object"          -2 []              []                             []                                             Local             container;
            ObjectEncoding "object|encoding"  3 [READONLY]      [KEYSPACE]                     [one(2, RO)]                                   Key               store(object::encoding);
            ObjectFreq     "object|freq"      3 [READONLY]      [KEYSPACE]                     [one(2, RO)]                                   Key               store(object::freq);
            ObjectHelp     "object|help"      2 [LOADING STALE] [KEYSPACE]                     []                                             Local             store(object::help);
            ObjectIdletime "object|idletime"  3 [READONLY]      [KEYSPACE]                     [one(2, RO)]                                   Key               store(object::idletime);
            ObjectRefcount "object|refcount"  3 [READONLY]      [KEYSPACE]                     [one(2, RO)]                                   Key               store(object::refcount);
            Persist        "persist"          2 [WRITE FAST]    [KEYSPACE]                     [one(1, RW_UPDATE)]                            Key               store(expire::persist);
            Pexpire        "pexpire"         -3 [WRITE FAST]    [KEYSPACE]                     [one(1, RW_UPDATE)]                            Key               store(expire::pexpire);
            Pexpireat      "pexpireat"       -3 [WRITE FAST]    [KEYSPACE]                     [one(1, RW_UPDATE)]                            Key               store(expire::pexpireat);
            Pexpiretime    "pexpiretime"      2 [READONLY FAST] [KEYSPACE]                     [one(1, RO_ACCESS)]                            Key               store(expire::pexpiretime);
            Pttl           "pttl"             2 [READONLY FAST] [KEYSPACE]                     [one(1, RO_ACCESS)]                            Key               store(expire::pttl);
            Randomkey      "randomkey"        1 [READONLY]      [KEYSPACE]                     []                                             AnyNode           store(generic::randomkey);
            Rename         "rename"           3 [WRITE]         [KEYSPACE]                     [one(1, RW_ACCESS_DELETE), one(2, OW_UPDATE)]  Key               store(generic::rename);
            Renamenx       "renamenx"         3 [WRITE FAST]    [KEYSPACE]                     [one(1, RW_ACCESS_DELETE), one(2, OW_INSERT)]  Key               store(generic::renamenx);
            Restore        "restore"         -4 [WRITE DENYOOM] [DANGEROUS KEYSPACE]           [one(1, OW_UPDATE)]                            Key               store(dump::restore);
            Scan           "scan"            -2 [READONLY]      [KEYSPACE]                     []                                             Scan              store(scan::scan);
            Sort           "sort"            -2 [WRITE DENYOOM] [DANGEROUS LIST SET SORTEDSET] [one(1, RO_ACCESS), hidden(RO_ACCESS), hidden(OW_UPDATE)] Key               store(sort::sort);
            SortRo         "sort_ro"         -2 [READONLY]      [DANGEROUS LIST SET SORTEDSET] [one(1, RO_ACCESS), hidden(RO_ACCESS)]         Key               store(sort::sort_ro);
            Touch          "touch"           -2 [READONLY FAST] [KEYSPACE]                     [range(1, -1, 1, RO)]                          Split(Sum)        store(generic::touch);
            Ttl            "ttl"              2 [READONLY FAST] [KEYSPACE]                     [one(1, RO_ACCESS)]                            Key               store(expire::ttl);
            Type           "type"             2 [READONLY FAST] [KEYSPACE]                     [one(1, RO)]                                   Key               store(generic::type_);
            Unlink         "unlink"          -2 [WRITE FAST]    [KEYSPACE]                     [range(1, -1, 1, RM_DELETE)]                   Split(Sum)        store(generic::unlink);
            Wait           "wait"             3 [NOSCRIPT]      [CONNECTION]                   []                                             EveryNode(Least)  engine(waits::wait);
            Waitaof        "waitaof"          4 [BLOCKING]      [CONNECTION]                   []                                             EveryNode(Least)  engine(blocking::waitaof);

            // Scripts and functions
            Eval            "eval"             -3 [NOSCRIPT STALE SKIP_MONITOR NO_MANDATORY_KEYS] [SCRIPTING] [counted(2, RW_ACCESS_UPDATE)] Key              engine(script::eval);
            EvalRo          "eval_ro"          -3 [READONLY NOSCRIPT STALE SKIP_MONITOR NO_MANDATORY_KEYS] [SCRIPTING] [counted(2, RO_ACCESS)]        Key              engine(script::eval);
            Evalsha         "evalsha"          -3 [NOSCRIPT STALE SKIP_MONITOR NO_MANDATORY_KEYS] [SCRIPTING] [counted(2, RW_ACCESS_UPDATE)] Key              engine(script::evalsha);
            EvalshaRo       "evalsha_ro"       -3 [READONLY NOSCRIPT STALE SKIP_MONITOR NO_MANDATORY_KEYS] [SCRIPTING] [counted(2, RO_ACCESS)]        Key              engine(script::evalsha);
            Fcall           "fcall"            -3 [NOSCRIPT STALE SKIP_MONITOR NO_MANDATORY_KEYS] [SCRIPTING] [counted(2, RW_ACCESS_UPDATE)] Key              engine(function::fcall);
            FcallRo         "fcall_ro"         -3 [READONLY NOSCRIPT STALE SKIP_MONITOR NO_MANDATORY_KEYS] [SCRIPTING] [counted(2, RO_ACCESS)]        Key              engine(function::fcall);
            Function        "function"         -2 []                                             []          []                             Local            container;
            FunctionDelete  "function|delete"   3 [WRITE NOSCRIPT]                               [SCRIPTING] []                             EveryNode(AllOk) engine(function::delete);
            FunctionDump    "function|dump"     2 [NOSCRIPT]                                     [SCRIPTING] []                             AnyNode          engine(function::dump);
            FunctionFlush   "function|flush"   -2 [WRITE NOSCRIPT]                               [SCRIPTING] []                             EveryNode(AllOk) engine(function::flush);
            FunctionHelp    "function|help"     2 [LOADING STALE]                                [SCRIPTING] []                             Local            engine(function::help_);
            FunctionKill    "function|kill"     2 [NOSCRIPT ALLOW_BUSY]                          [SCRIPTING] []                             Refused          engine(function::kill);
            FunctionList    "function|list"    -2 [NOSCRIPT]                                     [SCRIPTING] []                             AnyNode          engine(function::list);
            FunctionLoad    "function|load"    -3 [WRITE DENYOOM NOSCRIPT]                       [SCRIPTING] []                             EveryNode(AllOk) engine(function::load);
            FunctionRestore "function|restore" -3 [WRITE DENYOOM NOSCRIPT]                       [SCRIPTING] []                             EveryNode(AllOk) engine(function::restore);
            FunctionStats   "function|stats"    2 [NOSCRIPT ALLOW_BUSY]                          [SCRIPTING] []                             AnyNode          engine(function::stats);
            Script          "script"           -2 []                                             []          []                             Local            container;
            ScriptDebug     "script|debug"      3 [NOSCRIPT]                                     [SCRIPTING] []                             Refused          engine(script::debug);
            ScriptExists    "script|exists"    -3 [NOSCRIPT]                                     [SCRIPTING] []                             AnyNode          engine(script::exists);
            ScriptFlush     "script|flush"     -2 [NOSCRIPT]                                     [SCRIPTING] []                             EveryNode(AllOk) engine(script::flush);
            ScriptHelp      "script|help"       2 [LOADING STALE]                                [SCRIPTING] []                             Local            engine(script::help_);
            ScriptKill      "script|kill"       2 [NOSCRIPT ALLOW_BUSY]                          [SCRIPTING] []                             Refused          engine(script::kill);
            ScriptLoad      "script|load"       3 [NOSCRIPT STALE]                               [SCRIPTING] []                             EveryNode(AllOk) engine(script::load);

            // Publish and subscribe
            Psubscribe          "psubscribe"           -2 [PUBSUB NOSCRIPT LOADING STALE] [] []                         Local             engine(pubsub::psubscribe);
            Publish             "publish"               3 [PUBSUB LOADING STALE FAST]     [] []                         EveryNode(Sum)    engine(pubsub::publish);
            Pubsub              "pubsub"               -2 []                              [] []                         Local             container;
            PubsubChannels      "pubsub|channels"      -2 [PUBSUB LOADING STALE]          [] []                         EveryNode(Union)  engine(pubsub::channels);
            PubsubHelp          "pubsub|help"           2 [LOADING STALE]                 [] []                         Local             engine(pubsub::help_);
            PubsubNumpat        "pubsub|numpat"         2 [PUBSUB LOADING STALE]          [] []                         EveryNode(Sum)    engine(pubsub::numpat);
            PubsubNumsub        "pubsub|numsub"        -2 [PUBSUB LOADING STALE]          [] []                         EveryNode(Counts) engine(pubsub::numsub);
            PubsubShardchannels "pubsub|shardchannels" -2 [PUBSUB LOADING STALE]          [] []                         EveryNode(Union)  engine(pubsub::shardchannels);
            PubsubShardnumsub   "pubsub|shardnumsub"   -2 [PUBSUB LOADING STALE]          [] []                         EveryNode(Counts) engine(pubsub::shardnumsub);
            Punsubscribe        "punsubscribe"         -1 [PUBSUB NOSCRIPT LOADING STALE] [] []                         Local             engine(pubsub::punsubscribe);
            Spublish            "spublish"              3 [PUBSUB LOADING STALE FAST]     [] [one(1, NOT_KEY)]          Key               engine(pubsub::spublish);
            Ssubscribe          "ssubscribe"           -2 [PUBSUB NOSCRIPT LOADING STALE] [] [range(1, -1, 1, NOT_KEY)] Key               engine(pubsub::ssubscribe);
            Subscribe           "subscribe"            -2 [PUBSUB NOSCRIPT LOADING STALE] [] []                         Local             engine(pubsub::subscribe);
            Sunsubscribe        "sunsubscribe"         -1 [PUBSUB NOSCRIPT LOADING STALE] [] [range(1, -1, 1, NOT_KEY)] Key               engine(pubsub::sunsubscribe);
            Unsubscribe         "unsubscribe"          -1 [PUBSUB NOSCRIPT LOADING STALE] [] []                         Local             engine(pubsub::unsubscribe);

            // Transactions
            Discard "discard"  1 [NOSCRIPT LOADING STALE FAST ALLOW_BUSY] [TRANSACTION] []                    Local engine(transaction::discard);
            Exec    "exec"     1 [NOSCRIPT LOADING STALE SKIP_SLOWLOG]    [TRANSACTION] []                    Local engine(transaction::exec);
            Multi   "multi"    1 [NOSCRIPT LOADING STALE FAST ALLOW_BUSY] [TRANSACTION] []                    Local engine(transaction::multi);
            Unwatch "unwatch"  1 [NOSCRIPT LOADING STALE FAST ALLOW_BUSY] [TRANSACTION] []                    Local engine(transaction::unwatch);
            Watch   "watch"   -2 [NOSCRIPT LOADING STALE FAST ALLOW_BUSY] [TRANSACTION] [range(1, -1, 1, RO)] Local engine(transaction::watch);

            // Connections
            Auth               "auth"                -2 [NOSCRIPT LOADING STALE FAST NO_AUTH ALLOW_BUSY] [CONNECTION] [] Local engine(connection::auth);
            Client             "client"              -2 []                                             []           [] Local container;
            ClientCaching      "client|caching"       3 [NOSCRIPT LOADING STALE]                       [CONNECTION] [] Local engine(tracking::caching);
            ClientGetname      "client|getname"       2 [NOSCRIPT LOADING STALE]                       [CONNECTION] [] Local engine(client::getname);
            ClientGetredir     "client|getredir"      2 [NOSCRIPT LOADING STALE]                       [CONNECTION] [] Local engine(tracking::getredir);
            ClientHelp         "client|help"          2 [LOADING STALE]                                [CONNECTION] [] Local engine(client::help_);
            ClientId           "client|id"            2 [NOSCRIPT LOADING STALE]                       [CONNECTION] [] Local engine(client::id);
            ClientInfo         "client|info"          2 [NOSCRIPT LOADING STALE]                       [CONNECTION] [] Local engine(client::info);
            ClientKill         "client|kill"         -3 [ADMIN NOSCRIPT LOADING STALE]                 [CONNECTION] [] Local engine(client::kill);
            ClientList         "client|list"         -2 [ADMIN NOSCRIPT LOADING STALE]                 [CONNECTION] [] Local engine(client::list);
            ClientNoEvict      "client|no-evict"      3 [ADMIN NOSCRIPT LOADING STALE]                 [CONNECTION] [] Local engine(client::no_evict);
            ClientNoTouch      "client|no-touch"      3 [NOSCRIPT LOADING STALE]                       [CONNECTION] [] Local engine(client::no_touch);
            ClientPause        "client|pause"        -3 [ADMIN NOSCRIPT LOADING STALE]                 [CONNECTION] [] Local engine(client::pause);
            ClientReply        "client|reply"         3 [NOSCRIPT LOADING STALE]                       [CONNECTION] [] Local engine(client::reply);
            ClientSetinfo      "client|setinfo"       4 [NOSCRIPT LOADING STALE]                       [CONNECTION] [] Local engine(client::setinfo);
            ClientSetname      "client|setname"       3 [NOSCRIPT LOADING STALE]                       [CONNECTION] [] Local engine(client::setname);
            ClientTracking     "client|tracking"     -3 [NOSCRIPT LOADING STALE]                       [CONNECTION] [] Local engine(tracking::tracking);
            ClientTrackinginfo "client|trackinginfo"  2 [NOSCRIPT LOADING STALE]                       [CONNECTION] [] Local engine(tracking::trackinginfo);
            ClientUnblock      "client|unblock"      -3 [ADMIN NOSCRIPT LOADING STALE]                 [CONNECTION] [] Local engine(client::unblock);
            ClientUnpause      "client|unpause"       2 [ADMIN NOSCRIPT LOADING STALE]                 [CONNECTION] [] Local engine(client::unpause);
            Echo               "echo"                 2 [LOADING STALE FAST]                           [CONNECTION] [] Local engine(connection::echo);
            Hello              "hello"               -1 [NOSCRIPT LOADING STALE FAST NO_AUTH ALLOW_BUSY] [CONNECTION] [] Local engine(connection::hello);
            Ping               "ping"                -1 [FAST]                                         [CONNECTION] [] Local engine(connection::ping);
            Quit               "quit"                -1 [NOSCRIPT LOADING STALE FAST NO_AUTH ALLOW_BUSY] [CONNECTION] [] Local engine(connection::quit);
            Reset              "reset"                1 [NOSCRIPT LOADING STALE FAST NO_AUTH ALLOW_BUSY] [CONNECTION] [] Local engine(connection::reset);
            Select             "select"               2 [LOADING STALE FAST]                           [CONNECTION] [] Local engine(databases::select);

            // The server
            Acl                    "acl"                     -2 []                                             []                   []                  Local            container;
            AclCat                 "acl|cat"                 -2 [NOSCRIPT LOADING STALE]                       []                   []                  Refused          engine(acl::cat);
            AclDeluser             "acl|deluser"             -3 [ADMIN NOSCRIPT LOADING STALE]                 []                   []                  Refused          engine(acl::deluser);
            AclDryrun              "acl|dryrun"              -4 [ADMIN NOSCRIPT LOADING STALE]                 []                   []                  Refused          engine(acl::dryrun);
            AclGenpass             "acl|genpass"             -2 [NOSCRIPT LOADING STALE]                       []                   []                  Refused          engine(acl::genpass);
            AclGetuser             "acl|getuser"              3 [ADMIN NOSCRIPT LOADING STALE]                 []                   []                  Refused          engine(acl::getuser);
            AclHelp                "acl|help"                 2 [LOADING STALE]                                []                   []                  Refused          engine(acl::help_);
            AclList                "acl|list"                 2 [ADMIN NOSCRIPT LOADING STALE]                 []                   []                  Refused          engine(acl::list);
            AclLoad                "acl|load"                 2 [ADMIN NOSCRIPT LOADING STALE]                 []                   []                  Refused          engine(acl::load);
            AclLog                 "acl|log"                 -2 [ADMIN NOSCRIPT LOADING STALE]                 []                   []                  Refused          engine(acl::log);
            AclSave                "acl|save"                 2 [ADMIN NOSCRIPT LOADING STALE]                 []                   []                  Refused          engine(acl::save);
            AclSetuser             "acl|setuser"             -3 [ADMIN NOSCRIPT LOADING STALE]                 []                   []                  Refused          engine(acl::setuser);
            AclUsers               "acl|users"                2 [ADMIN NOSCRIPT LOADING STALE]                 []                   []                  Refused          engine(acl::users);
            AclWhoami              "acl|whoami"               2 [NOSCRIPT LOADING STALE]                       []                   []                  Local            engine(acl::whoami);
            Bgrewriteaof           "bgrewriteaof"             1 [ADMIN NOSCRIPT NO_ASYNC_LOADING]              []                   []                  Refused          engine(save::bgrewriteaof);
            Bgsave                 "bgsave"                  -1 [ADMIN NOSCRIPT NO_ASYNC_LOADING]              []                   []                  Refused          engine(save::bgsave);
            Command                "command"                 -1 [LOADING STALE]                                [CONNECTION]         []                  Local            engine(server::command);
            CommandCount           "command|count"            2 [LOADING STALE]                                [CONNECTION]         []                  Local            engine(server::command_count);
            CommandDocs            "command|docs"            -2 [LOADING STALE]                                [CONNECTION]         []                  Local            engine(server::command_docs);
            CommandGetkeys         "command|getkeys"         -4 [LOADING STALE]                                [CONNECTION]         []                  Local            engine(server::command_getkeys);
            CommandGetkeysandflags "command|getkeysandflags" -4 [LOADING STALE]                                [CONNECTION]         []                  Local            engine(server::command_getkeysandflags);
            CommandHelp            "command|help"             2 [LOADING STALE]                                [CONNECTION]         []                  Local            engine(server::command_help);
            CommandInfo            "command|info"            -2 [LOADING STALE]                                [CONNECTION]         []                  Local            engine(server::command_info);
            CommandList            "command|list"            -2 [LOADING STALE]                                [CONNECTION]         []                  Local            engine(server::command_list);
            Config                 "config"                  -2 []                                             []                   []                  Local            container;
            ConfigGet              "config|get"              -3 [ADMIN NOSCRIPT LOADING STALE]                 []                   []                  Local            engine(config::get);
            ConfigHelp             "config|help"              2 [LOADING STALE]                                []                   []                  Local            engine(config::help_);
            ConfigResetstat        "config|resetstat"         2 [ADMIN NOSCRIPT LOADING STALE]                 []                   []                  Local            engine(config::resetstat);
            ConfigRewrite          "config|rewrite"           2 [ADMIN NOSCRIPT LOADING STALE]                 []                   []                  Local            engine(config::rewrite);
            ConfigSet              "config|set"              -4 [ADMIN NOSCRIPT LOADING STALE]                 []                   []                  Local            engine(config::set);
            Dbsize                 "dbsize"                   1 [READONLY FAST]                                [KEYSPACE]           []                  EveryNode(Sum)   store(generic::dbsize);
            Debug                  "debug"                   -2 [ADMIN NOSCRIPT LOADING STALE]                 []                   []                  Refused          engine(debug::debug);
            Failover               "failover"                -1 [ADMIN NOSCRIPT STALE]                         []                   []                  Refused          nobody;
            Flushall               "flushall"                -1 [WRITE]                                        [DANGEROUS KEYSPACE] []                  EveryNode(AllOk) engine(databases::flushall);
            Flushdb                "flushdb"                 -1 [WRITE]                                        [DANGEROUS KEYSPACE] []                  EveryNode(AllOk) engine(databases::flushdb);
            Info                   "info"                    -1 [LOADING STALE]                                [DANGEROUS]          []                  Local            engine(info::info);
            Lastsave               "lastsave"                 1 [LOADING STALE FAST]                           [ADMIN DANGEROUS]    []                  Local            engine(save::lastsave);
            Latency                "latency"                 -2 []                                             []                   []                  Local            container;
            LatencyDoctor          "latency|doctor"           2 [ADMIN NOSCRIPT LOADING STALE]                 []                   []                  Local            engine(latency::doctor);
            LatencyGraph           "latency|graph"            3 [ADMIN NOSCRIPT LOADING STALE]                 []                   []                  Local            engine(latency::graph);
            LatencyHelp            "latency|help"             2 [LOADING STALE]                                []                   []                  Local            engine(latency::help_);
            LatencyHistogram       "latency|histogram"       -2 [ADMIN NOSCRIPT LOADING STALE]                 []                   []                  Local            engine(latency::histogram);
            LatencyHistory         "latency|history"          3 [ADMIN NOSCRIPT LOADING STALE]                 []                   []                  Local            engine(latency::history);
            LatencyLatest          "latency|latest"           2 [ADMIN NOSCRIPT LOADING STALE]                 []                   []                  Local            engine(latency::latest);
            LatencyReset           "latency|reset"           -2 [ADMIN NOSCRIPT LOADING STALE]                 []                   []                  Local            engine(latency::reset);
            Lolwut                 "lolwut"                  -1 [READONLY FAST]                                []                   []                  Local            engine(server::lolwut);
            Memory                 "memory"                  -2 []                                             []                   []                  Local            container;
            MemoryDoctor           "memory|doctor"            2 []                                             []                   []                  Refused          engine(memory::doctor);
            MemoryHelp             "memory|help"              2 [LOADING STALE]                                []                   []                  Local            engine(memory::help_);
            MemoryMallocStats      "memory|malloc-stats"      2 []                                             []                   []                  Refused          engine(memory::malloc_stats);
            MemoryPurge            "memory|purge"             2 []                                             []                   []                  EveryNode(AllOk) engine(memory::purge);
            MemoryStats            "memory|stats"             2 []                                             []                   []                  Refused          engine(memory::stats);
            MemoryUsage            "memory|usage"            -3 [READONLY]                                     []                   [one(2, RO)]        Key              engine(memory::usage);
            Module                 "module"                  -2 []                                             []                   []                  Local            container;
            ModuleHelp             "module|help"              2 [LOADING STALE]                                []                   []                  Local            engine(server::module_help);
            ModuleList             "module|list"              2 [ADMIN NOSCRIPT]                               []                   []                  Refused          engine(server::module_list);
            ModuleLoad             "module|load"             -3 [ADMIN NOSCRIPT NO_ASYNC_LOADING]              []                   []                  Refused          engine(server::no_modules);
            ModuleLoadex           "module|loadex"           -3 [ADMIN NOSCRIPT NO_ASYNC_LOADING]              []                   []                  Refused          engine(server::no_modules);
            ModuleUnload           "module|unload"            3 [ADMIN NOSCRIPT NO_ASYNC_LOADING]              []                   []                  Refused          engine(server::no_modules);
            Monitor                "monitor"                  1 [ADMIN NOSCRIPT LOADING STALE]                 []                   []                  Refused          engine(tracking::monitor);
            Psync                  "psync"                   -3 [ADMIN NOSCRIPT NO_ASYNC_LOADING NO_MULTI]     []                   []                  Refused          nobody;
            Replconf               "replconf"                -1 [ADMIN NOSCRIPT LOADING STALE ALLOW_BUSY]      []                   []                  Refused          nobody;
            Replicaof              "replicaof"                3 [ADMIN NOSCRIPT STALE NO_ASYNC_LOADING]        []                   []                  Refused          engine(save::replicaof);
            RestoreAsking          "restore-asking"          -4 [WRITE DENYOOM ASKING]                         [DANGEROUS KEYSPACE] [one(1, OW_UPDATE)] Refused          store(dump::restore_asking);
            Role                   "role"                     1 [NOSCRIPT LOADING STALE FAST]                  [ADMIN DANGEROUS]    []                  Local            engine(replication::role);
            Save                   "save"                     1 [ADMIN NOSCRIPT NO_ASYNC_LOADING NO_MULTI]     []                   []                  Refused          engine(save::save);
            Shutdown               "shutdown"                -1 [ADMIN NOSCRIPT LOADING STALE NO_MULTI ALLOW_BUSY] []                   []                  Refused          engine(server::shutdown);
            Slaveof                "slaveof"                  3 [ADMIN NOSCRIPT STALE NO_ASYNC_LOADING]        []                   []                  Refused          engine(save::replicaof);
            Slowlog                "slowlog"                 -2 []                                             []                   []                  Local            container;
            SlowlogGet             "slowlog|get"             -2 [ADMIN LOADING STALE]                          []                   []                  Local            engine(slowlog::get);
            SlowlogHelp            "slowlog|help"             2 [LOADING STALE]                                []                   []                  Local            engine(slowlog::help_);
            SlowlogLen             "slowlog|len"              2 [ADMIN LOADING STALE]                          []                   []                  Local            engine(slowlog::len);
            SlowlogReset           "slowlog|reset"            2 [ADMIN LOADING STALE]                          []                   []                  Local            engine(slowlog::reset);
            Swapdb                 "swapdb"                   3 [WRITE FAST]                                   [DANGEROUS KEYSPACE] []                  Refused          engine(databases::swapdb);
            Sync                   "sync"                     1 [ADMIN NOSCRIPT NO_ASYNC_LOADING NO_MULTI]     []                   []                  Refused          engine(follow::sync);
            Time                   "time"                     1 [LOADING STALE FAST]                           []                   []                  Local            engine(server::time);

            // The cluster
            Asking                     "asking"                         1 [FAST]                         [CONNECTION] [] Local   engine(connection::asking);
            Cluster                    "cluster"                       -2 []                             []           [] Local   container;
            ClusterAddslots            "cluster|addslots"              -3 [ADMIN STALE NO_ASYNC_LOADING] []           [] Refused nobody;
            ClusterAddslotsrange       "cluster|addslotsrange"         -4 [ADMIN STALE NO_ASYNC_LOADING] []           [] Refused nobody;
            ClusterBumpepoch           "cluster|bumpepoch"              2 [ADMIN STALE NO_ASYNC_LOADING] []           [] Refused nobody;
            ClusterCountFailureReports "cluster|count-failure-reports"  3 [ADMIN STALE]                  []           [] Local   engine(cluster::count_failure_reports);
            ClusterCountkeysinslot     "cluster|countkeysinslot"        3 [STALE]                        []           [] Local   engine(cluster::countkeysinslot);
            ClusterDelslots            "cluster|delslots"              -3 [ADMIN STALE NO_ASYNC_LOADING] []           [] Refused nobody;
            ClusterDelslotsrange       "cluster|delslotsrange"         -4 [ADMIN STALE NO_ASYNC_LOADING] []           [] Refused nobody;
            ClusterFailover            "cluster|failover"              -2 [ADMIN STALE NO_ASYNC_LOADING] []           [] Refused nobody;
            ClusterFlushslots          "cluster|flushslots"             2 [ADMIN STALE NO_ASYNC_LOADING] []           [] Refused nobody;
            ClusterForget              "cluster|forget"                 3 [ADMIN STALE NO_ASYNC_LOADING] []           [] Refused nobody;
            ClusterGetkeysinslot       "cluster|getkeysinslot"          4 [STALE]                        []           [] Local   engine(cluster::getkeysinslot);
            ClusterHelp                "cluster|help"                   2 [LOADING STALE]                []           [] Local   engine(cluster::help_);
            ClusterInfo                "cluster|info"                   2 [STALE]                        []           [] Local   engine(cluster::info);
            ClusterKeyslot             "cluster|keyslot"                3 [STALE]                        []           [] Local   engine(cluster::keyslot);
            ClusterLinks               "cluster|links"                  2 [STALE]                        []           [] Local   engine(cluster::links);
            ClusterMeet                "cluster|meet"                  -4 [ADMIN STALE NO_ASYNC_LOADING] []           [] Refused nobody;
            ClusterMyid                "cluster|myid"                   2 [STALE]                        []           [] Local   engine(cluster::myid);
            ClusterMyshardid           "cluster|myshardid"              2 [STALE]                        []           [] Local   engine(cluster::myshardid);
            ClusterNodes               "cluster|nodes"                  2 [STALE]                        []           [] Local   engine(cluster::nodes);
            ClusterReplicas            "cluster|replicas"               3 [ADMIN STALE]                  []           [] Local   engine(cluster::replicas);
            ClusterReplicate           "cluster|replicate"              3 [ADMIN STALE NO_ASYNC_LOADING] []           [] Refused nobody;
            ClusterReset               "cluster|reset"                 -2 [ADMIN NOSCRIPT STALE]         []           [] Refused nobody;
            ClusterSaveconfig          "cluster|saveconfig"             2 [ADMIN STALE NO_ASYNC_LOADING] []           [] Refused nobody;
            ClusterSetConfigEpoch      "cluster|set-config-epoch"       3 [ADMIN STALE NO_ASYNC_LOADING] []           [] Refused nobody;
            ClusterSetslot             "cluster|setslot"               -4 [ADMIN STALE NO_ASYNC_LOADING] []           [] Refused nobody;
            ClusterShards              "cluster|shards"                 2 [STALE]                        []           [] Local   engine(cluster::shards);
            ClusterSlaves              "cluster|slaves"                 3 [ADMIN STALE]                  []           [] Local   engine(cluster::replicas);
            ClusterSlots               "cluster|slots"                  2 [STALE]                        []           [] Local   engine(cluster::slots);
            Readonly                   "readonly"                       1 [LOADING STALE FAST]           [CONNECTION] [] Local   engine(connection::readonly);
            Readwrite                  "readwrite"                      1 [LOADING STALE FAST]           [CONNECTION] [] Local   engine(connection::readwrite);

            // Larder's own: the control protocol and its operator's commands
            Larder          "larder"           -2 []                                             [] [] Local    container;
            LarderHello     "larder|hello"      5 [NOSCRIPT LOADING STALE FAST NO_AUTH NO_MULTI] [] [] Local    engine(control::hello);
            LarderJoin      "larder|join"       3 [ADMIN NOSCRIPT LOADING STALE NO_MULTI]        [] [] Refused  nobody;
            LarderWatch     "larder|watch"      2 [ADMIN NOSCRIPT LOADING STALE NO_MULTI]        [] [] Refused  nobody;
            LarderMap       "larder|map"        3 [ADMIN NOSCRIPT LOADING STALE NO_MULTI]        [] [] Refused  engine(control::map);
            LarderImport    "larder|import"     3 [ADMIN NOSCRIPT NO_MULTI]                      [] [] Refused  engine(control::import);
            LarderAwait     "larder|await"      3 [ADMIN NOSCRIPT BLOCKING NO_MULTI]             [] [] Refused  engine(control::await_);
            LarderAbort     "larder|abort"      3 [ADMIN NOSCRIPT NO_MULTI]                      [] [] Refused  engine(control::abort);
            LarderState     "larder|state"      2 [ADMIN NOSCRIPT LOADING STALE NO_MULTI]        [] [] Refused  engine(control::state);
            LarderFeed      "larder|feed"       3 [ADMIN NOSCRIPT NO_MULTI]                      [] [] Refused  engine(control::feed);
            LarderReplicate "larder|replicate"  3 [ADMIN NOSCRIPT NO_MULTI]                      [] [] Refused  engine(control::replicate);
            LarderFence     "larder|fence"      3 [ADMIN NOSCRIPT LOADING STALE NO_MULTI]        [] [] Refused  engine(fence::fence);
            LarderUnfence   "larder|unfence"    3 [ADMIN NOSCRIPT LOADING STALE NO_MULTI]        [] [] Refused  engine(fence::unfence);
            LarderYield     "larder|yield"      3 [ADMIN NOSCRIPT BLOCKING NO_MULTI]             [] [] Refused  engine(yielding::yield_);
            LarderHold      "larder|hold"       3 [ADMIN NOSCRIPT NO_MULTI]                      [] [] Refused  engine(control::hold);
            LarderSnapshot  "larder|snapshot"   3 [ADMIN NOSCRIPT NO_MULTI]                      [] [] Refused  engine(control::snapshot);
            LarderPublish   "larder|publish"    4 [ADMIN NOSCRIPT LOADING STALE NO_MULTI]        [] [] Refused  engine(pubsub::publish_beside);
            LarderForward   "larder|forward"   -3 [ADMIN NOSCRIPT NO_MULTI]                      [] [] Local    nobody;
            LarderStatus    "larder|status"    -2 [ADMIN NOSCRIPT LOADING STALE NO_MULTI]        [] [] Topology nobody;
            LarderReshard   "larder|reshard"   -4 [ADMIN NOSCRIPT NO_MULTI]                      [] [] Topology nobody;
            LarderMove      "larder|move"      -6 [ADMIN NOSCRIPT NO_MULTI]                      [] [] Topology nobody;
            LarderRebalance "larder|rebalance" -2 [ADMIN NOSCRIPT NO_MULTI]                      [] [] Topology nobody;
            LarderFailover  "larder|failover"  -3 [ADMIN NOSCRIPT NO_MULTI]                      [] [] Topology nobody;
            LarderReplicas  "larder|replicas"  -2 [ADMIN NOSCRIPT NO_MULTI]                      [] [] Topology nobody;
            LarderWrites    "larder|writes"    -3 [ADMIN NOSCRIPT NO_MULTI]                      [] [] Topology nobody;
            LarderMoves     "larder|moves"     -2 [ADMIN NOSCRIPT NO_MULTI]                      [] [] Topology nobody;
        }
    };
}
