//! Reads and checks the input tables. A violation of any contract stops the run; all of them are reported together.

mod targets;
pub mod usage_rollup;
mod violations;

use super::{Progress, collected};
use crate::columns::{ACCOUNT_ID, PERIOD};
use crate::config::{Calendar, Pipeline};
use crate::contract::{self, Contract, FILE, FILE_FROM, FILE_TO, INPUT_TABLES, ROW, raw_column};
use crate::facts::merges::{AccountMap, Merge, MergeCycle};
use crate::facts::{Inputs, revenue};
use crate::metrics::catalogue::Catalogue;
use crate::period::Period;
use crate::sources::{self, Scan, SourceError, SourceFile};
use crate::staging::{self, Staged, StagingError};
use crate::storage::Storage;
use polars::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use usage_rollup::cache::UsageCache;
pub use violations::{Example, Violation};
use violations::{counted, report, summarised, violations_of};

/// Why the inputs cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("source {table}")]
    Source {
        table: &'static str,
        source: SourceError,
    },
    #[error(transparent)]
    Staging(#[from] StagingError),
    #[error(
        "policy.onboarding_rule asks for features, and usage_events has no column `feature`: map it, or leave `features` out of the rule"
    )]
    NoFeatures,
    #[error(
        "policy.onboarding_rule asks for hours, and usage_daily has no column `session_seconds`: map it, or leave `hours` out of the rule"
    )]
    NoHours,
    #[error("{table} cannot be read ({files})")]
    Read {
        table: &'static str,
        files: String,
        source: PolarsError,
    },
    #[error("{}", report(found))]
    Violations { found: Vec<Violation> },
    #[error("the input {} while it was read", changes.join(", "))]
    Moved { changes: Vec<String> },
    #[error(transparent)]
    Merges(#[from] MergeCycle),
}

/// What was read, for the run's summary.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InputSummary {
    pub table: String,
    pub files: usize,
    /// Of usage, files that were read anew; what they gave is kept (`_cskpi/cache`).
    #[serde(default)]
    pub files_read: usize,
    pub bytes: u64,
    /// Rows that the run used; of usage, rows of `usage_daily`.
    pub rows: usize,
    /// The source's own columns and their types.
    pub columns: Vec<(String, String)>,
}

impl InputSummary {
    /// All of its files were read.
    fn of(table: &str, scan: &Scan, files: &[SourceFile]) -> Self {
        let column =
            |(name, dtype): (&PlSmallStr, &DataType)| (name.to_string(), dtype.to_string());
        Self {
            table: table.to_owned(),
            files: files.len(),
            files_read: files.len(),
            bytes: files.iter().map(|file| file.size).sum(),
            rows: 0,
            columns: scan.schema.iter().map(column).collect(),
        }
    }
}

/// The inputs as the model takes them.
pub struct Loaded {
    pub inputs: Inputs,
    pub summaries: Vec<InputSummary>,
    /// Account columns that dimensions and rules may name.
    pub account_columns: Vec<String>,
    pub account_count: usize,
}

/// The files of every mapped source.
pub type Listing = BTreeMap<&'static str, Vec<SourceFile>>;

/// Lists every mapped source: nothing is opened.
pub fn listed(pipeline: &Pipeline, storage: &Storage) -> Result<Listing, InputError> {
    let tables = pipeline.sources.iter();
    let files = tables.map(|(table, source)| {
        let files = sources::listed(contract::of(table), source, storage);
        Ok((
            *table,
            files.map_err(|source| InputError::Source { table, source })?,
        ))
    });
    files.collect()
}

/// The files that results up to and including a period are made of.
pub fn needed(listing: &Listing, period: &Period) -> Listing {
    let tables = listing.iter().map(|(table, files)| {
        let needed = files
            .iter()
            .filter(|file| file.is_needed_for(period, contract::of(table)));
        (*table, needed.cloned().collect())
    });
    tables.collect()
}

/// The files to read for results up to and including a period: those needed, or one that shows the columns.
pub fn to_read(listing: &Listing, period: &Period) -> Listing {
    let mut files = needed(listing, period);
    for (table, needed) in &mut files {
        if needed.is_empty() {
            needed.extend(listing[table].first().cloned());
        }
    }
    files
}

/// Opens every mapped source: headers only.
pub fn opened(
    pipeline: &Pipeline,
    listing: &Listing,
    storage: &Storage,
) -> Result<BTreeMap<&'static str, (Scan, Staged)>, InputError> {
    let mut all = BTreeMap::new();
    for (table, source) in &pipeline.sources {
        let files = listing.get(table).cloned().unwrap_or_default();
        let scan = sources::scan(source, files, storage)
            .map_err(|source| InputError::Source { table, source })?;
        let staged = staging::staged(contract::of(table), source, &scan, &pipeline.calendar)?;
        all.insert(*table, (scan, staged));
    }
    let maps = |table: &str, name: &str| {
        let staged = all.get(table).map(|(_, staged)| staged);
        staged.is_some_and(|staged| staged.mapped.iter().any(|column| column == name))
    };
    if let Some(rule) = &pipeline.policy.onboarding_rule {
        let names_features = maps("usage_events", "feature") || maps("usage_features", "feature");
        if rule.features > 0 && !names_features {
            return Err(InputError::NoFeatures);
        }
        let lacks_hours =
            all.contains_key("usage_daily") && !maps("usage_daily", "session_seconds");
        if rule.hours > 0.0 && lacks_hours {
            return Err(InputError::NoHours);
        }
    }
    Ok(all)
}

