//! The timers of a node: background work, deadlines, samples of the machine.

use std::rc::Rc;
use std::time::{Duration, Instant};

use larder_engine::Machine;
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tracing::{info, warn};

use crate::machine;
use crate::metrics::Heat;
use crate::save;
use crate::shared::{EndOnPanic, Shared};

/// How often deadlines and background work are looked at.
const TICK: Duration = Duration::from_millis(50);
/// How long one tick may work in the background before it waits for the next, in milliseconds; clients are served in between.
const BACKGROUND_MS_MAX: u64 = 12;
/// How often resident memory is looked at, in ticks.
const RESIDENT_TICKS: u32 = 2;
/// How often the machine is sampled and idle clients are looked for, in ticks.
const SAMPLE_TICKS: u32 = 10;
/// How often the busiest slots are looked for, in ticks.
const HEAT_TICKS: u32 = 200;

pub(crate) async fn run(shared: Rc<Shared>) {
    let _guard = EndOnPanic(Rc::clone(&shared));
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = 0_u32;
    let mut sampler = Sampler::start(&shared);
    let mut share = machine::ResidentShare::default();
    let mut heat = Heat::new();
    loop {
        ticks.tick().await;
        {
            shared.clocks.set();
            let mut node = shared.node.borrow_mut();
            let clock = shared.clocks.clock();
            node.tick(clock);
            if count.is_multiple_of(RESIDENT_TICKS) {
                let used = node.databases.used_memory();
                node.databases.weigh_resident(share.look(used));
            }
            if count.is_multiple_of(SAMPLE_TICKS) {
                sampler.sample(&mut node);
                node.close_idle_clients(clock);
            }
            while let Some((is_warning, line)) = node.take_script_log() {
                match is_warning {
                    true => warn!("a script says: {line}"),
                    false => info!("a script says: {line}"),
                }
            }
            if count.is_multiple_of(HEAT_TICKS) && count > 0 {
                let seconds = TICK.as_secs_f64() * f64::from(HEAT_TICKS);
                shared
                    .metrics
                    .publish_heat(heat.hottest(&node.stats, seconds));
            }
            shared.metrics.publish(&node, clock);
            shared.pass_releases_on(&node);
        }
        save::write_when_begun(&shared);
        count = count.wrapping_add(1);
        work(&shared).await;
    }
}

/// Answers blocked commands whose time is up. Sleeps until the next deadline, and while there is none.
pub(crate) async fn give_up(shared: Rc<Shared>) {
    let _guard = EndOnPanic(Rc::clone(&shared));
    loop {
        let wake = shared.clocks.instant(shared.deadline_ms.get());
        tokio::select! {
            () = sleep_until(wake) => {}
            () = shared.deadline_set.notified() => continue,
        }
        let mut node = shared.node.borrow_mut();
        node.give_up_due(shared.clocks.clock());
        shared
            .deadline_ms
            .set(node.next_deadline_ms().unwrap_or(u64::MAX));
    }
}

/// Background steps, one at a time, until there is nothing to do or the tick's share is used up.
async fn work(shared: &Shared) {
    let started = Instant::now();
    loop {
        let more = {
            let mut node = shared.node.borrow_mut();
            let more = node.background_step(shared.clocks.clock());
            shared.pass_releases_on(&node);
            more
        };
        if !more || started.elapsed().as_millis() as u64 >= BACKGROUND_MS_MAX {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Rates between two samples.
struct Sampler {
    at: Instant,
    commands: u64,
    input: u64,
    output: u64,
    total_memory_bytes: u64,
}

impl Sampler {
    fn start(shared: &Shared) -> Sampler {
        let node = shared.node.borrow();
        Sampler {
            at: Instant::now(),
            commands: node.stats.commands_processed.get(),
            input: node.stats.net_input_bytes.get(),
            output: node.stats.net_output_bytes.get(),
            total_memory_bytes: machine::total_memory_bytes(),
        }
    }

    fn sample(&mut self, node: &mut larder_engine::Node) {
        let seconds = self.at.elapsed().as_secs_f64().max(0.001);
        self.at = Instant::now();
        let rate = |before: &mut u64, now: u64| {
            let grown = now.saturating_sub(*before);
            *before = now;
            (grown as f64 / seconds) as u64
        };
        let ops_per_second = rate(&mut self.commands, node.stats.commands_processed.get());
        let input_bytes_per_second = rate(&mut self.input, node.stats.net_input_bytes.get());
        let output_bytes_per_second = rate(&mut self.output, node.stats.net_output_bytes.get());
        let (cpu_user_us, cpu_system_us) = machine::thread_cpu_us();
        node.machine = Machine {
            pid: std::process::id(),
            cpu_user_us,
            cpu_system_us,
            rss_bytes: machine::rss_bytes(),
            total_memory_bytes: self.total_memory_bytes,
            ops_per_second,
            input_bytes_per_second,
            output_bytes_per_second,
        };
    }
}
