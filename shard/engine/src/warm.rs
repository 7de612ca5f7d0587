//! Looking ahead in a batch: the keys of requests that have arrived and are not executed yet are brought from
//! memory, many at once. A wrong guess costs a read and nothing else.

use larder_store::WARM_KEYS_MAX;
use larder_wire::resp::Scanned;

use crate::node::Node;

/// Longest key that is looked at ahead, in bytes: what is longer is rarely a key, and dear to hash.
const WARM_KEY_BYTES_MAX: usize = 256;

impl Node {
    /// Reads what the requests at the start of `input` are about to look up; how many bytes they take.
    /// The first argument is taken for the key, as it is in nearly all commands.
    pub fn warm(&mut self, input: &[u8]) -> usize {
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
        if found > 1 {
            self.keyspace.warm(&keys[..found]);
        }
        at
    }
}
