//! Where files may lie, and addresses of servers.

use crate::config::error::{Problems, YamlPath, show};

const SUPPORTED: &str = "only local paths and s3:// are supported";

/// Whether a path is an address and not a local path.
pub(super) fn is_remote(place: &str) -> bool {
    place.contains("://") || is_s3_without_slashes(place)
}

/// `s3:bucket/key` and `s3:/bucket/key`: a folder named `s3:` must not appear in the bucket's place.
fn is_s3_without_slashes(place: &str) -> bool {
    let scheme = place.get(..3).unwrap_or_default();
    scheme.eq_ignore_ascii_case("s3:") && !place[3..].starts_with("//")
}

/// Whether a place for files is a local path or one on S3; reports what is neither.
pub(super) fn check(place: &str, path: &YamlPath, problems: &mut Problems) -> bool {
    let mistake = match place.split_once("://") {
        Some(("s3", rest)) => s3_mistake(rest),
        Some((scheme, rest)) => Some((SUPPORTED, other_scheme_hint(scheme, rest))),
        None if is_s3_without_slashes(place) => {
            let rest = place[3..].trim_start_matches('/');
            Some((SUPPORTED, format!("write `s3://{}`", show(rest))))
        }
        None => None,
    };
    let is_fine = mistake.is_none();
    if let Some((message, hint)) = mistake {
        problems.push(path, message, hint);
    }
    is_fine
}

/// What is wrong with a path after `s3://`.
fn s3_mistake(rest: &str) -> Option<(&'static str, String)> {
    let bucket = rest.split('/').next().unwrap_or_default();
    if bucket.is_empty() {
        return Some(("the path names no bucket", "`s3://bucket/prefix`".into()));
    }
    if bucket.contains('@') {
        let hint = "keys belong into the section `s3`: `access_key_id` and `secret_access_key`";
        return Some(("a path holds no keys", hint.into()));
    }
    if bucket.contains(['*', '?', '[', '{']) {
        let hint = "wildcards stand after the bucket: `s3://bucket/prefix/*.parquet`";
        return Some(("a bucket's name holds no wildcards", hint.into()));
    }
    let is_name = bucket
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    let hint = "letters, digits, `.` and `-`; the store's address belongs into `s3.endpoint`";
    (!is_name).then(|| ("this is not a bucket's name", hint.into()))
}

fn other_scheme_hint(scheme: &str, rest: &str) -> String {
    match scheme.to_lowercase().as_str() {
        "s3" | "s3a" | "s3n" => format!("write `s3://{}`", show(rest)),
        "file" if rest.starts_with('/') => format!("leave `file://` out: `{}`", show(rest)),
        "http" | "https" => match s3_path_of_url(rest) {
            Some(place) => format!("write `{}`", show(&place)),
            None => "for an S3-compatible store write `s3://bucket/…`, and its address under `s3.endpoint`".into(),
        },
        "gs" | "gcs" | "az" | "azure" | "abfs" | "abfss" | "adl" | "wasb" | "wasbs" | "hdfs" => {
            "this store is not reached; use a local folder or S3".into()
        }
        _ => "write a local path, or `s3://bucket/…`".into(),
    }
}

/// `bucket.s3.ap-northeast-1.amazonaws.com/key` and `s3.ap-northeast-1.amazonaws.com/bucket/key` as `s3://bucket/key`.
fn s3_path_of_url(rest: &str) -> Option<String> {
    let (host, key) = rest.split_once('/').unwrap_or((rest, ""));
    if !host.ends_with(".amazonaws.com") || host.contains('@') || key.contains('?') {
        return None;
    }
    if host.starts_with("s3.") || host.starts_with("s3-") {
        return (!key.is_empty()).then(|| format!("s3://{key}"));
    }
    let end = host.rfind(".s3.").or_else(|| host.rfind(".s3-"))?;
    Some(format!("s3://{}/{key}", &host[..end]))
}

/// What is known of an address that passed [`check_web_address`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WebAddress {
    pub is_encrypted: bool,
}

/// Whether a text is an address of the web; reports what is none. `instead_of_user` says where credentials belong.
pub(super) fn check_web_address(
    address: &str,
    example: &str,
    instead_of_user: &str,
    path: &YamlPath,
    problems: &mut Problems,
) -> Option<WebAddress> {
    let example = || format!("for example `{example}`");
    let (message, hint) = match address.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => {
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            if host.contains('@') {
                let message = "an address holds no user name or password".to_string();
                (message, instead_of_user.to_string())
            } else if host.is_empty() || host.starts_with(':') {
                (format!("`{}` names no host", show(address)), example())
            } else if address.contains(|c: char| c.is_whitespace() || c.is_control()) {
                let message = format!("`{}` holds a blank", show(address));
                (message, example())
            } else {
                let is_encrypted = scheme == "https";
                return Some(WebAddress { is_encrypted });
            }
        }
        scheme => {
            let is_host = scheme.is_none() && !address.contains(char::is_whitespace);
            let hint = match is_host {
                true => format!("did you mean `https://{}`?", show(address)),
                false => example(),
            };
            let message = format!(
                "expected an address that begins with `https://`, found `{}`",
                show(address)
            );
            (message, hint)
        }
    };
    problems.push(path, message, hint);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(place: &str) -> String {
        let mut problems = Problems::new("p.yaml");
        let is_fine = check(place, &YamlPath::keys(["path"]), &mut problems);
        assert_eq!(is_fine, problems.is_empty(), "{place}");
        problems.to_string()
    }

    #[test]
    fn local_paths_and_s3_are_fine() {
        for place in [
            "data/accounts.csv",
            "/data/*.csv",
            "C:/data/a.csv",
            "data/s3:x",
            "s3",
            "日本",
            "s3://b",
            "s3://my.bucket-1/",
            "s3://bucket/prefix/period=*/%Y/*.parquet",
        ] {
            assert_eq!(report(place), "no problems in p.yaml", "{place}");
        }
    }

    #[test]
    fn other_places_come_with_what_to_write() {
        for (place, hint) in [
            ("S3://b/k", "write `s3://b/k`"),
            ("s3a://b/k", "write `s3://b/k`"),
            ("s3:/b/k", "write `s3://b/k`"),
            ("s3:b/k", "write `s3://b/k`"),
            ("file:///data/a.csv", "leave `file://` out: `/data/a.csv`"),
            (
                "https://b.s3.ap-northeast-1.amazonaws.com/k/a.csv",
                "write `s3://b/k/a.csv`",
            ),
            (
                "https://s3.ap-northeast-1.amazonaws.com/b/k",
                "write `s3://b/k`",
            ),
            ("https://example.com/a.csv", "`s3.endpoint`"),
            ("gs://b/k", "use a local folder or S3"),
            ("sftp://h/k", "write a local path"),
        ] {
            let report = report(place);
            assert!(report.contains(SUPPORTED), "{report}");
            assert!(report.contains(hint), "{report}");
        }
    }

    #[test]
    fn buckets_have_names() {
        for place in ["s3://", "s3:///key"] {
            assert!(report(place).contains("names no bucket"), "{place}");
        }
        assert!(report("s3://AKIA:secret@b/k").contains("a path holds no keys"));
        assert!(report("s3://b-*/k").contains("holds no wildcards"));
        assert!(report("s3://localhost:9000/b").contains("`s3.endpoint`"));
    }
}
