//! Times in classes whose bounds grow with them, eight to each doubling: a quantile that is read from them is at most an
//! eighth too long, whatever its size, and a minute has few rows. Pure.

/// Classes to each doubling, as a power of two.
const PRECISION: u32 = 3;

/// The upper bound in ms of the class of a time of `milliseconds`: the time itself up to 16 ms.
#[must_use]
pub fn class(milliseconds: u64) -> u64 {
    // A longer time than that of an event of centuries ago does not occur; it keeps the sums below from overflowing.
    let milliseconds = milliseconds.min(1 << 48);
    let step = milliseconds
        .saturating_sub(1)
        .checked_ilog2()
        .unwrap_or(0)
        .saturating_sub(PRECISION);
    milliseconds.div_ceil(1 << step) << step
}

/// The time in ms that `share` (0 to 1) of all took at most. `classes` are (upper bound, how many), by bound. `None`:
/// there are none.
#[must_use]
pub fn quantile(classes: &[(u64, u64)], share: f64) -> Option<u64> {
    let all: u64 = classes.iter().map(|(_, count)| count).sum();
    let mut left = ((share * all as f64).ceil() as u64).clamp(1, all.max(1));
    classes.iter().find_map(|(bound, count)| {
        if left <= *count {
            return Some(*bound);
        }
        left -= count;
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_holds_its_time_and_is_at_most_an_eighth_longer() {
        for time in (0..5_000).chain([86_400_000, 1_234_567, u64::from(u32::MAX), (1 << 48) - 1, 1 << 48]) {
            let bound = class(time);
            assert!(bound >= time && bound <= time + time / 8, "{time} {bound}");
            assert_eq!(class(bound), bound, "a bound is of its own class");
        }
        assert_eq!(class(u64::MAX), 1 << 48);
        let classes: std::collections::BTreeSet<u64> = (0..86_400_000_u64).step_by(997).map(class).collect();
        assert!(classes.len() < 200, "{}", classes.len());
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_times() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[(7, 1)], 0.99), Some(7));
        let classes = [(1, 50), (2, 45), (100, 4), (900, 1)];
        let found = [0.0, 0.5, 0.51, 0.95, 0.96, 0.99, 1.0].map(|share| quantile(&classes, share).unwrap());
        assert_eq!(found, [1, 1, 2, 2, 100, 100, 900]);
    }
}
