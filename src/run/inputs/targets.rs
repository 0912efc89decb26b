//! What a contract cannot say of targets: it does not know the calendar, the catalogue and the dimensions.

use crate::columns::*;
use crate::config::{Calendar, Pipeline};
use crate::contract::{FILE, ROW, VIOLATION_COLUMNS};
use crate::marts;
use crate::metrics::catalogue::{Catalogue, Metric};
use crate::period::PeriodError;
use crate::sql::nearest::nearest;
use polars::prelude::*;
use std::collections::BTreeMap;

/// Rows whose period, metric or dimension there is not, and those of which there is another of the same; in the form of
/// [`Contract::violations`](crate::contract::Contract::violations). A value that lacks is the contract's affair.
pub(super) fn violations(
    rows: &DataFrame,
    pipeline: &Pipeline,
    catalogue: &Catalogue,
) -> PolarsResult<LazyFrame> {
    let groupings = marts::groupings(pipeline);
    let names = Names {
        pipeline,
        catalogue,
        dimensions: groupings.into_iter().map(|one| one.dimension).collect(),
    };
    let texts = |column: &str| -> PolarsResult<Option<StringChunked>> {
        let column = rows.column(column).ok();
        column.map(|column| Ok(column.str()?.clone())).transpose()
    };
    let columns = ["period", "metric", DIMENSION, MEMBER, "serves"];
    let [periods, metrics, dimensions, members, serves] = columns.map(texts);
    let (periods, metrics) = (periods?, metrics?);
    let (dimensions, members, serves) = (dimensions?, members?, serves?);
    let numbers = rows.column("value")?.f64()?;
    let at = |column: &Option<StringChunked>, row: usize| -> Option<String> {
        column.as_ref()?.get(row).map(str::to_owned)
    };

    let mut found = Found::default();
    let mut same: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for row in 0..rows.height() {
        let [period, metric, dimension, member, serves] =
            [&periods, &metrics, &dimensions, &members, &serves].map(|column| at(column, row));
        let mut wrong = |column: &'static str, value: &Option<String>, rule: String| {
            found.push(rows, row, column, value.clone(), rule)
        };
        let calendar = &pipeline.calendar;
        let index = period.as_deref().map(|text| calendar.parse_period(text));
        if let Some(Err(error)) = &index {
            wrong("period", &period, no_period(error))?;
        }
        let group = dimension.as_deref().unwrap_or(TOTAL);
        for (column, id) in [("metric", &metric), ("serves", &serves)] {
            let rule = id.as_deref().and_then(|id| names.no_metric(id, group));
            if let Some(rule) = rule {
                wrong(column, id, rule)?;
            }
        }
        if metric.is_some() && metric == serves {
            wrong("serves", &serves, "a metric cannot serve itself".to_owned())?;
        }
        if let Some(rule) = names.no_dimension(group) {
            wrong(DIMENSION, &dimension, rule)?;
        }
        let is_total = group == TOTAL;
        if is_total && member.as_deref().is_some_and(|member| member != TOTAL) {
            let rule = "is of no dimension: the total has no such member";
            wrong(MEMBER, &member, rule.to_owned())?;
        }
        // Where both are mapped, the contract says it.
        if !is_total && members.is_none() {
            let rule = "a target of a dimension needs its member";
            wrong(DIMENSION, &dimension, rule.to_owned())?;
        }
        let number = numbers.get(row);
        if let Some(number) = number.filter(|number| !number.is_finite()) {
            let value = Some(number.to_string());
            wrong("value", &value, "is not a finite number".to_owned())?;
        }
        if let (Some(Ok(index)), Some(metric)) = (index, metric) {
            let member = member.unwrap_or_else(|| TOTAL.to_owned());
            let key = (index, metric, group.to_owned(), member);
            same.entry(key).or_default().push(row);
        }
    }
    for (key, twice) in same.into_iter().filter(|(_, rows)| rows.len() > 1) {
        for row in twice {
            let rule = "two targets of one metric, period, dimension and member";
            found.push(rows, row, "metric", Some(key.1.clone()), rule.to_owned())?;
        }
    }
    found.frame()
}

