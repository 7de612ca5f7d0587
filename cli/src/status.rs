//! `larder status`: the cluster as a table, or as the topology's JSON. The table is the one that redis-cli gets.

use std::io::Write;

use larder_plan::report::Status;
use larder_runtime::Secret;
use larder_topology::status_text;

use crate::args::Ask;
use crate::operator::{connect, explain};

pub(crate) async fn run(ask: &Ask, secret: &Secret, out: &mut impl Write) -> Result<(), String> {
    let mut client = connect(&ask.topology, secret).await?;
    let failed = |error| explain(&ask.topology, &error);
    let reply = client
        .request(["LARDER", "STATUS", "JSON"])
        .await
        .map_err(failed)?;
    let written = if ask.json {
        // As it came: fields that a newer topology has and this larder does not know are shown too.
        let json: serde_json::Value = client.parse_json(&reply).map_err(failed)?;
        writeln!(out, "{json:#}")
    } else {
        let status: Status = client.parse_json(&reply).map_err(failed)?;
        write!(out, "{}", status_text(&status))
    };
    written.map_err(|error| error.to_string())
}
