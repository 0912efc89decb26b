//! The command line: one file per verb. Standard output is data, everything else goes to standard error.

/// A line on standard output.
macro_rules! say {
    ($($arg:tt)*) => { $crate::cli::terminal::out(&format!("{}\n", format_args!($($arg)*))) };
}

mod cost;
mod docs;
mod explain;
mod generate;
mod init;
mod language;
mod memory;
mod plan;
mod profile;
mod progress;
mod report;
mod run;
mod schema;
mod terminal;
mod unlock;
mod vacuum;
mod validate;
mod verify;

use crate::config::Pipeline;
use crate::config::error::Problems;
use crate::config::locate::MAX_BYTES;
use crate::failure::Failure;
use crate::metrics::catalogue::{self, Catalogue};
use crate::storage::Storage;
use crate::{config, run as runner};
use chrono::{DateTime, Utc};
use clap::{Parser, Subcommand, ValueEnum};
use cost::cost;
use profile::Profile;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

/// Customer-success KPIs by cohort and segment, from CRM, billing and usage tables to BI-ready Parquet.
#[derive(Debug, Parser)]
#[command(name = "cskpi", version, max_term_width = 110, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// How log lines on standard error look.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Say less: warnings and errors only.
    #[arg(long, short, global = true)]
    quiet: bool,
}

const EXIT_CODES: &str = "Exit codes: 0 done or nothing to do · 1 the run or a check failed · 2 usage or pipeline file · \
3 `plan --detailed-exitcode`: there is something to do · 75 try again (an input is not there yet, another run holds the lock) · 130/143 ended by SIGINT/SIGTERM";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write a commented pipeline file to start from.
    Init(init::Args),
    /// Check a pipeline file, and that its inputs have the columns it names.
    Validate(validate::Args),
    /// Show what is missing, stale, restated or up to date, and why. Lists inputs and outputs, opens nothing.
    Plan(plan::Args),
    /// Compute and publish the last complete period and the ones before it (calendar.lookback).
    Run(run::RunArgs),
    /// Compute and publish a range of past periods in one pass.
    Backfill(run::BackfillArgs),
    /// Take up the failed units of an earlier run, with its instant (`--as-of`).
    Retry(run::RetryArgs),
    /// Compare what is published with what the manifests say.
    Verify(verify::Args),
    /// Clear results of old runs, and files that no manifest knows.
    Vacuum(vacuum::Args),
    /// Give back the lock of a run that is known to be dead.
    Unlock(unlock::Args),
    /// Print the JSON schema of pipeline files, or the contract of a table.
    Schema(schema::Args),
    /// Print the metric dictionary as Markdown, in English or Japanese.
    Docs(docs::Args),
    /// Tell what a metric is made of: definition, SQL, columns, inputs, policies, and the numbers behind a published value.
    Explain(explain::Args),
    /// Make sample data of any size: a believable company's CRM, billing and usage.
    Generate(generate::Args),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// How much is said beside the data, and in which form.
struct Console {
    log_format: LogFormat,
    is_quiet: bool,
    /// With `--profile`.
    profile: Option<Profile>,
}

impl Verb {
    /// The file of `--profile`.
    fn profile(&self) -> Option<&Path> {
        let telling = match self {
            Self::Run(args) => &args.common.telling,
            Self::Backfill(args) => &args.common.telling,
            Self::Retry(args) => &args.telling,
            _ => return None,
        };
        telling.profile.as_deref()
    }
}

/// Parses the command line, does what it says, and returns the exit code.
pub fn main() -> ExitCode {
    ExitCode::from(exit_code(std::env::args_os()))
}

/// The same for given arguments, the program's name first.
pub fn exit_code(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors.
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print();
            return code;
        }
    };
    let console = Console {
        log_format: cli.log_format,
        is_quiet: cli.quiet,
        profile: cli.verb.profile().map(Profile::new),
    };
    terminal::start_logging(&console);
    // A panic is a mistake of ours. It must not look like anything else, and must not hide what to do.
    std::panic::set_hook(Box::new(|panic| tracing::debug!("{panic}")));
    let done = std::panic::catch_unwind(|| verb(cli.verb, &console)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(Failure::bug(
            text.or(panic.downcast_ref::<&str>().copied())
                .unwrap_or("no reason given"),
        ))
    });
    if let Some(profile) = &console.profile {
        profile.write();
    }
    match done {
        Ok(()) => 0,
        Err(failure) => {
            if console.log_format == LogFormat::Json {
                tracing::error!(causes = ?failure.causes, hints = ?failure.hints, "{}", failure.message);
            } else {
                eprintln!("{}", failure.render());
            }
            failure.kind.exit_code()
        }
    }
}

