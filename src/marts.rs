//! The published tables: model → frames in the columns, order and types of their contracts.

mod movements;

use crate::columns::*;
use crate::config::{Currency, Pipeline, Policy};
use crate::contract;
use crate::metrics::aggregate::{Grouping, is_told, part};
use crate::metrics::catalogue::{Catalogue, Metric};
use crate::metrics::interval;
use crate::period::PeriodRange;
use crate::segments::dimension::member_column;
use polars::prelude::*;

pub use movements::{changes, closings, ledger, mrr_movements};

/// The groups that KPIs are told for: the total, every dimension, the cohorts.
pub fn groupings(pipeline: &Pipeline) -> Vec<Grouping> {
    let mut all = vec![Grouping {
        dimension: TOTAL.into(),
        member: lit(TOTAL),
    }];
    all.extend(pipeline.dimensions.iter().map(|dimension| Grouping {
        dimension: dimension.name.clone(),
        member: col(member_column(&dimension.name)),
    }));
    all.extend([COHORT_FIRST_PAID, COHORT_SIGNUP].map(|name| Grouping {
        dimension: name.into(),
        member: col(name),
    }));
    all.extend(pipeline.cohorts.iter().map(|cohort| {
        let members: Vec<Expr> = cohort
            .by
            .iter()
            .map(|name| col(member_column(name)))
            .collect();
        Grouping {
            dimension: cohort.name.clone(),
            member: concat_str(members, " | ", false),
        }
    }));
    all
}

/// What every table is conformed with.
#[derive(Clone, Copy)]
pub struct Shape<'a> {
    pub currency: &'a Currency,
    pub dimensions: &'a [String],
    pub metrics: &'a [String],
    /// Periods to publish.
    pub published: PeriodRange,
}

/// What the rows of a table are sorted by: the period, by which they are split into files, and its key.
pub fn order(table: &str) -> Vec<&'static str> {
    let key = contract::of(table).key.iter().map(String::as_str);
    std::iter::once(PERIOD).chain(key).collect()
}

/// Selects a table's columns in contract order and types. Keeps [`PERIOD`] in front.
pub fn conformed(frame: LazyFrame, periods: LazyFrame, table: &str, shape: Shape) -> LazyFrame {
    let contract = contract::of(table);
    let columns = contract.expanded(shape.dimensions, shape.metrics);
    let range = shape.published;
    let in_range = col(PERIOD).is_between(lit(range.first), lit(range.last), ClosedInterval::Both);
    let own = by_name(
        [PERIOD_START, PERIOD_END, IS_COMPLETE, "days_in_period"],
        false,
        false,
    );
    let typed = columns
        .iter()
        .map(|column| col(&column.name).cast(column.dtype(shape.currency)));
    frame
        .drop(own)
        .filter(in_range)
        .left_join(periods, col(PERIOD), col(PERIOD))
        .select(
            std::iter::once(col(PERIOD))
                .chain(typed)
                .collect::<Vec<_>>(),
        )
}

/// A table that has nothing to tell.
pub fn no_rows(table: &str, shape: Shape) -> LazyFrame {
    let columns = contract::of(table).expanded(shape.dimensions, shape.metrics);
    let fields = columns
        .iter()
        .map(|column| Field::new(column.name.as_str().into(), column.dtype(shape.currency)));
    let index = Field::new(PERIOD.into(), DataType::Int32);
    let schema: Schema = fields.chain([index]).collect();
    DataFrame::empty_with_schema(&schema).lazy()
}

/// Long form of the evaluated catalogue.
pub fn kpi_values(
    evaluated: LazyFrame,
    catalogue: &Catalogue,
    policy: &Policy,
) -> PolarsResult<LazyFrame> {
    let one = |metric: &Metric| {
        let id = metric.id.as_str();
        let side = |is_there: bool, side: &str| match is_there {
            true => col(part(id, side)),
            false => lit(NULL).cast(DataType::Float64),
        };
        let has_interval = metric.interval.is_some();
        let no_outcome_is_open = side(metric.pending.is_some(), "pending").eq(lit(0.0));
        evaluated.clone().filter(is_told(metric)).select([
            col(PERIOD),
            col(DIMENSION),
            col(MEMBER),
            lit(id).alias("metric"),
            col(id).alias("value"),
            side(true, "numerator").alias("numerator"),
            side(metric.denominator.is_some(), "denominator").alias("denominator"),
            lit(unit_name(metric.unit)).alias("unit"),
            // Publishing knows what was reported before.
            lit(false).alias("is_restated"),
            side(has_interval, "lower").alias("lower"),
            side(has_interval, "upper").alias("upper"),
            interval::sample_size(metric).alias("sample_size"),
            is_small(interval::sample_size(metric), policy).alias("is_small_sample"),
            no_outcome_is_open.alias("is_mature"),
        ])
    };
    let all = catalogue.published().map(one);
    concat(all.collect::<Vec<_>>(), UnionArgs::default())
}

