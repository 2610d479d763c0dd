//! Places of pages that follow: so many at a time, and of one person no more than leaves some to the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::IntGauge;

/// The most pages that follow at a time.
const MOST: usize = 200;
/// The most of one person.
const MOST_OF_ONE: usize = 20;

/// All places; clones are one.
#[derive(Clone)]
pub struct Places {
    taken: Arc<Mutex<Taken>>,
    shown: IntGauge,
}

#[derive(Default)]
struct Taken {
    all: usize,
    /// By name; of whom none is left is not in it.
    of: HashMap<String, usize>,
}

impl Places {
    /// Every place is free; `shown` says how many are not.
    pub fn new(shown: IntGauge) -> Self {
        Self {
            taken: Arc::default(),
            shown,
        }
    }

    /// Takes one for the person of that name, or for nobody in particular; none is left when there are too many.
    pub fn take(&self, name: Option<&str>) -> Option<Place> {
        let mut taken = self.lock();
        if taken.all >= MOST {
            return None;
        }
        if let Some(name) = name {
            let own = taken.of.entry(name.to_owned()).or_default();
            if *own >= MOST_OF_ONE {
                return None;
            }
            *own += 1;
        }
        taken.all += 1;
        self.shown.inc();
        Some(Place {
            name: name.map(str::to_owned),
            places: self.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a page that follows, given back when this is dropped.
pub struct Place {
    name: Option<String>,
    places: Places,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all = taken.all.saturating_sub(1);
        if let Some(name) = &self.name
            && let Some(own) = taken.of.get_mut(name)
        {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.of.remove(name);
            }
        }
        self.places.shown.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_person_leaves_places_to_others_and_gives_back_what_is_not_used() {
        let places = Places::new(IntGauge::new("taken", "places").unwrap());
        let mut anns: Vec<Place> = (0..MOST_OF_ONE).map_while(|_| places.take(Some("ann"))).collect();
        assert_eq!(anns.len(), MOST_OF_ONE);
        assert!(places.take(Some("ann")).is_none(), "she has enough");
        let others: Vec<Place> = (0..MOST).map_while(|_| places.take(None)).collect();
        assert_eq!(others.len(), MOST - MOST_OF_ONE);
        assert!(places.take(Some("bob")).is_none(), "there is none left");
        anns.pop();
        assert_eq!(places.shown.get(), 199);
        let _bobs = places.take(Some("bob")).expect("a place that was given back");
        drop((anns, others));
        assert!(!places.lock().of.contains_key("ann"), "who has none is forgotten");
        assert_eq!(places.shown.get(), 1);
    }
}
