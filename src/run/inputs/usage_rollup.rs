//! Usage: source files → parts, kept from run to run → buckets of facts, kept as well → what the model takes.

mod bundle;
pub mod cache;
mod source;

use super::{InputError, Violation, references};
use crate::columns::ACCOUNT_ID;
use crate::config::Pipeline;
use crate::facts::merges::AccountMap;
use crate::facts::usage::bucket::{Bucket, Known, Rules};
use crate::facts::usage::part::{Part, month_of, parts};
use crate::facts::usage::{Usage, accounts_of_subscriptions};
use crate::publish::at_once;
use crate::run::{collected, window_days};
use crate::sources::SourceFile;
use cache::{FORMAT, Kept, Object, UsageCache};
use polars::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

pub(super) use source::UsageSource;

/// Rows of a batch: with their parts, some 200 bytes of memory each.
const BATCH_ROWS: NonZeroUsize = NonZeroUsize::new(1_000_000).expect("not zero");
/// How often parts that turn out to be damaged are made again, before the store is given up.
const ATTEMPTS: usize = 2;

/// Usage, rolled up.
pub(super) struct Rolled {
    pub usage: Usage,
    /// Where events name features.
    pub features: Option<LazyFrame>,
    /// User-days.
    pub rows: usize,
    /// Files that were opened for more than their header.
    pub files_read: usize,
    pub broken: Vec<Violation>,
}

/// Files whose columns tell those of all: every one of which nothing is kept, and one of each kind of the others.
pub(super) fn telling_files(files: &[SourceFile], cache: &UsageCache) -> Vec<SourceFile> {
    let mut kinds = BTreeSet::new();
    let is_telling = |file: &&SourceFile| match cache.of_file(file) {
        None => true,
        Some(kept) => kinds.insert(kept.columns),
    };
    files.iter().filter(is_telling).cloned().collect()
}

/// Rolls usage up: reads what is not kept, and makes the buckets that have changed.
pub(super) fn rolled(
    source: &UsageSource,
    files: &[SourceFile],
    tables: &BTreeMap<&str, DataFrame>,
    map: &AccountMap,
    cache: &UsageCache,
) -> Result<Rolled, InputError> {
    let asked = Asked::of(source.pipeline, tables).map_err(|error| source.unread(None, error))?;
    let mut rollup = Rollup {
        source,
        cache,
        known: asked.known(source, map),
        rules: rules(source),
        kept: BTreeMap::new(),
        files_read: BTreeSet::new(),
        broken: Vec::new(),
        has_broken_rows: false,
    };
    for _ in 0..ATTEMPTS {
        rollup.read(files)?;
        match rollup.buckets()? {
            Ok(buckets) => return rollup.finished(files, tables, buckets),
            Err(damaged) => damaged.iter().for_each(|path| {
                tracing::warn!(
                    "what the cache keeps of {path} is gone or damaged; it is read again"
                );
                cache.forget(path);
            }),
        }
    }
    tracing::warn!("the cache of usage does not keep what it is given; this run does without");
    let in_memory = UsageCache::in_memory();
    let mut rollup = Rollup {
        cache: &in_memory,
        ..rollup
    };
    rollup.read(files)?;
    match rollup.buckets()? {
        Ok(buckets) => rollup.finished(files, tables, buckets),
        // Memory does not forget.
        Err(_) => Err(source.unread(None, polars_err!(ComputeError: "parts are gone"))),
    }
}

fn rules<'a>(source: &UsageSource<'a>) -> Rules<'a> {
    let shape = source.shape();
    let policy = &source.pipeline.policy;
    let rule = policy.onboarding_rule.as_ref();
    Rules {
        calendar: &source.pipeline.calendar,
        mau_window: policy.mau_window,
        joining: shape.joining,
        has_seconds: shape.has_seconds,
        window_days: window_days(source.pipeline),
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

struct Rollup<'a> {
    source: &'a UsageSource<'a>,
    cache: &'a UsageCache,
    known: Known<'a>,
    rules: Rules<'a>,
    /// By path; rows of the pipeline file have none.
    kept: BTreeMap<String, Kept>,
    files_read: BTreeSet<String>,
    /// Files with rows that break the contract. Nothing that is made of them is kept.
    broken: Vec<SourceFile>,
    has_broken_rows: bool,
}

/// Why a bucket could not be made.
enum BucketError {
    /// Parts of these files are gone or damaged.
    Damaged(BTreeSet<String>),
    Failed(PolarsError),
}

impl From<PolarsError> for BucketError {
    fn from(error: PolarsError) -> Self {
        Self::Failed(error)
    }
}

