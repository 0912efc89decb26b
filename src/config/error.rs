//! Problems of a pipeline file: collected by YAML path, rendered with file, line and hint.

mod secrets;

use std::fmt;

use self::secrets::{Secrets, without_secrets};
use super::locate::Locations;

/// Lines of the file are shown up to this many characters.
const SNIPPET_WIDTH: usize = 100;
/// Values are shown up to this many characters.
const VALUE_WIDTH: usize = 60;

/// One step of a [`YamlPath`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    Key(String),
    Index(usize),
}

/// Where in the file: `sources.accounts.columns.account_id`, `rfm.segments[2].r`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct YamlPath(Vec<Step>);

impl YamlPath {
    /// The whole file.
    pub fn root() -> Self {
        Self::default()
    }

    /// The path of nested keys: `YamlPath::keys(["metrics", "define"])`.
    pub fn keys<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        Self(keys.into_iter().map(|key| Step::Key(key.into())).collect())
    }

    /// The path of `key` below this one.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.then(Step::Key(key.into()))
    }

    /// The path of the list's item below this one.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    fn then(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// The path one step up; `None` at the root.
    pub fn parent(&self) -> Option<Self> {
        let (_, above) = self.0.split_last()?;
        Some(Self(above.to_vec()))
    }

    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether this is `above`, or lies below it.
    pub fn is_at_or_below(&self, above: &YamlPath) -> bool {
        self.0.starts_with(&above.0)
    }
}

impl From<&YamlPath> for YamlPath {
    fn from(path: &YamlPath) -> Self {
        path.clone()
    }
}

impl fmt::Display for YamlPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) if is_plain_key(key) && position == 0 => f.write_str(key)?,
                Step::Key(key) if is_plain_key(key) => write!(f, ".{key}")?,
                Step::Key(key) => write!(f, "[\"{}\"]", show(key))?,
            }
        }
        Ok(())
    }
}

pub(super) fn is_plain_key(key: &str) -> bool {
    !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_alphanumeric() || c == '_' || c == '-')
}

/// A value as messages show it: on one line, without control characters or backquotes, and not too long.
pub fn show(value: &str) -> String {
    printable(&value.replace('`', "'"), VALUE_WIDTH)
}

/// Names in backquotes, as hints list them.
pub fn list_names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names
        .into_iter()
        .map(|name| format!("`{}`", show(name)))
        .collect::<Vec<_>>()
        .join(", ")
}

fn printable(text: &str, width: usize) -> String {
    let mut shown = String::new();
    for (position, c) in text.chars().enumerate() {
        if position == width {
            shown.push('…');
            break;
        }
        match c {
            '\t' => shown.push_str("\\t"),
            '\n' => shown.push_str("\\n"),
            // Also bidirectional overrides, which could make a line read as something else.
            c if c.is_control()
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                shown.extend(c.escape_unicode());
            }
            c => shown.push(c),
        }
    }
    shown
}

/// Whether a problem stops the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// One mistake in a pipeline file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    pub path: YamlPath,
    /// The line, where the path alone does not tell it (syntax errors, duplicate keys).
    pub line: Option<usize>,
    /// Lower case, without a full stop; values and names stand in backquotes.
    pub message: String,
    pub hint: Option<String>,
}

/// All mistakes of one pipeline file. `Display` renders them in the file's order.
#[derive(Debug, Clone, Default)]
pub struct Problems {
    file: String,
    locations: Locations,
    list: Vec<Problem>,
    silenced: Vec<YamlPath>,
    secrets: Secrets,
}

