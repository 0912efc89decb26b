//! The table `fx_rates`: yen per dollar and per euro.

use std::sync::Arc;

use super::calendar::{Timeline, months_after};
use super::dice::{Dice, Stream};
use super::plans::Currency;
use super::table::{Column, Table};
use crate::period::civil;

/// A rate as it was at first, the band it stays in (in 0.0001 yen), and its currency.
const WALKS: [(Currency, i64, i64, i64); 2] = [
    (Currency::Usd, 1_385_000, 1_200_000, 1_650_000),
    (Currency::Eur, 1_495_000, 1_320_000, 1_780_000),
];
/// Rates begin before the first subscription does.
const LEAD_MONTHS: i32 = 2;
const SCALE: usize = 6;

/// Rates at every month's end and in the middle of most months, by date.
pub(super) fn table(timeline: &Timeline, seed: u64) -> Table {
    let mut dice = Dice::new(seed, Stream::FxRates, 0);
    let mut rates = WALKS.map(|(_, first, ..)| first);
    let mut days = Vec::new();
    let mut codes = Vec::new();
    let mut values = Vec::new();
    for day in fixing_days(timeline) {
        // The dollar's move takes the euro with it in part.
        let common = dice.between(-180, 190);
        let own = dice.between(-120, 120);
        let is_published = civil(day).2 != 15 || dice.chance(7_500);
        for (nth, &(_, _, lowest, highest)) in WALKS.iter().enumerate() {
            let per_10_000 = if nth == 0 {
                common
            } else {
                common * 2 / 3 + own
            };
            let moved = rates[nth] + rates[nth] * per_10_000 / 10_000;
            rates[nth] = moved.clamp(lowest, highest);
        }
        if is_published {
            for (code, rate) in (0u32..).zip(rates) {
                days.push(Some(day));
                codes.push(code);
                values.push(Some(i128::from(rate) * 100));
            }
        }
    }
    let names: Arc<[String]> = WALKS.iter().map(|walk| walk.0.code().to_owned()).collect();
    Table {
        name: "fx_rates",
        columns: vec![
            ("date", Column::Date(days)),
            (
                "currency",
                Column::Codes {
                    codes,
                    values: names,
                },
            ),
            ("rate", Column::Decimal(values, SCALE)),
        ],
    }
}

/// The 15th and the last day of every month up to the end of the timeline.
fn fixing_days(timeline: &Timeline) -> impl Iterator<Item = i32> + '_ {
    let first = months_after(timeline.begin, -LEAD_MONTHS);
    (0..)
        .map(move |month| months_after(first, month))
        .take_while(|&day| day < timeline.end)
        .flat_map(|day| [day + 14, months_after(day, 1) - 1])
}
