//! The metric catalogue: shipped entries and a pipeline's own, in one form, checked and put into the order of evaluation.

mod entry;
mod intervals;
mod order;

use crate::columns::TOTAL;
use crate::config::error::{Problems, YamlPath};
use crate::config::raw::RawMetric;
use crate::config::{Breakdown, Calendar, Direction, Estimator, MetricChoice, Policy, Unit};
use crate::contract::{self, Kind};
use crate::sql::{self, Elsewhere, Reference, SqlExpr};
use std::collections::BTreeSet;
use std::fmt;
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
    pub description_en: String,
    /// The English one where there is no Japanese.
    pub description_ja: String,
    pub unit: Unit,
    pub good: Direction,
    pub numerator: SqlExpr,
    pub denominator: Option<SqlExpr>,
    pub interval: Option<Interval>,
    /// How many observations the value rests on.
    pub sample: Option<SqlExpr>,
    /// Sum of squares, for the interval of a mean.
    pub squares: Option<SqlExpr>,
    /// Observations whose outcome is not known yet.
    pub pending: Option<SqlExpr>,
    /// Told of one thing at a time, in `kpi_breakdown`.
    pub by: Option<Breakdown>,
    /// The routine that makes it, in place of SQL.
    pub estimator: Option<Estimator>,
    /// Dimensions for which it is published beside the total; `None`: all.
    pub dimensions: Option<Vec<String>>,
    /// Periods over which numerator and denominator are pooled.
    pub trailing: Option<u32>,
    /// Keys of `policy` that its own definition reads, beside what shapes its columns.
    pub policies: Vec<&'static str>,
    pub source: String,
    /// Feeds others, is not published.
    pub hidden: bool,
    /// Input tables without which it is null; `usage` is events or sessions.
    pub needs: Vec<String>,
    /// Whether the pipeline file defines or changes it.
    pub is_custom: bool,
}

/// How the 95 % interval of a value is made (docs/definitions.md § 11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interval {
    Proportion,
    Mean,
    Bootstrap,
    /// The formula at the bounds of this metric.
    Through(String),
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proportion => f.write_str("proportion"),
            Self::Mean => f.write_str("mean"),
            Self::Bootstrap => f.write_str("bootstrap"),
            Self::Through(other) => write!(f, "through {other}"),
        }
    }
}

impl Metric {
    /// Whether numerator and denominator of several members may be summed, so that a BI tool can group them anew. What is the
    /// same for every member, a constant or the days of a period, may not; nor an average, a maximum, or a ratio of sums.
    pub fn is_reaggregable(&self) -> bool {
        let is_scaled = |side: &SqlExpr| side.columns().iter().any(|name| name == DAYS_IN_PERIOD);
        let adds_up = |side: &SqlExpr| side.adds_up() && !is_scaled(side);
        self.by.is_none() && self.expressions().all(adds_up)
    }

    /// Whether it is made from columns of `account_period`, rather than from other metrics.
    pub fn is_aggregate(&self) -> bool {
        self.expressions().any(SqlExpr::has_aggregate)
    }

    /// Whether it is published for a dimension or cohort.
    pub fn is_for(&self, dimension: &str) -> bool {
        let is_chosen = |list: &Vec<String>| list.iter().any(|name| name == dimension);
        dimension == TOTAL || self.dimensions.as_ref().is_none_or(is_chosen)
    }

    /// What its formula takes from other periods, or from the total.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.expressions().flat_map(SqlExpr::references)
    }

    /// What stands above the line, as a reader may see it.
    pub fn numerator_text(&self) -> &str {
        match self.estimator {
            Some(Estimator::OnboardingDays) => "KAPLAN_MEIER_MEDIAN(onboarding days)",
            Some(Estimator::ExpectedLifetime) => "SUM(sBG survival, discounted)",
            None => self.numerator.text(),
        }
    }

    /// How many observations the value rests on: of a proportion, all that it is a share of.
    pub fn sample_sql(&self) -> Option<&SqlExpr> {
        let is_share = self.interval == Some(Interval::Proportion);
        let all = self.denominator.as_ref().filter(|_| is_share);
        self.sample.as_ref().or(all)
    }

    /// The metrics that its formula names, in the order in which they stand there.
    pub fn refers_to(&self) -> impl Iterator<Item = &str> {
        let formulas = self.expressions().filter(|side| !side.has_aggregate());
        let names = formulas.flat_map(SqlExpr::columns).map(String::as_str);
        names.filter(|name| !CONSTANTS.contains(name))
    }

    /// What it is computed from: numerator, and denominator if it has one.
    pub fn expressions(&self) -> impl Iterator<Item = &SqlExpr> {
        std::iter::once(&self.numerator).chain(&self.denominator)
    }
}

