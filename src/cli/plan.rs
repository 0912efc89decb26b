//! `plan`: what would be read and written, period by period. Nothing is computed.

use super::run::{named_end, named_period};
use super::{as_of, project};
use crate::failure::Failure;
use crate::period::PeriodRange;
use crate::publish;
use crate::run::{self, Request};
use crate::storage::Store;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline file.
    pipeline: String,
    /// First period (the first that `run` would compute when not given).
    #[arg(long)]
    start: Option<String>,
    /// Period after the last one.
    #[arg(long)]
    end: Option<String>,
    /// Instant that decides which periods are complete (now when not given).
    #[arg(long)]
    as_of: Option<String>,
}

pub fn plan(args: &Args) -> Result<(), Failure> {
    let mut project = project(&args.pipeline)?;
    super::check_inputs(&mut project)?;
    let pipeline = &project.pipeline;
    let calendar = &pipeline.calendar;
    let now = as_of(args.as_of.as_deref())?;
    let begin = calendar.index_of(calendar.begin);
    let last_complete = calendar.last_complete(now);
    let last = match &args.end {
        Some(end) => Some(named_end(calendar, end, last_complete.unwrap_or(begin))?),
        None => last_complete,
    };
    let Some(last) = last else {
        say!(
            "nothing to do: no {} since {} is complete yet",
            calendar.grain.name(),
            calendar.begin
        );
        return Ok(());
    };
    let first = match &args.start {
        Some(start) => named_period(calendar, start, last)?,
        None => last
            .saturating_sub(i32::try_from(calendar.lookback).unwrap_or(i32::MAX))
            .max(begin),
    };
    let opened = run::inputs::opened(pipeline)?;
    say!("reads");
    for (table, (scan, staged)) in &opened {
        let bytes: u64 = scan
            .files
            .iter()
            .map(|path| path.metadata().map_or(0, |data| data.len()))
            .sum();
        say!(
            "  {table:<16} {:>5} files {bytes:>14} bytes  columns: {}",
            scan.files.len(),
            staged.mapped.join(", ")
        );
    }
    let periods = PeriodRange { first, last };
    let request = Request {
        run_id: String::new(),
        periods,
        as_of: now,
        select: Vec::new(),
        exclude: Vec::new(),
    };
    let tables = run::wanted_tables(pipeline, &request);
    let store = Store::new(&pipeline.outputs.root);
    say!("writes under {}", store.root().display());
    for index in periods.indices() {
        let period = calendar.period(index);
        let (there, missing): (Vec<&str>, Vec<&str>) = tables
            .iter()
            .partition(|table| store.exists(&publish::key(table, &period)));
        let state = if calendar.is_complete(&period, now) {
            "complete"
        } else {
            "not complete yet"
        };
        say!(
            "  {} [{}, {}) {state}",
            calendar.label(index),
            period.start,
            period.end
        );
        if !missing.is_empty() {
            say!("    new:                   {}", missing.join(", "));
        }
        if !there.is_empty() {
            say!("    replaced if different: {}", there.join(", "));
        }
    }
    Ok(())
}
