//! `tests/readers/poll.py`: two readers that are not ours, looking on.

use super::scene::{Root, Scene};
use crate::python;
use serde_json::Value;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

pub struct Readers {
    child: Child,
    stdin: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    /// All that was polled, for the one who reads what the test prints.
    pub polls: u64,
    pub overtaken: u64,
}

impl Readers {
    /// They know how the tables are before a run and after it.
    #[track_caller]
    pub fn of(scene: &Scene, after: &Root) -> Self {
        let mut child = python::command("readers/poll.py")
            .args([scene.before().for_readers(), after.for_readers()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut readers = Self {
            stdin: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
            polls: 0,
            overtaken: 0,
        };
        let ready = readers.answer();
        let changed: usize = ready.strip_prefix("ready ").unwrap().parse().unwrap();
        // kpi_values, kpi_as_reported of an open month, restatements of all months, and more.
        assert!(changed >= 12, "{ready}");
        readers
    }

    #[track_caller]
    fn answer(&mut self) -> String {
        self.answers.next().expect("the readers ended").unwrap()
    }

    #[track_caller]
    pub fn watch(&mut self, root: &Root) {
        writeln!(self.stdin, "watch {}", root.for_readers()).unwrap();
        assert_eq!(self.answer(), "watching");
    }

    /// They look a last time, and have seen nothing wrong.
    #[track_caller]
    pub fn have_seen_no_fault(&mut self, what: &str) {
        writeln!(self.stdin, "seen").unwrap();
        let answer: Value = serde_json::from_str(&self.answer()).unwrap();
        assert_eq!(answer["faults"], serde_json::json!([]), "{what}");
        assert!(answer["new"].as_u64().unwrap() > 0, "{what}: {answer}");
        self.polls += answer["polls"].as_u64().unwrap();
        self.overtaken += answer["overtaken"].as_u64().unwrap();
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
