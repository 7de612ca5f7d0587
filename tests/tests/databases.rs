//! Numbered databases as a real redis-server has them: the same requests, on the same connections, get the same replies.

use larder_tests::standalone::Standalone;
use larder_tests::{Client, RedisServer, Reply};

/// Connections of a story; a line that begins with `1:` goes to the second.
const CONNECTIONS: usize = 2;

/// The two servers that are compared.
struct Servers {
    redis: RedisServer,
    node: Standalone,
}

impl Servers {
    fn start() -> Servers {
        Servers {
            redis: RedisServer::start_with(&["--enable-debug-command", "local"]),
            node: Standalone::start(),
        }
    }

    /// Demands the replies of the real server to each line, beginning with empty servers and fresh connections.
    fn compare(&self, story: &str) {
        let clients = |client: &dyn Fn() -> Client| (0..CONNECTIONS).map(|_| client()).collect();
        let wanted = replies(clients(&|| self.redis.client()), story);
        let got = replies(clients(&|| self.node.client()), story);
        for (wanted, got) in wanted.iter().zip(&got) {
            assert_eq!(got, wanted, "in\n{story}");
        }
    }
}

fn replies(mut clients: Vec<Client>, story: &str) -> Vec<(String, Reply)> {
    assert_eq!(clients[0].run("FLUSHALL"), Reply::ok());
    assert_eq!(clients[0].run("DEBUG SET-ACTIVE-EXPIRE 1"), Reply::ok());
    let lines = story.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (number, request) = line.split_once(':').unwrap_or(("0", line));
            let number: usize = number.parse().expect("a connection's number");
            (line.to_owned(), without_mean(clients[number].run(request)))
        })
        .collect()
}

/// The mean time to live depends on when each server has looked last.
fn without_mean(reply: Reply) -> Reply {
    match reply.as_text() {
        Some(text) if text.contains("avg_ttl=") => {
            let lines = text.lines().map(|line| line.split(",avg_ttl=").next());
            let lines: Vec<&str> = lines.flatten().collect();
            Reply::Bulk(lines.join("\n").into_bytes())
        }
        _ => reply,
    }
}

#[test]
fn keys_are_of_the_database_that_was_selected() {
    Servers::start().compare(
        "SELECT 15\nSELECT 16\nSELECT -1\nSELECT x\nSELECT 99999999999\nSELECT\nSELECT 1 2
         SELECT 0\nSET a 1\nSET b 1 EX 1000\nDBSIZE\nSELECT 3\nDBSIZE\nGET a\nRANDOMKEY\nKEYS *\nSCAN 0
         SET a 3\nINFO keyspace\n1:GET a\n1:SELECT 3\n1:GET a\nCONFIG GET databases
         FLUSHDB\nDBSIZE\n1:SELECT 0\n1:DBSIZE\n1:FLUSHDB x\n1:FLUSHALL ASYNC x\n1:SET c 1
         SET c 3\nRESET\nGET c\nSELECT 3\nHELLO 2 SETNAME x y\nGET c\nFLUSHALL\nGET c\n1:GET c",
    );
}

