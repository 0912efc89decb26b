//! `run`, `backfill` and `retry`.

mod args;

use super::memory::Limits;
use super::profile::Profile;
use super::progress::Watch;
use super::report::{log_stages, report};
use super::{Console, Project, as_of, cost, now, plan, project, table_names};
use crate::config::Calendar;
use crate::failure::Failure;
use crate::lineage::Emitter;
use crate::period::PeriodRange;
use crate::plan::{PeriodPlan, Reprocess};
use crate::publish::UnitStatus;
use crate::run::live::Live;
use crate::run::results::{RunResults, RunStatus};
use crate::run::{self, Request};
use chrono::{DateTime, Utc};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) use args::{BackfillArgs, Common, Output, RetryArgs, RunArgs};

/// What a command line comes to.
enum Asked {
    /// Why there is nothing to do.
    Nothing(String),
    Run(Box<Project>, Box<Request>),
    /// What would be done was shown.
    Shown {
        periods: usize,
        to_do: usize,
    },
}

pub fn run(args: &RunArgs, console: &Console) -> Result<(), Failure> {
    let output = args.common.telling.output;
    done(|| asked_of_run(args), output, console)
}

pub fn backfill(args: &BackfillArgs, console: &Console) -> Result<(), Failure> {
    let output = args.common.telling.output;
    done(|| asked_of_backfill(args), output, console)
}

pub fn retry(args: &RetryArgs, console: &Console) -> Result<(), Failure> {
    done(|| asked_of_retry(args), args.telling.output, console)
}

/// Does what was asked for. A scheduler gets its line, whatever comes of it.
fn done(
    asked: impl FnOnce() -> Result<Asked, Failure>,
    output: Output,
    console: &Console,
) -> Result<(), Failure> {
    let opened = console.profile.as_ref().map_or(Ok(()), Profile::open);
    let line = match opened.and_then(|()| asked()) {
        Ok(Asked::Run(project, request)) => return execute(&project, *request, output, console),
        Ok(Asked::Nothing(why)) => {
            tracing::info!("nothing to do: {why}");
            Ok(serde_json::json!({"status": "nothing_to_do", "periods": 0}))
        }
        Ok(Asked::Shown { periods, to_do }) => {
            Ok(serde_json::json!({"status": "dry_run", "periods": periods, "to_do": to_do}))
        }
        Err(failure) => Err(failure),
    };
    if output == Output::Json {
        let failed = |failure: &Failure| serde_json::json!({"status": "failed", "periods": 0, "error": failure.text()});
        say!("{}", line.as_ref().map_or_else(failed, Clone::clone));
    }
    line.map(|_| ())
}

fn asked_of_run(args: &RunArgs) -> Result<Asked, Failure> {
    let project = project(&args.pipeline)?;
    if let Some(file) = &args.plan {
        return planned(project, file, &args.common.limits);
    }
    let at = as_of(args.common.as_of.as_deref())?;
    let calendar = &project.pipeline.calendar;
    let Some(last) = calendar.last_complete(at) else {
        return Ok(Asked::Nothing(nothing_complete(calendar)));
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
    asked(project, request(periods, at, &args.common)?)
}

/// Does what a plan's file says, if the inputs are still those that it was made for.
fn planned(project: Project, file: &str, limits: &Limits) -> Result<Asked, Failure> {
    let plan = plan::PlanFile::read(file)?;
    plan.check(&project, file)?;
    if plan.periods.is_empty() {
        return Ok(Asked::Nothing(format!("the plan {file} has no period")));
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
        memory_limit: limits.memory(),
        started_at,
        clock: now,
        cost,
    };
    asked(project, request)
}

fn asked_of_backfill(args: &BackfillArgs) -> Result<Asked, Failure> {
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
            None => return Ok(Asked::Nothing(nothing_complete(calendar))),
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
        let (plans, _) = plan::shown(&project, &request)?;
        let is_chosen = |plan: &&PeriodPlan| plan.is_chosen(request.reprocess);
        return Ok(Asked::Shown {
            periods: plans.len(),
            to_do: plans.iter().filter(is_chosen).count(),
        });
    }
    asked(project, request)
}

fn asked_of_retry(args: &RetryArgs) -> Result<Asked, Failure> {
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
        let why = format!("run {} has no failed units", args.run_id);
        return Ok(Asked::Nothing(why));
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
        memory_limit: args.limits.memory(),
        started_at,
        clock: now,
        cost,
    };
    asked(project, request)
}

fn asked(project: Project, request: Request) -> Result<Asked, Failure> {
    checked(&project, &request)?;
    Ok(Asked::Run(Box::new(project), Box::new(request)))
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
        memory_limit: common.limits.memory(),
        started_at,
        clock: now,
        cost,
    })
}

fn nothing_complete(calendar: &Calendar) -> String {
    let (grain, begin) = (calendar.grain.name(), calendar.begin);
    format!("no {grain} since {begin} is complete yet")
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
    request: Request,
    output: Output,
    console: &Console,
) -> Result<(), Failure> {
    let pipeline = &project.pipeline;
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
    let watch = Watch::new(console, output == Output::Json);
    let live = Arc::new(Live::default());
    let emitter = Emitter::new(pipeline, &project.catalogue, &request).map(Arc::new);
    end_on_signals(&live, emitter.clone(), output, console.profile.clone())?;
    if let Some(emitter) = &emitter {
        emitter.start(request.started_at);
    }
    let outcome = run::execute(&project.runner(), &request, &live, &watch);
    watch.finish();
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            // A scheduler gets its line all the same.
            let mut results = RunResults::begun(pipeline, &request);
            results.error = Some(Failure::text_of(&error));
            results.status = RunStatus::Failed;
            results.finished_at = Some(now());
            results.stages = live.stages();
            results.cost = cost();
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
    log_stages(&outcome.results, console);
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
fn end_on_signals(
    live: &Arc<Live>,
    emitter: Option<Arc<Emitter>>,
    output: Output,
    profile: Option<Profile>,
) -> Result<(), Failure> {
    let live = Arc::clone(live);
    let signals = Signals::new([SIGINT, SIGTERM]);
    let mut signals = signals
        .map_err(|error| Failure::usage(format!("signals cannot be listened to: {error}")))?;
    std::thread::spawn(move || {
        // The first one ends the process.
        if let Some(signal) = signals.forever().next() {
            let name = if signal == SIGINT {
                "SIGINT"
            } else {
                "SIGTERM"
            };
            tracing::warn!("{name}: finishing the commit at hand");
            if let Some(results) = live.interrupt(now(), cost(), &format!("ended by {name}")) {
                if let Some(emitter) = &emitter {
                    emitter.end(&results);
                }
                report(&results, output);
            }
            if let Some(profile) = &profile {
                profile.write();
            }
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Sorts by the second of the start; runs of the same second differ, in no order.
pub(super) fn run_id(started_at: DateTime<Utc>) -> String {
    let distinct =
        blake3::hash(format!("{started_at:?} {}", std::process::id()).as_bytes()).to_hex();
    format!("{}-{}", started_at.format("%Y%m%dT%H%M%SZ"), &distinct[..6])
}
