//! How far a run is: a bar on a terminal, log lines elsewhere.

use super::report::{per_second, seconds};
use super::{Console, LogFormat};
use crate::run::Progress;
use crate::run::live::held;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const SPINNER: &str = "{spinner} [{elapsed}] {msg}";
/// The first part is not done yet, so that nothing is known of the rate.
const SIZED: &str = "{spinner} [{elapsed}] {msg}: {total_bytes}";
const BAR: &str =
    "{spinner} [{elapsed}] {msg} {bar:24} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
/// Time between two lines about one stage.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows the stages of a run and how far the one at hand is.
pub(super) struct Watch {
    bar: Option<ProgressBar>,
    log_format: LogFormat,
    stage: Mutex<Option<Shown>>,
}

/// The stage at hand.
struct Shown {
    name: String,
    expected: u64,
    rows: u64,
    bytes: u64,
    begun: Instant,
    last_line: Instant,
}

impl Watch {
    /// `is_data_only`: standard output is for a program, so nobody is looking.
    pub fn new(console: &Console, is_data_only: bool) -> Self {
        let is_bar = std::io::stderr().is_terminal()
            && console.log_format == LogFormat::Text
            && !console.is_quiet
            && !is_data_only;
        let bar = is_bar.then(|| {
            let bar = ProgressBar::no_length();
            Self::styled(&bar, SPINNER);
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self {
            bar,
            log_format: console.log_format,
            stage: Mutex::default(),
        }
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn styled(bar: &ProgressBar, template: &str) {
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
    }
}

impl Progress for Watch {
    fn stage(&self, name: &str) {
        let now = Instant::now();
        *held(&self.stage) = Some(Shown {
            name: name.to_owned(),
            expected: 0,
            rows: 0,
            bytes: 0,
            begun: now,
            last_line: now,
        });
        match &self.bar {
            Some(bar) => {
                Self::styled(bar, SPINNER);
                bar.set_message(name.to_owned());
                bar.unset_length();
                bar.reset();
            }
            None => tracing::info!("{name}"),
        }
    }

    fn expect(&self, bytes: u64) {
        let mut stage = held(&self.stage);
        let Some(stage) = stage.as_mut().filter(|_| bytes > 0) else {
            return;
        };
        stage.expected += bytes;
        if let Some(bar) = &self.bar {
            if stage.bytes == 0 {
                Self::styled(bar, SIZED);
            }
            bar.set_length(stage.expected);
        }
    }

    fn advance(&self, rows: u64, bytes: u64) {
        let mut stage = held(&self.stage);
        let Some(stage) = stage.as_mut() else {
            return;
        };
        let is_first = stage.bytes == 0;
        stage.rows += rows;
        stage.bytes += bytes;
        match &self.bar {
            Some(bar) if stage.expected > 0 => {
                if is_first {
                    Self::styled(bar, BAR);
                }
                bar.set_position(stage.bytes);
            }
            Some(_) => {}
            None => {
                if stage.last_line.elapsed() >= LINE_EVERY {
                    stage.last_line = Instant::now();
                    stage.log(self.log_format);
                }
            }
        }
    }
}

impl Shown {
    fn log(&self, format: LogFormat) {
        let elapsed = self.begun.elapsed();
        match format {
            LogFormat::Text => tracing::info!("{}", self.line(elapsed)),
            LogFormat::Json => tracing::info!(
                stage = self.name,
                rows = self.rows,
                bytes = self.bytes,
                expected_bytes = (self.expected > 0).then_some(self.expected),
                bytes_per_second = per_second(self.bytes, elapsed),
                seconds_left = self.seconds_left(elapsed),
                "under way"
            ),
        }
    }

    fn line(&self, elapsed: Duration) -> String {
        let name = &self.name;
        let (bytes, expected) = (HumanBytes(self.bytes), HumanBytes(self.expected));
        match self.seconds_left(elapsed) {
            Some(left) => {
                let percent = self.bytes.min(self.expected) * 100 / self.expected;
                let rate = HumanBytes(per_second(self.bytes, elapsed));
                let left = seconds(left);
                format!("{name}: {bytes} of {expected} ({percent} %), {rate}/s, {left} left")
            }
            None => {
                let (rows, elapsed) = (HumanCount(self.rows), seconds(elapsed.as_secs_f64()));
                format!("{name}: {rows} rows in {elapsed}")
            }
        }
    }

    /// If it goes on as it did so far.
    fn seconds_left(&self, elapsed: Duration) -> Option<f64> {
        let is_known = self.expected > 0 && self.bytes > 0;
        let left = self.expected.saturating_sub(self.bytes);
        is_known.then(|| elapsed.as_secs_f64() * left as f64 / self.bytes as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(expected: u64, rows: u64, bytes: u64) -> Shown {
        Shown {
            name: "reading usage_events".to_owned(),
            expected,
            rows,
            bytes,
            begun: Instant::now(),
            last_line: Instant::now(),
        }
    }

    #[test]
    fn a_line_tells_rate_and_time_left() {
        let after = |stage: Shown| stage.line(Duration::from_secs(10));
        let mib = 1 << 20;
        assert_eq!(
            after(shown(300 * mib, 5_000_000, 100 * mib)),
            "reading usage_events: 100.00 MiB of 300.00 MiB (33 %), 10.00 MiB/s, 20.0 s left"
        );
        // Files that grew.
        assert_eq!(
            after(shown(100 * mib, 5_000_000, 200 * mib)),
            "reading usage_events: 200.00 MiB of 100.00 MiB (100 %), 20.00 MiB/s, 0.00 s left"
        );
        assert_eq!(
            after(shown(0, 5_000_000, 0)),
            "reading usage_events: 5,000,000 rows in 10.0 s"
        );
        // Nothing is known of the rate yet.
        assert_eq!(
            after(shown(100 * mib, 0, 0)),
            "reading usage_events: 0 rows in 10.0 s"
        );
    }
}