#[test]
fn keys_of_all_types_move_and_are_copied_between_databases() {
    Servers::start().compare(
        "SET s v PXAT 4102444800000\nRPUSH l a b\nHSET h f v\nSADD t a\nZADD z 1 a\nXADD x 1-1 f v
         MOVE s 1\nMOVE l 1\nMOVE h 1\nMOVE t 1\nMOVE z 1\nMOVE x 1\nMOVE x 1\nDBSIZE
         SELECT 1\nDBSIZE\nPEXPIRETIME s\nLRANGE l 0 -1\nHGETALL h\nSMEMBERS t\nZRANGE z 0 -1\nXRANGE x - +
         COPY s s\nCOPY s s DB 1\nCOPY s s DB 0\nCOPY s s DB 0\nCOPY l s DB 0\nCOPY l s DB 0 REPLACE
         COPY l s REPLACE DB 0 DB 2\nCOPY l s DB\nCOPY l s DB x\nCOPY l s DB 16\nCOPY l s NO\nCOPY no no DB 3
         MOVE s 16\nMOVE s -1\nMOVE s x\nMOVE s 99999999999\nMOVE s 1\nMOVE no 1\nMOVE l 2
         1:TYPE s\n1:SELECT 2\n1:LRANGE s 0 -1\n1:LRANGE l 0 -1
         MULTI\nSELECT 4\nSET q 1\nMOVE q 5\nSELECT 5\nGET q\nSELECT 77\nEXEC\nGET q
         DEBUG SET-ACTIVE-EXPIRE 0\nSET e 1 PX 20\nSELECT 6\nSET e 1\nSELECT 5\nDEBUG SLEEP 0.05\nMOVE e 6\nCOPY e e DB 7
         SET e 1\n1:SELECT 8\n1:SET e 1 PX 20\nDEBUG SLEEP 0.05\nMOVE e 8\n1:GET e\n1:PTTL e",
    );
}

#[test]
fn databases_are_swapped() {
    Servers::start().compare(
        "SET a 0\nSET b 0 EX 1000\nSELECT 1\nSET a 1\n1:SWAPDB 0 1\n1:GET a\nGET a\nTTL b\nDBSIZE
         SWAPDB 0 9\nGET a\n1:GET a\n1:SELECT 9\n1:GET a\nSWAPDB 3 3\nSWAPDB x 1\nSWAPDB 1 x\nSWAPDB 99999999999 1
         SWAPDB 1 99999999999\nSWAPDB 0 16\nSWAPDB -1 0\nSWAPDB 0\nINFO keyspace
         MULTI\nSWAPDB 1 2\nGET a\nSELECT 2\nGET a\nEXEC",
    );
}

#[test]
fn a_watch_is_on_a_key_of_one_database() {
    let servers = Servers::start();
    let check = "MULTI\nPING\nEXEC";
    // Each is between a WATCH in database 0 and its transaction.
    for between in [
        "1:SELECT 1\n1:SET w 2",
        "1:SET w 2",
        "SELECT 1\nSET w 2",
        "SELECT 1\n1:SET w 2",
        "1:MOVE w 1",
        "1:SELECT 1\n1:SET n 1\n1:MOVE n 0",
        "1:SELECT 1\n1:COPY w n DB 0",
        "1:SET v 1\n1:COPY v n\n1:COPY v w REPLACE",
        "1:FLUSHALL",
        "1:FLUSHDB",
        "1:SELECT 1\n1:FLUSHDB",
        "1:SWAPDB 0 1",
        "1:SWAPDB 2 0",
        "1:SWAPDB 1 2",
        "1:SWAPDB 0 0",
        "1:DEL w\n1:SET w 1",
    ] {
        for watched in ["w", "n", "w n", "gone"] {
            servers.compare(&format!(
                "SET w 1\nSELECT 1\nSET w 1\nSET gone 1\nSELECT 0\nWATCH {watched}\n{between}\n{check}\n{check}"
            ));
        }
    }
}

#[test]
fn a_watched_key_that_was_over_and_is_dropped_has_not_changed() {
    let servers = Servers::start();
    let check = "MULTI\nPING\nEXEC";
    for between in ["1:FLUSHALL", "1:SWAPDB 0 1", "1:SWAPDB 0 2", "1:GET e"] {
        servers.compare(&format!(
            "DEBUG SET-ACTIVE-EXPIRE 0\nSELECT 2\nSET e 1\nSELECT 0\nSET e 1 PX 20
             DEBUG SLEEP 0.05\nWATCH e\n{between}\n{check}"
        ));
        servers.compare(&format!(
            "DEBUG SET-ACTIVE-EXPIRE 0\nSELECT 2\nSET e 1 PX 20\nSELECT 0\nSET e 1 PX 20
             WATCH e\nDEBUG SLEEP 0.05\n{between}\n{check}"
        ));
    }
}
