//! `vacuum`: clears what is not needed any more.

use super::run::run_id;
use super::{now, project};
use crate::failure::Failure;
use crate::publish::upkeep::{self, Leftover};
use crate::publish::{PublishError, Publisher, Session};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline file.
    pipeline: String,
    /// Age from which on results of runs, and files that no manifest knows, are cleared: `90d`, `12h`.
    #[arg(long, default_value = "90d")]
    older_than: String,
    /// Clear what is kept of usage, too: the next run reads all of it again.
    #[arg(long)]
    cache: bool,
    /// Show what would be cleared, and clear nothing.
    #[arg(long)]
    dry_run: bool,
}

pub fn vacuum(args: &Args) -> Result<(), Failure> {
    let project = project(&args.pipeline)?;
    let store = project.outputs()?;
    let at = now();
    let age = humantime::parse_duration(&args.older_than).ok();
    let since = age
        .and_then(|age| chrono::Duration::from_std(age).ok())
        .and_then(|age| at.checked_sub_signed(age));
    let since = since.ok_or_else(|| {
        Failure::usage(format!("--older-than `{}` is no age", args.older_than))
            .hint("write it like 90d or 12h")
    })?;
    if args.dry_run {
        let left = upkeep::leftovers(store.as_ref(), since, args.cache)?;
        left.iter().for_each(|left| {
            say!(
                "{} ({}, {} bytes)",
                store.shown(&left.key),
                left.what,
                left.bytes
            )
        });
        say!("{} would be cleared", counted(&left));
        return Ok(());
    }
    let publisher = Publisher {
        run_id: run_id(at),
        compression: project.pipeline.outputs.compression,
        lock_expiry: project.pipeline.outputs.lock_expiry,
        as_of: None,
        clock: now,
    };
    // Opening clears what dead runs have staged; nobody publishes while we look.
    let before = upkeep::leftovers(store.as_ref(), since, args.cache)?;
    let session = Session::open(store, publisher)?;
    let left = upkeep::leftovers(session.store.as_ref(), since, args.cache)?;
    let keys: Vec<String> = left.iter().map(|left| left.key.clone()).collect();
    if !keys.is_empty() {
        session.store.remove(&keys).map_err(PublishError::from)?;
    }
    session.close()?;
    let all = if before.len() > left.len() {
        before
    } else {
        left
    };
    say!("{} cleared", counted(&all));
    Ok(())
}

fn counted(left: &[Leftover]) -> String {
    let bytes: u64 = left.iter().map(|left| left.bytes).sum();
    format!("{} files, {bytes} bytes", left.len())
}
