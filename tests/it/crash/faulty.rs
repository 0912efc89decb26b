//! The program as a process of its own, with a fault or without.

use super::scene::Root;
use crate::support::{Ran, temp_folder};
use rustix::process::{Pid, Signal, getpid, kill_process};
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longer than anything here takes; what takes longer never ends.
pub const PATIENCE: Duration = Duration::from_secs(180);

// ── in the process with the fault ───────────────────────────────────────────────────────────────────────────────────────

const FAULT: &str = "CSKPI_FAULT";
const FOLDER: &str = "CSKPI_FAULT_FOLDER";
const ARGUMENTS: &str = "CSKPI_ARGUMENTS";

/// What is to happen, and the folder in which the process and its test tell each other.
struct Fault {
    step: String,
    /// Which of the times that the step is reached, from 1.
    time: usize,
    action: String,
    folder: PathBuf,
}

static PLAN: OnceLock<Fault> = OnceLock::new();
static TIMES: AtomicUsize = AtomicUsize::new(0);

/// Runs the command line of the environment with the fault of the environment, if there is one.
pub fn program() {
    let Ok(fault) = std::env::var(FAULT) else {
        return;
    };
    let [step, time, action] = fault.split(':').collect::<Vec<_>>()[..] else {
        panic!("{fault}")
    };
    let plan = Fault {
        step: step.to_owned(),
        time: time.parse().unwrap(),
        action: action.to_owned(),
        folder: PathBuf::from(std::env::var(FOLDER).unwrap()),
    };
    assert!(PLAN.set(plan).is_ok());
    cskpi::fault::listen(reached);
    let arguments = std::env::var(ARGUMENTS).unwrap();
    let words = std::iter::once("cskpi").chain(arguments.split_whitespace());
    std::process::exit(cskpi::cli::exit_code(words.map(Into::into)).into());
}

fn reached(step: &str) {
    let plan = PLAN.get().unwrap();
    if plan.action == "count" {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(plan.folder.join("steps"))
            .unwrap();
        std::io::Write::write_all(&mut file, format!("{step}\n").as_bytes()).unwrap();
        return;
    }
    if step != plan.step || TIMES.fetch_add(1, Ordering::SeqCst) + 1 != plan.time {
        return;
    }
    match plan.action.as_str() {
        "kill" => kill_process(getpid(), Signal::KILL).unwrap(),
        "hold" => {
            fs::write(plan.folder.join("reached"), "").unwrap();
            // Should the test be gone, we do not stay.
            let released = waited(|| plan.folder.join("released").exists());
            if !released {
                std::process::exit(99);
            }
        }
        other => panic!("{other}"),
    }
}

fn waited(until: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !until() {
        if began.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

// ── in the test ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A process of the program. It is killed if it still runs when this is dropped.
pub struct Running {
    child: Child,
    folder: TempDir,
    is_over: bool,
}

impl Running {
    /// The shipped binary.
    pub fn start(work: &Path, variables: &[(String, String)], command_line: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cskpi"));
        command.args(command_line.split_whitespace());
        Self::spawn(command, work, variables, temp_folder())
    }

    /// The program that meets a fault: `step:time:kill`, `step:time:hold`, or `:0:count`.
    pub fn faulty(
        work: &Path,
        variables: &[(String, String)],
        command_line: &str,
        fault: &str,
    ) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let folder = temp_folder();
        command
            .args(["--exact", "crash::faulty_program", "--nocapture"])
            .env(FAULT, fault)
            .env(FOLDER, folder.path())
            .env(ARGUMENTS, command_line);
        Self::spawn(command, work, variables, folder)
    }

    fn spawn(
        mut command: Command,
        work: &Path,
        variables: &[(String, String)],
        folder: TempDir,
    ) -> Self {
        let child = command
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .env_remove("RUST_LOG")
            .current_dir(work)
            .stdout(File::create(folder.path().join("stdout")).unwrap())
            .stderr(File::create(folder.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        Self {
            child,
            folder,
            is_over: false,
        }
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    /// Waits for the step at which it was to hold; false if it ended without coming to it.
    pub fn holds(&mut self) -> bool {
        let began = Instant::now();
        loop {
            if self.folder.path().join("reached").exists() {
                return true;
            }
            if self.has_ended() {
                return false;
            }
            assert!(began.elapsed() < PATIENCE, "{}", self.text("stderr"));
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Lets it go on from there.
    pub fn release(&self) {
        fs::write(self.folder.path().join("released"), "").unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(id, signal).unwrap();
    }

    /// Stops the whole process, as a machine that sleeps would. On a local disk not in the middle of a single write: whoever
    /// is stopped there keeps the others out until he is continued or dies, which is what the guard is for.
    pub fn stop(&self, root: &Root) {
        let guard = root.guard();
        self.signal(Signal::STOP);
        let stat = format!("/proc/{}/stat", self.child.id());
        let is_stopped = || {
            let text = fs::read_to_string(&stat).unwrap();
            text.rsplit(')')
                .next()
                .unwrap()
                .trim_start()
                .starts_with('T')
        };
        assert!(waited(is_stopped));
        drop(guard);
    }

    /// Waits until it has said this on standard error; false if it ended without.
    pub fn says(&mut self, text: &str) -> bool {
        let began = Instant::now();
        loop {
            let has_ended = self.has_ended();
            if self.text("stderr").contains(text) {
                return true;
            }
            if has_ended {
                return false;
            }
            assert!(began.elapsed() < PATIENCE, "{}", self.text("stderr"));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn has_ended(&mut self) -> bool {
        self.is_over = self.is_over || self.child.try_wait().unwrap().is_some();
        self.is_over
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Steps that it came to, with `:0:count`, in order.
    pub fn steps(&self) -> Vec<String> {
        self.text("steps").lines().map(str::to_owned).collect()
    }

    /// Waits for its end. The code of a process that a signal killed is the signal's number, negative.
    pub fn ended(&mut self) -> Ran {
        let began = Instant::now();
        while !self.has_ended() {
            assert!(began.elapsed() < PATIENCE, "{}", self.text("stderr"));
            std::thread::sleep(Duration::from_millis(2));
        }
        let status = self.child.wait().unwrap();
        let code = status
            .code()
            .unwrap_or_else(|| -status.signal().unwrap_or_default());
        Ran {
            code,
            stdout: self.text("stdout"),
            stderr: self.text("stderr"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_over {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
