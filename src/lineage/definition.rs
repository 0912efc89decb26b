//! What a metric is made of: the metrics that its formula refers to, columns of `account_period`, inputs, policy switches.

use crate::config::{Breakdown, Estimator, Input, Pipeline, Source};
use crate::contract;
use crate::metrics::catalogue::{self, CONSTANTS, Catalogue, Metric};
use crate::sql::SqlExpr;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// All that stands behind a metric, as it is executed.
#[derive(Debug, Serialize)]
pub struct Definition {
    pub formulas: Vec<Formula>,
    pub columns: Vec<Described>,
    pub inputs: Vec<InputTable>,
    pub policies: Vec<Setting>,
    /// What expressions name beside columns, metrics and policies.
    pub constants: Vec<Setting>,
}

/// The SQL of one metric.
#[derive(Debug, Serialize)]
pub struct Formula {
    pub metric: String,
    /// 0: the metric itself; 1: what its formula refers to; and so on.
    pub depth: usize,
    pub numerator: String,
    pub denominator: Option<String>,
    pub trailing_periods: Option<u32>,
}

#[derive(Debug, Serialize)]
pub struct Described {
    pub column: String,
    pub description: String,
}

#[derive(Debug, Serialize)]
pub struct InputTable {
    pub table: String,
    /// File or pattern; `None` where the pipeline maps no such table, or writes its rows itself.
    pub path: Option<String>,
    pub is_mapped: bool,
    /// Whether all of the table's columns count, or only those that are listed.
    pub is_whole: bool,
    pub columns: Vec<InputColumn>,
}

/// A column of an input table, and what of the source it is.
#[derive(Debug, Serialize)]
pub struct InputColumn {
    pub column: String,
    /// A column of the source or an expression over its columns.
    pub source: Option<String>,
    /// The same value in every row.
    pub constant: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Setting {
    pub name: String,
    pub value: Value,
}

/// What a metric of a pipeline is made of.
pub fn definition(metric: &Metric, catalogue: &Catalogue, pipeline: &Pipeline) -> Definition {
    let all = catalogue.with_referred(metric);
    let formula = |(depth, metric): &(usize, &Metric)| Formula {
        metric: metric.id.clone(),
        depth: *depth,
        numerator: metric.numerator_text().to_owned(),
        denominator: metric.denominator.as_ref().map(|sql| sql.text().to_owned()),
        trailing_periods: metric.trailing,
    };
    let columns = columns(metric, catalogue);
    Definition {
        formulas: all.iter().map(formula).collect(),
        inputs: inputs(metric, &columns, pipeline),
        policies: policies(metric, catalogue)
            .into_iter()
            .map(|name| Setting {
                value: policy_value(pipeline, &name),
                name,
            })
            .collect(),
        constants: constants(&all, pipeline),
        columns: columns.into_iter().map(described).collect(),
    }
}

/// Columns of `account_period` that a metric reads, by itself and through its formula, in the order of their first mention.
pub fn columns(metric: &Metric, catalogue: &Catalogue) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    for (_, metric) in catalogue.with_referred(metric) {
        let stand_ins: &[&str] = match metric.estimator {
            Some(Estimator::OnboardingDays) => &["onboardings_started", "onboardings_completed"],
            Some(Estimator::ExpectedLifetime) => &["cohort_first_paid", "churned_customers"],
            None => &[],
        };
        let asides = [&metric.sample, &metric.squares, &metric.pending];
        let read = metric.expressions().chain(asides.into_iter().flatten());
        let read = read.filter(|sql| sql.has_aggregate());
        let read = read.flat_map(SqlExpr::columns).map(String::as_str);
        for name in read.chain(stand_ins.iter().copied()) {
            if !CONSTANTS.contains(&name) && !columns.iter().any(|column| column == name) {
                columns.push(name.to_owned());
            }
        }
    }
    columns
}

