//! Looking ahead in a batch: requests that have arrived are found, looked up and hashed before the first of them is
//! executed, so that what their searches will read is brought from memory many at once.

use larder_store::{Db, KeyPlace, WARM_KEYS_MAX};
use larder_wire::command::{self, Found};
use larder_wire::resp::{ArgRange, ProtocolError, Request, RequestScanner, Scanned};

use crate::call::FirstKey;
use crate::node::Node;

/// Most requests that are looked at before one is executed.
const REQUESTS_MAX: usize = WARM_KEYS_MAX;
/// Requests of more arguments are not kept with others, so that what is kept stays small.
const ARGS_KEPT_MAX: usize = 4096;

/// What was learnt of a request by looking at it.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub(crate) found: Found,
    /// The one key of a command that has one; `None` is to be found out.
    pub(crate) key: FirstKey,
}

impl Known {
    /// What the name alone tells.
    #[inline]
    pub fn of(request: &Request<'_>) -> Known {
        Known {
            found: command::lookup(request.name(), request.get(1)),
            key: None,
        }
    }
}

/// Requests at the start of what has arrived, in order; none of them is executed yet.
#[derive(Debug, Default)]
pub struct Ahead {
    waiting: Vec<Waiting>,
    args: Vec<ArgRange>,
    next: usize,
}

#[derive(Debug)]
struct Waiting {
    /// Where the request lies in what was looked at.
    start: usize,
    end: usize,
    /// Where its arguments lie in `Ahead::args`.
    first_arg: usize,
    last_arg: usize,
    known: Known,
}

/// What is at the start of the bytes that were looked at.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    /// Requests, to be taken from the [`Ahead`].
    Requests,
    /// One request, of so many bytes, that lies in the scanner.
    Inline {
        consumed: usize,
    },
    /// Half a request.
    Incomplete {
        more: usize,
    },
    Wrong(ProtocolError),
}

impl Ahead {
    /// The next request; `input` is what was looked at. With it, where it ends in `input`.
    #[inline]
    pub fn next<'a>(&'a mut self, input: &'a [u8]) -> Option<(Request<'a>, Known, usize)> {
        let waiting = self.waiting.get(self.next)?;
        self.next += 1;
        let args = &self.args[waiting.first_arg..waiting.last_arg];
        let request = Request::new(&input[waiting.start..waiting.end], args);
        Some((request, waiting.known, waiting.end))
    }

    fn clear(&mut self) {
        self.waiting.clear();
        self.args.clear();
        if self.args.capacity() > ARGS_KEPT_MAX {
            self.args.shrink_to(ARGS_KEPT_MAX);
        }
        self.next = 0;
    }
}

impl Node {
    /// For as long as requests are executed; [`Node::put_ahead`] gives it back.
    pub fn take_ahead(&mut self) -> Ahead {
        let mut ahead = std::mem::take(&mut self.ahead);
        ahead.clear();
        ahead
    }

    pub fn put_ahead(&mut self, ahead: Ahead) {
        self.ahead = ahead;
    }

