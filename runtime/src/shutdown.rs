//! The end of a process: one trigger, any number of waiters, on any thread.

use tokio::sync::watch;

/// Pulls the trigger once; dropping it pulls it too, so that a panicked owner ends its parts.
#[derive(Debug)]
pub struct ShutdownTrigger(watch::Sender<bool>);

/// Waits for the end.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// A trigger and its first waiter.
pub fn channel() -> (ShutdownTrigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (ShutdownTrigger(sender), Shutdown(receiver))
}

impl ShutdownTrigger {
    pub fn pull(&self) {
        self.0.send_replace(true);
    }

    /// One more waiter.
    pub fn waiter(&self) -> Shutdown {
        Shutdown(self.0.subscribe())
    }
}

impl Shutdown {
    pub fn is_pulled(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Returns once the trigger was pulled, at once if it was before.
    pub async fn wait(&self) {
        // An error means that the trigger is gone: the end as well.
        let _ = self.0.clone().wait_for(|pulled| *pulled).await;
    }
}

/// Waits for the first Ctrl-C or SIGTERM and gives its name; they are caught from the call on, not from the first wait. After
/// it a second Ctrl-C ends the process at once: a person who presses it twice means it.
pub fn signal() -> std::io::Result<impl Future<Output = &'static str>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        let name = tokio::select! {
            _ = interrupt.recv() => "Ctrl-C",
            _ = terminate.recv() => "SIGTERM",
        };
        tokio::spawn(async move {
            interrupt.recv().await;
            std::process::exit(130);
        });
        name
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_waiter_wakes_whether_it_came_before_or_after_the_trigger() {
        let (trigger, early) = channel();
        let waiting = tokio::spawn(async move { early.wait().await });
        assert!(!trigger.waiter().is_pulled());
        trigger.pull();
        waiting.await.unwrap();
        let late = trigger.waiter();
        assert!(late.is_pulled());
        late.wait().await;
    }

    #[tokio::test]
    async fn a_dropped_trigger_is_a_pulled_one() {
        let (trigger, waiter) = channel();
        drop(trigger);
        waiter.wait().await;
        assert!(waiter.is_pulled());
    }
}
