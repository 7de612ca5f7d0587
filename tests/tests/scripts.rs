//! Scripts and functions on a node and on a real redis-server: the same replies, errors and their places included, in RESP2 and RESP3.

use std::time::{Duration, Instant};

use larder_tests::RedisServer;
use larder_tests::client::{Client, REPLY_WAIT_S_MAX};
use larder_tests::reply::Reply;
use larder_tests::standalone::Standalone;

/// Run one after the other on both; some leave something for those behind them.
#[rustfmt::skip]
const SCRIPTS: &[&str] = &[
    "return 1",
    "return 'hello'",
    "return {1,2,3,'a',{4,5}}",
    "return {ok='fine'}",
    "return {err='BAD news'}",
    "return {err='nocode'}",
    "return redis.error_reply('MY ERR')",
    "return redis.error_reply('MYERR')",
    "return redis.error_reply('-MYERR text')",
    "return redis.status_reply('STATUS')",
    "return redis.error_reply()",
    "return 3.99",
    "return -3.99",
    "return true",
    "return false",
    "return nil",
    "return {1,nil,3}",
    "return {1,2,nil,4}",
    "return redis.call('set','k','v')",
    "return redis.call('get','k')",
    "return redis.call('get','nokey')",
    "return redis.pcall('get')",
    "return redis.call('get')",
    "return redis.call('nosuch')",
    "return redis.call()",
    "return redis.call({})",
    "return redis.call('set','k',1.5)",
    "return redis.call('set','k',0.1)",
    "return redis.call('lpush','k','x')",
    "return redis.pcall('lpush','k','x')",
    "local r = redis.pcall('lpush','k','x') return r.err",
    "local r = redis.pcall('lpush','k','x') return type(r.ignore_error_stats_update)",
    "local a,b = pcall(redis.call,'lpush','k','x') return {tostring(a), b}",
    "local a,b = pcall(function() return redis.call('lpush','k','x') end) return {tostring(a), type(b), b}",
    "return pcall(function() error({err='X y'}) end)",
    "local a,b = pcall(error, 'text') return b",
    "local ok, e = xpcall(function() return redis.call('nope') end, function(e) return type(e)..' '..e.err end) return e",
    "error('boom')",
    "error({err='My Err'})",
    "error({err='My Err', foo=1})",
    "return error('tail')",
    "x = 1",
    "return x",
    "return foo.bar",
    "_G.x = 1",
    "setmetatable(_G, {})",
    "return setmetatable(_G, {})",
    "rawset(_G, 'a', 1)",
    "local g = getmetatable(_G) g.__index = {}",
    "redis = 1",
    "redis.call = 1",
    "string.foo = 1",
    "cjson.encode = 1",
    "getmetatable('').__index = 1",
    "getmetatable('').__index.foo = 1",
    "return type(getmetatable(_G))",
    "return tostring(rawget(_G,'redis') ~= nil)",
    "return tostring(rawget(_G,'nope'))",
    "local n=0 for k,v in pairs(redis) do n=n+1 end return n",
    // The nodes know the server by Valkey's name, too.
    "local t={} for k,v in pairs(_G) do if k ~= 'server' then t[#t+1]=k end end table.sort(t) return t",
    "local t={} for k,v in pairs(redis) do t[#t+1]=k end table.sort(t) return t",
    "local t={} for k,v in pairs(math) do t[#t+1]=k end table.sort(t) return t",
    "local t={} for k,v in pairs(string) do t[#t+1]=k end table.sort(t) return t",
    "local t={} for k,v in pairs(table) do t[#t+1]=k end table.sort(t) return t",
    "local t={} for k,v in pairs(cjson) do t[#t+1]=k end table.sort(t) return t",
    "local t={} for k,v in pairs(cmsgpack) do t[#t+1]=k end table.sort(t) return t",
    "local t={} for k,v in pairs(bit) do t[#t+1]=k end table.sort(t) return t",
    "local t={} for k,v in pairs(struct) do t[#t+1]=k end table.sort(t) return t",
    "local t={} for k,v in pairs(coroutine) do t[#t+1]=k end table.sort(t) return t",
    "return print",
    "return os",
    "return io",
    "return loadfile",
    "return dofile",
    "return require",
    "return newproxy",
    "return getfenv",
    "return debug",
    "return ('x'):rep(3)",
    "return ('abc'):upper()",
    "return tostring(next({}))",
    "return next({5})",
    "for k in pairs(nil) do end",
    "return ipairs()",
    "return string.rep()",
    r#"return ("x"):bad()"#,
    "return 1 + nil",
    "return #nil",
    "return redis.sha1hex('')",
    "return redis.sha1hex('abc')",
    "return redis.sha1hex()",
    "return redis.REDIS_VERSION",
    "return redis.REDIS_VERSION_NUM",
    "return redis.log(redis.LOG_DEBUG,'x')",
    "return redis.log()",
    "return redis.log(1)",
    "return redis.log('a','b')",
    "return redis.log(10,'b')",
    "return redis.setresp(3)",
    "return redis.setresp(4)",
    "return redis.setresp()",
    "return redis.set_repl(redis.REPL_ALL)",
    "return redis.set_repl(10)",
    "return redis.set_repl()",
    "return tostring(redis.replicate_commands())",
    "return tostring(redis.breakpoint())",
    "return redis.debug('x')",
    "return tostring(redis.acl_check_cmd('set','a','b'))",
    "return redis.acl_check_cmd('nosuch')",
    "return redis.acl_check_cmd()",
    "redis.setresp(3) return redis.call('hgetall','h')",
    "redis.call('hset','h','a',1) return redis.call('hgetall','h')",
    "redis.setresp(3) redis.call('hset','h','a',1) return redis.call('hgetall','h')",
    "redis.setresp(3) local r=redis.call('hgetall','h') return type(r.map)",
    "redis.setresp(3) redis.call('sadd','s','a') return redis.call('smembers','s')",
    "redis.setresp(3) redis.call('zadd','z',1.5,'a') return redis.call('zscore','z','a')",
    "redis.setresp(3) local r = redis.call('zscore','z','a') return tostring(r.double)",
    "redis.setresp(3) return redis.call('get','nokey')",
    "redis.setresp(3) return tostring(redis.call('get','nokey'))",
    "redis.setresp(3) return true",
    "redis.setresp(3) return false",
    "redis.setresp(3) return {true,false}",
    "return redis.call('zscore','z','a')",
    "return {double=3.25}",
    "return {double='x'}",
    "return {map={a=1}}",
    "return {set={a=true}}",
    "return {big_number='12345678901234567890'}",
    r#"return {big_number='12\r\n3'}"#,
    "return {verbatim_string={format='txt', string='hello'}}",
    "return {map={[1]='x'}}",
    "return redis.call('select',99)",
    "return redis.call('select',0)",
    "return redis.call('select',1)",
    "return redis.call('ping')",
    "return redis.call('multi')",
    "return redis.call('eval','return 1','0')",
    "return redis.call('subscribe','x')",
    "return redis.call('auth','x')",
    "return redis.call('client','nosuch')",
    "return redis.call('config','nosuch')",
    "return tostring(math.random() < 1)",
    "math.randomseed(1) return {tostring(math.random()), math.random(100), math.random(5,10)}",
    "return math.random(0)",
    "return math.random(2,1)",
    "return math.random(1,2,3)",
    "return math.randomseed()",
    "return cjson.encode({1,2,3})",
    "return cjson.encode({})",
    "return cjson.encode({a=1})",
    "return cjson.encode({{}})",
    r#"return cjson.encode('a"b/c\n\t\127é')"#,
    "return cjson.encode({1,nil,3})",
    "return cjson.encode({[5]=1})",
    "return cjson.encode({[100]=1})",
    "return cjson.encode(1/0)",
    "return cjson.encode(0/0)",
    "return cjson.encode(print_)",
    "return cjson.encode(function() end)",
    "return cjson.encode({[true]=1})",
    "return cjson.encode()",
    "return cjson.encode(1,2)",
    "return cjson.encode(cjson.null)",
    "return cjson.encode(1.5)",
    "return cjson.encode(12345678901234567890)",
    "return cjson.encode(0.1)",
    "return cjson.encode({1e10,1e20,-5,1e-10})",
    r#"return cjson.decode('[1,2,{"a":"b"}]')[3].a"#,
    "return tostring(cjson.decode('null') == cjson.null)",
    "return tostring(cjson.decode('true'))",
    r#"return cjson.decode('"\\u00e9\\ud83d\\ude00"')"#,
    r#"return cjson.decode('"\\ud83d"')"#,
    r#"return cjson.decode('"\\q"')"#,
    r#"return cjson.decode('"abc')"#,
    "return cjson.decode('{')",
    "return cjson.decode('{1:2}')",
    r#"return cjson.decode('{"a" 2}')"#,
    r#"return cjson.decode('{"a":2 "b"')"#,
    "return cjson.decode('[1 2]')",
    "return cjson.decode('[1,')",
    "return cjson.decode('')",
    "return cjson.decode('nul')",
    "return cjson.decode('1 2')",
    "return cjson.decode('@')",
    "return tostring(cjson.decode('0x10'))",
    "return tostring(cjson.decode('inf'))",
    "return tostring(cjson.decode('-nan'))",
    "return tostring(cjson.decode('1.5e3'))",
    "return cjson.decode('-')",
    "return cjson.decode(5)",
    "return cjson.decode({})",
    "return cjson.decode()",
    r#"return cjson.decode('\0\0')"#,
    "return cjson.decode(string.rep('[',1001)..string.rep(']',1001))",
    "local t={} for i=1,1001 do t={t} end return cjson.encode(t)",
    "cjson.encode_max_depth(3) local ok,e = pcall(cjson.encode,{{{{1}}}}) cjson.encode_max_depth(1000) return e",
    "return cjson.encode_max_depth(0)",
    "return cjson.encode_number_precision(15)",
    "return cjson.encode_number_precision()",
    "return tostring(cjson.encode_keep_buffer())",
    "return tostring(cjson.encode_invalid_numbers())",
    "return cjson.encode_invalid_numbers('null') and tostring(cjson.encode_invalid_numbers(false))",
    "return cjson.encode_invalid_numbers('xx')",
    "local a,b,c = cjson.encode_sparse_array() return {tostring(a),b,c}",
    "cjson.encode_sparse_array(true,1,2) local x=cjson.encode({[5]=1}) cjson.encode_sparse_array(false,2,10) return x",
    "local c = cjson.new() return c.encode({1})",
    "return cjson._VERSION",
    "local s = cmsgpack.pack({1,2,3}) return {#s, s}",
    "return cmsgpack.pack({a=1})",
    "return cmsgpack.pack('x', 1, true, nil)",
    "return cmsgpack.pack(1.5)",
    "return cmsgpack.pack(1e300)",
    "return cmsgpack.pack(-1,-33,-200,-40000,-3e9,200,300,70000,5e9)",
    "return cmsgpack.pack(string.rep('x',40))",
    "return cmsgpack.pack(string.rep('x',300))",
    "return cmsgpack.pack()",
    "local t = cmsgpack.unpack(cmsgpack.pack({1,{a='b'},3})) return {t[1], t[2].a, t[3]}",
    "return {cmsgpack.unpack(cmsgpack.pack(1,2,'three'))}",
    "return {cmsgpack.unpack_one(cmsgpack.pack(1,2))}",
    "return {cmsgpack.unpack_one(cmsgpack.pack(1,2),1)}",
    "return {cmsgpack.unpack_limit(cmsgpack.pack(1,2,3),2,0)}",
    "return cmsgpack.unpack_limit('a',-1)",
    "return cmsgpack.unpack_one('a',5)",
    r#"return cmsgpack.unpack('\xff\xc1')"#,
    r#"return cmsgpack.unpack('\x92\1')"#,
    "return cmsgpack.unpack(string.char(146,1))",
    "return cmsgpack.unpack(string.char(193))",
    "local a = {} a[1]=a return cmsgpack.pack(a)",
    "return {bit.tobit(0xffffffff), bit.bnot(0), bit.band(7,3), bit.bor(1,2,4), bit.bxor(5,1)}",
    "return {bit.lshift(1,31), bit.rshift(-1,28), bit.arshift(-256,8), bit.rol(0x12345678,12), bit.ror(0x12345678,12), bit.bswap(0x12345678)}",
    "return {bit.tohex(1), bit.tohex(-1,4), bit.tohex(255,-2), bit.tohex(1,20)}",
    "return bit.tobit()",
    "return bit.tobit('x')",
    "return bit.tobit('12')",
    "return bit.band()",
    "return {struct.pack('>I2',258), struct.pack('<i4',-2), struct.size('i8')}",
    "return {struct.unpack('>I2', struct.pack('>I2',258))}",
    "return {struct.unpack('<i4s', struct.pack('<i4s',-2,'hey'))}",
    "return struct.pack('!4 b i4',1,2)",
    "return {struct.unpack('c0', 'x')}",
    "return {struct.unpack('bc0', string.char(3)..'abc')}",
    "return struct.pack('s','x')",
    "return struct.pack('z',1)",
    "return struct.size('s')",
    "return struct.size('i33')",
    "return struct.size('!3')",
    "return struct.unpack('i4','ab')",
    "return struct.unpack('i4','abcdefgh',0)",
    "return struct.unpack('s','abc')",
    "return struct.pack('i')",
    "return struct.pack('d',1.5)",
    "return {struct.unpack('f', struct.pack('f',0.5))}",
    "return struct.pack('>I8', 1e15)",
    "return struct.pack('c2','x')",
    "return loadstring('return 5')()",
    r#"local a,b = loadstring("\27Lua") return b"#,
    "local a,b = load(function() return nil end) return type(a)",
    "local a,b = loadstring('bad bad') return b",
    "return collectgarbage('count') > 0",
    "local co = coroutine.create(function() return redis.call('nope') end) local a,b = coroutine.resume(co) return {tostring(a), b}",
    "local f = coroutine.wrap(function() return redis.call('nope') end) return f()",
    "local f = coroutine.wrap(function() error('in co') end) return f()",
    "local function f() return f() + 1 end return f()",
    "return string.format('%d %s %5.2f', 3, 'x', 2.5)",
    "return ('x'):find('(')",
    "return {('hello world'):match('(%w+) (%w+)')}",
    "return table.concat({1,2,3},',')",
    "return table.getn({1,2})",
    "return table.concat({{}})",
    "return {unpack({1,2,3})}",
    "return select('#',1,2,3)",
    "return tonumber('10',2)",
    "return tonumber('0x10')",
    "return tostring(1e15)",
    "return tostring(0.1)",
    "return {1e15, 1e18, 1e19, -1e19}",
    "return type(KEYS)..#KEYS..#ARGV",
    "KEYS[1]='changed' return KEYS[1]",
    "KEYS = 1",
    "return assert(false)",
    "return assert(nil,'msg')",
    "return assert(redis.call('nope'))",
    "return assert(redis.pcall('nope'))",
    "return assert(false, {err='ERR in assert'})",
    "bad syntax",
    "return {'a', redis.pcall('nope'), 'b'}",
    "return {{{{1}}}}",
    "local a = {} for i=1,100 do a={a} end return #cjson.encode(a)",
    "#!lua\nreturn 1",
    "#!lua name=x\nreturn 1",
    "#!lua flags=no-writes\nreturn redis.call('set','a','b')",
    "#!lua flags=no-writes\nreturn redis.call('publish','a','b')",
    "#!lua flags=bad\nreturn 1",
    "#!lua flags=\nreturn 1",
    "#!lua flags=no-writes,\nreturn 1",
    "#!python\nreturn 1",
    "#!",
    "#!\nreturn 1",
    "#!lua flags=no-cluster\nreturn 1",
    "\nreturn foo",
    "-- comment\n\nerror('line 3')",
    "local function f()\n  error('deep')\nend\nf()",
    "local function f()\n  return redis.call('nope')\nend\nreturn f()",
    "return redis.call('incr','k')",
    "return redis.pcall('incr','k').err",
    "return redis.call('object','help')[1]",
    "return redis.call('xadd','st','1-1','a','b')",
    "return redis.call('xrange','st','-','+')",
    "return redis.call('lrange','nolist',0,-1)",
    "return redis.call('wait','1','0')",
    "return redis.call('function','list')",
    "return redis.call('script','load','x')",
    "return redis.call('get','k','extra')",
    "return redis.call('SET','k2',true)",
    "return redis.call('SET','k2',nil)",
    "return redis.call(1)",
];

