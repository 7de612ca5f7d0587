//! The plan told as stories: events in, actions out. A small stage stands for the service and answers what a
//! story does not care about.

use std::collections::BTreeMap;

use larder_wire::control::{ImportPhase, ImportState, MapPush, NodeJoin, NodeState};
use larder_wire::{Attempt, Epoch, NodeId, Offset, Role, Slot, SlotSet};

use crate::*;

pub(crate) fn id(number: u8) -> NodeId {
    NodeId::from_bytes([number; 20])
}

pub(crate) fn run(node: u8, life: u8) -> NodeId {
    let mut bytes = [0xaa; 20];
    (bytes[0], bytes[1]) = (node, life);
    NodeId::from_bytes(bytes)
}

pub(crate) fn addr(number: u8) -> String {
    format!("127.0.0.1:{}", 7000 + u16::from(number))
}

/// A plan, a store that takes everything, and nodes that obey, except where the story takes over.
pub(crate) struct Stage {
    pub(crate) plan: Plan,
    pub(crate) now: u64,
    pub(crate) nodes: BTreeMap<NodeId, NodeState>,
    /// Actions that the stage did not answer: those the story looks at.
    pub(crate) seen: Vec<Action>,
    /// Pushes to these nodes and imports by them are left to the story.
    pub(crate) by_hand: Vec<NodeId>,
    next_request: u64,
}

impl Stage {
    fn new(shards: u32) -> Stage {
        Stage::with(Settings {
            shards,
            replicas: 0,
            writes: Default::default(),
            lost_shards: Default::default(),
            scale: Default::default(),
        })
    }

    pub(crate) fn with(settings: Settings) -> Stage {
        Stage {
            plan: Plan::new(State::new("larder", settings), "127.0.0.1:7000", 0),
            now: 0,
            nodes: BTreeMap::new(),
            seen: Vec::new(),
            by_hand: Vec::new(),
            next_request: 1,
        }
    }

    fn formed(shards: u32) -> Stage {
        let mut stage = Stage::new(shards);
        for number in 1..=shards as u8 {
            stage.joins(number);
        }
        assert_eq!(stage.plan.state().map.shards().len(), shards as usize);
        stage.seen.clear();
        stage
    }

    pub(crate) fn event(&mut self, event: Event) {
        let mut actions = self.plan.step(self.now, event);
        actions.reverse();
        while let Some(action) = actions.pop() {
            if let Some(answer) = self.answer(action) {
                let mut more = self.plan.step(self.now, answer);
                more.reverse();
                actions.splice(0..0, more);
            }
        }
    }

    fn answer(&mut self, action: Action) -> Option<Event> {
        match &action {
            Action::Record { seq, .. } => Some(Event::Recorded {
                seq: *seq,
                result: Ok(()),
            }),
            Action::PushMap { node, push } if !self.by_hand.contains(node) => {
                Some(self.takes(*node, push))
            }
            Action::StartImport { node, import } if !self.by_hand.contains(node) => {
                Some(Event::ImportAnswered {
                    attempt: import.attempt,
                    result: Ok(()),
                })
            }
            Action::AwaitImport { node, attempt } if !self.by_hand.contains(node) => {
                Some(ready(*attempt))
            }
            _ => {
                self.seen.push(action);
                None
            }
        }
    }

    /// The node takes the map.
    pub(crate) fn takes(&mut self, node: NodeId, push: &MapPush) -> Event {
        let state = self.nodes.get_mut(&node).unwrap();
        state.epoch = push.map.epoch;
        state.slots = push.map.slots_of(node);
        Event::Pushed {
            node,
            run_id: state.run_id,
            epoch: push.map.epoch,
            result: PushResult::Accepted,
        }
    }

    pub(crate) fn joins(&mut self, number: u8) {
        self.joins_as(number, 1);
    }

    pub(crate) fn joins_as(&mut self, number: u8, life: u8) {
        let join = join(number, life);
        self.nodes.insert(join.id, node_state(number, life));
        self.event(Event::NodeJoined(join));
        self.probe(id(number));
    }

    pub(crate) fn probe(&mut self, node: NodeId) {
        let state = self.nodes[&node].clone();
        self.event(Event::NodeAnswered(Box::new(state)));
    }

