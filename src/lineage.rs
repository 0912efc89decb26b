//! A run as [OpenLineage](https://openlineage.io) events: START, then COMPLETE or FAIL, with datasets, schemas, column lineage
//! and output statistics. Sent to a file or over HTTP; a receiver that fails never fails the run. And what a metric is made of ([`definition`]).

mod columns;
pub mod definition;
mod transport;

use crate::config::{Input, Lineage, Pipeline};
use crate::contract::{self, PUBLISHED_BESIDE};
use crate::metrics::catalogue::Catalogue;
use crate::plan::Reprocess;
use crate::publish::UnitStatus;
use crate::run::Request;
use crate::run::inputs::InputSummary;
use crate::run::results::RunResults;
use crate::storage::Place;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::sync::Mutex;
use std::thread::JoinHandle;

const PRODUCER: &str = concat!("https://crates.io/crates/cskpi/", env!("CARGO_PKG_VERSION"));
const EVENT: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent";

/// Tells a receiver what a run does.
pub struct Emitter {
    lineage: Lineage,
    pipeline: Pipeline,
    catalogue: Catalogue,
    run: Value,
    started: Mutex<Option<JoinHandle<()>>>,
}

impl Emitter {
    /// `None` unless the pipeline asks for events.
    pub fn new(pipeline: &Pipeline, catalogue: &Catalogue, request: &Request) -> Option<Self> {
        let lineage = pipeline.lineage.clone()?;
        let calendar = &pipeline.calendar;
        let first = request.periods.first().map(|index| calendar.period(*index));
        let last = request.periods.last().map(|index| calendar.period(*index));
        let mut facets = json!({
            "processing_engine": facet("ProcessingEngineRunFacet/1-1-1", "ProcessingEngineRunFacet", json!({
                "version": env!("CARGO_PKG_VERSION"), "name": "cskpi",
            })),
            "cskpi": {
                "_producer": PRODUCER, "_schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunFacet",
                "run_id": request.run_id, "retry_of": request.retry_of, "as_of": request.as_of,
                "reprocess": reprocess(request.reprocess),
            },
        });
        if let (Some(first), Some(last)) = (first, last) {
            facets["nominalTime"] = facet(
                "NominalTimeRunFacet/1-0-1",
                "NominalTimeRunFacet",
                json!({
                    "nominalStartTime": calendar.midnight(first.start), "nominalEndTime": last.end_at,
                }),
            );
        }
        Some(Self {
            lineage,
            pipeline: pipeline.clone(),
            catalogue: catalogue.clone(),
            run: json!({ "runId": uuid_of(&request.run_id), "facets": facets }),
            started: Mutex::new(None),
        })
    }

    /// The run has begun. Does not wait for the receiver.
    pub fn start(&self, at: DateTime<Utc>) {
        let inputs = self
            .pipeline
            .sources
            .keys()
            .map(|table| self.input(table, None));
        let event = self.event(
            "START",
            at,
            self.run.clone(),
            inputs.flatten().collect(),
            Vec::new(),
        );
        let target = self.lineage.target.clone();
        let sending = std::thread::spawn(move || transport::send(&target, &event));
        *crate::run::live::held(&self.started) = Some(sending);
    }

    /// The run is over.
    pub fn end(&self, results: &RunResults) {
        if let Some(sending) = crate::run::live::held(&self.started).take() {
            let _ = sending.join();
        }
        let mut run = self.run.clone();
        let failed = results.error.is_some();
        if let Some(error) = &results.error {
            run["facets"]["errorMessage"] = facet(
                "ErrorMessageRunFacet/1-0-1",
                "ErrorMessageRunFacet",
                json!({
                    "message": error, "programmingLanguage": "rust",
                }),
            );
        }
        let summary = |table: &str| results.inputs.iter().find(|input| input.table == table);
        let inputs = self
            .pipeline
            .sources
            .keys()
            .map(|table| self.input(table, summary(table)));
        let outputs = results
            .tables
            .iter()
            .map(String::as_str)
            .chain(PUBLISHED_BESIDE);
        let outputs = outputs.filter_map(|table| self.output(table, results));
        let kind = if failed { "FAIL" } else { "COMPLETE" };
        let at = results.finished_at.unwrap_or(results.started_at);
        let event = self.event(kind, at, run, inputs.flatten().collect(), outputs.collect());
        transport::send(&self.lineage.target, &event);
    }

    fn event(
        &self,
        kind: &str,
        at: DateTime<Utc>,
        run: Value,
        inputs: Vec<Value>,
        outputs: Vec<Value>,
    ) -> Value {
        json!({
            "eventType": kind,
            "eventTime": at,
            "producer": PRODUCER,
            "schemaURL": EVENT,
            "run": run,
            "job": {
                "namespace": self.lineage.namespace,
                "name": self.pipeline.name,
                "facets": { "jobType": facet("JobTypeJobFacet/2-0-4", "JobTypeJobFacet", json!({
                    "processingType": "BATCH", "integration": "CSKPI", "jobType": "JOB",
                })) },
            },
            "inputs": inputs,
            "outputs": outputs,
        })
    }

