//! Executes a run: inputs → model → scores → tables → published files. The only room that collects frames.

pub mod inputs;
pub mod names;
pub mod published;
pub mod results;
mod scores;
mod tables;

mod execute;
pub mod live;

use crate::account_period::{AccountPeriods, Details, account_periods, with_costs};
use crate::columns::{CURRENCY, PERIOD};
use crate::config::Pipeline;
use crate::config::error::Problems;
use crate::contract::OUTPUT_TABLES;
use crate::facts::{Context, Inputs};
use crate::marts::Shape;
use crate::metrics::catalogue::{self, Catalogue};
use crate::period::{Period, PeriodRange};
use crate::plan::Reprocess;
use crate::publish::manifest::Basis;
use crate::publish::{Closing, PublishError, Table};
use crate::segments::dimension;
use crate::storage::Storage;
use chrono::{DateTime, Utc};
use inputs::usage_rollup::cache::UsageCache;
use inputs::{InputError, InputSummary, Listing};
use polars::prelude::*;
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use tables::Ingredients;

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
    /// Periods computed in one pass; all when `None`.
    pub batch_size: Option<usize>,
    pub started_at: DateTime<Utc>,
    pub clock: fn() -> DateTime<Utc>,
}

/// What a run works with.
pub struct Project<'a> {
    pub pipeline: &'a Pipeline,
    pub catalogue: &'a Catalogue,
    pub storage: &'a Storage,
}

