//! How long customers stay: what was seen (Kaplan–Meier), and what is to be expected beyond it (shifted beta-geometric).
//!
//! Accounts are counted by age in polars ([`exits`]); what follows works on the counts of one group at a time.

pub mod beta_geometric;
pub mod kaplan_meier;
mod subjects;

#[cfg(test)]
mod tests;

use crate::columns::*;
use crate::facts::Context;
use beta_geometric::BetaGeometric;
use kaplan_meier::{Exits, Step, kaplan_meier, median};
use polars::prelude::*;

pub use subjects::{exits, kept};

const AGE: &str = "age";
const CHURNED: &str = "churned";
const CENSORED: &str = "censored";

/// The table `survival`: per group of `exits` one row for every age up to its oldest subject's, and `survival_horizon` more.
pub fn survival(exits: LazyFrame, context: Context) -> LazyFrame {
    let horizon = i64::from(context.policy.survival_horizon);
    let rate = discount_per_period(context);
    let small = i64::from(context.policy.small_sample);
    let columns = [
        (AGE, DataType::Int64),
        ("at_risk", DataType::Int64),
        (CHURNED, DataType::Int64),
        (CENSORED, DataType::Int64),
        ("survival", DataType::Float64),
        ("lower", DataType::Float64),
        ("upper", DataType::Float64),
        ("projected_survival", DataType::Float64),
        ("is_projected", DataType::Boolean),
        ("alpha", DataType::Float64),
        ("beta", DataType::Float64),
        ("expected_lifetime", DataType::Float64),
        ("sample_size", DataType::Int64),
    ];
    let curves = per_group(exits, &columns, move |groups| {
        let mut curves = Curves::default();
        for group in groups {
            curves.add(group, horizon, rate);
        }
        curves.into_columns()
    });
    curves.with_column(col("sample_size").lt(lit(small)).alias("is_small_sample"))
}

/// Per group of [`survival`]: `period_index`, `dimension`, `member`, `value` (the expected lifetime in periods; null without a fit),
/// `sample_size`. Every group has an age 0.
pub fn lifetimes(curves: LazyFrame) -> LazyFrame {
    curves.filter(col(AGE).eq(lit(0))).select([
        col(PERIOD),
        col(DIMENSION),
        col(MEMBER),
        col("expected_lifetime").alias("value"),
        col("sample_size"),
    ])
}

/// Kaplan–Meier medians of durations. Takes rows of `period_index`, `dimension`, `member`, `days`, `is_completed` (else the duration
/// was still going on), gives per group `period_index`, `dimension`, `member`, `value` (null if more than half go on), `sample_size`.
pub fn median_days(durations: LazyFrame) -> LazyFrame {
    let key = [PERIOD, DIMENSION, MEMBER, AGE];
    let count = |who: Expr| who.cast(DataType::Int64).sum();
    let exits = durations
        .with_column(col("days").cast(DataType::Int64).alias(AGE))
        .group_by(key.map(col))
        .agg([
            count(col("is_completed")).alias(CHURNED),
            count(col("is_completed").not()).alias(CENSORED),
        ])
        .sort(key, SortMultipleOptions::default());
    let columns = [
        ("value", DataType::Float64),
        ("sample_size", DataType::Int64),
    ];
    per_group(exits, &columns, |groups| {
        let steps = |group: &Group| kaplan_meier(&group.exits);
        let days = |group| median(&steps(group)).map(|days| days as f64);
        let size = |group| steps(group).first().map_or(0, |step| step.at_risk);
        let columns = vec![
            Column::new("value".into(), groups.iter().map(days).collect::<Vec<_>>()),
            Column::new(
                "sample_size".into(),
                groups.iter().map(size).collect::<Vec<_>>(),
            ),
        ];
        (each_once(groups), columns)
    })
}

fn discount_per_period(context: Context) -> f64 {
    let periods_per_year = f64::from(context.calendar.grain.periods_per_year());
    (context.policy.discount_rate.ln_1p() / periods_per_year).exp_m1()
}

/// The exits of one period, dimension and member, by age, and the first of their rows.
struct Group {
    row: IdxSize,
    exits: Vec<Exits>,
}

fn each_once(groups: &[Group]) -> Vec<IdxSize> {
    groups.iter().map(|group| group.row).collect()
}

