//! What a source is while it is followed: how far, still of the history that was begun, still the primary of its slots.

use std::time::Instant;

use larder_runtime::foreign::{self, Foreign, ForeignError, info_field};

use crate::content::text;
use crate::follow::{Failure, Follower};

impl Follower {
    /// The offset that INFO tells, if it is of the history that is followed.
    pub(crate) fn offset_in(&self, info: &str) -> Result<u64, Failure> {
        let followed = self.point.as_ref().map(|point| point.replid.as_str());
        let told = info_field(info, "master_replid");
        let offset = info_field(info, "master_repl_offset").and_then(|text| text.parse().ok());
        match offset {
            Some(offset) if followed.is_none() || followed == told => Ok(offset),
            Some(_) | None => Err(Failure::Lost(ForeignError::Lost {
                addr: self.place.addr.clone(),
                cause: "it has begun another history of writes".to_string(),
            })),
        }
    }

    /// How far the source is, and whether it is still the server whose keys are wanted.
    pub(crate) async fn look_at_source(&mut self) -> Result<(), Failure> {
        let info = text(&self.aux().await?.ask(["INFO", "replication"]).await?);
        let offset = self.offset_in(&info)?;
        let now = Instant::now();
        self.milestones.push((offset, now));
        let applied = self.offset();
        let passed = self.milestones.iter().rposition(|(at, _)| *at <= applied);
        if let Some(passed) = passed {
            self.milestones.drain(..passed);
        }
        {
            let mut report = self.report.borrow_mut();
            report.source_offset = offset;
            report.lag_bytes = offset.saturating_sub(applied);
            let since = self.milestones.first().filter(|_| offset > applied);
            report.lag_seconds = since.map_or(0.0, |(_, since)| (now - *since).as_secs_f64());
            let ledger = self.shared.ledger.borrow();
            report.counts = ledger.counts;
            report.in_doubt = ledger.dirty() as u64;
        }
        if self.place.in_cluster {
            let addr = self.place.addr.clone();
            let slots = self.aux().await?.ask(["CLUSTER", "SLOTS"]).await?;
            let primaries = foreign::primaries(&slots, &addr).unwrap_or_default();
            if let Some((_, slots)) = primaries.iter().find(|(known, _)| *known == addr)
                && *slots != self.place.slots
            {
                return Err(Failure::Final(resharded(&addr)));
            }
        }
        Ok(())
    }

    /// After a failover of the old cluster the slots have another primary, which goes on with the same history.
    pub(crate) async fn find_primary(&mut self) -> Result<(), Failure> {
        for seed in self.seeds.clone() {
            let Ok(mut server) = Foreign::connect(&seed, &self.login).await else {
                continue;
            };
            let Ok(slots) = server.ask(["CLUSTER", "SLOTS"]).await else {
                continue;
            };
            let Some(primaries) = foreign::primaries(&slots, &seed) else {
                continue;
            };
            let owner = primaries
                .into_iter()
                .find(|(_, slots)| !slots.is_disjoint(&self.place.slots));
            match owner {
                Some((addr, slots)) if slots == self.place.slots => {
                    if addr != self.place.addr {
                        tracing::warn!("the primary of slots {slots} is now {addr}");
                        self.report.borrow_mut().addr = addr.clone();
                        self.place.addr = addr;
                    }
                    return Ok(());
                }
                Some((addr, _)) => return Err(Failure::Final(resharded(&addr))),
                None => continue,
            }
        }
        Ok(())
    }
}

fn resharded(addr: &str) -> String {
    format!(
        "the slots of {addr} have changed: the old cluster is being resharded (finish that, then begin anew with --clear)"
    )
}
