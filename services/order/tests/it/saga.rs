//! The saga's model, searched exhaustively in small: no order of steps, deliveries and faults breaks a promise, and each mistake
//! that somebody could make does.

use stateright::{Checker, HasDiscoveries, Model};

#[path = "../../examples/saga/model.rs"]
mod model;
#[path = "../../examples/saga/mutants.rs"]
mod mutants;
#[path = "../../examples/saga/world.rs"]
mod world;

use model::Saga;
use mutants::Mutant;

const ONE: Saga = Saga {
    clients: 1,
    stock: 1,
    faults: 0,
    declines: false,
    undoes: false,
    mutant: None,
};

/// What is searched: one order alone with a fault and with a customer who changes their mind, and two for the last piece.
fn slices() -> Vec<Saga> {
    vec![
        Saga { faults: 1, ..ONE },
        Saga { undoes: true, ..ONE },
        Saga {
            declines: true,
            undoes: true,
            ..ONE
        },
        Saga { clients: 2, ..ONE },
    ]
}

#[test]
fn no_order_of_steps_and_faults_breaks_a_promise() {
    for slice in slices() {
        let name = slice.to_string();
        let checker = slice
            .checker()
            .threads(2)
            .target_state_count(LARGEST)
            .spawn_bfs()
            .join();
        println!(
            "{name}: {} states, depth {}",
            checker.unique_state_count(),
            checker.max_depth()
        );
        if let Some((property, path)) = checker.discoveries().into_iter().next() {
            panic!("{name} breaks {property}: {:#?}", path.into_actions());
        }
    }
}

/// States of a slice that a test looks at; the example `saga` looks at more.
const LARGEST: usize = 20_000;

#[test]
fn every_mistake_breaks_one() {
    for mutant in Mutant::ALL {
        let undone = Saga {
            undoes: true,
            faults: 1,
            ..ONE
        };
        let found = slices().into_iter().chain([undone]).find_map(|slice| {
            let slice = Saga {
                mutant: Some(mutant),
                ..slice
            };
            let checker = slice
                .checker()
                .target_state_count(2 * LARGEST)
                .finish_when(HasDiscoveries::Any)
                .spawn_bfs()
                .join();
            let discoveries = checker.discoveries();
            let (property, path) = discoveries.into_iter().next()?;
            Some(format!("{property}, after {} steps", path.into_actions().len()))
        });
        let found = found.unwrap_or_else(|| panic!("{mutant:?} broke nothing"));
        println!("{mutant:?}: {found}");
    }
}
