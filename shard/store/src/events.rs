//! Keyspace events: what happened to which key, for those who asked to be told (`notify-keyspace-events`).
//!
//! Whoever changes a key says so here, in the order in which it happens; the engine takes the log after each command and makes messages of
//! it. When nobody asked for the class of an event, saying it costs one branch.

/// Classes of events, a bit each; the letters are Redis'.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes(u16);

impl Classes {
    pub const NONE: Classes = Classes(0);
    pub const GENERIC: Classes = Classes(1 << 0);
    pub const STRING: Classes = Classes(1 << 1);
    pub const LIST: Classes = Classes(1 << 2);
    pub const SET: Classes = Classes(1 << 3);
    pub const HASH: Classes = Classes(1 << 4);
    pub const ZSET: Classes = Classes(1 << 5);
    pub const EXPIRED: Classes = Classes(1 << 6);
    pub const EVICTED: Classes = Classes(1 << 7);
    pub const STREAM: Classes = Classes(1 << 8);
    pub const MODULE: Classes = Classes(1 << 9);
    pub const NEW: Classes = Classes(1 << 10);
    pub const MISS: Classes = Classes(1 << 11);
    /// What `A` stands for: all but those that come with reads and with every key.
    pub const ALL: Classes = Classes((1 << 10) - 1);

    const LETTERS: [(char, Classes); 13] = [
        ('g', Classes::GENERIC),
        ('$', Classes::STRING),
        ('l', Classes::LIST),
        ('s', Classes::SET),
        ('h', Classes::HASH),
        ('z', Classes::ZSET),
        ('x', Classes::EXPIRED),
        ('e', Classes::EVICTED),
        ('t', Classes::STREAM),
        ('d', Classes::MODULE),
        ('n', Classes::NEW),
        ('m', Classes::MISS),
        ('A', Classes::ALL),
    ];

    /// The classes that a text of letters names; other letters (`K`, `E`) are not about classes.
    pub fn of(text: &str) -> Classes {
        Classes::LETTERS
            .iter()
            .filter(|(letter, _)| text.contains(*letter))
            .fold(Classes::NONE, |all, (_, class)| Classes(all.0 | class.0))
    }

    #[inline]
    pub const fn has(self, class: Classes) -> bool {
        self.0 & class.0 != 0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Something that happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// As it is told: `lpush`, `expired`.
    pub name: &'static str,
    pub key: Box<[u8]>,
}

/// The events of one keyspace that were not yet taken.
#[derive(Debug, Default)]
pub struct Events {
    wanted: Classes,
    log: Vec<Event>,
}

impl Events {
    pub fn set_wanted(&mut self, classes: Classes) {
        self.wanted = classes;
    }

    #[inline]
    pub fn wants(&self, class: Classes) -> bool {
        self.wanted.has(class)
    }

    /// Some class is wanted.
    #[inline]
    pub fn is_on(&self) -> bool {
        !self.wanted.is_empty()
    }

    #[inline]
    pub fn say(&mut self, class: Classes, name: &'static str, key: &[u8]) {
        if self.wanted.has(class) {
            self.note(name, key);
        }
    }

    #[cold]
    fn note(&mut self, name: &'static str, key: &[u8]) {
        let key = key.into();
        self.log.push(Event { name, key });
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.log.is_empty()
    }

    /// All since this was last asked, in order.
    pub fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.log)
    }

    pub fn clear(&mut self) {
        self.log.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_named_by_letters() {
        assert!(Classes::of("KE").is_empty());
        assert!(Classes::of("KEl").has(Classes::LIST));
        assert!(!Classes::of("KEl").has(Classes::STRING));
        assert_eq!(Classes::of("g$lshzxetd"), Classes::ALL);
        assert_eq!(Classes::of("AKE"), Classes::ALL);
        assert!(!Classes::ALL.has(Classes::MISS));
        assert!(Classes::of("Am").has(Classes::MISS));
        assert!(!Classes::ALL.has(Classes::NEW));
    }

    #[test]
    fn only_what_is_wanted_is_kept() {
        let mut events = Events::default();
        events.say(Classes::STRING, "set", b"a");
        assert!(events.is_empty() && !events.is_on());
        events.set_wanted(Classes::STRING);
        events.say(Classes::STRING, "set", b"a");
        events.say(Classes::LIST, "lpush", b"a");
        let names: Vec<_> = events.take().iter().map(|event| event.name).collect();
        assert_eq!(names, ["set"]);
        assert!(events.is_empty());
    }
}
