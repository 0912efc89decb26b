//! What a run says at its end: what its stages took and what it cost, and its line on standard output.

use super::run::Output;
use super::{Console, LogFormat};
use crate::run::results::{RunResults, RunStatus, Summary};
use crate::run::stages::Stage;
use indicatif::{HumanBytes, HumanCount};
use std::time::Duration;

/// The run in a line on standard output.
pub(super) fn report(results: &RunResults, output: Output) {
    let summary = results.summary();
    if output == Output::Json {
        say!("{}", serde_json::to_string(&summary).unwrap_or_default());
        return;
    }
    if results.status == RunStatus::Failed {
        return;
    }
    let Summary {
        periods,
        created,
        replaced,
        reused,
        up_to_date,
        failed,
        not_attempted,
        rows,
        seconds,
        ..
    } = summary;
    let mut text = format!(
        "{periods} periods: {created} files created, {replaced} replaced, {reused} unchanged"
    );
    for (count, what) in [
        (up_to_date, "up to date"),
        (failed, "failed"),
        (not_attempted, "not attempted"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    say!("{text}; {rows} rows in {seconds:.1} s");
}

/// What the stages of a run took, and what the run cost: a table in a log of text, else a line of fields for each.
pub(super) fn log_stages(results: &RunResults, console: &Console) {
    let RunResults { stages, cost, .. } = results;
    if stages.is_empty() || results.status == RunStatus::NothingToDo {
        return;
    }
    match console.log_format {
        LogFormat::Text => table(stages)
            .iter()
            .for_each(|line| tracing::info!("{line}")),
        LogFormat::Json => {
            for stage in stages {
                let Stage {
                    stage,
                    seconds,
                    rows,
                    bytes,
                } = stage;
                tracing::info!(stage, seconds, rows, bytes, "stage");
            }
        }
    }
    let memory = cost.peak_memory_bytes;
    let cpu = cost.cpu_seconds;
    match console.log_format {
        LogFormat::Text => {
            let memory = memory.map(|bytes| format!("{} of memory at most", HumanBytes(bytes)));
            let cpu = cpu.map(|spent| format!("{} of CPU time", seconds(spent)));
            let cost: Vec<String> = [memory, cpu].into_iter().flatten().collect();
            if !cost.is_empty() {
                tracing::info!("{}", cost.join(", "));
            }
        }
        LogFormat::Json => {
            tracing::info!(peak_memory_bytes = memory, cpu_seconds = cpu, "cost");
        }
    }
}

/// Stages in columns, their sum last.
fn table(stages: &[Stage]) -> Vec<String> {
    let mut rows = vec![["stage", "time", "rows", "bytes", "rows/s"].map(str::to_owned)];
    // Nothing is better read as nothing.
    let some = |number: u64, text: String| if number == 0 { String::new() } else { text };
    for stage in stages {
        let rate = per_second(stage.rows, Duration::from_secs_f64(stage.seconds));
        rows.push([
            stage.stage.clone(),
            seconds(stage.seconds),
            some(stage.rows, HumanCount(stage.rows).to_string()),
            some(stage.bytes, HumanBytes(stage.bytes).to_string()),
            some(stage.rows, HumanCount(rate).to_string()),
        ]);
    }
    let total = stages.iter().map(|stage| stage.seconds).sum();
    rows.push(["total", &seconds(total), "", "", ""].map(str::to_owned));
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let line = |row: &[String; 5]| {
        let numbers = (1..5).map(|column| format!("  {:>1$}", row[column], width(column)));
        let text = format!("{:<1$}", row[0], width(0)) + &numbers.collect::<String>();
        text.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

pub(super) fn per_second(count: u64, elapsed: Duration) -> u64 {
    (count as f64 / elapsed.as_secs_f64().max(1e-6)) as u64
}

/// `0.42 s`, `12.3 s`, `4 min 05 s`, `2 h 03 min`.
pub(super) fn seconds(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..10 => format!("{seconds:.2} s"),
        10..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable() {
        let times = [0.0, 0.417, 9.4, 12.34, 59.6, 245.0, 7380.0];
        assert_eq!(
            times.map(seconds),
            [
                "0.00 s",
                "0.42 s",
                "9.40 s",
                "12.3 s",
                "1 min 00 s",
                "4 min 05 s",
                "2 h 03 min"
            ]
        );
    }

    #[test]
    fn the_table_is_aligned() {
        let stage = |stage: &str, seconds, rows, bytes| Stage {
            stage: stage.to_owned(),
            seconds,
            rows,
            bytes,
        };
        let stages = [
            stage("listing inputs", 0.01, 0, 0),
            stage("reading usage_events", 65.0, 6_500_000, 3 << 30),
        ];
        assert_eq!(
            table(&stages),
            [
                "stage                       time       rows     bytes   rows/s",
                "listing inputs            0.01 s",
                "reading usage_events  1 min 05 s  6,500,000  3.00 GiB  100,000",
                "total                 1 min 05 s",
            ]
        );
    }
}
