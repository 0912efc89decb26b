//! How a wrong shape is put into words.

use serde_json::Value as Json;
use serde_yaml::Value;

use super::{EMPTY_SECTION, types_of};
use crate::config::error::{Step, YamlPath, list_names, show};
use crate::sql::nearest::nearest;

/// Lists of allowed names are printed up to this long.
const SHORT_LIST: usize = 16;

pub(super) fn expected(alternatives: &[&Json]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in alternatives
        .iter()
        .flat_map(|alternative| types_of(alternative))
    {
        let name = match name {
            "string" => "text",
            "integer" => "a whole number",
            "number" => "a number",
            "boolean" => "`true` or `false`",
            "array" => "a list",
            "object" => "a mapping of `key: value` lines",
            _ => continue,
        };
        names.push(name);
    }
    names.join(" or ")
}

pub(super) fn found(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Bool(boolean) => format!("`{boolean}`"),
        Value::Number(number) => format!("the number `{number}`"),
        Value::String(text) => format!("the text `{}`", show(text)),
        Value::Sequence(_) => "a list".into(),
        Value::Mapping(_) => "a mapping".into(),
        Value::Tagged(_) => "a tagged value".into(),
    }
}

pub(super) fn wrong_type_hint(
    value: &Value,
    alternatives: &[&Json],
    schema: &Json,
    path: &YamlPath,
) -> Option<String> {
    let expects = |name| {
        alternatives
            .iter()
            .any(|alternative| types_of(alternative).contains(&name))
    };
    let key = match path.steps().last() {
        Some(Step::Key(key)) => format!("{}: ", show(key)),
        _ => "- ".into(),
    };
    let example = schema
        .get("default")
        .or_else(|| alternatives.first()?.get("enum")?.get(0));
    match value {
        Value::Null if may_be_empty_section(alternatives) => Some(EMPTY_SECTION.into()),
        Value::Number(number) if expects("string") => {
            Some(format!("put it in quotes: `{key}\"{number}\"`"))
        }
        Value::Bool(boolean) if expects("string") => {
            Some(format!("put it in quotes: `{key}\"{boolean}\"`"))
        }
        Value::Mapping(_) if expects("string") => {
            Some("text that begins with `{` needs quotes".into())
        }
        Value::String(text) if expects("array") => {
            Some(format!("write a list: `{key}[\"{}\"]`", show(text)))
        }
        Value::Number(number) if expects("array") => {
            Some(format!("write a list: `{key}[{number}]`"))
        }
        Value::String(text)
            if (expects("number") || expects("integer")) && text.parse::<f64>().is_ok() =>
        {
            Some(format!("leave the quotes out: `{key}{}`", show(text)))
        }
        Value::String(text)
            if expects("boolean") && ["yes", "no", "on", "off"].contains(&text.as_str()) =>
        {
            Some("YAML's yes and no are `true` and `false`".into())
        }
        _ => match example {
            Some(example) if !example.is_null() => {
                Some(format!("for example `{key}{}`", show(&plain(example))))
            }
            _ => schema
                .get("description")
                .and_then(Json::as_str)
                .map(String::from),
        },
    }
}

/// Whether the value is a section of which every key may be left out.
fn may_be_empty_section(alternatives: &[&Json]) -> bool {
    let is_free =
        |schema: &&Json| schema.get("properties").is_some() && schema.get("required").is_none();
    alternatives.iter().any(is_free)
}

fn plain(example: &Json) -> String {
    example
        .as_str()
        .map_or_else(|| example.to_string(), String::from)
}

/// "did you mean …?", or what there is when that is not long.
pub(super) fn did_you_mean(word: &str, known: &[&str], noun: &str) -> Option<String> {
    let listed =
        (known.len() <= SHORT_LIST && !known.is_empty()).then(|| list_names(known.iter().copied()));
    match nearest(word, known.iter().copied(), 1).first() {
        Some(name) => Some(format!("did you mean `{name}`?")),
        None => listed.map(|listed| format!("{noun}: {listed}")),
    }
}
