//! Which rows break a contract, and how.
//!
//! A staged frame carries beside each column its value as it was read (`raw_column`), the file and the row. A violation
//! is one row of: `rule`, `column`, `value`, `file`, `row`.

use super::{Column, Contract};
use crate::period::utc_micros;
use crate::sql;
use polars::prelude::*;

/// Path of the file that a staged row came from.
pub const FILE: &str = "__file";
/// The row's number as a spreadsheet shows it: the header is 1.
pub const ROW: &str = "__row";
/// Where the source says how its files' names date their rows (`file_dates`): the instants between which they must lie.
pub const FILE_FROM: &str = "__file_from";
pub const FILE_TO: &str = "__file_to";
/// Columns of a frame of violations.
pub const VIOLATION_COLUMNS: [&str; 5] = ["rule", "column", "value", "file", "row"];

/// Name of the column that holds a staged column's value as it was read.
pub fn raw_column(column: &str) -> String {
    format!("__raw_{column}")
}

struct RowRule {
    name: String,
    column: String,
    broken: Expr,
}

impl Contract {
    /// The offending rows of `staged`, every row at most once for the rules on single rows.
    ///
    /// `mapped` are the columns that the source has; `referenced` gives, by table, the ids that may be referred to
    /// (a frame of one column, `id`). Tables that are not mapped are not in it, and not checked.
    pub fn violations(
        &self,
        staged: LazyFrame,
        mapped: &[String],
        referenced: &[(&str, LazyFrame)],
    ) -> PolarsResult<LazyFrame> {
        let mut found = vec![self.broken_rows(staged.clone(), mapped)?];
        let is_mapped = |name: &String| mapped.contains(name);
        let key: Vec<&String> = self.key.iter().filter(|name| is_mapped(name)).collect();
        if !key.is_empty() {
            found.push(self.duplicate_keys(staged.clone(), &key));
        }
        if let Some(intervals) = self
            .intervals
            .as_ref()
            .filter(|i| is_mapped(&i.from) && is_mapped(&i.to))
        {
            let per: Vec<Expr> = intervals.per.iter().map(col).collect();
            // A version of no length is never live and overlaps nothing.
            let has_length = col(&intervals.to)
                .is_null()
                .or(col(&intervals.to).gt(col(&intervals.from)))
                .or(col(&intervals.from).is_null());
            // A row without a name is reported for that.
            let is_named = per
                .iter()
                .map(|name| name.clone().is_not_null())
                .reduce(Expr::and);
            let is_named = is_named.unwrap_or(lit(true));
            let order = [per.clone(), vec![col(&intervals.from)]].concat();
            let earlier_end = col(&intervals.to).shift(lit(1)).over(per.clone())?;
            let is_first = col(&intervals.per[0])
                .cum_count(false)
                .over(per)?
                .eq(lit(1));
            let overlaps = is_first.not().and(
                earlier_end
                    .clone()
                    .is_null()
                    .or(earlier_end.gt(col(&intervals.from))),
            );
            let rows = staged
                .clone()
                .filter(has_length.and(is_named))
                .sort_by_exprs(order, SortMultipleOptions::default().with_nulls_last(false))
                .filter(overlaps);
            let rule = format!(
                "overlaps the row before it of the same {}",
                intervals.per.join(", ")
            );
            found.push(report(rows, &rule, &intervals.from));
        }
        for reference in self.references.iter().filter(|r| is_mapped(&r.column)) {
            let Some((_, ids)) = referenced
                .iter()
                .find(|(table, _)| *table == reference.table)
            else {
                continue;
            };
            let rows = staged
                .clone()
                .filter(col(&reference.column).is_not_null())
                .anti_join(ids.clone(), col(&reference.column), col("id"));
            found.push(report(
                rows,
                &missing_reference(&reference.table),
                &reference.column,
            ));
        }
        concat(found, UnionArgs::default())
    }

    /// Whether a row of a staged frame breaks a rule which needs no other row.
    pub fn is_broken(&self, mapped: &[String]) -> PolarsResult<Expr> {
        let rules = self.row_rules(mapped)?.into_iter();
        let any = rules.map(|rule| rule.broken).reduce(Expr::or);
        Ok(any.unwrap_or(lit(false)))
    }

    /// Rows that break a rule which needs no other row.
    pub fn broken_rows(&self, staged: LazyFrame, mapped: &[String]) -> PolarsResult<LazyFrame> {
        let rules = self.row_rules(mapped)?;
        let none = || lit(NULL).cast(DataType::String);
        let (mut rule, mut column, mut value) = (none(), none(), none());
        for broken in rules.iter().rev() {
            let holds = broken.broken.clone();
            rule = when(holds.clone())
                .then(lit(broken.name.as_str()))
                .otherwise(rule);
            column = when(holds.clone())
                .then(lit(broken.column.as_str()))
                .otherwise(column);
            value = when(holds)
                .then(col(raw_column(&broken.column)).cast(DataType::String))
                .otherwise(value);
        }
        Ok(staged.filter(self.is_broken(mapped)?).select([
            rule.alias("rule"),
            column.alias("column"),
            value.alias("value"),
            col(FILE).alias("file"),
            col(ROW).alias("row"),
        ]))
    }