    /// The dataset behind an input table; rows that stand in the pipeline are none.
    fn input(&self, table: &str, summary: Option<&InputSummary>) -> Option<Value> {
        let Input::Files { pattern, .. } = &self.pipeline.sources.get(table)?.input else {
            return None;
        };
        let (namespace, name) = dataset(pattern);
        let mut facets = json!({});
        let mut input_facets = json!({});
        if let Some(summary) = summary {
            facets["schema"] = schema(&summary.columns);
            input_facets["inputStatistics"] = facet(
                "InputStatisticsInputDatasetFacet/1-0-0",
                "InputStatisticsInputDatasetFacet",
                json!({
                    "rowCount": summary.rows, "size": summary.bytes, "fileCount": summary.files,
                }),
            );
        }
        Some(
            json!({ "namespace": namespace, "name": name, "facets": facets, "inputFacets": input_facets }),
        )
    }

    /// A published table, if the run published any of its periods.
    fn output(&self, table: &str, results: &RunResults) -> Option<Value> {
        let is_published = |status| {
            matches!(
                status,
                UnitStatus::Created | UnitStatus::Replaced | UnitStatus::Reused
            )
        };
        let of_table = || results.units.iter().filter(|unit| unit.table == table);
        if !of_table().any(|unit| is_published(unit.status)) {
            return None;
        }
        let written = || of_table().filter(|unit| unit.status.is_written());
        let (namespace, name) = dataset(&format!(
            "{}/{table}",
            self.pipeline.outputs.root.trim_end_matches('/')
        ));
        let dimensions: Vec<String> = self
            .pipeline
            .dimensions
            .iter()
            .map(|dimension| dimension.name.clone())
            .collect();
        let columns = contract::of(table).expanded(&dimensions, self.catalogue.published_ids());
        let typed: Vec<(String, String)> = columns
            .iter()
            .map(|column| {
                (
                    column.name.clone(),
                    column.dtype(&self.pipeline.currency).to_string(),
                )
            })
            .collect();
        let sources = columns::Sources {
            pipeline: &self.pipeline,
            catalogue: &self.catalogue,
            inputs: &results.inputs,
        };
        let fields: serde_json::Map<String, Value> = columns
            .iter()
            .filter_map(|column| {
                let inputs = sources.of(table, &column.name);
                (!inputs.is_empty())
                    .then(|| (column.name.clone(), json!({ "inputFields": inputs })))
            })
            .collect();
        Some(json!({
            "namespace": namespace,
            "name": name,
            "facets": {
                "schema": schema(&typed),
                "columnLineage": facet("ColumnLineageDatasetFacet/1-2-0", "ColumnLineageDatasetFacet", json!({ "fields": fields })),
            },
            "outputFacets": {
                "outputStatistics": facet("OutputStatisticsOutputDatasetFacet/1-0-2", "OutputStatisticsOutputDatasetFacet", json!({
                    "rowCount": written().map(|unit| unit.rows).sum::<usize>(),
                    "size": written().map(|unit| unit.bytes).sum::<usize>(),
                    "fileCount": written().count(),
                })),
            },
        }))
    }
}

/// Namespace and name of a dataset, as OpenLineage's naming says.
fn dataset(place: &str) -> (String, String) {
    match Place::parse(place) {
        Place::S3 { bucket, prefix } => (format!("s3://{bucket}"), prefix),
        Place::Local(path) => {
            let path = std::path::absolute(&path).unwrap_or(path);
            ("file".to_owned(), path.display().to_string())
        }
    }
}

fn schema(columns: &[(String, String)]) -> Value {
    let fields: Vec<Value> = columns
        .iter()
        .map(|(name, dtype)| json!({ "name": name, "type": dtype }))
        .collect();
    facet(
        "SchemaDatasetFacet/1-2-0",
        "SchemaDatasetFacet",
        json!({ "fields": fields }),
    )
}

/// A facet with the names that the standard wants in each.
fn facet(file: &str, name: &str, mut content: Value) -> Value {
    let (file, version) = file.split_once('/').unwrap_or((file, ""));
    content["_producer"] = PRODUCER.into();
    content["_schemaURL"] =
        format!("https://openlineage.io/spec/facets/{version}/{file}.json#/$defs/{name}").into();
    content
}

fn reprocess(choice: Reprocess) -> Value {
    serde_json::to_value(choice).unwrap_or_default()
}

/// OpenLineage wants a UUID; ours is made of the run's id, so that both find the same run.
fn uuid_of(run_id: &str) -> String {
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&blake3::hash(run_id.as_bytes()).as_bytes()[..16]);
    // Version 8 (own content), variant of RFC 9562.
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}
