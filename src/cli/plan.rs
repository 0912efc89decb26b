//! `plan`: what is missing, stale, restated or up to date, and why.

use super::run::{Output, checked, named_end, named_period};
use super::{Project, as_of, cost, now, project, table_names};
use crate::failure::{Failure, Kind};
use crate::period::PeriodRange;
use crate::plan::{PeriodPlan, Reprocess, State, changes};
use crate::publish::manifest::Basis;
use crate::run::inputs::Listing;
use crate::run::{self, Request};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Reasons that a line names before it says how many more there are.
const NAMED: usize = 3;
/// Exit code of `--detailed-exitcode` when there is something to do. (Terraform's 2 is "usage" here.)
const SOMETHING_TO_DO: i32 = 3;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline file.
    pipeline: String,
    /// First period (the nightly run's first when not given).
    #[arg(long)]
    start: Option<String>,
    /// Period after the last one.
    #[arg(long)]
    end: Option<String>,
    /// Instant that decides which periods are complete (now when not given).
    #[arg(long)]
    as_of: Option<String>,
    /// Look at these tables only: `kpi_values,kpi_summary`.
    #[arg(long, value_delimiter = ',')]
    select: Vec<String>,
    /// Leave these tables out.
    #[arg(long, value_delimiter = ',')]
    exclude: Vec<String>,
    /// Which of the periods a run would compute.
    #[arg(long, value_enum, default_value_t = Reprocess::Stale)]
    reprocess: Reprocess,
    /// Write the plan to this file, for `run --plan`.
    #[arg(long)]
    out: Option<String>,
    /// Exit with 3 if there is something to do, with 0 if there is nothing.
    #[arg(long)]
    detailed_exitcode: bool,
    /// `json` prints the plan as JSON.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// A plan that was written down: what is to be done, and the inputs it was made for.
#[derive(Debug, Serialize, Deserialize)]
pub struct PlanFile {
    pub pipeline: String,
    pub as_of: DateTime<Utc>,
    pub select: Vec<String>,
    pub exclude: Vec<String>,
    /// Indices of the periods to compute.
    pub periods: Vec<i32>,
    /// Inputs, settings and program that the last of them would be made of.
    basis: Option<Basis>,
    /// For people.
    verdict: Vec<PeriodPlan>,
}

impl PlanFile {
    #[expect(
        clippy::disallowed_methods,
        reason = "the command line reads what its options name"
    )]
    pub fn read(file: &str) -> Result<Self, Failure> {
        let unreadable = |error: String| {
            Failure::usage(format!("the plan {file} cannot be read: {error}"))
                .hint("`cskpi plan PIPELINE --out FILE` writes one")
        };
        let text = std::fs::read_to_string(file).map_err(|error| unreadable(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))
    }

    /// Refuses if what the plan was made for is no longer what is there.
    pub fn check(&self, project: &Project, file: &str) -> Result<(), Failure> {
        let Some(planned) = &self.basis else {
            return Ok(());
        };
        let listing = run::inputs::listed(&project.pipeline, &project.storage)?;
        let now = basis(project, &listing, &self.periods, self.as_of);
        let moved = now.map_or_else(Vec::new, |now| changes(planned, &now));
        if moved.is_empty() {
            return Ok(());
        }
        Err(Failure {
            kind: Kind::Run,
            message: format!("the plan {file} was made for other inputs"),
            causes: moved,
            hints: vec![
                "nothing was published; make a new plan with `cskpi plan --out`".to_owned(),
            ],
        })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the command line writes what its options name"
    )]
    fn write(&self, file: &str) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        std::fs::write(file, text).map_err(|error| {
            Failure::usage(format!("the plan cannot be written to {file}: {error}"))
        })
    }
}

fn basis(
    project: &Project,
    listing: &Listing,
    periods: &[i32],
    at: DateTime<Utc>,
) -> Option<Basis> {
    let last = project.pipeline.calendar.period(*periods.iter().max()?);
    Some(project.runner().basis(listing, &last, "kpi_values", at))
}

