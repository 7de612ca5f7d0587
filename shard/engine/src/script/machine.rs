//! One Lua state on a stack of its own.
//!
//! ```text
//! node ── Answer::Job ──▶ machine: runs Lua ── Ask::Call ──▶ node: runs the command
//!   ▲                        ▲      │                           │
//!   └────── Ask::Idle ───────┼──────┘◀──────── Answer::Go ──────┘
//!                            └─ Ask::Tick: the script has run for a while; it goes on with the next Answer::Go
//! ```
//!
//! The machine is a stackful coroutine: it holds no borrow of the node, and a script that asks for something simply does not go on
//! until the node has answered. So a script that runs for long can be left aside between two slices while others are served.
//! It is never dropped half-way: a script that runs is killed first, since frames of C cannot be unwound.

use std::cell::RefCell;
use std::rc::Rc;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};

use super::host;
use super::mail::Mail;

/// Address space of a machine's stack, in bytes; memory is taken as it is used. Deep recursion in patterns and in returned
/// tables takes the most.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// What a machine's scripts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of EVAL.
    Scripts,
    /// Libraries of functions.
    Functions,
}

/// What the machine wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// The job is done; another is waited for.
    Idle(Done),
    /// A command is in the mail.
    Call,
    /// The same, to be judged by the caller's rights and not run.
    MayCall,
    /// A line to log is in the mail.
    Log { level: u8 },
    /// Nothing but the time of others.
    Tick,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// The reply is in the mail.
    Good,
    /// An error's text is in the mail, its code first.
    Failed { counted: bool },
}

/// What the node tells the machine.
#[derive(Debug)]
pub(crate) enum Answer {
    Job(Job),
    Go,
    /// The script is to end.
    Kill,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Job {
    /// The source is in the mail.
    Compile {
        slot: usize,
    },
    /// The arguments are in the mail.
    Run {
        slot: usize,
        resp3: bool,
    },
    /// The source of a library is in the mail; what it registers is kept in slots from `first_slot` on.
    Load {
        first_slot: usize,
    },
    Forget {
        slot: usize,
    },
    Quit,
}

pub(crate) struct Machine {
    coroutine: Coroutine<Answer, Ask, (), DefaultStack>,
    mail: Rc<RefCell<Mail>>,
    /// The last thing that it asked for.
    asked: Ask,
}

impl Machine {
    pub(crate) fn new(kind: Kind) -> std::io::Result<Machine> {
        let mail = Rc::new(RefCell::new(Mail::default()));
        let stack = DefaultStack::new(STACK_BYTES)?;
        let inside = Rc::clone(&mail);
        let coroutine = Coroutine::with_stack(stack, move |yielder, first| {
            host::serve(yielder, &inside, kind, first);
        });
        let mut machine = Machine {
            coroutine,
            mail,
            asked: Ask::Idle(Done::Good),
        };
        // Sets the state up.
        let ready = machine.resume(Answer::Go);
        debug_assert_eq!(ready, Ask::Idle(Done::Good));
        Ok(machine)
    }

    pub(crate) fn mail(&self) -> &Rc<RefCell<Mail>> {
        &self.mail
    }

    /// Runs on until the machine wants something.
    pub(crate) fn resume(&mut self, answer: Answer) -> Ask {
        self.asked = match self.coroutine.resume(answer) {
            CoroutineResult::Yield(ask) => ask,
            CoroutineResult::Return(()) => Ask::Idle(Done::Good),
        };
        self.asked.clone()
    }

    /// Carries out a job that asks for nothing while it runs, but time.
    pub(crate) fn work(&mut self, job: Job, ticks_max: u64) -> Done {
        let mut ask = self.resume(Answer::Job(job));
        let mut ticks = 0;
        loop {
            ask = match ask {
                Ask::Idle(done) => return done,
                Ask::Tick if ticks < ticks_max => {
                    ticks += 1;
                    self.resume(Answer::Go)
                }
                Ask::Log { .. } => self.resume(Answer::Go),
                Ask::Tick | Ask::Call | Ask::MayCall => self.resume(Answer::Kill),
            };
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        while !matches!(self.asked, Ask::Idle(_)) {
            self.resume(Answer::Kill);
        }
        if !self.coroutine.done() {
            self.resume(Answer::Job(Job::Quit));
        }
    }
}