/// Breakdowns, with whether they rest on few observations.
pub fn kpi_breakdown(rows: LazyFrame, policy: &Policy) -> LazyFrame {
    rows.with_column(is_small(col("sample_size"), policy).alias("is_small_sample"))
}

fn is_small(sample_size: Expr, policy: &Policy) -> Expr {
    sample_size.lt(lit(i64::from(policy.small_sample)))
}

/// Wide form of the total.
pub fn kpi_summary(evaluated: LazyFrame, catalogue: &Catalogue) -> LazyFrame {
    let metrics = catalogue.published_ids().iter().map(|id| col(id.as_str()));
    evaluated.filter(col(DIMENSION).eq(lit(TOTAL))).select(
        std::iter::once(col(PERIOD))
            .chain(metrics)
            .collect::<Vec<_>>(),
    )
}

/// The account 360: facts with the dimensions under their own names.
pub fn account_period(accounts: LazyFrame, dimensions: &[String]) -> LazyFrame {
    let fixed = contract::of("account_period")
        .columns
        .iter()
        .filter(|column| column.each.is_none());
    let is_own = |name: &str| ![PERIOD_START, PERIOD_END, IS_COMPLETE].contains(&name);
    let mut selected = vec![col(PERIOD)];
    for column in fixed.filter(|column| is_own(&column.name)) {
        selected.push(match column.name.as_str() {
            "account_name" => col("name").alias("account_name"),
            name => col(name),
        });
    }
    selected.extend(
        dimensions
            .iter()
            .map(|name| col(member_column(name)).alias(name)),
    );
    accounts.select(selected)
}

/// The definitions in force, one row per published metric and period.
pub fn metric_dictionary(catalogue: &Catalogue, published: PeriodRange) -> PolarsResult<LazyFrame> {
    let metrics: Vec<_> = catalogue.documented().collect();
    let texts =
        |of: fn(&Metric) -> String| metrics.iter().map(|metric| of(metric)).collect::<Vec<_>>();
    let maybe = |of: fn(&Metric) -> Option<String>| {
        metrics.iter().map(|metric| of(metric)).collect::<Vec<_>>()
    };
    let frame = df!(
        "metric" => texts(|metric| metric.id.clone()),
        "label_en" => texts(|metric| metric.label_en.clone()),
        "label_ja" => texts(|metric| metric.label_ja.clone()),
        "description" => texts(|metric| metric.description_en.clone()),
        "unit" => texts(|metric| unit_name(metric.unit)),
        "good" => texts(|metric| format!("{:?}", metric.good).to_lowercase()),
        "numerator_sql" => texts(|metric| metric.numerator_text().to_owned()),
        "denominator_sql" => metrics.iter().map(|metric| metric.denominator.as_ref().map(|sql| sql.text().to_owned())).collect::<Vec<_>>(),
        "trailing_periods" => metrics.iter().map(|metric| metric.trailing.map(i64::from)).collect::<Vec<_>>(),
        "is_reaggregable" => metrics.iter().map(|metric| metric.is_reaggregable()).collect::<Vec<_>>(),
        "needs" => texts(|metric| metric.needs.join(",")),
        "source" => texts(|metric| metric.source.clone()),
        "is_custom" => metrics.iter().map(|metric| metric.is_custom).collect::<Vec<_>>(),
        "description_ja" => texts(|metric| metric.description_ja.clone()),
        "dimensions" => metrics.iter().map(|metric| metric.dimensions.as_ref().map(|names| names.join(","))).collect::<Vec<_>>(),
        "interval" => maybe(|metric| Some(metric.interval.as_ref()?.to_string())),
        "sample_sql" => maybe(|metric| Some(metric.sample_sql()?.text().to_owned())),
        "pending_sql" => maybe(|metric| Some(metric.pending.as_ref()?.text().to_owned())),
    )?;
    let periods = df!(PERIOD => published.indices().collect::<Vec<_>>())?.lazy();
    Ok(frame.lazy().cross_join(periods, None))
}

/// How a unit is written in tables and docs.
pub fn unit_name(unit: crate::config::Unit) -> String {
    format!("{unit:?}").to_lowercase()
}

/// Adds `cohort_start`, the first day of the cohort's period.
pub fn with_cohort_start(triangle: LazyFrame, periods: LazyFrame) -> LazyFrame {
    let starts = periods.select([
        col(PERIOD).alias(FIRST_PAID),
        col(PERIOD_START).alias("cohort_start"),
    ]);
    triangle.left_join(starts, col(FIRST_PAID), col(FIRST_PAID))
}
