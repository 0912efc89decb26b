//! What of a pipeline file shapes the numbers: every value under its path, as a hash, for telling later which key was changed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::error::is_plain_key;

/// Digits of a value's hash.
const HASH_DIGITS: usize = 16;

/// Keys that change no value: where the results go and how, and when they are made.
const LEFT_OUT: &[&str] = &[
    "name",
    "calendar.ready_after",
    "calendar.lookback",
    "calendar.end",
    "outputs",
    "s3",
    "close",
    "lineage",
];

/// A value's path (`policy.gross_margin`, `touch_model.rules[0].when`) → the first 16 hexadecimal digits of the BLAKE3 hash
/// of the value as JSON. A list of scalars is one value, and so are rows that are written in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings(pub BTreeMap<String, String>);

impl Settings {
    /// The settings of a file whose variables are filled in.
    pub(super) fn of(file: &serde_yaml::Value) -> Self {
        // What JSON cannot express was refused by the file's shape.
        let mut json = serde_json::to_value(file).unwrap_or_default();
        json.sort_all_objects();
        same_numbers_look_the_same(&mut json);
        let mut settings = Self::default();
        settings.add(String::new(), &json);
        settings
    }

    /// Paths that were added, removed or have another value than `before`, sorted.
    pub fn changed(&self, before: &Settings) -> Vec<String> {
        let paths: BTreeSet<&String> = self.0.keys().chain(before.0.keys()).collect();
        paths
            .into_iter()
            .filter(|path| self.0.get(*path) != before.0.get(*path))
            .cloned()
            .collect()
    }

    fn add(&mut self, path: String, value: &Json) {
        if LEFT_OUT.contains(&path.as_str()) {
            return;
        }
        match value {
            Json::Object(map) if !map.is_empty() => {
                for (key, value) in map {
                    self.add(key_below(&path, key), value);
                }
            }
            Json::Array(items) if items.iter().any(is_nested) && !is_table(&path) => {
                for (index, item) in items.iter().enumerate() {
                    self.add(format!("{path}[{index}]"), item);
                }
            }
            // The same as the key left out, but for a constant that is null in every row.
            Json::Null if !path.contains(".constants") => {}
            value => {
                let hash = blake3::hash(value.to_string().as_bytes()).to_hex();
                self.0.insert(path, hash[..HASH_DIGITS].to_string());
            }
        }
    }
}

fn is_nested(value: &Json) -> bool {
    value.is_array() || value.is_object()
}

/// Whether the rows of an input table stand here.
fn is_table(path: &str) -> bool {
    path.starts_with("sources.") && path.ends_with(".rows")
}

fn key_below(path: &str, key: &str) -> String {
    match (path.is_empty(), is_plain_key(key)) {
        (true, true) => key.to_string(),
        (false, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{}]", Json::from(key)),
    }
}

/// `1.0` is `1`.
fn same_numbers_look_the_same(value: &mut Json) {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Json::Number(number) if number.is_f64() => {
            let whole = number
                .as_f64()
                .filter(|number| number.fract() == 0.0 && number.abs() < EXACT);
            if let Some(whole) = whole {
                *value = Json::from(whole as i64);
            }
        }
        Json::Array(items) => items.iter_mut().for_each(same_numbers_look_the_same),
        Json::Object(map) => map.values_mut().for_each(same_numbers_look_the_same),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        Settings::of(&serde_yaml::from_str(text).unwrap())
    }

    fn paths(text: &str) -> Vec<String> {
        settings(text).0.into_keys().collect()
    }

    #[test]
    fn values_stand_under_their_paths() {
        assert_eq!(
            paths(
                "policy: {gross_margin: 0.8}\ndimensions: {size: size}\nrfm: {}\n\
                 touch_model: {rules: [{name: a, when: x}, {name: b}], owners: {high: [sato, suzuki]}}\n\
                 sources: {accounts: {path: a.csv, columns: {顧客 ID: id}, rows: [{a: 1}, {a: 2}]}}\n"
            ),
            [
                "dimensions.size",
                "policy.gross_margin",
                "rfm",
                "sources.accounts.columns[\"顧客 ID\"]",
                "sources.accounts.path",
                "sources.accounts.rows",
                "touch_model.owners.high",
                "touch_model.rules[0].name",
                "touch_model.rules[0].when",
                "touch_model.rules[1].name",
            ]
        );
    }

    #[test]
    fn what_changes_no_value_is_left_out() {
        assert_eq!(
            paths(
                "name: a\ncalendar: {grain: month, lookback: 1, ready_after: 6h}\noutputs: {root: out, tables: [kpi_values]}\n\
                 s3: {region: a}\nclose: {business_days: 5}\nlineage: {file: a}\npolicy: {ltv_segment: null}\n\
                 sources: {fx_rates: {file_dates: \"%Y\", constants: {a: null}}}\n"
            ),
            [
                "calendar.grain",
                "sources.fx_rates.constants.a",
                "sources.fx_rates.file_dates",
            ]
        );
    }

    #[test]
    fn hashes_are_short_and_of_the_value_as_json() {
        let expected = blake3::hash(b"0.8").to_hex();
        assert_eq!(
            settings("policy: {gross_margin: 0.80}").0["policy.gross_margin"],
            expected[..16]
        );
        let expected = blake3::hash(br#"["a","b"]"#).to_hex();
        assert_eq!(settings("x: [a, b]").0["x"], expected[..16]);
    }

    #[test]
    fn added_removed_and_other_values_have_changed() {
        let before =
            settings("a: 1\nb: {c: [1, 2], d: x}\ne: 1.0\nf: {g: 1, h: 2}\nrows: [{a: 1, b: 2}]");
        let after =
            settings("rows: [{b: 2, a: 1}]\nf: {h: 2, g: 1}\ne: 1\na: 2\nb: {c: [2, 1]}\nz: y");
        assert_eq!(after.changed(&before), ["a", "b.c", "b.d", "z"]);
        assert_eq!(before.changed(&after), ["a", "b.c", "b.d", "z"]);
        assert!(before.changed(&before).is_empty());
    }

    #[test]
    fn settings_are_read_back_as_they_were_written() {
        let written = settings("policy: {gross_margin: 0.8}");
        let text = serde_json::to_string(&written).unwrap();
        assert!(text.starts_with("{\"policy.gross_margin\":\""), "{text}");
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), written);
    }
}
