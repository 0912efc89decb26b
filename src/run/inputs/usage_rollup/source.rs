//! The files of one usage table, read in batches of canonical columns, and the rows of them that break the contract.

use super::super::{InputError, Violation, counted, violations_of, with_misplaced};
use crate::columns::ACCOUNT_ID;
use crate::config::{Pipeline, Source};
use crate::contract::{Contract, FILE_FROM};
use crate::facts::usage::part::Shape;
use crate::facts::usage::sheet::Joining;
use crate::run::{collected_together, in_batches};
use crate::sources::{self, Scan, SourceFile};
use crate::sql;
use crate::staging::{self, Staged};
use crate::storage::Storage;
use polars::prelude::*;
use std::num::NonZeroUsize;

/// A usage table: its contract, its source, and what all of its files together are like.
pub struct UsageSource<'a> {
    pub contract: &'static Contract,
    pub source: &'a Source,
    pub files: &'a [SourceFile],
    pub pipeline: &'a Pipeline,
    pub storage: &'a Storage,
    /// The columns of all files, in types that fit all of them.
    pub scan: &'a Scan,
    /// The table as the columns of all files make it.
    pub staged: &'a Staged,
}

impl UsageSource<'_> {
    fn is_mapped(&self, name: &str) -> bool {
        self.staged.mapped.iter().any(|column| column == name)
    }

    pub fn has_account(&self) -> bool {
        self.is_mapped(ACCOUNT_ID)
    }

    /// The column that names the account, or what tells it.
    pub fn id(&self) -> &'static str {
        if self.has_account() {
            ACCOUNT_ID
        } else {
            "subscription_id"
        }
    }

    pub fn shape(&self) -> Shape {
        let gap = i64::from(self.pipeline.policy.session_gap_minutes) * 60_000_000;
        let (joining, has_seconds) = match self.contract.table.as_str() {
            "usage_events" if self.is_mapped("session_id") => {
                (Some(Joining::Given), self.is_mapped("seconds"))
            }
            "usage_events" => (Some(Joining::Gap(gap)), self.is_mapped("seconds")),
            "usage_sessions" => (Some(Joining::Day), true),
            "usage_daily" => (Some(Joining::Once), true),
            _ => (None, false),
        };
        Shape {
            joining,
            has_seconds,
            has_features: self.is_mapped("feature"),
        }
    }

    /// Facts that the rows tell nothing of.
    pub fn missing(&self) -> Vec<&'static str> {
        let optional = ["sessions", "session_seconds"].into_iter();
        let is_daily = self.contract.table == "usage_daily";
        optional
            .filter(|name| is_daily && !self.is_mapped(name))
            .collect()
    }

    /// All that decides, beside a file's content, what its parts hold.
    pub fn settings(&self) -> PolarsResult<String> {
        let types = self.staged.frame.clone().collect_schema()?;
        let filtered_by = self.source.filter.iter().filter_map(|filter| {
            let filter = sql::parse(filter).ok()?;
            let columns = filter.columns().iter();
            Some(
                columns
                    .map(|name| self.scan.schema.get(name))
                    .collect::<Vec<_>>(),
            )
        });
        Ok(format!(
            "{} {:?} {} {:?} {types:?} {:?}",
            self.contract.table,
            self.source,
            self.pipeline.calendar.time_zone,
            self.shape(),
            filtered_by.collect::<Vec<_>>(),
        ))
    }

    /// One file as the table, and its own columns.
    pub fn staged_file(&self, file: &SourceFile) -> Result<(Staged, Schema), InputError> {
        let own =
            sources::scan(self.source, vec![file.clone()], self.storage).map_err(|source| {
                InputError::Source {
                    table: &self.contract.table,
                    source,
                }
            })?;
        let differing = self.scan.schema.iter().filter_map(|(name, dtype)| {
            let value = match own.schema.get(name) {
                None => lit(NULL),
                Some(same) if same == dtype => return None,
                Some(_) => col(name.clone()),
            };
            Some(value.cast(dtype.clone()).alias(name.clone()))
        });
        let scan = Scan {
            frame: own.frame.with_columns(differing.collect::<Vec<_>>()),
            schema: self.scan.schema.clone(),
            files: own.files,
        };
        let calendar = &self.pipeline.calendar;
        let staged = staging::staged(self.contract, self.source, &scan, calendar)?;
        Ok((staged, own.schema))
    }

    /// What the kernel reads, of each table: see [`crate::facts::usage::sheet`].
    fn kernel_columns(&self) -> Vec<Expr> {
        let calendar = &self.pipeline.calendar;
        let micros = |name: &str| col(name).cast(DataType::Int64);
        let zero = || lit(0i64);
        let mut columns = vec![col(self.id()).alias("id")];
        let optional: &[&str] = match self.contract.table.as_str() {
            "usage_events" => {
                columns.push(calendar.local_date(col("occurred_at")).alias("day"));
                columns.push(micros("occurred_at").alias("first_at"));
                if self.is_mapped("seconds") {
                    columns.push(col("seconds").fill_null(zero()));
                }
                &["user_id", "session_id", "feature"]
            }
            "usage_sessions" => {
                let length = micros("ended_at") - micros("started_at");
                columns.push(calendar.local_date(col("started_at")).alias("day"));
                columns.push(micros("started_at").alias("first_at"));
                columns.push(length.clone().alias("length"));
                columns.push(length.floor_div(lit(1_000_000i64)).alias("seconds"));
                &["user_id"]
            }
            "usage_daily" => {
                let given = [("sessions", "sessions"), ("session_seconds", "seconds")].into_iter();
                let given = given.filter(|(name, _)| self.is_mapped(name));
                columns.extend(given.map(|(name, own)| col(name).fill_null(zero()).alias(own)));
                &["user_id", "day", "events"]
            }
            _ => &["feature", "day", "events"],
        };
        let optional = optional.iter().filter(|name| self.is_mapped(name));
        columns.extend(optional.map(|name| col(*name)));
        columns
    }

    /// Reads rows in batches; gives whether one of them breaks a rule. Such rows are left out of the batch.
    pub fn batches(
        &self,
        mut rows: LazyFrame,
        batch_rows: NonZeroUsize,
        mut take: impl FnMut(DataFrame) -> PolarsResult<()>,
    ) -> PolarsResult<bool> {
        let mut is_broken = self.contract.is_broken(&self.staged.mapped)?;
        let is_dated = rows.collect_schema()?.contains(FILE_FROM);
        if let Some(outside) = self.contract.is_outside_file().filter(|_| is_dated) {
            is_broken = is_broken.or(outside.fill_null(lit(false)));
        }
        is_broken = is_broken.or(col(self.id()).is_null());
        let mut columns = self.kernel_columns();
        columns.push(is_broken.alias("is_broken"));
        let mut any_broken = false;
        in_batches(rows.select(columns), batch_rows, |mut batch| {
            let is_broken = batch.column("is_broken")?.bool()?.clone();
            if is_broken.any() {
                any_broken = true;
                batch = batch.filter(&!&is_broken)?;
            }
            batch.rechunk_mut();
            take(batch)
        })?;
        Ok(any_broken)
    }

    /// The rows of several files, or those of the pipeline file.
    fn rows(&self, files: &[SourceFile]) -> Result<LazyFrame, InputError> {
        if files.is_empty() {
            return Ok(self.staged.frame.clone());
        }
        let frames = files.iter().map(|file| Ok(self.staged_file(file)?.0.frame));
        let frames = frames.collect::<Result<Vec<_>, InputError>>()?;
        concat(frames, UnionArgs::default()).map_err(|source| self.unread(None, source))
    }

    /// What breaks the contract in files of which something does.
    pub fn violations(&self, files: &[SourceFile]) -> Result<Vec<Violation>, InputError> {
        let rows = self.rows(files)?;
        let found = || -> PolarsResult<Vec<Violation>> {
            let contract = self.contract;
            let broken = contract.broken_rows(rows.clone(), &self.staged.mapped)?;
            let mut broken = with_misplaced(contract, rows.clone(), broken)?;
            if self.has_account() && self.is_mapped("subscription_id") {
                // The contract asks for either id; where both are mapped, the account's is the one that is used.
                let has_other = col("subscription_id").is_not_null();
                let nameless = rows.filter(col(ACCOUNT_ID).is_null().and(has_other));
                let nameless = Contract::missing_values(nameless, ACCOUNT_ID);
                broken = concat([broken, nameless], UnionArgs::default())?;
            }
            let [broken] = collected_together([counted(broken)])?;
            violations_of(contract, &broken)
        };
        found().map_err(|source| self.unread(None, source))
    }

    /// Rows whose id `table` does not know.
    pub fn unknown(&self, ids: DataFrame, table: &str) -> Result<Vec<Violation>, InputError> {
        let rows = self.rows(self.files)?;
        self.found(Contract::unknown_references(
            rows,
            self.id(),
            ids.lazy(),
            table,
        ))
    }

    /// Rows of days of which there is more than one row.
    pub fn repeated(&self, days: DataFrame) -> Result<Vec<Violation>, InputError> {
        let days = days.lazy().rename(["id"], [ACCOUNT_ID], true);
        self.found(self.contract.repeated_keys(self.rows(self.files)?, days))
    }

    fn found(&self, rows: LazyFrame) -> Result<Vec<Violation>, InputError> {
        let found = || {
            let [rows] = collected_together([counted(rows)])?;
            violations_of(self.contract, &rows)
        };
        found().map_err(|source| self.unread(None, source))
    }

    /// What could not be read.
    pub fn unread(&self, file: Option<&SourceFile>, source: PolarsError) -> InputError {
        InputError::Read {
            table: &self.contract.table,
            files: match file {
                Some(file) => file.path.clone(),
                None => super::super::unreadable_file(self.scan),
            },
            source,
        }
    }
}
