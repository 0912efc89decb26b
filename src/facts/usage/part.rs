//! Events, sessions or days of use as they come → *parts*: rolled up as far as one batch of rows can tell, by calendar month.
//!
//! Nothing is lost that another batch could change: a part keeps first and last instant of every session, so that parts put
//! together give what all of their rows would have given.

use super::sheet::{Joining, Use, Words, sheet};
use crate::period::civil;
use polars::prelude::*;
use std::collections::BTreeMap;

/// What a part keeps beside what it always keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// `None`: the rows tell of features only.
    pub joining: Option<Joining>,
    /// Whether the rows tell of seconds.
    pub has_seconds: bool,
    pub has_features: bool,
}

/// The rows of one calendar month.
pub struct Part {
    /// Months since the year 0.
    pub month: i32,
    /// See [`super::sheet`] for the columns.
    pub uses: DataFrame,
    /// `id`, `feature`, `day`, `events`.
    pub features: DataFrame,
}

/// Rolls a batch up. Rows without id, user or day were reported; they are not in it.
pub fn parts(batch: &DataFrame, shape: Shape) -> PolarsResult<Vec<Part>> {
    let mut words = Words::default();
    let all_days = i32::MIN..i32::MAX;
    let frames = std::slice::from_ref(batch);
    let mut sheet = sheet(frames, &all_days, Some, |frame| words.uses(frame))?;
    let mut months: BTreeMap<i32, Month> = BTreeMap::new();
    let mut used: Vec<(u32, i32, i64)> = Vec::new();
    for (id, uses) in sheet.groups() {
        if shape.has_features {
            used.clear();
            let named = uses.iter().filter(|one| one.feature > 0);
            used.extend(named.map(|one| (one.feature, one.day, one.events)));
            used.sort_unstable();
            // Days that are given stay as they are: one that stands there twice must be seen.
            let is_one = |a: &(u32, i32, i64), b: &(u32, i32, i64)| {
                shape.joining.is_some() && (a.0, a.1) == (b.0, b.1)
            };
            for same in used.chunk_by(is_one) {
                let (feature, day, _) = same[0];
                let events = same.iter().map(|one| one.2).fold(0, i64::saturating_add);
                let month = months.entry(month_of(day)).or_default();
                month.features.push((id, feature, day, events));
            }
        }
        let Some(joining) = shape.joining else {
            continue;
        };
        let kept = joining.joined(uses);
        for same in uses[..kept].chunk_by(|a, b| a.day == b.day) {
            let month = months.entry(month_of(same[0].day)).or_default();
            month.ids.extend(same.iter().map(|_| id));
            month.uses.extend_from_slice(same);
        }
    }
    let parts = months
        .into_iter()
        .map(|(month, rows)| rows.part(month, shape, &words));
    parts.collect()
}

/// Index of the calendar month of a day since 1970-01-01.
pub fn month_of(day: i32) -> i32 {
    let (year, month, _) = civil(day);
    year * 12 + month as i32 - 1
}

#[derive(Default)]
struct Month<'a> {
    ids: Vec<&'a str>,
    uses: Vec<Use>,
    features: Vec<(&'a str, u32, i32, i64)>,
}

impl Month<'_> {
    fn part(self, month: i32, shape: Shape, words: &Words) -> PolarsResult<Part> {
        let uses = &self.uses;
        let numbers = |name: &str, value: fn(&Use) -> i64| {
            Column::new(name.into(), uses.iter().map(value).collect::<Vec<_>>())
        };
        let days: Vec<i32> = uses.iter().map(|one| one.day).collect();
        let mut columns = vec![
            Column::new("id".into(), self.ids),
            words.column("user_id", uses.iter().map(|one| one.user)),
            Column::new("day".into(), days).cast(&DataType::Date)?,
            numbers("first_at", |one| one.first),
            numbers("length", |one| one.last.saturating_sub(one.first)),
            numbers("events", |one| one.events),
        ];
        if shape.joining == Some(Joining::Given) {
            columns.push(words.column("session_id", uses.iter().map(|one| one.session)));
        }
        if matches!(shape.joining, Some(Joining::Day | Joining::Once)) {
            columns.push(numbers("sessions", |one| one.sessions));
        }
        if shape.has_seconds {
            columns.push(numbers("seconds", |one| one.seconds));
        }
        let uses = DataFrame::new_infer_height(columns)?;
        let features = &self.features;
        let names = features
            .iter()
            .map(|row| words.features.text_or_none(row.1));
        let features = df!(
            "id" => features.iter().map(|row| row.0).collect::<Vec<_>>(),
            "feature" => names.collect::<Vec<_>>(),
            "day" => features.iter().map(|row| row.2).collect::<Vec<_>>(),
            "events" => features.iter().map(|row| row.3).collect::<Vec<_>>(),
        )?;
        let day = features.column("day")?.cast(&DataType::Date)?;
        let mut features = features;
        features.with_column(day)?;
        Ok(Part {
            month,
            uses,
            features,
        })
    }
}
