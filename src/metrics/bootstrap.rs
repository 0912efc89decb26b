//! Bootstrap by account: how far a value would move had other accounts of the same kind been customers (docs/definitions.md
//! § 11).
//!
//! account × period → the sums of every draw → the catalogue's own formulas, draw by draw → order statistics. A draw is a row
//! like any other, so that whatever a formula does to a group it does to a draw of it.

mod draws;
mod weights;

use super::aggregate::{
    Available, DRAW, Grouping, finite, is_of_group, part, sides, with_constants, with_values,
};
use super::catalogue::{Catalogue, DAYS_IN_PERIOD, Interval, Metric};
use super::references::References;
use crate::columns::*;
use crate::config::Calendar;
use crate::facts::Context;
use crate::period::PeriodRange;
use crate::sql::SqlExpr;
use draws::{Drawn, member_column, sum_column};
use polars::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// What is drawn of a catalogue, and how.
pub struct Bootstrap<'a> {
    /// The metrics that get bounds.
    drawn: Vec<&'a Metric>,
    /// These, and those that their formulas rest on.
    needed: Vec<Metric>,
    available: &'a Available,
    context: Context<'a>,
    samples: usize,
}

impl<'a> Bootstrap<'a> {
    /// `None` where nothing is drawn.
    pub fn of(
        catalogue: &'a Catalogue,
        available: &'a Available,
        context: Context<'a>,
    ) -> Option<Self> {
        let samples = context.policy.bootstrap_samples as usize;
        let drawn: Vec<&Metric> = drawn_metrics(catalogue)
            .into_iter()
            .filter(|metric| available.has_all(metric))
            .collect();
        (samples > 0 && !drawn.is_empty()).then(|| Self {
            needed: needed_for(&drawn, catalogue),
            drawn,
            available,
            context,
            samples,
        })
    }

    /// How many periods before its own the bounds of a period rest on: those that are pooled, or referred to.
    pub fn reach(&self) -> i32 {
        reach(
            &self.needed.iter().collect::<Vec<_>>(),
            self.context.calendar,
        )
    }

    /// The sums of every draw: one row per dimension, member, period of `accounts` and draw, in this order.
    pub fn sums(&self, accounts: LazyFrame, groupings: &[Grouping]) -> PolarsResult<LazyFrame> {
        // What is summed over accounts, each thing once.
        let mut summed: Vec<SqlExpr> = Vec::new();
        let mut own_sides = Vec::new();
        for metric in &self.needed {
            for (side, expression) in sides(metric).filter(|(_, sql)| is_of_group(metric, sql)) {
                let value = match self.available.has_all(metric) {
                    true => {
                        let formula = over_sums(expression, &mut summed)?;
                        finite(with_constants(&formula, col(DAYS_IN_PERIOD), self.context)?)
                    }
                    false => lit(NULL).cast(DataType::Float64),
                };
                own_sides.push(value.alias(part(&metric.id, side)));
            }
        }
        let summed = summed.iter().enumerate().map(|(number, sql)| {
            let value = with_constants(sql, col(DAYS_IN_PERIOD), self.context)?;
            Ok(value.alias(sum_column(number)))
        });
        let summed = summed.collect::<PolarsResult<Vec<Expr>>>()?;
        let rows = accounts.select(
            [
                vec![col(PERIOD), col(ACCOUNT_ID), col(DAYS_IN_PERIOD)],
                groupings.iter().enumerate().map(member).collect(),
                summed.clone(),
            ]
            .concat(),
        );
        let plan = Drawn {
            dimensions: groupings
                .iter()
                .map(|grouping| grouping.dimension.clone())
                .collect(),
            sums: summed.len(),
            samples: self.samples,
        };
        let schema = plan.schema();
        let draws = rows.map(
            move |rows| plan.drawn(&rows),
            OptFlags::empty(),
            Some(Arc::new(move |_: &Schema| Ok(schema.clone()))),
            Some("draws of accounts"),
        );
        let days = vec![col(DAYS_IN_PERIOD)];
        Ok(draws.select([KEY.map(col).to_vec(), days, own_sides].concat()))
    }

    /// `<id>:lower` and `<id>:upper` of every metric that is drawn, by published period, dimension and member. `sums` are those
    /// of the published periods and of the [`Self::reach`] before, in their order.
    pub fn bounds(&self, sums: LazyFrame, published: PeriodRange) -> PolarsResult<LazyFrame> {
        let metrics: Vec<&Metric> = self.needed.iter().collect();
        let references = References::of(metrics.iter().copied());
        let is_joined = !references.is_empty();
        let samples = self.samples;
        let values = with_values(
            sums,
            &metrics,
            references,
            Some(samples),
            self.available,
            self.context,
        )?;
        let ids: Vec<String> = self.drawn.iter().map(|metric| metric.id.clone()).collect();
        let own = ids.iter().map(|id| col(id.as_str()));
        let is_published = col(PERIOD).is_between(
            lit(published.first),
            lit(published.last),
            ClosedInterval::Both,
        );
        let mut values = values
            .select(KEY.map(col).into_iter().chain(own).collect::<Vec<_>>())
            .filter(is_published);
        // Joins keep no order.
        if is_joined {
            values = values.sort(KEY, SortMultipleOptions::default());
        }
        let schema = bounds_schema(&ids);
        Ok(values.map(
            move |values| order_statistics(&values, &ids, samples),
            OptFlags::empty(),
            Some(Arc::new(move |_: &Schema| Ok(schema.clone()))),
            Some("bounds of draws"),
        ))
    }
}

/// The order of sums of draws.
pub const KEY: [&str; 4] = [DIMENSION, MEMBER, PERIOD, DRAW];

