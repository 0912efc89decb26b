//! The numbers behind a published value, read from what is published.

use super::collected;
use crate::columns::*;
use crate::config::Pipeline;
use crate::contract;
use crate::facts::Context;
use crate::metrics::aggregate::{Available, scalar, sides};
use crate::metrics::catalogue::{Catalogue, DAYS_IN_PERIOD, Metric};
use crate::period::Period;
use crate::publish::manifest::{self, Manifests};
use crate::publish::{self, PublishError};
use crate::sql::{Elsewhere, Reference};
use crate::storage::Store;
use chrono::NaiveDate;
use polars::prelude::*;
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How many accounts are named.
const NAMED: usize = 10;
/// How far two sums of the same numbers may lie apart.
const TOLERANCE: f64 = 1e-9;

/// What lies under a root.
pub struct Published {
    store: Arc<dyn Store>,
    manifests: Manifests,
}

/// A group of accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub dimension: String,
    pub member: String,
}

/// A value, and what it is made of.
#[derive(Debug, Serialize)]
pub struct Numbers {
    /// As published; none for a metric that is hidden, or told of one thing at a time.
    pub value: Option<Value>,
    /// Of a metric that is told of one thing at a time.
    pub items: Vec<Value>,
    /// What the formula refers to, of the same group and period.
    pub refers_to: Vec<Value>,
    /// Over the accounts of the group; none if `account_period` is not published.
    pub accounts: Option<Accounts>,
}

/// A row of `kpi_values` or `kpi_breakdown`.
#[derive(Debug, Serialize)]
pub struct Value {
    pub metric: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
    pub value: Option<f64>,
    pub numerator: Option<f64>,
    pub denominator: Option<f64>,
    pub lower: Option<f64>,
    pub upper: Option<f64>,
    pub sample_size: Option<i64>,
    pub is_small_sample: Option<bool>,
    pub is_mature: Option<bool>,
    pub is_complete: Option<bool>,
    pub is_restated: Option<bool>,
}

/// What the rows of `account_period` say.
#[derive(Debug, Serialize)]
pub struct Accounts {
    pub rows: usize,
    pub sums: Vec<Sum>,
    /// Columns that the file does not have: it was written by another version.
    pub missing: Vec<String>,
    /// The metric's sides computed from these rows; none for a formula over metrics.
    pub computed: Option<Computed>,
    /// The accounts that count most.
    pub largest: Vec<Account>,
}

#[derive(Debug, Serialize)]
pub struct Sum {
    pub column: String,
    /// Null where no account has a value.
    pub sum: Option<f64>,
}

#[derive(Debug, Serialize)]
pub struct Computed {
    pub numerator: Option<f64>,
    pub denominator: Option<f64>,
    /// Whether that is what was published; unknown where the value pools several periods.
    pub reproduces: Option<bool>,
}

#[derive(Debug, Serialize)]
pub struct Account {
    pub account_id: String,
    pub account_name: Option<String>,
    pub numerator: Option<f64>,
    pub denominator: Option<f64>,
}

/// Why there are no numbers.
#[derive(Debug, thiserror::Error)]
pub enum NumbersError {
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error("{path} cannot be read as a published table")]
    Unreadable { path: String, source: PolarsError },
}

impl Published {
    pub fn at(store: Arc<dyn Store>) -> Result<Self, NumbersError> {
        let manifests = manifest::read_all(store.as_ref()).map_err(PublishError::from)?;
        Ok(Self { store, manifests })
    }

    /// First days of the periods of which a table is published, in order.
    pub fn periods(&self, table: &str) -> Vec<NaiveDate> {
        let has = |manifest: &manifest::Manifest| manifest.units.contains_key(table);
        let all = self.manifests.iter();
        all.filter(|(_, (manifest, _))| has(manifest))
            .map(|(start, _)| *start)
            .collect()
    }

