//! The steps of a rollup: files → parts → buckets → one frame of each fact.

use super::super::{InputError, Violation, references};
use super::cache::{FORMAT, Kept, Object, UsageCache};
use super::source::UsageSource;
use super::{Rolled, Work};
use crate::facts::usage::Usage;
use crate::facts::usage::bucket::{Bucket, Known, Rules};
use crate::facts::usage::part::{Part, month_of, parts};
use crate::publish::at_once;
use crate::run::{Progress, collected};
use crate::sources::SourceFile;
use polars::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

/// Rows of a batch, whatever there is of memory: fewer would make too many parts, more are no faster.
const BATCH_ROWS: std::ops::RangeInclusive<u64> = 10_000..=1_000_000;
/// Bytes that a row of a batch takes, with the part that is made of it and what is read ahead meanwhile.
const BYTES_PER_ROW: u64 = 400;
/// Batches may fill this part of the memory: one of so many.
const SHARE: u64 = 4;

/// Table and path of a file. Rows of the pipeline file have no path.
pub type FileName<'a> = (&'static str, &'a str);

pub struct Rollup<'a> {
    sources: &'a [UsageSource<'a>],
    cache: &'a UsageCache,
    batch_rows: NonZeroUsize,
    progress: &'a dyn Progress,
    rules: Rules<'a>,
    known: Known<'a>,
    kept: BTreeMap<FileName<'a>, Kept>,
    files_read: BTreeSet<FileName<'a>>,
    /// Files with rows that break the contract. Nothing that is made of them is kept.
    broken: BTreeSet<FileName<'a>>,
}

/// Why a bucket could not be made.
enum BucketError<'a> {
    /// Parts of these files are gone or damaged.
    Damaged(BTreeSet<FileName<'a>>),
    Failed(PolarsError),
}

impl From<PolarsError> for BucketError<'_> {
    fn from(error: PolarsError) -> Self {
        Self::Failed(error)
    }
}

/// Parts by calendar month, each with its file.
type ByMonth<'a, 'k> = BTreeMap<i32, Vec<(FileName<'a>, &'k Object)>>;

