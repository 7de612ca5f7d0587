//! A node as far as the topology can tell: joins, answers probes, takes maps by the rules of the control
//! protocol, and pretends to import.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use larder_runtime::{ControlClient, Secret};
use larder_wire::control::*;
use larder_wire::replication::*;
use larder_wire::resp::scan_request::Scanned;
use larder_wire::resp::{OwnedRequest, RequestScanner};
use larder_wire::{Attempt, ClusterMap, Epoch, History, NodeId, Offset, Role, SlotSet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What nodes took, in the order in which they took it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) node: NodeId,
    pub(crate) epoch: Epoch,
    pub(crate) handed_over: bool,
}

pub(crate) type Log = Arc<Mutex<Vec<Entry>>>;

struct Inside {
    number: u8,
    state: NodeState,
    let_go: u32,
    /// What it has of its shard's journal.
    offset: u64,
    /// Numbers of the planned failovers that it holds its writes for.
    yields: Vec<u64>,
    /// Leases that it was refused.
    refused: u32,
    imports: BTreeMap<Attempt, Import>,
    map: Option<ClusterMap>,
    /// Whose journal it has: its first primary's.
    lead: Option<NodeId>,
    log: Log,
}

pub(crate) struct FakeNode {
    inside: Arc<Mutex<Inside>>,
    addr: String,
    number: u8,
    held: watch::Sender<bool>,
    frozen: watch::Sender<bool>,
    /// Changes when the node "restarts": every connection ends.
    life: watch::Sender<u8>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn run_id(number: u8, life: u8) -> NodeId {
    let mut bytes = [life; 20];
    bytes[0] = number;
    NodeId::from_bytes(bytes)
}

impl FakeNode {
    pub(crate) async fn start(
        number: u8,
        topology: SocketAddr,
        secret: &Secret,
        log: Log,
    ) -> FakeNode {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let inside = Arc::new(Mutex::new(Inside {
            number,
            state: NodeState {
                id: NodeId::from_bytes([number; 20]),
                run_id: run_id(number, 1),
                epoch: Epoch(0),
                role: Role::Primary,
                slots: SlotSet::new(),
                keys: 100,
                used_memory: 1 << 20,
                maxmemory: 1 << 30,
                commands: 1,
                cpu_us: 1,
                clients: 1,
                uptime_ms: 1,
                imports: Vec::new(),
                feeds: Vec::new(),
                replication: None,
            },
            let_go: 0,
            offset: 100 + u64::from(number),
            yields: Vec::new(),
            refused: 0,
            imports: BTreeMap::new(),
            map: None,
            lead: None,
            log,
        }));
        let (held, hold) = watch::channel(false);
        let (life, lives) = watch::channel(1);
        let (frozen, thaw) = watch::channel(false);
        let serving = serve(listener, inside.clone(), (hold, thaw), lives.clone());
        let joining = join(topology, secret.clone(), addr.clone(), inside.clone());
        FakeNode {
            inside,
            addr,
            number,
            held,
            frozen,
            life,
            tasks: vec![tokio::spawn(serving), tokio::spawn(joining)],
        }
    }

    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    pub(crate) fn addr(&self) -> String {
        self.addr.clone()
    }

    pub(crate) fn http(&self) -> String {
        http(self.number)
    }

    pub(crate) fn slots(&self) -> SlotSet {
        self.inside.lock().unwrap().state.slots.clone()
    }

    /// The next `times` handovers find that it holds no more.
    pub(crate) fn let_go_times(&self, times: u32) {
        self.inside.lock().unwrap().let_go = times;
    }

    /// While held, imports do not get ready.
    pub(crate) fn hold_imports(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// Its process ends: connections break, and the port is closed.
    pub(crate) fn die(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
        }
        let life = *self.life.borrow() + 1;
        self.life.send_replace(life);
    }