/// All metrics, each after those it refers to.
#[derive(Debug, Clone)]
pub struct Catalogue {
    in_order: Vec<Metric>,
    /// Ids to publish in `kpi_values`, in catalogue order: shipped first, then the pipeline's own by name.
    published: Vec<String>,
    /// The same of `kpi_breakdown`.
    broken_down: Vec<String>,
}

impl Catalogue {
    /// Every metric of `kpi_values`, published or hidden, in the order of evaluation.
    pub fn metrics(&self) -> impl Iterator<Item = &Metric> {
        self.in_order.iter().filter(|metric| metric.by.is_none())
    }

    /// Every metric, published or hidden, of whichever table.
    pub fn all(&self) -> impl Iterator<Item = &Metric> {
        self.in_order.iter()
    }

    pub fn get(&self, id: &str) -> Option<&Metric> {
        self.in_order.iter().find(|metric| metric.id == id)
    }

    /// The published metrics, in catalogue order.
    pub fn published(&self) -> impl Iterator<Item = &Metric> {
        self.published.iter().filter_map(|id| self.get(id))
    }

    /// The metrics of `kpi_breakdown`, in catalogue order.
    pub fn broken_down(&self) -> impl Iterator<Item = &Metric> {
        self.broken_down.iter().filter_map(|id| self.get(id))
    }

    /// Whether a published metric is made by a routine, or rests on one that is.
    pub fn needs(&self, estimator: Estimator) -> bool {
        let mut all = self
            .published()
            .flat_map(|metric| self.with_referred(metric));
        all.any(|(_, metric)| metric.estimator == Some(estimator))
    }

    /// Whether a formula takes values of other periods.
    pub fn looks_back(&self) -> bool {
        let mut references = self.all().flat_map(|metric| metric.references());
        references.any(|reference| reference.to != Elsewhere::Total)
    }

    /// All that the dictionary tells of: `kpi_values`, then `kpi_breakdown`.
    pub fn documented(&self) -> impl Iterator<Item = &Metric> {
        self.published().chain(self.broken_down())
    }

    /// A metric, and below it, each once, those that its formula rests on; with how deep they stand.
    pub fn with_referred<'a>(&'a self, metric: &'a Metric) -> Vec<(usize, &'a Metric)> {
        with_referred(metric, &self.in_order)
    }

    pub fn published_ids(&self) -> &[String] {
        &self.published
    }
}

fn with_referred<'a>(metric: &'a Metric, known: &'a [Metric]) -> Vec<(usize, &'a Metric)> {
    let mut found: Vec<(usize, &Metric)> = Vec::new();
    let mut open = vec![(0, metric)];
    while let Some((depth, metric)) = open.pop() {
        if found.iter().any(|(_, other)| other.id == metric.id) {
            continue;
        }
        found.push((depth, metric));
        let named = metric.refers_to();
        let below = named.filter_map(|id| known.iter().find(|other| other.id == id));
        let below: Vec<&Metric> = below.collect();
        // The first one named is taken up first.
        open.extend(below.into_iter().rev().map(|other| (depth + 1, other)));
    }
    found
}