impl Problems {
    pub fn new(file: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            ..Self::default()
        }
    }

    pub(super) fn set_locations(&mut self, locations: Locations) {
        self.locations = locations;
    }

    /// Adds an error. What lies at or below a silenced path is dropped.
    pub fn push(
        &mut self,
        path: impl Into<YamlPath>,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        self.add(
            Severity::Error,
            path.into(),
            None,
            message.into(),
            hint.into(),
        );
    }

    /// Adds a warning, which does not stop the run.
    pub fn warn(
        &mut self,
        path: impl Into<YamlPath>,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        self.add(
            Severity::Warning,
            path.into(),
            None,
            message.into(),
            hint.into(),
        );
    }

    pub(super) fn push_at_line(
        &mut self,
        path: YamlPath,
        line: usize,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        self.add(
            Severity::Error,
            path,
            Some(line),
            message.into(),
            hint.into(),
        );
    }

    fn add(
        &mut self,
        severity: Severity,
        path: YamlPath,
        line: Option<usize>,
        message: String,
        hint: Option<String>,
    ) {
        if self.is_silenced(&path) {
            return;
        }
        let (message, hint) = self.secrets.hide(&path, message, hint);
        let problem = Problem {
            severity,
            path,
            line,
            message,
            hint,
        };
        if !self.list.contains(&problem) {
            self.list.push(problem);
        }
    }

    /// Drops what is later found at or below `path`: it was reported already, and what stands there now is a stand-in.
    pub fn silence(&mut self, path: YamlPath) {
        self.silenced.push(path);
    }

    /// Whether `path` holds a stand-in for something that was reported.
    pub fn is_silenced(&self, path: &YamlPath) -> bool {
        self.silenced
            .iter()
            .any(|silenced| path.is_at_or_below(silenced))
    }

    /// Keeps the value of a secret variable, which stands at `path`, out of every message.
    pub(super) fn hide_secret(&mut self, path: YamlPath, variable: &str, value: &str) {
        self.secrets.add(path, variable, value);
    }

    /// Keeps what stands under the keys of secrets out of every message from now on.
    pub(super) fn hide_secret_keys(&mut self) {
        self.secrets.add_keys();
    }

    /// Whether there is nothing to report, not even a warning.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn has_errors(&self) -> bool {
        self.error_count() > 0
    }

    pub fn error_count(&self) -> usize {
        self.list
            .iter()
            .filter(|problem| problem.severity == Severity::Error)
            .count()
    }

    pub fn warning_count(&self) -> usize {
        self.list.len() - self.error_count()
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    /// The problems in the order in which they stand in the file.
    pub fn sorted(&self) -> Vec<&Problem> {
        let mut sorted: Vec<&Problem> = self.list.iter().collect();
        sorted.sort_by_key(|problem| self.line_of(problem).unwrap_or(0));
        sorted
    }

    /// The line on which a problem stands; `None` if that is the file as a whole.
    pub fn line_of(&self, problem: &Problem) -> Option<usize> {
        problem.line.or_else(|| self.locations.line(&problem.path))
    }

    /// The line on which a path stands, or what is nearest above it.
    pub fn line_of_path(&self, path: &YamlPath) -> Option<usize> {
        self.locations.line(path)
    }

    fn render(&self, problem: &Problem, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(f, "{word}: {}", problem.message)?;
        let line = self.line_of(problem);
        write!(f, "  --> {}", self.file)?;
        if let Some(line) = line {
            write!(f, ":{line}")?;
        }
        if !problem.path.steps().is_empty() {
            write!(f, "  {}", problem.path)?;
        }
        writeln!(f)?;
        if let Some((line, text)) = line.and_then(|line| Some((line, self.locations.text(line)?))) {
            writeln!(
                f,
                "   | {line:>3} | {}",
                printable(&without_secrets(text.trim_end()), SNIPPET_WIDTH)
            )?;
        }
        if let Some(hint) = &problem.hint {
            writeln!(f, "   = help: {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.sorted() {
            self.render(problem, f)?;
            writeln!(f)?;
        }
        let errors = counted(self.error_count(), "problem");
        match self.warning_count() {
            0 => write!(f, "{errors} in {}", self.file),
            warnings => write!(
                f,
                "{errors} and {} in {}",
                counted(warnings, "warning"),
                self.file
            ),
        }
    }
}

fn counted(count: usize, noun: &str) -> String {
    match count {
        0 => format!("no {noun}s"),
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_like_the_file() {
        let path = YamlPath::keys(["rfm", "segments"]).index(2).key("r");
        assert_eq!(path.to_string(), "rfm.segments[2].r");
        assert_eq!(
            YamlPath::keys(["sources", "a.b"]).to_string(),
            "sources[\"a.b\"]"
        );
        assert_eq!(
            path.parent(),
            Some(YamlPath::keys(["rfm", "segments"]).index(2))
        );
    }

    #[test]
    fn renders_without_a_location() {
        let mut problems = Problems::new("p.yaml");
        problems.push(
            YamlPath::keys(["name"]),
            "bad name",
            Some("use letters".to_string()),
        );
        problems.warn(YamlPath::root(), "odd", None);
        assert_eq!(
            problems.to_string(),
            "error: bad name\n  --> p.yaml  name\n   = help: use letters\n\nwarning: odd\n  --> p.yaml\n\n\
             1 problem and 1 warning in p.yaml"
        );
        assert!(problems.has_errors());
    }

    #[test]
    fn the_same_problem_is_said_once_and_silenced_ones_never() {
        let mut problems = Problems::new("p.yaml");
        let rfm = YamlPath::keys(["rfm"]);
        problems.push(&rfm, "bad", None);
        problems.push(&rfm, "bad", None);
        problems.silence(YamlPath::keys(["calendar"]));
        problems.push(YamlPath::keys(["calendar", "begin"]), "bad", None);
        assert_eq!(problems.error_count(), 1);
    }

    #[test]
    fn secrets_show_neither_at_their_place_nor_elsewhere() {
        let mut problems = Problems::new("p.yaml");
        let place = YamlPath::keys(["currency"]);
        problems.hide_secret(place.clone(), "DB_PASSWORD", "hunter2hunter2");
        problems.push(
            &place,
            "`hunter2hunter2` is no currency",
            Some("did you mean `hunter`?".to_string()),
        );
        problems.push(YamlPath::keys(["name"]), "not `hunter2hunter2`", None);
        let rendered = problems.to_string();
        assert!(!rendered.contains("hunter"), "{rendered}");
        assert!(rendered.contains("`(hidden)` is no currency"), "{rendered}");
        assert!(rendered.contains("not `${DB_PASSWORD}`"), "{rendered}");
    }

    #[test]
    fn values_cannot_draw_on_the_terminal() {
        assert_eq!(show("a\u{1b}[31m\nb`c"), "a\\u{1b}[31m\\nb'c");
        assert_eq!(show(&"x".repeat(100)).chars().count(), VALUE_WIDTH + 1);
    }
}
