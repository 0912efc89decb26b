//! `run`, `backfill` and `retry`.

use super::{Project, as_of, now, plan, project, table_names, terminal};
use crate::config::Calendar;
use crate::failure::Failure;
use crate::lineage::Emitter;
use crate::period::PeriodRange;
use crate::plan::Reprocess;
use crate::publish::UnitStatus;
use crate::run::live::Live;
use crate::run::results::{RunResults, RunStatus, Summary};
use crate::run::{self, Request};
use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::collections::BTreeSet;
use std::sync::Arc;

#[derive(Debug, Args)]
pub struct RunArgs {
    /// The pipeline file.
    pipeline: String,
    /// Period instead of the last complete one: `2026-07`, `2026-W31`, `2026-Q2`, a first day, `last`, or `last-3` for the third one before it.
    #[arg(long)]
    period: Option<String>,
    /// Do what this file says (`plan --out`), and nothing if the inputs are not those that it was made for.
    #[arg(long, conflicts_with_all = ["period", "as_of", "select", "exclude", "reprocess"])]
    plan: Option<String>,
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
    /// Periods computed in one pass over the inputs (all when not given); fewer need less memory.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: Option<u32>,
    /// Show what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub struct RetryArgs {
    /// The pipeline file.
    pipeline: String,
    /// The run whose failed units are taken up; the table `runs` has its id.
    run_id: String,
    /// `json` ends standard output with one line of JSON for a scheduler.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Args)]
struct Common {
    /// Instant that decides which periods are complete: `2026-11-21T03:00:00+09:00` (now when not given).
    #[arg(long)]
    as_of: Option<String>,
    /// Publish only these tables: `kpi_values,kpi_summary`.
    #[arg(long, value_delimiter = ',')]
    select: Vec<String>,
    /// Do not publish these tables.
    #[arg(long, value_delimiter = ',')]
    exclude: Vec<String>,
    /// Which of the periods to compute: those with missing tables; also those whose last run failed; also those whose inputs or settings have changed; or all.
    #[arg(long, value_enum, default_value_t = Reprocess::Stale)]
    reprocess: Reprocess,
    /// `json` ends standard output with one line of JSON for a scheduler.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    Text,
    Json,
}

pub fn run(args: &RunArgs) -> Result<(), Failure> {
    let project = project(&args.pipeline)?;
    if let Some(file) = &args.plan {
        return planned(&project, file, args.common.output);
    }
    let at = as_of(args.common.as_of.as_deref())?;
    let calendar = &project.pipeline.calendar;
    let Some(last) = calendar.last_complete(at) else {
        return nothing_to_do(calendar, args.common.output);
    };
    let periods = match &args.period {
        None => calendar.nightly(last),
        Some(text) => {
            let period = named_period(calendar, text, last)?;
            PeriodRange {
                first: period,
                last: period,
            }
        }
    };
    execute(
        &project,
        request(periods, at, &args.common)?,
        args.common.output,
    )
}

/// Does what a plan's file says, if the inputs are still those that it was made for.
fn planned(project: &Project, file: &str, output: Output) -> Result<(), Failure> {
    let plan = plan::PlanFile::read(file)?;
    plan.check(project, file)?;
    if plan.periods.is_empty() {
        return nothing_to_do(&project.pipeline.calendar, output);
    }
    let started_at = now();
    let request = Request {
        run_id: run_id(started_at),
        retry_of: None,
        periods: plan.periods,
        as_of: plan.as_of,
        select: plan.select,
        exclude: plan.exclude,
        reprocess: Reprocess::All,
        batch_size: None,
        started_at,
        clock: now,
    };
    execute(project, request, output)
}

pub fn backfill(args: &BackfillArgs) -> Result<(), Failure> {
    let project = project(&args.pipeline)?;
    let at = as_of(args.common.as_of.as_deref())?;
    let calendar = &project.pipeline.calendar;
    let begin = calendar.index_of(calendar.begin);
    let last_complete = calendar.last_complete(at);
    let last_or_begin = last_complete.unwrap_or(begin);
    let first = match &args.start {
        None => begin,
        Some(text) => named_period(calendar, text, last_or_begin)?,
    };
    let last = match &args.end {
        None => match last_complete {
            None => return nothing_to_do(calendar, args.common.output),
            Some(last) => last,
        },
        Some(text) => named_end(calendar, text, last_or_begin)?,
    };
    if last < first {
        return Err(Failure::usage(
            "--end must lie after --start; it names the first period that is not computed",
        ));
    }
    let request = Request {
        batch_size: args.batch_size.map(|size| size as usize),
        ..request(PeriodRange { first, last }, at, &args.common)?
    };
    if args.dry_run {
        return plan::shown(&project, &request).map(|_| ());
    }
    execute(&project, request, args.common.output)
}

pub fn retry(args: &RetryArgs) -> Result<(), Failure> {
    let project = project(&args.pipeline)?;
    let calendar = &project.pipeline.calendar;
    let earlier = RunResults::read(project.outputs()?.as_ref(), &args.run_id)?;
    // A run that was ended had more periods before it than it had come to.
    let is_done = |status| !matches!(status, UnitStatus::Failed | UnitStatus::NotAttempted);
    let done: BTreeSet<_> = earlier
        .units
        .iter()
        .filter(|unit| is_done(unit.status))
        .map(|unit| unit.period)
        .collect();
    let left: Vec<i32> = earlier
        .periods
        .iter()
        .filter(|start| !done.contains(start))
        .map(|start| calendar.index_of(*start))
        .collect();
    if left.is_empty() {
        tracing::info!("nothing to do: run {} has no failed units", args.run_id);
        return said_nothing_to_do(args.output);
    }
    let started_at = now();
    let request = Request {
        run_id: run_id(started_at),
        retry_of: Some(args.run_id.clone()),
        periods: left,
        as_of: earlier.as_of,
        select: earlier.tables,
        exclude: Vec::new(),
        reprocess: Reprocess::Stale,
        batch_size: None,
        started_at,
        clock: now,
    };
    execute(&project, request, args.output)
}

fn request(periods: PeriodRange, at: DateTime<Utc>, common: &Common) -> Result<Request, Failure> {
    table_names(&common.select, "--select")?;
    table_names(&common.exclude, "--exclude")?;
    let started_at = now();
    Ok(Request {
        run_id: run_id(started_at),
        retry_of: None,
        periods: periods.indices().collect(),
        as_of: at,
        select: common.select.clone(),
        exclude: common.exclude.clone(),
        reprocess: common.reprocess,
        batch_size: None,
        started_at,
        clock: now,
    })
}

/// A scheduler gets its line all the same.
fn nothing_to_do(calendar: &Calendar, output: Output) -> Result<(), Failure> {
    let (grain, begin) = (calendar.grain.name(), calendar.begin);
    tracing::info!("nothing to do: no {grain} since {begin} is complete yet");
    said_nothing_to_do(output)
}

fn said_nothing_to_do(output: Output) -> Result<(), Failure> {
    if output == Output::Json {
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

fn execute(project: &Project, request: Request, output: Output) -> Result<(), Failure> {
    let pipeline = &project.pipeline;
    checked(project, &request)?;
    let calendar = &pipeline.calendar;
    let incomplete: Vec<String> = request
        .periods
        .iter()
        .filter(|index| !calendar.is_complete(&calendar.period(**index), request.as_of))
        .map(|index| calendar.label(*index))
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
        first = request.periods.first().map(|index| calendar.label(*index)),
        last = request.periods.last().map(|index| calendar.label(*index)),
        "looking at {} periods",
        request.periods.len()
    );
    let stages = terminal::Stages::new(terminal::is_watched() && output == Output::Text);
    let live = Arc::new(Live::default());
    let emitter = Emitter::new(pipeline, &project.catalogue, &request).map(Arc::new);
    end_on_signals(&live, emitter.clone())?;
    if let Some(emitter) = &emitter {
        emitter.start(request.started_at);
    }
    let outcome = run::execute(&project.runner(), &request, &live, &stages);
    stages.finish();
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            // A scheduler gets its line all the same.
            let mut results = RunResults::begun(pipeline, &request);
            results.error = Some(Failure::text_of(&error));
            results.status = RunStatus::Failed;
            results.finished_at = Some(now());
            if let Some(emitter) = &emitter {
                emitter.end(&results);
            }
            report(&results, output);
            return Err(error.into());
        }
    };
    if let Some(emitter) = &emitter {
        emitter.end(&outcome.results);
    }
    for notice in &outcome.results.notices {
        tracing::info!("{notice}");
    }
    let store = project.outputs()?;
    tracing::info!(
        "results in {}",
        store.shown(&RunResults::key(&request.run_id))
    );
    // The last line, also where standard error goes to the same place: Airflow's BashOperator takes the last of both.
    report(&outcome.results, output);
    match outcome.failure {
        None => Ok(()),
        Some(error) => {
            let failure = Failure::from(error);
            Err(match outcome.results.status {
                RunStatus::Partial => failure.hint(format!(
                    "the other periods were published; `cskpi retry {} {}` takes up the rest",
                    pipeline.file, request.run_id
                )),
                _ => failure,
            })
        }
    }
}

