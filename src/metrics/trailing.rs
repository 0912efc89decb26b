//! Sums over trailing periods.

use super::aggregate::{is_of_group, part, sides};
use super::catalogue::Metric;
use crate::columns::*;
use polars::prelude::*;

/// Replaces the sides of pooled metrics by their sums over the trailing periods, each period with its own members. The sum
/// of nothing but nulls is null.
///
/// The rows are in the order of dimension, member and period, with `block` rows of each, of which the first belongs to the
/// first of the period before, and so on.
pub(super) fn pooled(groups: LazyFrame, metrics: &[&Metric], block: usize) -> LazyFrame {
    let windows = metrics
        .iter()
        .filter_map(|metric| metric.trailing.map(|periods| (*metric, periods)));
    let parts: Vec<(String, u32)> = windows
        .flat_map(|(metric, periods)| {
            sides(metric)
                .filter(|(_, sql)| is_of_group(metric, sql))
                .map(move |(side, _)| (part(&metric.id, side), periods))
        })
        .collect();
    if parts.is_empty() {
        return groups;
    }
    groups.map(
        move |frame| with_pooled(frame, &parts, block),
        OptFlags::empty(),
        None,
        Some("sums over trailing periods"),
    )
}

fn with_pooled(
    mut frame: DataFrame,
    parts: &[(String, u32)],
    block: usize,
) -> PolarsResult<DataFrame> {
    let periods = frame.column(PERIOD)?.i32()?.clone();
    let dimensions = frame.column(DIMENSION)?.str()?.clone();
    let members = frame.column(MEMBER)?.str()?.clone();
    let rows: Vec<usize> = (0..frame.height()).step_by(block).collect();
    // Of each block, the first one of its member.
    let mut first_of_member: Vec<usize> = Vec::with_capacity(rows.len());
    for (at, row) in rows.iter().enumerate() {
        let goes_on = at > 0
            && dimensions.get(*row) == dimensions.get(row - 1)
            && members.get(*row) == members.get(row - 1);
        first_of_member.push(if goes_on { first_of_member[at - 1] } else { at });
    }
    for (name, length) in parts {
        let own: Vec<Option<f64>> = frame.column(name)?.f64()?.iter().collect();
        let mut sums = vec![None; own.len()];
        for (at, row) in rows.iter().enumerate() {
            let since = periods.get(*row).map(|period| period - *length as i32 + 1);
            let window = &rows[first_of_member[at]..=at];
            for earlier in window.iter().filter(|row| periods.get(**row) >= since) {
                let summands = &own[*earlier..*earlier + block];
                for (sum, summand) in sums[*row..*row + block].iter_mut().zip(summands) {
                    if let Some(summand) = summand {
                        *sum = Some(sum.unwrap_or(0.0) + summand);
                    }
                }
            }
        }
        frame.with_column(Column::new(name.as_str().into(), sums))?;
    }
    Ok(frame)
}
