//! Files to be: encoded, held against what lies in their place, staged and audited.

use super::manifest::{Basis, Manifest, Unit};
use super::{
    Check, PublishError, Session, UnitStatus, Work, audit, encode, held, in_parallel, key, restate,
    schema,
};
use crate::contract::{self, Contract};
use crate::fault::step;
use crate::period::Period;
use crate::storage::Version;
use chrono::{DateTime, Utc};
use polars::prelude::*;
use std::time::Instant;
use tracing::{Span, debug_span, field};

/// A file to be, with what lies at its place.
pub(super) struct Candidate {
    pub(super) contract: &'static Contract,
    pub(super) key: String,
    pub(super) rows: usize,
    pub(super) bytes: Vec<u8>,
    pub(super) columns: Vec<(String, String)>,
    pub(super) content_hash: String,
    pub(super) hash_before: Option<String>,
    pub(super) before: Option<Version>,
    pub(super) seconds: f64,
}

/// What happens to a file, for a profile.
fn file_span(what: &str, contract: &Contract, rows: usize) -> Span {
    let name = format_args!("{what} {}", contract.table);
    debug_span!("file", name, rows, bytes = field::Empty)
}

impl Candidate {
    pub(super) fn status(&self) -> UnitStatus {
        match &self.hash_before {
            None => UnitStatus::Created,
            Some(before) if *before == self.content_hash => UnitStatus::Reused,
            Some(_) => UnitStatus::Replaced,
        }
    }
}

