//! Draws that are the same on every machine.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a stream of draws is for, so that no two parts share one. New ones come last: a stream is known by its place.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stream {
    SignUps,
    Profile,
    Names,
    Fate,
    Merges,
    History,
    Invoices,
    FxRates,
    Usage,
    InvoiceHabit,
    UsageHabit,
    UsageLevel,
    Opportunities,
    Prospects,
    Members,
    Onboarding,
    Surveys,
    Tickets,
    Community,
    Costs,
    TimeEntries,
    Targets,
    Temper,
}

/// One reproducible stream of draws. Ranges are cut out by our own integer arithmetic, so that a change of the
/// distributions in `rand` does not change the data.
#[derive(Debug, Clone)]
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream of `seed` for one purpose and one index (an account's, a subscription's, …).
    pub fn new(seed: u64, stream: Stream, index: u64) -> Dice {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(((stream as u64) << 56) | index);
        Dice(rng)
    }

    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number from 0 to `bound − 1` (0 if `bound` is 0).
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        let width = u64::try_from(high - low).unwrap_or(0) + 1;
        low + self.below(width) as i64
    }

    /// As [`Dice::between`], for days.
    pub fn days(&mut self, low: i32, high: i32) -> i32 {
        self.between(i64::from(low), i64::from(high)) as i32
    }

    /// True in so many of 10,000 cases.
    pub fn chance(&mut self, per_10_000: u64) -> bool {
        self.below(10_000) < per_10_000
    }

    /// One of the values, by weight. The list must not be empty.
    pub fn weighted<T: Copy>(&mut self, choices: &[(T, u64)]) -> T {
        let total = choices.iter().map(|(_, weight)| weight).sum();
        let mut rest = self.below(total);
        for &(value, weight) in choices {
            if rest < weight {
                return value;
            }
            rest -= weight;
        }
        choices[choices.len() - 1].0
    }

    /// One of the values. The list must not be empty.
    pub fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize]
    }
}

/// A fixed trait of one thing: a number from 0 to 9,999 that needs no stream of its own (SplitMix64's finish).
pub(super) fn habit(seed: u64, stream: Stream, index: u64, aspect: u64) -> u64 {
    let mut mixed = seed;
    for part in [stream as u64, index, aspect] {
        mixed = mixed.wrapping_add(part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
    }
    ((u128::from(mixed) * 10_000) >> 64) as u64
}
