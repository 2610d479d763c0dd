//! Ctrl-C and SIGTERM do not end xtask at once: they set a flag, the running child is ended, and every guard
//! (databases, clusters, port-forwards) still cleans up on the way out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static REQUESTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Begins to listen for SIGINT, SIGTERM and SIGHUP. Called once, first thing in `main`.
///
/// # Errors
/// When the operating system refuses a signal handler.
pub fn listen() -> Result<()> {
    let flag = REQUESTED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(flag)).context("failed to listen for signals")?;
    }
    Ok(())
}

/// True once the user has asked xtask to stop.
pub fn requested() -> bool {
    REQUESTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// Fails once the user has asked xtask to stop; for loops that wait.
///
/// # Errors
/// When a stop was asked for.
pub fn check() -> Result<()> {
    anyhow::ensure!(!requested(), "interrupted");
    Ok(())
}

/// Forgets the request, so that the programs that clean up can run. Only for the way out.
pub fn clear() {
    if let Some(flag) = REQUESTED.get() {
        flag.store(false, Ordering::Relaxed);
    }
}

/// Asks to stop, as a signal does.
pub fn request() {
    if let Some(flag) = REQUESTED.get() {
        flag.store(true, Ordering::Relaxed);
    }
}
