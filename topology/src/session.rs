//! Sessions on the RESP port: bytes → requests → replies. Anybody may ask what Redis clients ask first and
//! where slots lie; `LARDER …` is for those who have shown the secret.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

use larder_runtime::listen;
use larder_runtime::protect::{self, Admission, Arrival};
use larder_wire::Refusal;
use larder_wire::control::Peer;
use larder_wire::resp::scan_request::Scanned;
use larder_wire::resp::{OwnedRequest, Protocol, ReplyWriter, Request, RequestScanner};
use larder_wire::trust::{Answerer, Trust, answer_auth, answer_hello};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::core::Core;
use crate::door::Door;
use crate::{OUT_BYTES_MAX, REQUEST_BYTES_MAX, SESSIONS_MAX, cluster_replies, orders};

pub(crate) const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// Bytes read at once at most.
const READ_BYTES: usize = 16 * 1024;

pub(crate) async fn accept(listener: std::net::TcpListener, door: Rc<Door>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!("the topology's port cannot be used: {error}");
            return;
        }
    };
    let sessions = Rc::new(());
    let mut next_id = 1;
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: those who wait keep waiting.
                tracing::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        if Rc::strong_count(&sessions) > SESSIONS_MAX {
            tracing::warn!("{SESSIONS_MAX} connections are open: {from} is turned away");
            continue;
        }
        let (door, alive) = (door.clone(), sessions.clone());
        let id = next_id;
        next_id += 1;
        tokio::task::spawn_local(async move {
            Session::new(stream, from, id, door).run().await;
            drop(alive);
        });
    }
}

/// What follows a reply.
pub(crate) enum Next {
    Continue,
    Close,
    /// The connection becomes a stream of maps, of this term.
    Watch(Rc<Core>),
}

struct Session {
    stream: TcpStream,
    from: SocketAddr,
    id: u64,
    name: Vec<u8>,
    door: Rc<Door>,
    /// Whose words the replies hold that are not sent yet.
    spoke: Option<Rc<Core>>,
    trust: Trust,
    admission: Admission,
    protocol: Protocol,
    out: Vec<u8>,
}

impl Session {
    fn new(stream: TcpStream, from: SocketAddr, id: u64, door: Rc<Door>) -> Session {
        let admission = protect::admit(Arrival {
            peer: Some(from.ip()),
            needs_auth: false,
            has_secret: true,
            unprotected: !door.protected,
        });
        Session {
            stream,
            from,
            id,
            name: Vec::new(),
            door,
            spoke: None,
            trust: Trust::Stranger,
            admission,
            protocol: Protocol::Resp2,
            out: Vec::new(),
        }
    }

