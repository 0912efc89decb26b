//! Touch model: ordered rules, capacity per owner, and a hold that keeps accounts from flapping.

use super::earlier::with_earlier;
use crate::columns::*;
use crate::config::{Calendar, TouchModel, TouchRule};
use crate::period::PeriodRange;
use crate::sql::{self, Scope, SqlExpr};
use polars::prelude::*;

/// What was segmented before the periods at hand.
#[derive(Default, Clone, Copy)]
pub struct Before<'a> {
    /// Account × period rows, as [`with_earlier`] takes them.
    pub accounts: Option<&'a DataFrame>,
    /// Rows of this table, of the [`reach`] periods before.
    pub segments: Option<&'a DataFrame>,
}

/// How many periods before its own the touch model of a period rests on.
pub fn reach(rules: &TouchModel) -> i32 {
    window(rules.hold_periods as usize) as i32
}

/// The rules' conditions, in order.
pub fn conditions(rules: &TouchModel) -> PolarsResult<Vec<SqlExpr>> {
    rules.rules.iter().map(condition).collect()
}

/// Rows of the published table are customers at the period's end. Columns: see `schemas/output/touch_segments.yaml`.
///
/// `range` begins with the calendar at the earliest: no history before it is kept or looked at.
pub fn touch_segments(
    accounts: LazyFrame,
    before: Before,
    rules: &TouchModel,
    range: PeriodRange,
    calendar: &Calendar,
) -> PolarsResult<LazyFrame> {
    let conditions = conditions(rules)?;
    let accounts = with_earlier(
        accounts,
        before.accounts,
        conditions.iter(),
        |name| name,
        calendar,
    )?;
    let is_in_range =
        col(PERIOD).is_between(lit(range.first), lit(range.last), ClosedInterval::Both);
    let is_customer = col(CLOSING_CUSTOMERS).eq(lit(1i64));
    let customers = accounts.filter(is_customer.and(is_in_range.clone()));
    let ruled = with_fired_rule(customers, rules)?;
    let kept = [
        PERIOD,
        ACCOUNT_ID,
        "rule",
        "rule_model",
        OWNER_ID,
        LTV_EXPECTED,
        LTV_PERCENTILE,
    ]
    .map(col);
    let hold = rules.hold_periods as usize;
    let earlier = before.segments.map(|rows| rows.clone().lazy());
    let all = earlier.into_iter().chain([ruled]);
    let all: Vec<LazyFrame> = all.map(|rows| rows.select(kept.clone())).collect();
    let sorted = concat(all, UnionArgs::default())?
        .sort([ACCOUNT_ID, PERIOD], SortMultipleOptions::default());
    let held = sorted.map(
        move |frame| with_hold(frame, hold),
        OptFlags::empty(),
        Some(Arc::new(|schema: &Schema| {
            let mut schema = schema.clone();
            schema.with_column(TOUCH_MODEL.into(), DataType::String);
            schema.with_column("previous_touch_model".into(), DataType::String);
            Ok(Arc::new(schema))
        })),
        Some("touch model hold"),
    );
    let mut fits = lit(NULL).cast(DataType::Boolean);
    for (model, owners) in &rules.owners {
        let is_listed = owners
            .iter()
            .map(|owner| col(OWNER_ID).eq(lit(owner.as_str())))
            .reduce(Expr::or);
        let is_listed = is_listed.unwrap_or(lit(false)).fill_null(lit(false));
        fits = when(col(TOUCH_MODEL).eq(lit(model.as_str())))
            .then(is_listed)
            .otherwise(fits);
    }
    let was_served = col("previous_touch_model").is_not_null();
    let is_changed = was_served.and(col("previous_touch_model").neq_missing(col(TOUCH_MODEL)));
    Ok(held.filter(is_in_range).with_columns([
        is_changed.alias("is_changed"),
        col(TOUCH_MODEL)
            .neq_missing(col("rule_model"))
            .alias("is_held"),
        fits.alias("owner_fits"),
    ]))
}

