//! What both sides hold of some keys, each key at one place of the source's stream: so that what differs is wrong, not merely late.

use larder_wire::resp::RequestScanner;
use larder_wire::slot_of;

use crate::content::{self, Content, text};
use crate::follow::{Failure, Follower};
use crate::ledger::{Name, Standing};
use crate::psync::Stream;

impl Follower {
    /// What both sides hold of some keys of one database, each at one place of the stream, in the order of the keys.
    pub(crate) async fn compare(
        &mut self,
        stream: &mut Stream,
        scanner: &mut RequestScanner,
        names: &[Name],
    ) -> Result<Vec<Option<(Content, Content)>>, Failure> {
        if !self.place.in_cluster {
            return self.compare_at_once(stream, scanner, names).await;
        }
        let mut told = Vec::new();
        for name in names {
            let name = std::slice::from_ref(name);
            told.append(&mut self.compare_at_once(stream, scanner, name).await?);
        }
        Ok(told)
    }

    async fn compare_at_once(
        &mut self,
        stream: &mut Stream,
        scanner: &mut RequestScanner,
        names: &[Name],
    ) -> Result<Vec<Option<(Content, Content)>>, Failure> {
        let Some(db) = names.first().map(|name| name.db) else {
            return Ok(Vec::new());
        };
        let asked: Vec<&Name> = names.iter().collect();
        let info: &[&str] = &["INFO", "replication"];
        let (there, info) = content::read(self.aux().await?, db, &asked, Some(info)).await?;
        let at = self.offset_in(&info.map(|info| text(&info)).unwrap_or_default())?;
        while self.offset() < at {
            self.consume(stream, scanner, at).await?;
            if self.offset() < at {
                stream.more().await?;
            }
        }
        self.settle().await?;
        let mut told = Vec::new();
        for (name, there) in names.iter().zip(there) {
            let is_level = {
                let ledger = self.shared.ledger.borrow();
                // Fetched beyond the place at which it was read.
                ledger.standing(name, at + 1) == Standing::Level
            };
            let here = match self.nodes.reader(slot_of(&name.key)).await {
                Ok(mut node) => content::read(&mut node, db, &[name], None).await?.0.pop(),
                Err(_) => None,
            };
            told.push(match (there, here.flatten()) {
                (Some(there), Some(here)) if is_level => Some((there, here)),
                _ => None,
            });
        }
        Ok(told)
    }
}
