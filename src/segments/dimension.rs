//! Dimensions: the text by which accounts are grouped, as of each period's end.

use crate::columns::*;
use crate::config::Dimension;
use crate::facts::attributes::PLAN_COLUMNS;
use crate::sql::{self, SqlExpr};
use polars::prelude::*;

/// The column that holds a dimension's member beside an account's own columns, which may bear the same name.
pub fn member_column(dimension: &str) -> String {
    format!("dim:{dimension}")
}

/// Whether a dimension reads a score, and so can only be told after the scores.
pub fn reads_scores(dimension: &Dimension) -> bool {
    columns(dimension)
        .iter()
        .any(|name| name == RFM_SEGMENT || name == TOUCH_MODEL)
}

/// Whether a dimension reads what the CRM says of an account, rather than its plan or its scores.
pub fn reads_attributes(dimension: &Dimension) -> bool {
    let derived = [&PLAN_COLUMNS[..], &[RFM_SEGMENT, TOUCH_MODEL]].concat();
    columns(dimension)
        .iter()
        .any(|name| !derived.contains(&name.as_str()))
}

fn columns(dimension: &Dimension) -> Vec<String> {
    sql::parse(&dimension.sql)
        .map_or_else(|_| Vec::new(), |expression| expression.columns().to_vec())
}

/// Adds the members of `dimensions` to account × period rows.
pub fn with_members<'a>(
    accounts: LazyFrame,
    dimensions: impl Iterator<Item = &'a Dimension>,
) -> PolarsResult<LazyFrame> {
    let mut members = Vec::new();
    for dimension in dimensions {
        let own_seats = |node: Expr| match &node {
            Expr::Column(name) if name.as_str() == "seats" => col(OWN_SEATS),
            _ => node,
        };
        let value = expression(&dimension.sql, &dimension.name)?.to_polars()?;
        let value = value.map_expr(own_seats).cast(DataType::String);
        let is_unallocated = col(ACCOUNT_ID).eq(lit(UNALLOCATED));
        let member = when(is_unallocated)
            .then(lit(UNALLOCATED))
            .otherwise(value.fill_null(lit(UNKNOWN)));
        members.push(member.alias(member_column(&dimension.name)));
    }
    Ok(accounts.with_columns(members))
}

fn expression(text: &str, name: &str) -> PolarsResult<SqlExpr> {
    sql::parse(text).map_err(|error| polars_err!(ComputeError: "dimension {name}: {error}"))
}
