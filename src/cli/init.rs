//! `init`: a commented pipeline file to start from.

use crate::failure::Failure;

const TEMPLATE: &str = include_str!("init_template.yaml");

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to write it.
    #[arg(default_value = "pipeline.yaml")]
    path: String,
    /// Replace a file that is already there.
    #[arg(long)]
    force: bool,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the command line writes the file that the user asked for"
)]
pub fn init(args: &Args) -> Result<(), Failure> {
    if std::path::Path::new(&args.path).exists() && !args.force {
        return Err(
            Failure::usage(format!("{} is already there", args.path)).hint("--force replaces it")
        );
    }
    std::fs::write(&args.path, TEMPLATE)
        .map_err(|error| Failure::usage(format!("{} cannot be written: {error}", args.path)))?;
    say!("wrote {}; next: `cskpi validate {}`", args.path, args.path);
    Ok(())
}
