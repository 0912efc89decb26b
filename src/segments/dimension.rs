//! Dimensions: the text by which accounts are grouped, as of each period's end.

use super::earlier::{read_of_earlier, with_earlier};
use crate::columns::*;
use crate::config::{Calendar, Dimension};
use crate::contract::{self, Kind};
use crate::facts::attributes::PLAN_COLUMNS;
use crate::sql::{self, Scope, SqlExpr};
use polars::prelude::*;
use std::collections::BTreeSet;

/// The column that holds a dimension's member beside an account's own columns, which may bear the same name.
pub fn member_column(dimension: &str) -> String {
    format!("dim:{dimension}")
}

/// Whether a dimension reads a score, and so can only be told after the scores.
pub fn reads_scores(dimension: &Dimension) -> bool {
    columns(dimension)
        .iter()
        .any(|name| SCORES.contains(&name.as_str()))
}

/// Whether a dimension reads what the CRM says of an account, rather than its plan, its scores or its facts.
pub fn reads_attributes(dimension: &Dimension) -> bool {
    let model = contract::of("account_period");
    let is_fact = |name: &str| {
        let column = model.column(name).filter(|_| own(name) == name);
        column.is_some_and(|column| !matches!(column.kind, Kind::Text | Kind::Boolean))
            || ["mrr", "community_active"].contains(&name)
    };
    let is_derived =
        |name: &str| PLAN_COLUMNS.contains(&name) || SCORES.contains(&name) || is_fact(name);
    columns(dimension).iter().any(|name| !is_derived(name))
}

fn columns(dimension: &Dimension) -> Vec<String> {
    sql::parse_in(&dimension.sql, Scope::Account)
        .map_or_else(|_| Vec::new(), |expression| expression.columns().to_vec())
}

/// Adds the members of `dimensions` to account × period rows; `past` as [`with_earlier`] takes it.
pub fn with_members<'a>(
    accounts: LazyFrame,
    past: Option<&DataFrame>,
    dimensions: impl Iterator<Item = &'a Dimension>,
    calendar: &Calendar,
) -> PolarsResult<LazyFrame> {
    let mut members = Vec::new();
    let mut expressions = Vec::new();
    for dimension in dimensions {
        let own_column = |node: Expr| match &node {
            Expr::Column(name) => col(own(name)),
            _ => node,
        };
        let expression = expression(&dimension.sql, &dimension.name)?;
        let value = expression.to_polars()?.map_expr(own_column);
        let value = value.cast(DataType::String).fill_null(lit(UNKNOWN));
        let is_unallocated = col(ACCOUNT_ID).eq(lit(UNALLOCATED));
        let member = when(is_unallocated).then(lit(UNALLOCATED)).otherwise(value);
        members.push(member.alias(member_column(&dimension.name)));
        expressions.push(expression);
    }
    let read = expressions.iter().flat_map(SqlExpr::references);
    let earlier: Vec<String> = read.map(|reference| reference.column()).collect();
    Ok(
        with_earlier(accounts, past, expressions.iter(), own, calendar)?
            .with_columns(members)
            .drop(by_name(earlier, false, false)),
    )
}

/// The columns that dimensions read of earlier periods, and how far back: see [`read_of_earlier`].
pub fn reads_of_earlier(
    dimensions: &[Dimension],
    calendar: &Calendar,
) -> PolarsResult<(BTreeSet<String>, i32)> {
    let expressions = dimensions
        .iter()
        .map(|dimension| expression(&dimension.sql, &dimension.name))
        .collect::<PolarsResult<Vec<_>>>()?;
    Ok(read_of_earlier(expressions.iter(), own, calendar))
}

/// The column that a dimension means: of the seats, what the CRM says.
fn own(name: &str) -> &str {
    match name {
        "seats" => OWN_SEATS,
        name => name,
    }
}

fn expression(text: &str, name: &str) -> PolarsResult<SqlExpr> {
    sql::parse_in(text, Scope::Account)
        .map_err(|error| polars_err!(ComputeError: "dimension {name}: {error}"))
}
