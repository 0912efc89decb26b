//! `${NAME}` and `${NAME:-default}` in a pipeline file's values, replaced after parsing so that a value cannot become YAML.

use std::collections::HashSet;

use serde_yaml::Value;

use super::error::{Problems, YamlPath, show};

/// Replaces variables in every text value; gives the paths of the values that held one.
pub(super) fn substitute(
    value: &mut Value,
    env: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) -> HashSet<YamlPath> {
    let mut substitution = Substitution {
        env,
        problems,
        paths: HashSet::new(),
    };
    substitution.walk(value, &YamlPath::root());
    substitution.paths
}

struct Substitution<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    problems: &'a mut Problems,
    paths: HashSet<YamlPath>,
}

impl Substitution<'_> {
    fn walk(&mut self, value: &mut Value, path: &YamlPath) {
        match value {
            Value::Mapping(mapping) => {
                for (key, value) in mapping.iter_mut() {
                    let key = key.as_str().unwrap_or_default();
                    self.walk(value, &path.key(key));
                }
            }
            Value::Sequence(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.walk(item, &path.index(index));
                }
            }
            Value::String(text) if text.contains('$') => self.replace(text, path),
            Value::Tagged(tagged) => {
                let message = format!(
                    "the tag `{}` means nothing here",
                    show(&tagged.tag.to_string())
                );
                self.problems.push(
                    path,
                    message,
                    Some("put text that begins with `!` in quotes".to_string()),
                );
                self.problems.silence(path.clone());
                *value = std::mem::take(&mut tagged.value);
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn replace(&mut self, text: &mut String, path: &YamlPath) {
        match pieces(text) {
            Ok(pieces) => {
                let mut replaced = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => replaced.push_str(text),
                        Piece::Variable { name, default } => {
                            replaced.push_str(&self.value_of(name, default, path))
                        }
                    }
                }
                *text = replaced;
            }
            Err(mistake) => {
                let hint = "write `${NAME}` or `${NAME:-default}`; `$$` stands for a dollar sign"
                    .to_string();
                self.problems.push(path, mistake.to_string(), hint);
                self.problems.silence(path.clone());
            }
        }
    }

    fn value_of(&mut self, name: &str, default: Option<&str>, path: &YamlPath) -> String {
        self.paths.insert(path.clone());
        let given = (self.env)(name).filter(|value| !(value.is_empty() && default.is_some()));
        let Some(value) = given.or_else(|| default.map(String::from)) else {
            let hint = format!("set it, or give a default: `${{{name}:-…}}`");
            self.problems.push(
                path,
                format!("the environment variable `{name}` is not set"),
                hint,
            );
            self.problems.silence(path.clone());
            return String::new();
        };
        if is_secret_name(name) {
            self.problems.hide_secret(path.clone(), name, &value);
        }
        value
    }
}

/// Whether a variable of this name holds what must not be printed.
fn is_secret_name(name: &str) -> bool {
    let name = name.to_uppercase();
    let holds_secret_word = [
        "PASSW",
        "SECRET",
        "TOKEN",
        "CREDENTIAL",
        "PRIVATE",
        "APIKEY",
    ]
    .iter()
    .any(|word| name.contains(word));
    let has_secret_part = name
        .split('_')
        .any(|part| ["KEY", "KEYS", "PWD", "PASS", "AUTH", "DSN", "SAS"].contains(&part));
    holds_secret_word || has_secret_part
}

#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Variable {
        name: &'a str,
        default: Option<&'a str>,
    },
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Mistake {
    #[error("`${{` is not closed")]
    Unclosed,
    #[error("`{0}` is not a variable's name")]
    BadName(String),
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, Mistake> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        let (before, from_dollar) = rest.split_at(dollar);
        pieces.push(Piece::Text(before));
        if let Some(after) = from_dollar.strip_prefix("$$") {
            pieces.push(Piece::Text("$"));
            rest = after;
        } else if let Some(after) = from_dollar.strip_prefix("${") {
            let (inside, after) = after.split_once('}').ok_or(Mistake::Unclosed)?;
            let (name, default) = match inside.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (inside, None),
            };
            if !is_variable_name(name) {
                return Err(Mistake::BadName(show(name)));
            }
            pieces.push(Piece::Variable { name, default });
            rest = after;
        } else {
            // A lone dollar sign, as at the end of a regular expression.
            pieces.push(Piece::Text("$"));
            rest = &from_dollar[1..];
        }
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

fn is_variable_name(name: &str) -> bool {
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts_well && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn substituted(text: &str) -> (String, Problems) {
        let env = |name: &str| match name {
            "HOME" => Some("/home/me".to_string()),
            "EMPTY" => Some(String::new()),
            "LOOP" => Some("${HOME}".to_string()),
            _ => None,
        };
        let mut value = Value::String(text.into());
        let mut problems = Problems::new("p.yaml");
        substitute(&mut value, &env, &mut problems);
        (value.as_str().unwrap_or_default().to_string(), problems)
    }

    #[test]
    fn replaces_once_and_leaves_other_dollars() {
        assert_eq!(substituted("${HOME}/in").0, "/home/me/in");
        assert_eq!(substituted("a$$b$$$$ $5 ^x$").0, "a$b$$ $5 ^x$");
        assert_eq!(substituted("$${HOME}").0, "${HOME}");
        assert_eq!(substituted("${LOOP}").0, "${HOME}");
        assert_eq!(
            substituted("${NONE:-x:-y}|${EMPTY:-e}|${EMPTY}|").0,
            "x:-y|e||"
        );
    }

    #[test]
    fn says_which_variable_is_missing() {
        let (_, problems) = substituted("${DB_PASSWORD}");
        assert!(
            problems
                .to_string()
                .contains("the environment variable `DB_PASSWORD` is not set"),
            "{problems}"
        );
    }

    #[test]
    fn refuses_what_is_no_variable() {
        assert_eq!(pieces("${A"), Err(Mistake::Unclosed));
        assert_eq!(pieces("${1A}"), Err(Mistake::BadName("1A".into())));
        assert_eq!(pieces("${}"), Err(Mistake::BadName(String::new())));
    }

    #[test]
    fn knows_secrets_by_name() {
        for name in [
            "DB_PASSWORD",
            "aws_secret_access_key",
            "API_KEY",
            "GITHUB_TOKEN",
            "SENTRY_DSN",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["HOME", "KEYBOARD", "CURRENCY", "AUTHOR"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }
}
