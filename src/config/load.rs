//! Text of a pipeline file → [`Pipeline`], or every problem it has.
//!
//! Bounds and lines ([`super::locate`]) → YAML → variables → shape (against the JSON schema) → meaning. Wrong parts are replaced
//! by stand-ins on the way, so that later steps find the later problems.

use serde_yaml::Value;

use super::error::{Problems, YamlPath};
use super::raw::RawPipeline;
use super::{Pipeline, Settings, locate, schema, shape, validate, variables};

/// What came of a pipeline file.
///
/// `problems` knows the file's lines: later checks (of metrics, of headers) push theirs by path.
#[derive(Debug)]
pub struct Loaded {
    /// The pipeline as far as it could be made out, with stand-ins where the file is wrong: for further checks only,
    /// unless `problems` has no errors.
    pub draft: Option<Pipeline>,
    pub problems: Problems,
}

impl Loaded {
    /// The pipeline, if nothing is wrong with it (there may be warnings).
    pub fn pipeline(self) -> Option<Pipeline> {
        let is_usable = !self.problems.has_errors();
        self.draft.filter(|_| is_usable)
    }
}

/// Loads a pipeline from the text of `file`. `env` gives the values of environment variables; nothing else is asked.
pub fn load(file: &str, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Loaded {
    let mut problems = Problems::new(file);
    let raw = raw_pipeline(text, env, &mut problems);
    let draft =
        raw.and_then(|(raw, settings)| validate::pipeline(raw, settings, file, &mut problems));
    Loaded { draft, problems }
}

/// The parsed form and its settings, with stand-ins where the file is wrong; `None` if it is too broken for that.
fn raw_pipeline(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) -> Option<(RawPipeline, Settings)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !locate::read_locations(text, problems) {
        return None;
    }
    let mut value = parse(text, problems)?;
    if value.is_null() {
        problems.push(
            YamlPath::root(),
            "the file is empty",
            Some("`cskpi init` writes one to start from".to_string()),
        );
        return None;
    }
    let substituted = variables::substitute(&mut value, env, problems);
    problems.hide_secret_keys();
    shape::check(&mut value, &schema::SCHEMA, &substituted, problems);
    let settings = Settings::of(&value);
    match serde_yaml::from_value(value) {
        Ok(raw) => Some((raw, settings)),
        Err(error) => {
            // The shape is right by now; should schema and types ever disagree, the user still learns what is wrong.
            if !problems.has_errors() {
                problems.push(YamlPath::root(), error.to_string(), None);
            }
            None
        }
    }
}

fn parse(text: &str, problems: &mut Problems) -> Option<Value> {
    let parsed = serde_yaml::from_str::<Value>(text).and_then(|mut value| {
        // `<<: *defaults`
        value.apply_merge()?;
        Ok(value)
    });
    match parsed {
        Ok(value) => Some(value),
        Err(error) => {
            let message = format!("this is not YAML: {error}");
            match error.location() {
                Some(location) => {
                    problems.push_at_line(YamlPath::root(), location.line(), message, None)
                }
                None => problems.push(YamlPath::root(), message, None),
            }
            None
        }
    }
}