/// Applies `made` to the groups of sorted exits. It gives the columns of its rows, and for each of these rows one of its group.
fn per_group(
    exits: LazyFrame,
    columns: &[(&'static str, DataType)],
    made: impl Fn(&[Group]) -> (Vec<IdxSize>, Vec<Column>) + Send + Sync + 'static,
) -> LazyFrame {
    let key = [PERIOD, DIMENSION, MEMBER];
    let columns = columns.to_vec();
    let schema = move |schema: &Schema| {
        let keys = key.map(|name| schema.try_get(name).map(|dtype| (name, dtype.clone())));
        let keys = keys.into_iter().collect::<PolarsResult<Vec<_>>>()?;
        let fields = keys.into_iter().chain(columns.clone());
        Ok(Arc::new(Schema::from_iter(
            fields.map(|(name, dtype)| Field::new(name.into(), dtype)),
        )))
    };
    let apply = move |frame: DataFrame| {
        let (rows, columns) = made(&groups(&frame)?);
        let rows = IdxCa::from_vec("row".into(), rows);
        let keys = frame.select(key)?.take(&rows)?;
        keys.hstack(&columns)
    };
    exits.map(
        apply,
        OptFlags::empty(),
        Some(Arc::new(schema)),
        Some("survival"),
    )
}

fn groups(frame: &DataFrame) -> PolarsResult<Vec<Group>> {
    let periods = frame.column(PERIOD)?.i32()?;
    let dimensions = frame.column(DIMENSION)?.str()?;
    let members = frame.column(MEMBER)?.str()?;
    let numbers = |name| frame.column(name)?.i64();
    let (ages, churned, censored) = (numbers(AGE)?, numbers(CHURNED)?, numbers(CENSORED)?);
    let key = |row| (periods.get(row), dimensions.get(row), members.get(row));
    let mut groups: Vec<Group> = Vec::new();
    for row in 0..frame.height() {
        if row == 0 || key(row) != key(row - 1) {
            groups.push(Group {
                row: row as IdxSize,
                exits: Vec::new(),
            });
        }
        let exit = Exits {
            age: ages.get(row).unwrap_or_default(),
            events: churned.get(row).unwrap_or_default(),
            censored: censored.get(row).unwrap_or_default(),
        };
        if let Some(group) = groups.last_mut() {
            group.exits.push(exit);
        }
    }
    Ok(groups)
}

/// A step for every age of a group from 0 on.
fn followed(group: &Group) -> Vec<Step> {
    let mut exits = group.exits.iter().peekable();
    let oldest = group.exits.last().map_or(0, |exit| exit.age);
    let of_age = |age| {
        let exit = exits.next_if(|exit| exit.age == age);
        exit.copied().unwrap_or(Exits {
            age,
            ..Exits::default()
        })
    };
    kaplan_meier(&(0..=oldest).map(of_age).collect::<Vec<_>>())
}

/// The rows of `survival`, column by column.
#[derive(Default)]
struct Curves {
    rows: Vec<IdxSize>,
    ages: Vec<i64>,
    seen: Vec<Option<Step>>,
    projected: Vec<Option<f64>>,
    models: Vec<Option<BetaGeometric>>,
    lifetimes: Vec<Option<f64>>,
    subjects: Vec<i64>,
}

impl Curves {
    fn add(&mut self, group: &Group, horizon: i64, rate: f64) {
        let steps = followed(group);
        let subjects = steps.first().map_or(0, |step| step.at_risk);
        let model = BetaGeometric::fit(&steps);
        let lifetime = model.and_then(|model| model.expected_lifetime(rate));
        let mut projected = model.map(BetaGeometric::survival);
        let mut seen = steps.iter().copied();
        for age in 0..steps.len() as i64 + horizon {
            self.rows.push(group.row);
            self.ages.push(age);
            self.seen.push(seen.next());
            let survival = projected.as_mut().and_then(Iterator::next);
            self.projected.push(survival);
            self.models.push(model);
            self.lifetimes.push(lifetime);
            self.subjects.push(subjects);
        }
    }

    fn into_columns(self) -> (Vec<IdxSize>, Vec<Column>) {
        let counts = |name: &str, of: fn(&Step) -> i64| {
            let values = self.seen.iter().map(|step| step.as_ref().map(of));
            Column::new(name.into(), values.collect::<Vec<_>>())
        };
        let shares = |name: &str, of: fn(&Step) -> Option<f64>| {
            let values = self.seen.iter().map(|step| step.as_ref().and_then(of));
            Column::new(name.into(), values.collect::<Vec<_>>())
        };
        let parameters = |name: &str, of: fn(BetaGeometric) -> f64| {
            let values = self.models.iter().map(|model| model.map(of));
            Column::new(name.into(), values.collect::<Vec<_>>())
        };
        let is_projected: Vec<bool> = self.seen.iter().map(Option::is_none).collect();
        let columns = vec![
            Column::new(AGE.into(), &self.ages),
            counts("at_risk", |step| step.at_risk),
            counts(CHURNED, |step| step.events),
            counts(CENSORED, |step| step.censored),
            shares("survival", |step| Some(step.survival)),
            shares("lower", |step| step.bounds.map(|(lower, _)| lower)),
            shares("upper", |step| step.bounds.map(|(_, upper)| upper)),
            Column::new("projected_survival".into(), &self.projected),
            Column::new("is_projected".into(), is_projected),
            parameters("alpha", |model| model.alpha),
            parameters("beta", |model| model.beta),
            Column::new("expected_lifetime".into(), &self.lifetimes),
            Column::new("sample_size".into(), &self.subjects),
        ];
        (self.rows, columns)
    }
}