impl Rollup<'_> {
    /// Makes the parts of every file of which none are kept.
    fn read(&mut self, files: &[SourceFile]) -> Result<(), InputError> {
        self.kept.clear();
        self.broken.clear();
        if files.is_empty() {
            let (parts, is_broken) = self.parts(self.source.staged.frame.clone(), None)?;
            self.has_broken_rows = is_broken;
            self.kept.insert(String::new(), Kept::of_rows(parts));
        }
        let (kept, new): (Vec<_>, Vec<_>) = files
            .iter()
            .map(|file| (file, self.cache.of_file(file)))
            .partition(|(_, kept)| kept.is_some());
        let kept = kept
            .into_iter()
            .filter_map(|(file, kept)| Some((file.path.clone(), kept?)));
        self.kept.extend(kept);
        let read = at_once(threads(), &new, |(file, _)| self.kept_of(file));
        for ((file, _), read) in new.into_iter().zip(read) {
            let (kept, is_broken) = read?;
            self.files_read.insert(file.path.clone());
            self.kept.insert(file.path.clone(), kept);
            if is_broken {
                self.broken.push(file.clone());
                self.has_broken_rows = true;
            }
        }
        Ok(())
    }

    /// Reads a file, and keeps its parts if all of its rows keep the contract; says whether one does not.
    fn kept_of(&self, file: &SourceFile) -> Result<(Kept, bool), InputError> {
        let (staged, columns) = self.source.staged_file(file)?;
        let (parts, is_broken) = self.parts(staged.frame, Some(file))?;
        let columns = blake3::hash(format!("{columns:?}").as_bytes());
        let kept = Kept::new(file, columns.to_hex().to_string(), parts);
        if !is_broken {
            self.cache.enter(file, kept.clone());
        }
        Ok((kept, is_broken))
    }

    /// The parts of rows, each with its month, and whether a row breaks the contract.
    fn parts(
        &self,
        rows: LazyFrame,
        file: Option<&SourceFile>,
    ) -> Result<(Vec<(i32, Object)>, bool), InputError> {
        let shape = self.source.shape();
        let mut kept = Vec::new();
        let is_broken = self.source.batches(rows, BATCH_ROWS, |batch| {
            for Part {
                month,
                uses,
                features,
            } in parts(&batch, shape)?
            {
                kept.push((month, self.cache.kept(&mut [uses, features])?));
            }
            Ok(())
        });
        let is_broken = is_broken.map_err(|error| self.source.unread(file, error))?;
        Ok((kept, is_broken))
    }

    /// All buckets, in order; or the files of which parts are gone or damaged.
    fn buckets(&self) -> Result<Result<Vec<Bucket>, BTreeSet<String>>, InputError> {
        let mut by_month = ByMonth::new();
        for (path, kept) in &self.kept {
            for (month, object) in &kept.parts {
                let of_month = by_month.entry(*month).or_default();
                of_month.push((path.as_str(), object));
            }
        }
        let months = by_month
            .keys()
            .flat_map(|month| self.rules.buckets_of(*month));
        let buckets: Vec<i32> = months.collect::<BTreeSet<_>>().into_iter().collect();
        let made = at_once(threads(), &buckets, |bucket| {
            self.bucket(*bucket, &by_month)
        });
        let (mut all, mut damaged) = (Vec::new(), BTreeSet::new());
        for bucket in made {
            match bucket {
                Ok(bucket) => all.extend(bucket),
                Err(BucketError::Damaged(paths)) => damaged.extend(paths),
                Err(BucketError::Failed(error)) => return Err(self.source.unread(None, error)),
            }
        }
        Ok(if damaged.is_empty() {
            Ok(all)
        } else {
            Err(damaged)
        })
    }

    /// One bucket: as it is kept, if it was made of the same, or anew. `None` if no period begins in its month.
    fn bucket(&self, bucket: i32, by_month: &ByMonth) -> Result<Option<Bucket>, BucketError> {
        let Some(span) = self.rules.span(bucket) else {
            return Ok(None);
        };
        let months = month_of(span.all.start)..=month_of(span.all.end - 1);
        let parts: Vec<&(&str, &Object)> = by_month
            .range(months)
            .flat_map(|(_, parts)| parts)
            .collect();
        let key = self.bucket_key(&parts);
        if let Some(bucket) = self.kept_bucket(bucket, &key)? {
            return Ok(Some(bucket));
        }
        let (mut uses, mut features) = (Vec::new(), Vec::new());
        let mut damaged = BTreeSet::new();
        for (path, object) in parts {
            match self.cache.frames(object) {
                Some([of_uses, of_features]) => {
                    uses.push(of_uses);
                    features.push(of_features);
                }
                None => {
                    damaged.insert((*path).to_owned());
                }
            }
        }
        if !damaged.is_empty() {
            return Err(BucketError::Damaged(damaged));
        }
        let made = self.rules.bucket(&span, &uses, &features, &self.known)?;
        if !self.has_broken_rows {
            let object = self.cache.kept(&mut made.clone().into_frames())?;
            self.cache.enter_bucket(bucket, key, object);
        }
        Ok(Some(made))
    }

    /// All that a bucket is made of, but what its premises say.
    fn bucket_key(&self, parts: &[&(&str, &Object)]) -> String {
        let mut hashes: Vec<&str> = parts.iter().map(|(_, object)| object.hash()).collect();
        hashes.sort_unstable();
        let rules = &self.rules;
        let calendar = rules.calendar;
        let all = format!(
            "{FORMAT} {:?} {:?} {} {:?} {:?} {} {} {:?} {} {hashes:?}",
            calendar.grain,
            calendar.week_start,
            calendar.fiscal_year_start,
            rules.mau_window,
            rules.joining,
            rules.has_seconds,
            rules.window_days,
            rules.within_days,
            self.source.id(),
        );
        blake3::hash(all.as_bytes()).to_hex().to_string()
    }

    /// A bucket as it is kept, if what other tables say of its ids is still the same.
    fn kept_bucket(&self, bucket: i32, key: &str) -> PolarsResult<Option<Bucket>> {
        let object = self.cache.of_bucket(bucket, key);
        let Some(kept) = object.and_then(|object| self.cache.frames(&object)) else {
            return Ok(None);
        };
        let kept = Bucket::from_frames(kept);
        let ids = kept
            .premises
            .column("id")?
            .str()?
            .iter()
            .flatten()
            .collect();
        let holds = self.known.of(ids)?.equals_missing(&kept.premises);
        Ok(holds.then_some(kept))
    }

    /// Buckets put together, and what is wrong with the rows that they are made of.
    fn finished(
        self,
        files: &[SourceFile],
        tables: &BTreeMap<&str, DataFrame>,
        buckets: Vec<Bucket>,
    ) -> Result<Rolled, InputError> {
        let all = self
            .rules
            .together(buckets)
            .map_err(|error| self.source.unread(None, error))?;
        let mut broken = Vec::new();
        if self.has_broken_rows {
            broken.extend(self.source.violations(&self.broken)?);
        }
        broken.extend(self.unknown(files, tables, &all)?);
        let user_days = || {
            all.facts
                .column("active_user_days")?
                .i64()
                .map(|days| days.sum())
        };
        let user_days = user_days().map_err(|error| self.source.unread(None, error))?;
        Ok(Rolled {
            features: self
                .source
                .shape()
                .has_features
                .then(|| all.features.lazy()),
            usage: Usage {
                facts: all.facts.lazy(),
                days: all.days.lazy(),
                onboarding: all.onboarding.lazy(),
                merged: all.merged.lazy(),
            },
            rows: user_days.unwrap_or(0) as usize,
            files_read: self.files_read.len(),
            broken,
        })
    }

    /// Rows whose account or subscription the other tables do not know. The sources are read for that if there are any.
    fn unknown(
        &self,
        files: &[SourceFile],
        tables: &BTreeMap<&str, DataFrame>,
        all: &Bucket,
    ) -> Result<Vec<Violation>, InputError> {
        let table = if self.source.has_account() {
            "accounts"
        } else {
            "subscriptions"
        };
        let unknown = || {
            let known = references(tables)?
                .into_iter()
                .find(|(name, _)| *name == table);
            let ids = all.premises.clone().lazy().select([col("id")]);
            let ids = ids.unique(None, UniqueKeepStrategy::Any);
            known
                .map(|(_, known)| collected(ids.anti_join(known, col("id"), col("id"))))
                .transpose()
        };
        match unknown().map_err(|error| self.source.unread(None, error))? {
            Some(ids) if ids.height() > 0 => self.source.unknown(files, ids, table),
            _ => Ok(Vec::new()),
        }
    }
}

/// Parts by calendar month, each with the path of its file.
type ByMonth<'a> = BTreeMap<i32, Vec<(&'a str, &'a Object)>>;

/// Files read, or buckets made, at the same time.
fn threads() -> usize {
    std::thread::available_parallelism()
        .map_or(1, NonZeroUsize::get)
        .min(4)
}