/// Columns that a metric with `by` may aggregate: facts of an account, a period and one thing.
pub fn breakdown_columns(by: Breakdown) -> &'static [&'static str] {
    match by {
        Breakdown::SurveyItem => &["csat_answers", "csat_satisfied"],
        Breakdown::Feature => &["feature_customers"],
        Breakdown::Phase => &["cs_seconds"],
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
    // What is told of one thing at a time has no value that a formula could take.
    let whole = entries.iter().filter(|(_, entry)| entry.by.is_none());
    let known: BTreeSet<&str> = whole.map(|(id, _)| id.as_str()).collect();
    let mut built = Vec::new();
    for (id, entry) in &entries {
        let path = YamlPath::keys(["metrics", "define", id.as_str()]);
        let is_custom = choice.define.contains_key(id);
        built.extend(entry::metric(
            id, entry, is_custom, policy, &known, &path, problems,
        ));
    }
    let chosen = chosen(choice, &entries, problems);
    let mut in_order = order::in_order(built, problems)?;
    let is_asked_for = |id: &str| {
        let own = choice.define.get(id);
        own.is_some_and(|entry| entry.interval.is_some())
    };
    intervals::check(&mut in_order, is_asked_for, problems);
    let is_broken_down = |id: &String| {
        let metric = in_order.iter().find(|metric| metric.id == *id);
        metric.is_some_and(|metric| metric.by.is_some())
    };
    let (broken_down, published) = chosen.into_iter().partition(is_broken_down);
    (problems.error_count() == errors_before).then_some(Catalogue {
        in_order,
        published,
        broken_down,
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
        by,
        estimator,
        dimensions,
        source,
        hidden,
        needs
    );
    // A new numerator comes with its own denominator and interval, or with none.
    if changes.numerator.is_some() {
        entry.denominator = None;
        entry.interval = None;
        entry.sample = None;
        entry.squares = None;
        entry.pending = None;
    }
    take!(numerator, denominator, interval, sample, squares, pending);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::load;
    use crate::config::raw::RawDescription;

    #[test]
    fn every_shipped_metric_is_described_in_both_languages() {
        let is_japanese = |c: char| matches!(c, '\u{3040}'..='\u{30ff}' | '\u{4e00}'..='\u{9fff}');
        for (id, entry) in shipped() {
            let Some(RawDescription::Both(text)) = &entry.description else {
                panic!("{id} has no description in English and Japanese");
            };
            let is_english = text.en.is_ascii() || !text.en.contains(is_japanese);
            assert!(is_english && text.en.len() > 3, "{id}: {}", text.en);
            assert!(text.ja.contains(is_japanese), "{id}: {}", text.ja);
            let label = entry.label.as_ref().expect("a label");
            assert!(!label.en.contains(is_japanese), "{id}: {}", label.en);
        }
    }

    #[test]
    fn what_does_not_add_up_over_members_is_not_added_up() {
        for (sides, expected) in [
            ("numerator: SUM(mau)", true),
            ("numerator: SUM(mau), denominator: SUM(seats)", true),
            ("numerator: SUM(mau), denominator: periods_per_year", false),
            ("numerator: SUM(events), denominator: days_in_period", false),
            ("numerator: gross_margin, denominator: SUM(seats)", false),
            ("numerator: mrr, denominator: closing_customers", false),
            (
                "numerator: 100 * SUM(mau), denominator: SUM(wau) + SUM(seats)",
                true,
            ),
            ("numerator: AVG(mau)", false),
            ("numerator: SUM(mau), denominator: MAX(seats)", false),
            ("numerator: COUNT(DISTINCT seats)", false),
            ("numerator: SUM(mau) / SUM(seats)", false),
        ] {
            let label = "label: {en: Own, ja: 独自}";
            let define = format!("own: {{{label}, unit: ratio, {sides}}}");
            let catalogue = with_metrics(&define);
            let own = catalogue.get("own").expect("the pipeline's metric");
            assert_eq!(own.is_reaggregable(), expected, "{sides}");
        }
    }

    /// Every shipped side that aggregates is made of sums.
    #[test]
    fn shipped_aggregates_add_up() {
        let catalogue = with_metrics("");
        let aggregates = |metric: &&Metric| metric.expressions().all(SqlExpr::has_aggregate);
        for metric in catalogue.metrics().filter(aggregates) {
            assert!(metric.is_reaggregable(), "{}", metric.id);
        }
    }

    fn with_metrics(define: &str) -> Catalogue {
        let text = format!("{PIPELINE}metrics: {{define: {{{define}}}}}");
        let loaded = load("pipeline.yaml", &text, &|_| None);
        let pipeline = loaded.draft.expect("a pipeline");
        let mut problems = Problems::new("pipeline.yaml");
        let catalogue = resolve(&pipeline.metrics, &pipeline.policy, &mut problems);
        catalogue.unwrap_or_else(|| panic!("{define}: {problems}"))
    }

    const PIPELINE: &str = "
version: 1
name: small
currency: JPY
calendar: {time_zone: Asia/Tokyo, begin: 2024-01-01}
sources: {accounts: {path: accounts.csv}, subscriptions: {path: subscriptions.csv}}
policy: {gross_margin: 0.8}
outputs: {root: out}
";
}
