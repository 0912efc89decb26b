//! What `run`, `backfill` and `retry` are asked.

use crate::cli::memory::Limits;
use crate::plan::Reprocess;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct RunArgs {
    /// The pipeline file.
    pub(in crate::cli) pipeline: String,
    /// Period instead of the last complete one: `2026-07`, `2026-W31`, `2026-Q2`, a first day, `last`, or `last-3` for the third one before it.
    #[arg(long)]
    pub(in crate::cli) period: Option<String>,
    /// Do what this file says (`plan --out`), and nothing if the inputs are not those that it was made for.
    #[arg(long, conflicts_with_all = ["period", "as_of", "select", "exclude", "reprocess"])]
    pub(in crate::cli) plan: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) common: Common,
}

#[derive(Debug, Args)]
pub struct BackfillArgs {
    /// The pipeline file.
    pub(in crate::cli) pipeline: String,
    /// First period (calendar.begin when not given).
    #[arg(long)]
    pub(in crate::cli) start: Option<String>,
    /// Period after the last one (up to the last complete one when not given).
    #[arg(long)]
    pub(in crate::cli) end: Option<String>,
    /// Periods computed in one step (as many as fit into --memory-limit when not given); fewer need less memory.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::cli) batch_size: Option<u32>,
    /// Show what would be done, and do nothing.
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    #[command(flatten)]
    pub(in crate::cli) common: Common,
}

#[derive(Debug, Args)]
pub struct RetryArgs {
    /// The pipeline file.
    pub(in crate::cli) pipeline: String,
    /// The run whose failed units are taken up; the table `runs` has its id.
    pub(in crate::cli) run_id: String,
    #[command(flatten)]
    pub(in crate::cli) limits: Limits,
    #[command(flatten)]
    pub(in crate::cli) telling: Telling,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Common {
    /// Instant that decides which periods are complete: `2026-11-21T03:00:00+09:00` (now when not given).
    #[arg(long)]
    pub(in crate::cli) as_of: Option<String>,
    /// Publish only these tables: `kpi_values,kpi_summary`.
    #[arg(long, value_delimiter = ',')]
    pub(in crate::cli) select: Vec<String>,
    /// Do not publish these tables.
    #[arg(long, value_delimiter = ',')]
    pub(in crate::cli) exclude: Vec<String>,
    /// Which of the periods to compute: those with missing tables; also those whose last run failed; also those whose inputs or settings have changed; or all.
    #[arg(long, value_enum, default_value_t = Reprocess::Stale)]
    pub(in crate::cli) reprocess: Reprocess,
    #[command(flatten)]
    pub(in crate::cli) limits: Limits,
    #[command(flatten)]
    pub(in crate::cli) telling: Telling,
}

/// What a run tells of itself.
#[derive(Debug, Args)]
pub(in crate::cli) struct Telling {
    /// `json` ends standard output with one line of JSON for a scheduler.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(in crate::cli) output: Output,
    /// Write to this file where the time went: a trace that https://ui.perfetto.dev and chrome://tracing open.
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) profile: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Output {
    Text,
    Json,
}
