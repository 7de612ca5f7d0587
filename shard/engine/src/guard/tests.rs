//! Each rule of when a primary may answer, by one node and replicas that are only spoken for.

use std::task::Waker;

use larder_wire::control::{HOLD_MS_MAX, MapPush, Peer};
use larder_wire::replication::{Fence, Fenced, LEASE_MS, LinkPhase, WriteMode, Yield, Yielded};
use larder_wire::resp::OwnedRequest;
use larder_wire::trust::Trust;
use larder_wire::{
    ClusterMap, Epoch, NodeEntry, NodeId, Offset, Role, ShardEntry, ShardId, SlotSet,
};

use super::answers::{ANSWER_WAIT_MS_MAX, FULL_WAIT_MS_MAX};
use super::*;
use crate::append::Written;
use crate::node::NodeSettings;
use crate::replication::LinkId;
use crate::session::Session;
use crate::turn::Outcome;

const OWN: NodeId = NodeId::from_bytes([1; 20]);
const FIRST: NodeId = NodeId::from_bytes([2; 20]);
const SECOND: NodeId = NodeId::from_bytes([3; 20]);

/// One shard; the first of `in_step` and others is its primary.
fn map(epoch: u64, primary: NodeId, in_step: &[NodeId], writes: WriteMode) -> ClusterMap {
    let entry = |id: NodeId| NodeEntry {
        id,
        addr: format!("127.0.0.1:{}", 7000 + u16::from(id == FIRST)),
        role: match id == primary {
            true => Role::Primary,
            false => Role::Replica,
        },
        zone: None,
        in_step: in_step.contains(&id),
    };
    let shard = ShardEntry {
        id: ShardId(1),
        slots: SlotSet::full(),
        nodes: [OWN, FIRST, SECOND].map(entry).to_vec(),
    };
    ClusterMap::new("larder", Epoch(epoch), vec![shard])
        .unwrap()
        .with_writes(writes)
}

struct Stage {
    node: Node,
    clock: Clock,
    epoch: u64,
    writes: WriteMode,
    links: [LinkId; 2],
}

impl Stage {
    /// A primary with two replicas, the first of them in step, and a lease.
    fn new(writes: WriteMode) -> Stage {
        let mut node = Node::new(NodeSettings {
            id: OWN,
            run_id: OWN,
            standalone: false,
            addr: "127.0.0.1:7000".to_string(),
            port: 7000,
            secret: None,
            maxmemory: 0,
            hash_seed: 7,
            random_seed: 7,
        });
        let clock = Clock {
            unix_us: 1_700_000_000_000_000,
            mono_ms: 5000,
        };
        let followers = &mut node.replication.followers;
        let links = [FIRST, SECOND].map(|id| followers.begin(id, LinkPhase::Streaming, 5000));
        let mut stage = Stage {
            node,
            clock,
            epoch: 0,
            writes,
            links,
        };
        stage.push(OWN, &[FIRST], None).unwrap();
        stage.node.joined(5000, clock);
        // What the first map did is there already.
        let end = stage.end();
        stage.ack(0, end);
        stage
    }

    /// The next map.
    fn push(
        &mut self,
        primary: NodeId,
        in_step: &[NodeId],
        yields: Option<u64>,
    ) -> Result<(), Refusal> {
        let push = MapPush {
            map: map(self.epoch + 1, primary, in_step, self.writes),
            handovers: vec![],
            yields,
        };
        self.node.take_map(push, self.clock)?;
        self.epoch += 1;
        Ok(())
    }

    fn enter(&mut self) -> Session {
        self.node
            .open_session("c:1".into(), "s:1".into(), self.clock)
    }

    /// A batch of one command, as the shell executes it: what it answers, and when.
    fn batch(&mut self, session: &mut Session, line: &str) -> (String, Answer) {
        self.node.begin_batch(self.clock);
        let (outcome, reply) = self.call(session, line);
        assert!(
            matches!(outcome, Outcome::Done | Outcome::Held | Outcome::Blocked),
            "{line}"
        );
        let client = Rc::clone(&session.client);
        client.set_bell(Waker::noop());
        let answer = match self.node.answers_may_wait() && !reply.is_empty() {
            true => self.node.answer_batch(&client, self.clock),
            false => Answer::AtOnce,
        };
        (reply, answer)
    }