    pub(crate) fn wait(&mut self, ms: u64) {
        let mut left = ms;
        loop {
            let part = left.min(100);
            left -= part;
            self.now += part;
            self.event(Event::Tick);
            if left == 0 {
                return;
            }
        }
    }

    fn order(&mut self, order: Order) -> Result<report::OrderReport, String> {
        self.order_any(order).map(|answer| match answer {
            Answer::Slots(report) => report,
            other => panic!("not an answer about slots: {other:?}"),
        })
    }

    pub(crate) fn order_any(&mut self, order: Order) -> Result<Answer, String> {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.event(Event::Operator { request, order });
        let place = self.seen.iter().position(
            |action| matches!(action, Action::Reply { request: this, .. } if *this == request),
        );
        match self.seen.remove(place.expect("an order is answered")) {
            Action::Reply { answer, .. } => answer.map(|answer| *answer),
            _ => unreachable!("just matched"),
        }
    }

    fn reshard(&mut self, shards: u32) -> Result<report::OrderReport, String> {
        self.order(Order::Reshard {
            shards,
            dry_run: false,
        })
    }

    pub(crate) fn pushes(&self) -> Vec<(NodeId, Epoch, Vec<Attempt>)> {
        let pushes = self.seen.iter().filter_map(|action| match action {
            Action::PushMap { node, push } => Some((*node, push.map.epoch, push.handovers.clone())),
            _ => None,
        });
        pushes.collect()
    }

    fn sizes(&self) -> Vec<usize> {
        let shards = self.plan.state().map.shards().iter();
        shards.map(|shard| shard.slots.len()).collect()
    }
}

pub(crate) fn join(number: u8, life: u8) -> NodeJoin {
    NodeJoin {
        id: id(number),
        run_id: run(number, life),
        addr: addr(number),
        http: None,
        zone: None,
        maxmemory: 0,
        data: None,
        release: "0.1.0".into(),
    }
}

pub(crate) fn node_state(number: u8, life: u8) -> NodeState {
    NodeState {
        id: id(number),
        run_id: run(number, life),
        epoch: Epoch(0),
        role: Role::Primary,
        slots: SlotSet::new(),
        keys: 1000,
        used_memory: 1 << 20,
        maxmemory: 0,
        commands: 0,
        cpu_us: 0,
        clients: 0,
        uptime_ms: 0,
        imports: Vec::new(),
        feeds: Vec::new(),
        replication: None,
    }
}

fn ready(attempt: Attempt) -> Event {
    Event::Import {
        attempt,
        phase: ImportPhase::Ready { offset: Offset(9) },
        keys: 10,
        bytes: 100,
    }
}

/// A cluster of two whose one move (slots of node 1 to node 3) has just been told its map, and waits for the
/// word of the source.
fn undecided() -> (Stage, Attempt, Epoch) {
    let mut stage = Stage::formed(2);
    stage.joins(3);
    stage.by_hand = vec![id(1), id(2)];
    stage.reshard(3).unwrap();
    // The map with the empty third shard: both take it, then the first attempt gets ready.
    for node in [id(1), id(2)] {
        let push = MapPush {
            map: stage.plan.state().map.clone(),
            handovers: vec![],
            yields: None,
        };
        let event = stage.takes(node, &push);
        stage.event(event);
    }
    let handover = stage.plan.state().handover.clone().expect("one is ready");
    assert_eq!(handover.source, id(1));
    assert_eq!(
        stage.pushes().last(),
        Some(&(id(1), handover.map.epoch, vec![handover.attempt]))
    );
    stage.seen.clear();
    (stage, handover.attempt, handover.map.epoch)
}

#[test]
fn a_cluster_forms_when_the_last_node_joins_and_only_then() {
    let mut stage = Stage::new(3);
    stage.joins(1);
    stage.joins(2);
    assert!(!stage.plan.state().formed());
    let refused = stage.reshard(5).unwrap_err();
    assert_eq!(
        refused,
        "the cluster is not formed yet: 2 of 3 nodes have joined (add 1 with: larder shard --topology 127.0.0.1:7000 --listen HOST:PORT --nodes 1)"
    );
    stage.joins(3);
    assert_eq!(stage.plan.state().map.epoch, Epoch(1));
    assert_eq!(stage.sizes(), [5462, 5461, 5461]);
    assert!(stage.nodes.values().all(|node| node.epoch == Epoch(1)));
    let owner = |slot| {
        stage
            .plan
            .state()
            .map
            .primary_of(Slot::new(slot).unwrap())
            .unwrap()
            .id
    };
    assert_eq!((owner(0), owner(16383)), (id(1), id(3)));
}

