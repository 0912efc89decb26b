//! `generate`: sample data as CSV and Parquet.

use crate::failure::Failure;
use crate::generate::files::{FileFormat, written};
use crate::generate::{Size, company};
use chrono::NaiveDate;
use clap::ValueEnum;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder to write into; one file per table.
    #[arg(long)]
    out: String,
    /// Accounts in all.
    #[arg(long, default_value_t = 300)]
    accounts: usize,
    /// Months of history from --start on.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=1200))]
    months: u16,
    /// Usage events in all.
    #[arg(long, default_value_t = 200_000)]
    events: usize,
    /// First month.
    #[arg(long, default_value = "2024-04")]
    start: String,
    /// The same seed gives the same company.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Format of the files.
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Csv,
    Parquet,
    Both,
}

pub fn generate(args: &Args) -> Result<(), Failure> {
    let start =
        NaiveDate::parse_from_str(&format!("{}-01", args.start), "%Y-%m-%d").map_err(|_| {
            Failure::usage(format!("--start `{}` is no month", args.start))
                .hint("write it like 2024-04")
        })?;
    let size = Size {
        accounts: args.accounts,
        months: args.months.into(),
        events: args.events,
        start,
        seed: args.seed,
    };
    let company = company(&size);
    let formats: &[FileFormat] = match args.format {
        Format::Csv => &[FileFormat::Csv],
        Format::Parquet => &[FileFormat::Parquet],
        Format::Both => &[FileFormat::Csv, FileFormat::Parquet],
    };
    for format in formats {
        for file in written(&company, &args.out, *format)
            .map_err(|error| Failure::usage(format!("sample data cannot be written: {error}")))?
        {
            say!("{:>12} rows  {}", file.rows, file.path);
        }
    }
    Ok(())
}
