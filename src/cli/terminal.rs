//! Standard output, and the log on standard error.

use super::{Console, LogFormat};
use std::io::{IsTerminal, Write};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry};

pub fn start_logging(console: &Console) {
    // polars prints hints for its own developers; they belong into the log.
    polars::error::set_warning_function(|text, _| tracing::debug!("{text}"));
    let level = if console.is_quiet { "warn" } else { "info" };
    let filter = EnvFilter::try_from_env("CSKPI_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("cskpi={level}")));
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match console.log_format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text => lines
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .boxed(),
    };
    // A second logger can only mean that a test started one before.
    let _ = registry()
        .with(lines.with_filter(filter))
        .with(console.profile.as_ref().map(|profile| profile.layer()))
        .try_init();
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
