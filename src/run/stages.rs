//! What the stages of a run took and did, and what the run cost.

use super::Progress;
use super::live::held;
use serde::{Deserialize, Serialize};
use std::sync::Mutex;
use std::time::Instant;
use tracing::{Span, debug_span, field};

/// What a stage took and did. Stages of one kind, such as publishing one period after the other, are one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Recorded")]
pub struct Stage {
    pub stage: String,
    pub seconds: f64,
    /// Rows read, computed or written.
    pub rows: u64,
    /// Bytes of the files read or written; none where a stage touches no file.
    pub bytes: u64,
}

/// Results of earlier programs have pairs of name and seconds.
#[derive(Deserialize)]
#[serde(untagged)]
enum Recorded {
    Stage {
        stage: String,
        seconds: f64,
        rows: u64,
        bytes: u64,
    },
    Pair(String, f64),
}

/// What the process has used up so far; null where the system does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// The most memory that it has held at one time.
    pub peak_memory_bytes: Option<u64>,
    /// Of all cores, in the program and in the system on its behalf.
    pub cpu_seconds: Option<f64>,
}

/// The stages of a run so far.
#[derive(Default)]
pub struct Stages {
    begun: Mutex<Begun>,
}

#[derive(Default)]
struct Begun {
    over: Vec<Stage>,
    current: Option<Current>,
}

struct Current {
    stage: Stage,
    since: Instant,
    span: Span,
}

impl From<Recorded> for Stage {
    fn from(recorded: Recorded) -> Self {
        match recorded {
            Recorded::Stage {
                stage,
                seconds,
                rows,
                bytes,
            } => Self {
                stage,
                seconds,
                rows,
                bytes,
            },
            Recorded::Pair(stage, seconds) => Self {
                stage,
                seconds,
                rows: 0,
                bytes: 0,
            },
        }
    }
}

impl Stage {
    fn add(&mut self, other: &Self) {
        self.seconds += other.seconds;
        self.rows += other.rows;
        self.bytes += other.bytes;
    }
}

impl Stages {
    /// The stages so far, with the one at hand as far as it is.
    pub fn so_far(&self) -> Vec<Stage> {
        let begun = held(&self.begun);
        let current = begun.current.as_ref().map(Current::so_far);
        let mut stages: Vec<Stage> = Vec::new();
        for stage in begun.over.iter().chain(&current) {
            match stages.iter_mut().find(|known| known.stage == stage.stage) {
                Some(known) => known.add(stage),
                None => stages.push(stage.clone()),
            }
        }
        stages
    }

    /// The stage at hand is over, and no other begins.
    pub(super) fn end(&self) {
        held(&self.begun).end();
    }

    fn begin(&self, name: &str) {
        let mut begun = held(&self.begun);
        begun.end();
        begun.current = Some(Current::new(name));
    }

    fn advance(&self, rows: u64, bytes: u64) {
        if let Some(current) = &mut held(&self.begun).current {
            current.stage.rows += rows;
            current.stage.bytes += bytes;
        }
    }
}

impl Begun {
    fn end(&mut self) {
        if let Some(current) = self.current.take() {
            let stage = current.so_far();
            current.span.record("rows", stage.rows);
            current.span.record("bytes", stage.bytes);
            self.over.push(stage);
        }
    }
}

impl Current {
    fn new(name: &str) -> Self {
        let kind = match name.split_once(' ') {
            Some(("publishing", _)) => "publishing",
            _ => name,
        };
        Self {
            stage: Stage {
                stage: kind.to_owned(),
                seconds: 0.0,
                rows: 0,
                bytes: 0,
            },
            since: Instant::now(),
            span: debug_span!("stage", name, rows = field::Empty, bytes = field::Empty),
        }
    }

    fn so_far(&self) -> Stage {
        Stage {
            seconds: self.since.elapsed().as_secs_f64(),
            ..self.stage.clone()
        }
    }
}

/// Keeps account of the stages on their way to whoever watches.
pub(super) struct Accounted<'a> {
    pub stages: &'a Stages,
    pub watcher: &'a dyn Progress,
}

impl Progress for Accounted<'_> {
    fn stage(&self, name: &str) {
        self.stages.begin(name);
        self.watcher.stage(name);
    }

    fn expect(&self, bytes: u64) {
        self.watcher.expect(bytes);
    }

    fn advance(&self, rows: u64, bytes: u64) {
        self.stages.advance(rows, bytes);
        self.watcher.advance(rows, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Progress for Nobody {
        fn stage(&self, _name: &str) {}
    }

    fn counts(stages: &Stages) -> Vec<(String, u64, u64)> {
        let stages = stages.so_far().into_iter();
        stages
            .map(|stage| (stage.stage, stage.rows, stage.bytes))
            .collect()
    }

    #[test]
    fn stages_of_one_kind_are_one() {
        let stages = Stages::default();
        let run = Accounted {
            stages: &stages,
            watcher: &Nobody,
        };
        // Before the first stage there is nothing to add to.
        run.advance(1, 1);
        run.stage("reading accounts");
        run.advance(3, 100);
        run.stage("publishing 2026-01");
        run.advance(5, 50);
        run.stage("publishing 2026-02");
        run.advance(6, 60);
        let expected = [("reading accounts", 3, 100), ("publishing", 11, 110)];
        let expected = expected.map(|(stage, rows, bytes)| (stage.to_owned(), rows, bytes));
        assert_eq!(counts(&stages), expected);
        stages.end();
        run.advance(9, 9);
        assert_eq!(counts(&stages), expected);
    }

    #[test]
    fn stages_of_earlier_results_are_understood() {
        let text = r#"[["reading accounts", 0.5], {"stage": "publishing", "seconds": 1.5, "rows": 7, "bytes": 70}]"#;
        let stages: Vec<Stage> = serde_json::from_str(text).unwrap();
        assert_eq!(
            serde_json::to_value(&stages).unwrap(),
            serde_json::json!([
                {"stage": "reading accounts", "seconds": 0.5, "rows": 0, "bytes": 0},
                {"stage": "publishing", "seconds": 1.5, "rows": 7, "bytes": 70},
            ])
        );
    }
}
