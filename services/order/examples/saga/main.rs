//! Searches the saga's model for longer than a test does: `cargo run -p valerix-order --example saga -- 5` for five minutes a
//! slice. Says how many states there were, how deep, and what broke.

mod model;
mod mutants;
mod world;

use std::time::{Duration, Instant};

use stateright::{Checker, Model};

use model::Saga;
use mutants::Mutant;

fn main() -> Result<(), String> {
    let minutes = match std::env::args().nth(1) {
        Some(text) => text
            .parse::<u64>()
            .map_err(|_| format!("the argument {text:?} must be a number of minutes, for example 5"))?,
        None => 1,
    };
    let limit = Duration::from_secs(60 * minutes);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let saga = |clients, stock, faults, declines, undoes| Saga {
        clients,
        stock,
        faults,
        declines,
        undoes,
        mutant: None,
    };
    let mut broken = vec![];
    for slice in [
        saga(1, 1, 2, false, true),
        saga(1, 1, 2, true, true),
        saga(2, 1, 1, false, false),
        saga(2, 1, 0, false, true),
    ] {
        let (name, begun) = (slice.to_string(), Instant::now());
        let checker = slice.checker().threads(threads).timeout(limit).spawn_bfs().join();
        let extent = if begun.elapsed() < limit {
            "all of it"
        } else {
            "not to its end"
        };
        println!(
            "{name}: {} states, depth {}, {extent}",
            checker.unique_state_count(),
            checker.max_depth()
        );
        for (property, path) in checker.discoveries() {
            println!("BROKEN {property}: {:#?}", path.into_actions());
            broken.push(property);
        }
    }
    println!("{} mutants are tried by the tests of this crate", Mutant::ALL.len());
    if broken.is_empty() {
        println!("The saga keeps its promises in every state that was seen.");
        Ok(())
    } else {
        Err(format!("the saga breaks {}", broken.join("; ")))
    }
}