/// Keys of `policy` that decide a metric's value, interval or flags.
pub fn policies(metric: &Metric, catalogue: &Catalogue) -> Vec<String> {
    let model = contract::of("account_period");
    let own = metric.policies.iter().copied();
    // How sure one may be is a matter of the metric itself, not of those below it.
    let below = catalogue.with_referred(metric).into_iter().skip(1);
    let below = below.flat_map(|(_, metric)| metric.policies.iter().copied());
    let below = below.filter(|name| !["bootstrap_samples", "small_sample"].contains(name));
    let columns = columns(metric, catalogue);
    let of_columns = columns
        .iter()
        .filter_map(|column| model.lineage_of(column))
        .flat_map(|entry| entry.policy.iter().map(String::as_str));
    let mut found: Vec<String> = Vec::new();
    for name in own.chain(below).chain(of_columns) {
        if !found.iter().any(|known| known == name) {
            found.push(name.to_owned());
        }
    }
    found
}

fn policy_value(pipeline: &Pipeline, name: &str) -> Value {
    let policy = serde_json::to_value(&pipeline.policy).unwrap_or_default();
    policy.get(name).cloned().unwrap_or_default()
}

fn constants(metrics: &[(usize, &Metric)], pipeline: &Pipeline) -> Vec<Setting> {
    let is_read = |name: &str| {
        let mut all = metrics.iter().flat_map(|(_, metric)| metric.expressions());
        all.any(|sql| sql.columns().iter().any(|column| column == name))
    };
    let is_policy = |name: &str| policy_value(pipeline, name) != Value::Null;
    let value = |name: &str| {
        let constant = catalogue::constant(name, &pipeline.policy, &pipeline.calendar);
        constant.map_or(Value::Null, Value::from)
    };
    let wanted = CONSTANTS
        .iter()
        .filter(|name| is_read(name) && !is_policy(name));
    wanted
        .map(|name| Setting {
            name: (*name).to_owned(),
            value: value(name),
        })
        .collect()
}

fn described(column: String) -> Described {
    let described = contract::of("account_period").column(&column);
    let description = match (described, column.as_str()) {
        (Some(described), _) => described.description.clone(),
        (None, "feature_customers") => {
            "1 if a customer at the period's end used the feature in the period".to_owned()
        }
        (None, _) => String::new(),
    };
    Described {
        column,
        description,
    }
}

/// The input tables behind columns of the model, with how the pipeline maps them. `None` for a table's columns: all of them.
fn inputs(metric: &Metric, columns: &[String], pipeline: &Pipeline) -> Vec<InputTable> {
    let model = contract::of("account_period");
    let things = metric.by.map(|by| match by {
        Breakdown::SurveyItem => "surveys.item",
        Breakdown::Feature if pipeline.sources.contains_key("usage_features") => {
            "usage_features.feature"
        }
        Breakdown::Feature => "usage_events.feature",
        Breakdown::Phase => "time_entries.phase",
    });
    let of_columns = columns
        .iter()
        .filter_map(|column| model.lineage_of(column))
        .flat_map(|entry| entry.of.iter().map(String::as_str));
    let mut tables: BTreeMap<&str, Option<BTreeSet<&str>>> = BTreeMap::new();
    for source in of_columns.chain(things) {
        match source.split_once('.') {
            None => {
                tables.insert(source, None);
            }
            Some((table, column)) => {
                let named = tables.entry(table).or_insert_with(|| Some(BTreeSet::new()));
                if let Some(named) = named {
                    named.insert(column);
                }
            }
        }
    }
    let in_order = contract::INPUT_TABLES
        .into_iter()
        .filter_map(|table| Some((table, tables.remove(table)?)))
        .collect::<Vec<_>>();
    in_order
        .into_iter()
        .map(|(table, named)| input(table, named, pipeline.sources.get(table)))
        .collect()
}

fn input(table: &str, named: Option<BTreeSet<&str>>, source: Option<&Source>) -> InputTable {
    let is_whole = named.is_none();
    let columns = match (source, named) {
        (None, _) => Vec::new(),
        (Some(source), Some(named)) => named
            .into_iter()
            .map(|column| input_column(column, source))
            .collect(),
        // Of a whole table those that the source calls otherwise.
        (Some(source), None) => {
            let own = contract::of(table).columns.iter();
            own.map(|column| input_column(&column.name, source))
                .filter(|column| {
                    column.constant.is_some() || column.source.as_ref() != Some(&column.column)
                })
                .collect()
        }
    };
    let path = source.and_then(|source| match &source.input {
        Input::Files { pattern, .. } => Some(pattern.clone()),
        Input::Rows { .. } => None,
    });
    InputTable {
        table: table.to_owned(),
        path,
        is_mapped: source.is_some(),
        is_whole,
        columns,
    }
}

