//! Why a rate moved: the change of the total's value, split into what each member of a dimension did to it (docs/definitions.md § 12).
//!
//! The two periods of a comparison stand side by side in one wide row per member, so that all metrics share two joins.

use super::aggregate::{Grouping, is_told, part};
use super::catalogue::{Catalogue, Metric};
use crate::columns::*;
use crate::config::Calendar;
use crate::period::PeriodRange;
use crate::sql::quotient;
use polars::prelude::*;

/// The member of what no member holds: accounts without a cohort.
pub const REST: &str = "(rest)";
/// A difference this small against what it is a difference of is nothing: floats leave it over.
const NOTHING: f64 = 1e-12;

const BEFORE: &str = ":before";
const ALL: &str = ":total";

/// Whether the changes of a metric can be told by member: numerators and denominators add up to the total's.
pub fn is_explained(metric: &Metric) -> bool {
    metric.is_reaggregable() && metric.denominator.is_some()
}

fn explained(catalogue: &Catalogue) -> impl Iterator<Item = &Metric> {
    catalogue.published().filter(|metric| is_explained(metric))
}

/// One row per period of `published`, dimension, member, metric and comparison. `compared` is what [`compared`] gives, held in
/// memory: every metric takes its columns from it.
pub fn kpi_drivers(compared: LazyFrame, catalogue: &Catalogue) -> PolarsResult<LazyFrame> {
    let of_metric = explained(catalogue).map(|metric| effects(compared.clone(), metric));
    concat(of_metric.collect::<Vec<_>>(), UnionArgs::default())
}

/// One row per period of `published`, dimension, member and comparison: the parts of all metrics then and now, the member's and the
/// total's. Nothing where no published metric can be told by member. `evaluated` must reach from the calendar's begin on.
pub fn compared(
    evaluated: LazyFrame,
    groupings: &[Grouping],
    catalogue: &Catalogue,
    calendar: &Calendar,
    published: PeriodRange,
) -> PolarsResult<Option<LazyFrame>> {
    let parts: Vec<String> = explained(catalogue)
        .flat_map(|metric| ["numerator", "denominator"].map(|side| part(&metric.id, side)))
        .collect();
    if parts.is_empty() {
        return Ok(None);
    }
    let begin = calendar.index_of(calendar.begin);
    let year = calendar.grain.periods_per_year();
    let is_compared = between(begin.max(published.first - year), published.last);
    let evaluated = evaluated.filter(is_compared);
    let totals = totals(evaluated.clone(), &parts);
    let members = members(evaluated, &parts);
    let rest = rest(members.clone(), totals.clone(), groupings, &parts)?;
    let members = concat([members, rest], UnionArgs::default())?;

    let comparisons = [("previous", 1), ("year_ago", year)].map(|(comparison, distance)| {
        let first = published.first.max(begin + distance);
        let both = |frame: &LazyFrame, key: &[&str]| {
            side_by_side(frame.clone(), key, distance, between(first, published.last))
        };
        // Who is there in one of the two periods only is nothing in the other.
        let both_parts = parts
            .iter()
            .flat_map(|name| [name.clone(), format!("{name}{BEFORE}")]);
        let no_part = both_parts.map(|name| col(name).fill_null(lit(0.0)));
        both(&members, &[PERIOD, DIMENSION, MEMBER])
            .with_columns(no_part.collect::<Vec<_>>())
            .inner_join(both(&totals, &[PERIOD]), col(PERIOD), col(PERIOD))
            .with_column(lit(comparison).alias("comparison"))
    });
    concat(comparisons, UnionArgs::default()).map(Some)
}

fn between(first: i32, last: i32) -> Expr {
    col(PERIOD).is_between(lit(first), lit(last), ClosedInterval::Both)
}

fn totals(evaluated: LazyFrame, parts: &[String]) -> LazyFrame {
    let own = parts
        .iter()
        .map(|name| col(name.as_str()).alias(format!("{name}{ALL}")));
    let columns: Vec<Expr> = std::iter::once(col(PERIOD)).chain(own).collect();
    evaluated
        .filter(col(DIMENSION).eq(lit(TOTAL)))
        .select(columns)
}

fn members(evaluated: LazyFrame, parts: &[String]) -> LazyFrame {
    let own = parts
        .iter()
        .map(|name| col(name.as_str()).fill_null(lit(0.0)));
    let key = [PERIOD, DIMENSION, MEMBER].map(col);
    evaluated
        .filter(col(DIMENSION).neq(lit(TOTAL)))
        .select(key.into_iter().chain(own).collect::<Vec<_>>())
}

