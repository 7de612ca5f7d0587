//! Conversations of several clients with one server, written down so that those with two servers can be compared.
//!
//! A script has a line a step, `name: REQUEST; REQUEST …`: the client of that name (connected when it is first named) sends the requests in
//! one write. Then every client is read up to the answer to a PING of its own, so that each push stands in the step that caused
//! it. `{name}` is the id of a client, `name!` on its own closes one, `name?:` is a step whose integers are ids.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use larder_wire::resp::OwnedRequest;

use crate::client::Client;
use crate::reply::Reply;

/// The words that every mark begins with.
const MARK: &str = "mark-";

struct Talk {
    addr: SocketAddr,
    clients: BTreeMap<String, Client>,
    ids: BTreeMap<String, i64>,
    marks: u64,
    written: Vec<String>,
}

/// What everybody got, a line each: `name> reply`.
///
/// # Panics
/// When a connection breaks that the script did not close.
pub fn replay(addr: SocketAddr, script: &str) -> Vec<String> {
    let mut talk = Talk {
        addr,
        clients: BTreeMap::new(),
        ids: BTreeMap::new(),
        marks: 0,
        written: Vec::new(),
    };
    let lines = script.lines().map(str::trim);
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        talk.step(line);
    }
    talk.written
}

impl Talk {
    fn step(&mut self, line: &str) {
        self.written.push(line.to_owned());
        if let Some(name) = line.strip_suffix('!') {
            self.clients.remove(name);
            self.wait_gone(name);
            return self.hear("", false);
        }
        let (name, requests) = line.split_once(": ").expect("a step names its client");
        let (name, ids) = match name.strip_suffix('?') {
            Some(name) => (name, true),
            None => (name, false),
        };
        self.connect(name);
        let mut bytes = Vec::new();
        for request in requests.split("; ") {
            let words = request.split_whitespace().map(|word| self.word(word));
            let words: Vec<String> = words.collect();
            bytes.extend(OwnedRequest::from_args(words.iter()).into_bytes());
        }
        let client = self.clients.get_mut(name).expect("it is connected");
        client.send_raw(&bytes).expect("the server reads");
        self.hear(name, ids);
    }

    fn word(&self, word: &str) -> String {
        let id = word
            .strip_prefix('{')
            .and_then(|word| word.strip_suffix('}'))
            .map(|name| self.ids[name].to_string());
        id.unwrap_or_else(|| word.to_owned())
    }

    fn connect(&mut self, name: &str) {
        if !self.clients.contains_key(name) {
            let mut client = Client::to(self.addr);
            let id = client.run("CLIENT ID").as_int().expect("an id");
            self.ids.insert(name.to_owned(), id);
            self.clients.insert(name.to_owned(), client);
        }
    }

    /// The server has noticed that a client is gone.
    fn wait_gone(&self, name: &str) {
        let mut asker = Client::to(self.addr);
        let request = format!("CLIENT LIST ID {}", self.ids[name]);
        while asker
            .run(&request)
            .as_text()
            .is_some_and(|text| !text.is_empty())
        {
            std::thread::yield_now();
        }
    }

    /// Reads everybody, the one who has just asked first.
    fn hear(&mut self, first: &str, ids: bool) {
        let mut names: Vec<String> = self.clients.keys().cloned().collect();
        // What comes at the end of a batch may come behind the first mark of the one who asked.
        names.extend(self.clients.contains_key(first).then(|| first.to_owned()));
        names.sort_by_key(|name| (name != first, name.clone()));
        for name in names {
            self.marks += 1;
            let mark = format!("{MARK}{}", self.marks);
            let client = self.clients.get_mut(&name).expect("it is connected");
            client.send(&["PING", &mark]).expect("the server reads");
            let mut heard = Vec::new();
            loop {
                let reply = client.read();
                let reply = reply.unwrap_or_else(|error| panic!("{name}: {error}"));
                if is_mark(&reply, &mark) {
                    break;
                }
                heard.push(reply);
            }
            for reply in heard {
                let line = self.tidy(reply, ids && name == first).to_string();
                if !line.contains(MARK) {
                    self.written.push(format!("{name}> {line}"));
                }
            }
        }
    }

    /// Without what two servers have of their own: ids, times and ports.
    fn tidy(&self, reply: Reply, ids: bool) -> Reply {
        let name_of = |id: i64| self.ids.iter().find(|(_, other)| **other == id);
        // Who it is, and of which version.
        if reply.field("server").is_some() {
            return Reply::Simple("(HELLO)".to_owned());
        }
        match reply {
            Reply::Int(id) if ids => match name_of(id) {
                Some((name, _)) => Reply::Simple(format!("{{{name}}}")),
                None => Reply::Int(id),
            },
            Reply::Push(items) => {
                let broken = items.first() == Some(&Reply::bulk("tracking-redir-broken"));
                let items = items.into_iter();
                Reply::Push(items.map(|item| self.tidy(item, ids || broken)).collect())
            }
            Reply::Array(items) => {
                Reply::Array(items.into_iter().map(|item| self.tidy(item, ids)).collect())
            }
            Reply::Map(pairs) => Reply::Map(
                pairs
                    .into_iter()
                    .map(|(key, value)| (key, self.tidy(value, ids)))
                    .collect(),
            ),
            // Of MONITOR: `1700000000.000001 [0 127.0.0.1:5000] "get" "a"`.
            Reply::Simple(text) => Reply::Simple(match text.split_once(" [") {
                Some((time, rest)) if time.contains('.') => {
                    let (db, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                    let shown = rest.split_once("] ").map_or(rest, |(_, shown)| shown);
                    format!("[{db}] {shown}")
                }
                Some(_) | None => text,
            }),
            other => other,
        }
    }
}

/// PING's answer, in whichever mode the client is.
fn is_mark(reply: &Reply, mark: &str) -> bool {
    let marked = Reply::bulk(mark);
    match reply {
        Reply::Array(items) | Reply::Push(items) => {
            items.first() == Some(&Reply::bulk("pong")) && items.get(1) == Some(&marked)
        }
        other => *other == marked,
    }
}
