//! What people see while a command runs: a line per stage on a terminal, log lines elsewhere.

use super::LogFormat;
use crate::run::Progress;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::Duration;
use tracing_subscriber::EnvFilter;

pub fn start_logging(format: LogFormat, is_quiet: bool) {
    // polars prints hints for its own developers; they belong into the log.
    polars::error::set_warning_function(|text, _| tracing::debug!("{text}"));
    let level = if is_quiet { "warn" } else { "info" };
    let filter = EnvFilter::try_from_env("CSKPI_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("cskpi={level}")));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second logger can only mean that a test started one before.
    let _ = match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .try_init(),
    };
}

/// A spinner on a terminal, log lines elsewhere.
pub struct Stages {
    bar: Option<ProgressBar>,
}

impl Stages {
    pub fn new(format_is_terminal: bool) -> Self {
        if !format_is_terminal {
            return Self { bar: None };
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} [{elapsed}] {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar: Some(bar) }
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Stages {
    fn stage(&self, name: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(name.to_owned()),
            None => tracing::info!("{name}"),
        }
    }
}

/// Whether a person is looking at standard error.
pub fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}

/// Writes to standard output. A reader that has gone away (`| head`) or a full disk does not undo what a run has published.
pub fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        tracing::warn!("standard output cannot be written: {error}");
    }
}
