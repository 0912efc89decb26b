//! Compares a file with the JSON schema, and puts stand-ins where it is wrong so that one mistake does not hide the others.

mod wording;

use std::collections::HashSet;

use serde_json::Value as Json;
use serde_yaml::{Mapping, Number, Value};

use self::wording::{did_you_mean, expected, found, wrong_type_hint};
use super::error::{Problems, YamlPath, show};
use crate::sql::nearest::nearest;

const EMPTY_SECTION: &str =
    "leave the key out, or write `{}` for a section with nothing but defaults";

/// Reports every place where `value` has not the schema's shape, and mends it. Texts at `substituted` paths came from
/// variables and are read as numbers or booleans where those are expected.
pub(super) fn check(
    value: &mut Value,
    schema: &Json,
    substituted: &HashSet<YamlPath>,
    problems: &mut Problems,
) {
    let shape = Shape {
        root: schema,
        substituted,
    };
    shape.check(value, schema, &YamlPath::root(), problems);
}

struct Shape<'a> {
    root: &'a Json,
    substituted: &'a HashSet<YamlPath>,
}

impl<'a> Shape<'a> {
    fn check(&self, value: &mut Value, schema: &'a Json, path: &YamlPath, problems: &mut Problems) {
        let alternatives = self.alternatives(schema);
        if alternatives
            .iter()
            .any(|alternative| types_of(alternative).is_empty())
        {
            return; // Anything goes; the checks that follow look at it.
        }
        if self.substituted.contains(path) {
            reread(value, &alternatives);
        }
        match alternatives
            .iter()
            .find(|alternative| accepts(alternative, value))
        {
            Some(_) if value.is_null() => self.check_null(value, schema, path, problems),
            Some(alternative) => self.check_alternative(value, alternative, path, problems),
            None => {
                let message = format!(
                    "expected {}, found {}",
                    expected(&alternatives),
                    found(value)
                );
                problems.push(
                    path,
                    message,
                    wrong_type_hint(value, &alternatives, schema, path),
                );
                self.stand_in(value, schema, path, problems);
            }
        }
    }

    /// `rfm:` with nothing below it reads as if it were switched on, and would be off.
    fn check_null(
        &self,
        value: &mut Value,
        schema: &'a Json,
        path: &YamlPath,
        problems: &mut Problems,
    ) {
        if self
            .alternatives(schema)
            .iter()
            .any(|alternative| types_of(alternative).contains(&"object"))
        {
            problems.push(
                path,
                "this section is empty",
                Some(EMPTY_SECTION.to_string()),
            );
            self.stand_in(value, schema, path, problems);
        }
    }

    fn check_alternative(
        &self,
        value: &mut Value,
        schema: &'a Json,
        path: &YamlPath,
        problems: &mut Problems,
    ) {
        match value {
            Value::Mapping(mapping) => self.check_mapping(mapping, schema, path, problems),
            Value::Sequence(items) => {
                if let Some(expected) = wrong_length(items.len(), schema) {
                    problems.push(
                        path,
                        format!("expected a list of {expected}, found {}", items.len()),
                        None,
                    );
                    return self.stand_in(value, schema, path, problems);
                }
                if let Some(item_schema) = schema.get("items") {
                    for (index, item) in items.iter_mut().enumerate() {
                        self.check(item, item_schema, &path.index(index), problems);
                    }
                }
            }
            Value::String(text) => {
                let Some(allowed) = schema.get("enum").and_then(Json::as_array) else {
                    return;
                };
                let allowed: Vec<&str> = allowed.iter().filter_map(Json::as_str).collect();
                if allowed.contains(&text.as_str()) {
                    return;
                }
                let hint = did_you_mean(text, &allowed, "allowed");
                problems.push(
                    path,
                    format!("`{}` is not one of the allowed values", show(text)),
                    hint,
                );
                self.stand_in(value, schema, path, problems);
            }
            Value::Number(number) => {
                if let Some(range) = range_missed(number, schema) {
                    problems.push(
                        path,
                        format!("expected a whole number {range}, found `{number}`"),
                        None,
                    );
                    self.stand_in(value, schema, path, problems);
                }
            }
            Value::Null | Value::Bool(_) | Value::Tagged(_) => {}
        }
    }

