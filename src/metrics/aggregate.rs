//! Evaluates the catalogue: account × period → period × dimension × member × metric.

use super::catalogue::{self, Catalogue, DAYS_IN_PERIOD, Metric};
use super::references::References;
use super::trailing::pooled;
use crate::columns::*;
use crate::config::{Estimator, Policy};
use crate::facts::Context;
use crate::sql::{SqlExpr, quotient};
use polars::prelude::*;
use std::collections::BTreeSet;

/// A way to group accounts: name, and the expression of the member, a text or a date. Rows are grouped by it as it is, and only
/// groups get its text: dates are dear to write. Accounts whose member is null are left out.
#[derive(Clone)]
pub struct Grouping {
    pub dimension: String,
    pub member: Expr,
}

/// What there is for metrics that need it: input tables, and the names of [`crate::config::FURTHER_NEEDS`].
#[derive(Debug, Clone, Default)]
pub struct Available(pub BTreeSet<&'static str>);

impl Available {
    /// What `tables`, and, where events name them, features, tell of. A rule over usage tells of onboarding, too.
    pub fn of(mut tables: BTreeSet<&'static str>, has_features: bool, policy: &Policy) -> Self {
        if tables.contains("onboarding") {
            tables.insert("member_onboarding");
        }
        if policy.onboarding_rule.is_some() {
            tables.insert("onboarding");
        }
        let of_usage = ["usage_events", "usage_sessions", "usage_daily"];
        if of_usage.iter().any(|table| tables.contains(table)) {
            tables.insert("usage");
        }
        if has_features {
            tables.insert("features");
        }
        Self(tables)
    }

    pub fn has(&self, need: &str) -> bool {
        self.0.contains(need)
    }

    /// Whether a metric can be computed.
    pub fn has_all(&self, metric: &Metric) -> bool {
        metric.needs.iter().all(|need| self.has(need))
    }
}

/// What a routine makes in place of SQL: rows of `period_index`, `dimension`, `member`, `value` and `sample_size`.
#[derive(Clone)]
pub struct Estimate {
    pub by: Estimator,
    pub rows: LazyFrame,
}

/// Number of a draw of the bootstrap.
pub(super) const DRAW: &str = "draw";

/// Name of the column that holds a metric's numerator (or another of its [`sides`]) in [`evaluated`].
pub fn part(id: &str, side: &str) -> String {
    format!("{id}:{side}")
}

/// One row per period, dimension and member: `days_in_period`, and the sides that are made from the rows of a group.
pub fn sums(
    accounts: &LazyFrame,
    groupings: &[Grouping],
    catalogue: &Catalogue,
    available: &Available,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let mut aggregates = Aggregates::default();
    let days = aggregates.out_of(col(DAYS_IN_PERIOD).first());
    let mut told = vec![days.alias(DAYS_IN_PERIOD)];
    for metric in catalogue.metrics() {
        for (side, expression) in sides(metric).filter(|(_, sql)| is_of_group(metric, sql)) {
            let value = scalar(expression, metric, available, context, true)?;
            told.push(aggregates.out_of(value).alias(part(&metric.id, side)));
        }
    }
    let grouped = groupings.iter().map(|grouping| {
        let key = [
            col(PERIOD),
            col(MEMBER).cast(DataType::String),
            lit(grouping.dimension.as_str()).alias(DIMENSION),
        ];
        // Rows without a member are left out once they are one: a copy of the accounts for each grouping would be dear.
        accounts
            .clone()
            .group_by([col(PERIOD), grouping.member.clone().alias(MEMBER)])
            .agg(aggregates.columns())
            .filter(col(MEMBER).is_not_null())
            .select([&key[..], &told].concat())
    });
    concat(grouped.collect::<Vec<_>>(), UnionArgs::default())
}

/// Begins the names of columns of [`Aggregates`].
const AGGREGATE: &str = "__aggregate_";

/// What is aggregated of a group: each thing once, however many sides and metrics read it.
#[derive(Default)]
pub(super) struct Aggregates(Vec<Expr>);

impl Aggregates {
    /// The expression with columns of the groups in place of its aggregates.
    pub fn out_of(&mut self, expression: Expr) -> Expr {
        let of_groups = expression.clone().map_expr(|node| match node {
            Expr::Agg(_) | Expr::Len => {
                // What is inside was taken out before.
                let node = node.map_expr(|inner| self.known(&inner).cloned().unwrap_or(inner));
                self.column(without_input(node))
            }
            node => node,
        });
        let mut read = of_groups.clone().meta().root_names().into_iter();
        match read.all(|name| name.starts_with(AGGREGATE)) {
            true => of_groups,
            // Something else aggregates here.
            false => self.column(expression),
        }
    }

    fn column(&mut self, aggregate: Expr) -> Expr {
        let known = self.0.iter().position(|known| *known == aggregate);
        let number = known.unwrap_or(self.0.len());
        if known.is_none() {
            self.0.push(aggregate);
        }
        col(Self::name(number))
    }

    /// What is to be aggregated.
    pub fn columns(&self) -> Vec<Expr> {
        let own = self.0.iter().enumerate();
        own.map(|(number, value)| value.clone().alias(Self::name(number)))
            .collect()
    }

    fn known(&self, column: &Expr) -> Option<&Expr> {
        let mut numbers = 0..self.0.len();
        let number = numbers.find(|number| *column == col(Self::name(*number)))?;
        self.0.get(number)
    }

    fn name(number: usize) -> String {
        format!("{AGGREGATE}{number}")
    }
}

/// How many rows a column has is how many the group has.
fn without_input(aggregate: Expr) -> Expr {
    match &aggregate {
        Expr::Agg(AggExpr::Count {
            input,
            include_nulls: true,
        }) if matches!(**input, Expr::Column(_)) => len(),
        _ => aggregate,
    }
}

/// One row per period, dimension and member of `sums`; of each metric its value under its id, and its sides. Metrics that look
/// back need the sums of the periods that they look at.
pub fn evaluated(
    sums: LazyFrame,
    catalogue: &Catalogue,
    estimates: &[Estimate],
    available: &Available,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let mut groups = sums;
    for metric in catalogue.metrics() {
        if let Some(estimator) = metric.estimator {
            groups = with_estimate(groups, metric, estimator, estimates);
        }
    }
    let groups = groups.sort([DIMENSION, MEMBER, PERIOD], SortMultipleOptions::default());
    let metrics: Vec<&Metric> = catalogue.metrics().collect();
    let references = References::of(catalogue.all());
    with_values(groups, &metrics, references, None, available, context)
}

/// Adds the values of the metrics to rows that have their aggregated sides.
///
/// The rows are in the order of dimension, member and period; with `samples`, there is one for each draw, column [`DRAW`].
pub(super) fn with_values(
    groups: LazyFrame,
    metrics: &[&Metric],
    mut references: References,
    samples: Option<usize>,
    available: &Available,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let draw = samples.map(|_| col(DRAW));
    let mut frame = pooled(groups, metrics, samples.unwrap_or(1));
    for metric in metrics {
        if metric.estimator.is_some() {
            frame = references.joined(frame, &metric.id, draw.as_ref(), context);
            continue;
        }
        for (side, expression) in sides(metric).filter(|(_, sql)| !is_of_group(metric, sql)) {
            let value = scalar(expression, metric, available, context, false)?;
            frame = frame.with_column(value.alias(part(&metric.id, side)));
        }
        frame = frame.with_column(ratio(metric).alias(&metric.id));
        frame = references.joined(frame, &metric.id, draw.as_ref(), context);
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
            // A group that has nothing to estimate from has a sample of none.
            let sample = part(&metric.id, "sample");
            frame
                .join(rows, key(), key(), JoinArgs::new(JoinType::Left))
                .with_column(col(sample).fill_null(lit(0i64)))
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

/// What a metric is made of, and what tells how sure one may be of it.
pub(crate) fn sides(metric: &Metric) -> impl Iterator<Item = (&'static str, &SqlExpr)> {
    let all = [
        ("numerator", Some(&metric.numerator)),
        ("denominator", metric.denominator.as_ref()),
        ("sample", metric.sample.as_ref()),
        ("squares", metric.squares.as_ref()),
        ("pending", metric.pending.as_ref()),
    ];
    all.into_iter()
        .filter_map(|(name, side)| side.map(|side| (name, side)))
}

/// Whether a side is made from the rows of a group, rather than from other metrics.
pub(super) fn is_of_group(metric: &Metric, side: &SqlExpr) -> bool {
    side.has_aggregate() || metric.is_aggregate()
}

/// An expression as a float; null where the metric's inputs are missing. Sums of money are exact until here.
pub(crate) fn scalar(
    expression: &SqlExpr,
    metric: &Metric,
    available: &Available,
    context: Context,
    in_group: bool,
) -> PolarsResult<Expr> {
    if !available.has_all(metric) {
        return Ok(lit(NULL).cast(DataType::Float64));
    }
    let days = match in_group {
        true => col(DAYS_IN_PERIOD).first(),
        false => col(DAYS_IN_PERIOD),
    };
    let value = with_constants(expression, days, context)?;
    Ok(finite(value))
}

/// An expression with the constants in place of their names.
pub(super) fn with_constants(
    expression: &SqlExpr,
    days_in_period: Expr,
    context: Context,
) -> PolarsResult<Expr> {
    let constants = |expr: Expr| {
        let Expr::Column(name) = &expr else {
            return expr;
        };
        match catalogue::constant(name, context.policy, context.calendar) {
            Some(value) if value.fract() == 0.0 => lit(value as i64),
            Some(value) => lit(value),
            None if name.as_str() == DAYS_IN_PERIOD => days_in_period.clone(),
            None => expr,
        }
    };
    Ok(expression.to_polars()?.map_expr(constants))
}

/// A zero that an expression divides by gives null, never infinity.
pub(super) fn finite(value: Expr) -> Expr {
    let value = value.cast(DataType::Float64);
    when(value.clone().is_finite())
        .then(value)
        .otherwise(lit(NULL))
}

/// A metric's numerator over its denominator.
pub(super) fn ratio(metric: &Metric) -> Expr {
    let side = |name: &str| col(part(&metric.id, name));
    let denominator = metric.denominator.as_ref().map(|_| side("denominator"));
    over(side("numerator"), denominator)
}

/// Numerator over denominator; null where the denominator is zero or missing.
pub(super) fn over(numerator: Expr, denominator: Option<Expr>) -> Expr {
    let Some(denominator) = denominator else {
        return numerator;
    };
    when(denominator.clone().neq(lit(0.0)))
        .then(quotient(numerator, denominator))
        .otherwise(lit(NULL))
}
