//! Recency, frequency, monetary: scores 1 to 5 per axis, the boundaries behind them, and the segment of each account
//! (docs/definitions.md § 7).

use crate::columns::*;
use crate::config::{FrequencyBasis, MonetaryBasis, RecencyBasis, Rfm, RfmMethod};
use polars::prelude::*;

/// How many scores an axis has.
const BINS: i64 = 5;

/// One axis: its name, the column that is scored, and whether small values are good.
struct Axis {
    name: &'static str,
    value: &'static str,
    small_is_good: bool,
}

const AXES: [Axis; 3] = [
    Axis {
        name: "recency",
        value: "days_since_last",
        small_is_good: true,
    },
    Axis {
        name: "frequency",
        value: "frequency",
        small_is_good: false,
    },
    Axis {
        name: "monetary",
        value: "monetary",
        small_is_good: false,
    },
];

fn score(axis: &Axis) -> String {
    format!("{}_score", axis.name)
}

/// One row per period and account: the three values, their scores, `rfm_score` and `segment`.
pub fn rfm_scores(accounts: LazyFrame, rules: &Rfm) -> PolarsResult<LazyFrame> {
    let mut frame = population(accounts, rules);
    for axis in &AXES {
        frame = match rules.method {
            RfmMethod::Quantile => {
                with_boundaries(frame, axis)?.with_column(quantile_score(axis).alias(score(axis)))
            }
            RfmMethod::Ntile => ntile_scored(frame, axis)?,
            RfmMethod::Thresholds => {
                frame.with_column(threshold_score(axis, rules).alias(score(axis)))
            }
        };
    }
    let text = AXES
        .iter()
        .map(|axis| col(score(axis)).cast(DataType::String))
        .collect::<Vec<_>>();
    let mut segment = lit(NULL).cast(DataType::String);
    for range in rules.segments.iter().rev() {
        let within = |axis: &Axis, (low, high): (u8, u8)| {
            col(score(axis)).is_between(
                lit(i64::from(low)),
                lit(i64::from(high)),
                ClosedInterval::Both,
            )
        };
        let matches = within(&AXES[0], range.r)
            .and(within(&AXES[1], range.f))
            .and(within(&AXES[2], range.m));
        segment = when(matches)
            .then(lit(range.name.as_str()))
            .otherwise(segment);
    }
    Ok(frame
        .with_columns([
            concat_str(text, "", false).alias("rfm_score"),
            segment.alias("segment"),
        ])
        .select([
            col(PERIOD),
            col(ACCOUNT_ID),
            col("days_since_last"),
            col("frequency"),
            col("monetary"),
            col("recency_score"),
            col("frequency_score"),
            col("monetary_score"),
            col("rfm_score"),
            col("segment"),
        ]))
}

/// Customers at the period's end, and whoever used or paid within the window; with the values of the three axes.
fn population(accounts: LazyFrame, rules: &Rfm) -> LazyFrame {
    let (since, uses) = match rules.recency {
        RecencyBasis::Usage => (DAYS_SINCE_LAST_USE, "window_active_days"),
        RecencyBasis::Payment => (DAYS_SINCE_LAST_PAYMENT, "window_invoices"),
    };
    let frequency = match rules.frequency {
        FrequencyBasis::ActiveDays => "window_active_days",
        FrequencyBasis::Invoices => "window_invoices",
    };
    let monetary = match rules.monetary {
        MonetaryBasis::Revenue => "window_revenue",
        MonetaryBasis::Mrr => CLOSING_MRR,
    };
    let in_window = col(since).lt(lit(i64::from(rules.window_days)));
    let is_active = |name: &str| col(name).gt(lit(0i64)).fill_null(lit(false));
    let pays = match rules.monetary {
        MonetaryBasis::Revenue => is_active("window_invoices"),
        MonetaryBasis::Mrr => lit(false),
    };
    let belongs = col(CLOSING_CUSTOMERS)
        .eq(lit(1i64))
        .or(is_active(uses))
        .or(is_active(frequency))
        .or(pays);
    accounts.filter(belongs).select([
        col(PERIOD),
        col(ACCOUNT_ID),
        when(in_window)
            .then(col(since))
            .otherwise(lit(NULL))
            .alias("days_since_last"),
        col(frequency).fill_null(lit(0i64)).alias("frequency"),
        col(monetary).fill_null(lit(0i64)).alias("monetary"),
    ])
}

