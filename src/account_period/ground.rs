//! What every step of a run stands on.

use super::families;
use crate::columns::*;
use crate::facts::fx::Rates;
use crate::facts::movements;
use crate::facts::spine::{self, FIRST_SIGN, NUMBER};
use crate::facts::usage::Usage;
use crate::facts::{Context, Hold, Inputs, cost, mrr, opportunity, revenue};
use polars::prelude::*;

/// What is the same in every step of a run: made once, for all periods up to the last one.
#[derive(Clone)]
pub struct Ground {
    pub rates: Rates,
    /// Versions of subscriptions: see [`mrr::versions`].
    pub versions: LazyFrame,
    /// Where accounts' lives as customers began: see [`mrr::origins`].
    pub origins: LazyFrame,
    /// See [`revenue::daily`].
    pub daily_revenue: Option<LazyFrame>,
    /// See [`Usage::days`], with the accounts' numbers in place of their ids.
    pub usage_days: Option<LazyFrame>,
    /// `account_id`, its number, and the period of its first sign of life.
    pub(super) first_signs: LazyFrame,
    /// Versions, invoices, opportunities and costs whose currency has no rate in a period: `period_index`, `currency`.
    pub missing_rates: LazyFrame,
}

impl Ground {
    /// `context` has all periods that the run goes through, and those that it looks back at; `window_days` is how far the scores look
    /// back.
    pub fn of(
        inputs: &Inputs,
        context: Context,
        window_days: i32,
        hold: Hold,
    ) -> PolarsResult<Self> {
        let rates = Rates::of(inputs.fx_rates.clone(), context, hold)?;
        let versions = hold("versions", mrr::versions(inputs, context))?.lazy();
        let origins = mrr::origins(versions.clone(), &rates, context);
        let first_signs = first_signs(inputs, context)?;
        let first_signs = hold("first signs", spine::numbered(first_signs))?.lazy();
        let numbers = || numbers(&first_signs);
        let numbered = |rows: LazyFrame| {
            rows.inner_join(numbers(), col(ACCOUNT_ID), col(ACCOUNT_ID))
                .drop(by_name([ACCOUNT_ID], true, false))
        };
        let mut daily_revenue: Option<DataFrame> = None;
        for lines in revenue_portions(inputs, context, hold)? {
            let daily = revenue::daily(lines, numbers(), &rates, window_days, context);
            let daily = hold("daily revenue", daily)?;
            daily_revenue = Some(match daily_revenue {
                None => daily,
                Some(before) => before.vstack(&daily)?,
            });
        }
        let usage_days = inputs.usage.as_ref().map(|usage| usage.days.clone());
        let usage_days = usage_days.map(|days| hold("usage by number", numbered(days)));
        Ok(Self {
            missing_rates: missing_rates(inputs, &versions, &rates, context)?,
            origins: hold("origins", origins)?.lazy(),
            daily_revenue: daily_revenue.map(IntoLazy::lazy),
            usage_days: usage_days.transpose()?.map(IntoLazy::lazy),
            first_signs,
            rates,
            versions,
        })
    }

    /// `account_id` and its number.
    pub(super) fn numbers(&self) -> LazyFrame {
        numbers(&self.first_signs)
    }

    /// What periods before `first` need is not kept any longer: revenue is settled.
    pub fn go_on_to(&mut self, first: i32, context: Context, hold: Hold) -> PolarsResult<()> {
        if let Some(daily) = &mut self.daily_revenue {
            let settled = revenue::settled(daily.clone(), first, context)?;
            *daily = hold("settled revenue", settled)?.lazy();
        }
        Ok(())
    }
}

fn numbers(first_signs: &LazyFrame) -> LazyFrame {
    first_signs.clone().select([col(ACCOUNT_ID), col(NUMBER)])
}

fn revenue_portions(inputs: &Inputs, context: Context, hold: Hold) -> PolarsResult<Vec<LazyFrame>> {
    match &inputs.invoice_lines {
        None => Ok(Vec::new()),
        Some(lines) => revenue::in_portions(lines, context, hold),
    }
}

/// What cannot be converted; must be empty.
fn missing_rates(
    inputs: &Inputs,
    versions: &LazyFrame,
    rates: &Rates,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let range = movements::snapshot_range(context);
    let mut missing = vec![mrr::missing_rates(versions.clone(), rates, range, context)?];
    let invoices = inputs.invoice_lines.clone();
    missing.extend(invoices.map(|lines| revenue::missing_rates(lines, rates, context)));
    let opportunities = inputs.opportunities.clone();
    missing.extend(opportunities.map(|all| opportunity::missing_rates(all, rates, context)));
    let costs = inputs.costs.clone();
    missing.extend(costs.map(|costs| cost::missing_rates(costs, rates, context)));
    Ok(concat(missing, UnionArgs::default())?.unique(None, UniqueKeepStrategy::Any))
}

/// `account_id` and [`FIRST_SIGN`].
fn first_signs(inputs: &Inputs, context: Context) -> PolarsResult<LazyFrame> {
    let calendar = context.calendar;
    let day_of = |frame: LazyFrame, day: Expr| frame.select([col(ACCOUNT_ID), day.alias("day")]);
    let started = calendar.local_date(col("started_at"));
    let mut signs = vec![
        day_of(inputs.accounts.clone(), col("signup_date")),
        day_of(inputs.subscriptions.clone(), started),
    ];
    let lines = inputs.invoice_lines.clone();
    signs.extend(lines.map(|lines| revenue::first_days(lines, context)));
    signs.extend(inputs.usage.iter().map(Usage::first_days));
    signs.extend(families::signs(inputs, context));
    let mut first_signs = concat(signs, UnionArgs::default())?
        .filter(col("day").is_not_null())
        .group_by([col(ACCOUNT_ID)])
        .agg([calendar.index_of_date(col("day").min()).alias(FIRST_SIGN)]);
    let merged: Vec<&str> = inputs.account_map.involved().into_iter().collect();
    if !merged.is_empty() {
        // They have a place even if no sign is their own.
        let never = vec![i32::MAX; merged.len()];
        let merged = df!(ACCOUNT_ID => merged, FIRST_SIGN => never)?.lazy();
        first_signs = concat([first_signs, merged], UnionArgs::default())?
            .group_by([col(ACCOUNT_ID)])
            .agg([col(FIRST_SIGN).min()]);
    }
    if !families::may_be_unallocated(inputs) {
        return Ok(first_signs);
    }
    // The rows in which there is nothing are taken away at the end.
    let from_the_first = df!(ACCOUNT_ID => [UNALLOCATED], FIRST_SIGN => [context.range.first])?;
    concat([first_signs, from_the_first.lazy()], UnionArgs::default())
}
