//! Time entries → seconds that customer success spent.

use super::merges::AccountMap;
use super::{Context, in_period};
use crate::columns::{ACCOUNT_ID, PERIOD};
use polars::prelude::*;

/// `cs_seconds` per period, account and `phase`. Whole seconds of each entry: hours are summed exactly.
pub fn phases(time_entries: LazyFrame, map: &AccountMap, context: Context) -> LazyFrame {
    let seconds = (col("hours") * lit(3_600i64).cast(DataType::Decimal(38, 0)))
        .round(0, RoundMode::HalfAwayFromZero)
        .cast(DataType::Int64);
    let entries = in_period(time_entries, col("date"), context);
    map.applied(entries, context.range)
        .with_column(seconds.alias("cs_seconds"))
        .group_by([col(PERIOD), col(ACCOUNT_ID), col("phase")])
        .agg([col("cs_seconds").sum()])
}

/// `cs_seconds` per period and account.
pub fn per_period(time_entries: LazyFrame, map: &AccountMap, context: Context) -> LazyFrame {
    phases(time_entries, map, context)
        .group_by([col(PERIOD), col(ACCOUNT_ID)])
        .agg([col("cs_seconds").sum()])
}
