//! `s3`: how paths that begin with `s3://` are reached.

use std::time::Duration;

use super::{check_range, given, places};
use crate::config::error::{Problems, YamlPath, show};
use crate::config::raw::RawS3;
use crate::config::{S3, S3Keys};

pub(super) fn s3(raw: &RawS3, problems: &mut Problems) -> S3 {
    let section = YamlPath::keys(["s3"]);
    let endpoint = given(&raw.endpoint);
    if let Some(endpoint) = endpoint {
        check_endpoint(endpoint, raw.allow_http, &section, problems);
    }
    let region = given(&raw.region);
    if let Some(region) = region
        && !is_region(region)
    {
        let message = format!("`{}` is not a region", show(region));
        let hint = "its short name, such as `ap-northeast-1`".to_string();
        problems.push(section.key("region"), message, hint);
    }
    check_range(
        raw.timeout_seconds,
        1..=3_600,
        &section.key("timeout_seconds"),
        problems,
    );
    check_range(
        raw.max_retries,
        0..=100,
        &section.key("max_retries"),
        problems,
    );
    S3 {
        endpoint: endpoint.map(|endpoint| endpoint.trim_end_matches('/').to_string()),
        region: region.map(String::from),
        path_style: raw.path_style,
        allow_http: raw.allow_http,
        profile: given(&raw.profile).map(String::from),
        keys: keys(raw, &section, problems),
        timeout: Duration::from_secs(u64::from(raw.timeout_seconds)),
        max_retries: raw.max_retries,
    }
}

fn check_endpoint(endpoint: &str, allow_http: bool, section: &YamlPath, problems: &mut Problems) {
    let path = section.key("endpoint");
    let example = "https://s3.example.com";
    let instead_of_user = "give them as `access_key_id` and `secret_access_key`";
    let address = places::check_web_address(endpoint, example, instead_of_user, &path, problems);
    let is_unencrypted = address.is_some_and(|address| !address.is_encrypted);
    if is_unencrypted && !allow_http && !problems.is_silenced(&section.key("allow_http")) {
        let message = format!("the endpoint `{}` is not encrypted", show(endpoint));
        let hint = "write `https://…`, or add `allow_http: true`".to_string();
        problems.push(path, message, hint);
    }
}

fn is_region(region: &str) -> bool {
    region
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// Which keys and profile go together. Problems stand at the section: at the keys themselves nothing is shown.
fn keys(raw: &RawS3, section: &YamlPath, problems: &mut Problems) -> Option<S3Keys> {
    let id = given(&raw.access_key_id);
    let secret = given(&raw.secret_access_key);
    let token = given(&raw.session_token);
    // One that was reported under another name, or whose variable is not set, is there all the same.
    let is_there =
        |key: &str, value: Option<&str>| value.is_some() || problems.is_silenced(&section.key(key));
    let has_id = is_there("access_key_id", id);
    let has_secret = is_there("secret_access_key", secret);
    let has_token = is_there("session_token", token);
    let has_profile = is_there("profile", given(&raw.profile));
    let missing = match (has_id, has_secret) {
        (true, false) => Some(("access_key_id", "secret_access_key")),
        (false, true) => Some(("secret_access_key", "access_key_id")),
        (true, true) | (false, false) => None,
    };
    if let Some((there, missing)) = missing {
        let hint = "give both, or neither to take the environment's".to_string();
        let message = format!("`{there}` is given without `{missing}`");
        problems.push(section, message, hint);
    } else if has_token && !has_id {
        let hint = "give all three, or none to take the environment's".to_string();
        let message = "`session_token` is given without `access_key_id` and `secret_access_key`";
        problems.push(section, message, hint);
    }
    if has_profile && has_id {
        let hint = "keep the profile or the keys".to_string();
        problems.push(
            section.key("profile"),
            "`profile` and `access_key_id` are both there",
            hint,
        );
    }
    Some(S3Keys {
        access_key_id: id?.to_string(),
        secret_access_key: secret?.to_string(),
        session_token: token.map(String::from),
    })
}