    fn check_mapping(
        &self,
        mapping: &mut Mapping,
        schema: &'a Json,
        path: &YamlPath,
        problems: &mut Problems,
    ) {
        let properties = schema.get("properties").and_then(Json::as_object);
        let further = schema.get("additionalProperties");
        let is_closed = further == Some(&Json::Bool(false));
        let known: Vec<&str> = properties
            .into_iter()
            .flat_map(|map| map.keys())
            .map(String::as_str)
            .collect();
        let mut unusable = Vec::new();
        // Keys that are there under a misspelt name.
        let mut meant = HashSet::new();
        for (key, value) in mapping.iter_mut() {
            let Some(name) = key.as_str() else {
                let hint = "put it in quotes".to_string();
                problems.push(
                    path,
                    format!("expected a key that is text, found {}", found(key)),
                    hint,
                );
                unusable.push(key.clone());
                continue;
            };
            let path = path.key(name);
            match properties.and_then(|properties| properties.get(name)) {
                Some(schema) => self.check(value, schema, &path, problems),
                None if is_closed => {
                    let nearest = nearest(name, known.iter().copied(), 1);
                    problems.push(
                        &path,
                        format!("unknown key `{}`", show(name)),
                        did_you_mean(name, &known, "known keys"),
                    );
                    meant.extend(nearest);
                    unusable.push(key.clone());
                }
                None => {
                    if let Some(schema) = further {
                        self.check(value, schema, &path, problems);
                    }
                }
            }
        }
        for key in &unusable {
            mapping.remove(key);
        }
        for name in meant {
            if !mapping.contains_key(name) {
                problems.silence(path.key(name));
            }
        }
        self.check_required(mapping, schema, path, problems);
    }

    fn check_required(
        &self,
        mapping: &mut Mapping,
        schema: &'a Json,
        path: &YamlPath,
        problems: &mut Problems,
    ) {
        let required = schema
            .get("required")
            .and_then(Json::as_array)
            .into_iter()
            .flatten()
            .filter_map(Json::as_str);
        for name in required
            .filter(|name| !mapping.contains_key(*name))
            .collect::<Vec<_>>()
        {
            let Some(property) = schema
                .get("properties")
                .and_then(|properties| properties.get(name))
            else {
                continue;
            };
            let missing = path.key(name);
            // A misspelt key was silenced here, and is reported under the name it has.
            if !problems.is_silenced(&missing) {
                problems.push(
                    path,
                    format!("missing key `{name}`"),
                    self.description(property),
                );
                problems.silence(missing);
            }
            mapping.insert(name.into(), self.placeholder(property));
        }
    }

    fn stand_in(
        &self,
        value: &mut Value,
        schema: &'a Json,
        path: &YamlPath,
        problems: &mut Problems,
    ) {
        *value = self.placeholder(schema);
        problems.silence(path.clone());
    }

    /// A value of the schema's shape that means as little as possible.
    fn placeholder(&self, schema: &'a Json) -> Value {
        let alternatives = self.alternatives(schema);
        let Some(schema) = alternatives.first() else {
            return Value::Null;
        };
        if let Some(first) = schema
            .get("enum")
            .and_then(|allowed| allowed.get(0))
            .and_then(Json::as_str)
        {
            return first.into();
        }
        match types_of(schema).first() {
            Some(&"object") => {
                let mut mapping = Mapping::new();
                let required = schema
                    .get("required")
                    .and_then(Json::as_array)
                    .into_iter()
                    .flatten();
                for name in required.filter_map(Json::as_str) {
                    if let Some(property) = schema
                        .get("properties")
                        .and_then(|properties| properties.get(name))
                    {
                        mapping.insert(name.into(), self.placeholder(property));
                    }
                }
                Value::Mapping(mapping)
            }
            Some(&"array") => {
                let length = schema.get("minItems").and_then(Json::as_u64).unwrap_or(0);
                let item = schema
                    .get("items")
                    .map_or(Value::Null, |items| self.placeholder(items));
                Value::Sequence((0..length).map(|_| item.clone()).collect())
            }
            Some(&"string") => Value::String(String::new()),
            Some(&"integer") => schema
                .get("minimum")
                .and_then(Json::as_u64)
                .unwrap_or(0)
                .into(),
            Some(&"number") => 0.0.into(),
            Some(&"boolean") => false.into(),
            _ => Value::Null,
        }
    }