    fn call(&mut self, session: &mut Session, line: &str) -> (Outcome, String) {
        let request = OwnedRequest::from_args(line.split(' ').collect::<Vec<_>>());
        let mut out = Vec::new();
        let outcome = self
            .node
            .call(session, request.view(), self.clock, &mut out);
        self.node.end_batch(session);
        (outcome, String::from_utf8(out).unwrap())
    }

    fn end(&self) -> Offset {
        self.node.journal.end()
    }

    /// A replica has everything up to here, and answers the ping that was sent just now.
    fn ack(&mut self, replica: usize, offset: Offset) {
        let now = self.clock.mono_ms;
        let link = self.links[replica];
        self.node
            .follower_heard(link, offset, Some(now), self.clock);
    }

    fn pass(&mut self, ms: u64) {
        self.clock.mono_ms += ms;
        self.clock.unix_us += ms as i64 * 1000;
        self.node.tick(self.clock);
    }
}

fn control(stage: &mut Stage) -> Session {
    let mut session = stage.enter();
    let peer = Trust::Peer {
        peer: Peer::Topology,
        version: 1,
    };
    session.set_trust(peer, stage.node.acl.operator());
    session
}

#[test]
fn a_safe_write_and_what_is_read_after_it_wait_for_a_replica_in_step() {
    let mut stage = Stage::new(WriteMode::Safe);
    let (mut writer, mut reader) = (stage.enter(), stage.enter());
    assert_eq!(stage.batch(&mut reader, "GET k").1, Answer::AtOnce);
    let (reply, answer) = stage.batch(&mut writer, "SET k v");
    let end = stage.end();
    assert_eq!((reply.as_str(), answer), ("+OK\r\n", Answer::At(end)));
    assert_eq!(stage.batch(&mut reader, "GET k").1, Answer::At(end));
    assert_eq!(stage.batch(&mut reader, "PING").1, Answer::AtOnce);
    stage.batch(&mut writer, "SET k w");
    let second = stage.end();

    // Half of it, and all of it by one who is not in step, are not enough.
    stage.ack(0, Offset(end.0 - 1));
    stage.ack(1, second);
    assert_eq!(stage.node.waiting_answers(), 3);
    stage.ack(0, end);
    assert!(reader.client.is_rung() && writer.client.is_rung());
    assert_eq!(stage.node.waiting_answers(), 1);
    assert_eq!(stage.node.answered_up_to(stage.clock), Some(end));
    stage.ack(0, second);
    assert_eq!(stage.node.answered_up_to(stage.clock), Some(second));
    assert_eq!(stage.batch(&mut reader, "GET k").1, Answer::AtOnce);
    assert!(!reader.client.is_killed() && !writer.client.is_killed());
}

#[test]
fn an_async_write_waits_for_nobody() {
    let mut stage = Stage::new(WriteMode::Async);
    let mut client = stage.enter();
    assert!(!stage.node.answers_may_wait());
    assert_eq!(stage.batch(&mut client, "SET k v").1, Answer::AtOnce);
}

#[test]
fn transactions_scripts_and_who_is_served_from_a_list_wait_as_writes_do() {
    let mut stage = Stage::new(WriteMode::Safe);
    let (mut client, mut popper) = (stage.enter(), stage.enter());
    stage.batch(&mut client, "MULTI");
    assert_eq!(stage.batch(&mut client, "SET k v").1, Answer::AtOnce);
    let answer = stage.batch(&mut client, "EXEC").1;
    assert_eq!(answer, Answer::At(stage.end()));
    stage.batch(&mut popper, "BLPOP l 0");
    assert!(popper.client.is_blocked());
    let answer = stage.batch(&mut client, "RPUSH l x").1;
    assert_eq!(answer, Answer::At(stage.end()));
    // The push and the pop are both in the journal when the popper is told.
    assert!(popper.client.has_post());
    let client = Rc::clone(&popper.client);
    let told = stage.node.answer(&client, stage.clock);
    assert_eq!(told, Answer::At(stage.end()));
}

