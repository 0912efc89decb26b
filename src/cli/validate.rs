//! `validate`: everything that can be known before a run.

use super::{check_inputs, project};
use crate::failure::Failure;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline files.
    #[arg(required = true)]
    pipelines: Vec<String>,
    /// Check the files alone; open no input.
    #[arg(long)]
    offline: bool,
}

pub fn validate(args: &Args) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for file in &args.pipelines {
        let checked = project(file).and_then(|mut project| {
            if !args.offline {
                check_inputs(&mut project)?;
            }
            Ok(project)
        });
        match checked {
            Ok(project) => {
                if !project.problems.is_empty() {
                    eprint!("{}", project.problems);
                }
                let metrics = project.catalogue.published_ids().len();
                say!(
                    "{file}: ok ({} sources, {metrics} metrics)",
                    project.pipeline.sources.len()
                );
            }
            Err(failure) => failures.push(failure),
        }
    }
    let last = failures.pop();
    for failure in failures {
        eprintln!("{}", failure.render());
    }
    last.map_or(Ok(()), Err)
}
