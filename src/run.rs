//! Executes a run: inputs → model → scores → tables → published files. The only room that collects frames.

pub mod inputs;
pub mod names;
mod past;
pub mod published;
pub mod results;
mod scores;
pub mod stages;
mod tables;
mod walk;

mod execute;
pub mod live;

use crate::config::Pipeline;
use crate::config::error::Problems;
use crate::contract::OUTPUT_TABLES;
use crate::marts::Shape;
use crate::metrics::catalogue::{self, Catalogue};
use crate::period::{Period, PeriodRange};
use crate::plan::Reprocess;
use crate::publish::manifest::Basis;
use crate::publish::{Closing, PublishError};
use crate::storage::Storage;
use chrono::{DateTime, Utc};
use inputs::{InputError, Listing};
use polars::prelude::*;
use stages::Cost;
use std::num::NonZeroUsize;
use tracing::debug_span;

pub use execute::{Outcome, execute, planned};

/// What a run is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    pub run_id: String,
    /// The run whose failed units are taken up.
    pub retry_of: Option<String>,
    /// First days of the periods to look at, by index.
    pub periods: Vec<i32>,
    /// The instant that decides what is complete; pinned once.
    pub as_of: DateTime<Utc>,
    /// Tables to publish, of those that the pipeline publishes; all when empty.
    pub select: Vec<String>,
    pub exclude: Vec<String>,
    /// Which of the periods to compute.
    pub reprocess: Reprocess,
    /// Periods computed in one step; as many as fit into the memory when `None`.
    pub batch_size: Option<usize>,
    /// Bytes of memory that the run should keep to.
    pub memory_limit: u64,
    pub started_at: DateTime<Utc>,
    pub clock: fn() -> DateTime<Utc>,
    /// What the process has used up so far.
    pub cost: fn() -> Cost,
}

/// What a run works with.
pub struct Project<'a> {
    pub pipeline: &'a Pipeline,
    pub catalogue: &'a Catalogue,
    pub storage: &'a Storage,
}

/// Told what the run is doing, by one thread or several.
pub trait Progress: Sync {
    /// A stage begins, and the one before it is over.
    fn stage(&self, name: &str);
    /// The stage is going to read so many bytes; several calls add up.
    fn expect(&self, _bytes: u64) {}
    /// So many rows and bytes more have been read or written in this stage.
    fn advance(&self, _rows: u64, _bytes: u64) {}
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("the pipeline names what its inputs do not have\n{problems}")]
    Names { problems: Box<Problems> },
    #[error("no exchange rate for {}", missing.join(", "))]
    MissingRates { missing: Vec<String> },
    #[error("{stage} failed")]
    Compute {
        stage: &'static str,
        source: PolarsError,
    },
    #[error("there is no run `{run_id}` in {place}")]
    UnknownRun { run_id: String, place: String },
    #[error("the results {path} cannot be understood")]
    DamagedResults {
        path: String,
        source: serde_json::Error,
    },
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl Project<'_> {
    fn dimensions(&self) -> Vec<String> {
        self.pipeline
            .dimensions
            .iter()
            .map(|dimension| dimension.name.clone())
            .collect()
    }

    fn shape<'a>(&'a self, dimensions: &'a [String], published: PeriodRange) -> Shape<'a> {
        Shape {
            currency: &self.pipeline.currency,
            dimensions,
            metrics: self.catalogue.published_ids(),
            published,
        }
    }

    /// All that decides what a table of a period holds.
    pub fn basis(
        &self,
        listing: &Listing,
        period: &Period,
        table: &str,
        as_of: DateTime<Utc>,
    ) -> Basis {
        let needed = inputs::needed(listing, period);
        // The dictionary says what is defined; no input changes that.
        let reads_inputs = table != "metric_dictionary";
        let files = needed.iter().filter(|_| reads_inputs);
        Basis {
            inputs: files
                .map(|(table, files)| ((*table).to_owned(), crate::plan::input_files(files.iter())))
                .collect(),
            settings: self.pipeline.settings.clone(),
            program: program(),
            is_complete: self.pipeline.calendar.is_complete(period, as_of),
        }
    }

    /// When the values of a period freeze, if the pipeline says so.
    fn closing(&self, period: &Period, as_of: DateTime<Utc>) -> Option<Closing> {
        let close = self.pipeline.close.as_ref()?;
        let closes_on = self.pipeline.calendar.closes_on(period, close);
        Some(Closing {
            closes_on,
            is_closed: self.pipeline.calendar.midnight(closes_on) <= as_of,
        })
    }
}

