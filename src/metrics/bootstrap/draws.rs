//! Rows of accounts → the sums of every group in every draw.

use super::weights::{BUCKETS, bucket, weights};
use crate::columns::*;
use crate::metrics::aggregate::DRAW;
use crate::metrics::catalogue::DAYS_IN_PERIOD;
use polars::prelude::*;

pub(super) fn member_column(number: usize) -> String {
    format!("member:{number}")
}

pub(super) fn sum_column(number: usize) -> String {
    format!("sum:{number}")
}

/// What is drawn.
pub(super) struct Drawn {
    /// Whose members stand in [`member_column`].
    pub dimensions: Vec<String>,
    /// How many [`sum_column`]s there are.
    pub sums: usize,
    pub samples: usize,
}

impl Drawn {
    pub fn schema(&self) -> SchemaRef {
        let key = [
            (PERIOD, DataType::Int32),
            (DIMENSION, DataType::String),
            (MEMBER, DataType::String),
            (DRAW, DataType::Int32),
            (DAYS_IN_PERIOD, DataType::Int64),
        ];
        let sums =
            (0..self.sums).map(|number| Field::new(sum_column(number).into(), DataType::Float64));
        let key = key.map(|(name, dtype)| Field::new(name.into(), dtype));
        Arc::new(Schema::from_iter(key.into_iter().chain(sums)))
    }

    /// One row per dimension, member, period and draw, in this order.
    pub fn drawn(&self, rows: &DataFrame) -> PolarsResult<DataFrame> {
        let accounts = Accounts::sorted(rows, self.sums, self.samples)?;
        let mut groups = Groups::new(self);
        for (number, dimension) in self.dimensions.iter().enumerate() {
            let members = rows.column(&member_column(number))?.str()?;
            for (member, places) in accounts.by_member(members) {
                let same_period =
                    |a: &usize, b: &usize| accounts.periods[*a] == accounts.periods[*b];
                for group in places.chunk_by(same_period) {
                    groups.push(dimension, member, group, &accounts);
                }
            }
        }
        groups.finished()
    }
}

/// Rows of accounts, each at its place in the order of period, bucket and account, so that floats are always added alike.
struct Accounts {
    /// The row of the frame at each place.
    rows: Vec<usize>,
    periods: Vec<i32>,
    days_in_period: Vec<Option<i64>>,
    buckets: Vec<usize>,
    /// How often a bucket counts in each draw; empty where it has no account.
    weights: Vec<Vec<f64>>,
    /// What is summed, place by place; NaN is null.
    summed: Vec<f64>,
    /// What each sum is to be divided by: money is added in its minor unit, in which floats are exact.
    divisors: Vec<f64>,
}

impl Accounts {
    fn sorted(frame: &DataFrame, sums: usize, samples: usize) -> PolarsResult<Self> {
        let ids = frame.column(ACCOUNT_ID)?.str()?.rechunk();
        let periods = frame.column(PERIOD)?.i32()?.rechunk();
        let days = frame.column(DAYS_IN_PERIOD)?.cast(&DataType::Int64)?;
        let days = days.i64()?.rechunk();
        let mut known: PlHashMap<&str, usize> = PlHashMap::new();
        let mut ordered = Vec::with_capacity(frame.height());
        for (row, (id, period)) in ids.iter().zip(periods.iter()).enumerate() {
            let (Some(id), Some(period)) = (id, period) else {
                continue;
            };
            let bucket = *known.entry(id).or_insert_with(|| bucket(id));
            ordered.push((period, bucket, id, row));
        }
        ordered.sort_unstable();
        let mut of_buckets = vec![Vec::new(); BUCKETS];
        for bucket in known.values() {
            if of_buckets[*bucket].is_empty() {
                of_buckets[*bucket] = weights(*bucket, samples);
            }
        }
        let mut summed = vec![f64::NAN; ordered.len() * sums];
        let mut divisors = Vec::with_capacity(sums);
        for number in 0..sums {
            let (values, divisor) = numbers(frame.column(&sum_column(number))?)?;
            for (place, (.., row)) in ordered.iter().enumerate() {
                summed[place * sums + number] = values[*row];
            }
            divisors.push(divisor);
        }
        Ok(Self {
            rows: ordered.iter().map(|(.., row)| *row).collect(),
            periods: ordered.iter().map(|(period, ..)| *period).collect(),
            days_in_period: ordered.iter().map(|(.., row)| days.get(*row)).collect(),
            buckets: ordered.iter().map(|(_, bucket, ..)| *bucket).collect(),
            weights: of_buckets,
            summed,
            divisors,
        })
    }

