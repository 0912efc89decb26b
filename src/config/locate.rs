//! Reads a pipeline file's YAML events once, before it is parsed: bounds what parsing may cost, finds duplicate keys, and
//! notes on which line each path stands.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, Span};

use super::error::{Problems, YamlPath, show};

/// Largest pipeline file.
pub const MAX_BYTES: usize = 1024 * 1024;
/// Deepest nesting of mappings and lists.
pub const MAX_DEPTH: usize = 64;
/// Most keys and values written in a file.
const MAX_NODES: usize = 100_000;
/// Most keys and values that aliases may add.
const MAX_ALIASED_NODES: usize = 500;

/// On which line each path of a file stands, and the lines.
#[derive(Debug, Clone, Default)]
pub struct Locations {
    lines: Vec<String>,
    starts: HashMap<YamlPath, Location>,
}

/// Lines count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// Line of the key, for the values of a mapping.
    pub key: Option<usize>,
    /// Line on which the value starts.
    pub value: usize,
}

impl Locations {
    /// Where a path stands; `None` if the file does not hold it itself (it may come from an alias).
    pub fn find(&self, path: &YamlPath) -> Option<Location> {
        self.starts.get(path).copied()
    }

    /// The line of the path's key or item; of the nearest path above it, if the file does not hold it.
    pub fn line(&self, path: &YamlPath) -> Option<usize> {
        let mut path = path.clone();
        while !path.steps().is_empty() {
            if let Some(location) = self.find(&path) {
                return Some(location.key.unwrap_or(location.value));
            }
            path = path.parent()?;
        }
        None
    }

    /// The text of a line.
    pub fn text(&self, line: usize) -> Option<&str> {
        self.lines.get(line.checked_sub(1)?).map(String::as_str)
    }
}

/// Why a file is not parsed at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("the file has {bytes} bytes, more than {MAX_BYTES}")]
    TooLarge { bytes: usize },
    #[error("mappings and lists are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    #[error("the file has more than {MAX_NODES} keys and values")]
    TooManyNodes,
    #[error("aliases repeat more than {MAX_ALIASED_NODES} keys and values")]
    TooManyAliased,
    #[error("this alias stands inside of what it repeats")]
    EndlessAlias,
    #[error("a key must be text, not a list, a mapping or an alias")]
    KeyIsNoText,
    #[error("the file holds more than one YAML document")]
    SecondDocument,
    #[error("this is not YAML: {0}")]
    Syntax(String),
}

impl Refusal {
    fn is_about_tabs(&self) -> bool {
        matches!(self, Self::Syntax(message) if message.contains("tab"))
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::TooLarge { .. } | Self::TooManyNodes => {
                "rows belong into a CSV or Parquet file: `path:` in place of `rows:`"
            }
            Self::TooManyAliased => "write out what you need",
            Self::SecondDocument => "keep one pipeline per file; remove the second `---`",
            Self::KeyIsNoText => "text that begins with `{`, `[` or `*` needs quotes",
            Self::Syntax(_) if self.is_about_tabs() => "indent with blanks, not with tabs",
            Self::Syntax(message) if message.contains("quote") => "is a closing quote missing?",
            _ => return None,
        };
        Some(hint.into())
    }
}

/// Whether a file may be parsed. What is wrong with it goes to `problems`, which also learn where everything stands.
pub(super) fn read_locations(text: &str, problems: &mut Problems) -> bool {
    if text.len() > MAX_BYTES {
        let refusal = Refusal::TooLarge { bytes: text.len() };
        problems.push(YamlPath::root(), refusal.to_string(), refusal.hint());
        return false;
    }
    let mut reader = Reader::default();
    let outcome = reader.read(text);
    let lines = text.lines().map(String::from).collect();
    problems.set_locations(Locations {
        lines,
        starts: reader.starts,
    });
    let is_free_of_duplicates = reader.duplicates.is_empty();
    for duplicate in reader.duplicates {
        let message = format!(
            "duplicate key `{}`, already on line {}",
            show(&duplicate.key),
            duplicate.first_line
        );
        let hint = "keep one of the two".to_string();
        problems.push_at_line(duplicate.path, duplicate.line, message, hint);
    }
    if let Err((refusal, line)) = outcome {
        let line = if refusal.is_about_tabs() {
            line_with_tab(text, line)
        } else {
            line
        };
        problems.push_at_line(YamlPath::root(), line, refusal.to_string(), refusal.hint());
        return false;
    }
    is_free_of_duplicates
}

