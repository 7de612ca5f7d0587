//! CLUSTER as the proxy tells it: one node that owns every slot, at the address that the client reached, so that
//! a cluster client sends everything here.

use larder_wire::resp::ReplyWriter;
use larder_wire::{Refusal, SLOT_COUNT, slot_of};

use super::{Local, help_lines};
use crate::switch::Client;

type Done = Result<(), Refusal>;

/// Host and port under which the client reached the proxy.
fn reached(local: &Local<'_>, client: &Client) -> (String, u16) {
    match client.info.laddr.rsplit_once(':') {
        Some((host, port)) if !client.info.unix => {
            let host = host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_string();
            (host, port.parse().unwrap_or(local.shared.port))
        }
        Some(_) | None => ("127.0.0.1".to_string(), local.shared.port),
    }
}

pub(super) fn slots(local: &Local<'_>, client: &mut Client, reply: &mut ReplyWriter<'_>) -> Done {
    let (host, port) = reached(local, client);
    reply.array(1);
    reply.array(3);
    reply.int(0);
    reply.int(i64::from(SLOT_COUNT) - 1);
    reply.array(4);
    reply.bulk(host.as_bytes());
    reply.int(port.into());
    reply.bulk(local.shared.id.to_string().as_bytes());
    reply.array(0);
    Ok(())
}

pub(super) fn shards(local: &Local<'_>, client: &mut Client, reply: &mut ReplyWriter<'_>) -> Done {
    let (host, port) = reached(local, client);
    reply.array(1);
    reply.map(2);
    reply.bulk(b"slots");
    reply.array(2);
    reply.int(0);
    reply.int(i64::from(SLOT_COUNT) - 1);
    reply.bulk(b"nodes");
    reply.array(1);
    reply.map(7);
    reply.bulk(b"id");
    reply.bulk(local.shared.id.to_string().as_bytes());
    reply.bulk(b"port");
    reply.int(port.into());
    for (name, value) in [
        ("ip", host.as_str()),
        ("endpoint", host.as_str()),
        ("role", "master"),
    ] {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"replication-offset");
    reply.int(0);
    reply.bulk(b"health");
    reply.bulk(b"online");
    Ok(())
}

pub(super) fn nodes(local: &Local<'_>, client: &mut Client, reply: &mut ReplyWriter<'_>) -> Done {
    let (host, port) = reached(local, client);
    let line = format!(
        "{} {host}:{port}@{port} myself,master - 0 0 {} connected 0-{}\n",
        local.shared.id,
        local.epoch,
        SLOT_COUNT - 1
    );
    reply.verbatim("txt", line.as_bytes());
    Ok(())
}

pub(super) fn info(local: &Local<'_>, _: &mut Client, reply: &mut ReplyWriter<'_>) -> Done {
    let assigned = usize::from(SLOT_COUNT) - local.shared.map().unowned().len();
    let state = if assigned == usize::from(SLOT_COUNT) {
        "ok"
    } else {
        "fail"
    };
    let text = format!(
        "cluster_state:{state}\r\ncluster_slots_assigned:{assigned}\r\ncluster_slots_ok:{assigned}\r\n\
         cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:1\r\ncluster_size:1\r\n\
         cluster_current_epoch:{epoch}\r\ncluster_my_epoch:{epoch}\r\ncluster_stats_messages_sent:0\r\n\
         cluster_stats_messages_received:0\r\n",
        epoch = local.epoch,
    );
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

pub(super) fn myid(local: &Local<'_>, _: &mut Client, reply: &mut ReplyWriter<'_>) -> Done {
    reply.bulk(local.shared.id.to_string().as_bytes());
    Ok(())
}

pub(super) fn keyslot(local: &Local<'_>, _: &mut Client, reply: &mut ReplyWriter<'_>) -> Done {
    reply.int(slot_of(local.request.arg(2)).number().into());
    Ok(())
}

pub(super) fn links(_: &Local<'_>, _: &mut Client, reply: &mut ReplyWriter<'_>) -> Done {
    reply.array(0);
    Ok(())
}

pub(super) fn no_failures(_: &Local<'_>, _: &mut Client, reply: &mut ReplyWriter<'_>) -> Done {
    reply.int(0);
    Ok(())
}

pub(super) fn help(_: &Local<'_>, _: &mut Client, reply: &mut ReplyWriter<'_>) -> Done {
    help_lines(
        reply,
        "CLUSTER",
        &[
            "INFO",
            "    Return information about the cluster, as one node.",
            "KEYSLOT <key>",
            "    Return the hash slot for <key>.",
            "MYID",
            "    Return the id under which the proxy shows itself.",
            "NODES",
            "    Return the proxy as the node that owns all slots.",
            "SHARDS",
            "    Return the proxy as the shard that owns all slots.",
            "SLOTS",
            "    Return the proxy as the owner of all slots.",
        ],
    );
    Ok(())
}