    /// Reads the requests at the start of `input`; `db` is the database of the connection by now. `scanner` is left as if it had read none of them, unless the first is
    /// not whole: what it understood of that is kept.
    pub fn look_ahead(
        &mut self,
        db: Db,
        scanner: &mut RequestScanner,
        input: &[u8],
        ahead: &mut Ahead,
    ) -> Look {
        ahead.clear();
        let mut places = [KeyPlace::FIRST; WARM_KEYS_MAX];
        let mut keys = 0;
        let mut at = 0;
        while ahead.waiting.len() < REQUESTS_MAX && (at < input.len() || at == 0) {
            let scanned = scanner.scan(&input[at..]);
            let whole = match scanned {
                Ok(Scanned::Request { consumed }) if !scanner.is_inline() => consumed,
                _ if !ahead.waiting.is_empty() => {
                    // Its turn comes when those before it are executed.
                    scanner.reset();
                    break;
                }
                Ok(Scanned::Request { consumed }) => return Look::Inline { consumed },
                Ok(Scanned::Incomplete { more }) => return Look::Incomplete { more },
                Err(error) => return Look::Wrong(error),
            };
            let args = scanner.args();
            let request = Request::new(&input[at..at + whole], args);
            let mut known = Known::of(&request);
            if let Found::Command(id) = known.found
                && command::spec(id).one_key
            {
                let index = command::spec(id).plain_keys.first as usize;
                if let Some(key) = request.get(index) {
                    let place = self.databases.place_of(key);
                    known.key = Some((index, place));
                    places[keys] = place;
                    keys += 1;
                }
            }
            let first_arg = ahead.args.len();
            ahead.args.extend_from_slice(args);
            ahead.waiting.push(Waiting {
                start: at,
                end: at + whole,
                first_arg,
                last_arg: ahead.args.len(),
                known,
            });
            at += whole;
        }
        // With one request alone there is nothing that could be read at once.
        if keys > 1
            && let Some(space) = self.databases.get(db)
        {
            space.warm(&places[..keys]);
        }
        Look::Requests
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

    /// What a look finds, and the names and ends of the requests that it took in.
    fn look(scanner: &mut RequestScanner, input: &[u8]) -> (Look, Vec<(String, usize)>) {
        let mut node = node();
        let mut ahead = node.take_ahead();
        let look = node.look_ahead(Db::ZERO, scanner, input, &mut ahead);
        let mut found = Vec::new();
        while let Some((request, _, end)) = ahead.next(input) {
            found.push((String::from_utf8_lossy(request.name()).into_owned(), end));
        }
        (look, found)
    }

    #[test]
    fn a_look_ahead_takes_in_whole_requests_up_to_its_limit() {
        let one = gets(1).len();
        for (sent, taken) in [(1, 1), (3, 3), (100, REQUESTS_MAX)] {
            let (look, found) = look(&mut RequestScanner::new(), &gets(sent));
            assert_eq!(look, Look::Requests);
            let ends: Vec<usize> = found.iter().map(|(_, end)| *end).collect();
            let expected: Vec<usize> = (1..=taken).map(|count| count * one).collect();
            assert_eq!(ends, expected);
        }
    }

    #[test]
    fn what_is_not_whole_waits_for_its_turn_and_is_then_told() {
        for (rest, expected) in [
            (&b"*2\r\n$3\r\nGE"[..], Look::Incomplete { more: 3 }),
            (b"*x\r\n", Look::Wrong(ProtocolError::MultibulkLength)),
            (b"PING\r\n", Look::Inline { consumed: 6 }),
        ] {
            let mut scanner = RequestScanner::new();
            let input = [&gets(2)[..], rest].concat();
            let (first, found) = look(&mut scanner, &input);
            assert_eq!((first, found.len()), (Look::Requests, 2));
            assert_eq!(look(&mut scanner, rest), (expected, Vec::new()));
        }
    }

    #[test]
    fn half_a_request_is_gone_on_with_when_more_of_it_arrives() {
        let mut scanner = RequestScanner::new();
        let whole = [gets(2), b"*1\r\n$4\r\nPING\r\n".to_vec()].concat();
        let cut = gets(1).len() - 5;
        assert!(matches!(
            look(&mut scanner, &whole[..cut]),
            (Look::Incomplete { .. }, _)
        ));
        let (_, found) = look(&mut scanner, &whole);
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["GET", "GET", "PING"]);
    }

    #[test]
    fn a_look_ahead_counts_as_no_lookup() {
        let mut node = node();
        let (before, memory) = (node.databases.stats(), node.databases.used_memory());
        let mut ahead = node.take_ahead();
        node.look_ahead(Db::ZERO, &mut RequestScanner::new(), &gets(10), &mut ahead);
        let after = node.databases.stats();
        assert_eq!((after.hits, after.misses), (before.hits, before.misses));
        assert_eq!(node.databases.used_memory(), memory);
    }
}