/// Adds `b1` to `b4`: the ⌈k·n/5⌉-th smallest of the period's n values.
fn with_boundaries(frame: LazyFrame, axis: &Axis) -> PolarsResult<LazyFrame> {
    let values = frame
        .clone()
        .filter(col(axis.value).is_not_null())
        .select([col(PERIOD), col(axis.value).alias("value")])
        .sort([PERIOD, "value"], SortMultipleOptions::default());
    let position = |k: i64| {
        ((lit(k) * len().cast(DataType::Int64) + lit(BINS - 1)).floor_div(lit(BINS)) - lit(1i64))
            .cast(DataType::Int64)
    };
    let boundary = |k: i64| col("value").get(position(k), true).alias(format!("b{k}"));
    let boundaries = values
        .group_by_stable([col(PERIOD)])
        .agg((1..BINS).map(boundary).collect::<Vec<_>>());
    let old = by_name((1..BINS).map(|k| format!("b{k}")), false, false);
    Ok(frame
        .drop(old)
        .left_join(boundaries, col(PERIOD), col(PERIOD)))
}

fn quantile_score(axis: &Axis) -> Expr {
    let above = |k: i64| {
        col(axis.value)
            .gt(col(format!("b{k}")))
            .fill_null(lit(false))
            .cast(DataType::Int64)
    };
    let below_value = (1..BINS)
        .map(above)
        .reduce(|a, b| a + b)
        .unwrap_or(lit(0i64));
    scored(axis, below_value)
}

fn limits<'a>(axis: &Axis, rules: &'a Rfm) -> Option<&'a [f64; 4]> {
    let thresholds = rules.thresholds.as_ref()?;
    Some(match axis.name {
        "recency" => &thresholds.recency,
        "frequency" => &thresholds.frequency,
        _ => &thresholds.monetary,
    })
}

fn threshold_score(axis: &Axis, rules: &Rfm) -> Expr {
    let Some(limits) = limits(axis, rules) else {
        return lit(1i64);
    };
    let value = || col(axis.value).cast(DataType::Float64);
    let passed = |limit: &f64| {
        let passes = if axis.small_is_good {
            value().gt(lit(*limit))
        } else {
            value().gt_eq(lit(*limit))
        };
        passes.fill_null(lit(false)).cast(DataType::Int64)
    };
    scored(
        axis,
        limits
            .iter()
            .map(passed)
            .reduce(|a, b| a + b)
            .unwrap_or(lit(0i64)),
    )
}

/// From the number of boundaries that a value has passed. No value at all is the worst.
fn scored(axis: &Axis, passed: Expr) -> Expr {
    if axis.small_is_good {
        when(col(axis.value).is_null())
            .then(lit(1i64))
            .otherwise(lit(BINS) - passed)
    } else {
        lit(1i64) + passed
    }
}