#[test]
fn counts_that_are_not_possible_are_refused() {
    for (shards, replicas, served) in [
        (1, 0, true),
        (0, 0, false),
        (3, 8, true),
        (3, 9, false),
        (1001, 0, false),
    ] {
        let settings = Settings {
            shards,
            replicas,
            writes: Default::default(),
            lost_shards: Default::default(),
            scale: Default::default(),
        };
        assert_eq!(settings.check().is_ok(), served, "{settings:?}");
    }
}

#[test]
fn growing_and_shrinking_end_even_and_the_last_shards_leave() {
    let mut stage = Stage::formed(3);
    stage.joins(4);
    stage.joins(5);
    let report = stage.reshard(5).unwrap();
    assert_eq!((report.slots, report.shards_after), (6553, 5));
    assert_eq!(stage.plan.state().operation, None);
    assert_eq!(
        stage.plan.state().finished.last().unwrap().outcome,
        Outcome::Done
    );
    assert!(
        stage
            .sizes()
            .iter()
            .all(|size| (3276..=3277).contains(size))
    );
    assert_eq!(stage.plan.state().settings.shards, 5);

    stage.reshard(2).unwrap();
    assert_eq!(stage.sizes(), [8192, 8192]);
    assert_eq!(stage.plan.status().spares.len(), 3);
    let again = stage.reshard(2).unwrap();
    assert_eq!((again.operation, again.slots), (None, 0));
    // Shard ids are not used again.
    stage.reshard(3).unwrap();
    assert_eq!(stage.plan.state().map.shards()[2].id.0, 6);
}

#[test]
fn only_the_source_hears_of_a_handover_until_it_has_taken_it() {
    let (mut stage, _, epoch) = undecided();
    assert_eq!(stage.pushes(), []);
    let map = stage.plan.state().handover.clone().unwrap().map;
    let push = MapPush {
        map,
        handovers: vec![],
        yields: None,
    };
    let taken = stage.takes(id(1), &push);
    stage.event(taken);
    assert_eq!(stage.plan.state().map.slots_of(id(3)).len(), 2048);
    assert_eq!(stage.nodes[&id(3)].epoch, epoch);
    let broadcast = stage
        .seen
        .iter()
        .any(|action| matches!(action, Action::Broadcast(map) if map.epoch == epoch));
    assert!(broadcast);
}

#[test]
fn a_source_that_let_go_keeps_its_slots_and_the_spent_epoch_is_seen_by_nobody() {
    let (mut stage, attempt, epoch) = undecided();
    let before = stage.plan.state().map.slots_of(id(1));
    stage.event(Event::Pushed {
        node: id(1),
        run_id: run(1, 1),
        epoch,
        result: PushResult::LetGo(attempt),
    });
    assert_eq!(stage.plan.state().map.slots_of(id(1)), before);
    assert_eq!(stage.plan.state().map.epoch, epoch.next());
    assert!(stage.pushes().iter().all(|(_, pushed, _)| *pushed != epoch));
    assert!(stage.seen.contains(&Action::Abort {
        node: id(3),
        attempt
    }));
    assert_eq!(stage.plan.state().counts.moves_failed, 1);
    // Tried again under another id, after a pause.
    stage.by_hand.clear();
    // Pushes and attempts without an answer are said again.
    stage.wait(ANSWER_MS_MAX);
    stage.wait(RETRY_MS_MAX);
    assert_eq!(stage.plan.state().operation, None);
    assert!(stage.plan.state().next_attempt > attempt.0 + 1);
}

