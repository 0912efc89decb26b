//! One entry of the catalogue → a metric, with every mistake told.

use super::{CONSTANTS, Interval, Metric, Problems, YamlPath, breakdown_columns, model_columns};
use crate::config::raw::{IntervalName, RawDescription, RawInterval, RawMetric, Trailing};
use crate::config::{Breakdown, Direction, Estimator, Policy};
use crate::contract::{self, Kind};
use crate::sql::{self, Scope, SqlExpr};
use polars::prelude::{DataFrame, DataType, IntoLazy, col, lit};
use std::collections::BTreeSet;

/// What one entry says.
pub(super) fn metric(
    id: &str,
    entry: &RawMetric,
    is_custom: bool,
    policy: &Policy,
    known: &BTreeSet<&str>,
    path: &YamlPath,
    problems: &mut Problems,
) -> Option<Metric> {
    let is_snake_case = id.starts_with(|c: char| c.is_ascii_lowercase())
        && id
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !is_snake_case {
        problems.push(
            path.clone(),
            format!("`{id}` is no metric id"),
            Some("use lower-case letters, digits and `_`".to_owned()),
        );
    }
    if CONSTANTS.contains(&id) {
        problems.push(
            path.clone(),
            format!("`{id}` is a constant of formulas; a metric needs another name"),
            Some(format!("for example `own_{id}`")),
        );
    }
    let mut missing = |field: &str, example: &str| {
        problems.push(
            path.clone(),
            format!("a new metric needs `{field}`"),
            Some(format!("for example `{field}: {example}`")),
        );
    };
    if entry.label.is_none() {
        missing("label", "{en: Expansion rate, ja: 拡大率}");
    }
    if entry.unit.is_none() {
        missing("unit", "ratio");
    }
    if entry.numerator.is_none() && entry.estimator.is_none() {
        missing("numerator", "SUM(expansion_mrr)");
    }
    if is_custom && entry.estimator.is_some() && entry.numerator.is_some() {
        let hint = "leave one of `estimator` and `numerator` out".to_owned();
        problems.push(
            path.key("estimator"),
            "a metric is made by a routine or by SQL",
            Some(hint),
        );
    }
    let trailing = match &entry.trailing {
        None => None,
        Some(Trailing::Periods(periods)) if *periods >= 1 => Some(*periods),
        Some(Trailing::Policy(name)) if name == "ltv_churn_periods" => {
            Some(policy.ltv_churn_periods)
        }
        Some(_) => {
            let hint = "a number of periods from 1 up, or `ltv_churn_periods`".to_owned();
            problems.push(
                path.key("trailing"),
                "this is no number of periods",
                Some(hint),
            );
            None
        }
    };
    let mut side = |text: &Option<String>, key: &str| {
        expression(text.as_deref(), entry.by, known, &path.key(key), problems)
    };
    let numerator = match entry.estimator {
        Some(_) => Some(SqlExpr::null()),
        None => side(&entry.numerator, "numerator"),
    };
    let denominator = side(&entry.denominator, "denominator");
    let [sample, squares, pending] = [
        (&entry.sample, "sample"),
        (&entry.squares, "squares"),
        (&entry.pending, "pending"),
    ]
    .map(|(text, key)| (side(text, key), text.is_some(), key));
    if entry.denominator.is_some() && denominator.is_none() {
        return None;
    }
    for (found, is_given, key) in [&sample, &squares, &pending] {
        if *is_given && found.as_ref().is_none_or(|sql| !sql.has_aggregate()) {
            if found.is_some() {
                let hint = "for example `SUM(opening_customers)`".to_owned();
                problems.push(path.key(key), "this sums up no column", Some(hint));
            }
            return None;
        }
    }
    let interval = interval(entry.interval.as_ref(), entry, known, path, problems);
    let label = entry.label.clone()?;
    let (description_en, description_ja) = match entry.description.clone() {
        None => (String::new(), None),
        Some(RawDescription::Text(text)) => (text, None),
        Some(RawDescription::Both(both)) => (both.en, Some(both.ja)),
    };
    let mut metric = Metric {
        id: id.to_owned(),
        label_en: label.en,
        label_ja: label.ja,
        description_ja: description_ja.unwrap_or_else(|| description_en.clone()),
        description_en,
        unit: entry.unit?,
        good: entry.good.unwrap_or(Direction::Neutral),
        numerator: numerator?,
        denominator,
        interval,
        sample: sample.0,
        squares: squares.0,
        pending: pending.0,
        by: entry.by,
        estimator: entry.estimator,
        dimensions: entry.dimensions.clone(),
        trailing,
        policies: Vec::new(),
        source: entry
            .source
            .clone()
            .unwrap_or_else(|| "the pipeline file".to_owned()),
        hidden: entry.hidden.unwrap_or(false),
        needs: entry.needs.clone().unwrap_or_default(),
        is_custom,
    };
    metric.policies = policies(&metric, entry);
    let names_rows = |side: &SqlExpr| {
        side.columns()
            .iter()
            .any(|name| !CONSTANTS.contains(&name.as_str()))
    };
    // What is told of one thing at a time may be a share of a metric of the group.
    let mixes = |side: &SqlExpr| {
        metric.by.is_none() && metric.is_aggregate() && !side.has_aggregate() && names_rows(side)
    };
    if metric.expressions().any(mixes) {
        let hint = "sum up columns on both sides, or refer to other metrics on both sides";
        problems.push(
            path.clone(),
            "one side aggregates columns, the other refers to metrics",
            Some(hint.to_owned()),
        );
    } else if is_custom {
        trial(&metric, path, problems);
    }
    if metric.trailing.is_some() && !metric.is_aggregate() {
        problems.push(
            path.key("trailing"),
            "only a metric that aggregates columns can be pooled over periods",
            None,
        );
    }
    Some(metric)
}