    /// Until either side closes. Errors of the socket end it in silence: there is nobody to tell.
    async fn run(mut self) {
        if listen::tune(&self.stream).is_err() {
            return;
        }
        let mut input = Vec::with_capacity(READ_BYTES);
        let mut scanner = RequestScanner::new();
        loop {
            let next = self.answer_all(&mut input, &mut scanner).await;
            if self.flush().await.is_err() {
                return;
            }
            match next {
                Next::Continue => {}
                Next::Close => return,
                Next::Watch(core) => return self.watch(core).await,
            }
            match self.stream.read_buf(&mut input).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    /// Answers every request that has arrived whole.
    async fn answer_all(&mut self, input: &mut Vec<u8>, scanner: &mut RequestScanner) -> Next {
        let mut done = 0;
        let next = loop {
            match scanner.scan(&input[done..]) {
                Ok(Scanned::Request { consumed }) => {
                    let request = OwnedRequest::from(scanner.request(&input[done..]));
                    done += consumed;
                    if request.view().is_empty() {
                        continue;
                    }
                    match self.answer(&request.view()).await {
                        Next::Continue if self.out.len() < OUT_BYTES_MAX => {}
                        Next::Continue => break Next::Close,
                        other => break other,
                    }
                }
                Ok(Scanned::Incomplete { .. }) => {
                    if input.len() - done > REQUEST_BYTES_MAX {
                        self.refuse(&Refusal::new(format!(
                            "ERR a request of more than {REQUEST_BYTES_MAX} bytes is not for the topology"
                        )));
                        break Next::Close;
                    }
                    break Next::Continue;
                }
                Err(error) => {
                    self.refuse(&Refusal::new(error.to_string()));
                    break Next::Close;
                }
            }
        };
        input.drain(..done);
        next
    }

    /// What a leader said is not sent once it leads no more.
    async fn flush(&mut self) -> std::io::Result<()> {
        let spoke = self.spoke.take();
        let leads_no_more = spoke.is_some_and(|core| !core.leads());
        if leads_no_more {
            self.out.clear();
            self.refuse(&self.door.not_leader());
        }
        if !self.out.is_empty() {
            self.stream.write_all(&self.out).await?;
            self.out.clear();
        }
        match leads_no_more {
            // Replies to some requests are missing.
            true => Err(std::io::ErrorKind::ConnectionAborted.into()),
            false => Ok(()),
        }
    }

    /// Refuses for this topology when it stands by.
    fn core(&mut self) -> Option<Rc<Core>> {
        let core = self.door.core();
        match &core {
            Some(core) => self.spoke = Some(core.clone()),
            None => self.refuse(&self.door.not_leader()),
        }
        core
    }

    fn reply(&mut self) -> ReplyWriter<'_> {
        ReplyWriter::new(&mut self.out, self.protocol)
    }

    fn refuse(&mut self, refusal: &Refusal) {
        self.reply().error(refusal);
    }

    async fn answer(&mut self, request: &Request<'_>) -> Next {
        let name = request.name().to_ascii_lowercase();
        if let Some(next) = self.turn_away(&name, request) {
            return next;
        }
        match name.as_slice() {
            b"larder" => return self.larder(request).await,
            b"auth" => self.auth(request),
            b"hello" => self.hello(request),
            b"cluster" => self.cluster(request),
            b"info" => self.info(),
            b"ping" => match request.get(1) {
                Some(text) => self.reply().bulk(text),
                None => self.reply().simple("PONG"),
            },
            b"echo" => match request.get(1) {
                Some(text) => self.reply().bulk(text),
                None => self.refuse(&Refusal::wrong_arity("echo")),
            },
            // redis-cli asks for command docs when it starts; it does without.
            b"command" => self.reply().array(0),
            b"client" => self.client(request),
            b"select" if request.get(1) == Some(b"0") => self.reply().ok(),
            b"readonly" | b"readwrite" => self.reply().ok(),
            b"reset" => {
                self.trust = Trust::Stranger;
                self.protocol = Protocol::Resp2;
                self.reply().simple("RESET");
            }
            b"quit" => {
                self.reply().ok();
                return Next::Close;
            }
            _ => self.refuse(&Refusal::new(format!(
                "ERR unknown command '{}': this is larder's topology, which keeps no keys (ask a proxy, or LARDER STATUS)",
                String::from_utf8_lossy(&request.name()[..request.name().len().min(128)])
            ))),
        }
        Next::Continue
    }

    /// Protected mode: strangers from elsewhere may only show that they are none.
    fn turn_away(&mut self, name: &[u8], request: &Request<'_>) -> Option<Next> {
        let opens = matches!(name, b"auth" | b"hello" | b"reset" | b"quit")
            || name == b"larder" && is_word(request.get(1), "hello");
        match self.admission {
            Admission::Open => None,
            Admission::AuthOnly if self.trust.has_control() || opens => None,
            Admission::AuthOnly => {
                self.refuse(&Refusal::fixed(protect::DENIED));
                Some(Next::Continue)
            }
            Admission::Closed => {
                self.refuse(&Refusal::fixed(protect::DENIED));
                Some(Next::Close)
            }
        }
    }

    async fn larder(&mut self, request: &Request<'_>) -> Next {
        if is_word(request.get(1), "hello") {
            self.larder_hello(request);
            return Next::Continue;
        }
        if !self.trust.has_control() {
            self.refuse(&Refusal::CONTROL_REFUSED);
            return Next::Continue;
        }
        let Some(core) = self.core() else {
            return Next::Continue;
        };
        if is_word(request.get(1), "watch") {
            return Next::Watch(core);
        }
        let mut out = std::mem::take(&mut self.out);
        let mut reply = ReplyWriter::new(&mut out, self.protocol);
        orders::answer(&core, self.from, request, &mut reply).await;
        self.out = out;
        Next::Continue
    }

    fn larder_hello(&mut self, request: &Request<'_>) {
        let answerer = Answerer {
            server: Peer::Topology,
            release: RELEASE,
            secret: Some(&self.door.secret),
        };
        match answer_hello(request, answerer) {
            Ok((trust, mut welcome)) => {
                self.trust = trust;
                welcome.standby = self.door.standby();
                let json = serde_json::to_vec(&welcome).expect("a welcome is plain JSON");
                self.reply().bulk(&json);
            }
            Err(refusal) => self.refuse(&refusal),
        }
    }

    fn auth(&mut self, request: &Request<'_>) {
        let (user, password): (&[u8], &[u8]) = match request.len() {
            2 => (b"default", request.arg(1)),
            3 => (request.arg(1), request.arg(2)),
            _ => return self.refuse(&Refusal::wrong_arity("auth")),
        };
        match answer_auth(user, password, Some(&self.door.secret)) {
            Some(Ok(trust)) => {
                self.trust = trust;
                self.reply().ok();
            }
            Some(Err(refusal)) => self.refuse(&refusal),
            None => self.refuse(&Refusal::WRONG_PASS),
        }
    }

    /// `HELLO [2|3 [AUTH user password] [SETNAME name]]`.
    fn hello(&mut self, request: &Request<'_>) {
        let mut protocol = self.protocol;
        let mut trust = self.trust;
        match request.get(1) {
            None => {}
            Some(b"2") => protocol = Protocol::Resp2,
            Some(b"3") => protocol = Protocol::Resp3,
            Some(_) => return self.refuse(&Refusal::fixed("NOPROTO unsupported protocol version")),
        }
        let mut at = 2;
        while at < request.len() {
            let left = request.len() - at;
            if is_word(request.get(at), "auth") && left >= 3 {
                let (user, password) = (request.arg(at + 1), request.arg(at + 2));
                match answer_auth(user, password, Some(&self.door.secret)) {
                    Some(Ok(shown)) => trust = shown,
                    Some(Err(refusal)) => return self.refuse(&refusal),
                    None => return self.refuse(&Refusal::WRONG_PASS),
                }
                at += 3;
            } else if is_word(request.get(at), "setname") && left >= 2 {
                self.name = request.arg(at + 1).to_vec();
                at += 2;
            } else {
                return self.refuse(&Refusal::SYNTAX);
            }
        }
        (self.protocol, self.trust) = (protocol, trust);
        let id = self.id as i64;
        let mut reply = self.reply();
        reply.map(7);
        for (field, text) in [("server", "larder-topology"), ("version", RELEASE)] {
            reply.bulk(field.as_bytes());
            reply.bulk(text.as_bytes());
        }
        reply.bulk(b"proto");
        reply.int(if protocol == Protocol::Resp3 { 3 } else { 2 });
        reply.bulk(b"id");
        reply.int(id);
        for (field, text) in [("mode", "cluster"), ("role", "master")] {
            reply.bulk(field.as_bytes());
            reply.bulk(text.as_bytes());
        }
        reply.bulk(b"modules");
        reply.array(0);
    }

    fn client(&mut self, request: &Request<'_>) {
        let sub = request.get(1).unwrap_or(b"").to_ascii_lowercase();
        match (sub.as_slice(), request.get(2)) {
            (b"setname", Some(name)) => {
                self.name = name.to_vec();
                self.reply().ok();
            }
            (b"getname", _) => {
                let name = std::mem::take(&mut self.name);
                self.reply().bulk(&name);
                self.name = name;
            }
            (b"id", _) => {
                let id = self.id as i64;
                self.reply().int(id);
            }
            (b"setinfo", Some(_)) => self.reply().ok(),
            (_, _) => self.refuse(&Refusal::SYNTAX),
        }
    }

    fn cluster(&mut self, request: &Request<'_>) {
        let Some(core) = self.core() else {
            return;
        };
        let sub = request.get(1).unwrap_or(b"").to_ascii_lowercase();
        let map = core.maps().borrow().clone();
        let health: HashMap<_, _> = {
            let status = core.plan().status();
            let shards = status.shards.iter();
            let nodes = shards.flat_map(|shard| {
                let replicas = shard.replicas.iter().map(|replica| &replica.node);
                std::iter::once(&shard.node).chain(replicas)
            });
            nodes.map(|node| (node.id, node.reachable)).collect()
        };
        let mut reply = self.reply();
        match sub.as_slice() {
            b"slots" => cluster_replies::slots(&map, &mut reply),
            b"shards" => cluster_replies::shards(&map, &health, &mut reply),
            b"nodes" => cluster_replies::nodes(&map, &health, &mut reply),
            b"info" => cluster_replies::info(&map, &mut reply),
            b"keyslot" => match request.get(2) {
                Some(key) => reply.int(i64::from(larder_wire::slot_of(key).number())),
                None => reply.error(&Refusal::wrong_arity("cluster|keyslot")),
            },
            _ => reply.error(&Refusal::new(format!(
                "ERR unknown subcommand '{}'. Try CLUSTER SHARDS, SLOTS, NODES, INFO or KEYSLOT.",
                String::from_utf8_lossy(&sub[..sub.len().min(128)])
            ))),
        }
    }

    fn info(&mut self) {
        let core = self.door.core();
        let mut text = format!(
            "# Server\r\nredis_mode:cluster\r\nlarder_version:{RELEASE}\r\nlarder_part:topology\r\nprocess_id:{}\r\ntcp_port:{}\r\n\
             \r\n# Cluster\r\ncluster_enabled:1\r\nlarder_cluster:{}\r\nlarder_leads:{}\r\n",
            std::process::id(),
            self.door.addr.port(),
            self.door.cluster,
            u8::from(core.is_some()),
        );
        if let Some(core) = &core {
            let status = core.plan().status();
            text += &format!(
                "larder_formed:{}\r\nlarder_epoch:{}\r\nlarder_shards:{}\r\nlarder_spares:{}\r\nlarder_proxies:{}\r\n",
                u8::from(status.formed),
                status.epoch,
                status.shards.len(),
                status.spares.len(),
                status.proxies.len(),
            );
        }
        self.spoke = core;
        self.reply().verbatim("txt", text.as_bytes());
    }

    /// The present map, then each change, until the watcher leaves or the term ends.
    async fn watch(mut self, core: Rc<Core>) {
        let mut maps = core.maps();
        let mut ignored = [0; 1024];
        loop {
            let map = maps.borrow_and_update().clone();
            let json = serde_json::to_vec(&*map).expect("a map is plain JSON");
            self.reply().bulk(&json);
            self.spoke = Some(core.clone());
            if self.flush().await.is_err() {
                return;
            }
            let changed = loop {
                tokio::select! {
                    changed = maps.changed() => break changed,
                    () = core.closed() => return,
                    read = self.stream.read(&mut ignored) => match read {
                        Ok(0) | Err(_) => return,
                        // Watchers have nothing to say.
                        Ok(_) => {}
                    },
                }
            };
            if changed.is_err() {
                return;
            }
        }
    }
}

pub(crate) fn is_word(arg: Option<&[u8]>, word: &str) -> bool {
    arg.is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
}
