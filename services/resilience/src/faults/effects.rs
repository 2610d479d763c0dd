//! Faults that act on the process as a whole: crash, processor and memory stress. Each stops by itself at its end.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use valerix_policy::{CpuStressFault, MemoryStressFault};

use super::inject::Active;

/// Ends the process at once, without unwinding: what a crash fault does.
pub(crate) type Crash = Arc<dyn Fn() + Send + Sync>;

/// One period of a stress thread: it works for its share and sleeps for the rest.
const PERIOD: Duration = Duration::from_millis(10);
/// Memory is taken in pieces, so that it can be given up on the way.
const PIECE: usize = 4 * 1024 * 1024;
const PAGE: usize = 4096;

/// What runs at the moment, by run.
pub(super) struct Effects {
    running: Mutex<HashMap<String, Arc<AtomicBool>>>,
    crash: Crash,
}

impl fmt::Debug for Effects {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Effects").finish_non_exhaustive()
    }
}

impl Effects {
    pub(super) fn new(crash: Crash) -> Self {
        Self {
            running: Mutex::default(),
            crash,
        }
    }

    /// Starts what is new among the active faults and stops what is no longer among them.
    pub(super) fn follow(&self, active: &[Active]) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|run, stop| {
            let goes_on = active.iter().any(|fault| fault.run == *run);
            if !goes_on {
                stop.store(true, Ordering::Release);
            }
            goes_on
        });
        for fault in active {
            if running.contains_key(&fault.run) {
                continue;
            }
            let stop = Arc::new(AtomicBool::new(false));
            let until = fault.until.into_std();
            let started = if fault.fault.crash.is_some() {
                // Its marker was written before it became active, so it cannot happen twice.
                tracing::error!(run = %fault.run, "crash fault: the process ends");
                (self.crash)();
                true
            } else if let Some(stress) = &fault.fault.cpu_stress {
                burn(stress, until, &stop);
                true
            } else if let Some(stress) = &fault.fault.memory_stress {
                hold(stress, until, &stop);
                true
            } else {
                false
            };
            if started {
                running.insert(fault.run.clone(), stop);
            }
        }
    }
}

impl Drop for Effects {
    fn drop(&mut self) {
        for stop in self.running.lock().unwrap_or_else(PoisonError::into_inner).values() {
            stop.store(true, Ordering::Release);
        }
    }
}

fn goes_on(until: Instant, stop: &AtomicBool) -> bool {
    !stop.load(Ordering::Acquire) && Instant::now() < until
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(work) {
        tracing::error!(%error, "failed to start a stress thread");
    }
}

fn burn(stress: &CpuStressFault, until: Instant, stop: &Arc<AtomicBool>) {
    let share = PERIOD * stress.load_percent.min(100) / 100;
    for _ in 0..stress.workers {
        let stop = Arc::clone(stop);
        spawn("valerix-cpu", move || {
            while goes_on(until, &stop) {
                let began = Instant::now();
                while began.elapsed() < share {
                    std::hint::spin_loop();
                }
                std::thread::sleep(PERIOD.saturating_sub(began.elapsed()));
            }
        });
    }
}

fn hold(stress: &MemoryStressFault, until: Instant, stop: &Arc<AtomicBool>) {
    let bytes = usize::try_from(stress.bytes().unwrap_or(0)).unwrap_or(0);
    let stop = Arc::clone(stop);
    spawn("valerix-memory", move || {
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        let mut left = bytes;
        while left > 0 && goes_on(until, &stop) {
            let size = left.min(PIECE);
            let mut piece = vec![0_u8; size];
            // Only pages that were written are really taken.
            for page in piece.iter_mut().step_by(PAGE) {
                *page = 1;
            }
            pieces.push(std::hint::black_box(piece));
            left -= size;
        }
        while goes_on(until, &stop) {
            std::thread::sleep(PERIOD.min(until.saturating_duration_since(Instant::now())));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process_cpu() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
    }

    #[test]
    fn stress_stops_when_told_and_by_itself() {
        let stop = Arc::new(AtomicBool::new(false));
        let before = process_cpu();
        burn(
            &CpuStressFault {
                load_percent: 100,
                workers: 1,
            },
            Instant::now() + Duration::from_millis(200),
            &stop,
        );
        let begun = Instant::now();
        while process_cpu() - before < Duration::from_millis(50) {
            assert!(begun.elapsed() < Duration::from_secs(20), "it never used the processor");
            std::thread::yield_now();
        }
        hold(
            &MemoryStressFault { size: "8Mi".to_owned() },
            Instant::now() + Duration::from_secs(60),
            &stop,
        );
        stop.store(true, Ordering::Release);
        let threads = || {
            std::fs::read_dir("/proc/self/task")
                .unwrap()
                .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
                .filter(|name| name.starts_with("valerix-"))
                .count()
        };
        while threads() > 0 {
            assert!(begun.elapsed() < Duration::from_secs(20), "a stress thread stays");
            std::thread::yield_now();
        }
    }
}
