//! What people are told of each command: `COMMAND DOCS`, and the tips of `COMMAND INFO`.
//!
//! A row a command: its group, the Redis version that brought it, a sentence, tips. A row
//! of the command table without one here does not compile.

use super::registry::CommandId;

/// One command's description.
#[derive(Clone, Copy, Debug)]
pub struct Doc {
    pub group: &'static str,
    /// The version of Redis that brought the command; Larder's own for `larder`.
    pub since: &'static str,
    pub summary: &'static str,
    /// <https://redis.io/docs/latest/develop/reference/command-tips/>
    pub tips: &'static [&'static str],
}

macro_rules! docs {
    ($($id:ident $group:literal $since:literal $summary:literal [$($tip:literal),*];)*) => {
        /// The description of a command.
        pub const fn doc(id: CommandId) -> Doc {
            match id {
                $(CommandId::$id => Doc { group: $group, since: $since, summary: $summary, tips: &[$($tip),*] },)*
            }
        }
    };
}

docs! {
    // string
    Append      "string" "2.0.0"  "Adds to the end of a string, which is made when absent." [];
    Decr        "string" "1.0.0"  "Subtracts one from an integer." [];
    Decrby      "string" "1.0.0"  "Subtracts a number from an integer." [];
    Delifeq     "string" "9.0.0"  "Deletes a string when it is the one given." [];
    Get         "string" "1.0.0"  "Reads a string." [];
    Getdel      "string" "6.2.0"  "Reads a string and deletes the key." [];
    Getex       "string" "6.2.0"  "Reads a string and sets or clears its expiry." [];
    Getrange    "string" "2.4.0"  "Reads part of a string." [];
    Getset      "string" "1.0.0"  "Sets a string and returns the old value." [];
    Incr        "string" "1.0.0"  "Adds one to an integer." [];
    Incrby      "string" "1.0.0"  "Adds a number to an integer." [];
    Incrbyfloat "string" "2.6.0"  "Adds a fraction to a number." [];
    Lcs         "string" "7.0.0"  "Finds the longest common subsequence of two strings." [];
    Mget        "string" "1.0.0"  "Reads several strings." ["request_policy:multi_shard"];
    Mset        "string" "1.0.1"  "Sets several strings." ["request_policy:multi_shard", "response_policy:all_succeeded"];
    Msetex      "string" "9.1.0"  "Sets several strings under one condition and with one expiry." ["request_policy:multi_shard", "response_policy:all_succeeded"];
    Msetnx      "string" "1.0.1"  "Sets several strings when none of the keys exists." ["request_policy:multi_shard", "response_policy:agg_min"];
    Psetex      "string" "2.6.0"  "Sets a string with an expiry in milliseconds." [];
    Set         "string" "1.0.0"  "Sets a string, with conditions and expiry as options." [];
    Setex       "string" "2.0.0"  "Sets a string with an expiry in seconds." [];
    Setnx       "string" "1.0.0"  "Sets a string when the key does not exist." [];
    Setrange    "string" "2.2.0"  "Overwrites part of a string." [];
    Strlen      "string" "2.2.0"  "Returns the length of a string." [];
    Substr      "string" "1.0.0"  "Reads part of a string." [];

    // bitmap
    Bitcount   "bitmap" "2.6.0"  "Counts the bits that are set." [];
    Bitfield   "bitmap" "3.2.0"  "Reads and writes integers of any width in a string." [];
    BitfieldRo "bitmap" "6.0.0"  "Reads integers of any width in a string." [];
    Bitop      "bitmap" "2.6.0"  "Combines strings bit by bit." [];
    Bitpos     "bitmap" "2.8.7"  "Finds the first bit that is set or clear." [];
    Getbit     "bitmap" "2.2.0"  "Reads one bit." [];
    Setbit     "bitmap" "2.2.0"  "Writes one bit." [];

    // hash
    Hdel         "hash" "2.0.0"  "Deletes fields of a hash." [];
    Hexists      "hash" "2.0.0"  "Tells whether a hash has a field." [];
    Hexpire      "hash" "7.4.0"  "Sets the expiry of fields in seconds." [];
    Hexpireat    "hash" "7.4.0"  "Sets the expiry of fields as a Unix time in seconds." [];
    Hexpiretime  "hash" "7.4.0"  "Returns the expiry of fields as a Unix time in seconds." [];
    Hget         "hash" "2.0.0"  "Reads a field of a hash." [];
    Hgetall      "hash" "2.0.0"  "Reads all fields of a hash." ["nondeterministic_output_order"];
    Hgetdel      "hash" "8.0.0"  "Reads fields of a hash and deletes them." [];
    Hgetex       "hash" "8.0.0"  "Reads fields of a hash and sets or clears their expiry." [];
    Hincrby      "hash" "2.0.0"  "Adds a number to an integer field." [];
    Hincrbyfloat "hash" "2.6.0"  "Adds a fraction to a number field." [];
    Hkeys        "hash" "2.0.0"  "Lists the fields of a hash." ["nondeterministic_output_order"];
    Hlen         "hash" "2.0.0"  "Counts the fields of a hash." [];
    Hmget        "hash" "2.0.0"  "Reads several fields of a hash." [];
    Hmset        "hash" "2.0.0"  "Sets several fields of a hash." [];
    Hpersist     "hash" "7.4.0"  "Clears the expiry of fields." [];
    Hpexpire     "hash" "7.4.0"  "Sets the expiry of fields in milliseconds." [];
    Hpexpireat   "hash" "7.4.0"  "Sets the expiry of fields as a Unix time in milliseconds." [];
    Hpexpiretime "hash" "7.4.0"  "Returns the expiry of fields as a Unix time in milliseconds." [];
    Hpttl        "hash" "7.4.0"  "Returns the milliseconds that fields have left." ["nondeterministic_output"];
    Hrandfield   "hash" "6.2.0"  "Picks random fields of a hash." ["nondeterministic_output"];
    Hscan        "hash" "2.8.0"  "Walks the fields of a hash by cursor." ["nondeterministic_output"];
    Hset         "hash" "2.0.0"  "Sets fields of a hash." [];
    Hsetex       "hash" "8.0.0"  "Sets fields of a hash with an expiry." [];
    Hsetnx       "hash" "2.0.0"  "Sets a field that the hash does not have." [];
    Hstrlen      "hash" "3.2.0"  "Returns the length of a field's value." [];
    Httl         "hash" "7.4.0"  "Returns the seconds that fields have left." ["nondeterministic_output"];
    Hvals        "hash" "2.0.0"  "Lists the values of a hash." ["nondeterministic_output_order"];

    // list
    Blmove     "list" "6.2.0"  "Moves an element between lists, waiting for one." [];
    Blmpop     "list" "7.0.0"  "Pops from the first list that has elements, waiting for one." [];
    Blpop      "list" "2.0.0"  "Pops the head of the first list that has one, waiting for it." [];
    Brpop      "list" "2.0.0"  "Pops the tail of the first list that has one, waiting for it." [];
    Brpoplpush "list" "2.2.0"  "Moves a list's tail to the head of another, waiting for one." [];
    Lindex     "list" "1.0.0"  "Reads an element of a list." [];
    Linsert    "list" "2.2.0"  "Inserts next to an element of a list." [];
    Llen       "list" "1.0.0"  "Counts the elements of a list." [];
    Lmove      "list" "6.2.0"  "Moves an element between lists." [];
    Lmpop      "list" "7.0.0"  "Pops from the first list that has elements." [];
    Lpop       "list" "1.0.0"  "Pops the head of a list." [];
    Lpos       "list" "6.0.6"  "Finds an element's place in a list." [];
    Lpush      "list" "1.0.0"  "Adds to the head of a list." [];
    Lpushx     "list" "2.2.0"  "Adds to the head of a list that exists." [];
    Lrange     "list" "1.0.0"  "Reads a range of a list." [];
    Lrem       "list" "1.0.0"  "Removes elements of a value from a list." [];
    Lset       "list" "1.0.0"  "Overwrites an element of a list." [];
    Ltrim      "list" "1.0.0"  "Keeps only a range of a list." [];
    Rpop       "list" "1.0.0"  "Pops the tail of a list." [];
    Rpoplpush  "list" "1.2.0"  "Moves a list's tail to the head of another." [];
    Rpush      "list" "1.0.0"  "Adds to the tail of a list." [];
    Rpushx     "list" "2.2.0"  "Adds to the tail of a list that exists." [];

    // set
    Sadd        "set" "1.0.0"  "Adds members to a set." [];
    Scard       "set" "1.0.0"  "Counts the members of a set." [];
    Sdiff       "set" "1.0.0"  "Returns what the first set has and the others lack." ["nondeterministic_output_order"];
    Sdiffstore  "set" "1.0.0"  "Stores what the first set has and the others lack." [];
    Sinter      "set" "1.0.0"  "Returns what all sets have." ["nondeterministic_output_order"];
    Sintercard  "set" "7.0.0"  "Counts what all sets have." [];
    Sinterstore "set" "1.0.0"  "Stores what all sets have." [];
    Sismember   "set" "1.0.0"  "Tells whether a set has a member." [];
    Smembers    "set" "1.0.0"  "Lists the members of a set." ["nondeterministic_output_order"];
    Smismember  "set" "6.2.0"  "Tells which of several members a set has." [];
    Smove       "set" "1.0.0"  "Moves a member between sets." [];
    Spop        "set" "1.0.0"  "Removes random members of a set and returns them." ["nondeterministic_output"];
    Srandmember "set" "1.0.0"  "Picks random members of a set." ["nondeterministic_output"];
    Srem        "set" "1.0.0"  "Removes members from a set." [];
    Sscan       "set" "2.8.0"  "Walks the members of a set by cursor." ["nondeterministic_output"];
    Sunion      "set" "1.0.0"  "Returns what any of the sets has." ["nondeterministic_output_order"];
    Sunionstore "set" "1.0.0"  "Stores what any of the sets has." [];

    // sorted-set
    Bzmpop           "sorted-set" "7.0.0"  "Pops from the first sorted set that has members, waiting for one." [];
    Bzpopmax         "sorted-set" "5.0.0"  "Pops the highest member of the first sorted set that has one, waiting for it." [];
    Bzpopmin         "sorted-set" "5.0.0"  "Pops the lowest member of the first sorted set that has one, waiting for it." [];
    Zadd             "sorted-set" "1.2.0"  "Adds members to a sorted set or changes their scores." [];
    Zcard            "sorted-set" "1.2.0"  "Counts the members of a sorted set." [];
    Zcount           "sorted-set" "2.0.0"  "Counts the members within a range of scores." [];
    Zdiff            "sorted-set" "6.2.0"  "Returns what the first sorted set has and the others lack." [];
    Zdiffstore       "sorted-set" "6.2.0"  "Stores what the first sorted set has and the others lack." [];
    Zincrby          "sorted-set" "1.2.0"  "Adds to a member's score." [];
    Zinter           "sorted-set" "6.2.0"  "Returns what all sorted sets have." [];
    Zintercard       "sorted-set" "7.0.0"  "Counts what all sorted sets have." [];
    Zinterstore      "sorted-set" "2.0.0"  "Stores what all sorted sets have." [];
    Zlexcount        "sorted-set" "2.8.9"  "Counts the members within a range of names." [];
    Zmpop            "sorted-set" "7.0.0"  "Pops from the first sorted set that has members." [];
    Zmscore          "sorted-set" "6.2.0"  "Reads the scores of several members." [];
    Zpopmax          "sorted-set" "5.0.0"  "Pops the highest members." [];
    Zpopmin          "sorted-set" "5.0.0"  "Pops the lowest members." [];
    Zrandmember      "sorted-set" "6.2.0"  "Picks random members of a sorted set." ["nondeterministic_output"];
    Zrange           "sorted-set" "1.2.0"  "Reads a range by rank, score or name." [];
    Zrangebylex      "sorted-set" "2.8.9"  "Reads a range by name." [];
    Zrangebyscore    "sorted-set" "1.0.5"  "Reads a range by score." [];
    Zrangestore      "sorted-set" "6.2.0"  "Stores a range of a sorted set." [];
    Zrank            "sorted-set" "2.0.0"  "Returns a member's rank from the lowest." [];
    Zrem             "sorted-set" "1.2.0"  "Removes members from a sorted set." [];
    Zremrangebylex   "sorted-set" "2.8.9"  "Removes a range by name." [];
    Zremrangebyrank  "sorted-set" "2.0.0"  "Removes a range by rank." [];
    Zremrangebyscore "sorted-set" "1.2.0"  "Removes a range by score." [];
    Zrevrange        "sorted-set" "1.2.0"  "Reads a range by rank from the highest." [];
    Zrevrangebylex   "sorted-set" "2.8.9"  "Reads a range by name from the last." [];
    Zrevrangebyscore "sorted-set" "2.2.0"  "Reads a range by score from the highest." [];
    Zrevrank         "sorted-set" "2.0.0"  "Returns a member's rank from the highest." [];
    Zscan            "sorted-set" "2.8.0"  "Walks the members of a sorted set by cursor." ["nondeterministic_output"];
    Zscore           "sorted-set" "1.2.0"  "Reads a member's score." [];
    Zunion           "sorted-set" "6.2.0"  "Returns what any of the sorted sets has." [];
    Zunionstore      "sorted-set" "2.0.0"  "Stores what any of the sorted sets has." [];

    // stream
    Xack                 "stream" "5.0.0"  "Takes messages off a group's pending list." [];
    Xadd                 "stream" "5.0.0"  "Adds a message to a stream." ["nondeterministic_output"];
    Xautoclaim           "stream" "6.2.0"  "Takes over messages that have been pending for long." ["nondeterministic_output"];
    Xclaim               "stream" "5.0.0"  "Takes over pending messages." ["nondeterministic_output"];
    Xdel                 "stream" "5.0.0"  "Deletes messages of a stream." [];
    Xgroup               "stream" "5.0.0"  "Groups of consumers." [];
    XgroupCreate         "stream" "5.0.0"  "Makes a group." [];
    XgroupCreateconsumer "stream" "6.2.0"  "Makes a consumer of a group." [];
    XgroupDelconsumer    "stream" "5.0.0"  "Deletes a consumer of a group." [];
    XgroupDestroy        "stream" "5.0.0"  "Deletes a group." [];
    XgroupHelp           "stream" "5.0.0"  "Lists the subcommands." [];
    XgroupSetid          "stream" "5.0.0"  "Sets the message that a group has read last." [];
    Xinfo                "stream" "5.0.0"  "What a stream is made of." [];
    XinfoConsumers       "stream" "5.0.0"  "Lists a group's consumers." ["nondeterministic_output"];
    XinfoGroups          "stream" "5.0.0"  "Lists a stream's groups." [];
    XinfoHelp            "stream" "5.0.0"  "Lists the subcommands." [];
    XinfoStream          "stream" "5.0.0"  "Describes a stream." [];
    Xlen                 "stream" "5.0.0"  "Counts the messages of a stream." [];
    Xpending             "stream" "5.0.0"  "Describes a group's pending messages." ["nondeterministic_output"];
    Xrange               "stream" "5.0.0"  "Reads messages from the oldest on." [];
    Xread                "stream" "5.0.0"  "Reads messages of several streams, waiting when asked to." [];
    Xreadgroup           "stream" "5.0.0"  "Reads messages as a consumer of a group." [];
    Xrevrange            "stream" "5.0.0"  "Reads messages from the newest back." [];
    Xsetid               "stream" "5.0.0"  "Sets the id of a stream's last message." [];
    Xtrim                "stream" "5.0.0"  "Drops the oldest messages." ["nondeterministic_output"];

    // hyperloglog
    Pfadd      "hyperloglog" "2.8.9"  "Adds elements to a HyperLogLog." [];
    Pfcount    "hyperloglog" "2.8.9"  "Estimates how many distinct elements there are." [];
    Pfdebug    "hyperloglog" "2.8.9"  "Looks into a HyperLogLog." [];
    Pfmerge    "hyperloglog" "2.8.9"  "Merges HyperLogLogs." [];
    Pfselftest "hyperloglog" "2.8.9"  "Tests the HyperLogLog code." [];

    // geo
    Geoadd              "geo" "3.2.0"  "Adds places." [];
    Geodist             "geo" "3.2.0"  "Returns the distance of two places." [];
    Geohash             "geo" "3.2.0"  "Returns places as geohashes." [];
    Geopos              "geo" "3.2.0"  "Returns the coordinates of places." [];
    Georadius           "geo" "3.2.0"  "Finds places around a point and may store them." [];
    GeoradiusRo         "geo" "3.2.10" "Finds places around a point." [];
    Georadiusbymember   "geo" "3.2.0"  "Finds places around a place and may store them." [];
    GeoradiusbymemberRo "geo" "3.2.10" "Finds places around a place." [];
    Geosearch           "geo" "6.2.0"  "Finds places within a circle or box." [];
    Geosearchstore      "geo" "6.2.0"  "Stores the places within a circle or box." [];

    // generic
    Copy           "generic" "6.2.0"  "Copies a key." [];
    Del            "generic" "1.0.0"  "Deletes keys." ["request_policy:multi_shard", "response_policy:agg_sum"];
    Dump           "generic" "2.6.0"  "Returns a value as bytes that RESTORE takes." ["nondeterministic_output"];
    Exists         "generic" "1.0.0"  "Counts the keys that exist." ["request_policy:multi_shard", "response_policy:agg_sum"];
    Expire         "generic" "1.0.0"  "Sets a key's expiry in seconds." [];
    Expireat       "generic" "1.2.0"  "Sets a key's expiry as a Unix time in seconds." [];
    Expiretime     "generic" "7.0.0"  "Returns a key's expiry as a Unix time in seconds." [];
    Keys           "generic" "1.0.0"  "Lists the keys that match a pattern." ["request_policy:all_shards", "nondeterministic_output_order"];
    Migrate        "generic" "2.6.0"  "Moves keys to another server." ["nondeterministic_output"];
    Move           "generic" "1.0.0"  "Moves a key to another database." [];
    Object         "generic" "2.2.3"  "What a value looks like inside." [];
    ObjectEncoding "generic" "2.2.3"  "Names a value's inner encoding." ["nondeterministic_output"];
    ObjectFreq     "generic" "4.0.0"  "Returns how often a key is used." ["nondeterministic_output"];
    ObjectHelp     "generic" "6.2.0"  "Lists the subcommands." [];
    ObjectIdletime "generic" "2.2.3"  "Returns the seconds since a key was last used." ["nondeterministic_output"];
    ObjectRefcount "generic" "2.2.3"  "Returns how many references a value has." ["nondeterministic_output"];
    Persist        "generic" "2.2.0"  "Clears a key's expiry." [];
    Pexpire        "generic" "2.6.0"  "Sets a key's expiry in milliseconds." [];
    Pexpireat      "generic" "2.6.0"  "Sets a key's expiry as a Unix time in milliseconds." [];
    Pexpiretime    "generic" "7.0.0"  "Returns a key's expiry as a Unix time in milliseconds." [];
    Pttl           "generic" "2.6.0"  "Returns the milliseconds that a key has left." ["nondeterministic_output"];
    Randomkey      "generic" "1.0.0"  "Picks a random key." ["request_policy:all_shards", "nondeterministic_output"];
    Rename         "generic" "1.0.0"  "Renames a key." [];
    Renamenx       "generic" "1.0.0"  "Renames a key when the new name is free." [];
    Restore        "generic" "2.6.0"  "Makes a key of what DUMP returned." [];
    Scan           "generic" "2.8.0"  "Walks all keys by cursor." ["nondeterministic_output", "request_policy:special"];
    Sort           "generic" "1.0.0"  "Sorts a list, set or sorted set, and may store the result." [];
    SortRo         "generic" "7.0.0"  "Sorts a list, set or sorted set." [];
    Touch          "generic" "3.2.1"  "Marks keys as used." ["request_policy:multi_shard", "response_policy:agg_sum"];
    Ttl            "generic" "1.0.0"  "Returns the seconds that a key has left." ["nondeterministic_output"];
    Type           "generic" "1.0.0"  "Names a value's type." [];
    Unlink         "generic" "4.0.0"  "Deletes keys, freeing their memory later." ["request_policy:multi_shard", "response_policy:agg_sum"];
    Wait           "generic" "3.0.0"  "Waits until replicas have the writes of this connection." ["request_policy:all_shards", "response_policy:agg_min"];
    Waitaof        "generic" "7.2.0"  "Waits until the writes of this connection are on disk." ["request_policy:all_shards", "response_policy:agg_min"];

    // scripting
    Eval            "scripting" "2.6.0"  "Runs a script." [];
    EvalRo          "scripting" "7.0.0"  "Runs a script that only reads." [];
    Evalsha         "scripting" "2.6.0"  "Runs a script by its digest." [];
    EvalshaRo       "scripting" "7.0.0"  "Runs a script that only reads, by its digest." [];
    Fcall           "scripting" "7.0.0"  "Calls a function." [];
    FcallRo         "scripting" "7.0.0"  "Calls a function that only reads." [];
    Function        "scripting" "7.0.0"  "Libraries of functions." [];
    FunctionDelete  "scripting" "7.0.0"  "Deletes a library." ["request_policy:all_shards", "response_policy:all_succeeded"];
    FunctionDump    "scripting" "7.0.0"  "Returns all libraries as bytes that FUNCTION RESTORE takes." [];
    FunctionFlush   "scripting" "7.0.0"  "Deletes all libraries." ["request_policy:all_shards", "response_policy:all_succeeded"];
    FunctionHelp    "scripting" "7.0.0"  "Lists the subcommands." [];
    FunctionKill    "scripting" "7.0.0"  "Stops the function that runs." ["request_policy:all_shards", "response_policy:one_succeeded"];
    FunctionList    "scripting" "7.0.0"  "Lists the libraries." ["nondeterministic_output_order"];
    FunctionLoad    "scripting" "7.0.0"  "Makes a library." ["request_policy:all_shards", "response_policy:all_succeeded"];
    FunctionRestore "scripting" "7.0.0"  "Makes libraries of what FUNCTION DUMP returned." ["request_policy:all_shards", "response_policy:all_succeeded"];
    FunctionStats   "scripting" "7.0.0"  "Describes the function that runs." ["nondeterministic_output", "request_policy:all_shards", "response_policy:special"];
    Script          "scripting" "2.6.0"  "The cache of scripts." [];
    ScriptDebug     "scripting" "3.2.0"  "Sets how scripts are debugged." [];
    ScriptExists    "scripting" "2.6.0"  "Tells which scripts are cached." ["request_policy:all_shards", "response_policy:agg_logical_and"];
    ScriptFlush     "scripting" "2.6.0"  "Empties the cache of scripts." ["request_policy:all_nodes", "response_policy:all_succeeded"];
    ScriptHelp      "scripting" "5.0.0"  "Lists the subcommands." [];
    ScriptKill      "scripting" "2.6.0"  "Stops the script that runs." ["request_policy:all_shards", "response_policy:one_succeeded"];
    ScriptLoad      "scripting" "2.6.0"  "Puts a script into the cache." ["request_policy:all_nodes", "response_policy:all_succeeded"];

    // pubsub
    Psubscribe          "pubsub" "2.0.0"  "Listens to channels by pattern." [];
    Publish             "pubsub" "2.0.0"  "Sends a message to a channel." [];
    Pubsub              "pubsub" "2.8.0"  "Who listens to what." [];
    PubsubChannels      "pubsub" "2.8.0"  "Lists the channels that have listeners." [];
    PubsubHelp          "pubsub" "6.2.0"  "Lists the subcommands." [];
    PubsubNumpat        "pubsub" "2.8.0"  "Counts the patterns that are listened to." [];
    PubsubNumsub        "pubsub" "2.8.0"  "Counts the listeners of channels." [];
    PubsubShardchannels "pubsub" "7.0.0"  "Lists the shard channels that have listeners." [];
    PubsubShardnumsub   "pubsub" "7.0.0"  "Counts the listeners of shard channels." [];
    Punsubscribe        "pubsub" "2.0.0"  "Stops listening to patterns." [];
    Spublish            "pubsub" "7.0.0"  "Sends a message to a shard channel." [];
    Ssubscribe          "pubsub" "7.0.0"  "Listens to shard channels." [];
    Subscribe           "pubsub" "2.0.0"  "Listens to channels." [];
    Sunsubscribe        "pubsub" "7.0.0"  "Stops listening to shard channels." [];
    Unsubscribe         "pubsub" "2.0.0"  "Stops listening to channels." [];

    // transactions
    Discard "transactions" "2.0.0"  "Drops the transaction." [];
    Exec    "transactions" "1.2.0"  "Executes the transaction." [];
    Multi   "transactions" "1.2.0"  "Begins a transaction." [];
    Unwatch "transactions" "2.2.0"  "Forgets the watched keys." [];
    Watch   "transactions" "2.2.0"  "Watches keys: the next transaction only executes if they stay as they are." [];

    // connection
    Auth               "connection" "1.0.0"  "Shows who the client is." [];
    Client             "connection" "2.4.0"  "Connections of clients." [];
    ClientCaching      "connection" "6.0.0"  "Chooses what the next command's keys are tracked for." [];
    ClientGetname      "connection" "2.6.9"  "Returns the connection's name." [];
    ClientGetredir     "connection" "6.0.0"  "Returns the connection that gets the tracking messages." [];
    ClientHelp         "connection" "5.0.0"  "Lists the subcommands." [];
    ClientId           "connection" "5.0.0"  "Returns the connection's id." [];
    ClientInfo         "connection" "6.2.0"  "Describes this connection." ["nondeterministic_output"];
    ClientKill         "connection" "2.4.0"  "Ends connections." [];
    ClientList         "connection" "2.4.0"  "Describes all connections." ["nondeterministic_output"];
    ClientNoEvict      "connection" "7.0.0"  "Spares this connection when memory for clients runs out." [];
    ClientNoTouch      "connection" "7.2.0"  "Keeps commands of this connection from counting as use of keys." [];
    ClientPause        "connection" "2.9.50" "Holds back commands for a time." [];
    ClientReply        "connection" "3.2.0"  "Chooses whether replies are sent." [];
    ClientSetinfo      "connection" "7.2.0"  "Tells the name and version of the client's library." [];
    ClientSetname      "connection" "2.6.9"  "Names the connection." [];
    ClientTracking     "connection" "6.0.0"  "Switches invalidation messages on or off." [];
    ClientTrackinginfo "connection" "6.2.0"  "Describes how this connection tracks keys." [];
    ClientUnblock      "connection" "5.0.0"  "Wakes a connection that waits." [];
    ClientUnpause      "connection" "6.2.0"  "Ends a pause." [];
    Echo               "connection" "1.0.0"  "Returns its argument." [];
    Hello              "connection" "6.0.0"  "Opens a conversation: protocol version, user, name." [];
    Ping               "connection" "1.0.0"  "Answers PONG." ["request_policy:all_shards", "response_policy:all_succeeded"];
    Quit               "connection" "1.0.0"  "Ends the connection." [];
    Reset              "connection" "6.2.0"  "Makes the connection as it was when new." [];
    Select             "connection" "1.0.0"  "Chooses a database." [];

    // server
    Acl                    "server" "6.0.0"  "Users and what they may do." [];
    AclCat                 "server" "6.0.0"  "Lists categories, or the commands of one." [];
    AclDeluser             "server" "6.0.0"  "Deletes users." [];
    AclDryrun              "server" "7.0.0"  "Tells whether a user may run a command." [];
    AclGenpass             "server" "6.0.0"  "Makes a password." [];
    AclGetuser             "server" "6.0.0"  "Describes a user." [];
    AclHelp                "server" "6.0.0"  "Lists the subcommands." [];
    AclList                "server" "6.0.0"  "Lists users as rules." [];
    AclLoad                "server" "6.0.0"  "Reads the users from their file." [];
    AclLog                 "server" "6.0.0"  "Lists refusals." [];
    AclSave                "server" "6.0.0"  "Writes the users to their file." [];
    AclSetuser             "server" "6.0.0"  "Makes or changes a user." [];
    AclUsers               "server" "6.0.0"  "Lists the names of users." [];
    AclWhoami              "server" "6.0.0"  "Returns this connection's user." [];
    Bgrewriteaof           "server" "1.0.0"  "Rewrites the append-only file in the background." [];
    Bgsave                 "server" "1.0.0"  "Saves in the background." [];
    Command                "server" "2.8.13" "Facts of commands." ["nondeterministic_output_order"];
    CommandCount           "server" "2.8.13" "Counts the commands." [];
    CommandDocs            "server" "7.0.0"  "Describes commands for people." ["nondeterministic_output_order"];
    CommandGetkeys         "server" "2.8.13" "Finds the keys of a request." [];
    CommandGetkeysandflags "server" "7.0.0"  "Finds the keys of a request and what is done with them." [];
    CommandHelp            "server" "5.0.0"  "Lists the subcommands." [];
    CommandInfo            "server" "2.8.13" "Describes commands for programs." ["nondeterministic_output_order"];
    CommandList            "server" "7.0.0"  "Lists the names of commands." ["nondeterministic_output_order"];
    Config                 "server" "2.0.0"  "Settings of the server." [];
    ConfigGet              "server" "2.0.0"  "Reads settings." [];
    ConfigHelp             "server" "5.0.0"  "Lists the subcommands." [];
    ConfigResetstat        "server" "2.0.0"  "Sets counters back to zero." [];
    ConfigRewrite          "server" "2.8.0"  "Writes the settings to their file." [];
    ConfigSet              "server" "2.0.0"  "Changes settings." ["request_policy:all_nodes", "response_policy:all_succeeded"];
    Dbsize                 "server" "1.0.0"  "Counts the keys." ["request_policy:all_shards", "response_policy:agg_sum"];
    Debug                  "server" "1.0.0"  "Tools for developers." [];
    Failover               "server" "6.2.0"  "Hands over to a replica." [];
    Flushall               "server" "1.0.0"  "Deletes every key of every database." ["request_policy:all_shards", "response_policy:all_succeeded"];
    Flushdb                "server" "1.0.0"  "Deletes every key of this database." ["request_policy:all_shards", "response_policy:all_succeeded"];
    Info                   "server" "1.0.0"  "Reports on the server." ["nondeterministic_output", "request_policy:all_shards", "response_policy:special"];
    Lastsave               "server" "1.0.0"  "Returns when the last save ended." ["nondeterministic_output"];
    Latency                "server" "2.8.13" "Records of slow events." [];
    LatencyDoctor          "server" "2.8.13" "Explains the slow events." ["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"];
    LatencyGraph           "server" "2.8.13" "Draws the slow events of a kind." ["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"];
    LatencyHelp            "server" "2.8.13" "Lists the subcommands." [];
    LatencyHistogram       "server" "7.0.0"  "Returns how long commands took." ["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"];
    LatencyHistory         "server" "2.8.13" "Lists the slow events of a kind." ["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"];
    LatencyLatest          "server" "2.8.13" "Lists the latest slow event of each kind." ["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"];
    LatencyReset           "server" "2.8.13" "Forgets slow events." ["request_policy:all_nodes", "response_policy:all_succeeded"];
    Lolwut                 "server" "5.0.0"  "Shows the version, with some art." [];
    Memory                 "server" "4.0.0"  "Where memory goes." [];
    MemoryDoctor           "server" "4.0.0"  "Explains how memory is used." ["nondeterministic_output", "request_policy:all_shards", "response_policy:special"];
    MemoryHelp             "server" "4.0.0"  "Lists the subcommands." [];
    MemoryMallocStats      "server" "4.0.0"  "Reports on the allocator." ["nondeterministic_output", "request_policy:all_shards", "response_policy:special"];
    MemoryPurge            "server" "4.0.0"  "Gives free memory back to the system." ["request_policy:all_shards", "response_policy:all_succeeded"];
    MemoryStats            "server" "4.0.0"  "Reports on memory." ["nondeterministic_output", "request_policy:all_shards", "response_policy:special"];
    MemoryUsage            "server" "4.0.0"  "Returns the bytes that a key takes." [];
    Module                 "server" "4.0.0"  "Modules." [];
    ModuleHelp             "server" "5.0.0"  "Lists the subcommands." [];
    ModuleList             "server" "4.0.0"  "Lists the modules." ["nondeterministic_output_order"];
    ModuleLoad             "server" "4.0.0"  "Loads a module." [];
    ModuleLoadex           "server" "7.0.0"  "Loads a module with settings." [];
    ModuleUnload           "server" "4.0.0"  "Unloads a module." [];
    Monitor                "server" "1.0.0"  "Shows every command that the server gets." [];
    Psync                  "server" "2.8.0"  "Begins replication." [];
    Replconf               "server" "3.0.0"  "Says how replication is to go." [];
    Replicaof              "server" "5.0.0"  "Makes the server a replica, or a primary again." [];
    RestoreAsking          "server" "3.0.0"  "Restores a key that is moving between nodes." [];
    Role                   "server" "2.8.12" "Returns the server's part in replication." [];
    Save                   "server" "1.0.0"  "Saves and waits for it." [];
    Shutdown               "server" "1.0.0"  "Ends the server." [];
    Slaveof                "server" "1.0.0"  "Makes the server a replica, or a primary again." [];
    Slowlog                "server" "2.2.12" "The log of slow commands." [];
    SlowlogGet             "server" "2.2.12" "Lists the latest slow commands." ["request_policy:all_nodes", "nondeterministic_output"];
    SlowlogHelp            "server" "6.2.0"  "Lists the subcommands." [];
    SlowlogLen             "server" "2.2.12" "Counts the slow commands in the log." ["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"];
    SlowlogReset           "server" "2.2.12" "Empties the log." ["request_policy:all_nodes", "response_policy:all_succeeded"];
    Swapdb                 "server" "4.0.0"  "Swaps two databases." [];
    Sync                   "server" "1.0.0"  "Begins replication, in the old way." [];
    Time                   "server" "2.6.0"  "Returns the server's time." ["nondeterministic_output"];

    // cluster
    Asking                     "cluster" "3.0.0"  "Lets the next command use a slot that is moving in." [];
    Cluster                    "cluster" "3.0.0"  "The cluster." [];
    ClusterAddslots            "cluster" "3.0.0"  "Assigns slots." [];
    ClusterAddslotsrange       "cluster" "7.0.0"  "Assigns ranges of slots." [];
    ClusterBumpepoch           "cluster" "3.0.0"  "Raises the epoch." ["nondeterministic_output"];
    ClusterCountFailureReports "cluster" "3.0.0"  "Counts who reports a node as failing." ["nondeterministic_output"];
    ClusterCountkeysinslot     "cluster" "3.0.0"  "Counts the keys of a slot." [];
    ClusterDelslots            "cluster" "3.0.0"  "Takes slots away." [];
    ClusterDelslotsrange       "cluster" "7.0.0"  "Takes ranges of slots away." [];
    ClusterFailover            "cluster" "3.0.0"  "Makes a replica take over." [];
    ClusterFlushslots          "cluster" "3.0.0"  "Takes all slots away." [];
    ClusterForget              "cluster" "3.0.0"  "Removes a node." [];
    ClusterGetkeysinslot       "cluster" "3.0.0"  "Lists keys of a slot." ["nondeterministic_output"];
    ClusterHelp                "cluster" "5.0.0"  "Lists the subcommands." [];
    ClusterInfo                "cluster" "3.0.0"  "Reports on the cluster." ["nondeterministic_output"];
    ClusterKeyslot             "cluster" "3.0.0"  "Returns the slot of a key." [];
    ClusterLinks               "cluster" "7.0.0"  "Lists the links between nodes." ["nondeterministic_output"];
    ClusterMeet                "cluster" "3.0.0"  "Introduces a node." [];
    ClusterMyid                "cluster" "3.0.0"  "Returns this node's id." [];
    ClusterMyshardid           "cluster" "7.2.0"  "Returns the id of this node's shard." ["nondeterministic_output"];
    ClusterNodes               "cluster" "3.0.0"  "Lists the nodes." ["nondeterministic_output"];
    ClusterReplicas            "cluster" "5.0.0"  "Lists the replicas of a node." ["nondeterministic_output"];
    ClusterReplicate           "cluster" "3.0.0"  "Makes this node a replica." [];
    ClusterReset               "cluster" "3.0.0"  "Makes this node as it was when new." [];
    ClusterSaveconfig          "cluster" "3.0.0"  "Writes the cluster's state to its file." [];
    ClusterSetConfigEpoch      "cluster" "3.0.0"  "Sets the epoch of a new node." [];
    ClusterSetslot             "cluster" "3.0.0"  "Sets who owns a slot." [];
    ClusterShards              "cluster" "7.0.0"  "Lists the shards with their nodes and slots." ["nondeterministic_output"];
    ClusterSlaves              "cluster" "3.0.0"  "Lists the replicas of a node." ["nondeterministic_output"];
    ClusterSlots               "cluster" "3.0.0"  "Lists the ranges of slots with their nodes." ["nondeterministic_output"];
    Readonly                   "cluster" "3.0.0"  "Lets this connection read from a replica." [];
    Readwrite                  "cluster" "3.0.0"  "Takes back READONLY." [];

    // larder
    Larder          "larder" "0.1.0"  "The control protocol and the operator's commands." [];
    LarderHello     "larder" "0.1.0"  "Opens an internal connection with the cluster's secret." [];
    LarderJoin      "larder" "0.1.0"  "Registers a node or a proxy." [];
    LarderWatch     "larder" "0.1.0"  "Sends the slot map and each change of it." [];
    LarderMap       "larder" "0.1.0"  "Hands a node the slot map." [];
    LarderImport    "larder" "0.1.0"  "Tells a node to take slots from another." [];
    LarderAwait     "larder" "0.1.0"  "Waits until an import is ready or has failed." [];
    LarderAbort     "larder" "0.1.0"  "Voids an attempt to move slots." [];
    LarderState     "larder" "0.1.0"  "Returns what a node says of itself." [];
    LarderFeed      "larder" "0.1.0"  "Turns the connection into a feed of slots." [];
    LarderReplicate "larder" "0.1.0"  "Turns the connection into a replica's stream." [];
    LarderFence     "larder" "0.1.0"  "Tells a replica to let go of a primary that is suspected." [];
    LarderUnfence   "larder" "0.1.0"  "Calls a failover off." [];
    LarderYield     "larder" "0.1.0"  "Tells a primary to let a replica take its place." [];
    LarderHold      "larder" "0.1.0"  "Makes writes wait until a backup has begun." [];
    LarderPublish   "larder" "0.1.0"  "Posts a message to those who listen to this node directly, and to no proxy." [];
    LarderSnapshot  "larder" "0.1.0"  "Turns the connection into a stream of the node's keys at one moment." [];
    LarderForward   "larder" "0.1.0"  "Forwards to the server that is copied from, or turns to Larder." [];
    LarderStatus    "larder" "0.1.0"  "Describes the cluster." [];
    LarderReshard   "larder" "0.1.0"  "Changes the number of shards." [];
    LarderMove      "larder" "0.1.0"  "Moves a range of slots to a node." [];
    LarderRebalance "larder" "0.1.0"  "Evens out the slots of the shards." [];
    LarderFailover  "larder" "0.1.0"  "Makes a replica the primary of its shard." [];
    LarderReplicas  "larder" "0.1.0"  "Changes the number of replicas of each shard." [];
    LarderWrites    "larder" "0.1.0"  "Sets when a write is answered: async or safe." [];
    LarderMoves     "larder" "0.1.0"  "Lists the moves under way." [];
}
