//! When requests are due. On a thread of its own: the timer of the runtime counts in milliseconds, and whatever is due
//! within one would be sent at once, in bursts that wait for each other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc};

/// Hands out what is due, one at a time, each to one who has nothing to do. Clones are one.
#[derive(Clone)]
pub struct Pacer(Arc<Mutex<mpsc::UnboundedReceiver<Instant>>>);

impl Pacer {
    /// So many a second as `rate` says, for that `time`.
    pub fn start(rate: f64, time: Duration) -> Self {
        let (due, pacer) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            wake_in_time();
            let began = Instant::now();
            for turn in 0.. {
                let after = Duration::from_secs_f64(f64::from(turn) / rate);
                if after >= time {
                    return;
                }
                std::thread::sleep((began + after).saturating_duration_since(Instant::now()));
                if due.send(began + after).is_err() {
                    return;
                }
            }
        });
        Self(Arc::new(Mutex::new(pacer)))
    }

    /// When the next one is due, once it is; none when the time is over.
    pub async fn next(&self) -> Option<Instant> {
        self.0.lock().await.recv().await
    }
}

/// Asks the kernel not to let this thread sleep on for its usual 50 us, in which it gathers timers.
fn wake_in_time() {
    let thread = std::fs::read_link("/proc/thread-self").unwrap();
    let thread = thread.file_name().unwrap().to_string_lossy().into_owned();
    std::fs::write(format!("/proc/{thread}/timerslack_ns"), "1").unwrap();
}
