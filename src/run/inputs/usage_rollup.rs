//! Usage: source files → parts, kept from run to run → buckets of facts, kept as well → what the model takes.

mod bundle;
pub mod cache;
mod rollup;
mod source;

use super::{InputError, Listing, Violation, opened};
use crate::columns::ACCOUNT_ID;
use crate::config::Pipeline;
use crate::contract;
use crate::facts::merges::AccountMap;
use crate::facts::usage::bucket::{Known, Rules};
use crate::facts::usage::sheet::Joining;
use crate::facts::usage::{Usage, accounts_of_subscriptions};
use crate::run::{Progress, collected, window_days};
use crate::sources::{Scan, SourceFile};
use crate::staging::Staged;
use crate::storage::Storage;
use cache::UsageCache;
use polars::prelude::*;
use rollup::Rollup;
use source::UsageSource;
use std::collections::{BTreeMap, BTreeSet};

/// How often parts that turn out to be damaged are made again, before the store is given up.
const ATTEMPTS: usize = 2;

/// Usage, rolled up.
pub(super) struct Rolled {
    pub usage: Usage,
    /// Where features are named.
    pub features: Option<LazyFrame>,
    /// User-days.
    pub rows: usize,
    /// By table: files that were opened for more than their header.
    pub files_read: BTreeMap<&'static str, usize>,
    pub broken: Vec<Violation>,
}

/// A source as it was opened: all of its files, or those that tell what all are like.
type Opened = BTreeMap<&'static str, (Scan, Staged)>;

/// What reading usage takes beside the tables read before.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    pub pipeline: &'a Pipeline,
    pub storage: &'a Storage,
    pub listing: &'a Listing,
    pub cache: &'a UsageCache,
    /// Bytes of memory that the run should keep to.
    pub memory_limit: u64,
    pub progress: &'a dyn Progress,
}

/// Whether a table tells of usage.
pub(super) fn is_usage(table: &str) -> bool {
    table.starts_with("usage_")
}

/// Opens every mapped source: headers only, and of usage only of files whose columns are not known.
pub(super) fn opened_as_kept(work: Work) -> Result<Opened, InputError> {
    let mut telling = work.listing.clone();
    for (table, files) in &mut telling {
        if is_usage(table) {
            *files = telling_files(table, files, work.cache);
        }
    }
    let found = opened(work.pipeline, &telling, work.storage)?;
    if work.cache.is_of(&settings(work, &found)?) || telling == *work.listing {
        return Ok(found);
    }
    // Nothing is kept after all, and the settings are those that all files make together.
    let found = opened(work.pipeline, work.listing, work.storage)?;
    work.cache.is_of(&settings(work, &found)?);
    Ok(found)
}

/// Files whose columns tell those of all: every one of which nothing is kept, and one of each kind of the others.
fn telling_files(table: &str, files: &[SourceFile], cache: &UsageCache) -> Vec<SourceFile> {
    let mut kinds = BTreeSet::new();
    let is_telling = |file: &&SourceFile| match cache.of_file(table, file) {
        None => true,
        Some(kept) => kinds.insert(kept.columns),
    };
    files.iter().filter(is_telling).cloned().collect()
}

/// All that decides, beside the content of files, what parts hold.
fn settings(work: Work, opened: &Opened) -> Result<String, InputError> {
    let settings = sources(work, opened).into_iter().map(|source| {
        let settings = source.settings();
        settings.map_err(|error| source.unread(None, error))
    });
    settings.collect()
}

/// The mapped tables of usage: the one that tells of users first.
fn sources<'a>(work: Work<'a>, opened: &'a Opened) -> Vec<UsageSource<'a>> {
    let tables = contract::INPUT_TABLES
        .into_iter()
        .filter(|table| is_usage(table));
    let source = |table: &'static str| {
        let (scan, staged) = opened.get(table)?;
        Some(UsageSource {
            contract: contract::of(table),
            source: &work.pipeline.sources[table],
            files: &work.listing[table],
            pipeline: work.pipeline,
            storage: work.storage,
            scan,
            staged,
        })
    };
    tables.filter_map(source).collect()
}

