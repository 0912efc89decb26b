//! Which source columns a published column is made of.

use super::dataset;
use crate::config::{Input, Pipeline};
use crate::contract;
use crate::facts::attributes::PLAN_COLUMNS;
use crate::metrics::catalogue::Catalogue;
use crate::run::inputs::InputSummary;
use crate::sql::{self, Scope};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What lineage is told from.
pub struct Sources<'a> {
    pub pipeline: &'a Pipeline,
    pub catalogue: &'a Catalogue,
    pub inputs: &'a [InputSummary],
}

impl Sources<'_> {
    /// The input fields of a published column, as OpenLineage writes them.
    pub fn of(&self, table: &str, column: &str) -> Vec<Value> {
        let mut fields = BTreeSet::new();
        for (input, name) in self.canonical(table, column) {
            self.add_fields(&input, &name, &mut fields);
        }
        let is_aggregated = !matches!(table, "account_period" | "rfm_scores" | "touch_segments");
        let subtype = if is_aggregated {
            "AGGREGATION"
        } else {
            "TRANSFORMATION"
        };
        let how = json!([{ "type": "DIRECT", "subtype": subtype }]);
        let field = |(namespace, name, field): (String, String, String)| json!({ "namespace": namespace, "name": name, "field": field, "transformations": how });
        fields.into_iter().map(field).collect()
    }

    /// Canonical input columns behind a published one, as (table, column).
    fn canonical(&self, table: &str, column: &str) -> BTreeSet<(String, String)> {
        let of_model = |names: &[String]| {
            names
                .iter()
                .flat_map(|name| self.canonical("account_period", name))
                .collect()
        };
        let of_values = || -> BTreeSet<(String, String)> {
            self.catalogue
                .published()
                .flat_map(|metric| of_model(&self.metric(&metric.id)) as BTreeSet<_>)
                .collect()
        };
        match (table, column) {
            (_, "period_start" | "period_end" | "is_complete" | "closes_on" | "is_restated") => {
                BTreeSet::new()
            }
            (
                "kpi_values" | "kpi_drivers" | "kpi_as_reported" | "restatements",
                "dimension" | "member",
            ) => self
                .pipeline
                .dimensions
                .iter()
                .flat_map(|dimension| self.dimension(&dimension.sql))
                .collect(),
            ("kpi_values" | "kpi_as_reported", "value" | "numerator" | "denominator")
            | ("restatements", "old_value" | "new_value") => of_values(),
            // Every number is made of the values; a metric's name is not.
            ("kpi_drivers", "metric" | "comparison") => BTreeSet::new(),
            ("kpi_drivers", _) => of_values(),
            ("kpi_attainment", "value") => of_values(),
            (
                "kpi_attainment",
                "attainment"
                | "gap"
                | "shortfall"
                | "status"
                | "kgi_gap"
                | "kgi_share_explained"
                | "kgi_gap_explained",
            ) => of_values()
                .into_iter()
                .chain(self.declared(table, column))
                .collect(),
            ("kpi_summary", metric) => of_model(&self.metric(metric)),
            _ => self.declared(table, column),
        }
    }

    /// Columns of `account_period` that a metric reads, those of the metrics in its formula included.
    fn metric(&self, id: &str) -> Vec<String> {
        let Some(metric) = self.catalogue.get(id) else {
            return Vec::new();
        };
        let sides = [Some(&metric.numerator), metric.denominator.as_ref()];
        let columns = sides.into_iter().flatten().flat_map(|sql| sql.columns());
        // A formula reads metrics, which the catalogue has seen to be in no circle; a sum reads the model's columns.
        let is_formula = !metric.is_aggregate();
        let below = |column: &String| match self.catalogue.get(column) {
            Some(_) if is_formula => self.metric(column),
            _ => vec![column.clone()],
        };
        columns.flat_map(below).collect()
    }

    /// Account columns that a dimension reads; segments are dimensions, too.
    fn dimension(&self, text: &str) -> BTreeSet<(String, String)> {
        let columns = sql::parse_in(text, Scope::Account).map(|parsed| parsed.columns().to_vec());
        let below = |column: String| match column.as_str() {
            "touch_model" => self.declared("touch_segments", "touch_model"),
            "rfm_segment" => self.declared("rfm_scores", "segment"),
            name if PLAN_COLUMNS.contains(&name) => ["subscriptions", "plans"]
                .map(|table| (table.to_owned(), "plan_id".to_owned()))
                .into(),
            "mrr" => self.declared("account_period", "closing_mrr"),
            name if contract::of("accounts").column(name).is_none()
                && contract::of("account_period").column(name).is_some() =>
            {
                self.declared("account_period", name)
            }
            _ => [("accounts".to_owned(), column)].into(),
        };
        columns
            .unwrap_or_default()
            .into_iter()
            .flat_map(below)
            .collect()
    }

    /// What the table's contract says.
    fn declared(&self, table: &str, column: &str) -> BTreeSet<(String, String)> {
        let contract = contract::of(table);
        if let Some(dimension) = self
            .pipeline
            .dimensions
            .iter()
            .find(|dimension| table == "account_period" && dimension.name == column)
        {
            return self.dimension(&dimension.sql);
        }
        let Some(entry) = contract.lineage_of(column) else {
            return BTreeSet::new();
        };
        let made_of = |source: &String| -> BTreeSet<(String, String)> {
            match source.split_once('.') {
                Some(("account_period", column)) => self.declared("account_period", column),
                Some((input, column)) => [(input.to_owned(), column.to_owned())].into(),
                None => {
                    let columns = contract::of(source).columns.iter();
                    columns
                        .map(|column| (source.clone(), column.name.clone()))
                        .collect()
                }
            }
        };
        entry.of.iter().flat_map(made_of).collect()
    }

    /// The source's own columns behind a canonical one: mapped by name, by expression, or of the same name.
    fn add_fields(
        &self,
        table: &str,
        column: &str,
        fields: &mut BTreeSet<(String, String, String)>,
    ) {
        let Some(source) = self.pipeline.sources.get(table) else {
            return;
        };
        let (Input::Files { pattern, .. }, Some(summary)) = (
            &source.input,
            self.inputs.iter().find(|input| input.table == table),
        ) else {
            return;
        };
        if source.constants.contains_key(column) {
            return;
        }
        let is_there = |name: &str| summary.columns.iter().any(|(own, _)| own == name);
        let text = source.columns.get(column).map_or(column, String::as_str);
        let names = match is_there(text) {
            true => vec![text.to_owned()],
            false => sql::parse(text)
                .map(|parsed| parsed.columns().to_vec())
                .unwrap_or_default(),
        };
        let (namespace, dataset) = dataset(pattern);
        fields.extend(
            names
                .into_iter()
                .filter(|name| is_there(name))
                .map(|name| (namespace.clone(), dataset.clone(), name)),
        );
    }
}