/// Sources of libraries, most of them wrong in some way.
const LIBRARIES: &[&str] = &[
    "no first line",
    "#!lua",
    "#!lua\nreturn 1",
    "#!python name=x\nreturn 1",
    "#!lua name=a-b\nreturn 1",
    "#!lua name=a name=b\nreturn 1",
    "#!lua name=a more=b\nreturn 1",
    "#!lua name=lib\nreturn 1",
    "#!lua name=lib\nbad syntax",
    "#!lua name=lib\nredis.register_function('a-b', function() end)",
    "#!lua name=lib\nredis.register_function('f', 1)",
    "#!lua name=lib\nredis.register_function(1)",
    "#!lua name=lib\nredis.register_function()",
    "#!lua name=lib\nredis.register_function{function_name='f'}",
    "#!lua name=lib\nredis.register_function{callback=function() end}",
    "#!lua name=lib\nredis.register_function{function_name='f', callback=function() end, flags={'bad'}}",
    "#!lua name=lib\nredis.register_function{function_name='f', callback=function() end, more=1}",
    "#!lua name=lib\nredis.register_function('f', function() end) redis.register_function('f', function() end)",
    "#!lua name=lib\nredis.call('PING')",
    "#!lua name=lib\nlocal a = string.rep('x', 2)",
    "#!lua name=lib\na = 1",
    "#!lua name=lib\nerror('boom')",
    "#!lua name=lib\nredis.register_function('f', function(keys, args) return {keys, args} end)",
    "#!lua name=lib\nredis.register_function('g', function(keys, args) return {keys, args} end)",
    "#!lua name=other\nredis.register_function('F', function() end)",
];

