//! `lineage`: where a run's OpenLineage events go.

use super::{given, places};
use crate::config::error::{Problems, YamlPath};
use crate::config::raw::RawLineage;
use crate::config::{Lineage, LineageTarget};

pub(super) fn lineage(raw: &RawLineage, problems: &mut Problems) -> Option<Lineage> {
    let section = YamlPath::keys(["lineage"]);
    let (url, file, api_key) = (given(&raw.url), given(&raw.file), given(&raw.api_key));
    if raw.namespace.trim().is_empty() {
        let hint = "leave `namespace` out for `cskpi`".to_string();
        problems.push(section.key("namespace"), "the namespace is empty", hint);
    }
    // One that was reported under another name, or whose variable is not set, is there all the same.
    let is_reported = |key| problems.is_silenced(&section.key(key));
    if is_reported("url") || is_reported("file") {
        return None;
    }
    let target = match (url, file) {
        (Some(_), Some(_)) => {
            let hint = "keep one of the two".to_string();
            problems.push(&section, "`url` and `file` are both there", hint);
            return None;
        }
        (None, None) => {
            let hint =
                "`url:` sends the events to a server, `file:` appends them to a file".to_string();
            problems.push(&section, "neither `url` nor `file` is there", hint);
            return None;
        }
        (Some(url), None) => {
            let path = section.key("url");
            let example = "https://marquez.example/api/v1/lineage";
            let instead_of_user = "give the server's key as `api_key`";
            places::check_web_address(url, example, instead_of_user, &path, problems)?;
            LineageTarget::Http {
                url: url.to_string(),
                api_key: api_key.map(String::from),
            }
        }
        (None, Some(file)) => {
            if api_key.is_some() {
                let hint = "a file needs no key; leave `api_key` out".to_string();
                problems.push(&section, "`api_key` is given without `url`", hint);
            }
            check_file(file, &section.key("file"), problems);
            LineageTarget::File(file.to_string())
        }
    };
    Some(Lineage {
        target,
        namespace: raw.namespace.clone(),
    })
}

fn check_file(file: &str, path: &YamlPath, problems: &mut Problems) {
    if file.contains('\0') {
        problems.push(path, "a path cannot hold a NUL character", None);
    } else if places::is_remote(file) {
        let hint = match file.starts_with("http") {
            true => "`url:` sends the events to a server",
            false => "a local path, such as `lineage.jsonl`",
        };
        problems.push(
            path,
            "events are appended to local files only",
            Some(hint.to_string()),
        );
    }
}