/// Version of the program and of the definitions that it ships: either may change a number.
pub fn program() -> String {
    format!(
        "{} ({})",
        env!("CARGO_PKG_VERSION"),
        &blake3::hash(catalogue::SHIPPED.as_bytes()).to_hex()[..8]
    )
}

/// The tables that a request publishes, in catalogue order.
pub fn wanted_tables(pipeline: &Pipeline, request: &Request) -> Vec<&'static str> {
    let is_defined = |table: &str| match table {
        "rfm_scores" | "rfm_boundaries" => pipeline.rfm.is_some(),
        "touch_segments" => pipeline.touch_model.is_some(),
        "time_spent" => pipeline.sources.contains_key("time_entries"),
        "kpi_attainment" => pipeline.sources.contains_key("targets"),
        _ => true,
    };
    let is_in = |list: &[String], table: &str| list.iter().any(|name| name == table);
    let is_published = |table: &str| {
        pipeline
            .outputs
            .tables
            .as_ref()
            .is_none_or(|list| is_in(list, table))
    };
    let is_selected = |table: &str| request.select.is_empty() || is_in(&request.select, table);
    OUTPUT_TABLES
        .into_iter()
        .filter(|table| is_defined(table) && is_published(table) && is_selected(table))
        .filter(|table| !is_in(&request.exclude, table))
        .collect()
}

/// A selected table that the pipeline does not publish.
pub fn unpublished<'a>(pipeline: &Pipeline, request: &'a Request) -> Option<&'a String> {
    let all = Request {
        select: Vec::new(),
        exclude: Vec::new(),
        ..request.clone()
    };
    let published = wanted_tables(pipeline, &all);
    request
        .select
        .iter()
        .find(|name| !published.contains(&name.as_str()))
}

/// Does a part of a stage, which a profile shows.
fn part<T>(name: &'static str, work: impl FnOnce() -> T) -> T {
    debug_span!("part", name).in_scope(work)
}

/// Runs a plan.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that collects"
)]
pub(crate) fn collected(frame: LazyFrame) -> PolarsResult<DataFrame> {
    frame.collect()
}

/// Runs several plans in one pass over what they share, without holding it whole in memory.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that collects"
)]
pub(crate) fn collected_together<const N: usize>(
    plans: [LazyFrame; N],
) -> PolarsResult<[DataFrame; N]> {
    let plans = plans.map(|plan| plan.logical_plan).into();
    let frames = LazyFrame::collect_all_with_engine(plans, Engine::Streaming, OptFlags::default())?;
    let found = frames.len();
    frames
        .try_into()
        .map_err(|_| polars_err!(ComputeError: "{found} results of {N} plans"))
}

/// Runs a plan and hands over its rows in order, so many at a time; only a few of such batches are in memory at once.
pub(crate) fn in_batches(
    frame: LazyFrame,
    rows: NonZeroUsize,
    take: impl FnMut(DataFrame) -> PolarsResult<()>,
) -> PolarsResult<()> {
    let (send, receive) = std::sync::mpsc::sync_channel(1);
    // Nobody listens any more once a batch could not be taken.
    let hand_over = PlanCallback::new(move |batch| Ok(send.send(batch).is_err()));
    let plan = frame.sink_batches(hand_over, true, Some(rows))?;
    std::thread::scope(|scope| {
        let running = scope.spawn(|| plan.collect_with_engine(Engine::Streaming).map(drop));
        let taken = receive.iter().try_for_each(take);
        drop(receive);
        match running.join() {
            Ok(done) => taken.and(done),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// How far the scores look back.
pub(crate) fn window_days(pipeline: &Pipeline) -> i32 {
    let rfm = pipeline.rfm.as_ref();
    rfm.map_or(1, |rfm| rfm.window_days as i32)
}