/// The columns of `accounts` beside its keys: the contract's and the source's further ones.
pub fn account_columns(staged: &Staged) -> Vec<String> {
    let own = contract::of("accounts")
        .columns
        .iter()
        .map(|column| column.name.clone());
    own.chain(staged.extra.iter().cloned())
        .filter(|name| name != "valid_from" && name != "valid_to")
        .collect()
}

/// Reads and checks every mapped table.
pub fn loaded(
    pipeline: &Pipeline,
    catalogue: &Catalogue,
    listing: &Listing,
    storage: &Storage,
    cache: &UsageCache,
    memory_limit: u64,
    progress: &dyn Progress,
) -> Result<Loaded, InputError> {
    let work = usage_rollup::Work {
        pipeline,
        storage,
        listing,
        cache,
        memory_limit,
        progress,
    };
    let opened = usage_rollup::opened_as_kept(work)?;
    let mut frames: BTreeMap<&str, DataFrame> = BTreeMap::new();
    let mut summaries = Vec::new();
    let mut found = Vec::new();
    let is_small = |table: &&str| !usage_rollup::is_usage(table);
    for table in INPUT_TABLES.into_iter().filter(is_small) {
        let Some((scan, staged)) = opened.get(table) else {
            continue;
        };
        progress.stage(&format!("reading {table}"));
        let contract = contract::of(table);
        let read_error = |source| InputError::Read {
            table,
            files: unreadable_file(scan),
            source,
        };
        let mut summary = InputSummary::of(table, scan, &listing[table]);
        progress.expect(summary.bytes);
        let further = |rows: &DataFrame| match table {
            "targets" => targets::violations(rows, pipeline, catalogue).map(Some),
            _ => Ok(None),
        };
        let (frame, broken) =
            small_table(contract, staged, &frames, pipeline, &further).map_err(read_error)?;
        found.extend(broken);
        summary.rows = frame.height();
        progress.advance(summary.rows as u64, summary.bytes);
        frames.insert(table, frame);
        summaries.push(summary);
    }
    let merges = frames.get("account_merges");
    let map = account_map(merges, &pipeline.calendar);
    if let Some(table) = opened.keys().find(|table| usage_rollup::is_usage(table)) {
        progress.stage(&format!("reading {table}"));
    }
    // A circle is told of when all violations have been.
    let no_merges = AccountMap::default();
    let rolled = usage_rollup::rolled(work, &opened, &frames, map.as_ref().unwrap_or(&no_merges))?;
    let (mut usage, mut features) = (None, None);
    if let Some(rolled) = rolled {
        let is_usage = |table: &&str| usage_rollup::is_usage(table);
        for table in INPUT_TABLES.into_iter().filter(is_usage) {
            let Some((scan, _)) = opened.get(table) else {
                continue;
            };
            let mut summary = InputSummary::of(table, scan, &listing[table]);
            summary.rows = rolled.rows;
            summary.files_read = rolled.files_read.get(table).copied().unwrap_or(0);
            let InputSummary {
                files, files_read, ..
            } = summary;
            if files_read < files {
                tracing::info!("{table}: {files_read} of {files} files read");
            }
            summaries.push(summary);
        }
        found.extend(rolled.broken);
        (usage, features) = (Some(rolled.usage), rolled.features);
    }
    if !found.is_empty() {
        return Err(InputError::Violations { found });
    }
    let account_staged = &opened["accounts"].1;
    let is_historised = ["valid_from", "valid_to"]
        .iter()
        .any(|name| account_staged.mapped.iter().any(|m| m == name));
    let frame = |table: &str| frames.get(table).map(|frame| frame.clone().lazy());
    let inputs = Inputs {
        accounts: frame("accounts").unwrap_or_default(),
        subscriptions: frame("subscriptions").unwrap_or_default(),
        plans: frame("plans"),
        invoice_lines: frames
            .get("invoice_lines")
            .map(|lines| lines.drop_many(revenue::UNREAD).lazy()),
        fx_rates: frame("fx_rates"),
        opportunities: frame("opportunities"),
        members: frame("members"),
        onboarding: frame("onboarding"),
        surveys: frame("surveys"),
        tickets: frame("tickets"),
        community: frame("community"),
        costs: frame("costs"),
        time_entries: frame("time_entries"),
        targets: frame("targets").map(|rows| targets::indexed(rows, &pipeline.calendar)),
        usage,
        features,
        mapped: opened.keys().copied().collect(),
        account_map: map?,
        is_historised,
    };
    Ok(Loaded {
        inputs,
        summaries,
        account_columns: account_columns(account_staged),
        account_count: frames.get("accounts").map_or(0, DataFrame::height),
    })
}