    /// The groups that a table tells of in a period, in order.
    pub fn groups(&self, table: &str, period: &Period) -> Result<Vec<Group>, NumbersError> {
        let Some(rows) = self.rows(table, period)? else {
            return Ok(Vec::new());
        };
        let found = || -> PolarsResult<Vec<Group>> {
            let mut groups = Vec::new();
            let (dimensions, members) = (texts(&rows, DIMENSION)?, texts(&rows, MEMBER)?);
            for (dimension, member) in dimensions.iter().zip(members.iter()) {
                let group = Group {
                    dimension: dimension.unwrap_or_default().to_owned(),
                    member: member.unwrap_or_default().to_owned(),
                };
                if groups.last() != Some(&group) {
                    groups.push(group);
                }
            }
            groups.sort_by(|one, other| {
                (&one.dimension, &one.member).cmp(&(&other.dimension, &other.member))
            });
            groups.dedup();
            Ok(groups)
        };
        found().map_err(|source| self.unreadable(table, period, source))
    }

    /// The numbers behind a metric's value for a group; `columns` are those of `account_period` that it reads.
    pub fn numbers(
        &self,
        metric: &Metric,
        columns: &[String],
        group: &Group,
        period: &Period,
        pipeline: &Pipeline,
        catalogue: &Catalogue,
    ) -> Result<Numbers, NumbersError> {
        let values = self.values("kpi_values", group, period)?;
        let items = match metric.by {
            Some(_) => self.values("kpi_breakdown", group, period)?,
            None => Vec::new(),
        };
        let is_own = |value: &Value| value.metric == metric.id;
        let (own, others): (Vec<_>, Vec<_>) = values.into_iter().partition(is_own);
        let value = own.into_iter().next();
        let all = catalogue.with_referred(metric);
        let is_referred = |value: &Value| {
            let mut below = all.iter().skip(1);
            below.any(|(_, metric)| metric.id == value.metric)
        };
        let mut refers_to: Vec<Value> = others.into_iter().filter(is_referred).collect();
        let references: BTreeSet<&Reference> = all
            .iter()
            .flat_map(|(_, metric)| metric.references())
            .collect();
        for reference in references {
            refers_to.extend(self.elsewhere(reference, group, period, pipeline)?);
        }
        let about = About {
            metric,
            columns,
            group,
            period,
            pipeline,
        };
        let accounts = match self.rows("account_period", period)? {
            None => None,
            Some(rows) => Some(
                accounts(rows, &about, value.as_ref())
                    .map_err(|source| self.unreadable("account_period", period, source))?,
            ),
        };
        Ok(Numbers {
            value,
            items: items.into_iter().filter(is_own).collect(),
            refers_to,
            accounts,
        })
    }

    /// What a reference reads: under its own name, `previous(mrr)`.
    fn elsewhere(
        &self,
        reference: &Reference,
        group: &Group,
        period: &Period,
        pipeline: &Pipeline,
    ) -> Result<Option<Value>, NumbersError> {
        let calendar = &pipeline.calendar;
        let back = reference.to.periods_back(calendar.grain.periods_per_year());
        let then = calendar.period(period.index - back);
        if then.start < calendar.begin {
            return Ok(None);
        }
        let total = Group {
            dimension: TOTAL.to_owned(),
            member: TOTAL.to_owned(),
        };
        let group = match reference.to {
            Elsewhere::Total => &total,
            Elsewhere::Previous | Elsewhere::YearAgo => group,
        };
        let values = self.values("kpi_values", group, &then)?;
        let found = values
            .into_iter()
            .find(|value| value.metric == reference.name);
        Ok(found.map(|value| Value {
            metric: reference.column(),
            ..value
        }))
    }

    fn rows(&self, table: &str, period: &Period) -> Result<Option<DataFrame>, NumbersError> {
        let key = publish::key(table, period.start);
        Ok(publish::encode::published(self.store.as_ref(), &key)?)
    }

    fn values(
        &self,
        table: &str,
        group: &Group,
        period: &Period,
    ) -> Result<Vec<Value>, NumbersError> {
        let Some(rows) = self.rows(table, period)? else {
            return Ok(Vec::new());
        };
        let of_group = col(DIMENSION)
            .eq(lit(group.dimension.as_str()))
            .and(col(MEMBER).eq(lit(group.member.as_str())));
        collected(rows.lazy().filter(of_group))
            .and_then(|rows| values(&rows))
            .map_err(|source| self.unreadable(table, period, source))
    }

