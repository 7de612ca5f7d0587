//! What operators ask for: checked, drafted, answered; an accepted order is the one operation under way
//! until its moves are done. Saying the same again joins it.

use std::collections::BTreeMap;

use larder_wire::{NodeId, Role, ShardId, SlotSet};

use crate::balance::{Transfer, transfers};
use crate::event::{Action, Answer, Level, Order, RequestId};
use crate::report::{MovePlan, OrderReport};
use crate::soft::OperationSoft;
use crate::state::{Move, Operation, OperationKind, Outcome};
use crate::step::Plan;

/// What an operation would do to the cluster as it stands.
struct Draft {
    /// Shards to be made, with their nodes as far as there are any: the primary first.
    newcomers: Vec<(ShardId, Vec<NodeId>)>,
    /// Nodes of each of them.
    group: u32,
    leaving: Vec<ShardId>,
    transfers: Vec<Transfer>,
}

impl Draft {
    fn missing(&self) -> u32 {
        let there: usize = self.newcomers.iter().map(|(_, nodes)| nodes.len()).sum();
        self.newcomers.len() as u32 * self.group - there as u32
    }

    fn is_empty(&self) -> bool {
        self.newcomers.is_empty() && self.leaving.is_empty() && self.transfers.is_empty()
    }
}

impl Plan {
    pub(crate) fn ordered(&mut self, request: RequestId, order: Order) {
        let answer = self.take_order(order).map(Box::new);
        self.soft.replies.push((request, answer));
    }

    fn take_order(&mut self, order: Order) -> Result<Answer, String> {
        if !self.state.formed() {
            return Err(self.not_formed());
        }
        let slots = |report: OrderReport| Answer::Slots(report);
        match order {
            Order::Reshard { shards, dry_run } => {
                if shards == 0 || shards > crate::SHARDS_MAX {
                    let most = crate::SHARDS_MAX;
                    return Err(format!(
                        "{shards} shards are not possible (choose 1 to {most})"
                    ));
                }
                let kind = OperationKind::Reshard { shards };
                self.take_operation(kind, dry_run).map(slots)
            }
            Order::Move {
                slots: moved,
                to,
                dry_run,
            } => {
                if moved.is_empty() {
                    return Err("no slots are named (write e.g. 0-99)".into());
                }
                let to = self.primary_named(&to)?;
                let kind = OperationKind::Move { slots: moved, to };
                self.take_operation(kind, dry_run).map(slots)
            }
            Order::Rebalance { dry_run } => self
                .take_operation(OperationKind::Rebalance, dry_run)
                .map(slots),
            Order::Replicas { set } => self.order_replicas(set).map(Answer::Replicas),
            Order::Writes { set } => Ok(Answer::Writes(self.order_writes(set))),
            Order::LostShards { set } => Ok(Answer::LostShards(self.order_lost_shards(set))),
            Order::Forward(verb) => self.order_forward(verb).map(Answer::Forward),
            Order::Failover { shard, to, force } => {
                let report = self.order_failover(shard, to, force);
                report.map(Answer::Failover)
            }
        }
    }

    fn take_operation(
        &mut self,
        kind: OperationKind,
        dry_run: bool,
    ) -> Result<OrderReport, String> {
        if dry_run {
            let draft = self.draft(&kind);
            self.check_capacity(&draft)?;
            return Ok(self.report(&draft, None, true));
        }
        if let Some(report) = self.join_or_displace(&kind)? {
            return Ok(report);
        }
        let draft = self.draft(&kind);
        self.check_nodes(&draft)?;
        self.check_parties(&draft)?;
        self.check_capacity(&draft)?;
        if draft.is_empty() {
            self.settle_settings(&kind);
            return Ok(self.report(&draft, None, false));
        }
        let id = self.state.next_operation;
        self.state.next_operation += 1;
        self.log(Level::Info, format!("{} begins", kind.text()));
        let report = self.report(&draft, Some(id), false);
        self.state.operation = Some(Operation {
            id,
            kind,
            planned: false,
            moves: Vec::new(),
            leaving: Vec::new(),
            keys_moved: 0,
            bytes_moved: 0,
            failures: 0,
        });
        self.soft.operation = OperationSoft::begun(self.soft.now, None);
        Ok(report)
    }

    fn not_formed(&self) -> String {
        let wanted = self.state.settings.nodes();
        let (there, missing) = self.short_of(wanted);
        format!(
            "the cluster is not formed yet: {there} of {wanted} nodes have joined (add {missing} with: {})",
            self.how_to_add(missing)
        )
    }