/// What a request asks for must be what the pipeline publishes.
pub(super) fn checked(project: &Project, request: &Request) -> Result<(), Failure> {
    if let Some(name) = run::unpublished(&project.pipeline, request) {
        return Err(
            Failure::usage(format!("this pipeline does not publish `{name}`"))
                .hint("see outputs.tables, rfm and touch_model in the pipeline file"),
        );
    }
    if run::wanted_tables(&project.pipeline, request).is_empty() {
        return Err(Failure::usage(
            "--select and --exclude leave no table to publish",
        ));
    }
    Ok(())
}

/// SIGINT and SIGTERM let the commit at hand be finished; then the process ends with the signal's code.
fn end_on_signals(live: &Arc<Live>, emitter: Option<Arc<Emitter>>) -> Result<(), Failure> {
    let live = Arc::clone(live);
    let signals = Signals::new([SIGINT, SIGTERM]);
    let mut signals = signals
        .map_err(|error| Failure::usage(format!("signals cannot be listened to: {error}")))?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let name = if signal == SIGINT {
                "SIGINT"
            } else {
                "SIGTERM"
            };
            tracing::warn!("{name}: finishing the commit at hand");
            let results = live.interrupt(now(), &format!("ended by {name}"));
            if let (Some(emitter), Some(results)) = (&emitter, &results) {
                emitter.end(results);
            }
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Sortable, and different for runs of the same second.
pub(super) fn run_id(started_at: DateTime<Utc>) -> String {
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
    if results.status == RunStatus::Failed {
        return;
    }
    let Summary {
        periods,
        created,
        replaced,
        reused,
        up_to_date,
        failed,
        not_attempted,
        rows,
        seconds,
        ..
    } = summary;
    let mut text = format!(
        "{periods} periods: {created} files created, {replaced} replaced, {reused} unchanged"
    );
    for (count, what) in [
        (up_to_date, "up to date"),
        (failed, "failed"),
        (not_attempted, "not attempted"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    say!("{text}; {rows} rows in {seconds:.1} s");
}