    fn unreadable(&self, table: &str, period: &Period, source: PolarsError) -> NumbersError {
        NumbersError::Unreadable {
            path: self.store.shown(&publish::key(table, period.start)),
            source,
        }
    }
}

/// What the accounts of a group are asked.
struct About<'a> {
    metric: &'a Metric,
    columns: &'a [String],
    group: &'a Group,
    period: &'a Period,
    pipeline: &'a Pipeline,
}

fn texts<'a>(frame: &'a DataFrame, name: &str) -> PolarsResult<&'a StringChunked> {
    frame.column(name)?.str()
}

/// The rows as values. Files of earlier versions have fewer columns.
fn values(rows: &DataFrame) -> PolarsResult<Vec<Value>> {
    let float = |name: &str, row| number(rows, name, row);
    let flag =
        |name: &str, row: usize| -> Option<bool> { rows.column(name).ok()?.bool().ok()?.get(row) };
    let count =
        |name: &str, row: usize| -> Option<i64> { rows.column(name).ok()?.i64().ok()?.get(row) };
    let metrics = texts(rows, "metric")?;
    let items = rows.column("item").ok().and_then(|items| items.str().ok());
    let value = |row: usize| Value {
        metric: metrics.get(row).unwrap_or_default().to_owned(),
        item: items.and_then(|items| items.get(row)).map(str::to_owned),
        value: float("value", row),
        numerator: float("numerator", row),
        denominator: float("denominator", row),
        lower: float("lower", row),
        upper: float("upper", row),
        sample_size: count("sample_size", row),
        is_small_sample: flag("is_small_sample", row),
        is_mature: flag("is_mature", row),
        is_complete: flag("is_complete", row),
        is_restated: flag("is_restated", row),
    };
    Ok((0..rows.height()).map(value).collect())
}

fn number(rows: &DataFrame, name: &str, row: usize) -> Option<f64> {
    rows.column(name).ok()?.f64().ok()?.get(row)
}

/// The columns of the published `account_period` that make a row's member; none for the total.
fn member_columns(dimension: &str, pipeline: &Pipeline) -> Vec<String> {
    let mut cohorts = pipeline.cohorts.iter();
    match cohorts.find(|cohort| cohort.name == dimension) {
        _ if dimension == TOTAL => Vec::new(),
        Some(cohort) => cohort.by.clone(),
        None => vec![dimension.to_owned()],
    }
}

fn accounts(rows: DataFrame, about: &About, published: Option<&Value>) -> PolarsResult<Accounts> {
    let days = (about.period.end - about.period.start).num_days();
    let is_missing = |name: &&String| rows.column(name).is_err();
    let keys = member_columns(&about.group.dimension, about.pipeline);
    let unknown: Vec<String> = keys.iter().filter(is_missing).cloned().collect();
    if !unknown.is_empty() {
        return Ok(Accounts {
            rows: 0,
            sums: Vec::new(),
            missing: unknown,
            computed: None,
            largest: Vec::new(),
        });
    }
    let keys: Vec<Expr> = keys
        .iter()
        .map(|name| col(name).cast(DataType::String))
        .collect();
    let of_group = match keys.is_empty() {
        true => lit(true),
        false => concat_str(keys, " | ", false)
            .eq(lit(about.group.member.as_str()))
            .fill_null(lit(false)),
    };
    let rows = collected(
        rows.lazy()
            .filter(of_group)
            .with_column(lit(days).alias(DAYS_IN_PERIOD)),
    )?;
    let is_there = |name: &&String| rows.column(name).is_ok();
    // What only a breakdown knows is no column of the model.
    let model = contract::of("account_period");
    let of_model = |name: &&String| model.column(name).is_some();
    let (there, missing): (Vec<&String>, Vec<&String>) =
        about.columns.iter().filter(of_model).partition(is_there);
    let sums = there.into_iter().filter(|name| is_number(&rows, name));
    let sums = sums
        .map(|name| sum(&rows, name))
        .collect::<PolarsResult<_>>()?;
    let is_computable =
        missing.is_empty() && about.metric.is_aggregate() && about.metric.by.is_none();
    let (computed, largest) = match is_computable {
        true => (
            Some(computed(&rows, about, published)?),
            largest(&rows, about)?,
        ),
        false => (None, Vec::new()),
    };
    Ok(Accounts {
        rows: rows.height(),
        sums,
        missing: missing.into_iter().cloned().collect(),
        computed,
        largest,
    })
}

