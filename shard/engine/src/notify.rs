//! Keyspace notifications: makes messages of what the store says happened to keys.
//!
//! `__keyspace@<db>__:<key>` says the event, `__keyevent@<db>__:<event>` says the key. Which of the two, and of which classes of events, is
//! `notify-keyspace-events`; the store keeps no events of other classes.

use larder_store::{Classes, Db, Event};

use crate::config::Parameter;
use crate::node::Node;

/// Which of the two messages an event becomes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Notify {
    keyspace: bool,
    keyevent: bool,
}

impl Notify {
    fn is_on(self) -> bool {
        self.keyspace || self.keyevent
    }
}

impl Node {
    /// After `notify-keyspace-events` was set.
    pub(crate) fn apply_notify(&mut self) {
        let text = self.config.get(Parameter::NotifyKeyspaceEvents);
        self.notify = Notify {
            keyspace: text.contains('K'),
            keyevent: text.contains('E'),
        };
        let wanted = if self.notify.is_on() {
            Classes::of(text)
        } else {
            Classes::NONE
        };
        self.databases.set_events(wanted);
    }

    /// Tells what was said since this was last called.
    #[inline]
    pub(crate) fn tell_events(&mut self) {
        if self.notify.is_on() {
            self.publish_events();
        }
    }

    /// Tells of something that a command of the engine did to a key, after what was said before.
    pub(crate) fn say(&mut self, db: Db, class: Classes, name: &'static str, key: &[u8]) {
        if self.notify.is_on() {
            self.publish_events();
            self.databases.at(db).events.say(class, name, key);
            self.publish_events();
        }
    }

    #[cold]
    fn publish_events(&mut self) {
        while let Some((db, events)) = self.databases.take_events() {
            if self.pubsub.is_silent() {
                continue;
            }
            let db = db.to_string();
            for Event { name, key } in &events {
                if self.notify.keyspace {
                    let channel = [b"__keyspace@", db.as_bytes(), b"__:", key].concat();
                    self.pubsub.publish(&channel, name.as_bytes());
                }
                if self.notify.keyevent {
                    let channel = [b"__keyevent@", db.as_bytes(), b"__:", name.as_bytes()].concat();
                    self.pubsub.publish(&channel, key);
                }
            }
        }
    }
}
