//! The addresses of one target, and the breaker of each where the policy wants one per address. An address lives as long
//! as a client balances over it or a call to it is under way; its breaker goes with it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use tokio::time::Instant;
use valerix_policy::{BreakerOverride, BreakerScope, Mode};

use crate::breaker::{CircuitBreaker, Transition};

/// One address of a target.
#[derive(Debug)]
pub(crate) struct Address {
    pub(crate) socket: SocketAddr,
    pub(super) in_flight: AtomicUsize,
    /// Failures in a row.
    pub(super) failures: AtomicU32,
    /// Milliseconds of the balancer's clock; 0 when it was never ejected.
    pub(super) ejected_until: AtomicU64,
    breaker: OnceLock<Arc<CircuitBreaker>>,
}

impl Address {
    fn new(socket: SocketAddr) -> Self {
        Self {
            socket,
            in_flight: AtomicUsize::new(0),
            failures: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            breaker: OnceLock::new(),
        }
    }

    /// Its breaker, where one was needed yet.
    pub(crate) fn breaker(&self) -> Option<&Arc<CircuitBreaker>> {
        self.breaker.get()
    }
}

/// Told of every transition of a target's breakers; the address is given for a breaker of scope `Host`.
type Listener = Arc<dyn Fn(Option<SocketAddr>, Transition) + Send + Sync>;

/// The listeners of all breakers of a target. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Listeners(Arc<RwLock<Vec<Listener>>>);

impl Listeners {
    pub(super) fn add(&self, listener: impl Fn(Option<SocketAddr>, Transition) + Send + Sync + 'static) {
        let mut listeners = self.0.write().unwrap_or_else(PoisonError::into_inner);
        listeners.push(Arc::new(listener));
    }

    /// Makes a breaker tell them.
    pub(super) fn follow(&self, breaker: &CircuitBreaker, host: Option<SocketAddr>) {
        let listeners = Arc::downgrade(&self.0);
        breaker.on_transition(move |transition| {
            let Some(listeners) = listeners.upgrade() else { return };
            let listeners = listeners.read().unwrap_or_else(PoisonError::into_inner).clone();
            for listener in listeners {
                transition.tell(|| listener(host, transition));
            }
        });
    }
}

impl std::fmt::Debug for Listeners {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Listeners").finish_non_exhaustive()
    }
}

/// What the breaker of an address that is yet to be called will begin with.
#[derive(Debug)]
struct NextBreaker {
    breaker: valerix_policy::CircuitBreaker,
    mode: Mode,
    held: Option<(BreakerOverride, Instant)>,
}

/// All addresses of one target.
#[derive(Debug)]
pub(crate) struct Hosts {
    known: Mutex<BTreeMap<SocketAddr, Weak<Address>>>,
    next: Mutex<Arc<NextBreaker>>,
    listeners: Listeners,
}

impl Hosts {
    pub(super) fn new(listeners: Listeners) -> Self {
        let next = NextBreaker {
            breaker: valerix_policy::CircuitBreaker::default(),
            mode: Mode::default(),
            held: None,
        };
        Self {
            known: Mutex::default(),
            next: Mutex::new(Arc::new(next)),
            listeners,
        }
    }

    /// The address, which several clients of the target may share.
    pub(crate) fn address(&self, socket: SocketAddr) -> Arc<Address> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = known.get(&socket).and_then(Weak::upgrade) {
            return address;
        }
        known.retain(|_, address| address.strong_count() > 0);
        let address = Arc::new(Address::new(socket));
        known.insert(socket, Arc::downgrade(&address));
        address
    }

    /// Those in use, in numerical order.
    pub(crate) fn all(&self) -> Vec<Arc<Address>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().filter_map(Weak::upgrade).collect()
    }

    /// The breaker of an address, made on the first call to it.
    pub(crate) fn breaker<'address>(&self, address: &'address Address) -> &'address Arc<CircuitBreaker> {
        if let Some(breaker) = address.breaker.get() {
            return breaker;
        }
        // Held until the breaker is in its place, so that no reload falls between.
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        address.breaker.get_or_init(|| {
            let breaker = Arc::new(CircuitBreaker::new(&next.breaker));
            next.hold(&breaker);
            self.listeners.follow(&breaker, Some(address.socket));
            breaker
        })
    }

    /// Listeners may be told, and may come back here: no lock is held meanwhile. Where a later policy comes in between,
    /// its turn is after this one: whoever puts policies in force looks whether there is a newer one.
    pub(super) fn reconfigure(
        &self,
        breaker: &valerix_policy::CircuitBreaker,
        mode: Mode,
        held: Option<(BreakerOverride, Duration)>,
    ) {
        let next = Arc::new(NextBreaker {
            breaker: breaker.clone(),
            mode,
            held: held.map(|(wanted, left)| (wanted, crate::Deadline::after(left).instant())),
        });
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&next);
        if breaker.scope == BreakerScope::Host {
            for address in self.all() {
                if let Some(breaker) = address.breaker.get() {
                    breaker.reconfigure(&next.breaker);
                    next.hold(breaker);
                }
            }
        }
    }
}

impl NextBreaker {
    /// What holds the breaker beside its machine: the mode and an override.
    fn hold(&self, breaker: &CircuitBreaker) {
        breaker.set_mode(self.mode);
        let left =
            |(wanted, until): (BreakerOverride, Instant)| (wanted, until.saturating_duration_since(Instant::now()));
        breaker.set_override(self.held.map(left));
    }
}
