//! `verify`: the manifests against the files.

use super::project;
use crate::failure::{Failure, Kind};
use crate::publish::upkeep::{self, Finding};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline file.
    pipeline: String,
    /// Read every file and compare its content, not only those whose version differs.
    #[arg(long)]
    deep: bool,
}

pub fn verify(args: &Args) -> Result<(), Failure> {
    let project = project(&args.pipeline)?;
    let store = project.outputs()?;
    let (published, found) = upkeep::verify(store.as_ref(), args.deep)?;
    for discrepancy in &found {
        let what = match discrepancy.finding {
            Finding::Missing => "missing  published, and gone",
            Finding::Altered => "altered  not the content that was published",
            Finding::Orphan => "orphan   in no manifest",
        };
        say!("{what}: {}", store.shown(&discrepancy.key));
    }
    if found.is_empty() {
        say!("{published} files are as they were published");
        return Ok(());
    }
    let orphans = found
        .iter()
        .any(|discrepancy| discrepancy.finding == Finding::Orphan);
    let others = found
        .iter()
        .any(|discrepancy| discrepancy.finding != Finding::Orphan);
    let mut failure = Failure {
        kind: Kind::Run,
        message: format!(
            "{} files differ from what the manifests say, {published} are there",
            found.len()
        ),
        causes: Vec::new(),
        hints: Vec::new(),
    };
    if others {
        failure = failure.hint(
            "`cskpi plan` shows them as missing or stale; `cskpi backfill` publishes them again",
        );
    }
    if others && args.deep {
        failure = failure.hint(
            "an altered file that `cskpi plan` calls up to date still has its size and its time; remove it first",
        );
    }
    if orphans {
        failure = failure.hint("`cskpi vacuum --older-than 0d --dry-run` lists what could be cleared; a table published by an earlier version is adopted by its next run");
    }
    Err(failure)
}
