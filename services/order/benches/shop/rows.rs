//! Where rows go: to standard output, each as soon as it is there.

use serde_json::{Value, json};

/// A peer's figure, or why there is none.
pub struct Peer {
    pub name: &'static str,
    pub version: String,
    pub value: Result<f64, String>,
}

/// A row without peers.
pub fn row(name: &str, unit: &str, bound: &str, ours: f64) {
    beside(name, unit, bound, ours, &[]);
}

/// A row; `bound` as `<= 15 ms` or `>= 2 x`, empty for none.
pub fn beside(name: &str, unit: &str, bound: &str, ours: f64, peers: &[Peer]) {
    let peer = |peer: &Peer| match &peer.value {
        Ok(value) => {
            json!({"name": peer.name, "version": peer.version, "min": value, "median": value, "max": value})
        }
        Err(reason) => json!({"name": peer.name, "version": peer.version, "missing": reason}),
    };
    let peers: Vec<Value> = peers.iter().map(peer).collect();
    let ours = ours
        .is_finite()
        .then(|| json!({"min": ours, "median": ours, "max": ours}));
    let line = json!({"suite": "shop", "row": name, "unit": unit, "ours": ours, "peers": peers, "bound": bound});
    println!("{line}");
}

/// Ours against a peer that may be missing; then there is no figure, and the bound is not held.
pub fn ratio(name: &str, bound: &str, above: Option<f64>, below: Option<f64>) {
    let ratio = above.zip(below).map_or(f64::NAN, |(above, below)| above / below);
    row(name, bound.rsplit(' ').next().unwrap_or("x"), bound, ratio);
}