#[test]
fn a_lease_is_kept_by_the_topology_or_by_a_replica_in_step() {
    for writes in [WriteMode::Async, WriteMode::Safe] {
        let mut stage = Stage::new(writes);
        let before = stage.node.stats.leases_lost.get();
        let mut client = stage.enter();
        let mut served = |stage: &mut Stage| {
            let write = stage.batch(&mut client, "INCR n").0;
            let read = stage.batch(&mut client, "GET k").0;
            let is_down = |reply: &str| reply.starts_with("-CLUSTERDOWN");
            stage.ack_all();
            (!is_down(&write), !is_down(&read))
        };
        let reads_without = writes == WriteMode::Async;
        stage.pass(LEASE_MS - 1);
        assert_eq!(served(&mut stage), (true, true));
        // Only what answers a ping is a sign; that of one who is not in step is none.
        stage.pass(1);
        stage.ack(1, Offset(0));
        assert_eq!(served(&mut stage), (false, reads_without), "{writes:?}");
        stage.ack(0, Offset(0));
        assert_eq!(served(&mut stage), (true, true), "{writes:?}");
        stage.pass(LEASE_MS);
        assert_eq!(served(&mut stage), (false, reads_without));
        // What was asked before the lease ran out is no lease when it is answered after.
        let asked = stage.clock.mono_ms;
        stage.pass(LEASE_MS);
        stage.node.joined(asked, stage.clock);
        assert_eq!(served(&mut stage), (false, reads_without));
        stage.node.joined(stage.clock.mono_ms, stage.clock);
        assert_eq!(served(&mut stage), (true, true));
        assert_eq!(stage.node.stats.leases_lost.get(), before + 2);
    }
}

impl Stage {
    /// The first replica has everything, but answers no ping.
    fn ack_all(&mut self) {
        let end = self.end();
        self.node
            .follower_heard(self.links[0], end, None, self.clock);
    }
}

#[test]
fn scripts_and_transactions_write_nothing_without_a_lease() {
    let mut stage = Stage::new(WriteMode::Async);
    let mut client = stage.enter();
    stage.batch(&mut client, "MULTI");
    stage.batch(&mut client, "SET k v");
    stage.pass(LEASE_MS);
    let end = stage.end();
    let (aborted, _) = stage.batch(&mut client, "EXEC");
    assert!(aborted.starts_with("-EXECABORT"), "{aborted}");
    let (refused, _) = stage.batch(&mut client, "EVAL return(1) 1 k");
    assert!(refused.starts_with("-CLUSTERDOWN"), "{refused}");
    assert_eq!(stage.end(), end);
}

#[test]
fn without_a_replica_in_step_nothing_safe_is_written_and_what_is_known_is_read() {
    let mut stage = Stage::new(WriteMode::Safe);
    let mut client = stage.enter();
    stage.push(OWN, &[], None).unwrap();
    let (reply, _) = stage.batch(&mut client, "SET k v");
    assert!(reply.contains("no replica of this shard is in step"));
    assert_eq!(
        stage.batch(&mut client, "GET k"),
        ("$-1\r\n".to_string(), Answer::AtOnce)
    );
    stage.push(OWN, &[SECOND], None).unwrap();
    let answer = stage.batch(&mut client, "SET k v").1;
    assert_eq!(answer, Answer::At(stage.end()));
    stage.ack(1, stage.end());
    assert_eq!(stage.node.waiting_answers(), 0);
}

