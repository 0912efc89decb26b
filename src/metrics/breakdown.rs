//! Metrics of one thing at a time: satisfaction by item, adoption by feature, hours by phase (docs/definitions.md § 5).

use super::aggregate::{Aggregates, Available, Grouping, is_told, part, ratio, scalar, sides};
use super::catalogue::{CONSTANTS, Catalogue, DAYS_IN_PERIOD, Metric};
use super::interval;
use crate::account_period::Details;
use crate::columns::*;
use crate::config::Breakdown;
use crate::facts::Context;
use crate::sql::Reference;
use polars::prelude::*;
use std::collections::BTreeSet;

/// What has no item, feature or phase.
pub const NONE: &str = "(none)";

/// One row per period, dimension, member, metric and item: `value`, `numerator`, `denominator`, and how sure it is.
///
/// `evaluated` is the catalogue's evaluation for the same groupings, of which a metric may be a share.
pub fn breakdown(
    accounts: LazyFrame,
    details: &Details,
    groupings: &[Grouping],
    evaluated: LazyFrame,
    catalogue: &Catalogue,
    available: &Available,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let mut all = vec![no_rows()];
    for by in [Breakdown::SurveyItem, Breakdown::Feature, Breakdown::Phase] {
        let metrics: Vec<&Metric> = catalogue
            .broken_down()
            .filter(|metric| metric.by == Some(by))
            .collect();
        let Some(rows) = things(details, by).filter(|_| !metrics.is_empty()) else {
            continue;
        };
        let grouped = grouped(rows, &accounts, groupings, &metrics, available, context)?;
        for metric in metrics {
            let of_group = |needed: &Metric| grouped_with(&grouped, &evaluated, needed);
            all.push(told(of_group(metric), metric, available, context)?);
        }
    }
    concat(all, UnionArgs::default())
}

/// Rows of period, account and `item`, with the columns that metrics of that kind may sum up.
fn things(details: &Details, by: Breakdown) -> Option<LazyFrame> {
    let (rows, item) = match by {
        Breakdown::SurveyItem => (&details.survey_items, "item"),
        Breakdown::Feature => (&details.features, "feature"),
        Breakdown::Phase => (&details.phases, "phase"),
    };
    let item = col(item).fill_null(lit(NONE)).alias("item");
    Some(rows.clone()?.with_column(item))
}

/// The aggregated sides of the metrics, for every grouping.
fn grouped(
    things: LazyFrame,
    accounts: &LazyFrame,
    groupings: &[Grouping],
    metrics: &[&Metric],
    available: &Available,
    context: Context,
) -> PolarsResult<LazyFrame> {
    // A feature is adopted by customers.
    let customers = [col(CLOSING_CUSTOMERS).alias("feature_customers")];
    let key = [PERIOD, DIMENSION, MEMBER, "item"].map(col);
    let mut aggregates = Aggregates::default();
    let mut told = key.to_vec();
    for metric in metrics {
        for (side, sql) in sides(metric).filter(|(_, sql)| sql.has_aggregate()) {
            let value = scalar(sql, metric, available, context, true)?;
            told.push(aggregates.out_of(value).alias(part(&metric.id, side)));
        }
    }
    let groups = in_groups(things, accounts, groupings, &customers).map(|rows| {
        rows.group_by(key.clone())
            .agg(aggregates.columns())
            .select(told.clone())
    });
    concat(groups.collect::<Vec<_>>(), UnionArgs::default())
}

/// Rows of period and account, once per grouping, with `dimension` and `member`; and with `more` columns of the account.
pub fn in_groups(
    rows: LazyFrame,
    accounts: &LazyFrame,
    groupings: &[Grouping],
    more: &[Expr],
) -> impl Iterator<Item = LazyFrame> {
    let key = || [col(PERIOD), col(ACCOUNT_ID)];
    let members = groupings.iter().map(|grouping| {
        let member = grouping.member.clone().cast(DataType::String);
        member.alias(member_of(&grouping.dimension))
    });
    let own = [PERIOD, ACCOUNT_ID].map(col).into_iter();
    let selected: Vec<Expr> = own.chain(more.iter().cloned()).chain(members).collect();
    let accounts = accounts.clone().select(selected);
    let rows = rows.join(accounts, key(), key(), JoinArgs::new(JoinType::Inner));
    groupings.iter().map(move |grouping| {
        let member = col(member_of(&grouping.dimension)).alias(MEMBER);
        let dimension = lit(grouping.dimension.as_str()).alias(DIMENSION);
        rows.clone()
            .with_columns([dimension, member])
            .filter(col(MEMBER).is_not_null())
    })
}

fn member_of(dimension: &str) -> String {
    format!("member:{dimension}")
}