    fn row_rules(&self, mapped: &[String]) -> PolarsResult<Vec<RowRule>> {
        let mut rules = Vec::new();
        for column in self
            .columns
            .iter()
            .filter(|column| mapped.contains(&column.name))
        {
            let mut rule = |name: String, broken: Expr| {
                rules.push(RowRule {
                    name,
                    column: column.name.clone(),
                    broken,
                });
            };
            let value = || col(&column.name);
            let unreadable = col(raw_column(&column.name))
                .is_not_null()
                .and(value().is_null());
            if column.kind != super::Kind::Text {
                rule(unreadable_rule(column), unreadable);
            }
            if column.required {
                rule("must have a value".into(), value().is_null());
            }
            if !column.allowed.is_empty() {
                let allowed = column
                    .allowed
                    .iter()
                    .map(|word| value().eq(lit(word.as_str())))
                    .reduce(Expr::or);
                rule(
                    format!("must be one of {}", column.allowed.join(", ")),
                    allowed.unwrap_or(lit(true)).not(),
                );
            }
            if let Some(min) = column.min {
                rule(format!("must be at least {min}"), value().lt(lit(min)));
            }
        }
        for column in self
            .columns
            .iter()
            .filter(|column| mapped.contains(&column.name))
        {
            let (limit, name) = match (column.kind, column.max) {
                (super::Kind::Decimal, _) => {
                    let limit = super::AMOUNT_LIMIT;
                    (limit, format!("must be below {limit}"))
                }
                (_, Some(max)) => (max + 1, format!("must be at most {max}")),
                _ => continue,
            };
            let value = || col(&column.name);
            let broken = value().gt_eq(lit(limit)).or(value().lt_eq(lit(-limit)));
            rules.push(RowRule {
                name,
                column: column.name.clone(),
                broken,
            });
        }
        let either: Vec<&String> = self
            .one_of
            .iter()
            .filter(|name| mapped.contains(name))
            .collect();
        if let Some(first) = either.first() {
            let broken = either
                .iter()
                .map(|name| col(name.as_str()).is_null())
                .reduce(Expr::and);
            rules.push(RowRule {
                name: "must have a value".into(),
                column: (*first).clone(),
                broken: broken.unwrap_or(lit(false)),
            });
        }
        for check in &self.checks {
            let expression = sql::parse(&check.sql)
                .map_err(|error| polars_err!(ComputeError: "check of {}: {error}", self.table))?;
            if expression
                .columns()
                .iter()
                .all(|name| mapped.contains(name))
            {
                let broken = expression.to_polars()?.not();
                rules.push(RowRule {
                    name: check.message.clone(),
                    column: check.column.clone(),
                    broken,
                });
            }
        }
        Ok(rules
            .into_iter()
            .map(|rule| RowRule {
                broken: rule.broken.fill_null(lit(false)),
                ..rule
            })
            .collect())
    }

    /// Rows of `staged` whose `column` is among `ids` (one column, `id`), reported as not found in `table`.
    pub fn unknown_references(
        staged: LazyFrame,
        column: &str,
        ids: LazyFrame,
        table: &str,
    ) -> LazyFrame {
        report(
            staged.semi_join(ids, col(column), col("id")),
            &missing_reference(table),
            column,
        )
    }

    /// Whether a row is dated outside of the days that its file's name gives; the frame has [`FILE_FROM`] and [`FILE_TO`].
    pub fn is_outside_file(&self) -> Option<Expr> {
        let at = col(self.dated_by.as_ref()?).cast(utc_micros());
        Some(at.clone().lt(col(FILE_FROM)).or(at.gt_eq(col(FILE_TO))))
    }

    /// Rows for which [`Contract::is_outside_file`].
    pub fn outside_file(&self, staged: LazyFrame) -> Option<LazyFrame> {
        let column = self.dated_by.as_ref()?;
        Some(report(
            staged.filter(self.is_outside_file()?),
            "lies outside of the days in its file's name (file_dates)",
            column,
        ))
    }

    /// Rows that lack a value which they need for another reason than their contract.
    pub fn missing_values(rows: LazyFrame, column: &str) -> LazyFrame {
        report(rows, "must have a value", column)
    }

    fn duplicate_keys(&self, staged: LazyFrame, names: &[&String]) -> LazyFrame {
        let key: Vec<Expr> = names.iter().map(|name| col(name.as_str())).collect();
        let listed: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        let twice = staged
            .clone()
            .group_by(key.clone())
            .agg([len().alias("__rows")])
            .filter(col("__rows").gt(lit(1)));
        let rows = staged
            .join_builder()
            .with(twice)
            .on(key)
            .how(JoinType::Semi)
            .join_nulls(true)
            .finish();
        report(rows, &repeated_key(&listed), listed[0])
    }

    /// Rows of `staged` whose key is among `keys`, which stand in more than one row.
    pub fn repeated_keys(&self, staged: LazyFrame, keys: LazyFrame) -> LazyFrame {
        let key: Vec<Expr> = self.key.iter().map(|name| col(name.as_str())).collect();
        let names: Vec<&str> = self.key.iter().map(String::as_str).collect();
        let rows = staged.join(keys, key.clone(), key, JoinArgs::new(JoinType::Semi));
        report(rows, &repeated_key(&names), names[0])
    }
}

fn unreadable_rule(column: &Column) -> String {
    use super::Kind::*;
    let what = match column.kind {
        Text => "text",
        Integer => "a whole number",
        Float => "a number",
        Decimal | Money => "an amount",
        Boolean => "true or false",
        Date => "a date",
        Instant => "a date or time",
    };
    format!("is not {what}")
}

fn report(rows: LazyFrame, rule: &str, column: &str) -> LazyFrame {
    rows.select([
        lit(rule).alias("rule"),
        lit(column).alias("column"),
        col(raw_column(column))
            .cast(DataType::String)
            .alias("value"),
        col(FILE).alias("file"),
        col(ROW).alias("row"),
    ])
}

fn repeated_key(names: &[&str]) -> String {
    format!("the key ({}) stands in more than one row", names.join(", "))
}

fn missing_reference(table: &str) -> String {
    format!("is not in {table}")
}
