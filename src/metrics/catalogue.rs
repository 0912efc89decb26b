//! The metric catalogue: shipped entries and a pipeline's own, in one form, checked and put into the order of evaluation.

use crate::config::error::{Problems, YamlPath};
use crate::config::raw::{RawMetric, Trailing};
use crate::config::{Calendar, Direction, MetricChoice, Policy, Unit};
use crate::contract::{self, Kind};
use crate::sql::{self, SqlExpr};
use polars::prelude::{DataFrame, DataType, IntoLazy, col, lit};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

pub(crate) const SHIPPED: &str = include_str!("catalogue.yaml");

/// Names that expressions may use beside columns and metrics.
pub const CONSTANTS: [&str; 5] = [
    "gross_margin",
    "nrr_includes_reactivation",
    "months_per_period",
    "periods_per_year",
    DAYS_IN_PERIOD,
];
/// The one constant that differs from period to period.
pub const DAYS_IN_PERIOD: &str = "days_in_period";

/// One metric, ready to evaluate and to document.
#[derive(Debug, Clone)]
pub struct Metric {
    pub id: String,
    pub label_en: String,
    pub label_ja: String,
    pub description: String,
    pub unit: Unit,
    pub good: Direction,
    pub numerator: SqlExpr,
    pub denominator: Option<SqlExpr>,
    /// Periods over which numerator and denominator are pooled.
    pub trailing: Option<u32>,
    pub source: String,
    /// Feeds others, is not published.
    pub hidden: bool,
    /// Input tables without which it is null; `usage` is events or sessions.
    pub needs: Vec<String>,
    /// Whether the pipeline file defines or changes it.
    pub is_custom: bool,
}

impl Metric {
    /// Whether numerator and denominator of several members may be summed, so that a BI tool can group them anew.
    pub fn is_reaggregable(&self) -> bool {
        let is_scaled = self
            .expressions()
            .any(|side| side.columns().iter().any(|name| name == DAYS_IN_PERIOD));
        self.is_aggregate() && !is_scaled
    }

    /// Whether it is made from columns of `account_period`, rather than from other metrics.
    pub fn is_aggregate(&self) -> bool {
        self.expressions().any(SqlExpr::has_aggregate)
    }

    fn expressions(&self) -> impl Iterator<Item = &SqlExpr> {
        std::iter::once(&self.numerator).chain(&self.denominator)
    }
}

/// All metrics, each after those it refers to.
#[derive(Debug, Clone)]
pub struct Catalogue {
    in_order: Vec<Metric>,
    /// Ids to publish, in catalogue order: shipped first, then the pipeline's own by name.
    published: Vec<String>,
}

impl Catalogue {
    /// Every metric in the order of evaluation.
    pub fn metrics(&self) -> &[Metric] {
        &self.in_order
    }

    pub fn get(&self, id: &str) -> Option<&Metric> {
        self.in_order.iter().find(|metric| metric.id == id)
    }

    /// The published metrics, in catalogue order.
    pub fn published(&self) -> impl Iterator<Item = &Metric> {
        self.published.iter().filter_map(|id| self.get(id))
    }

    pub fn published_ids(&self) -> &[String] {
        &self.published
    }
}

/// Columns of `account_period` that a metric may aggregate.
pub fn model_columns() -> Vec<&'static str> {
    let is_numeric = |kind| matches!(kind, Kind::Integer | Kind::Money | Kind::Float);
    let columns = contract::of("account_period").columns.iter();
    columns
        .filter(|column| is_numeric(column.kind) && column.each.is_none())
        .map(|column| column.name.as_str())
        .collect()
}

/// The value of a constant that is the same in every period.
pub fn constant(name: &str, policy: &Policy, calendar: &Calendar) -> Option<f64> {
    match name {
        "gross_margin" => Some(policy.gross_margin),
        "nrr_includes_reactivation" => Some(f64::from(u8::from(policy.nrr_includes_reactivation))),
        "months_per_period" => Some(calendar.months_per_period()),
        "periods_per_year" => Some(f64::from(calendar.grain.periods_per_year())),
        _ => None,
    }
}

type Entries = Vec<(String, RawMetric)>;