fn verb(verb: Verb, console: &Console) -> Result<(), Failure> {
    match verb {
        Verb::Init(args) => init::init(&args),
        Verb::Validate(args) => validate::validate(&args),
        Verb::Plan(args) => plan::plan(&args),
        Verb::Run(args) => run::run(&args, console),
        Verb::Backfill(args) => run::backfill(&args, console),
        Verb::Retry(args) => run::retry(&args, console),
        Verb::Verify(args) => verify::verify(&args),
        Verb::Vacuum(args) => vacuum::vacuum(&args),
        Verb::Unlock(args) => unlock::unlock(&args),
        Verb::Schema(args) => schema::schema(&args),
        Verb::Docs(args) => docs::docs(&args),
        Verb::Explain(args) => explain::explain(&args),
        Verb::Generate(args) => generate::generate(&args),
    }
}

/// A pipeline file that passed every check that needs no data, with its metrics.
struct Project {
    pipeline: Pipeline,
    catalogue: Catalogue,
    problems: Problems,
    storage: Storage,
}

impl Project {
    /// What a run works with.
    fn runner(&self) -> runner::Project<'_> {
        runner::Project {
            pipeline: &self.pipeline,
            catalogue: &self.catalogue,
            storage: &self.storage,
        }
    }

    /// The store of what is published.
    fn outputs(&self) -> Result<std::sync::Arc<dyn crate::storage::Store>, Failure> {
        Ok(self.storage.store(&self.pipeline.outputs.root)?)
    }
}

/// Reads and checks a pipeline file.
#[expect(
    clippy::disallowed_methods,
    reason = "the command line owns the environment and the pipeline file"
)]
fn project(file: &str) -> Result<Project, Failure> {
    // One byte more than a pipeline may have shows that it is too large; /dev/zero never ends.
    let mut text = String::new();
    let opened = std::fs::File::open(file);
    let read = opened.and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_string(&mut text));
    read.map_err(|error| {
        Failure::usage(format!("the pipeline file {file} cannot be read: {error}"))
            .hint("`cskpi init` writes one")
    })?;
    let environment = |name: &str| std::env::var(name).ok();
    let config::load::Loaded {
        draft,
        mut problems,
    } = config::load::load(file, &text, &environment);
    // A mistake in one section does not hide those in the metrics.
    let catalogue = draft
        .as_ref()
        .and_then(|draft| catalogue::resolve(&draft.metrics, &draft.policy, &mut problems));
    match (draft, catalogue) {
        (Some(pipeline), Some(catalogue)) if !problems.has_errors() => Ok(Project {
            storage: Storage::new(&pipeline.s3, &environment),
            pipeline,
            catalogue,
            problems,
        }),
        _ => Err(problems.into()),
    }
}

/// The clock.
#[expect(clippy::disallowed_methods, reason = "the command line owns the clock")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

/// The instant a command takes for now: given, or the clock's.
fn as_of(given: Option<&str>) -> Result<DateTime<Utc>, Failure> {
    let Some(text) = given else {
        return Ok(now());
    };
    let instant = DateTime::parse_from_rfc3339(text).map(|instant| instant.with_timezone(&Utc));
    instant.map_err(|_| {
        let failure = Failure::usage(format!("--as-of `{text}` is no instant"));
        match chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d") {
            Ok(_) => failure.hint(format!(
                "say at what time of that day, and in which zone: {text}T00:00:00+09:00"
            )),
            Err(_) => failure.hint("write it like 2026-11-21T03:00:00+09:00"),
        }
    })
}

/// Names of published tables that a user gave, checked.
fn table_names(names: &[String], option: &str) -> Result<(), Failure> {
    for name in names {
        if !crate::contract::OUTPUT_TABLES.contains(&name.as_str()) {
            let nearest = crate::sql::nearest::nearest(name, crate::contract::OUTPUT_TABLES, 1);
            let failure = Failure::usage(format!("{option} `{name}` is no table"));
            return Err(match nearest.first() {
                Some(near) => failure.hint(format!("did you mean `{near}`?")),
                None => failure,
            });
        }
    }
    Ok(())
}

/// Opens every source, checks its columns and the names that dimensions and rules use.
fn check_inputs(project: &mut Project) -> Result<(), Failure> {
    let listing = runner::inputs::listed(&project.pipeline, &project.storage)?;
    let opened = runner::inputs::opened(&project.pipeline, &listing, &project.storage)?;
    let accounts = &opened["accounts"].1;
    let columns = runner::inputs::account_columns(accounts);
    runner::names::check_names(&project.pipeline, &columns, &mut project.problems);
    runner::names::warn_of_missing(&project.pipeline, accounts, &mut project.problems);
    if project.problems.has_errors() {
        Err(std::mem::take(&mut project.problems).into())
    } else {
        Ok(())
    }
}
