//! The one error that reaches a user: what failed, why, what to do next, and the exit code.

use crate::config::error::Problems;
use crate::publish::PublishError;
use crate::publish::lock::LockError;
use crate::publish::manifest::ManifestError;
use crate::run::RunError;
use crate::run::inputs::InputError;
use crate::run::published::NumbersError;
use crate::sources::SourceError;
use crate::staging::StagingError;
use crate::storage::{FindError, StorageError};
use std::error::Error;

/// What kind of failure it is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A unit, a check or the input's content.
    Run,
    /// The command line or the pipeline file.
    Usage,
    /// Something that may be there later: try again.
    NotReady,
}

const NETWORK: &str =
    "check s3.endpoint and the network; requests were retried (s3.max_retries, s3.timeout_seconds)";

/// A failure on its way to the terminal.
#[derive(Debug)]
pub struct Failure {
    pub kind: Kind,
    pub message: String,
    /// What caused it, outermost first.
    pub causes: Vec<String>,
    pub hints: Vec<String>,
}

impl Kind {
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Run => 1,
            Self::Usage => 2,
            Self::NotReady => 75,
        }
    }
}

impl Failure {
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Usage,
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// A panic that was caught.
    pub fn bug(text: &str) -> Self {
        Self {
            kind: Kind::Run,
            message: format!("cskpi came upon a case that it does not know: {}", text.lines().next().unwrap_or_default()),
            causes: Vec::new(),
            hints: vec!["this is a bug; CSKPI_LOG=debug shows where. Please report it with the pipeline file".to_owned()],
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    fn of(kind: Kind, error: &dyn Error) -> Self {
        let message = error.to_string();
        let mut causes: Vec<String> = Vec::new();
        let mut source = error.source();
        while let Some(cause) = source {
            // Polars explains itself at length; its first paragraph says what matters.
            let text = cause.to_string();
            let text = text
                .split("\n\n")
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned();
            let is_said = |said: &String| said.contains(&text);
            if !is_said(&message) && !causes.iter().any(is_said) {
                causes.push(text);
            }
            source = cause.source();
        }
        Self {
            kind,
            message,
            causes,
            hints: Vec::new(),
        }
    }

    /// An error and its causes in one line of text.
    pub fn text_of(error: &dyn Error) -> String {
        Self::of(Kind::Run, error).text()
    }

    /// The message and its causes in one line of text.
    pub fn text(&self) -> String {
        let all = std::iter::once(&self.message).chain(&self.causes);
        all.map(String::as_str).collect::<Vec<_>>().join(": ")
    }

    /// As it is printed on standard error.
    pub fn render(&self) -> String {
        let mut text = format!("error: {}", self.message);
        for cause in &self.causes {
            text.push_str(&format!("\n  caused by: {cause}"));
        }
        for hint in &self.hints {
            text.push_str(&format!("\n  help: {hint}"));
        }
        text
    }
}

impl From<Problems> for Failure {
    /// The problems render themselves, file and line included.
    fn from(problems: Problems) -> Self {
        let text = problems.to_string();
        let text = text
            .trim_end()
            .strip_prefix("error: ")
            .unwrap_or(text.trim_end())
            .to_owned();
        Self {
            kind: Kind::Usage,
            message: text,
            causes: Vec::new(),
            hints: Vec::new(),
        }
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        match &error {
            StorageError::Setup { hint, .. } => Self::of(Kind::Usage, &error).hint(*hint),
            StorageError::Busy { .. } => Self::of(Kind::NotReady, &error).hint("run again when it is done"),
            StorageError::NoBucket { .. } => Self::of(Kind::Run, &error).hint("check the name, and s3.endpoint and s3.region"),
            StorageError::Refused { .. } => Self::of(Kind::Run, &error)
                .hint("check the credentials (s3.profile, AWS_PROFILE, AWS_ACCESS_KEY_ID, the instance's role) and what they may do: s3:ListBucket, s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload, s3:ListBucketMultipartUploads"),
            StorageError::Conflict { .. } => Self::of(Kind::Run, &error).hint("only cskpi may write under outputs.root; run again"),
            StorageError::Failed { path, .. } if path.starts_with("s3://") => {
                Self::of(Kind::Run, &error).hint(NETWORK)
            }
            StorageError::Failed { .. } => {
                Self::of(Kind::Run, &error).hint("check that the folder can be read and written, and that the disk has room")
            }
        }
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Storage(error) => error.into(),
            LockError::Held {
                ref holder,
                seconds_left,
                ..
            } => {
                let unlock = format!(
                    "if that run is dead, wait {seconds_left} s or run `cskpi unlock PIPELINE {}`",
                    holder.run_id
                );
                Self::of(Kind::NotReady, &error)
                    .hint("run again when it is done")
                    .hint(unlock)
            }
            LockError::Lost { .. } => Self::of(Kind::NotReady, &error)
                .hint("nothing more was published; run again when the other run is done"),
            LockError::Damaged { .. } => Self::of(Kind::Run, &error)
                .hint("only cskpi may write there; remove the file if no run is alive"),
            LockError::NotHolder { .. } => Self::of(Kind::Usage, &error)
                .hint("the id stands in the message of the run that was refused"),
        }
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Storage(error) | PublishError::Manifest(ManifestError::Storage(error)) => error.into(),
            PublishError::Lock(error) => error.into(),
            PublishError::Schema(_) => Self::of(Kind::Run, &error).hint(
                "publish all periods anew in one run (`cskpi backfill PIPELINE --reprocess all`), or under another outputs.root; readers cannot join two types",
            ),
            PublishError::Manifest(_) => Self::of(Kind::Run, &error)
                .hint("only cskpi may write under _cskpi; remove the file, and the period counts as stale"),
            PublishError::Commit { .. } => Self::of(Kind::Run, &error).hint("run again: what was begun is finished first"),
            PublishError::Published { .. } => Self::of(Kind::Run, &error).hint("`cskpi verify` shows which files are damaged; remove them and run again"),
            PublishError::Audit { .. } => Self::of(Kind::Run, &error).hint("nothing of a period that fails its audit is published; other periods are"),
            PublishError::Encode { .. } => Self::of(Kind::Run, &error),
        }
    }
}