/// Targets with the index of their period; those without a dimension are the total's.
pub(super) fn indexed(targets: LazyFrame, calendar: &Calendar) -> LazyFrame {
    let calendar = calendar.clone();
    let index = move |periods: Column| {
        let indices: Int32Chunked = periods
            .str()?
            .iter()
            .map(|text| calendar.parse_period(text?).ok())
            .collect();
        Ok(indices.with_name(periods.name().clone()).into_column())
    };
    let index = col("period").map(index, |_, field| {
        Ok(Field::new(field.name().clone(), DataType::Int32))
    });
    let or_total = |name: &str| col(name).fill_null(lit(TOTAL));
    targets.with_columns([index.alias(PERIOD), or_total(DIMENSION), or_total(MEMBER)])
}

fn no_period(error: &PeriodError) -> String {
    match error {
        PeriodError::NotAPeriod { grain, example, .. } => {
            format!("is not a {grain} (write it like `{example}`, or its first day)")
        }
        PeriodError::OffBoundary { grain, start, .. } => format!(
            "is not the first day of a {grain}; the {grain} that holds it starts on {start}"
        ),
    }
}

/// What a target may name.
struct Names<'a> {
    pipeline: &'a Pipeline,
    catalogue: &'a Catalogue,
    dimensions: Vec<String>,
}

impl Names<'_> {
    /// Why a metric has no value that a target of this dimension could be held against.
    fn no_metric(&self, id: &str, dimension: &str) -> Option<String> {
        let Some(metric) = self.catalogue.get(id) else {
            let published = self.catalogue.published_ids().iter().map(String::as_str);
            return Some(with_nearest("is no metric", id, published));
        };
        self.not_told(metric, dimension)
    }

    fn not_told(&self, metric: &Metric, dimension: &str) -> Option<String> {
        let choice = &self.pipeline.metrics;
        let is_excluded = choice.exclude.contains(&metric.id);
        let is_left_out = |only: &Vec<String>| !only.contains(&metric.id);
        let why = if metric.by.is_some() {
            "is told of one thing at a time, in kpi_breakdown; targets are of metrics of kpi_values"
        } else if metric.hidden {
            "is not published: it only feeds other metrics"
        } else if is_excluded {
            "is not published: metrics.exclude names it"
        } else if choice.only.as_ref().is_some_and(is_left_out) {
            "is not published: metrics.only does not name it"
        } else if !metric.is_for(dimension) {
            let own = metric.dimensions.iter().flatten();
            let own: Vec<&str> = std::iter::once(TOTAL)
                .chain(own.map(String::as_str))
                .collect();
            return Some(format!(
                "is not published for {dimension}, only for {}",
                own.join(", ")
            ));
        } else {
            return None;
        };
        Some(why.to_owned())
    }

    fn no_dimension(&self, name: &str) -> Option<String> {
        let known = self.dimensions.iter().map(String::as_str);
        let is_known = known.clone().any(|known| known == name);
        (!is_known).then(|| with_nearest("is no dimension or cohort", name, known))
    }
}

fn with_nearest<'a>(rule: &str, word: &str, known: impl Iterator<Item = &'a str>) -> String {
    match nearest(word, known, 1).first() {
        Some(near) => format!("{rule} (did you mean `{near}`?)"),
        None => rule.to_owned(),
    }
}

/// Violations, column by column.
#[derive(Default)]
struct Found {
    rules: Vec<String>,
    columns: Vec<&'static str>,
    values: Vec<Option<String>>,
    files: Vec<Option<String>>,
    rows: Vec<Option<i64>>,
}

impl Found {
    fn push(
        &mut self,
        rows: &DataFrame,
        row: usize,
        column: &'static str,
        value: Option<String>,
        rule: String,
    ) -> PolarsResult<()> {
        self.rules.push(rule);
        self.columns.push(column);
        self.values.push(value);
        let file = rows.column(FILE)?.str()?.get(row);
        self.files.push(file.map(str::to_owned));
        self.rows.push(rows.column(ROW)?.i64()?.get(row));
        Ok(())
    }

    fn frame(self) -> PolarsResult<LazyFrame> {
        let [rule, column, value, file, row] = VIOLATION_COLUMNS;
        let frame = df!(
            rule => self.rules,
            column => self.columns,
            value => self.values,
            file => self.files,
            row => self.rows,
        )?;
        Ok(frame.lazy())
    }
}