#[test]
fn a_source_that_falls_silent_leaves_the_handover_undecided_till_it_answers() {
    let (mut stage, _, epoch) = undecided();
    let gone = Event::NodeUnreachable {
        node: id(1),
        reason: "connection reset".into(),
        process_gone: false,
    };
    stage.event(gone);
    stage.wait(60_000);
    assert!(stage.plan.state().handover.is_some());
    // It had taken the map: its next probe says so.
    stage.nodes.get_mut(&id(1)).unwrap().epoch = epoch;
    stage.probe(id(1));
    assert!(
        stage
            .plan
            .state()
            .handover
            .as_ref()
            .is_none_or(|next| next.map.epoch > epoch)
    );
    assert_eq!(stage.plan.state().map.slots_of(id(3)).len(), 2048);
}

#[test]
fn a_source_that_restarts_in_a_handover_has_lost_its_word_and_the_target_owns() {
    let (mut stage, _, _) = undecided();
    stage.joins_as(1, 2);
    assert_eq!(stage.plan.state().map.slots_of(id(3)).len(), 2048);
    assert_eq!(stage.plan.state().counts.data_losses, 1);
    // What its former life said late is passed over.
    let mut late = node_state(1, 1);
    late.epoch = Epoch(1);
    stage.event(Event::NodeAnswered(Box::new(late)));
    stage.event(Event::NodeJoined(join(1, 1)));
    assert_eq!(stage.plan.state().counts.data_losses, 1);
    assert_eq!(stage.plan.state().nodes[&id(1)].run_id, run(1, 2));
}

#[test]
fn a_target_that_restarts_in_a_handover_makes_the_source_let_go() {
    let (mut stage, attempt, epoch) = undecided();
    stage.joins_as(3, 2);
    assert!(stage.seen.contains(&Action::Abort {
        node: id(1),
        attempt
    }));
    assert!(
        stage.plan.state().handover.is_some(),
        "the source's word decides"
    );
    stage.event(Event::Pushed {
        node: id(1),
        run_id: run(1, 1),
        epoch,
        result: PushResult::LetGo(attempt),
    });
    assert_eq!(stage.plan.state().counts.data_losses, 0);
    assert_eq!(stage.plan.state().map.slots_of(id(1)).len(), 8192);
}

#[test]
fn a_node_that_restarts_gets_its_map_again_and_the_loss_is_counted() {
    let mut stage = Stage::formed(2);
    stage.joins_as(2, 2);
    assert_eq!(stage.nodes[&id(2)].epoch, Epoch(1));
    assert_eq!(stage.plan.state().counts.data_losses, 1);
}

#[test]
fn a_node_with_another_id_at_a_members_address_takes_its_place() {
    let mut stage = Stage::formed(2);
    stage.event(Event::NodeUnreachable {
        node: id(2),
        reason: "connection refused".into(),
        process_gone: false,
    });
    let newcomer = NodeJoin {
        addr: addr(2),
        ..join(9, 1)
    };
    stage.nodes.insert(id(9), node_state(9, 1));
    stage.event(Event::NodeJoined(newcomer));
    stage.probe(id(9));
    assert_eq!(stage.plan.state().map.slots_of(id(9)).len(), 8192);
    assert_eq!(stage.plan.state().map.find_node(id(2)), None);
    assert!(!stage.plan.state().nodes.contains_key(&id(2)));
    assert_eq!(stage.plan.state().counts.data_losses, 1);
    assert_eq!(stage.nodes[&id(9)].epoch, Epoch(2));
}

#[test]
fn a_member_whose_address_changed_keeps_its_place_under_its_address() {
    let mut stage = Stage::formed(2);
    let moved = NodeJoin {
        addr: "10.0.0.9:7002".into(),
        ..join(2, 1)
    };
    stage.event(Event::NodeJoined(moved));
    let (shard, entry) = stage.plan.state().map.find_node(id(2)).unwrap();
    assert_eq!(
        (entry.addr.as_str(), shard.slots.len()),
        ("10.0.0.9:7002", 8192)
    );
    assert_eq!(stage.plan.state().counts.data_losses, 0);
}