fn condition(rule: &TouchRule) -> PolarsResult<SqlExpr> {
    sql::parse_in(&rule.when, Scope::Account)
        .map_err(|error| polars_err!(ComputeError: "touch rule {}: {error}", rule.name))
}

/// Adds `rule` and `rule_model`: the first rule, in order, that holds and has room.
fn with_fired_rule(customers: LazyFrame, rules: &TouchModel) -> PolarsResult<LazyFrame> {
    let none = || lit(NULL).cast(DataType::String);
    let mut frame = customers.with_columns([none().alias("rule"), none().alias("rule_model")]);
    for rule in &rules.rules {
        let holds = condition(rule)?.to_polars()?.fill_null(lit(false));
        let fires = col("rule").is_null().and(holds);
        let fires = match rule.capacity {
            None => fires,
            Some(capacity) => {
                // The highest LTV first, ties by account: the rank among those for whom the rule holds.
                let order = SortMultipleOptions::default()
                    .with_order_descending_multi([false, false, true, true, false])
                    .with_nulls_last_multi([false, true, false, true, false]);
                frame = frame
                    .with_column(fires.alias("__fires"))
                    .sort(
                        [PERIOD, OWNER_ID, "__fires", LTV_EXPECTED, ACCOUNT_ID],
                        order,
                    )
                    .with_column(
                        col(ACCOUNT_ID)
                            .cum_count(false)
                            .over([col(PERIOD), col(OWNER_ID)])?
                            .cast(DataType::Int64)
                            .alias("__place"),
                    );
                col("__fires").and(col("__place").lt_eq(lit(i64::from(capacity))))
            }
        };
        frame = frame
            .with_column(fires.alias("__fires"))
            .with_columns([
                when(col("__fires"))
                    .then(lit(rule.name.as_str()))
                    .otherwise(col("rule"))
                    .alias("rule"),
                when(col("__fires"))
                    .then(lit(rule.model.as_str()))
                    .otherwise(col("rule_model"))
                    .alias("rule_model"),
            ])
            .drop(by_name(["__fires", "__place"], false, false));
    }
    Ok(frame)
}

/// Adds the held model and that of the period before to rows sorted by account and period.
fn with_hold(mut frame: DataFrame, hold: usize) -> PolarsResult<DataFrame> {
    let accounts = frame.column(ACCOUNT_ID)?.str()?.clone();
    let periods = frame.column(PERIOD)?.i32()?.clone();
    let ruled = frame.column("rule_model")?.str()?.clone();
    let mut history: Vec<Option<&str>> = Vec::new();
    let mut models: Vec<Option<&str>> = Vec::with_capacity(frame.height());
    let mut previous: Vec<Option<&str>> = Vec::with_capacity(frame.height());
    for row in 0..frame.height() {
        let goes_on = row > 0
            && accounts.get(row) == accounts.get(row - 1)
            && periods
                .get(row)
                .zip(periods.get(row - 1))
                .is_some_and(|(this, before)| this == before + 1);
        if !goes_on {
            history.clear();
        }
        previous.push(if goes_on { models[row - 1] } else { None });
        history.push(ruled.get(row));
        models.push(held_model(&history, hold));
    }
    frame.with_column(Column::new(TOUCH_MODEL.into(), models))?;
    frame.with_column(Column::new("previous_touch_model".into(), previous))?;
    Ok(frame)
}

/// How many periods are looked at to tell whether a model holds.
fn window(hold: usize) -> usize {
    4 * (hold + 1) + 1
}

/// The model after a history of what the rules said, oldest first: that of the latest run of more than `hold` equal
/// periods within the last 4 · (hold + 1) + 1, or, if there is none, the oldest of those. Bounded, so that a period can be
/// computed again without all of the past.
pub fn held_model<'a>(history: &[Option<&'a str>], hold: usize) -> Option<&'a str> {
    let window = &history[history.len().saturating_sub(window(hold))..];
    let stable = window
        .windows(hold + 1)
        .rev()
        .find(|run| run.iter().all(|model| *model == run[0]));
    stable
        .and_then(|run| run.first())
        .or(window.first())
        .copied()
        .flatten()
}
