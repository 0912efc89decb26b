//! Invoice lines → revenue: in the period, to date, over the trailing year and over the scores' window.

use super::fx::Rates;
use super::later_day;
use super::spine::{self, NUMBER, Spine};
use super::{Context, Hold, money};
use crate::columns::{ACCOUNT_ID, CURRENCY, PERIOD, REVENUE};
use crate::period::utc_micros;
use polars::prelude::*;

/// Columns of invoice lines that no number is made of.
pub const UNREAD: [&str; 3] = ["service_start", "service_end", "paid_at"];
/// As many lines are worked on at a time: their groups take ten times their own room.
const LINES_AT_ONCE: i64 = 4_000_000;
/// First period in which revenue counts no more within the scores' window.
const WINDOW_ENDS: &str = "__window_ends";

/// One row per account and local day with invoices: the account's number (`numbers` has it), `revenue` (reporting currency),
/// `usage_revenue` (of it, metered usage) and `invoices` (how many invoices of that day sum above zero; lines of one id that are issued
/// on another day are another invoice); with the periods from which on it counts, and from which on it counts no more within the
/// scores' window.
pub fn daily(
    invoice_lines: LazyFrame,
    numbers: LazyFrame,
    rates: &Rates,
    window_days: i32,
    context: Context,
) -> LazyFrame {
    let calendar = context.calendar;
    let lines = invoice_lines
        .with_columns([
            coalesce(&[col(CURRENCY), lit(context.currency.code.as_str())]).alias(CURRENCY),
            calendar.local_date(col("issued_at")).alias("day"),
        ])
        .with_column(calendar.index_of_date(col("day")).alias(PERIOD))
        .filter(col(PERIOD).lt_eq(lit(context.range.last)));
    let is_usage = col("kind").eq(lit("usage"));
    let usage_revenue = when(is_usage)
        .then(col(REVENUE))
        .otherwise(money::zero(context.currency));
    // Account and day in one number, so that no text but the invoice's is looked at twice.
    let day = col("day").cast(DataType::Int32).cast(DataType::Int64);
    let account_and_day = col(NUMBER) * lit(1i64 << 32) + day;
    let sums = [col(REVENUE).sum(), col("usage_revenue").sum()];
    let place = [NUMBER, "day", PERIOD].map(|name| col(name).first());
    let is_paid = col(REVENUE).gt(money::zero(context.currency));
    rates
        .beside(lines, context)
        .with_column(rates.converted(col("amount"), context).alias(REVENUE))
        .with_column(usage_revenue.alias("usage_revenue"))
        .inner_join(numbers, col(ACCOUNT_ID), col(ACCOUNT_ID))
        .with_column(account_and_day.alias("account_and_day"))
        .group_by([col("account_and_day"), col("invoice_id")])
        .agg([&place[..], &sums].concat())
        .group_by([col("account_and_day")])
        .agg([&place[..], &sums, &[is_paid.sum().alias("invoices")]].concat())
        .select([
            col(NUMBER),
            col("day"),
            col(PERIOD),
            calendar
                .index_of_date(later_day(col("day"), window_days))
                .alias(WINDOW_ENDS),
            col(REVENUE),
            col("usage_revenue"),
            col("invoices").cast(DataType::Int64),
        ])
}

/// Lines of the range whose currency has no rate: `period_index`, `currency`.
pub fn missing_rates(invoice_lines: LazyFrame, rates: &Rates, context: Context) -> LazyFrame {
    let period = context.calendar.index_of_instant(col("issued_at"));
    let lines = invoice_lines
        .filter(col(CURRENCY).neq(lit(context.currency.code.as_str())))
        .with_column(period.alias(PERIOD))
        .filter(col(PERIOD).lt_eq(lit(context.range.last)));
    rates
        .beside(lines, context)
        .filter(col("rate").is_null())
        .select([col(PERIOD), col(CURRENCY)])
}

/// The day on which each account was first billed: `account_id`, `day`.
pub fn first_days(invoice_lines: LazyFrame, context: Context) -> LazyFrame {
    let first = col("issued_at").min();
    invoice_lines
        .group_by([col(ACCOUNT_ID)])
        .agg([context.calendar.local_date(first).alias("day")])
}

