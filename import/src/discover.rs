//! What stands behind a URL: one server, or the primaries of a cluster; and whether it can be copied from.

use larder_runtime::foreign::{self, Foreign, ForeignError, RedisUrl, info_field};
use larder_wire::{Slot, SlotSet};

use crate::content::text;
use crate::follow::Place;

pub(crate) async fn discover(url: &RedisUrl) -> Result<Vec<Place>, String> {
    let mut server = Foreign::connect(&url.addr(), &url.login)
        .await
        .map_err(told)?;
    let info = text(&server.ask(["INFO"]).await.map_err(told)?);
    if info_field(&info, "cluster_enabled") != Some("1") {
        must_be_primary(&url.addr(), &info)?;
        return Ok(vec![Place {
            addr: url.addr(),
            slots: SlotSet::full(),
            in_cluster: false,
        }]);
    }
    let slots = server.ask(["CLUSTER", "SLOTS"]).await.map_err(told)?;
    let primaries = foreign::primaries(&slots, &url.addr())
        .ok_or_else(|| format!("the answer of {url} to CLUSTER SLOTS is none"))?;
    let mut served = SlotSet::new();
    let mut places = Vec::new();
    for (addr, slots) in primaries {
        served.extend(slots.iter());
        let mut server = Foreign::connect(&addr, &url.login).await.map_err(told)?;
        let nodes = text(&server.ask(["CLUSTER", "NODES"]).await.map_err(told)?);
        // A slot on its way stands as [slot->-node] or [slot-<-node].
        let moving = nodes
            .lines()
            .any(|line| line.contains("myself") && line.contains('['));
        if moving {
            return Err(format!(
                "slots of {addr} are on their way to or from it: finish the resharding of the old cluster first"
            ));
        }
        places.push(Place {
            addr,
            slots,
            in_cluster: true,
        });
    }
    match Slot::all().find(|slot| !served.contains(*slot)) {
        None => Ok(places),
        Some(slot) => Err(format!(
            "nobody in the old cluster serves slot {slot}: mend it first"
        )),
    }
}

fn must_be_primary(addr: &str, info: &str) -> Result<(), String> {
    if info_field(info, "redis_mode") == Some("sentinel") {
        return Err(format!(
            "{addr} is a sentinel: name the primary that it watches"
        ));
    }
    match (
        info_field(info, "role"),
        info_field(info, "master_host"),
        info_field(info, "master_port"),
    ) {
        (Some("slave"), Some(host), Some(port)) => Err(format!(
            "{addr} is a replica of {host}:{port}: copy from its primary, --from redis://{host}:{port}"
        )),
        (_, _, _) => Ok(()),
    }
}

pub(crate) fn told(error: ForeignError) -> String {
    match error {
        ForeignError::Refused { addr, text }
            if text.starts_with("NOAUTH") || text.starts_with("WRONGPASS") =>
        {
            format!(
                "{addr} wants another password: {text} (give it in the URL, redis://[user]:password@host:port)"
            )
        }
        ForeignError::Refused { addr, text } if text.starts_with("NOPERM") => {
            format!(
                "the user of {addr} may not do what an import does: {text} (it needs PSYNC, REPLCONF, INFO, DUMP, PTTL, TYPE, SCAN and reads)"
            )
        }
        other => other.to_string(),
    }
}