/// What is asked of both once the libraries are loaded.
const REQUESTS: &[&str] = &[
    "FCALL f 1 k a",
    "FCALL F 0",
    "FCALL none 0",
    "FCALL f x",
    "FCALL f 2 k",
    "FCALL f -1",
    "FCALL_RO f 0",
    "FUNCTION STATS",
    "FUNCTION LIST",
    "FUNCTION LIST LIBRARYNAME l* WITHCODE",
    "FUNCTION LIST LIBRARYNAME",
    "FUNCTION LIST MORE",
    "FUNCTION KILL",
    "FUNCTION HELP",
    "FUNCTION DELETE none",
    "FUNCTION DELETE lib",
    "FUNCTION RESTORE x",
    "FUNCTION FLUSH MORE",
    "FUNCTION FLUSH ASYNC",
    "SCRIPT HELP",
    "SCRIPT EXISTS 4ca238f611c9d0ae4e9a75a5dbac22aedc1e4ff8 x",
    "SCRIPT KILL",
    "SCRIPT FLUSH MORE",
    "SCRIPT FLUSH SYNC",
    "EVALSHA 4ca238f611c9d0ae4e9a75a5dbac22aedc1e4ff8 0",
    "EVALSHA x 0",
    "EVAL 1 x",
    "EVAL 1 -1",
    "EVAL 1 3 a",
];