impl From<NumbersError> for Failure {
    fn from(error: NumbersError) -> Self {
        match error {
            NumbersError::Publish(error) => error.into(),
            NumbersError::Unreadable { .. } => Self::of(Kind::Run, &error).hint(
                "`cskpi verify --deep` shows which files are damaged; remove them and run again",
            ),
        }
    }
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Self {
        PublishError::from(error).into()
    }
}

impl From<InputError> for Failure {
    fn from(error: InputError) -> Self {
        // What the store says helps more than which table it was said of.
        if let InputError::Source {
            table,
            source: SourceError::Storage(error) | SourceError::Find(FindError::Storage(error)),
        } = error
        {
            let mut failure = Self::from(error);
            failure.causes.insert(0, failure.message);
            failure.message = format!("source {table}");
            return failure;
        }
        match &error {
            InputError::Source { source: SourceError::Find(FindError::NoFile { pattern }), .. } => {
                let hint = match pattern.starts_with("s3://") {
                    true => "if the export is late, run again when it is there",
                    false => "paths are relative to the folder that cskpi is run in; if the export is late, run again when it is there",
                };
                Self::of(Kind::NotReady, &error).hint(hint)
            }
            InputError::Source { source: SourceError::Malformed { source, .. }, .. } => {
                let hint = reading_hint(&source.to_string());
                let failure = Self::of(Kind::Run, &error);
                hint.into_iter().fold(failure, Self::hint)
            }
            InputError::Source { source: SourceError::WrongEncoding { .. }, .. } => {
                Self::of(Kind::Run, &error).hint("say how the file is encoded: `csv: {encoding: shift_jis}`")
            }
            InputError::Moved { .. } => Self::of(Kind::NotReady, &error).hint("nothing was published; run again when the export is done"),
            InputError::Source { source: SourceError::Undated { .. }, .. } => {
                Self::of(Kind::Usage, &error).hint("correct the source's file_dates, or its path so that only such files match")
            }
            InputError::Staging(staging) => {
                let failure = Self::of(Kind::Usage, &error);
                match staging {
                    StagingError::MissingColumn { table, column, .. } => failure
                        .hint(format!("map it in the pipeline: `sources: {{{table}: {{columns: {{{column}: …}}}}}}`")),
                    StagingError::UnknownColumn { table, nearest, .. } => {
                        let hint = nearest.as_ref().map(|name| format!("did you mean `{name}`? "));
                        failure.hint(format!("{}the columns of {table} stand in schemas/input/{table}.yaml", hint.unwrap_or_default()))
                    }
                    StagingError::Expression { source, .. } => match source.hint() {
                        Some(hint) => failure.hint(hint),
                        None => failure,
                    },
                    StagingError::Plan { .. } => failure.hint(
                        "an expression of the source does not fit its columns' types; \
                         columns of CSV files are text: `CAST(x AS BIGINT)`",
                    ),
                    _ => failure,
                }
            }
            InputError::Violations { .. } => Self::of(Kind::Run, &error).hint(
                "correct the rows, map the columns differently, or leave rows out with `filter:`; nothing was published",
            ),
            InputError::Read { source, .. } => {
                let failure = Self::of(Kind::Run, &error);
                match reading_hint(&source.to_string()) {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                }
            }
            _ => Self::of(Kind::Run, &error),
        }
    }
}

/// What to do about what polars says of a file that it cannot read.
fn reading_hint(text: &str) -> Option<&'static str> {
    let hints = [
        ("object-store error", NETWORK),
        (
            "invalid utf-8",
            "say how the file is encoded: `csv: {encoding: shift_jis}`",
        ),
        (
            "more fields than defined",
            "a row has more fields than the header: check `csv: {delimiter: …, quote: …}`",
        ),
        (
            "could not parse",
            "a field is not closed by its quote: check `csv: {quote: …}`; empty is none",
        ),
        (
            "cannot compare string",
            "columns of CSV files are text: `CAST(x AS DOUBLE) > 5`",
        ),
        (
            "cannot compare",
            "the two sides are of different types: `CAST(x AS …)` makes them alike",
        ),
    ];
    let text = text.to_lowercase();
    hints
        .iter()
        .find(|(part, _)| text.contains(part))
        .map(|(_, hint)| *hint)
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Input(error) => error.into(),
            RunError::Names { .. } => Self::of(Kind::Usage, &error),
            RunError::MissingRates { .. } => Self::of(Kind::Run, &error)
                .hint("add the rates to fx_rates: the latest row dated before a period's end counts; these periods and later ones were not published"),
            RunError::Publish(error) => error.into(),
            RunError::UnknownRun { .. } => Self::of(Kind::Usage, &error).hint("the table `runs` and the folder named above list them"),
            RunError::DamagedResults { .. } => Self::of(Kind::Run, &error),
            RunError::Compute { .. } => {
                Self::of(Kind::Run, &error).hint("this is a mistake in cskpi or in an expression of the pipeline; nothing was published")
            }
        }
    }
}
