//! Which address an attempt goes to: the better of two by calls under way, those that fail left alone for a while.
//!
//! In: the addresses that a resolver names, and how each attempt went. Out: an address per attempt. Resolving runs in
//! tasks of its own; a call waits for one only when there is no recent answer at all.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::hosts::{Address, Hosts};
use super::resolve::{Endpoint, Resolve};
use crate::clock::{Clock, CoarseClock};
use crate::random::Random;

/// Addresses that one client uses of a longer answer.
const MAX_ADDRESSES: usize = 256;
/// How old an answer is when the next is asked for.
const INTERVAL: u64 = 5_000;
/// An answer so old (nobody called) is no longer acted upon before the next has come.
const STALE: u64 = 3 * INTERVAL;
/// The least time between two questions, when connect errors ask for more.
const PAUSE: u64 = 1_000;
/// A resolver that takes longer has failed.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Failures in a row that eject an address.
const EJECT_AFTER: u32 = 3;
/// For how long.
const EJECTED: u64 = 10_000;

/// The addresses of one URL. Shared by all calls of a client.
#[derive(Debug)]
pub(crate) struct Balancer<C: Clock = CoarseClock> {
    hosts: Arc<Hosts>,
    addresses: ArcSwap<Vec<Arc<Address>>>,
    /// When the next question is due.
    due: AtomicU64,
    asked: AtomicU64,
    asking: AtomicBool,
    /// Counts the answers, failed ones too.
    answers: watch::Sender<u64>,
    ejecting: Mutex<()>,
    source: Option<Source>,
    random: Random,
    /// Ranks the addresses of an answer that is too long.
    choice: RandomState,
    clock: C,
}

struct Source {
    endpoint: Endpoint,
    resolver: Arc<dyn Resolve>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.endpoint.fmt(formatter)
    }
}

/// An address that an attempt goes to, counted as under way until dropped.
#[derive(Debug)]
pub(crate) struct Flight(Arc<Address>);