/// The switches that a definition reads by itself.
fn policies(metric: &Metric, entry: &RawMetric) -> Vec<&'static str> {
    let reads = |name: &str| {
        let mut columns = metric.expressions().flat_map(SqlExpr::columns);
        columns.any(|column| column == name)
    };
    let is_trailing = matches!(&entry.trailing, Some(Trailing::Policy(_)));
    let is_lifetime = metric.estimator == Some(Estimator::ExpectedLifetime);
    let has_sample = metric.sample.is_some() || metric.interval == Some(Interval::Proportion);
    [
        ("gross_margin", reads("gross_margin")),
        (
            "nrr_includes_reactivation",
            reads("nrr_includes_reactivation"),
        ),
        ("ltv_churn_periods", is_trailing),
        ("discount_rate", is_lifetime),
        (
            "bootstrap_samples",
            metric.interval == Some(Interval::Bootstrap),
        ),
        ("small_sample", has_sample),
    ]
    .into_iter()
    .filter_map(|(name, is_read)| is_read.then_some(name))
    .collect()
}

fn interval(
    raw: Option<&RawInterval>,
    entry: &RawMetric,
    known: &BTreeSet<&str>,
    path: &YamlPath,
    problems: &mut Problems,
) -> Option<Interval> {
    let path = path.key("interval");
    let needs = |is_there: bool, what: &str, problems: &mut Problems| {
        if !is_there {
            let hint = Some(format!("give it a `{what}`, or leave `interval` out"));
            problems.push(
                path.clone(),
                format!("this interval needs a `{what}`"),
                hint,
            );
        }
    };
    match raw? {
        RawInterval::Named(IntervalName::Proportion) => {
            needs(entry.denominator.is_some(), "denominator", problems);
            Some(Interval::Proportion)
        }
        RawInterval::Named(IntervalName::Mean) => {
            needs(entry.denominator.is_some(), "denominator", problems);
            needs(entry.squares.is_some(), "squares", problems);
            Some(Interval::Mean)
        }
        RawInterval::Named(IntervalName::Bootstrap) if entry.by.is_some() => {
            let hint = "`proportion` is the one that it may have".to_owned();
            problems.push(path, "a metric with `by` has no bootstrap", Some(hint));
            None
        }
        RawInterval::Named(IntervalName::Bootstrap) => Some(Interval::Bootstrap),
        RawInterval::Through { through: id } if known.contains(id.as_str()) => {
            Some(Interval::Through(id.clone()))
        }
        RawInterval::Through { through: id } => {
            let nearest = sql::nearest::nearest(id, known.iter().copied(), 1);
            let hint = nearest
                .first()
                .map(|near| format!("did you mean `{near}`?"));
            problems.push(path, format!("there is no metric `{id}`"), hint);
            None
        }
    }
}