/// Rolls usage up, if any is mapped: reads what is not kept, and makes the buckets that have changed.
pub(super) fn rolled(
    work: Work,
    opened: &Opened,
    tables: &BTreeMap<&str, DataFrame>,
    map: &AccountMap,
) -> Result<Option<Rolled>, InputError> {
    let sources = sources(work, opened);
    let Some(main) = sources.first() else {
        return Ok(None);
    };
    let asked = Asked::of(work.pipeline, tables).map_err(|error| main.unread(None, error))?;
    let mut rollup = Rollup::new(&sources, work, rules(&sources), asked.known(main, map));
    for _ in 0..ATTEMPTS {
        rollup.read()?;
        match rollup.buckets()? {
            Ok(buckets) => return rollup.finished(tables, buckets).map(Some),
            Err(damaged) => damaged.iter().for_each(|(table, path)| {
                tracing::warn!("what is kept of {path} is gone or damaged; it is read again");
                work.cache.forget(table, path);
            }),
        }
    }
    tracing::warn!("the outputs do not keep usage as they are given it; this run does without");
    let in_memory = UsageCache::in_memory();
    let mut rollup = rollup.with_cache(&in_memory);
    rollup.read()?;
    match rollup.buckets()? {
        Ok(buckets) => rollup.finished(tables, buckets).map(Some),
        // Memory does not forget.
        Err(_) => Err(main.unread(None, polars_err!(ComputeError: "parts are gone"))),
    }
}

fn rules<'a>(sources: &[UsageSource<'a>]) -> Rules<'a> {
    let main = &sources[0];
    let shape = main.shape();
    let policy = &main.pipeline.policy;
    let rule = policy.onboarding_rule.as_ref();
    Rules {
        calendar: &main.pipeline.calendar,
        mau_window: policy.mau_window,
        joining: shape.joining.unwrap_or(Joining::Day),
        has_seconds: shape.has_seconds,
        has_daily_features: sources.len() > 1,
        window_days: window_days(main.pipeline),
        within_days: rule.map(|rule| rule.within_days as i32),
    }
}

/// What other tables are asked.
struct Asked {
    /// `subscription_id`, `account_id`.
    accounts: DataFrame,
    /// `account_id`, `signup`.
    signups: DataFrame,
}

impl Asked {
    fn of(pipeline: &Pipeline, tables: &BTreeMap<&str, DataFrame>) -> PolarsResult<Self> {
        let table = |name: &str| tables.get(name).cloned().unwrap_or_default().lazy();
        let asks_for_signups = pipeline.policy.onboarding_rule.is_some();
        let signup = col("signup_date").min().alias("signup");
        let signups = table("accounts").group_by([col(ACCOUNT_ID)]).agg([signup]);
        Ok(Self {
            accounts: collected(accounts_of_subscriptions(table("subscriptions")))?,
            signups: match asks_for_signups {
                true => collected(signups.filter(col("signup").is_not_null()))?,
                false => DataFrame::empty(),
            },
        })
    }

    fn known<'a>(&'a self, source: &UsageSource, map: &'a AccountMap) -> Known<'a> {
        let pairs = || {
            let ids = self.accounts.column("subscription_id").ok()?.str().ok()?;
            let accounts = self.accounts.column(ACCOUNT_ID).ok()?.str().ok()?;
            let pairs = ids.iter().zip(accounts.iter());
            Some(
                pairs
                    .filter_map(|(id, account)| Some((id?, account?)))
                    .collect(),
            )
        };
        let signups = || {
            let accounts = self.signups.column(ACCOUNT_ID).ok()?.str().ok()?;
            let days = self.signups.column("signup").ok()?.date().ok()?.physical();
            let pairs = accounts.iter().zip(days.iter());
            Some(
                pairs
                    .filter_map(|(account, day)| Some((account?, day?)))
                    .collect(),
            )
        };
        Known {
            accounts: (!source.has_account()).then(|| pairs().unwrap_or_default()),
            signups: signups().unwrap_or_default(),
            merged: map.involved(),
        }
    }
}
