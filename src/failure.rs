//! The one error that reaches a user: what failed, why, what to do next, and the exit code.

use crate::config::error::Problems;
use crate::run::RunError;
use crate::run::inputs::InputError;
use crate::sources::SourceError;
use crate::staging::StagingError;
use crate::storage::StorageError;
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
            if !message.contains(&text) && !causes.contains(&text) {
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
        Self::of(Kind::Run, &error)
            .hint("check that the folder can be written to and that the disk has room")
    }
}

impl From<InputError> for Failure {
    fn from(error: InputError) -> Self {
        match &error {
            InputError::Source { source: SourceError::NoFile { .. }, .. } => Self::of(Kind::NotReady, &error)
                .hint("paths are relative to the folder that cskpi is run in; if the export is late, run again when it is there"),
            InputError::Source { source: SourceError::WrongEncoding { .. }, .. } => {
                Self::of(Kind::Run, &error).hint("say how the file is encoded: `csv: {encoding: shift_jis}`")
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
                .hint("add the rates to fx_rates: the latest row dated before a period's end counts; nothing was published"),
            RunError::Publish(crate::publish::PublishError::Storage(error)) => error.into(),
            RunError::Publish(_) => Self::of(Kind::Run, &error).hint("nothing of a table that fails its audit is published"),
            RunError::Compute { .. } => {
                Self::of(Kind::Run, &error).hint("this is a mistake in cskpi or in an expression of the pipeline; nothing was published")
            }
        }
    }
}