impl Flight {
    fn new(address: &Arc<Address>) -> Self {
        address.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(address))
    }

    pub(crate) fn address(&self) -> &Address {
        &self.0
    }

    pub(crate) fn socket(&self) -> SocketAddr {
        self.0.socket
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Balancer<CoarseClock> {
    /// Over what the resolver finds.
    pub(crate) fn new(endpoint: Endpoint, resolver: Arc<dyn Resolve>, hosts: Arc<Hosts>) -> Self {
        Self::build(hosts, Some(Source { endpoint, resolver }), Vec::new(), CoarseClock)
    }

    /// Over an address that the URL itself names.
    #[cfg(feature = "reqwest")]
    pub(crate) fn fixed(address: SocketAddr, hosts: Arc<Hosts>) -> Self {
        Self::build(hosts, None, vec![address], CoarseClock)
    }
}

impl<C: Clock> Balancer<C> {
    fn build(hosts: Arc<Hosts>, source: Option<Source>, addresses: Vec<SocketAddr>, clock: C) -> Self {
        let addresses: Vec<_> = addresses.into_iter().map(|address| hosts.address(address)).collect();
        Self {
            hosts,
            addresses: ArcSwap::from_pointee(addresses),
            due: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            asking: AtomicBool::new(false),
            answers: watch::Sender::new(0),
            ejecting: Mutex::new(()),
            source,
            random: Random::from_entropy(),
            choice: RandomState::new(),
            clock,
        }
    }

    pub(crate) fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// How many addresses there are.
    pub(crate) fn len(&self) -> usize {
        self.addresses.load().len()
    }

    /// Whether an address is among them.
    pub(crate) fn contains(&self, socket: SocketAddr) -> bool {
        self.addresses.load().iter().any(|address| address.socket == socket)
    }

    /// Sees to it that the addresses are recent. Waits at most `patience`, and only for an answer that was never given or
    /// is long out of date.
    #[inline]
    pub(crate) async fn ready(self: &Arc<Self>, patience: Duration) {
        let now = self.clock.millis();
        if now >= self.due.load(Ordering::Relaxed) {
            self.due_now(now, patience).await;
        }
    }

    #[cold]
    async fn due_now(self: &Arc<Self>, now: u64, patience: Duration) {
        if self.source.is_none() {
            self.due.store(u64::MAX, Ordering::Relaxed);
            return;
        }
        let known = !self.addresses.load().is_empty();
        let recent = now < self.due.load(Ordering::Relaxed).saturating_add(STALE - INTERVAL);
        let mut answers = self.answers.subscribe();
        self.ask(now);
        if !(known && recent) {
            let _ = tokio::time::timeout(patience, answers.changed()).await;
        }
    }

    /// Asks anew because an address could not be reached: at once, or with the first call after the pause.
    pub(crate) fn unreachable(self: &Arc<Self>) {
        let now = self.clock.millis();
        let allowed = self.asked.load(Ordering::Relaxed).saturating_add(PAUSE);
        if now >= allowed {
            self.ask(now);
        } else {
            self.due.fetch_min(allowed, Ordering::Relaxed);
        }
    }

    /// One question at a time, in a task of its own: a call that is given up takes no answer from the others.
    fn ask(self: &Arc<Self>, now: u64) {
        if self.source.is_none() || self.asking.swap(true, Ordering::AcqRel) {
            return;
        }
        self.asked.store(now, Ordering::Relaxed);
        let asking = Asking(Arc::clone(self));
        tokio::spawn(async move {
            let balancer = Arc::clone(&asking.0);
            balancer.resolve(now).await;
            drop(asking);
        });
    }

    async fn resolve(&self, now: u64) {
        let Some(source) = &self.source else { return };
        let answer = tokio::time::timeout(RESOLVE_TIMEOUT, source.resolver.resolve(&source.endpoint));
        let failure = match answer.await {
            Ok(Ok(found)) if !found.is_empty() => {
                self.take(found);
                self.due.store(now.saturating_add(INTERVAL), Ordering::Relaxed);
                return;
            }
            Ok(Ok(_)) => "no address was found".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the resolver did not answer in 5 s".to_owned(),
        };
        tracing::warn!(
            host = %source.endpoint.host, error = %failure, addresses = self.len(),
            "failed to resolve a target, the last good answer stays"
        );
        let after = if self.len() == 0 { PAUSE } else { INTERVAL };
        self.due
            .store(self.clock.millis().saturating_add(after), Ordering::Relaxed);
    }

    /// Takes the addresses found. Those known before keep what was learned about them.
    fn take(&self, mut found: Vec<SocketAddr>) {
        if found.len() > MAX_ADDRESSES {
            // Each client its own choice, so that all together call every address; the same with each answer.
            found.sort_by_cached_key(|address| self.choice.hash_one(address));
            found.dedup();
            found.truncate(MAX_ADDRESSES);
        }
        found.sort_unstable();
        found.dedup();
        let former = self.addresses.load();
        if former.iter().map(|address| address.socket).eq(found.iter().copied()) {
            return;
        }
        // The former list is alive until the new one stands, so nothing that stays is forgotten.
        let addresses = found.into_iter().map(|address| self.hosts.address(address)).collect();
        self.addresses.store(Arc::new(addresses));
    }

    /// An address for an attempt; none while none is known. Those in `tried` come behind all others but ejected ones,
    /// those in `barred` are never taken.
    #[inline]
    pub(crate) fn pick(&self, tried: &[SocketAddr], barred: &[SocketAddr]) -> Option<Flight> {
        let addresses = self.addresses.load();
        let (first, second) = match addresses.len() {
            0 => return None,
            1 => (0, 0),
            2 => (0, 1),
            count => self.two_of(count),
        };
        // Of two equals each is taken as often.
        let swapped = self.random.next() & 1 == 1;
        let (first, second) = if swapped { (second, first) } else { (first, second) };
        let (first, second) = (&addresses[first], &addresses[second]);
        let least = if first.in_flight.load(Ordering::Relaxed) <= second.in_flight.load(Ordering::Relaxed) {
            first
        } else {
            second
        };
        let doubtful = first.ejected_until.load(Ordering::Relaxed) | second.ejected_until.load(Ordering::Relaxed) != 0;
        if tried.is_empty() && barred.is_empty() && !doubtful {
            return Some(Flight::new(least));
        }
        self.pick_among(&addresses, tried, barred, least)
    }

    /// Two different numbers below `count`.
    fn two_of(&self, count: usize) -> (usize, usize) {
        let below = |count: usize| usize::try_from(self.random.up_to(count as u64 - 1)).unwrap_or_default();
        let first = below(count);
        let second = below(count - 1);
        (first, if second >= first { second + 1 } else { second })
    }

    /// The best of all, where the choice between two could fall on a bad one.
    #[cold]
    fn pick_among(
        &self,
        addresses: &[Arc<Address>],
        tried: &[SocketAddr],
        barred: &[SocketAddr],
        favourite: &Arc<Address>,
    ) -> Option<Flight> {
        let now = self.clock.millis();
        let rank = |address: &Address| (is_ejected(address, now), tried.contains(&address.socket));
        let allowed = |address: &Address| !barred.contains(&address.socket);
        if allowed(favourite) && rank(favourite) == (false, false) {
            return Some(Flight::new(favourite));
        }
        let start = usize::try_from(self.random.up_to(addresses.len() as u64 - 1)).unwrap_or_default();
        let turned = addresses[start..].iter().chain(&addresses[..start]);
        let best = turned
            .filter(|address| allowed(address))
            .min_by_key(|address| (rank(address), address.in_flight.load(Ordering::Relaxed)));
        best.map(Flight::new)
    }

    /// Whether an address is left that was neither tried nor ejected, and is not barred.
    pub(crate) fn has_other(&self, tried: &[SocketAddr], barred: &[SocketAddr]) -> bool {
        let now = self.clock.millis();
        let addresses = self.addresses.load();
        let mut others = addresses
            .iter()
            .filter(|address| !tried.contains(&address.socket) && !barred.contains(&address.socket));
        others.any(|address| !is_ejected(address, now))
    }

    /// Addresses whose last attempt failed.
    pub(crate) fn failing(&self) -> Vec<SocketAddr> {
        let addresses = self.addresses.load();
        let failing = addresses
            .iter()
            .filter(|address| address.failures.load(Ordering::Relaxed) > 0);
        failing.map(|address| address.socket).collect()
    }

    /// Whether the URL's own host may be tried when no address can be reached.
    pub(crate) fn has_another_way(&self) -> bool {
        let source = self.source.as_ref();
        source.is_some_and(|source| source.resolver.host_is_another_way(&source.endpoint))
    }

    /// Addresses that are ejected now.
    pub(crate) fn ejected(&self) -> usize {
        let now = self.clock.millis();
        self.addresses
            .load()
            .iter()
            .filter(|address| is_ejected(address, now))
            .count()
    }

    pub(crate) fn succeeded(&self, address: &Address) {
        if address.failures.load(Ordering::Relaxed) != 0 {
            address.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Counts a failure; says whether it ejected the address.
    #[cold]
    pub(crate) fn failed(&self, address: &Address) -> bool {
        let row = address.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        row >= EJECT_AFTER && self.eject(address)
    }

    fn eject(&self, address: &Address) -> bool {
        let _one_at_a_time = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.millis();
        let ejects =
            !is_ejected(address, now) && self.contains(address.socket) && (self.ejected() + 1) * 2 <= self.len();
        if ejects {
            address
                .ejected_until
                .store(now.saturating_add(EJECTED), Ordering::Relaxed);
            tracing::warn!(address = %address.socket, "an address fails and is left alone for 10 s");
        }
        ejects
    }
}

fn is_ejected(address: &Address, now: u64) -> bool {
    now < address.ejected_until.load(Ordering::Relaxed)
}

/// Held while a question is under way; however it ends, the next may be asked and who waits is woken.
struct Asking<C: Clock>(Arc<Balancer<C>>);

impl<C: Clock> Drop for Asking<C> {
    fn drop(&mut self) {
        self.0.asking.store(false, Ordering::Release);
        self.0.answers.send_modify(|answers| *answers = answers.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests;