/// The scanner says where the value began; the tab is on that line or a later one.
fn line_with_tab(text: &str, from: usize) -> usize {
    let is_tabbed = |line: &str| line.trim_start_matches(' ').starts_with('\t');
    let mut later = text.lines().enumerate().skip(from.saturating_sub(1));
    later
        .find(|(_, line)| is_tabbed(line))
        .map_or(from, |(index, _)| index + 1)
}

struct Duplicate {
    path: YamlPath,
    key: String,
    line: usize,
    first_line: usize,
}

/// An open mapping or list.
struct Open {
    path: YamlPath,
    anchor: usize,
    /// Nodes so far, itself and what aliases repeat included.
    nodes: usize,
    kind: Kind,
}

enum Kind {
    List {
        next: usize,
    },
    /// `key` is set while its value is awaited.
    Mapping {
        key: Option<(String, usize)>,
        lines: HashMap<String, usize>,
    },
}

#[derive(Default)]
struct Reader {
    starts: HashMap<YamlPath, Location>,
    duplicates: Vec<Duplicate>,
    open: Vec<Open>,
    /// Nodes of each finished anchor.
    anchored: HashMap<usize, usize>,
    written: usize,
    aliased: usize,
    documents: usize,
}

impl Reader {
    fn read(&mut self, text: &str) -> Result<(), (Refusal, usize)> {
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| {
                let line = error.marker().line();
                // The scanner reads ahead and may come upon deep nesting first.
                let is_too_deep = error.info().contains("recursion limit");
                (
                    if is_too_deep {
                        Refusal::TooDeep
                    } else {
                        Refusal::Syntax(error.info().to_string())
                    },
                    line,
                )
            })?;
            self.accept(event, span)
                .map_err(|refusal| (refusal, span.start.line()))?;
        }
        Ok(())
    }

    fn accept(&mut self, event: Event<'_>, span: Span) -> Result<(), Refusal> {
        let line = span.start.line();
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Refusal::SecondDocument);
                }
            }
            Event::Scalar(text, _, anchor, _) => {
                self.count_written()?;
                if !self.take_key(&text, line) {
                    self.value_path(line);
                    self.finish_value(1, anchor);
                }
            }
            Event::Alias(anchor) => {
                if self.awaits_key() {
                    return Err(Refusal::KeyIsNoText);
                }
                if self.open.iter().any(|open| open.anchor == anchor) {
                    return Err(Refusal::EndlessAlias);
                }
                let nodes = self.anchored.get(&anchor).copied().unwrap_or(1);
                self.aliased = self.aliased.saturating_add(nodes);
                if self.aliased > MAX_ALIASED_NODES {
                    return Err(Refusal::TooManyAliased);
                }
                self.value_path(line);
                self.finish_value(nodes, 0);
            }
            Event::SequenceStart(anchor, _) => self.open(anchor, line, Kind::List { next: 0 })?,
            Event::MappingStart(anchor, _) => {
                self.open(
                    anchor,
                    line,
                    Kind::Mapping {
                        key: None,
                        lines: HashMap::new(),
                    },
                )?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(closed) = self.open.pop() {
                    self.finish_value(closed.nodes, closed.anchor);
                }
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn count_written(&mut self) -> Result<(), Refusal> {
        self.written += 1;
        if self.written > MAX_NODES {
            Err(Refusal::TooManyNodes)
        } else {
            Ok(())
        }
    }

    fn open(&mut self, anchor: usize, line: usize, kind: Kind) -> Result<(), Refusal> {
        self.count_written()?;
        if self.awaits_key() {
            return Err(Refusal::KeyIsNoText);
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(Refusal::TooDeep);
        }
        let path = self.value_path(line);
        self.open.push(Open {
            path,
            anchor,
            nodes: 1,
            kind,
        });
        Ok(())
    }

    fn awaits_key(&self) -> bool {
        matches!(
            self.open.last(),
            Some(Open {
                kind: Kind::Mapping { key: None, .. },
                ..
            })
        )
    }

    /// Takes a scalar as a key, where one is awaited.
    fn take_key(&mut self, text: &str, line: usize) -> bool {
        let Some(Open {
            path,
            nodes,
            kind:
                Kind::Mapping {
                    key: key @ None,
                    lines,
                },
            ..
        }) = self.open.last_mut()
        else {
            return false;
        };
        *nodes += 1;
        *key = Some((text.to_string(), line));
        match lines.get(text) {
            Some(&first_line) => {
                let path = path.key(text);
                self.duplicates.push(Duplicate {
                    path,
                    key: text.to_string(),
                    line,
                    first_line,
                });
            }
            None => {
                lines.insert(text.to_string(), line);
            }
        }
        true
    }

    /// The path of the value that starts here, whose place is noted.
    fn value_path(&mut self, line: usize) -> YamlPath {
        let Some(open) = self.open.last() else {
            return YamlPath::root();
        };
        let (path, key_line) = match &open.kind {
            Kind::List { next } => (open.path.index(*next), None),
            Kind::Mapping {
                key: Some((key, key_line)),
                ..
            } => (open.path.key(key), Some(*key_line)),
            Kind::Mapping { key: None, .. } => (open.path.clone(), None),
        };
        self.starts.entry(path.clone()).or_insert(Location {
            key: key_line,
            value: line,
        });
        path
    }

    fn finish_value(&mut self, nodes: usize, anchor: usize) {
        if anchor != 0 {
            self.anchored.insert(anchor, nodes);
        }
        if let Some(open) = self.open.last_mut() {
            open.nodes = open.nodes.saturating_add(nodes);
            match &mut open.kind {
                Kind::List { next } => *next += 1,
                Kind::Mapping { key, .. } => *key = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Problems {
        let mut problems = Problems::new("p.yaml");
        let is_fine = read_locations(text, &mut problems);
        assert_eq!(is_fine, problems.is_empty());
        problems
    }

    fn messages(text: &str) -> Vec<String> {
        read(text)
            .sorted()
            .iter()
            .map(|problem| problem.message.clone())
            .collect()
    }

    #[test]
    fn notes_lines_of_keys_values_and_items() {
        let mut reader = Reader::default();
        reader
            .read("a:\n  b: 1\n  c:\n    - x\n    - y: 2\n      z:\n        long\n")
            .unwrap();
        let find = |path: YamlPath| reader.starts[&path];
        assert_eq!(
            find(YamlPath::keys(["a", "b"])),
            Location {
                key: Some(2),
                value: 2
            }
        );
        let item = YamlPath::keys(["a", "c"]).index(1);
        assert_eq!(
            find(item.clone()),
            Location {
                key: None,
                value: 5
            }
        );
        assert_eq!(
            find(item.key("z")),
            Location {
                key: Some(6),
                value: 7
            }
        );
    }

    #[test]
    fn what_is_not_in_the_file_stands_at_what_is_above() {
        let problems = read("a:\n  b: 1\n");
        assert_eq!(
            problems.line_of_path(&YamlPath::keys(["a", "x", "y"])),
            Some(1)
        );
        assert_eq!(problems.line_of_path(&YamlPath::keys(["x"])), None);
    }

    #[test]
    fn duplicate_keys_are_all_found() {
        assert_eq!(
            messages("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n"),
            [
                "duplicate key `c`, already on line 3",
                "duplicate key `a`, already on line 1"
            ]
        );
    }

    #[test]
    fn cost_is_bounded() {
        let deep = "[".repeat(100_000);
        assert_eq!(messages(&deep), [Refusal::TooDeep.to_string()]);
        let wide = format!("[{}]", "1,".repeat(MAX_NODES + 1));
        assert_eq!(messages(&wide), [Refusal::TooManyNodes.to_string()]);
        let large = "a".repeat(MAX_BYTES + 1);
        assert_eq!(messages(&large).len(), 1);
        let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..20 {
            let below = format!("*a{}, ", level - 1).repeat(10);
            laughs.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        assert_eq!(messages(&laughs), [Refusal::TooManyAliased.to_string()]);
        assert_eq!(
            messages("a: &a [*a]\n"),
            [Refusal::EndlessAlias.to_string()]
        );
    }

    #[test]
    fn a_few_aliases_are_fine() {
        assert!(messages("a: &a {x: 1}\nb: *a\nc: [*a, *a]\n").is_empty());
    }

    #[test]
    fn refuses_odd_keys_syntax_errors_and_second_documents() {
        assert_eq!(messages("[a]: 1\n"), [Refusal::KeyIsNoText.to_string()]);
        assert_eq!(
            messages("a: 1\n---\nb: 1\n"),
            [Refusal::SecondDocument.to_string()]
        );
        assert!(messages("a: 'x\n")[0].starts_with("this is not YAML"));
    }
}