/// Some periods' lines each, so many at a time: days are complete in one of them. `hold` keeps a frame in memory.
pub fn in_portions(
    invoice_lines: &LazyFrame,
    context: Context,
    hold: Hold,
) -> PolarsResult<Vec<LazyFrame>> {
    let calendar = context.calendar;
    let first = calendar.index_of_instant(col("issued_at").min());
    let all = [
        len().cast(DataType::Int64).alias("lines"),
        first.alias(PERIOD),
    ];
    let all = hold("invoice lines", invoice_lines.clone().select(all))?;
    let lines = all.column("lines")?.i64()?.get(0).unwrap_or(0);
    let last = context.range.last;
    let first = all.column(PERIOD)?.i32()?.get(0);
    let first = first.map_or(last, |first| first.min(last));
    let portions = i32::try_from(lines / LINES_AT_ONCE + 1).unwrap_or(i32::MAX);
    let size = ((last - first) / portions + 1).max(1);
    let begin = |index| {
        let instant = calendar.midnight(calendar.start_of(index));
        lit(instant.timestamp_micros()).cast(utc_micros())
    };
    let portion = |first: i32| {
        let is_in = col("issued_at").gt_eq(begin(first));
        let is_in = is_in.and(col("issued_at").lt(begin(first + size)));
        invoice_lines.clone().filter(is_in)
    };
    Ok((first..=last).step_by(size as usize).map(portion).collect())
}

/// [`daily`] revenue with one row per account for all that no window of a period from `first` on looks at: what has been paid in
/// all, and when last.
pub fn settled(daily: LazyFrame, first: i32, context: Context) -> PolarsResult<LazyFrame> {
    let year = context.calendar.grain.periods_per_year();
    let year_ends = col(PERIOD) + lit(year);
    let is_settled = year_ends
        .lt_eq(lit(first))
        .and(col(WINDOW_ENDS).lt_eq(lit(first)));
    let is_paid = col("invoices").gt(lit(0i64));
    let columns = [
        NUMBER,
        "day",
        PERIOD,
        WINDOW_ENDS,
        REVENUE,
        "usage_revenue",
        "invoices",
    ]
    .map(col);
    let settled = daily
        .clone()
        .filter(is_settled.clone())
        .group_by([col(NUMBER)])
        .agg([
            col("day").filter(is_paid).max(),
            col(PERIOD).max(),
            col(WINDOW_ENDS).max(),
            col(REVENUE).sum(),
            col("usage_revenue").sum(),
            col("invoices").sum(),
        ])
        .select(columns);
    concat(
        [settled, daily.filter(is_settled.not())],
        UnionArgs::default(),
    )
}

/// Revenue columns per row of the spine, from [`daily`] revenue, before merges are applied; all additive but `last_payment`.
pub fn per_period(spine: &Spine, daily: LazyFrame, context: Context) -> PolarsResult<LazyFrame> {
    let year = context.calendar.grain.periods_per_year();
    let zero = || money::zero(context.currency);
    let now = |value: &str| {
        let is_now = col(PERIOD).gt_eq(lit(context.range.first));
        when(is_now).then(col(value)).otherwise(zero())
    };
    let last_payment = when(col("invoices").gt(lit(0i64)))
        .then(spine::day_number(col("day")))
        .otherwise(lit(NULL));
    let sums = |names: &[&str]| names.iter().map(|name| col(*name).sum()).collect();
    let entries = daily.clone().select([
        col(NUMBER),
        col(PERIOD),
        now(REVENUE).alias("revenue_now"),
        now("usage_revenue").alias("usage_revenue"),
        col(REVENUE),
        col("invoices"),
        last_payment.alias("last_payment"),
    ]);
    let mut aggregates: Vec<Expr> = sums(&["revenue_now", "usage_revenue", REVENUE, "invoices"]);
    aggregates.push(col("last_payment").max());
    let entered = spine.entered(entries, aggregates, context);
    // What counts no more was entered, too: it is taken away again, at the first row at the latest.
    let left = |ends: Expr, [revenue, invoices]: [&str; 2]| {
        let columns = [
            col(NUMBER),
            ends.alias(PERIOD),
            col(REVENUE).alias(revenue),
            col("invoices").alias(invoices),
        ];
        let left = daily.clone().select(columns);
        spine.entered(left, sums(&[revenue, invoices]), context)
    };
    let year_ends = left(col(PERIOD) + lit(year), ["year_revenue", "year_invoices"]);
    let window_ends = left(col(WINDOW_ENDS), ["gone_revenue", "gone_invoices"]);
    let within = |all: &str, left: &str| spine::so_far(col(all) - col(left));
    Ok(spine.lives(vec![entered, year_ends, window_ends])?.select([
        col("revenue_now").alias(REVENUE),
        col("usage_revenue"),
        spine::so_far(col(REVENUE)).alias("revenue_to_date"),
        spine::so_far(col("invoices")).alias("invoices_to_date"),
        within(REVENUE, "year_revenue").alias("revenue_12m"),
        within("invoices", "year_invoices").alias("invoices_12m"),
        within(REVENUE, "gone_revenue").alias("window_revenue"),
        within("invoices", "gone_invoices").alias("window_invoices"),
        spine::latest_so_far(col("last_payment")).alias("last_payment"),
    ]))
}