/// The same requests to both servers.
struct Both {
    redis: Client,
    node: Client,
}

impl Both {
    fn compare(&mut self, args: &[&str]) {
        let expected = self.redis.ask(args).expect("redis-server answers");
        let reply = self.node.ask(args).expect("the node answers");
        assert_eq!(sorted(reply), sorted(expected), "{args:?}");
    }
}

/// The order of sets is nobody's.
fn sorted(reply: Reply) -> Reply {
    match reply {
        Reply::Set(mut members) => {
            members.sort();
            Reply::Set(members)
        }
        other => other,
    }
}

fn both_in(protocol: &str, test: impl FnOnce(&mut Both)) {
    let redis = RedisServer::start();
    let node = Standalone::start();
    let mut both = Both {
        redis: redis.client(),
        node: node.client(),
    };
    for client in [&mut both.redis, &mut both.node] {
        let greeted = client.ask(&["HELLO", protocol]).expect("HELLO is answered");
        assert!(!greeted.is_error(), "{greeted:?}");
    }
    test(&mut both);
}

#[test]
fn scripts_answer_as_on_redis_in_both_protocols() {
    for protocol in ["2", "3"] {
        both_in(protocol, |both| {
            for script in SCRIPTS {
                both.compare(&["EVAL", script, "0"]);
            }
        });
    }
}