    /// The places of every member, members in the order of their text.
    fn by_member<'a>(&self, members: &'a StringChunked) -> Vec<(&'a str, Vec<usize>)> {
        let mut places: PlHashMap<&str, Vec<usize>> = PlHashMap::new();
        for (place, row) in self.rows.iter().enumerate() {
            if let Some(member) = members.get(*row) {
                places.entry(member).or_default().push(place);
            }
        }
        let mut sorted: Vec<_> = places.into_iter().collect();
        sorted.sort_unstable_by_key(|(member, _)| *member);
        sorted
    }

    fn of_place(&self, place: usize) -> &[f64] {
        let sums = self.divisors.len();
        &self.summed[place * sums..(place + 1) * sums]
    }
}

/// A column as floats, NaN for null, and what the floats are to be divided by.
fn numbers(column: &Column) -> PolarsResult<(Vec<f64>, f64)> {
    if let DataType::Decimal(_, scale) = column.dtype() {
        let money = column
            .as_materialized_series()
            .decimal()?
            .physical()
            .clone();
        let units = money
            .iter()
            .map(|units| units.map_or(f64::NAN, |units| units as f64));
        return Ok((units.collect(), 10f64.powi(*scale as i32)));
    }
    let floats = column.cast(&DataType::Float64)?;
    let floats = floats.as_materialized_series().f64()?.clone();
    let values = floats.iter().map(|value| value.unwrap_or(f64::NAN));
    Ok((values.collect(), 1.0))
}

/// The drawn groups, column by column.
struct Groups<'a> {
    plan: &'a Drawn,
    periods: Vec<i32>,
    dimensions: StringChunkedBuilder,
    members: StringChunkedBuilder,
    draws: Vec<i32>,
    days_in_period: Vec<Option<i64>>,
    sums: Vec<PrimitiveChunkedBuilder<Float64Type>>,
    /// The sums of the group at hand, draw by draw.
    drawn: Vec<f64>,
}

impl<'a> Groups<'a> {
    fn new(plan: &'a Drawn) -> Self {
        let sums = plan.sums;
        Self {
            plan,
            periods: Vec::new(),
            dimensions: StringChunkedBuilder::new(DIMENSION.into(), 0),
            members: StringChunkedBuilder::new(MEMBER.into(), 0),
            draws: Vec::new(),
            days_in_period: Vec::new(),
            sums: (0..sums)
                .map(|number| PrimitiveChunkedBuilder::new(sum_column(number).into(), 0))
                .collect(),
            drawn: vec![0.0; sums * plan.samples],
        }
    }

    /// Draws the accounts at these places, all of one period.
    fn push(&mut self, dimension: &str, member: &str, places: &[usize], accounts: &Accounts) {
        let samples = self.plan.samples;
        let mut is_there = vec![false; self.sums.len()];
        let mut of_bucket = vec![0.0; self.sums.len()];
        self.drawn.fill(0.0);
        let same_bucket = |a: &usize, b: &usize| accounts.buckets[*a] == accounts.buckets[*b];
        for bucket in places.chunk_by(same_bucket) {
            of_bucket.fill(0.0);
            for place in bucket {
                for (number, value) in accounts.of_place(*place).iter().enumerate() {
                    if !value.is_nan() {
                        of_bucket[number] += value;
                        is_there[number] = true;
                    }
                }
            }
            let weights = &accounts.weights[accounts.buckets[bucket[0]]];
            for (value, sums) in of_bucket.iter().zip(self.drawn.chunks_exact_mut(samples)) {
                // Most of what moves did not move for most accounts.
                if *value != 0.0 {
                    for (sum, weight) in sums.iter_mut().zip(weights) {
                        *sum += weight * value;
                    }
                }
            }
        }
        let first = places[0];
        for draw in 0..samples {
            self.draws.push(draw as i32);
            self.periods.push(accounts.periods[first]);
            self.dimensions.append_value(dimension);
            self.members.append_value(member);
            self.days_in_period.push(accounts.days_in_period[first]);
        }
        for (number, sums) in self.drawn.chunks_exact(samples).enumerate() {
            let column = &mut self.sums[number];
            for sum in sums {
                match is_there[number] {
                    true => column.append_value(sum / accounts.divisors[number]),
                    // As in SQL, the sum of nothing but nulls is null.
                    false => column.append_null(),
                }
            }
        }
    }

    fn finished(self) -> PolarsResult<DataFrame> {
        let key = [
            Column::new(PERIOD.into(), self.periods),
            self.dimensions.finish().into_column(),
            self.members.finish().into_column(),
            Column::new(DRAW.into(), self.draws),
            Column::new(DAYS_IN_PERIOD.into(), self.days_in_period),
        ];
        let sums = self
            .sums
            .into_iter()
            .map(|sums| sums.finish().into_column());
        DataFrame::new_infer_height(key.into_iter().chain(sums).collect())
    }
}