fn is_number(rows: &DataFrame, name: &str) -> bool {
    rows.column(name)
        .is_ok_and(|column| column.dtype().is_numeric())
}

fn sum(rows: &DataFrame, name: &str) -> PolarsResult<Sum> {
    let has_any = col(name).count().gt(lit(0));
    let sum = when(has_any).then(col(name).sum()).otherwise(lit(NULL));
    let sum = collected(
        rows.clone()
            .lazy()
            .select([sum.cast(DataType::Float64).alias("sum")]),
    )?;
    Ok(Sum {
        column: name.to_owned(),
        sum: number(&sum, "sum", 0),
    })
}

/// The metric's sides as expressions over rows of the model.
fn side_values(about: &About) -> PolarsResult<Vec<Expr>> {
    let pipeline = about.pipeline;
    let context = Context {
        calendar: &pipeline.calendar,
        currency: &pipeline.currency,
        policy: &pipeline.policy,
        range: crate::period::PeriodRange {
            first: about.period.index,
            last: about.period.index,
        },
    };
    // Whether events name features is not looked up here: a metric that was null has no sums to show.
    let mapped = pipeline.sources.keys().copied().collect();
    let available = Available::of(mapped, true, &pipeline.policy);
    sides(about.metric)
        .map(|(side, sql)| Ok(scalar(sql, about.metric, &available, context, true)?.alias(side)))
        .collect()
}

fn computed(rows: &DataFrame, about: &About, published: Option<&Value>) -> PolarsResult<Computed> {
    let key = lit(true).alias("__group");
    let sides = collected(rows.clone().lazy().group_by([key]).agg(side_values(about)?))?;
    let (numerator, denominator) = (
        number(&sides, "numerator", 0),
        number(&sides, "denominator", 0),
    );
    let is_same = |one: Option<f64>, other: Option<f64>| match (one, other) {
        (Some(one), Some(other)) => (one - other).abs() <= TOLERANCE * one.abs().max(other.abs()),
        (one, other) => one.is_none() && other.is_none(),
    };
    let reproduces = published.filter(|_| about.metric.trailing.is_none());
    let reproduces = reproduces.map(|published| {
        is_same(numerator, published.numerator) && is_same(denominator, published.denominator)
    });
    Ok(Computed {
        numerator,
        denominator,
        reproduces,
    })
}

/// The accounts with the largest numerators, then denominators, whatever their sign; none that has neither.
fn largest(rows: &DataFrame, about: &About) -> PolarsResult<Vec<Account>> {
    let name = match rows.column("account_name") {
        Ok(_) => col("account_name").first().cast(DataType::String),
        Err(_) => lit(NULL).cast(DataType::String).first(),
    };
    let sides = side_values(about)?;
    let has_denominator = about.metric.denominator.is_some();
    let size = |side: &str| col(side).abs().fill_null(lit(0.0));
    let mut order = vec![size("numerator")];
    if has_denominator {
        order.push(size("denominator"));
    }
    let counts = order.iter().cloned().map(|size| size.gt(lit(0.0)));
    let counts = counts.reduce(Expr::or).unwrap_or(lit(true));
    let mut descending = vec![true; order.len()];
    order.push(col(ACCOUNT_ID));
    descending.push(false);
    let options = SortMultipleOptions::default().with_order_descending_multi(descending);
    let found = collected(
        rows.clone()
            .lazy()
            .group_by([col(ACCOUNT_ID)])
            .agg([vec![name.alias("account_name")], sides].concat())
            .filter(counts)
            .sort_by_exprs(order, options)
            .limit(NAMED as IdxSize),
    )?;
    let (ids, names) = (texts(&found, ACCOUNT_ID)?, texts(&found, "account_name")?);
    let account = |row: usize| Account {
        account_id: ids.get(row).unwrap_or_default().to_owned(),
        account_name: names.get(row).map(str::to_owned),
        numerator: number(&found, "numerator", row),
        denominator: number(&found, "denominator", row),
    };
    Ok((0..found.height()).map(account).collect())
}