fn input_column(column: &str, source: &Source) -> InputColumn {
    let constant = source.constants.get(column);
    let mapped = source.columns.get(column).map_or(column, String::as_str);
    InputColumn {
        column: column.to_owned(),
        source: constant.is_none().then(|| mapped.to_owned()),
        constant: constant.map(|value| value.clone().unwrap_or_else(|| "null".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::load;
    use crate::config::schema::json_schema_text;

    const PIPELINE: &str = "
version: 1
name: small
currency: JPY
calendar: {time_zone: Asia/Tokyo, begin: 2024-01-01}
sources:
  accounts: {path: accounts.csv}
  subscriptions: {path: subscriptions-*.csv, columns: {amount: 月額, status: \"'active'\"}, constants: {interval: month}}
policy: {gross_margin: 0.8, discounts: all}
outputs: {root: out}
";

    fn pipeline() -> Pipeline {
        let loaded = load("pipeline.yaml", PIPELINE, &|_| None);
        loaded
            .draft
            .unwrap_or_else(|| panic!("{}", loaded.problems))
    }

    #[test]
    fn every_shipped_metric_has_inputs_behind_it() {
        let pipeline = pipeline();
        let catalogue = catalogue::default_catalogue(&pipeline.policy);
        for metric in catalogue.all() {
            let made_of = definition(metric, &catalogue, &pipeline);
            assert!(!made_of.inputs.is_empty(), "{}", metric.id);
            for column in &made_of.columns {
                assert!(!column.description.is_empty(), "{}", column.column);
            }
        }
    }

    #[test]
    fn switches_of_contracts_and_metrics_are_switches_of_pipelines() {
        let pipeline = pipeline();
        let known = serde_json::to_value(&pipeline.policy).unwrap_or_default();
        let schema = json_schema_text();
        let model = contract::of("account_period").lineage.iter();
        let of_columns = model.flat_map(|entry| entry.policy.clone());
        let catalogue = catalogue::default_catalogue(&pipeline.policy);
        let of_metrics = catalogue
            .all()
            .flat_map(|metric| metric.policies.iter().map(|name| (*name).to_owned()));
        for name in of_columns.chain(of_metrics) {
            assert!(known.get(&name).is_some(), "{name}");
            assert!(schema.contains(&format!("\"{name}\":")), "{name}");
        }
    }

    #[test]
    fn inputs_come_as_the_pipeline_maps_them() {
        let pipeline = pipeline();
        let catalogue = catalogue::default_catalogue(&pipeline.policy);
        let mrr = catalogue.get("mrr").expect("a shipped metric");
        let made_of = definition(mrr, &catalogue, &pipeline);
        let subscriptions = made_of
            .inputs
            .iter()
            .find(|input| input.table == "subscriptions")
            .expect("what MRR is made of");
        assert_eq!(subscriptions.path.as_deref(), Some("subscriptions-*.csv"));
        let shown = |column: &InputColumn| {
            let text = column.source.as_ref().or(column.constant.as_ref());
            (column.column.clone(), text.cloned().unwrap_or_default())
        };
        let shown: Vec<(String, String)> = subscriptions.columns.iter().map(shown).collect();
        for (column, text) in [
            ("amount", "月額"),
            ("status", "'active'"),
            ("interval", "month"),
        ] {
            assert!(
                shown.contains(&(column.to_owned(), text.to_owned())),
                "{shown:?}"
            );
        }
        let rates = made_of
            .inputs
            .iter()
            .find(|input| input.table == "fx_rates");
        assert!(rates.is_some_and(|rates| !rates.is_mapped));
        let discounts = made_of.policies.iter().find(|one| one.name == "discounts");
        assert_eq!(discounts.map(|one| one.value.clone()), Some("all".into()));
    }
}