fn shipped() -> &'static Entries {
    static ENTRIES: OnceLock<Entries> = OnceLock::new();
    ENTRIES.get_or_init(|| {
        let entries: serde_yaml::Mapping =
            serde_yaml::from_str(SHIPPED).expect("the shipped catalogue is valid YAML");
        let read = |(id, entry): (serde_yaml::Value, serde_yaml::Value)| {
            let id = id.as_str().expect("a metric id is text").to_owned();
            (
                id,
                serde_yaml::from_value(entry).expect("a shipped metric is well formed"),
            )
        };
        entries.into_iter().map(read).collect()
    })
}

/// Puts the pipeline's changes onto the shipped catalogue. Every mistake is pushed to `problems` with its YAML path.
pub fn resolve(
    choice: &MetricChoice,
    policy: &Policy,
    problems: &mut Problems,
) -> Option<Catalogue> {
    let errors_before = problems.error_count();
    let mut entries = shipped().clone();
    for (id, changes) in &choice.define {
        match entries.iter_mut().find(|(shipped, _)| shipped == id) {
            Some((_, entry)) => overlay(entry, changes),
            None => entries.push((id.clone(), changes.clone())),
        }
    }
    let known: BTreeSet<&str> = entries.iter().map(|(id, _)| id.as_str()).collect();
    let mut built = Vec::new();
    for (id, entry) in &entries {
        let path = YamlPath::keys(["metrics", "define", id.as_str()]);
        let is_custom = choice.define.contains_key(id);
        built.extend(metric(
            id, entry, is_custom, policy, &known, &path, problems,
        ));
    }
    let published = chosen(choice, &entries, problems);
    let in_order = in_order(built, problems)?;
    (problems.error_count() == errors_before).then_some(Catalogue {
        in_order,
        published,
    })
}

/// The shipped catalogue as it is.
pub fn default_catalogue(policy: &Policy) -> Catalogue {
    let mut problems = Problems::new("metrics/catalogue.yaml");
    resolve(&MetricChoice::default(), policy, &mut problems)
        .expect("the shipped catalogue resolves")
}

fn overlay(entry: &mut RawMetric, changes: &RawMetric) {
    macro_rules! take {
        ($($field:ident),*) => { $( if changes.$field.is_some() { entry.$field = changes.$field.clone(); } )* };
    }
    take!(
        label,
        description,
        unit,
        good,
        trailing,
        source,
        hidden,
        needs
    );
    // A new numerator comes with its own denominator, or with none.
    if changes.numerator.is_some() {
        entry.denominator = changes.denominator.clone();
        entry.numerator = changes.numerator.clone();
    } else if changes.denominator.is_some() {
        entry.denominator = changes.denominator.clone();
    }
}

