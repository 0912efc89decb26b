//! `unlock`: gives back the lock of a run that is known to be dead.

use super::project;
use crate::failure::Failure;
use crate::publish::lock;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline file.
    pipeline: String,
    /// The run that holds the lock, as the refused run named it.
    run_id: String,
}

pub fn unlock(args: &Args) -> Result<(), Failure> {
    let project = project(&args.pipeline)?;
    let store = project.outputs()?;
    let freed = lock::unlock(store.as_ref(), &args.run_id)?;
    say!("the lock of run {} on {} is free", freed.run_id, freed.host);
    if freed.journal.is_some() {
        say!("it had begun to commit; the next run finishes that first");
    }
    Ok(())
}