/// Equal-sized bins from worst to best, as SQL's NTILE(5); ties by account.
fn ntile_scored(frame: LazyFrame, axis: &Axis) -> PolarsResult<LazyFrame> {
    let worst_first = SortMultipleOptions::default()
        .with_order_descending_multi([false, axis.small_is_good, false])
        .with_nulls_last_multi([false, false, false]);
    let position = col(ACCOUNT_ID)
        .cum_count(false)
        .over([col(PERIOD)])?
        .cast(DataType::Int64);
    let count = len().over([col(PERIOD)])?.cast(DataType::Int64);
    let small = || col("__n").floor_div(lit(BINS));
    let larger_bins = || col("__n") - small() * lit(BINS);
    let in_larger = larger_bins() * (small() + lit(1i64));
    let at = || col("__position") - lit(1i64);
    let size = when(small().eq(lit(0i64)))
        .then(lit(1i64))
        .otherwise(small());
    let bin = when(at().lt(in_larger.clone()))
        .then(at().floor_div(small() + lit(1i64)) + lit(1i64))
        .otherwise(larger_bins() + (at() - in_larger).floor_div(size) + lit(1i64));
    Ok(frame
        .sort([PERIOD, axis.value, ACCOUNT_ID], worst_first)
        .with_columns([position.alias("__position"), count.alias("__n")])
        .with_column(bin.alias(score(axis)))
        .drop(by_name(["__position", "__n"], true, false)))
}

/// Fixed thresholds have all five scores in every period, occupied or not.
fn every_score(found: LazyFrame, scores: &LazyFrame) -> LazyFrame {
    let numbers = int_range(lit(1i64), lit(BINS + 1), 1, DataType::Int64);
    let periods = scores
        .clone()
        .select([col(PERIOD)])
        .unique(None, UniqueKeepStrategy::Any);
    let key = [col(PERIOD), col("score")];
    periods
        .cross_join(
            DataFrame::default().lazy().select([numbers.alias("score")]),
            None,
        )
        .join(found, key.clone(), key, JoinArgs::new(JoinType::Left))
        .with_column(col("accounts").fill_null(lit(0i64)))
}

/// One row per period, axis and score that occurs (every score with fixed thresholds): `lower`, `upper`, `accounts`, `method`.
pub fn rfm_boundaries(scores: LazyFrame, rules: &Rfm) -> PolarsResult<LazyFrame> {
    let method = match rules.method {
        RfmMethod::Quantile => "quantile",
        RfmMethod::Ntile => "ntile",
        RfmMethod::Thresholds => "thresholds",
    };
    let per_axis = AXES.iter().map(|axis| {
        let found = scores
            .clone()
            .group_by([col(PERIOD), col(score(axis)).alias("score")])
            .agg([
                col(axis.value).min().cast(DataType::Float64).alias("lower"),
                col(axis.value).max().cast(DataType::Float64).alias("upper"),
                len().cast(DataType::Int64).alias("accounts"),
            ]);
        let found = match rules.method {
            RfmMethod::Thresholds => {
                with_threshold_bounds(every_score(found, &scores), axis, rules)
            }
            _ => found,
        };
        found
            .with_columns([lit(axis.name).alias("axis"), lit(method).alias("method")])
            .select([
                col(PERIOD),
                col("axis"),
                col("score"),
                col("lower"),
                col("upper"),
                col("accounts"),
                col("method"),
            ])
    });
    concat(per_axis.collect::<Vec<_>>(), UnionArgs::default())
}

/// Fixed bounds in place of those found: score s of a large-is-good axis lies in [t(s−1), t(s)).
fn with_threshold_bounds(frame: LazyFrame, axis: &Axis, rules: &Rfm) -> LazyFrame {
    let Some(limits) = limits(axis, rules) else {
        return frame;
    };
    // Number of thresholds passed, which lies between limits[passed - 1] and limits[passed].
    let passed = || {
        if axis.small_is_good {
            lit(BINS) - col("score")
        } else {
            col("score") - lit(1i64)
        }
    };
    let bound = |offset: i64| {
        let none = lit(NULL).cast(DataType::Float64);
        (0..limits.len()).fold(none, |otherwise, index| {
            when(passed().eq(lit(index as i64 + offset)))
                .then(lit(limits[index]))
                .otherwise(otherwise)
        })
    };
    frame.with_columns([bound(1).alias("lower"), bound(0).alias("upper")])
}