    /// The schemas of which a value must fit one, references followed.
    fn alternatives(&self, schema: &'a Json) -> Vec<&'a Json> {
        let schema = self.resolved(schema);
        match schema
            .get("anyOf")
            .or_else(|| schema.get("oneOf"))
            .and_then(Json::as_array)
        {
            Some(alternatives) => alternatives
                .iter()
                .map(|alternative| self.resolved(alternative))
                .collect(),
            None => vec![schema],
        }
    }

    fn resolved(&self, schema: &'a Json) -> &'a Json {
        let reference = schema
            .get("$ref")
            .and_then(Json::as_str)
            .and_then(|reference| reference.strip_prefix('#'));
        reference
            .and_then(|pointer| self.root.pointer(pointer))
            .unwrap_or(schema)
    }

    fn description(&self, schema: &'a Json) -> Option<String> {
        let description = schema
            .get("description")
            .or_else(|| self.resolved(schema).get("description"))?
            .as_str()?;
        Some(description.replace('\n', " "))
    }
}

fn types_of(schema: &Json) -> Vec<&str> {
    match schema.get("type") {
        Some(Json::String(name)) => vec![name],
        Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

fn accepts(schema: &Json, value: &Value) -> bool {
    types_of(schema).into_iter().any(|name| match value {
        Value::Null => name == "null",
        Value::Bool(_) => name == "boolean",
        Value::Number(number) => name == "number" || (name == "integer" && !number.is_f64()),
        Value::String(_) => name == "string",
        Value::Sequence(_) => name == "array",
        Value::Mapping(_) => name == "object",
        Value::Tagged(_) => false,
    })
}

/// Reads a text that came from a variable as the number, boolean or nothing that is expected.
fn reread(value: &mut Value, alternatives: &[&Json]) {
    let expects = |name| {
        alternatives
            .iter()
            .any(|alternative| types_of(alternative).contains(&name))
    };
    let Some(text) = value.as_str().map(str::trim) else {
        return;
    };
    if expects("string") {
        return;
    }
    let read = if text.is_empty() && expects("null") {
        Some(Value::Null)
    } else if let ("true" | "false", true) = (text, expects("boolean")) {
        Some(Value::Bool(text == "true"))
    } else if expects("integer") || expects("number") {
        let whole = text.parse::<i64>().ok().map(Value::from);
        whole.or_else(|| {
            text.parse::<f64>()
                .ok()
                .filter(|number| number.is_finite())
                .map(Value::from)
        })
    } else {
        None
    };
    if let Some(read) = read {
        *value = read;
    }
}

fn wrong_length(length: usize, schema: &Json) -> Option<String> {
    let bound = |keyword| {
        schema
            .get(keyword)
            .and_then(Json::as_u64)
            .and_then(|bound| usize::try_from(bound).ok())
    };
    let (least, most) = (
        bound("minItems").unwrap_or(0),
        bound("maxItems").unwrap_or(usize::MAX),
    );
    match (least..=most).contains(&length) {
        true => None,
        false if least == most => Some(format!("{least} values")),
        false if length < least => Some(format!("{least} values or more")),
        false => Some(format!("at most {most} values")),
    }
}

/// The range that a whole number had to be in to be held at all. Narrower ranges are checked with the values' meaning.
fn range_missed(number: &Number, schema: &Json) -> Option<String> {
    let largest = match schema.get("format").and_then(Json::as_str)? {
        "uint8" => u64::from(u8::MAX),
        "uint32" => u64::from(u32::MAX),
        _ => return None,
    };
    if number.as_u64().is_some_and(|number| number <= largest) {
        return None;
    }
    let least = schema.get("minimum").and_then(Json::as_u64).unwrap_or(0);
    match schema.get("maximum").and_then(Json::as_u64) {
        Some(most) => Some(format!("from {least} to {most}")),
        None if number.as_u64().is_some() => Some(format!("of at most {largest}")),
        None => Some(format!("of {least} or more")),
    }
}