    fn short_of(&self, wanted: u32) -> (u32, u32) {
        let there = self.usable_spares().len() as u32;
        (there, wanted.saturating_sub(there))
    }

    pub(crate) fn how_to_add(&self, count: u32) -> String {
        format!(
            "larder shard --topology {} --listen HOST:PORT --nodes {count}",
            self.topology_addr
        )
    }

    /// The primary that `name` (an id, its beginning, or an address) means.
    fn primary_named(&self, name: &str) -> Result<NodeId, String> {
        let id = self.member(name)?;
        match self.state.map.find_node(id) {
            Some((_, entry)) if entry.role == Role::Primary => Ok(id),
            Some((shard, _)) => Err(format!(
                "node {} is a replica of shard {} (name its primary)",
                self.addr(id),
                shard.id
            )),
            None => Err(format!(
                "node {} is a spare and in no shard (larder reshard gives it one)",
                self.addr(id)
            )),
        }
    }

    /// The node that `name` (an id, its beginning, or an address) means.
    pub(crate) fn member(&self, name: &str) -> Result<NodeId, String> {
        let name = name.to_ascii_lowercase();
        let named = |id: &NodeId, addr: &str| {
            addr.eq_ignore_ascii_case(&name)
                || !name.is_empty() && id.to_string().starts_with(&name)
        };
        let nodes = self.state.nodes.iter();
        let found: Vec<NodeId> = nodes
            .filter(|(id, node)| !node.gone && named(id, &node.addr))
            .map(|(id, _)| *id)
            .collect();
        match found[..] {
            [] => Err(format!("there is no node '{name}' (see larder status)")),
            [id] => Ok(id),
            [..] => Err(format!(
                "'{name}' means {} nodes (write more of the id)",
                found.len()
            )),
        }
    }

    /// Joins the operation under way when it is the same; makes room when it is stalled; else refuses.
    fn join_or_displace(&mut self, kind: &OperationKind) -> Result<Option<OrderReport>, String> {
        let Some(present) = self.state.operation.clone() else {
            return Ok(None);
        };
        if present.kind == *kind {
            self.soft.operation.backoff.clear();
            self.soft.operation.advanced_at = self.soft.now;
            self.soft.operation.asked_at = None;
            return Ok(Some(self.report_of(&present)));
        }
        let stalled = self.stalled();
        if stalled.is_none() || self.state.handover.is_some() {
            let (total, left) = (present.slots_total(), present.slots_left());
            return Err(format!(
                "a {} is under way, {} of {total} slots have moved: one change at a time (watch it with larder status)",
                present.kind.text(),
                total - left
            ));
        }
        for (attempt, record) in std::mem::take(&mut self.state.attempts) {
            self.soft.attempts.remove(&attempt);
            for node in [record.target, record.source] {
                self.soft.out.push(Action::Abort { node, attempt });
            }
        }
        self.state.operation = None;
        let reason = format!("{} took its place", kind.text());
        self.log(Level::Warn, format!("{}: {reason}", present.kind.text()));
        self.state.finish(present, Outcome::Dropped { reason });
        Ok(None)
    }

    fn draft(&self, kind: &OperationKind) -> Draft {
        let group = 1 + self.state.settings.replicas;
        let mut owned: BTreeMap<ShardId, SlotSet> = BTreeMap::new();
        for shard in self.state.map.shards() {
            owned.insert(shard.id, shard.slots.clone());
        }
        match kind {
            OperationKind::Move { slots, to } => Draft {
                newcomers: Vec::new(),
                group,
                leaving: Vec::new(),
                transfers: self.transfers_to(*to, slots, &owned),
            },
            OperationKind::Rebalance => Draft {
                newcomers: Vec::new(),
                group,
                leaving: Vec::new(),
                transfers: transfers(&owned, &[]),
            },
            OperationKind::Reshard { shards } => {
                let leaving: Vec<ShardId> = owned.keys().copied().skip(*shards as usize).collect();
                let wanted = shards.saturating_sub(owned.len() as u32);
                let groups = self.pick_groups(wanted, self.state.settings.replicas);
                let ids = (self.state.next_shard..).map(ShardId);
                let newcomers: Vec<_> = ids.zip(groups).collect();
                owned.extend(newcomers.iter().map(|(id, _)| (*id, SlotSet::new())));
                let transfers = transfers(&owned, &leaving);
                Draft {
                    newcomers,
                    group,
                    leaving,
                    transfers,
                }
            }
        }
    }