/// Told what the run is doing.
pub trait Progress {
    fn stage(&self, name: &str);
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

/// What a batch of periods comes to.
struct Computed {
    tables: Vec<Table>,
    inputs: Vec<InputSummary>,
    notices: Vec<String>,
    /// Periods that lack exchange rates, or come after one that does.
    unrated: Option<(i32, RunError)>,
}

impl Project<'_> {
    /// All tables for all periods of a range, in one pass over the inputs.
    fn computed(
        &self,
        range: PeriodRange,
        request: &Request,
        listing: &Listing,
        cache: &UsageCache,
        progress: &dyn Progress,
    ) -> Result<Computed, RunError> {
        let pipeline = self.pipeline;
        let loaded = inputs::loaded(
            pipeline,
            self.catalogue,
            listing,
            self.storage,
            cache,
            progress,
        )?;
        let problems = names::unknown_names(pipeline, &loaded.account_columns);
        if problems.has_errors() {
            return Err(RunError::Names {
                problems: Box::new(problems),
            });
        }
        let context = context(pipeline, range);
        let compute = |stage| move |source| RunError::Compute { stage, source };

        progress.stage("computing the account × period model");
        let window_days = window_days(pipeline);
        let model = account_periods(&loaded.inputs, context, request.as_of, window_days)
            .and_then(|model| materialised(&model, &loaded.inputs, context))
            .map_err(compute("the account × period model"))?;
        let unrated = missing_rates(&model, context)?;

        progress.stage("scoring accounts");
        let scored = scores::scored(pipeline, &model, context).map_err(compute("scoring"))?;

        progress.stage("building tables");
        let dimensions = self.dimensions();
        let ingredients = Ingredients {
            pipeline,
            catalogue: self.catalogue,
            inputs: &loaded.inputs,
            products: &model.products,
            details: &model.details,
            scored: &scored,
            shape: self.shape(&dimensions, range),
            context,
            as_of: request.as_of,
        };
        let tables = tables::tables(&ingredients, &wanted_tables(pipeline, request))
            .map_err(compute("building the tables"))?;
        Ok(Computed {
            tables,
            notices: notices(pipeline, self.catalogue, &loaded.inputs),
            inputs: loaded.summaries,
            unrated,
        })
    }

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

/// The periods that the model is computed for: from the first period's trailing windows to the last one published.
pub fn context(pipeline: &Pipeline, published: PeriodRange) -> Context<'_> {
    let begin = pipeline
        .calendar
        .index_of(pipeline.calendar.begin)
        .min(published.first);
    let lead = pipeline.policy.ltv_churn_periods.max(1) as i32;
    Context {
        calendar: &pipeline.calendar,
        currency: &pipeline.currency,
        policy: &pipeline.policy,
        range: PeriodRange {
            first: begin - lead,
            last: published.last,
        },
    }
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

/// The model held in memory, so that what follows computes it once.
fn materialised(
    model: &AccountPeriods,
    inputs: &Inputs,
    context: Context,
) -> PolarsResult<AccountPeriods> {
    let facts = collected(model.facts.clone())?.lazy();
    let held = |frame: &Option<LazyFrame>| -> PolarsResult<Option<LazyFrame>> {
        let frame = frame.clone().map(collected).transpose()?;
        Ok(frame.map(IntoLazy::lazy))
    };
    let details = &model.details;
    Ok(AccountPeriods {
        facts: collected(with_costs(facts, inputs, context)?)?.lazy(),
        details: Details {
            onboardings: held(&details.onboardings)?,
            survey_items: held(&details.survey_items)?,
            features: held(&details.features)?,
            phases: held(&details.phases)?,
        },
        products: collected(model.products.clone())?.lazy(),
        missing_rates: collected(model.missing_rates.clone())?.lazy(),
    })
}

/// The first period that lacks a rate, and all that are missing. What comes after it counts amounts that nobody can convert.
fn missing_rates(
    model: &AccountPeriods,
    context: Context,
) -> Result<Option<(i32, RunError)>, RunError> {
    let failed = |source| RunError::Compute {
        stage: "looking for missing rates",
        source,
    };
    let order = [PERIOD, CURRENCY];
    let frame = collected(
        model
            .missing_rates
            .clone()
            .sort(order, SortMultipleOptions::default()),
    )
    .map_err(failed)?;
    let columns = || -> PolarsResult<_> {
        Ok((frame.column(PERIOD)?.i32()?, frame.column(CURRENCY)?.str()?))
    };
    let (periods, currencies) = columns().map_err(failed)?;
    let missing: Vec<String> = periods
        .iter()
        .zip(currencies.iter())
        .map(|(period, currency)| {
            let period = period.map_or_else(String::new, |index| context.calendar.label(index));
            format!(
                "{} in {period}",
                currency.unwrap_or("a row without currency")
            )
        })
        .collect();
    let first = periods
        .iter()
        .map(|period| period.unwrap_or(i32::MIN))
        .next();
    Ok(first.map(|first| (first, RunError::MissingRates { missing })))
}

fn notices(pipeline: &Pipeline, catalogue: &Catalogue, inputs: &Inputs) -> Vec<String> {
    let mut notices = Vec::new();
    let needs: BTreeSet<&str> = catalogue
        .documented()
        .flat_map(|metric| metric.needs.iter().map(String::as_str))
        .collect();
    let available = tables::available(inputs, &pipeline.policy);
    for need in needs.into_iter().filter(|need| !available.has(need)) {
        let what = match need {
            "usage" => "usage_events or usage_sessions",
            "features" => "usage_events with a column `feature`",
            "member_onboarding" => "onboarding (by members)",
            table => table,
        };
        let nulled = catalogue.documented();
        let nulled = nulled.filter(|metric| metric.needs.iter().any(|own| own == need));
        let nulled: Vec<&str> = nulled.map(|metric| metric.id.as_str()).collect();
        notices.push(format!(
            "no {what} is mapped; null are {}",
            nulled.join(", ")
        ));
    }
    let current: Vec<&str> = pipeline
        .dimensions
        .iter()
        .filter(|dimension| dimension::reads_attributes(dimension))
        .map(|dimension| dimension.name.as_str())
        .collect();
    if !inputs.is_historised && !current.is_empty() {
        notices.push(format!(
            "accounts has no valid_from and valid_to: today's values hold for all periods ({})",
            current.join(", ")
        ));
    }
    notices
}