impl Session {
    /// Everything that the period consists of, encoded, with what lies there now.
    pub(super) fn candidates(
        &self,
        work: &Work,
        old: Option<&Manifest>,
    ) -> Result<Vec<Candidate>, PublishError> {
        let mut frames: Vec<(&'static Contract, DataFrame)> = work
            .tables
            .iter()
            .map(|(contract, frame)| (*contract, frame.clone()))
            .collect();
        let kpis = frames
            .iter()
            .position(|(contract, _)| contract.table == "kpi_values");
        if let (Some(at), Some(closing)) = (kpis, work.closing) {
            let contract = contract::of("kpi_as_reported");
            let reported = self.published_frame(&key(&contract.table, work.period.start))?;
            let encode = |source| PublishError::Encode {
                table: contract.table.clone(),
                period: work.period.start,
                source,
            };
            let reported = match reported {
                Some(reported) if closing.is_closed => {
                    frames[at].1 =
                        restate::marked(frames[at].1.clone(), &reported).map_err(encode)?;
                    reported
                }
                _ => restate::as_reported(&frames[at].1, closing.closes_on).map_err(encode)?,
            };
            frames.push((contract, reported));
        }
        let encoded = in_parallel(&frames, |(contract, frame)| {
            self.candidate(contract, frame, work.period, old)
        });
        let mut candidates = encoded.into_iter().collect::<Result<Vec<_>, _>>()?;
        if let Some(at) = kpis {
            let restatements = self.restatements(&candidates[at], &frames[at].1, work, old)?;
            candidates.push(self.candidate(
                &contract::of("restatements"),
                &restatements,
                work.period,
                old,
            )?);
        }
        Ok(candidates)
    }

    fn candidate(
        &self,
        contract: &&'static Contract,
        frame: &DataFrame,
        period: &Period,
        old: Option<&Manifest>,
    ) -> Result<Candidate, PublishError> {
        let started = Instant::now();
        let span = file_span("encoding", contract, frame.height()).entered();
        let bytes = encode::encoded(frame, self.publisher.compression).map_err(|source| {
            PublishError::Encode {
                table: contract.table.clone(),
                period: period.start,
                source,
            }
        })?;
        span.record("bytes", bytes.len());
        let key = key(&contract.table, period.start);
        let content_hash = blake3::hash(&bytes).to_hex().to_string();
        let there = held(&self.listing).get(&key).cloned();
        let known = old.and_then(|manifest| manifest.units.get(&contract.table));
        let (before, hash_before) = match (there, known) {
            (None, _) => (None, None),
            (Some(entry), Some(unit)) if entry.version == unit.version => {
                (Some(entry.version), Some(unit.content_hash.clone()))
            }
            // Not as the manifest says, or not in it: what lies there tells.
            (Some(_), _) => match self.store.read(&key)? {
                None => (None, None),
                Some((bytes, version)) => (
                    Some(version),
                    Some(blake3::hash(&bytes).to_hex().to_string()),
                ),
            },
        };
        Ok(Candidate {
            contract,
            key,
            rows: frame.height(),
            columns: schema::columns_of(frame),
            bytes,
            content_hash,
            hash_before,
            before,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Stages a file that differs, and audits it as a reader would find it.
    pub(super) fn staged(
        &self,
        candidate: &Candidate,
        prefix: &str,
        work: &Work,
    ) -> Result<(Vec<Check>, f64), PublishError> {
        let started = Instant::now();
        let span = file_span("auditing", candidate.contract, candidate.rows).entered();
        span.record("bytes", candidate.bytes.len());
        let as_staged = if candidate.status() == UnitStatus::Reused {
            None
        } else {
            let staged = format!("{prefix}/{}", candidate.key);
            let _gate = self.uninterrupted();
            self.store.stage(&staged, &candidate.bytes)?;
            step("unit_staged");
            self.store.read(&staged)?.map(|(bytes, _)| bytes)
        };
        let bytes = as_staged.as_ref().unwrap_or(&candidate.bytes);
        let (checks, result) = audit::audited(
            bytes,
            candidate.contract,
            work.period,
            candidate.rows,
            work.shape,
        );
        match result {
            Ok(()) => Ok((checks, started.elapsed().as_secs_f64())),
            Err(source) => Err(PublishError::Audit {
                table: candidate.contract.table.clone(),
                period: work.period.start,
                checks,
                source: Box::new(source),
            }),
        }
    }

    pub(super) fn unit(
        &self,
        candidate: &Candidate,
        basis: &Basis,
        known: Option<&Unit>,
        now: DateTime<Utc>,
    ) -> Unit {
        let is_known = |unit: &&Unit| unit.content_hash == candidate.content_hash;
        let writer = known
            .filter(is_known)
            .filter(|_| candidate.status() == UnitStatus::Reused);
        Unit {
            key: candidate.key.clone(),
            rows: candidate.rows,
            bytes: candidate.bytes.len() as u64,
            content_hash: candidate.content_hash.clone(),
            // Of a file that is about to be committed it is known after that.
            version: candidate.before.clone().unwrap_or(Version(String::new())),
            columns: candidate.columns.clone(),
            basis: basis.fingerprint(),
            run_id: writer
                .map_or_else(|| self.publisher.run_id.clone(), |unit| unit.run_id.clone()),
            published_at: writer.map_or(now, |unit| unit.published_at),
        }
    }

    /// The period's restatements so far, and those of this run.
    fn restatements(
        &self,
        kpis: &Candidate,
        new: &DataFrame,
        work: &Work,
        old: Option<&Manifest>,
    ) -> Result<DataFrame, PublishError> {
        let encode = |source| PublishError::Encode {
            table: "restatements".to_owned(),
            period: work.period.start,
            source,
        };
        let so_far = self.published_frame(&key("restatements", work.period.start))?;
        let before = match kpis.status() {
            UnitStatus::Replaced => self.published_frame(&kpis.key)?,
            _ => None,
        };
        let made = match before {
            None => None,
            Some(before) => {
                let basis = (work.basis)("kpi_values");
                let cause = restate::cause(
                    old.and_then(|manifest| manifest.basis_of("kpi_values")),
                    &basis,
                );
                let about = restate::About {
                    period: work.period,
                    run_id: &self.publisher.run_id,
                    restated_at: (self.publisher.clock)(),
                    was_closed: work.closing.is_some_and(|closing| closing.is_closed),
                    cause: &cause,
                };
                Some(restate::restatements(&before, new, &about).map_err(encode)?)
            }
        };
        let all = [so_far, made].into_iter().flatten();
        restate::ledger(all, work.period).map_err(encode)
    }

    fn published_frame(&self, key: &str) -> Result<Option<DataFrame>, PublishError> {
        if !held(&self.listing).contains_key(key) {
            return Ok(None);
        }
        encode::published(self.store.as_ref(), key)
    }
}