    fn transfers_to(
        &self,
        to: NodeId,
        slots: &SlotSet,
        owned: &BTreeMap<ShardId, SlotSet>,
    ) -> Vec<Transfer> {
        let Some((to, _)) = self.state.map.find_node(to) else {
            return Vec::new();
        };
        let givers = owned.iter().filter(|(from, _)| **from != to.id);
        givers
            .map(|(from, theirs)| Transfer {
                from: *from,
                to: to.id,
                slots: theirs.intersection(slots),
            })
            .filter(|part| !part.slots.is_empty())
            .collect()
    }

    fn check_nodes(&self, draft: &Draft) -> Result<(), String> {
        let missing = draft.missing();
        if missing == 0 || self.soft.starter {
            return Ok(());
        }
        let wanted = draft.newcomers.len() as u32 * draft.group;
        Err(format!(
            "{missing} spare {} missing: {wanted} {} needed, {} joined as spare (add {missing} with: {})",
            if missing == 1 { "node is" } else { "nodes are" },
            if wanted == 1 { "is" } else { "are" },
            wanted - missing,
            self.how_to_add(missing)
        ))
    }

    /// Everyone who gives or takes has to answer.
    fn check_parties(&self, draft: &Draft) -> Result<(), String> {
        let shards = draft.transfers.iter().flat_map(|part| [part.from, part.to]);
        let entries = shards.filter_map(|shard| self.state.primary(shard));
        let mut silent = entries.filter(|entry| !self.soft.reachable(entry.id));
        match silent.next() {
            None => Ok(()),
            Some(entry) => Err(format!(
                "node {} does not answer: bring it back first (see larder status)",
                entry.addr
            )),
        }
    }

    /// No node may be given more than its maxmemory, by the sources' figures as if keys lay evenly.
    fn check_capacity(&self, draft: &Draft) -> Result<(), String> {
        let plans = self.move_plans(draft);
        let mut after: BTreeMap<ShardId, (i128, bool)> = BTreeMap::new();
        for plan in &plans {
            after.entry(plan.from).or_default().0 -= i128::from(plan.bytes);
            let taker = after.entry(plan.to).or_default();
            taker.0 += i128::from(plan.bytes);
            taker.1 = true;
        }
        for (shard, (change, takes)) in after {
            let newcomer = draft.newcomers.iter().find(|(id, _)| *id == shard);
            let node = match newcomer {
                Some((_, nodes)) => nodes.first().copied(),
                None => self.state.primary(shard).map(|entry| entry.id),
            };
            let state = node
                .and_then(|id| self.soft.nodes.get(&id))
                .and_then(|soft| soft.state.as_ref());
            let Some((node, state)) = node.zip(state) else {
                continue;
            };
            let would = i128::from(state.used_memory) + change;
            if takes && state.maxmemory > 0 && would > i128::from(state.maxmemory) {
                return Err(format!(
                    "node {} (shard {shard}) cannot take the data: it would hold about {}, its maxmemory is {} (raise maxmemory, or choose more shards)",
                    self.addr(node),
                    bytes_text(would.max(0) as u64),
                    bytes_text(state.maxmemory)
                ));
            }
        }
        Ok(())
    }

    fn move_plans(&self, draft: &Draft) -> Vec<MovePlan> {
        let newcomer = |shard: ShardId| draft.newcomers.iter().find(|(id, _)| *id == shard);
        let plans = draft.transfers.iter().map(|part| {
            let (keys, bytes) = self.weight(part.from, &part.slots);
            let to_addr = match newcomer(part.to) {
                Some((_, nodes)) => nodes.first().map(|id| self.addr(*id)),
                None => self.state.primary(part.to).map(|entry| entry.addr.clone()),
            };
            let from = self.state.primary(part.from);
            MovePlan {
                from: part.from,
                from_addr: from.map_or(String::new(), |entry| entry.addr.clone()),
                to: part.to,
                to_addr,
                slots: part.slots.clone(),
                slot_count: part.slots.len() as u32,
                keys,
                bytes,
            }
        });
        plans.collect()
    }

    /// Keys and bytes of `slots` of a shard, as if they were spread evenly.
    fn weight(&self, shard: ShardId, slots: &SlotSet) -> (u64, u64) {
        let state = self
            .state
            .primary(shard)
            .and_then(|entry| self.soft.nodes.get(&entry.id))
            .and_then(|soft| soft.state.as_ref());
        let all = self.state.shard(shard).map_or(0, |shard| shard.slots.len());
        let part =
            |whole: u64| (u128::from(whole) * slots.len() as u128 / all.max(1) as u128) as u64;
        state.map_or((0, 0), |state| (part(state.keys), part(state.used_memory)))
    }