#[test]
fn a_node_with_a_newer_map_than_the_record_is_not_used_to_form() {
    let mut stage = Stage::new(1);
    let mut foreign = node_state(1, 1);
    foreign.epoch = Epoch(17);
    stage.nodes.insert(id(1), foreign);
    stage.event(Event::NodeJoined(join(1, 1)));
    stage.probe(id(1));
    stage.probe(id(1));
    assert!(!stage.plan.state().formed());
    let told = stage.seen.iter().filter(|action| {
        matches!(
            action,
            Action::Log {
                level: Level::Error,
                ..
            }
        )
    });
    assert_eq!(told.count(), 1);
}

#[test]
fn too_few_spares_are_named_with_the_command_that_adds_them() {
    let mut stage = Stage::formed(3);
    stage.joins(4);
    assert_eq!(
        stage.reshard(6).unwrap_err(),
        "2 spare nodes are missing: 3 are needed, 1 joined as spare (add 2 with: larder shard --topology 127.0.0.1:7000 --listen HOST:PORT --nodes 2)"
    );
    assert_eq!(stage.plan.state().operation, None);
}

#[test]
fn with_a_starter_missing_nodes_are_asked_for_and_the_operation_waits() {
    let mut stage = Stage::formed(3);
    stage.event(Event::NodeStarter { able: true });
    let report = stage.reshard(5).unwrap();
    assert_eq!(report.missing_nodes, 2);
    assert!(stage.seen.contains(&Action::AskForNodes(2)));
    stage.joins(4);
    assert!(!stage.plan.state().operation.as_ref().unwrap().planned);
    stage.joins(5);
    assert_eq!(stage.plan.state().operation, None);
    assert_eq!(stage.sizes().len(), 5);
}

#[test]
fn the_same_order_joins_and_another_is_refused_while_one_is_under_way() {
    let (mut stage, _, _) = undecided();
    let again = stage.reshard(3).unwrap();
    assert!(again.attached);
    assert_eq!(again.operation, Some(1));
    assert_eq!(
        stage.reshard(1).unwrap_err(),
        "a reshard to 3 shards is under way, 0 of 5461 slots have moved: one change at a time (watch it with larder status)"
    );
}

#[test]
fn a_stalled_operation_makes_room_for_another() {
    let mut stage = Stage::formed(2);
    stage.joins(3);
    stage.by_hand = vec![id(3)];
    stage.reshard(3).unwrap();
    stage.event(Event::NodeUnreachable {
        node: id(3),
        reason: "connection refused".into(),
        process_gone: false,
    });
    assert!(stage.reshard(2).is_err());
    for _ in 0..8 {
        stage.wait(10_000);
    }
    assert_eq!(
        stage.plan.moves().operation.unwrap().stage,
        report::Stage::Stalled {
            reason: "node 127.0.0.1:7003 does not answer".into()
        }
    );
    // The third shard is empty: it leaves without a move.
    stage.reshard(2).unwrap();
    assert_eq!(stage.plan.state().operation, None);
    assert_eq!(stage.sizes(), [8192, 8192]);
}

#[test]
fn a_plan_that_maxmemory_cannot_take_is_refused_with_the_figures() {
    let mut stage = Stage::formed(3);
    for number in 1..=3 {
        let state = stage.nodes.get_mut(&id(number)).unwrap();
        (state.used_memory, state.maxmemory) = (80 << 20, 100 << 20);
        stage.probe(id(number));
    }
    assert_eq!(
        stage.reshard(2).unwrap_err(),
        "node 127.0.0.1:7001 (shard 1) cannot take the data: it would hold about 120.0 MB, its maxmemory is 100.0 MB (raise maxmemory, or choose more shards)"
    );
}

#[test]
fn slots_are_moved_by_name_and_rebalance_brings_them_home() {
    let mut stage = Stage::formed(2);
    let order = |to: &str, dry_run| Order::Move {
        slots: "0-99".parse().unwrap(),
        to: to.into(),
        dry_run,
    };
    let dry = stage.order(order(&addr(2), true)).unwrap();
    assert_eq!((dry.operation, dry.slots), (None, 100));
    assert_eq!(stage.sizes(), [8192, 8192]);
    stage.order(order(&id(2).to_string()[..6], false)).unwrap();
    assert_eq!(stage.sizes(), [8092, 8292]);
    assert_eq!(
        stage.order(order("nobody", false)).unwrap_err(),
        "there is no node 'nobody' (see larder status)"
    );
    stage.order(Order::Rebalance { dry_run: false }).unwrap();
    assert_eq!(stage.sizes(), [8192, 8192]);
}