pub fn plan(args: &Args) -> Result<(), Failure> {
    let project = project(&args.pipeline)?;
    table_names(&args.select, "--select")?;
    table_names(&args.exclude, "--exclude")?;
    let calendar = &project.pipeline.calendar;
    let at = as_of(args.as_of.as_deref())?;
    let begin = calendar.index_of(calendar.begin);
    let last_complete = calendar.last_complete(at);
    let last = match &args.end {
        Some(end) => Some(named_end(calendar, end, last_complete.unwrap_or(begin))?),
        None => last_complete,
    };
    let periods = match (last, &args.start) {
        (None, _) => Vec::new(),
        (Some(last), None) => calendar.nightly(last).indices().collect(),
        (Some(last), Some(start)) => {
            let first = named_period(calendar, start, last)?;
            PeriodRange { first, last }.indices().collect()
        }
    };
    let request = Request {
        run_id: String::new(),
        retry_of: None,
        periods,
        as_of: at,
        select: args.select.clone(),
        exclude: args.exclude.clone(),
        reprocess: args.reprocess,
        batch_size: None,
        memory_limit: u64::MAX,
        started_at: at,
        clock: now,
        cost,
    };
    let (plans, listing) = match args.output {
        Output::Text => shown(&project, &request)?,
        Output::Json => {
            checked(&project, &request)?;
            let found = run::planned(&project.runner(), &request)?;
            say!(
                "{}",
                serde_json::to_string_pretty(&found.0).unwrap_or_default()
            );
            found
        }
    };
    let chosen: Vec<i32> = plans
        .iter()
        .filter(|plan| plan.is_chosen(args.reprocess))
        .map(|plan| plan.index)
        .collect();
    let is_something = !chosen.is_empty();
    if let Some(file) = &args.out {
        let plan = PlanFile {
            pipeline: project.pipeline.name.clone(),
            as_of: at,
            select: args.select.clone(),
            exclude: args.exclude.clone(),
            basis: basis(&project, &listing, &chosen, at),
            periods: chosen,
            verdict: plans,
        };
        plan.write(file)?;
        tracing::info!(
            "plan written to {file}; `cskpi run {} --plan {file}` does it",
            args.pipeline
        );
    }
    if args.detailed_exitcode && is_something {
        std::process::exit(SOMETHING_TO_DO);
    }
    Ok(())
}

/// Prints a plan, the same for `plan` and `backfill --dry-run`.
pub(super) fn shown(
    project: &Project,
    request: &Request,
) -> Result<(Vec<PeriodPlan>, Listing), Failure> {
    checked(project, request)?;
    let calendar = &project.pipeline.calendar;
    let (plans, listing) = run::planned(&project.runner(), request)?;
    say!("reads");
    for (table, files) in &listing {
        let bytes: u64 = files.iter().map(|file| file.size).sum();
        say!("  {table:<16} {:>5} files {bytes:>14} bytes", files.len());
    }
    say!("writes under {}", project.pipeline.outputs.root);
    if plans.is_empty() {
        say!(
            "nothing to do: no {} since {} is complete yet",
            calendar.grain.name(),
            calendar.begin
        );
    }
    for state in [
        State::Missing,
        State::Stale,
        State::Restated,
        State::SchemaChange,
        State::UpToDate,
    ] {
        let lines = lines(&plans, state, &|index| calendar.label(index));
        if !lines.is_empty() {
            say!("{}", state.as_str());
            lines.iter().for_each(|line| say!("  {line}"));
        }
    }
    let failures = plans
        .iter()
        .filter_map(|plan| Some((plan.index, plan.failure.as_ref()?)));
    for (number, (index, failure)) in failures.enumerate() {
        if number == 0 {
            say!("failed last time");
        }
        let failure = failure.lines().next().unwrap_or_default();
        say!("  {}: {failure}", calendar.label(index));
    }
    let chosen = plans
        .iter()
        .filter(|plan| plan.is_chosen(request.reprocess))
        .count();
    say!("to do: {chosen} of {} periods", plans.len());
    Ok((plans, listing))
}

/// One line per run of periods with the same tables and reasons.
fn lines(plans: &[PeriodPlan], state: State, label: &dyn Fn(i32) -> String) -> Vec<String> {
    let mut groups: Vec<(Vec<i32>, String)> = Vec::new();
    for plan in plans {
        let mut tables: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for unit in plan.units.iter().filter(|unit| unit.state == state) {
            tables
                .entry(reasons(&unit.reasons))
                .or_default()
                .push(&unit.table);
        }
        for (reasons, tables) in tables {
            let tables = if tables.len() == plan.units.len() {
                "all tables".to_owned()
            } else {
                tables.join(", ")
            };
            let text = if reasons.is_empty() {
                tables
            } else {
                format!("{tables}: {reasons}")
            };
            match groups.iter_mut().find(|(periods, other)| {
                *other == text && periods.last() == Some(&(plan.index - 1))
            }) {
                Some((periods, _)) => periods.push(plan.index),
                None => groups.push((vec![plan.index], text)),
            }
        }
    }
    let named = |periods: &[i32]| match periods {
        [] => String::new(),
        [one] => label(*one),
        [first, .., last] => format!("{} to {}", label(*first), label(*last)),
    };
    groups
        .into_iter()
        .map(|(periods, text)| format!("{}  {text}", named(&periods)))
        .collect()
}

fn reasons(all: &[String]) -> String {
    let named = all
        .iter()
        .take(NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join("; ");
    match all.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}