/// The merges that a table tells of.
fn account_map(table: Option<&DataFrame>, calendar: &Calendar) -> Result<AccountMap, InputError> {
    let Some(table) = table else {
        return Ok(AccountMap::default());
    };
    let merges = merges(table, calendar).map_err(|source| InputError::Read {
        table: "account_merges",
        files: "merged_at".to_owned(),
        source,
    })?;
    Ok(AccountMap::new(merges)?)
}

type Checked = (DataFrame, Vec<Violation>);

/// A table that fits memory: read once, checked, provenance dropped, missing columns added as nulls. `further` gives violations that no
/// contract can tell of.
fn small_table(
    contract: &Contract,
    staged: &Staged,
    known: &BTreeMap<&str, DataFrame>,
    pipeline: &Pipeline,
    further: &dyn Fn(&DataFrame) -> PolarsResult<Option<LazyFrame>>,
) -> PolarsResult<Checked> {
    let rows = collected(staged.frame.clone())?;
    let further = further(&rows)?;
    let read = rows.lazy();
    let referenced = references(known)?;
    let violations = contract.violations(read.clone(), &staged.mapped, &referenced)?;
    let violations = with_misplaced(contract, read.clone(), violations)?;
    let violations = [Some(violations), further].into_iter().flatten();
    let violations = concat(violations.collect::<Vec<_>>(), UnionArgs::default())?;
    let found = summarised(contract, violations)?;
    let own = [FILE, ROW, FILE_FROM, FILE_TO].map(str::to_owned);
    let provenance = staged.mapped.iter().map(|name| raw_column(name)).chain(own);
    let missing = contract
        .columns
        .iter()
        .filter(|column| !staged.mapped.contains(&column.name));
    let nulls: Vec<Expr> = missing
        .map(|column| {
            lit(NULL)
                .cast(column.dtype(&pipeline.currency))
                .alias(&column.name)
        })
        .collect();
    let frame = read
        .drop(by_name(provenance.collect::<Vec<_>>(), false, false))
        .with_columns(nulls);
    Ok((collected(frame)?, found))
}

/// Adds rows that a file's name says it cannot have.
fn with_misplaced(
    contract: &Contract,
    mut rows: LazyFrame,
    violations: LazyFrame,
) -> PolarsResult<LazyFrame> {
    let is_dated = rows.collect_schema()?.contains(FILE_FROM);
    match contract.outside_file(rows).filter(|_| is_dated) {
        None => Ok(violations),
        Some(misplaced) => concat([violations, misplaced], UnionArgs::default()),
    }
}

/// Ids that later tables may refer to. An account that was merged away may be gone from the CRM.
fn references(known: &BTreeMap<&str, DataFrame>) -> PolarsResult<Vec<(&'static str, LazyFrame)>> {
    let ids = |table: &str, column: &str| {
        known
            .get(table)
            .map(|frame| frame.clone().lazy().select([col(column).alias("id")]))
    };
    let mut all = Vec::new();
    let accounts = [
        ids("accounts", ACCOUNT_ID),
        ids("account_merges", "old_account_id"),
    ];
    let accounts: Vec<LazyFrame> = accounts.into_iter().flatten().collect();
    if !accounts.is_empty() {
        all.push(("accounts", concat(accounts, UnionArgs::default())?));
    }
    all.extend(ids("plans", "plan_id").map(|plans| ("plans", plans)));
    let subscriptions = ids("subscriptions", "subscription_id");
    all.extend(subscriptions.map(|subscriptions| ("subscriptions", subscriptions)));
    Ok(all)
}

/// Which of a source's files it is that cannot be read: each is tried alone.
fn unreadable_file(scan: &Scan) -> String {
    let is_broken = |file: &&SourceFile| {
        let own = scan
            .frame
            .clone()
            .filter(col(FILE).eq(lit(file.path.as_str())));
        scan.files.len() > 1 && collected(own.select([len()])).is_err()
    };
    match scan.files.iter().find(is_broken).or(scan.files.first()) {
        Some(file) if scan.files.len() == 1 => file.path.clone(),
        Some(file) => format!("{} of {} files", file.path, scan.files.len()),
        None => "rows of the pipeline file".to_owned(),
    }
}

fn merges(frame: &DataFrame, calendar: &Calendar) -> PolarsResult<Vec<Merge>> {
    let index = calendar.index_of_instant(col("merged_at")).alias(PERIOD);
    let frame = collected(frame.clone().lazy().with_column(index))?;
    let (old, new) = (
        frame.column("old_account_id")?.str()?,
        frame.column(ACCOUNT_ID)?.str()?,
    );
    let periods = frame.column(PERIOD)?.i32()?;
    let rows = old.iter().zip(new.iter()).zip(periods.iter());
    let complete = rows.filter_map(|((old, new), period)| {
        Some(Merge {
            old_account_id: old?.to_owned(),
            account_id: new?.to_owned(),
            period: period?,
        })
    });
    Ok(complete.collect())
}