#[test]
fn a_primary_that_is_fenced_serves_nothing_whatever_lease_it_has_until_a_map_or_the_end_of_the_fence()
 {
    for ends_by_map in [false, true] {
        let mut stage = Stage::new(WriteMode::Safe);
        let (mut client, mut topology) = (stage.enter(), control(&mut stage));
        stage.batch(&mut client, "SET k v");
        let fence = Fence {
            number: 7,
            shard: ShardId(1),
            primary: OWN,
            epoch: Epoch(stage.epoch),
        };
        let body = serde_json::to_string(&fence).unwrap();
        let (_, reply) = stage.call(&mut topology, &format!("LARDER FENCE {body}"));
        let said = reply.split("\r\n").nth(1).unwrap();
        let fenced: Fenced = serde_json::from_str(said).unwrap();
        assert_eq!((fenced.number, fenced.run_id), (7, OWN));
        assert_eq!(fenced.place, stage.node.journal.place());
        assert!(client.client.is_killed(), "what waits is never answered");

        stage.ack_all();
        stage.node.joined(stage.clock.mono_ms, stage.clock);
        let mut client = stage.enter();
        for line in ["SET k w", "GET k"] {
            let (reply, _) = stage.batch(&mut client, line);
            assert!(reply.starts_with("-CLUSTERDOWN"), "{line}: {reply}");
        }
        match ends_by_map {
            true => stage.push(OWN, &[FIRST], None).unwrap(),
            false => {
                let (_, reply) = stage.call(&mut topology, "LARDER UNFENCE 7");
                assert_eq!(reply, "+OK\r\n");
            }
        }
        assert_eq!(stage.batch(&mut client, "SET k w").0, "+OK\r\n");
    }
}

#[test]
fn who_waits_when_the_lease_or_the_primacy_is_lost_is_cut_off() {
    let lose_lease: fn(&mut Stage) = |stage| stage.pass(LEASE_MS);
    let lose_primacy: fn(&mut Stage) = |stage| stage.push(FIRST, &[], None).unwrap();
    let wait_too_long: fn(&mut Stage) = |stage| {
        for _ in 0..=ANSWER_WAIT_MS_MAX / 1000 {
            stage.pass(1000);
            stage.node.joined(stage.clock.mono_ms, stage.clock);
        }
    };
    for (case, lose) in [lose_lease, lose_primacy, wait_too_long].iter().enumerate() {
        let mut stage = Stage::new(WriteMode::Safe);
        let (mut one, mut other) = (stage.enter(), stage.enter());
        stage.batch(&mut one, "SET k v");
        stage.ack_all();
        stage.batch(&mut other, "SET k w");
        lose(&mut stage);
        assert!(other.client.is_killed(), "case {case}");
        assert!(
            !one.client.is_killed(),
            "it may have been answered, case {case}"
        );
        assert_eq!(stage.node.stats.answers_cut_off.get(), 1);
        assert_eq!(stage.node.waiting_answers(), 0);
    }
}

#[test]
fn a_process_that_stood_still_sends_nothing_that_it_computed_before() {
    let mut stage = Stage::new(WriteMode::Safe);
    let mut client = stage.enter();
    stage.batch(&mut client, "SET k v");
    stage.ack_all();
    // Acknowledged, rung, and then stopped before the write to the socket.
    stage.clock.mono_ms += 10 * LEASE_MS;
    assert_eq!(stage.node.answered_up_to(stage.clock), None);

    let mut stage = Stage::new(WriteMode::Safe);
    let mut client = stage.enter();
    stage.node.begin_batch(stage.clock);
    assert_eq!(stage.call(&mut client, "GET k").0, Outcome::Done);
    stage.clock.mono_ms += LEASE_MS;
    let answer = stage.node.answer_batch(&client.client, stage.clock);
    assert_eq!(answer, Answer::Never);
    // The next batch looks at the clock first.
    let (reply, answer) = stage.batch(&mut client, "GET k");
    assert!(reply.starts_with("-CLUSTERDOWN"));
    assert_eq!(answer, Answer::AtOnce);
}

#[test]
fn keys_expire_only_while_the_lease_is_held() {
    let mut stage = Stage::new(WriteMode::Async);
    let mut client = stage.enter();
    stage.batch(&mut client, "PSETEX k 10 v");
    stage.pass(LEASE_MS);
    let end = stage.end();
    assert_eq!(stage.batch(&mut client, "GET k").0, "$-1\r\n");
    stage.node.background_step(stage.clock);
    assert_eq!(
        stage.end(),
        end,
        "nothing is written, not even that it went"
    );
    stage.node.joined(stage.clock.mono_ms, stage.clock);
    assert_eq!(stage.batch(&mut client, "GET k").0, "$-1\r\n");
    assert!(stage.end() > end);
}