/// Computes a metric of the pipeline once, on a single row of ones, so that what cannot be computed shows before the night.
#[expect(clippy::disallowed_methods, reason = "one row that is made up here")]
fn trial(metric: &Metric, path: &YamlPath, problems: &mut Problems) {
    for side in metric.expressions() {
        let elsewhere = side.references().iter().map(|reference| reference.column());
        let read = side.columns().iter().cloned().chain(elsewhere);
        let names = read.map(|name| lit(1i64).alias(name));
        let row = DataFrame::default().lazy().select(
            names
                .chain([lit(1i64).alias("__group")])
                .collect::<Vec<_>>(),
        );
        let money = DataType::Decimal(18, 2);
        let columns = model_columns();
        let typed = side
            .columns()
            .iter()
            .filter(|name| columns.contains(&name.as_str()));
        let typed = typed.filter_map(|name| {
            let column = contract::of("account_period").column(name)?;
            (column.kind == Kind::Money).then(|| col(name.as_str()).cast(money.clone()))
        });
        let row = row.with_columns(typed.collect::<Vec<_>>());
        let computed = side.to_polars().and_then(|value| {
            let value = value.alias("__value");
            let frame = if side.has_aggregate() {
                row.group_by([col("__group")]).agg([value])
            } else {
                row.select([value])
            };
            frame
                .select([col("__value").cast(DataType::Float64)])
                .collect()
        });
        let is_list = |frame: &DataFrame| frame.height() != 1;
        let reason = match computed {
            Ok(frame) if is_list(&frame) => {
                "it gives a value per account, not one for the group".to_owned()
            }
            Ok(_) => continue,
            Err(error) => error
                .to_string()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
        };
        let hint = "every column must stand inside an aggregate, such as SUM(…)";
        problems.push(
            path.clone(),
            format!("`{}` cannot be computed: {reason}", side.text()),
            Some(hint.to_owned()),
        );
    }
}

/// Parses one side of a metric and checks every name in it.
fn expression(
    text: Option<&str>,
    by: Option<Breakdown>,
    known: &BTreeSet<&str>,
    path: &YamlPath,
    problems: &mut Problems,
) -> Option<SqlExpr> {
    let parsed = match sql::parse_in(text?, Scope::Metrics) {
        Ok(parsed) => parsed,
        Err(error) => {
            problems.push(path.clone(), error.to_string(), error.hint());
            return None;
        }
    };
    let mut names: Vec<&str> = CONSTANTS.to_vec();
    let what = if let Some(by) = by.filter(|_| parsed.has_aggregate()) {
        names.extend(breakdown_columns(by));
        "column that can be told one at a time"
    } else if parsed.has_aggregate() {
        names.extend(model_columns());
        "column of account_period"
    } else {
        names.extend(known.iter().copied());
        "metric of kpi_values"
    };
    let unknown = parsed.check_columns(&names);
    for name in &unknown {
        let is_column = !parsed.has_aggregate() && model_columns().contains(&name.name.as_str());
        let is_no_number = contract::of("account_period").column(&name.name).is_some()
            && !model_columns().contains(&name.name.as_str());
        let hint = if parsed.has_aggregate() && is_no_number {
            let message = format!("`{}` of account_period is no number", name.name);
            let hint = "a metric adds up numbers; cut by such a column as a dimension";
            problems.push(path.clone(), message, Some(hint.to_owned()));
            continue;
        } else if is_column {
            Some(format!(
                "`{}` is a column; say how its rows are summed up: `SUM({})`",
                name.name, name.name
            ))
        } else if name.nearest.is_empty() {
            None
        } else {
            Some(format!("did you mean `{}`?", name.nearest.join("`, `")))
        };
        problems.push(path.clone(), format!("`{}` is no {what}", name.name), hint);
    }
    let is_constant = |name: &str| CONSTANTS.contains(&name);
    let mut has_constant = false;
    for reference in parsed.references() {
        if is_constant(&reference.name) {
            has_constant = true;
            let message = format!("`{}` is no metric", reference.name);
            let hint = format!(
                "`{}` takes a metric; a constant has no history",
                reference.to.function()
            );
            problems.push(path.clone(), message, Some(hint));
        }
    }
    (unknown.is_empty() && !has_constant).then_some(parsed)
}