#[test]
fn a_topology_that_restarts_asks_how_its_attempts_stand_and_goes_on() {
    let mut stage = Stage::formed(2);
    stage.joins(3);
    stage.by_hand = vec![id(3)];
    stage.reshard(3).unwrap();
    let push = MapPush {
        map: stage.plan.state().map.clone(),
        handovers: vec![],
        yields: None,
    };
    let taken = stage.takes(id(3), &push);
    stage.event(taken);
    let json = stage.plan.state().to_json();
    let state = State::from_json(&json).unwrap();
    let attempt = *state.attempts.keys().next().expect("one is under way");
    stage.plan = Plan::new(state, "127.0.0.1:7000", stage.now);
    stage.seen.clear();
    stage.event(Event::Tick);
    for number in 1..=3 {
        stage.probe(id(number));
    }
    assert!(stage.seen.contains(&Action::AwaitImport {
        node: id(3),
        attempt
    }));
    stage.by_hand.clear();
    stage.event(ready(attempt));
    assert_eq!(stage.plan.state().operation, None);
    assert_eq!(stage.sizes(), [5462, 5461, 5461]);
}

#[test]
fn nothing_is_done_before_it_is_recorded() {
    let mut stage = Stage::formed(2);
    let request = RequestId(77);
    let order = Order::Move {
        slots: "0-9".parse().unwrap(),
        to: addr(2),
        dry_run: false,
    };
    let actions = stage.plan.step(0, Event::Operator { request, order });
    let [Action::Log { .. }, Action::Record { seq, .. }] = actions[..] else {
        panic!("{actions:?}");
    };
    let failed = Event::Recorded {
        seq,
        result: Err("disk full".into()),
    };
    let actions = stage.plan.step(0, failed);
    assert!(matches!(
        actions[..],
        [Action::Log {
            level: Level::Error,
            ..
        }]
    ));
    let actions = stage.plan.step(10, Event::Tick);
    let [Action::Record { seq, .. }] = actions[..] else {
        panic!("{actions:?}");
    };
    let actions = stage.plan.step(
        10,
        Event::Recorded {
            seq,
            result: Ok(()),
        },
    );
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, Action::StartImport { .. }))
    );
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, Action::Reply { .. }))
    );
}

#[test]
fn an_attempt_that_stands_still_is_given_up_on_both_sides() {
    let mut stage = Stage::formed(2);
    stage.by_hand = vec![id(2)];
    let order = Order::Move {
        slots: "0-9".parse().unwrap(),
        to: addr(2),
        dry_run: false,
    };
    stage.order(order).unwrap();
    let attempt = *stage.plan.state().attempts.keys().next().unwrap();
    stage.event(Event::ImportAnswered {
        attempt,
        result: Ok(()),
    });
    stage.nodes.get_mut(&id(2)).unwrap().imports = vec![ImportState {
        attempt,
        phase: ImportPhase::Copying,
        keys: 1,
        bytes: 1,
        slots_done: 0,
    }];
    stage.wait(PROGRESS_MS_MAX - 1);
    stage.probe(id(2));
    stage.wait(PROGRESS_MS_MAX - 1);
    assert!(
        stage.plan.state().attempts.contains_key(&attempt),
        "it made progress"
    );
    stage.wait(2);
    assert!(!stage.plan.state().attempts.contains_key(&attempt));
    for node in [id(1), id(2)] {
        assert!(stage.seen.contains(&Action::Abort { node, attempt }));
    }
}

#[test]
fn a_record_of_a_later_version_is_not_misread() {
    let mut state = State::new("larder", Stage::new(1).plan.state().settings.clone());
    assert_eq!(State::from_json(&state.to_json()).unwrap(), state);
    state.version = STATE_VERSION + 1;
    assert_eq!(
        State::from_json(&state.to_json()),
        Err(StateError::Newer {
            found: STATE_VERSION + 1
        })
    );
    assert!(matches!(
        State::from_json(b"{}"),
        Err(StateError::Damaged(_))
    ));
}
