//! What no message may show: values of secret variables, and secrets that are written in the file.

use std::fmt;

use super::{Step, YamlPath, show};

/// Shorter secrets are hidden only where they stand in the file; anywhere else they would garble the text.
const SHORTEST_SOUGHT_SECRET: usize = 4;
const HIDDEN: &str = "(hidden)";
/// Keys whose values are never shown, wherever they come from.
const SECRET_KEYS: [[&str; 2]; 3] = [
    ["s3", "secret_access_key"],
    ["s3", "session_token"],
    ["lineage", "api_key"],
];

/// Values that no message may show, and the places they were put in.
#[derive(Clone, Default)]
pub(super) struct Secrets {
    values: Vec<(String, String)>,
    /// The variable, where it has a secret's name.
    paths: Vec<(YamlPath, Option<String>)>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.values.len())
    }
}

impl Secrets {
    /// Keeps the value of a variable, which stands at `path`, from being shown.
    pub(super) fn add(&mut self, path: YamlPath, variable: &str, value: &str) {
        self.paths.push((path, Some(variable.into())));
        if value.chars().count() >= SHORTEST_SOUGHT_SECRET {
            self.values.push((value.into(), variable.into()));
        }
    }

    /// Keeps what stands under the keys of secrets from being shown.
    pub(super) fn add_keys(&mut self) {
        let paths = SECRET_KEYS.map(|keys| (YamlPath::keys(keys), None));
        self.paths.extend(paths);
    }

    /// A problem's message and hint without secrets.
    pub(super) fn hide(
        &self,
        path: &YamlPath,
        message: String,
        hint: Option<String>,
    ) -> (String, Option<String>) {
        let mut paths = self.paths.iter();
        let secret = paths.find(|(secret, _)| path.is_at_or_below(secret));
        match secret {
            Some((_, Some(variable))) if !quotes_only_its_key(&message, path) => {
                let hint = format!("the value comes from `${{{variable}}}` and is not shown");
                (hide_quoted(&message), Some(hint))
            }
            Some((_, None)) => (hide_quoted(&message), hint.map(|hint| hide_quoted(&hint))),
            _ => (
                self.replace_in(message),
                hint.map(|hint| self.replace_in(hint)),
            ),
        }
    }

    fn replace_in(&self, text: String) -> String {
        self.values.iter().fold(text, |text, (value, variable)| {
            // Messages show values through `show`, which may have changed or shortened them.
            let shown = show(value);
            let mark = format!("${{{variable}}}");
            text.replace(value.as_str(), &mark)
                .replace(shown.trim_end_matches('…'), &mark)
        })
    }
}

/// Whether a message is about the key and not about its value, as that of an unknown key.
fn quotes_only_its_key(message: &str, path: &YamlPath) -> bool {
    let Some(Step::Key(key)) = path.steps().last() else {
        return false;
    };
    let key = show(key);
    let mut quoted = message.split('`').skip(1).step_by(2).peekable();
    quoted.peek().is_some() && quoted.all(|quoted| quoted == key)
}

/// A line of the file without a secret that is written in it, under whatever spelling of its key. Variables are shown.
pub(super) fn without_secrets(line: &str) -> String {
    const SECRET_WORDS: [&str; 5] = ["secret", "token", "api_key", "api-key", "apikey"];
    let secret_start = line.match_indices(':').find_map(|(colon, _)| {
        let before = line[..colon].trim_end_matches([' ', '"', '\'']);
        let is_part_of_key = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let key = before
            .rsplit(|c: char| !is_part_of_key(c))
            .next()?
            .to_lowercase();
        let value = line[colon + 1..].trim_start();
        let is_secret = SECRET_WORDS.iter().any(|word| key.contains(word));
        let is_variable = value.trim_start_matches(['"', '\'']).starts_with("${");
        (is_secret && !is_variable && !value.is_empty()).then_some(line.len() - value.len())
    });
    match secret_start {
        Some(start) => format!("{}{HIDDEN}", &line[..start]),
        None => line.to_string(),
    }
}

/// The text with everything that stands in backquotes replaced.
fn hide_quoted(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    let last = parts.len() - 1;
    let hidden = parts.iter().enumerate().map(|(position, part)| {
        // An unpaired backquote leaves its rest hidden as well.
        let is_quoted = position % 2 == 1;
        if is_quoted { HIDDEN } else { part }
    });
    let joined = hidden.collect::<Vec<_>>().join("`");
    if last % 2 == 1 {
        format!("{joined}`")
    } else {
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::error::Problems;

    #[test]
    fn written_secrets_are_not_shown() {
        for (line, shown) in [
            (
                "  secret_access_key: abc # d",
                "  secret_access_key: (hidden)",
            ),
            (
                "s3: {session_token: \"${T}\", 'secret_access_key' : \"a\"}",
                "s3: {session_token: \"${T}\", 'secret_access_key' : (hidden)",
            ),
            ("  Secret_acces_key: abc", "  Secret_acces_key: (hidden)"),
            ("  api_key: ${KEY}", "  api_key: ${KEY}"),
            ("  api_key:", "  api_key:"),
            ("# the api_key", "# the api_key"),
        ] {
            assert_eq!(without_secrets(line), shown);
        }
    }

    #[test]
    fn values_of_secret_keys_are_not_shown() {
        let mut problems = Problems::new("p.yaml");
        problems.hide_secret_keys();
        problems.push(
            YamlPath::keys(["s3", "session_token"]),
            "expected text, found the number `12345`",
            Some("put it in quotes: `session_token: \"12345\"`".to_string()),
        );
        assert!(!problems.to_string().contains("12345"), "{problems}");
    }

    #[test]
    fn a_misspelt_key_is_shown_though_its_value_is_secret() {
        let mut problems = Problems::new("p.yaml");
        let path = YamlPath::keys(["lineage", "apikey"]);
        problems.hide_secret(path.clone(), "API_KEY", "abcdef");
        let hint = "did you mean `api_key`?".to_string();
        problems.push(&path, "unknown key `apikey`", hint);
        problems.push(&path, "`apikey` is `abcdef`", None);
        let report = problems.to_string();
        assert!(report.contains("unknown key `apikey`"), "{report}");
        assert!(report.contains("did you mean `api_key`?"), "{report}");
        assert!(!report.contains("abcdef"), "{report}");
    }
}
