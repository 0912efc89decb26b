//! Evaluates the catalogue: account × period → period × dimension × member × metric.

use super::catalogue::{self, Catalogue, DAYS_IN_PERIOD, Metric};
use super::references::References;
use crate::columns::*;
use crate::config::Estimator;
use crate::contract;
use crate::facts::{Context, each_period};
use crate::sql::{SqlExpr, quotient};
use polars::prelude::*;
use std::collections::BTreeSet;

/// A way to group accounts: name, and the expression of the member's text. Accounts whose member is null are left out.
#[derive(Clone)]
pub struct Grouping {
    pub dimension: String,
    pub member: Expr,
}

/// The input tables that are there, for metrics that need one.
#[derive(Debug, Clone, Default)]
pub struct Available(pub BTreeSet<&'static str>);

impl Available {
    /// `usage` is events or sessions.
    pub fn has(&self, need: &str) -> bool {
        match need {
            "usage" => self.0.iter().any(|table| table.starts_with("usage_")),
            table => self.0.contains(table),
        }
    }
}

/// What a routine makes in place of SQL: rows of `period_index`, `dimension`, `member`, `value` and `sample_size`.
#[derive(Clone)]
pub struct Estimate {
    pub by: Estimator,
    pub rows: LazyFrame,
}

/// Name of the column that holds a metric's numerator (or denominator) in [`evaluated`].
pub fn part(id: &str, side: &str) -> String {
    format!("{id}:{side}")
}

/// One row per period, dimension and member; of each metric its value under its id, and its two parts.
pub fn evaluated(
    accounts: LazyFrame,
    groupings: &[Grouping],
    catalogue: &Catalogue,
    estimates: &[Estimate],
    available: &Available,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let aggregated: Vec<&Metric> = catalogue
        .metrics()
        .filter(|metric| metric.is_aggregate())
        .collect();
    let mut sums = vec![col(DAYS_IN_PERIOD).first()];
    for metric in &aggregated {
        for (side, expression) in sides(metric) {
            let value = scalar(expression, metric, available, context, true)?;
            sums.push(value.alias(part(&metric.id, side)));
        }
    }
    let key = || [col(PERIOD), col(DIMENSION), col(MEMBER)];
    let grouped = groupings.iter().map(|grouping| {
        accounts
            .clone()
            .with_columns([
                lit(grouping.dimension.as_str()).alias(DIMENSION),
                grouping.member.clone().cast(DataType::String).alias(MEMBER),
            ])
            .filter(col(MEMBER).is_not_null())
            .group_by(key())
            .agg(sums.clone())
    });
    let mut frame = concat(grouped.collect::<Vec<_>>(), UnionArgs::default())?;

    let mut references = References::of(catalogue);
    for metric in catalogue.metrics() {
        if let Some(estimator) = metric.estimator {
            frame = with_estimate(frame, metric, estimator, estimates);
            frame = references.joined(frame, &metric.id, context);
            continue;
        }
        if let Some(periods) = metric.trailing {
            frame = pooled(frame, metric, periods, context);
        }
        if !metric.is_aggregate() {
            for (side, expression) in sides(metric) {
                let value = scalar(expression, metric, available, context, false)?;
                frame = frame.with_column(value.alias(part(&metric.id, side)));
            }
        }
        frame = frame.with_column(ratio(metric).alias(&metric.id));
        frame = references.joined(frame, &metric.id, context);
    }
    Ok(frame)
}

/// Joins what a routine made; null where it made nothing.
fn with_estimate(
    frame: LazyFrame,
    metric: &Metric,
    estimator: Estimator,
    estimates: &[Estimate],
) -> LazyFrame {
    let key = || [col(PERIOD), col(DIMENSION), col(MEMBER)];
    let nothing = lit(NULL).cast(DataType::Float64);
    let frame = frame.with_column(nothing.clone().alias(part(&metric.id, "numerator")));
    match estimates.iter().find(|estimate| estimate.by == estimator) {
        None => frame.with_columns([
            nothing.alias(&metric.id),
            lit(NULL)
                .cast(DataType::Int64)
                .alias(part(&metric.id, "sample")),
        ]),
        Some(estimate) => {
            let own = [
                col("value").alias(&metric.id),
                col("sample_size")
                    .cast(DataType::Int64)
                    .alias(part(&metric.id, "sample")),
            ];
            let rows = estimate.rows.clone().select([&key()[..], &own].concat());
            frame.join(rows, key(), key(), JoinArgs::new(JoinType::Left))
        }
    }
}

/// The groups that a metric is published for.
pub fn is_told(metric: &Metric) -> Expr {
    let Some(dimensions) = &metric.dimensions else {
        return lit(true);
    };
    let named = dimensions
        .iter()
        .map(|name| col(DIMENSION).eq(lit(name.as_str())));
    named.fold(col(DIMENSION).eq(lit(TOTAL)), Expr::or)
}

pub(crate) fn sides(metric: &Metric) -> impl Iterator<Item = (&'static str, &SqlExpr)> {
    std::iter::once(("numerator", &metric.numerator))
        .chain(metric.denominator.iter().map(|side| ("denominator", side)))
}

/// An expression as a float; null where the metric's inputs are missing. Sums of money are exact until here.
pub(crate) fn scalar(
    expression: &SqlExpr,
    metric: &Metric,
    available: &Available,
    context: Context,
    in_group: bool,
) -> PolarsResult<Expr> {
    if !metric.needs.iter().all(|need| available.has(need)) {
        return Ok(lit(NULL).cast(DataType::Float64));
    }
    let constants = |expr: Expr| {
        let Expr::Column(name) = &expr else {
            return expr;
        };
        match catalogue::constant(name, context.policy, context.calendar) {
            Some(value) if value.fract() == 0.0 => lit(value as i64),
            Some(value) => lit(value),
            None if in_group && name.as_str() == DAYS_IN_PERIOD => col(DAYS_IN_PERIOD).first(),
            None => expr,
        }
    };
    let value = expression
        .to_polars()?
        .map_expr(constants)
        .map_expr(null_of_nulls)
        .cast(DataType::Float64);
    // A zero that an expression divides by gives null, never infinity.
    Ok(when(value.clone().is_finite())
        .then(value)
        .otherwise(lit(NULL)))
}

/// As in SQL, the sum of nothing but nulls is null: an input that is not there is not 0.
fn null_of_nulls(node: Expr) -> Expr {
    let Expr::Agg(AggExpr::Sum(summed)) = &node else {
        return node;
    };
    let reads_optional = |expr: &Expr| match expr {
        Expr::Column(name) => {
            let column = contract::of("account_period").column(name);
            column.is_some_and(|column| !column.required)
        }
        _ => false,
    };
    if !summed.as_ref().into_iter().any(reads_optional) {
        return node;
    }
    let is_there = summed.as_ref().clone().count().gt(lit(0));
    when(is_there).then(node).otherwise(lit(NULL))
}

/// Numerator over denominator; null where the denominator is zero or missing.
pub(super) fn ratio(metric: &Metric) -> Expr {
    let numerator = col(part(&metric.id, "numerator"));
    if metric.denominator.is_none() {
        return numerator;
    }
    let denominator = col(part(&metric.id, "denominator"));
    when(denominator.clone().neq(lit(0.0)))
        .then(quotient(numerator, denominator))
        .otherwise(lit(NULL))
}

/// Replaces a metric's parts by their sums over the trailing periods, each period with its own members.
fn pooled(frame: LazyFrame, metric: &Metric, periods: u32, context: Context) -> LazyFrame {
    let key = || [col(PERIOD), col(DIMENSION), col(MEMBER)];
    let names: Vec<String> = sides(metric)
        .map(|(side, _)| part(&metric.id, side))
        .collect();
    let sums: Vec<Expr> = names.iter().map(|name| col(name.as_str()).sum()).collect();
    let own: Vec<Expr> = names.iter().map(|name| col(name.as_str())).collect();
    let parts = frame.clone().select(
        [
            vec![col(PERIOD).alias("__since"), col(DIMENSION), col(MEMBER)],
            own,
        ]
        .concat(),
    );
    let last = col("__since") + lit(periods as i32 - 1);
    let trailing = each_period(parts, col("__since"), last, context.range)
        .group_by(key())
        .agg(sums);
    let rest = frame.drop(by_name(names, true, false));
    rest.join(trailing, key(), key(), JoinArgs::new(JoinType::Left))
}