/// The metrics whose bounds are published, or that a published interval goes through.
fn drawn_metrics(catalogue: &Catalogue) -> Vec<&Metric> {
    let mut drawn: Vec<&Metric> = Vec::new();
    for mut metric in catalogue.published() {
        while let Some(Interval::Through(other)) = &metric.interval
            && let Some(other) = catalogue.get(other)
        {
            metric = other;
        }
        let is_new = drawn.iter().all(|known| known.id != metric.id);
        if metric.interval == Some(Interval::Bootstrap) && is_new {
            drawn.push(metric);
        }
    }
    drawn
}

/// These metrics and those that their formulas rest on, each after the ones it needs. A draw has a value, but no sample.
fn needed_for(drawn: &[&Metric], catalogue: &Catalogue) -> Vec<Metric> {
    let all = drawn.iter();
    let all = all.flat_map(|metric| catalogue.with_referred(metric));
    let ids: BTreeSet<&str> = all.map(|(_, metric)| metric.id.as_str()).collect();
    let is_needed = |metric: &&Metric| ids.contains(metric.id.as_str());
    let value_only = |metric: &Metric| Metric {
        sample: None,
        squares: None,
        pending: None,
        ..metric.clone()
    };
    let needed = catalogue.metrics().filter(is_needed);
    needed.map(value_only).collect()
}

/// How many periods before its own the values of a period rest on: those that are pooled, or referred to.
pub fn reach(metrics: &[&Metric], calendar: &Calendar) -> i32 {
    let per_year = calendar.grain.periods_per_year();
    let mut of_metrics: BTreeMap<&str, i32> = BTreeMap::new();
    for metric in metrics {
        let of = |name: &str| of_metrics.get(name).copied().unwrap_or(0);
        let pooled = metric.trailing.map_or(0, |periods| periods as i32 - 1);
        let below = metric.refers_to().map(of);
        let earlier = metric
            .references()
            .map(|reference| of(&reference.name) + reference.to.periods_back(per_year));
        let most = below.chain(earlier).fold(pooled, i32::max);
        of_metrics.insert(&metric.id, most);
    }
    of_metrics.into_values().max().unwrap_or(0)
}

fn member((number, grouping): (usize, &Grouping)) -> Expr {
    let text = grouping.member.clone().cast(DataType::String);
    text.alias(member_column(number))
}

/// A side of a metric over the columns of its sums.
fn over_sums(side: &SqlExpr, summed: &mut Vec<SqlExpr>) -> PolarsResult<SqlExpr> {
    let column = |new: SqlExpr| {
        let known = summed.iter().position(|known| *known == new);
        let number = known.unwrap_or_else(|| {
            summed.push(new);
            summed.len() - 1
        });
        sum_column(number)
    };
    side.over_sums(column)
        .map_err(|aggregate| polars_err!(ComputeError: "`{aggregate}` cannot be drawn"))
}

fn bounds_schema(ids: &[String]) -> SchemaRef {
    let bounds = ids
        .iter()
        .flat_map(|id| [part(id, "lower"), part(id, "upper")])
        .map(|name| Field::new(name.into(), DataType::Float64));
    let key = [
        (PERIOD, DataType::Int32),
        (DIMENSION, DataType::String),
        (MEMBER, DataType::String),
    ];
    let key = key.map(|(name, dtype)| Field::new(name.into(), dtype));
    Arc::new(Schema::from_iter(key.into_iter().chain(bounds)))
}

/// One row per block of draws.
fn order_statistics(values: &DataFrame, ids: &[String], samples: usize) -> PolarsResult<DataFrame> {
    let first_rows = (0..values.height()).step_by(samples);
    let first_rows = IdxCa::from_vec("".into(), first_rows.map(|row| row as IdxSize).collect());
    let mut bounds = values
        .select([PERIOD, DIMENSION, MEMBER])?
        .take(&first_rows)?;
    for id in ids {
        let drawn: Vec<Option<f64>> = values.column(id)?.f64()?.iter().collect();
        let (lower, upper): (Vec<_>, Vec<_>) = drawn
            .chunks(samples)
            .map(|of_group| of_draws(of_group.iter().copied().flatten().collect(), samples))
            .map(|bounds| {
                (
                    bounds.map(|(lower, _)| lower),
                    bounds.map(|(_, upper)| upper),
                )
            })
            .unzip();
        bounds.with_column(Column::new(part(id, "lower").into(), lower))?;
        bounds.with_column(Column::new(part(id, "upper").into(), upper))?;
    }
    Ok(bounds)
}

/// The ⌈0.025·m⌉-th and ⌈0.975·m⌉-th smallest of m values, if these are nine tenths of the draws.
fn of_draws(mut values: Vec<f64>, samples: usize) -> Option<(f64, f64)> {
    let count = values.len();
    if count == 0 || 10 * count < 9 * samples {
        return None;
    }
    values.sort_unstable_by(f64::total_cmp);
    let place = |fortieths: usize| (fortieths * count).div_ceil(40) - 1;
    Some((values[place(1)], values[place(39)]))
}

#[cfg(test)]
mod tests {
    use super::of_draws;

    #[test]
    fn order_statistics_of_a_hundred_and_of_few() {
        let upto = |count: usize| (1..=count).rev().map(|value| value as f64).collect();
        assert_eq!(of_draws(upto(200), 200), Some((5.0, 195.0)));
        // ⌈0.025·180⌉ = 5, ⌈0.975·180⌉ = ⌈175.5⌉
        assert_eq!(of_draws(upto(180), 200), Some((5.0, 176.0)));
        assert_eq!(of_draws(upto(179), 200), None);
        assert_eq!(of_draws(upto(1), 1), Some((1.0, 1.0)));
        assert_eq!(of_draws(Vec::new(), 0), None);
    }
}