fn ask_yield(stage: &mut Stage, topology: &mut Session, number: u64, to: NodeId) -> String {
    let ask = serde_json::to_string(&Yield { number, to }).unwrap();
    match stage.call(topology, &format!("LARDER YIELD {ask}")) {
        (Outcome::Held, _) => "held".to_string(),
        (_, reply) => reply,
    }
}

#[test]
fn a_planned_change_holds_writes_until_the_successor_has_everything_and_the_map_comes() {
    let mut stage = Stage::new(WriteMode::Async);
    let (mut topology, mut client) = (control(&mut stage), stage.enter());
    stage.batch(&mut client, "SET k v");
    let releases = stage.node.releases();
    assert_eq!(ask_yield(&mut stage, &mut topology, 1, FIRST), "held");
    let held = stage.call(&mut client, "SET k w");
    assert_eq!(held.0, Outcome::Held);
    assert_eq!(stage.batch(&mut client, "GET k").0, "$1\r\nv\r\n");
    let refused = stage.push(FIRST, &[], Some(1)).unwrap_err();
    assert_eq!(refused.text(), "LETGO 1", "it has not everything yet");
    stage.pass(20);
    stage.ack_all();
    assert!(stage.node.releases() > releases, "YIELD is asked again");
    let reply = ask_yield(&mut stage, &mut topology, 1, FIRST);
    let body = reply.split("\r\n").nth(1).unwrap();
    let yielded: Yielded = serde_json::from_str(body).unwrap();
    assert_eq!(yielded.number, 1);
    assert_eq!(yielded.place, stage.node.journal.place().unwrap());
    stage.push(FIRST, &[], Some(1)).unwrap();
    let moved = stage.batch(&mut client, "SET k w").0;
    assert!(moved.starts_with("-MOVED"), "{moved}");
    assert!(!client.client.is_killed());
    assert_eq!(stage.node.stats.yields.get(), 1);
    assert_eq!(stage.node.stats.yield_hold_ms.get(), 20);
}

#[test]
fn a_hold_for_a_planned_change_does_not_last() {
    let mut stage = Stage::new(WriteMode::Async);
    let (mut topology, mut client) = (control(&mut stage), stage.enter());
    stage.ack_all();
    assert!(ask_yield(&mut stage, &mut topology, 1, FIRST).starts_with('$'));
    stage.pass(HOLD_MS_MAX);
    assert_eq!(stage.batch(&mut client, "SET k v").0, "+OK\r\n");
    let late = stage.push(FIRST, &[], Some(1)).unwrap_err();
    assert_eq!(late.text(), "LETGO 1");
    assert_eq!(
        ask_yield(&mut stage, &mut topology, 1, FIRST),
        "-LETGO 1\r\n"
    );
    // A failover's map is taken whatever is held or let go.
    stage.node.joined(stage.clock.mono_ms, stage.clock);
    assert_eq!(ask_yield(&mut stage, &mut topology, 2, FIRST), "held");
    stage.push(FIRST, &[], None).unwrap();
    assert!(stage.batch(&mut client, "SET k v").0.starts_with("-MOVED"));
    let no_primary = ask_yield(&mut stage, &mut topology, 3, FIRST);
    assert!(no_primary.contains("no primary"), "{no_primary}");
}

#[test]
fn only_a_replica_in_step_that_follows_is_yielded_to_and_one_that_goes_frees_the_writes() {
    let mut stage = Stage::new(WriteMode::Async);
    let (mut topology, mut client) = (control(&mut stage), stage.enter());
    let refused = ask_yield(&mut stage, &mut topology, 1, SECOND);
    assert!(refused.contains("in step"), "{refused}");
    stage.batch(&mut client, "SET k v");
    assert_eq!(ask_yield(&mut stage, &mut topology, 2, FIRST), "held");
    let link = stage.links[0];
    stage.node.replication.followers.end(link);
    stage.pass(1);
    assert_eq!(stage.batch(&mut client, "SET k w").0, "+OK\r\n");
    let gone = ask_yield(&mut stage, &mut topology, 2, FIRST);
    assert_eq!(gone, "-LETGO 2\r\n");
    let gone = ask_yield(&mut stage, &mut topology, 3, FIRST);
    assert!(gone.contains("does not follow"), "{gone}");
}