#[test]
fn functions_answer_as_on_redis_in_both_protocols() {
    for protocol in ["2", "3"] {
        both_in(protocol, |both| {
            for library in LIBRARIES {
                both.compare(&["FUNCTION", "LOAD", library]);
            }
            for request in REQUESTS {
                both.compare(&request.split(' ').collect::<Vec<_>>());
            }
        });
    }
}

#[test]
fn libraries_move_between_redis_and_a_node() {
    let redis = RedisServer::start();
    let node = Standalone::start();
    let (mut redis, mut node) = (redis.client(), node.client());
    let library = format!(
        "#!lua name=lib\nredis.register_function('f', function() return 'here' end)\n--{}",
        "x".repeat(300)
    );
    for (from, to) in [(0, 1), (1, 0)] {
        let mut servers = [&mut redis, &mut node];
        for server in &mut servers {
            assert_eq!(server.run("FUNCTION FLUSH"), Reply::ok());
        }
        let loaded = servers[from].ask(&["FUNCTION", "LOAD", &library]);
        assert_eq!(loaded.expect("an answer"), Reply::bulk("lib"));
        let dump = servers[from].run("FUNCTION DUMP");
        let payload = dump.as_bytes().expect("a payload").to_vec();
        let request: [&[u8]; 3] = [b"FUNCTION", b"RESTORE", &payload];
        assert_eq!(servers[to].ask(&request).expect("an answer"), Reply::ok());
        assert_eq!(servers[to].run("FCALL f 0"), Reply::bulk("here"));
    }
}

#[test]
fn others_are_served_while_a_script_is_busy() {
    let node = Standalone::start();
    let (mut caller, mut other) = (node.client(), node.client());
    assert_eq!(other.run("CONFIG SET busy-reply-threshold 20"), Reply::ok());
    let endless: &[&str] = &["EVAL", "while true do end", "0"];
    caller.send(endless).expect("a connection");
    let deadline = Instant::now() + Duration::from_secs(REPLY_WAIT_S_MAX);
    loop {
        let reply = other.run("PING");
        if reply.is_error() {
            let text = reply.as_text().unwrap_or_default();
            assert!(text.starts_with("BUSY Redis is busy"), "{text}");
            break;
        }
        assert!(Instant::now() < deadline, "the script is never busy");
    }
    assert_eq!(other.run("SCRIPT KILL"), Reply::ok());
    let ended = caller.read().expect("an answer");
    assert!(ended.is_error(), "{ended:?}");
    assert_eq!(other.run("PING"), Reply::Simple("PONG".to_owned()));
    assert_eq!(caller.run("PING"), Reply::Simple("PONG".to_owned()));
}
