//! Looking ahead in a batch: the keys of requests that have arrived and are not executed yet are brought from
//! memory, many at once. A wrong guess costs a read and nothing else.

use larder_store::{Db, WARM_KEYS_MAX};
use larder_wire::resp::Scanned;

use crate::node::Node;

/// Longest key that is looked at ahead, in bytes: what is longer is rarely a key, and dear to hash.
const WARM_KEY_BYTES_MAX: usize = 256;

impl Node {
    /// Reads what the requests at the start of `input` are about to look up; how many bytes they take.
    /// `db` is the database of the connection now. The first argument is taken for the key, as it is in nearly all commands.
    pub fn warm(&mut self, db: Db, input: &[u8]) -> usize {
        let mut keys: [&[u8]; WARM_KEYS_MAX] = [b""; WARM_KEYS_MAX];
        let mut at = 0;
        let mut found = 0;
        while found < WARM_KEYS_MAX {
            let Ok(Scanned::Request { consumed }) = self.ahead.scan(&input[at..]) else {
                // Cut off or wrong: the rest is nobody's to look at before it is executed.
                at = input.len();
                break;
            };
            if let Some(range) = self.ahead.args().get(1)
                && !self.ahead.is_inline()
                && (range.end - range.start) as usize <= WARM_KEY_BYTES_MAX
            {
                keys[found] = &input[at + range.start as usize..at + range.end as usize];
                found += 1;
            }
            at += consumed;
        }
        self.ahead.reset();
        if found > 1
            && let Some(space) = self.databases.get(db)
        {
            space.warm(&keys[..found]);
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use larder_wire::NodeId;
    use larder_wire::resp::OwnedRequest;

    use super::*;
    use crate::node::NodeSettings;

    fn node() -> Node {
        Node::new(NodeSettings {
            id: NodeId::from_bytes([1; 20]),
            run_id: NodeId::from_bytes([2; 20]),
            standalone: true,
            addr: "127.0.0.1:1".to_string(),
            port: 1,
            secret: None,
            maxmemory: 0,
            hash_seed: 7,
            random_seed: 7,
        })
    }

    fn gets(count: usize) -> Vec<u8> {
        let requests = (0..count)
            .map(|index| OwnedRequest::from_args(["GET", &format!("{index:03}")]).into_bytes());
        requests.collect::<Vec<_>>().concat()
    }

    #[test]
    fn a_look_ahead_covers_whole_requests_up_to_its_limit() {
        let mut node = node();
        let one = gets(1).len();
        assert_eq!(node.warm(Db::ZERO, &gets(3)), 3 * one);
        assert_eq!(node.warm(Db::ZERO, &gets(100)), WARM_KEYS_MAX * one);
        assert_eq!(
            node.warm(Db::ZERO, &gets(WARM_KEYS_MAX)),
            WARM_KEYS_MAX * one
        );
    }

    #[test]
    fn what_is_cut_off_or_wrong_is_not_looked_at_again() {
        let mut node = node();
        for rest in [&b"*2\r\n$3\r\nGE"[..], b"*x\r\n", b"$"] {
            let input = [&gets(2)[..], rest].concat();
            assert_eq!(node.warm(Db::ZERO, &input), input.len(), "{rest:?}");
            // Nothing of it is left behind for the next batch.
            assert_eq!(node.warm(Db::ZERO, &gets(2)), gets(2).len());
        }
    }

    #[test]
    fn a_look_ahead_counts_as_no_lookup() {
        let mut node = node();
        let (before, memory) = (node.databases.stats(), node.databases.used_memory());
        node.warm(Db::ZERO, &gets(10));
        let after = node.databases.stats();
        assert_eq!((after.hits, after.misses), (before.hits, before.misses));
        assert_eq!(node.databases.used_memory(), memory);
    }
}
