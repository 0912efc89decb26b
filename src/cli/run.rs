//! `run` and `backfill`.

use super::{Project, as_of, project, table_names, terminal};
use crate::config::Calendar;
use crate::failure::Failure;
use crate::period::PeriodRange;
use crate::run::results::{RunResults, Summary};
use crate::run::{self, Request};
use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub struct RunArgs {
    /// The pipeline file.
    pipeline: String,
    /// Period instead of the last complete one: `2026-07`, `2026-W31`, `2026-Q2`, a first day, `last`, or `last-3` for the third one before it.
    #[arg(long)]
    period: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub struct BackfillArgs {
    /// The pipeline file.
    pipeline: String,
    /// First period (calendar.begin when not given).
    #[arg(long)]
    start: Option<String>,
    /// Period after the last one (up to the last complete one when not given).
    #[arg(long)]
    end: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// Instant that decides which periods are complete: `2026-11-21T03:00:00+09:00` (now when not given).
    #[arg(long)]
    as_of: Option<String>,
    /// Publish only these tables.
    #[arg(long, value_delimiter = ',')]
    select: Vec<String>,
    /// Do not publish these tables.
    #[arg(long, value_delimiter = ',')]
    exclude: Vec<String>,
    /// `json` ends standard output with one line of JSON for a scheduler.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

pub fn run(args: &RunArgs) -> Result<(), Failure> {
    let project = project(&args.pipeline)?;
    let now = as_of(args.common.as_of.as_deref())?;
    let calendar = &project.pipeline.calendar;
    let Some(last) = calendar.last_complete(now) else {
        return nothing_to_do(calendar, &args.common);
    };
    let periods = match &args.period {
        None => {
            let lookback = i32::try_from(calendar.lookback).unwrap_or(i32::MAX);
            let begin = calendar.index_of(calendar.begin);
            PeriodRange {
                first: last.saturating_sub(lookback).max(begin),
                last,
            }
        }
        Some(text) => {
            let period = named_period(calendar, text, last)?;
            PeriodRange {
                first: period,
                last: period,
            }
        }
    };
    execute(&project, periods, now, &args.common)
}

pub fn backfill(args: &BackfillArgs) -> Result<(), Failure> {
    let project = project(&args.pipeline)?;
    let now = as_of(args.common.as_of.as_deref())?;
    let calendar = &project.pipeline.calendar;
    let begin = calendar.index_of(calendar.begin);
    let last_complete = calendar.last_complete(now);
    let last_or_begin = last_complete.unwrap_or(begin);
    let first = match &args.start {
        None => begin,
        Some(text) => named_period(calendar, text, last_or_begin)?,
    };
    let last = match &args.end {
        None => match last_complete {
            None => return nothing_to_do(calendar, &args.common),
            Some(last) => last,
        },
        Some(text) => named_end(calendar, text, last_or_begin)?,
    };
    if last < first {
        return Err(Failure::usage(
            "--end must lie after --start; it names the first period that is not computed",
        ));
    }
    execute(&project, PeriodRange { first, last }, now, &args.common)
}

/// A scheduler gets its line all the same.
fn nothing_to_do(calendar: &Calendar, common: &Common) -> Result<(), Failure> {
    let (grain, begin) = (calendar.grain.name(), calendar.begin);
    tracing::info!("nothing to do: no {grain} since {begin} is complete yet");
    if common.output == Output::Json {
        say!(r#"{{"status":"nothing_to_do","periods":0}}"#);
    }
    Ok(())
}

/// A period as a user names it, between the calendar's begin and end.
pub(super) fn named_period(calendar: &Calendar, text: &str, last: i32) -> Result<i32, Failure> {
    let index = period_or_end(calendar, text, last)?;
    match calendar.end {
        Some(end) if index >= calendar.index_of(end) => Err(Failure::usage(format!(
            "`{text}` lies after calendar.end ({end})"
        ))
        .hint("the data ends there; move calendar.end if it goes on")),
        _ => Ok(index),
    }
}

/// A period as a user names it, or the one after the calendar's last.
fn period_or_end(calendar: &Calendar, text: &str, last: i32) -> Result<i32, Failure> {
    let index = if text == "last" {
        last
    } else if let Some(back) = text
        .strip_prefix("last-")
        .and_then(|count| count.parse::<u16>().ok())
    {
        last - i32::from(back)
    } else {
        calendar
            .parse_period(text)
            .map_err(|error| Failure::usage(error.to_string()))?
    };
    if index < calendar.index_of(calendar.begin) {
        let begin = calendar.begin;
        return Err(
            Failure::usage(format!("`{text}` lies before calendar.begin ({begin})"))
                .hint("nothing is published before the calendar begins"),
        );
    }
    Ok(index)
}

/// The last period before an exclusive end.
pub(super) fn named_end(calendar: &Calendar, text: &str, last: i32) -> Result<i32, Failure> {
    let index = period_or_end(calendar, text, last)? - 1;
    match calendar.end {
        Some(end) if index >= calendar.index_of(end) => Err(Failure::usage(format!(
            "`{text}` lies after calendar.end ({end})"
        ))
        .hint("the data ends there; move calendar.end if it goes on")),
        _ => Ok(index),
    }
}

fn execute(
    project: &Project,
    periods: PeriodRange,
    now: DateTime<Utc>,
    common: &Common,
) -> Result<(), Failure> {
    table_names(&common.select, "--select")?;
    table_names(&common.exclude, "--exclude")?;
    let pipeline = &project.pipeline;
    let started_at = as_of(None)?;
    let request = Request {
        run_id: run_id(started_at),
        periods,
        as_of: now,
        select: common.select.clone(),
        exclude: common.exclude.clone(),
    };
    if let Some(name) = run::unpublished(pipeline, &request) {
        return Err(
            Failure::usage(format!("this pipeline does not publish `{name}`"))
                .hint("see outputs.tables, rfm and touch_model in the pipeline file"),
        );
    }
    if run::wanted_tables(pipeline, &request).is_empty() {
        return Err(Failure::usage(
            "--select and --exclude leave no table to publish",
        ));
    }
    let calendar = &pipeline.calendar;
    let incomplete: Vec<String> = periods
        .indices()
        .filter(|index| !calendar.is_complete(&calendar.period(*index), now))
        .map(|index| calendar.label(index))
        .collect();
    if !incomplete.is_empty() {
        tracing::warn!(
            "not complete yet, published with is_complete = false: {}",
            incomplete.join(", ")
        );
    }
    tracing::info!(
        run_id = request.run_id,
        pipeline = pipeline.name,
        first = calendar.label(periods.first),
        last = calendar.label(periods.last),
        "computing {} periods",
        periods.len()
    );
    let stages = terminal::Stages::new(terminal::is_watched() && common.output == Output::Text);
    let outcome = run::run(pipeline, &project.catalogue, &request, &stages);
    stages.finish();
    let mut results = RunResults {
        run_id: request.run_id,
        pipeline: pipeline.name.clone(),
        version: env!("CARGO_PKG_VERSION"),
        status: "error",
        as_of: now,
        started_at,
        finished_at: as_of(None)?,
        periods: periods
            .indices()
            .map(|index| calendar.start_of(index))
            .collect(),
        inputs: Vec::new(),
        units: Vec::new(),
        notices: Vec::new(),
        error: None,
    };
    let failure = match outcome {
        Ok(outcome) => {
            results = results.succeeded(outcome);
            None
        }
        Err(error) => {
            let failure = Failure::from(error);
            results.error = Some(failure.render());
            Some(failure)
        }
    };
    let written = results.write(pipeline);
    for notice in &results.notices {
        tracing::info!("{notice}");
    }
    report(&results, common.output);
    match failure {
        Some(failure) => Err(failure),
        None => {
            tracing::info!("results in {}", written?);
            Ok(())
        }
    }
}

/// Sortable, and different for runs of the same second.
fn run_id(started_at: DateTime<Utc>) -> String {
    let distinct =
        blake3::hash(format!("{started_at:?} {}", std::process::id()).as_bytes()).to_hex();
    format!("{}-{}", started_at.format("%Y%m%dT%H%M%SZ"), &distinct[..6])
}

fn report(results: &RunResults, output: Output) {
    let summary = results.summary();
    if output == Output::Json {
        say!("{}", serde_json::to_string(&summary).unwrap_or_default());
        return;
    }
    if results.error.is_some() {
        return;
    }
    let Summary {
        created,
        replaced,
        reused,
        rows,
        seconds,
        ..
    } = summary;
    say!(
        "{} periods: {created} files created, {replaced} replaced, {reused} unchanged; {rows} rows in {seconds:.1} s",
        results.periods.len()
    );
}
