//! The last half minute of one pod. Pure.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};

use super::Scrape;

/// How far back it reaches.
const LENGTH: chrono::Duration = chrono::Duration::seconds(31);

/// Scrapes of a pod, the oldest first.
#[derive(Debug, Default)]
pub struct Window(VecDeque<(DateTime<Utc>, Scrape)>);

impl Window {
    /// Adds what the pod said at `now`, and forgets what is too old, or of a process before this one.
    pub fn push(&mut self, now: DateTime<Utc>, scrape: Scrape) {
        self.0
            .retain(|(at, before)| now - *at <= LENGTH && scrape.since(before).is_some());
        self.0.push_back((now, scrape));
    }

    /// What was counted between the oldest and the newest, and the seconds between them.
    pub fn difference(&self) -> Option<(Scrape, f64)> {
        let ((from, first), (to, last)) = self.0.front().zip(self.0.back())?;
        let seconds = (*to - *from).num_milliseconds() as f64 / 1000.0;
        (seconds > 0.0)
            .then(|| last.since(first))
            .flatten()
            .map(|difference| (difference, seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_moves_on() {
        let at = |second: i64| DateTime::from_timestamp(1_000_000 + second, 0).unwrap();
        let counted = |requests: f64| Scrape {
            requests,
            ..Scrape::default()
        };
        let mut window = Window::default();
        window.push(at(0), counted(0.0));
        assert_eq!(window.difference(), None, "one look shows no change");
        window.push(at(10), counted(50.0));
        assert_eq!(window.difference(), Some((counted(50.0), 10.0)));
        window.push(at(40), counted(80.0));
        assert_eq!(window.difference(), Some((counted(30.0), 30.0)), "the first is too old");
        window.push(at(45), counted(3.0));
        assert_eq!(window.difference(), None, "another process counts from nothing");
    }
}