fn metric(
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
    if entry.numerator.is_none() {
        missing("numerator", "SUM(expansion_mrr)");
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
    let numerator = expression(
        entry.numerator.as_deref(),
        known,
        &path.key("numerator"),
        problems,
    );
    let denominator = expression(
        entry.denominator.as_deref(),
        known,
        &path.key("denominator"),
        problems,
    );
    if entry.denominator.is_some() && denominator.is_none() {
        return None;
    }
    let label = entry.label.clone()?;
    let metric = Metric {
        id: id.to_owned(),
        label_en: label.en,
        label_ja: label.ja,
        description: entry.description.clone().unwrap_or_default(),
        unit: entry.unit?,
        good: entry.good.unwrap_or(Direction::Neutral),
        numerator: numerator?,
        denominator,
        trailing,
        source: entry
            .source
            .clone()
            .unwrap_or_else(|| "the pipeline file".to_owned()),
        hidden: entry.hidden.unwrap_or(false),
        needs: entry.needs.clone().unwrap_or_default(),
        is_custom,
    };
    let names_rows = |side: &SqlExpr| {
        side.columns()
            .iter()
            .any(|name| !CONSTANTS.contains(&name.as_str()))
    };
    let mixes = |side: &SqlExpr| metric.is_aggregate() && !side.has_aggregate() && names_rows(side);
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

/// Computes a metric of the pipeline once, on a single row of ones, so that what cannot be computed shows before the night.
#[expect(clippy::disallowed_methods, reason = "one row that is made up here")]
fn trial(metric: &Metric, path: &YamlPath, problems: &mut Problems) {
    for side in metric.expressions() {
        let names = side
            .columns()
            .iter()
            .map(|name| lit(1i64).alias(name.as_str()));
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
    known: &BTreeSet<&str>,
    path: &YamlPath,
    problems: &mut Problems,
) -> Option<SqlExpr> {
    let parsed = match sql::parse(text?) {
        Ok(parsed) => parsed,
        Err(error) => {
            problems.push(path.clone(), error.to_string(), error.hint());
            return None;
        }
    };
    let mut names: Vec<&str> = CONSTANTS.to_vec();
    let what = if parsed.has_aggregate() {
        names.extend(model_columns());
        "column of account_period"
    } else {
        names.extend(known.iter().copied());
        "metric"
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
    unknown.is_empty().then_some(parsed)
}

fn chosen(choice: &MetricChoice, entries: &Entries, problems: &mut Problems) -> Vec<String> {
    let ids: Vec<&str> = entries.iter().map(|(id, _)| id.as_str()).collect();
    let mut check = |list: &[String], field: &str| {
        for (index, id) in list.iter().enumerate() {
            if !ids.contains(&id.as_str()) {
                let nearest = sql::nearest::nearest(id, ids.iter().copied(), 1);
                let hint = nearest
                    .first()
                    .map(|near| format!("did you mean `{near}`?"));
                problems.push(
                    YamlPath::keys(["metrics", field]).index(index),
                    format!("there is no metric `{id}`"),
                    hint,
                );
            }
        }
    };
    check(choice.only.as_deref().unwrap_or_default(), "only");
    check(&choice.exclude, "exclude");
    let is_wanted = |id: &str| match &choice.only {
        Some(only) => only.iter().any(|wanted| wanted == id),
        None => true,
    };
    let is_hidden = |entry: &RawMetric| entry.hidden.unwrap_or(false);
    let is_excluded = |id: &str| choice.exclude.iter().any(|excluded| excluded == id);
    let published = entries
        .iter()
        .filter(|(id, entry)| !is_hidden(entry) && is_wanted(id) && !is_excluded(id));
    published.map(|(id, _)| id.clone()).collect()
}

/// Sorts metrics so that each comes after those it refers to.
fn in_order(metrics: Vec<Metric>, problems: &mut Problems) -> Option<Vec<Metric>> {
    let by_id: BTreeMap<&str, &Metric> = metrics
        .iter()
        .map(|metric| (metric.id.as_str(), metric))
        .collect();
    let mut done: Vec<&str> = Vec::new();
    for metric in &metrics {
        if let Err(circle) = visit(&metric.id, &by_id, &mut done, &mut Vec::new()) {
            let path = YamlPath::keys(["metrics", "define", metric.id.as_str()]);
            problems.push(
                path,
                format!(
                    "metrics refer to each other in a circle: {}",
                    circle.join(" → ")
                ),
                None,
            );
            return None;
        }
    }
    Some(
        done.into_iter()
            .filter_map(|id| by_id.get(id).copied().cloned())
            .collect(),
    )
}

fn visit<'a>(
    id: &'a str,
    by_id: &BTreeMap<&'a str, &'a Metric>,
    done: &mut Vec<&'a str>,
    open: &mut Vec<&'a str>,
) -> Result<(), Vec<String>> {
    let Some(metric) = by_id.get(id).copied().filter(|_| !done.contains(&id)) else {
        return Ok(());
    };
    open.push(id);
    for expression in metric
        .expressions()
        .filter(|expression| !expression.has_aggregate())
    {
        for name in expression.columns() {
            if open.contains(&name.as_str()) {
                return Err(open
                    .iter()
                    .map(|id| (*id).to_owned())
                    .chain([name.clone()])
                    .collect());
            }
            if let Some((known, _)) = by_id.get_key_value(name.as_str()) {
                visit(known, by_id, done, open)?;
            }
        }
    }
    open.pop();
    done.push(id);
    Ok(())
}