/// The groups with the values of the other metrics that one refers to.
fn grouped_with(grouped: &LazyFrame, evaluated: &LazyFrame, metric: &Metric) -> LazyFrame {
    let formulas = sides(metric).filter(|(_, sql)| !sql.has_aggregate());
    let mut names = BTreeSet::new();
    for (_, sql) in formulas {
        let is_fixed =
            |name: &&String| CONSTANTS.contains(&name.as_str()) && name.as_str() != DAYS_IN_PERIOD;
        names.extend(sql.columns().iter().filter(|name| !is_fixed(name)).cloned());
        // Evaluation has joined them on already.
        names.extend(sql.references().iter().map(Reference::column));
    }
    if names.is_empty() {
        return grouped.clone();
    }
    let names: Vec<Expr> = names.into_iter().map(col).collect();
    let key = || [col(PERIOD), col(DIMENSION), col(MEMBER)];
    let values = evaluated.clone().select([key().to_vec(), names].concat());
    let left = JoinArgs::new(JoinType::Left);
    grouped.clone().join(values, key(), key(), left)
}

/// One metric's rows.
fn told(
    mut groups: LazyFrame,
    metric: &Metric,
    available: &Available,
    context: Context,
) -> PolarsResult<LazyFrame> {
    for (side, sql) in sides(metric).filter(|(_, sql)| !sql.has_aggregate()) {
        let value = scalar(sql, metric, available, context, false)?;
        groups = groups.with_column(value.alias(part(&metric.id, side)));
    }
    let denominator = match metric.denominator {
        Some(_) => col(part(&metric.id, "denominator")),
        None => lit(NULL).cast(DataType::Float64),
    };
    let groups = groups.with_column(ratio(metric).alias(&metric.id));
    let nothing = lit(NULL).cast(DataType::Float64);
    let [lower, upper] = interval::bounds(metric).unwrap_or([nothing.clone(), nothing]);
    Ok(groups.filter(is_told(metric)).select([
        col(PERIOD),
        col(DIMENSION),
        col(MEMBER),
        lit(metric.id.as_str()).alias("metric"),
        col("item"),
        col(metric.id.as_str()).alias("value"),
        col(part(&metric.id, "numerator")).alias("numerator"),
        denominator.alias("denominator"),
        lit(crate::marts::unit_name(metric.unit)).alias("unit"),
        lower.alias("lower"),
        upper.alias("upper"),
        interval::sample_size(metric).alias("sample_size"),
    ]))
}

fn no_rows() -> LazyFrame {
    let texts = [DIMENSION, MEMBER, "metric", "item"];
    let numbers = ["value", "numerator", "denominator"];
    let fields = std::iter::once((PERIOD, DataType::Int32))
        .chain(texts.map(|name| (name, DataType::String)))
        .chain(numbers.map(|name| (name, DataType::Float64)))
        .chain([("unit", DataType::String)])
        .chain(["lower", "upper"].map(|name| (name, DataType::Float64)))
        .chain([("sample_size", DataType::Int64)]);
    let fields = fields.map(|(name, dtype)| Field::new(name.into(), dtype));
    DataFrame::empty_with_schema(&Schema::from_iter(fields)).lazy()
}

/// Time by account and phase, and whether an account gets more of it than it pays for: `hours`, `hours_share`, `mrr_share`,
/// `imbalance`.
pub fn time_spent(details: &Details, accounts: LazyFrame) -> PolarsResult<LazyFrame> {
    let Some(phases) = details.phases.clone() else {
        return Ok(no_time());
    };
    let share = |value: &str| -> PolarsResult<Expr> {
        let own = col(value).cast(DataType::Float64);
        let all = col(value)
            .sum()
            .over([col(PERIOD)])?
            .cast(DataType::Float64);
        Ok(when(all.clone().gt(lit(0.0)))
            .then(crate::sql::quotient(own, all))
            .otherwise(lit(NULL)))
    };
    let shares = accounts
        .select([
            col(PERIOD),
            col(ACCOUNT_ID),
            col("cs_seconds"),
            col(CLOSING_MRR),
        ])
        .with_columns([
            share("cs_seconds")?.alias("hours_share"),
            share(CLOSING_MRR)?.alias("mrr_share"),
        ])
        .drop(by_name(["cs_seconds", CLOSING_MRR], true, false));
    let imbalance = when(col("mrr_share").gt(lit(0.0)))
        .then(crate::sql::quotient(col("hours_share"), col("mrr_share")))
        .otherwise(lit(NULL));
    let key = || [col(PERIOD), col(ACCOUNT_ID)];
    Ok(phases
        .filter(col("cs_seconds").gt(lit(0i64)))
        .join(shares, key(), key(), JoinArgs::new(JoinType::Inner))
        .with_columns([
            col("phase").fill_null(lit(NONE)),
            crate::sql::quotient(col("cs_seconds").cast(DataType::Float64), lit(3_600.0))
                .alias("hours"),
            imbalance.alias("imbalance"),
        ]))
}

fn no_time() -> LazyFrame {
    let texts = [ACCOUNT_ID, "phase"].map(|name| (name, DataType::String));
    let numbers = ["hours", "hours_share", "mrr_share", "imbalance"];
    let fields = std::iter::once((PERIOD, DataType::Int32))
        .chain(texts)
        .chain(numbers.map(|name| (name, DataType::Float64)))
        .map(|(name, dtype)| Field::new(name.into(), dtype));
    DataFrame::empty_with_schema(&Schema::from_iter(fields)).lazy()
}