#[test]
fn a_planned_change_in_a_safe_cluster_cuts_nobody_off() {
    let mut stage = Stage::new(WriteMode::Safe);
    let (mut topology, mut client) = (control(&mut stage), stage.enter());
    stage.batch(&mut client, "SET k v");
    assert_eq!(ask_yield(&mut stage, &mut topology, 1, FIRST), "held");
    stage.ack_all();
    assert!(ask_yield(&mut stage, &mut topology, 1, FIRST).starts_with('$'));
    // Rung, but not looked after when the map comes.
    stage.push(FIRST, &[], Some(1)).unwrap();
    assert!(!client.client.is_killed());
    assert!(stage.node.answered_up_to(stage.clock) >= Some(stage.end()));
}

/// What a session that waited was told.
fn post(session: &Session) -> String {
    let mut out = Vec::new();
    session.client.take_post(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn waitaof_counts_the_disks_that_have_the_last_write_of_the_connection() {
    let mut stage = Stage::new(WriteMode::Async);
    let (mut client, mut other) = (stage.enter(), stage.enter());
    let [one, two] = stage.links;
    stage.batch(&mut client, "SET k v");
    let first = stage.end();
    stage.batch(&mut client, "WAITAOF 0 2 0");
    stage.batch(&mut other, "SET l v");
    stage.batch(&mut other, "WAITAOF 0 2 100");
    let end = stage.end();
    // In their memory is not on their disks.
    stage.ack_all();
    stage.node.follower_synced(one, end);
    assert_eq!(
        (post(&client), post(&other)),
        (String::new(), String::new())
    );
    stage.node.follower_synced(two, first);
    assert_eq!(
        (post(&client), post(&other)),
        ("*2\r\n:0\r\n:2\r\n".into(), String::new())
    );
    stage.pass(101);
    stage.node.give_up_due(stage.clock);
    assert_eq!(post(&other), "*2\r\n:0\r\n:1\r\n");
    // This node's own disk, which has it while a replica is waited for.
    stage.batch(&mut client, "CONFIG SET appendonly yes");
    stage.node.begin_append(true, 0);
    stage.batch(&mut client, "SET k w");
    stage.batch(&mut client, "WAITAOF 1 1 100");
    let synced = Written {
        written: stage.end(),
        synced: stage.end(),
        file_bytes: 0,
    };
    stage.node.append_progress(synced, None, false);
    assert_eq!(post(&client), "");
    stage.pass(101);
    stage.node.give_up_due(stage.clock);
    assert_eq!(post(&client), "*2\r\n:1\r\n:0\r\n");
    stage.batch(&mut client, "WAITAOF 1 1 0");
    stage.node.follower_synced(one, stage.end());
    assert_eq!(post(&client), "*2\r\n:1\r\n:1\r\n");
    stage.push(FIRST, &[], None).unwrap();
    let on_replica = stage.batch(&mut client, "WAITAOF 0 1 0").0;
    assert!(on_replica.starts_with("-ERR WAITAOF cannot be used with replica instances."));
}

#[test]
fn while_the_file_cannot_be_written_reads_go_on_and_a_write_that_waits_for_it_is_soon_cut_off() {
    for writes in [WriteMode::Async, WriteMode::Safe] {
        let mut stage = Stage::new(writes);
        let (mut writer, mut reader) = (stage.enter(), stage.enter());
        stage.batch(&mut writer, "CONFIG SET appendfsync always");
        stage.batch(&mut writer, "CONFIG SET appendonly yes");
        let begun = stage.node.begin_append(true, 0);
        let before = Written {
            written: begun,
            synced: begun,
            file_bytes: 0,
        };
        stage.node.append_progress(before, None, false);
        let answer = stage.batch(&mut writer, "SET k v").1;
        let end = stage.end();
        assert_eq!(answer, Answer::At(end));
        let fault = Some("No space left on device".to_string());
        stage.node.append_progress(before, fault, false);
        if writes == WriteMode::Safe {
            let mut early = stage.enter();
            assert_eq!(stage.batch(&mut early, "GET k").1, Answer::At(end));
        }
        stage.ack(0, end);
        assert_eq!(stage.batch(&mut reader, "GET k").1, Answer::AtOnce);
        assert!(
            stage
                .batch(&mut reader, "SET k w")
                .0
                .starts_with("-MISCONF")
        );
        // Whoever wrote is not told of what may be lost.
        assert_eq!(stage.batch(&mut writer, "GET k").1, Answer::At(end));
        stage.pass(FULL_WAIT_MS_MAX - 1);
        assert!(!writer.client.is_killed());
        stage.pass(1);
        assert!(writer.client.is_killed() && !reader.client.is_killed());
    }
}

#[test]
fn wait_counts_the_replicas_that_have_the_last_write_of_the_connection() {
    let mut stage = Stage::new(WriteMode::Async);
    let (mut client, mut other) = (stage.enter(), stage.enter());
    // Who has written nothing waits for nothing.
    assert_eq!(stage.batch(&mut other, "WAIT 2 0").0, ":2\r\n");
    stage.batch(&mut client, "SET k v");
    stage.batch(&mut client, "WAIT 1 0");
    assert!(client.client.is_blocked());
    stage.batch(&mut other, "SET l v");
    stage.batch(&mut other, "WAIT 2 100");
    let end = stage.end();
    stage.ack(1, end);
    assert_eq!(
        (post(&client), post(&other)),
        (":1\r\n".into(), String::new())
    );
    stage.pass(101);
    stage.node.give_up_due(stage.clock);
    assert_eq!(post(&other), ":1\r\n");
    stage.batch(&mut other, "MULTI");
    stage.batch(&mut other, "WAIT 5 0");
    assert_eq!(stage.batch(&mut other, "EXEC").0, "*1\r\n:1\r\n");
    stage.batch(&mut client, "SET k w");
    stage.batch(&mut client, "WAIT 2 0");
    stage.ack(0, stage.end());
    assert_eq!(post(&client), "");
    stage.ack(1, stage.end());
    assert_eq!(post(&client), ":2\r\n");
    stage.push(FIRST, &[], None).unwrap();
    let on_replica = stage.batch(&mut client, "WAIT 1 0").0;
    assert!(on_replica.starts_with("-ERR WAIT cannot be used with replica instances."));
}

#[test]
fn writes_need_as_many_good_replicas_as_were_asked_for() {
    let mut stage = Stage::new(WriteMode::Async);
    let mut client = stage.enter();
    stage.batch(&mut client, "CONFIG SET min-replicas-max-lag 3");
    for (wanted, taken) in [(3, false), (2, true), (0, true)] {
        stage.batch(
            &mut client,
            &format!("CONFIG SET min-replicas-to-write {wanted}"),
        );
        stage.pass(0);
        let reply = stage.batch(&mut client, "SET k v").0;
        assert_eq!(reply == "+OK\r\n", taken, "{wanted}: {reply}");
        assert_eq!(reply.starts_with("-NOREPLICAS"), !taken);
    }
    stage.batch(&mut client, "CONFIG SET min-replicas-to-write 2");
    stage.pass(3001);
    stage.ack(0, Offset(0));
    stage.pass(0);
    assert!(
        stage
            .batch(&mut client, "SET k v")
            .0
            .starts_with("-NOREPLICAS")
    );
    let info = stage.batch(&mut client, "INFO replication").0;
    assert!(info.contains("min_slaves_good_slaves:1\r\n"), "{info}");
    stage.ack(1, Offset(0));
    stage.pass(0);
    assert_eq!(stage.batch(&mut client, "SET k v").0, "+OK\r\n");
}