/// Per period and dimension, the total less its members. Sums of floats depend on their order, so the rows are put into one, and summed by
/// a window, which keeps to it.
fn rest(
    members: LazyFrame,
    totals: LazyFrame,
    groupings: &[Grouping],
    parts: &[String],
) -> PolarsResult<LazyFrame> {
    let sum = |name: &String| format!("{name}:sum");
    let size = |name: &String| format!("{name}:size");
    let mut sums = Vec::new();
    for name in parts {
        let of_dimension = |value: Expr| value.sum().over([col(PERIOD), col(DIMENSION)]);
        let value = || col(name.as_str());
        sums.push(of_dimension(value())?.alias(sum(name)));
        sums.push(of_dimension(value().abs())?.alias(size(name)));
    }
    let key = || [col(PERIOD), col(DIMENSION)];
    let summed = members
        .sort([PERIOD, DIMENSION, MEMBER], SortMultipleOptions::default())
        .select([key().to_vec(), sums].concat())
        .unique(
            Some(by_name([PERIOD, DIMENSION], true, false)),
            UniqueKeepStrategy::Any,
        );
    let names = groupings.iter().map(|grouping| grouping.dimension.as_str());
    let names: Vec<&str> = names.filter(|name| *name != TOTAL).collect();
    let dimensions = df!(DIMENSION => names)?.lazy();
    let left = parts.iter().map(|name| {
        let total = || col(format!("{name}{ALL}")).fill_null(lit(0.0));
        let known = |name: String| col(name).fill_null(lit(0.0));
        let left = total() - known(sum(name));
        let scale = total().abs() + known(size(name));
        when(left.clone().abs().gt(scale * lit(NOTHING)))
            .then(left)
            .otherwise(lit(0.0))
            .alias(name)
    });
    let columns = [col(PERIOD), col(DIMENSION), lit(REST).alias(MEMBER)];
    Ok(totals
        .cross_join(dimensions, None)
        .join(summed, key(), key(), JoinArgs::new(JoinType::Left))
        .select(columns.into_iter().chain(left).collect::<Vec<_>>()))
}

/// The rows of a frame beside those of `distance` periods before, whose columns end in [`BEFORE`]; nulls where there are none.
fn side_by_side(frame: LazyFrame, key: &[&str], distance: i32, is_published: Expr) -> LazyFrame {
    let before = frame
        .clone()
        .with_column((col(PERIOD) + lit(distance)).alias(PERIOD));
    let key: Vec<Expr> = key.iter().map(|name| col(*name)).collect();
    frame
        .filter(is_published.clone())
        .join_builder()
        .with(before.filter(is_published))
        .on(key)
        .how(JoinType::Full)
        .coalesce(JoinCoalesce::CoalesceColumns)
        .suffix(BEFORE)
        .finish()
}

/// What each member did to one metric. The weights are shares of the total's denominator, which is the sum of the members'.
fn effects(compared: LazyFrame, metric: &Metric) -> LazyFrame {
    let numerator = part(&metric.id, "numerator");
    let denominator = part(&metric.id, "denominator");
    let of = |side: &str, at: &str| col(format!("{side}{at}"));
    let own = [&numerator, &denominator].map(|side| ["", BEFORE].map(|at| of(side, at)));
    let happened = own.into_iter().flatten().map(|part| part.neq(lit(0.0)));
    let happened = happened.reduce(Expr::or).unwrap_or(lit(true));
    let is_something = col(MEMBER).neq(lit(REST)).or(happened);
    let all = |side: &str, at: &str| of(side, &format!("{ALL}{at}"));
    let has_total = |at: &str| {
        let is_there = all(&numerator, at).is_not_null();
        is_there.and(all(&denominator, at).neq(lit(0.0)))
    };
    let is_comparable = has_total("").and(has_total(BEFORE));
    let rows = compared.filter(is_told(metric).and(is_something).and(is_comparable));

    let own_value = |at: &str| {
        let below = of(&denominator, at);
        when(below.clone().neq(lit(0.0)))
            .then(quotient(of(&numerator, at), below))
            .otherwise(lit(NULL))
    };
    let share = |side: &str, at: &str| quotient(of(side, at), all(&denominator, at));
    let total = |at: &str| quotient(all(&numerator, at), all(&denominator, at));
    let half = || lit(0.5);
    let mean_total = || (col("total_before") + col("total")) * half();
    let effect =
        col("part") - col("part_before") - mean_total() * (col("weight") - col("weight_before"));
    let is_rate_in_both = col("value_before")
        .is_not_null()
        .and(col("value").is_not_null());
    let rate_effect =
        (col("weight_before") + col("weight")) * half() * (col("value") - col("value_before"));
    rows.select([
        col(PERIOD),
        col(DIMENSION),
        col(MEMBER),
        lit(metric.id.as_str()).alias("metric"),
        col("comparison"),
        own_value(BEFORE).alias("value_before"),
        own_value("").alias("value"),
        share(&denominator, BEFORE).alias("weight_before"),
        share(&denominator, "").alias("weight"),
        share(&numerator, BEFORE).alias("part_before"),
        share(&numerator, "").alias("part"),
        total(BEFORE).alias("total_before"),
        total("").alias("total"),
    ])
    .with_columns([
        effect.alias("effect"),
        when(is_rate_in_both)
            .then(rate_effect)
            .otherwise(lit(0.0))
            .alias("rate_effect"),
        (col("total") - col("total_before")).alias("change"),
    ])
    .with_column((col("effect") - col("rate_effect")).alias("mix_effect"))
}
