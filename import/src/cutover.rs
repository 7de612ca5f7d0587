//! The cutover: the moment from which Larder holds what counts.

use std::time::Duration;

use larder_runtime::foreign::{Foreign, info_field};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::content::text;
use crate::discover::told;
use crate::follow::Order;
use crate::report::State;
use crate::run::Run;

/// Longest wait for all that the source has written to be taken in, where no client waits for it, in milliseconds.
const REACH_MS_MAX: u64 = 10_000;

impl Run {
    pub(crate) async fn cutover(&mut self) -> Result<String, String> {
        let state = self.state.borrow().clone();
        match state {
            State::Streaming => {}
            other => {
                return Err(format!(
                    "the import is not ready for a cutover: it is {}",
                    other.word()
                ));
            }
        }
        self.state.replace(State::CuttingOver);
        let limit = Duration::from_millis(REACH_MS_MAX);
        for side in &self.sides {
            let mut server = Foreign::connect(&side.addr, &side.login)
                .await
                .map_err(told)?;
            let offset = source_offset(&mut server).await?;
            let (answer, answered) = oneshot::channel();
            let gone = || format!("source {} is no longer followed", side.addr);
            side.orders
                .send(Order::Reach(offset, answer))
                .map_err(|_| gone())?;
            match timeout(limit, answered).await {
                Ok(Ok(last_write)) if last_write > offset => {
                    return Err(format!(
                        "clients still write to {}: stop them, then ask again",
                        side.addr
                    ));
                }
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return Err(gone()),
                Err(_) => {
                    return Err(format!(
                        "source {} writes faster than Larder takes in",
                        side.addr
                    ));
                }
            }
        }
        Ok("all that the source has is here".to_string())
    }
}

async fn source_offset(server: &mut Foreign) -> Result<u64, String> {
    let info = text(&server.ask(["INFO", "replication"]).await.map_err(told)?);
    let offset = info_field(&info, "master_repl_offset").and_then(|text| text.parse().ok());
    offset.ok_or_else(|| format!("{} does not tell its replication offset", server.addr()))
}
