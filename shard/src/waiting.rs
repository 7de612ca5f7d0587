//! Replies of one connection that may not leave yet: each waits for a place of the journal, and none overtakes another.

use std::collections::VecDeque;

use larder_wire::Offset;

/// Most bytes of replies that wait on one connection; with more, nothing further is read from it.
pub(crate) const WAITING_BYTES_MAX: usize = 1024 * 1024;
/// The room that is kept once nothing waits, in bytes.
const ROOM_KEPT_BYTES_MAX: usize = 16 * 1024;

/// In order. Empty, it holds no memory worth counting.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    bytes: Vec<u8>,
    /// Where the rest starts.
    at: usize,
    /// Up to where in `bytes` the replies wait for which place; both ascend.
    marks: VecDeque<(usize, Offset)>,
}

impl Waiting {
    pub(crate) fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(crate) fn room(&self) -> usize {
        self.bytes.capacity()
    }

    /// Replies that wait for `place`, behind those that are here; `None`: only for those.
    pub(crate) fn push(&mut self, replies: &[u8], place: Option<Offset>) {
        if replies.is_empty() {
            return;
        }
        self.bytes.extend_from_slice(replies);
        let end = self.bytes.len();
        let last = self.marks.back_mut();
        let place = place.max(last.as_ref().map(|(_, place)| *place));
        match (last, place) {
            (Some((last_end, last)), Some(place)) if *last == place => *last_end = end,
            (_, place) => self.marks.push_back((end, place.unwrap_or_default())),
        }
    }

    /// Appends to `out` what waits for no more than `reached`.
    pub(crate) fn release(&mut self, reached: Offset, out: &mut Vec<u8>) {
        let from = self.at;
        while let Some((end, place)) = self.marks.front().copied()
            && place <= reached
        {
            self.at = end;
            self.marks.pop_front();
        }
        out.extend_from_slice(&self.bytes[from..self.at]);
        if self.marks.is_empty() {
            self.at = 0;
            self.bytes.clear();
            self.bytes.shrink_to(ROOM_KEPT_BYTES_MAX);
        } else if self.at > self.bytes.len() / 2 {
            self.bytes.drain(..self.at);
            for (end, _) in &mut self.marks {
                *end -= self.at;
            }
            self.at = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn released(waiting: &mut Waiting, reached: u64) -> String {
        let mut out = Vec::new();
        waiting.release(Offset(reached), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn replies_leave_in_order_and_none_before_its_place_is_reached() {
        let mut waiting = Waiting::default();
        waiting.push(b"a", Some(Offset(10)));
        waiting.push(b"b", Some(Offset(10)));
        waiting.push(b"c", Some(Offset(20)));
        // Behind what waits, though it has to wait for nothing of its own.
        waiting.push(b"d", None);
        waiting.push(b"e", Some(Offset(30)));
        assert_eq!(released(&mut waiting, 9), "");
        assert_eq!(released(&mut waiting, 19), "ab");
        assert_eq!(waiting.len(), 3);
        assert_eq!(released(&mut waiting, 20), "cd");
        waiting.push(b"f", Some(Offset(40)));
        assert_eq!(released(&mut waiting, 35), "e");
        assert_eq!(released(&mut waiting, u64::MAX), "f");
        assert!(waiting.is_empty());
    }

    #[test]
    fn what_has_left_takes_no_room() {
        let mut waiting = Waiting::default();
        let reply = vec![b'x'; 1000];
        for place in 0..10_000 {
            waiting.push(&reply, Some(Offset(place)));
            if place >= 10 {
                let mut out = Vec::new();
                waiting.release(Offset(place - 10), &mut out);
                assert_eq!(out.len(), reply.len());
            }
        }
        assert!(waiting.room() < 100_000, "{}", waiting.room());
        assert_eq!(waiting.len(), 10 * reply.len());
    }
}