    /// From now on it answers nothing, as if its host had vanished; its connections stay.
    pub(crate) fn freeze(&mut self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    pub(crate) fn id(&self) -> NodeId {
        self.inside.lock().unwrap().state.id
    }

    pub(crate) fn leases_refused(&self) -> u32 {
        self.inside.lock().unwrap().refused
    }

    pub(crate) fn fence(&self) -> Option<u64> {
        let inside = self.inside.lock().unwrap();
        inside
            .state
            .replication
            .as_ref()
            .and_then(|said| said.fence)
    }

    /// Loses its memory and all connections, and starts again.
    pub(crate) fn restart(&self) {
        let mut inside = self.inside.lock().unwrap();
        let life = *self.life.borrow() + 1;
        inside.state.run_id = run_id(inside.number, life);
        inside.state.epoch = Epoch(0);
        inside.state.slots = SlotSet::new();
        inside.imports.clear();
        drop(inside);
        self.life.send_replace(life);
    }
}

fn http(number: u8) -> String {
    format!("127.0.0.1:{}", 60_000 + u16::from(number))
}

async fn join(topology: SocketAddr, secret: Secret, addr: String, inside: Arc<Mutex<Inside>>) {
    loop {
        let connected = ControlClient::connect(&topology.to_string(), &secret, Peer::Node).await;
        if let Ok(mut client) = connected {
            loop {
                let join = {
                    let inside = inside.lock().unwrap();
                    NodeJoin {
                        id: inside.state.id,
                        run_id: inside.state.run_id,
                        addr: addr.clone(),
                        http: Some(http(inside.number)),
                        zone: None,
                        maxmemory: inside.state.maxmemory,
                        data: None,
                        release: "0.1.0".into(),
                    }
                };
                let json = serde_json::to_string(&join).unwrap();
                match client.request(["LARDER", "JOIN", json.as_str()]).await {
                    Ok(_) => {}
                    Err(error) if error.is_refusal("FENCED") => {
                        inside.lock().unwrap().refused += 1;
                    }
                    Err(_) => break,
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn serve(
    listener: TcpListener,
    inside: Arc<Mutex<Inside>>,
    waits: Waits,
    life: watch::Receiver<u8>,
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let session = session(stream, inside.clone(), waits.clone());
        let mut life = life.clone();
        life.mark_unchanged();
        tokio::spawn(async move {
            tokio::select! {
                () = session => {}
                _ = life.changed() => {}
            }
        });
    }
}

/// Whether imports are held, and whether everything is.
type Waits = (watch::Receiver<bool>, watch::Receiver<bool>);

async fn session(mut stream: TcpStream, inside: Arc<Mutex<Inside>>, waits: Waits) {
    let (mut input, mut scanner) = (Vec::new(), RequestScanner::new());
    loop {
        while let Scanned::Request { consumed } = scanner.scan(&input).unwrap() {
            let request = OwnedRequest::from(scanner.request(&input));
            input.drain(..consumed);
            let words: Vec<&[u8]> = request.view().args_from(0).collect();
            let thawed = waits.1.clone().wait_for(|frozen| !frozen).await.is_ok();
            if !thawed {
                return;
            }
            let reply = answer(&words, &inside, &waits.0).await;
            if stream.write_all(reply.as_bytes()).await.is_err() {
                return;
            }
        }
        match stream.read_buf(&mut input).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

async fn answer(
    words: &[&[u8]],
    inside: &Arc<Mutex<Inside>>,
    hold: &watch::Receiver<bool>,
) -> String {
    match words[1] {
        b"HELLO" => bulk(&Welcome {
            version: 1,
            server: Peer::Node,
            release: "0.1.0".into(),
            standby: None,
        }),
        b"STATE" => {
            let mut inside = inside.lock().unwrap();
            inside.state.uptime_ms += 500;
            inside.say_replication();
            bulk(&inside.state)
        }
        b"MAP" => take_map(
            serde_json::from_slice(words[2]).unwrap(),
            &mut inside.lock().unwrap(),
        ),
        b"FENCE" => {
            let fence: Fence = serde_json::from_slice(words[2]).unwrap();
            let mut inside = inside.lock().unwrap();
            inside.say_replication();
            let said = inside.state.replication.as_mut().unwrap();
            said.fence = Some(fence.number);
            let place = said.place;
            bulk(&Fenced {
                number: fence.number,
                run_id: inside.state.run_id,
                place,
                answered_ms_ago: Some(10),
            })
        }
        b"UNFENCE" => {
            let mut inside = inside.lock().unwrap();
            if let Some(said) = inside.state.replication.as_mut() {
                said.fence = None;
            }
            "+OK\r\n".into()
        }
        b"YIELD" => {
            let order: Yield = serde_json::from_slice(words[2]).unwrap();
            let mut inside = inside.lock().unwrap();
            inside.yields.push(order.number);
            let place = inside.place();
            bulk(&Yielded {
                number: order.number,
                place,
            })
        }
        b"IMPORT" => {
            let import: Import = serde_json::from_slice(words[2]).unwrap();
            let mut inside = inside.lock().unwrap();
            inside.imports.insert(import.attempt, import);
            inside.list_imports();
            "+OK\r\n".into()
        }
        b"ABORT" => {
            let mut inside = inside.lock().unwrap();
            inside.imports.remove(&attempt(words[2]));
            inside.list_imports();
            "+OK\r\n".into()
        }
        b"AWAIT" => {
            let attempt = attempt(words[2]);
            hold.clone().wait_for(|held| !held).await.unwrap();
            let known = inside.lock().unwrap().imports.contains_key(&attempt);
            bulk(&ImportState {
                attempt,
                phase: match known {
                    true => ImportPhase::Ready { offset: Offset(1) },
                    false => ImportPhase::Unknown,
                },
                keys: 10,
                bytes: 1000,
                slots_done: 1,
            })
        }
        other => panic!("the topology says {}", String::from_utf8_lossy(other)),
    }
}

impl Inside {
    fn place(&self) -> Place {
        Place {
            history: History(self.lead.unwrap_or(self.state.id)),
            offset: Offset(self.offset),
        }
    }

    /// As its map has it: everyone follows, nobody is behind by much.
    fn say_replication(&mut self) {
        let fence = self.state.replication.as_ref().and_then(|said| said.fence);
        let me = self.state.id;
        let shard = self.map.as_ref().and_then(|map| map.find_node(me));
        let Some((shard, entry)) = shard else {
            self.state.replication = None;
            return;
        };
        self.state.role = entry.role;
        let primary = shard.primary().unwrap().id;
        self.lead.get_or_insert(primary);
        let follows = (primary != me).then_some(Following {
            primary,
            phase: LinkPhase::Streaming,
            lag_bytes: 0,
            silent_ms: 1,
        });
        let followers = shard
            .replicas()
            .filter(|_| primary == me)
            .map(|entry| Follower {
                node: entry.id,
                phase: LinkPhase::Streaming,
                offset: Offset(self.offset),
                silent_ms: 1,
            });
        self.state.replication = Some(ReplicationState {
            place: Some(self.place()),
            follows,
            followers: followers.collect(),
            fence,
            lost_writes: 0,
        });
    }

    fn list_imports(&mut self) {
        let imports = self.imports.keys().map(|&attempt| ImportState {
            attempt,
            phase: ImportPhase::Copying,
            keys: 1,
            bytes: 1,
            slots_done: 0,
        });
        self.state.imports = imports.collect();
    }
}

fn take_map(push: MapPush, inside: &mut Inside) -> String {
    let epoch = push.map.epoch;
    if epoch < inside.state.epoch {
        return format!("-STALE {}\r\n", inside.state.epoch);
    }
    if epoch > inside.state.epoch {
        if let Some(attempt) = push.handovers.first().filter(|_| inside.let_go > 0) {
            inside.let_go -= 1;
            return format!("-LETGO {attempt}\r\n");
        }
        if push
            .yields
            .is_some_and(|number| !inside.yields.contains(&number))
        {
            return format!("-LETGO {}\r\n", push.yields.unwrap());
        }
        inside.state.epoch = epoch;
        if let Some(said) = inside.state.replication.as_mut() {
            said.fence = None;
        }
        inside.map = Some(push.map.clone());
        inside.state.slots = push.map.slots_of(inside.state.id);
        let slots = inside.state.slots.clone();
        inside
            .imports
            .retain(|_, import| !import.slots.is_subset(&slots));
        inside.list_imports();
        let entry = Entry {
            epoch,
            node: inside.state.id,
            handed_over: !push.handovers.is_empty() || push.yields.is_some(),
        };
        inside.log.lock().unwrap().push(entry);
    }
    "+OK\r\n".into()
}

fn attempt(word: &[u8]) -> Attempt {
    Attempt(std::str::from_utf8(word).unwrap().parse().unwrap())
}

fn bulk(value: &impl serde::Serialize) -> String {
    let json = serde_json::to_string(value).unwrap();
    format!("${}\r\n{json}\r\n", json.len())
}
