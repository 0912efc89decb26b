//! Tickets → support load, response and resolution of the period.

use super::merges::AccountMap;
use super::{Context, flag, in_period, summed};
use crate::columns::{ACCOUNT_ID, PERIOD};
use polars::prelude::*;

/// Ratings run from one to five; satisfied are the top two.
const SATISFIED: i64 = 4;

/// The ticket columns of `account_period`. A ticket counts in the period in which it was opened, answered, resolved and rated,
/// each apart: so a late resolution changes no past period.
pub fn per_period(tickets: LazyFrame, map: &AccountMap, context: Context) -> LazyFrame {
    let calendar = context.calendar;
    let on = |instant: &str| calendar.local_date(col(instant));
    let dated = |day: Expr| {
        in_period(
            tickets.clone().filter(day.clone().is_not_null()),
            day,
            context,
        )
    };
    let seconds_to = |instant: &str| {
        let micros = col(instant).cast(DataType::Int64) - col("opened_at").cast(DataType::Int64);
        micros.floor_div(lit(1_000_000i64))
    };
    let one = || flag(col("ticket_id").is_not_null());
    let opened = [
        (one(), "tickets_opened"),
        (flag(col("is_escalated")), "tickets_escalated"),
    ];
    let responded = [
        (one(), "tickets_responded"),
        (seconds_to("first_response_at"), "first_response_seconds"),
    ];
    let closed = [
        (one(), "tickets_closed"),
        (seconds_to("closed_at"), "resolution_seconds"),
    ];
    let is_satisfied = col("satisfaction").gt_eq(lit(SATISFIED));
    let rated = [
        (flag(col("satisfaction").is_not_null()), "ticket_ratings"),
        (flag(is_satisfied), "ticket_ratings_satisfied"),
    ];
    // A customer rates what is resolved; where no resolution is told of, the rating is of the day of the ticket.
    let rated_on = coalesce(&[on("closed_at"), on("opened_at")]);
    let key = || [col(PERIOD), col(ACCOUNT_ID)];
    let full = JoinArgs::new(JoinType::Full).with_coalesce(JoinCoalesce::CoalesceColumns);
    [
        summed(dated(on("first_response_at")), responded, map, context),
        summed(dated(on("closed_at")), closed, map, context),
        summed(dated(rated_on), rated, map, context),
    ]
    .into_iter()
    .fold(
        summed(dated(on("opened_at")), opened, map, context),
        |all, more| all.join(more, key(), key(), full.clone()),
    )
}