    fn report(&self, draft: &Draft, operation: Option<u64>, dry_run: bool) -> OrderReport {
        let moves = self.move_plans(draft);
        let shards = self.state.map.shards().len() as u32;
        OrderReport {
            operation,
            attached: false,
            dry_run,
            missing_nodes: draft.missing(),
            slots: moves.iter().map(|part| part.slot_count).sum(),
            moves,
            shards,
            shards_after: shards + draft.newcomers.len() as u32 - draft.leaving.len() as u32,
        }
    }

    fn report_of(&self, operation: &Operation) -> OrderReport {
        if !operation.planned {
            let report = self.report(&self.draft(&operation.kind), Some(operation.id), false);
            return OrderReport {
                attached: true,
                ..report
            };
        }
        let open = operation.moves.iter().filter(|part| !part.slots.is_empty());
        let draft = Draft {
            newcomers: Vec::new(),
            group: 1,
            leaving: operation.leaving.clone(),
            transfers: open
                .map(|part| Transfer {
                    from: part.from,
                    to: part.to,
                    slots: part.slots.clone(),
                })
                .collect(),
        };
        OrderReport {
            attached: true,
            ..self.report(&draft, Some(operation.id), false)
        }
    }

    /// Nodes that the operation under way waits for.
    pub(crate) fn missing_nodes(&self) -> u32 {
        match &self.state.operation {
            Some(operation) if !operation.planned => self.draft(&operation.kind).missing(),
            Some(_) | None => 0,
        }
    }

    /// An accepted operation becomes moves as soon as it has its nodes.
    pub(crate) fn plan_operation(&mut self) {
        let Some(operation) = self.state.operation.clone() else {
            return;
        };
        if operation.planned || self.undecided() {
            return;
        }
        let draft = self.draft(&operation.kind);
        if draft.missing() > 0 {
            return;
        }
        if let Err(reason) = self.check_capacity(&draft) {
            self.log(Level::Error, format!("{}: {reason}", operation.kind.text()));
            self.state.operation = None;
            self.state.finish(operation, Outcome::Dropped { reason });
            return;
        }
        self.make_shards(&draft);
        let moves = draft.transfers.into_iter().map(|part| Move {
            from: part.from,
            to: part.to,
            slots_total: part.slots.len() as u32,
            slots: part.slots,
        });
        let planned = Operation {
            planned: true,
            moves: moves.collect(),
            leaving: draft.leaving,
            ..operation
        };
        self.soft.operation = OperationSoft::begun(self.soft.now, Some(&planned));
        self.state.operation = Some(planned);
    }

    /// Shards that begin with no slots: their nodes learn what they are before anything moves.
    fn make_shards(&mut self, draft: &Draft) {
        let mut shards = self.state.map.shards().to_vec();
        for (id, nodes) in &draft.newcomers {
            let shard = self.new_shard(nodes, SlotSet::new());
            assert_eq!(
                shard.id, *id,
                "a draft is made of the state that it is carried out on"
            );
            shards.push(shard);
        }
        if !draft.newcomers.is_empty() {
            self.state.settle(shards);
        }
    }

    pub(crate) fn finish_operation(&mut self) {
        let Some(operation) = &self.state.operation else {
            return;
        };
        let busy = !self.state.attempts.is_empty() || self.undecided();
        if !operation.planned || busy || operation.slots_left() > 0 {
            return;
        }
        let operation = self.state.operation.take().expect("just seen");
        if !operation.leaving.is_empty() {
            let (left, stay): (Vec<_>, Vec<_>) = self
                .state
                .map
                .shards()
                .iter()
                .cloned()
                .partition(|shard| operation.leaving.contains(&shard.id));
            assert!(
                left.iter().all(|shard| shard.slots.is_empty()),
                "a shard leaves empty"
            );
            self.state.settle(stay);
        }
        self.settle_settings(&operation.kind);
        self.log(Level::Info, format!("{} is done", operation.kind.text()));
        self.state.finish(operation, Outcome::Done);
    }

    fn settle_settings(&mut self, kind: &OperationKind) {
        match kind {
            OperationKind::Reshard { shards } => self.state.settings.shards = *shards,
            OperationKind::Move { .. } | OperationKind::Rebalance => {}
        }
    }
}

/// `1.5 GB`, in powers of 1024 as Redis writes sizes.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}