impl<'a> Rollup<'a> {
    pub fn new(
        sources: &'a [UsageSource<'a>],
        work: Work<'a>,
        rules: Rules<'a>,
        known: Known<'a>,
    ) -> Self {
        Self {
            sources,
            cache: work.cache,
            batch_rows: batch_rows(work.memory_limit),
            progress: work.progress,
            rules,
            known,
            kept: BTreeMap::new(),
            files_read: BTreeSet::new(),
            broken: BTreeSet::new(),
        }
    }

    /// The same with nothing done yet.
    pub fn with_cache<'b>(self, cache: &'b UsageCache) -> Rollup<'b>
    where
        'a: 'b,
    {
        Rollup { cache, ..self }
    }

    /// Makes the parts of every file of which none are kept.
    pub fn read(&mut self) -> Result<(), InputError> {
        self.kept.clear();
        self.broken.clear();
        let mut new = Vec::new();
        for source in self.sources {
            let table = source.contract.table.as_str();
            if source.files.is_empty() {
                let (parts, is_broken) = self.parts(source, source.staged.frame.clone(), None)?;
                self.take((table, ""), Kept::of_rows(parts), is_broken);
            }
            for file in source.files {
                match self.cache.of_file(table, file) {
                    Some(kept) => self.take((table, &file.path), kept, false),
                    None => new.push((source, file)),
                }
            }
        }
        self.progress
            .expect(new.iter().map(|(_, file)| file.size).sum());
        let read = at_once(threads(), &new, |(source, file)| self.kept_of(source, file));
        for ((source, file), read) in new.into_iter().zip(read) {
            let (kept, is_broken) = read?;
            let name = (source.contract.table.as_str(), file.path.as_str());
            self.files_read.insert(name);
            self.take(name, kept, is_broken);
        }
        Ok(())
    }

    fn take(&mut self, name: FileName<'a>, kept: Kept, is_broken: bool) {
        self.kept.insert(name, kept);
        if is_broken {
            self.broken.insert(name);
        }
    }

    /// Reads a file, and keeps its parts if all of its rows keep the contract; says whether one does not.
    fn kept_of(&self, source: &UsageSource, file: &SourceFile) -> Result<(Kept, bool), InputError> {
        let (staged, columns) = source.staged_file(file)?;
        let (parts, is_broken) = self.parts(source, staged.frame, Some(file))?;
        self.progress.advance(0, file.size);
        let columns = blake3::hash(format!("{columns:?}").as_bytes());
        let kept = Kept::new(file, columns.to_hex().to_string(), parts);
        if !is_broken {
            self.cache.enter(&source.contract.table, file, kept.clone());
        }
        Ok((kept, is_broken))
    }

    /// The parts of rows, each with its month, and whether a row breaks the contract.
    fn parts(
        &self,
        source: &UsageSource,
        rows: LazyFrame,
        file: Option<&SourceFile>,
    ) -> Result<(Vec<(i32, Object)>, bool), InputError> {
        let shape = source.shape();
        let mut kept = Vec::new();
        let is_broken = source.batches(rows, self.batch_rows, |batch| {
            for Part {
                month,
                uses,
                features,
            } in parts(&batch, shape)?
            {
                kept.push((month, self.cache.kept(&mut [uses, features])?));
            }
            self.progress.advance(batch.height() as u64, 0);
            Ok(())
        });
        let is_broken = is_broken.map_err(|error| source.unread(file, error))?;
        Ok((kept, is_broken))
    }

    /// All buckets, in order; or the files of which parts are gone or damaged.
    pub fn buckets(&self) -> Result<Result<Vec<Bucket>, BTreeSet<FileName<'a>>>, InputError> {
        let mut by_month = ByMonth::new();
        for (name, kept) in &self.kept {
            for (month, object) in &kept.parts {
                by_month.entry(*month).or_default().push((*name, object));
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
                Err(BucketError::Damaged(files)) => damaged.extend(files),
                Err(BucketError::Failed(error)) => return Err(self.failed(error)),
            }
        }
        Ok(if damaged.is_empty() {
            Ok(all)
        } else {
            Err(damaged)
        })
    }

    /// One bucket: as it is kept, if it was made of the same, or anew. `None` if no period begins in its month.
    fn bucket(
        &self,
        bucket: i32,
        by_month: &ByMonth<'a, '_>,
    ) -> Result<Option<Bucket>, BucketError<'a>> {
        let Some(span) = self.rules.span(bucket) else {
            return Ok(None);
        };
        let months = month_of(span.all.start)..=month_of(span.all.end - 1);
        let parts: Vec<_> = by_month
            .range(months)
            .flat_map(|(_, parts)| parts)
            .collect();
        let key = self.bucket_key(parts.iter().map(|(_, object)| object.hash()).collect());
        if let Some(bucket) = self.kept_bucket(bucket, &key)? {
            return Ok(Some(bucket));
        }
        let (mut uses, mut features) = (Vec::new(), Vec::new());
        let mut damaged = BTreeSet::new();
        for (name, object) in parts {
            match self.cache.frames(object) {
                Some([of_uses, of_features]) => {
                    uses.push(of_uses);
                    features.push(of_features);
                }
                None => {
                    damaged.insert(*name);
                }
            }
        }
        if !damaged.is_empty() {
            return Err(BucketError::Damaged(damaged));
        }
        let made = self.rules.bucket(&span, &uses, &features, &self.known)?;
        if self.broken.is_empty() && made.repeated.height() == 0 {
            let object = self.cache.kept(&mut made.clone().into_frames())?;
            self.cache.enter_bucket(bucket, key, object);
        }
        Ok(Some(made))
    }

    /// All that a bucket is made of, but what its premises say.
    fn bucket_key(&self, mut parts: Vec<&str>) -> String {
        parts.sort_unstable();
        let rules = &self.rules;
        let calendar = rules.calendar;
        let all = format!(
            "{FORMAT} {:?} {:?} {} {:?} {:?} {} {} {} {:?} {} {parts:?}",
            calendar.grain,
            calendar.week_start,
            calendar.fiscal_year_start,
            rules.mau_window,
            rules.joining,
            rules.has_seconds,
            rules.has_daily_features,
            rules.window_days,
            rules.within_days,
            self.sources[0].id(),
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

    fn failed(&self, error: PolarsError) -> InputError {
        self.sources[0].unread(None, error)
    }

    /// Buckets put together, and what is wrong with the rows that they are made of.
    pub fn finished(
        self,
        tables: &BTreeMap<&str, DataFrame>,
        buckets: Vec<Bucket>,
    ) -> Result<Rolled, InputError> {
        let together = self.rules.together(buckets);
        let all = together.map_err(|error| self.failed(error))?;
        let broken = self.violations(tables, &all)?;
        let user_days = || {
            all.facts
                .column("active_user_days")?
                .i64()
                .map(|days| days.sum())
        };
        let user_days = user_days().map_err(|error| self.failed(error))?;
        let has_features = self
            .sources
            .iter()
            .any(|source| source.shape().has_features);
        let mut files_read = BTreeMap::new();
        for (table, _) in self.files_read {
            *files_read.entry(table).or_default() += 1;
        }
        Ok(Rolled {
            features: has_features.then(|| all.features.lazy()),
            usage: Usage {
                facts: all.facts.lazy(),
                days: all.days.lazy(),
                onboarding: all.onboarding.lazy(),
                merged: all.merged.lazy(),
                missing: self.sources[0].missing(),
            },
            rows: user_days.unwrap_or(0) as usize,
            files_read,
            broken,
        })
    }

    /// Rows that break a rule, that stand there twice, or whose account or subscription the other tables do not know. To tell of
    /// them, the sources are read again.
    fn violations(
        &self,
        tables: &BTreeMap<&str, DataFrame>,
        all: &Bucket,
    ) -> Result<Vec<Violation>, InputError> {
        let unknown = self
            .unknown(tables, all)
            .map_err(|error| self.failed(error))?;
        let mut found = Vec::new();
        for source in self.sources {
            let table = source.contract.table.as_str();
            let is_broken = |file: &&SourceFile| self.broken.contains(&(table, file.path.as_str()));
            let files: Vec<SourceFile> = source.files.iter().filter(is_broken).cloned().collect();
            if !files.is_empty() || self.broken.contains(&(table, "")) {
                found.extend(source.violations(&files)?);
            }
            if all.repeated.height() > 0 && !source.contract.key.is_empty() {
                found.extend(source.repeated(all.repeated.clone())?);
            }
            if let Some((ids, table)) = &unknown {
                found.extend(source.unknown(ids.clone(), table)?);
            }
        }
        Ok(found)
    }

    /// Ids that the other tables do not know, and the table that should.
    fn unknown(
        &self,
        tables: &BTreeMap<&str, DataFrame>,
        all: &Bucket,
    ) -> PolarsResult<Option<(DataFrame, &'static str)>> {
        let table = if self.sources[0].has_account() {
            "accounts"
        } else {
            "subscriptions"
        };
        let known = references(tables)?
            .into_iter()
            .find(|(name, _)| *name == table);
        let Some((_, known)) = known else {
            return Ok(None);
        };
        let ids = all.premises.clone().lazy().select([col("id")]);
        let ids = ids.unique(None, UniqueKeepStrategy::Any);
        let unknown = collected(ids.anti_join(known, col("id"), col("id")))?;
        Ok((unknown.height() > 0).then_some((unknown, table)))
    }
}

fn batch_rows(memory_limit: u64) -> NonZeroUsize {
    let of_thread = memory_limit / SHARE / threads() as u64;
    let rows = of_thread / BYTES_PER_ROW;
    let rows = rows.clamp(*BATCH_ROWS.start(), *BATCH_ROWS.end());
    NonZeroUsize::new(rows as usize).unwrap_or(NonZeroUsize::MIN)
}

/// Files read, or buckets made, at the same time.
fn threads() -> usize {
    let cores = std::thread::available_parallelism();
    cores.map_or(1, NonZeroUsize::get).min(4)
}
