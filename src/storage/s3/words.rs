//! What S3 says, in words: which error it is, what was refused, and why.

use crate::storage::StorageError;
use object_store::Error;

/// With these codes a store says that it does not know us, or that we may not.
const REFUSALS: [&str; 6] = [
    "AccessDenied",
    "AuthorizationHeaderMalformed",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "ExpiredToken",
];
const EXPIRED: [&str; 3] = ["ExpiredToken", "TokenRefreshRequired", "RequestExpired"];

pub(super) fn is_not_found(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref::<Error>(), Some(Error::NotFound { .. }))
}

/// What the store said, in words: bucket, key, and what was refused.
pub(super) fn explained(action: &'static str, path: String, error: Error) -> StorageError {
    let text = said(&error);
    let code = between(&text, "<Code>", "</Code>").unwrap_or_default();
    if code == "NoSuchBucket" {
        let bucket = path
            .trim_start_matches("s3://")
            .split('/')
            .next()
            .unwrap_or_default();
        return StorageError::NoBucket {
            bucket: bucket.to_owned(),
        };
    }
    match &error {
        Error::AlreadyExists { .. } | Error::Precondition { .. } => StorageError::Conflict { path },
        Error::NotFound { .. } => StorageError::Failed {
            action,
            path,
            source: error.into(),
        },
        _ if is_refusal(&error, &text, code) => StorageError::Refused {
            action,
            path,
            reason: reason(&error),
        },
        _ => StorageError::Failed {
            action,
            path,
            source: reason(&error).into(),
        },
    }
}

/// Listings and parts are refused without a type of error of their own.
pub(super) fn is_refusal(error: &Error, text: &str, code: &str) -> bool {
    let is_typed = matches!(
        error,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. }
    );
    is_typed
        || REFUSALS.contains(&code)
        || ["401", "403"].contains(&status(text).split(' ').next().unwrap_or_default())
}

/// The answer to HEAD has no body that could say so.
pub(super) fn is_expired(text: &str) -> bool {
    let is_silent = status(text).starts_with("400") && !text.contains("<Code>");
    is_silent || EXPIRED.iter().any(|code| text.contains(code))
}

/// `403 Forbidden`, as the client quotes it.
pub(super) fn status(text: &str) -> &str {
    let rest = text.split_once("status code: ").map(|(_, rest)| rest);
    rest.and_then(|rest| rest.split([':', '\n']).next())
        .unwrap_or_default()
        .trim()
}

/// What the store said, or what became of the connection, without how the client came by it.
pub(super) fn reason(error: &Error) -> String {
    let text = said(error);
    if let Some(code) = between(&text, "<Code>", "</Code>") {
        let message = between(&text, "<Message>", "</Message>").unwrap_or_default();
        return unescaped(format!("{code}: {message}").trim_end_matches(": "));
    }
    if !status(&text).is_empty() {
        return status(&text).to_owned();
    }
    let mut causes = vec![error.to_string()];
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Most errors quote their cause.
        if causes.last().is_some_and(|last| last.contains(&cause_text)) {
            causes.pop();
        }
        causes.push(cause_text);
        source = cause.source();
    }
    causes.join(": ")
}

/// All that an error and its causes say.
pub(super) fn said(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!("\n{cause}"));
        source = cause.source();
    }
    text
}

pub(super) fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(open)?;
    rest.split_once(close).map(|(inner, _)| inner)
}

pub(super) fn unescaped(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">");
    text.replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

/// Percent-encodes all that a signature would.
pub(super) fn encoded(text: impl AsRef<str>) -> String {
    text.as_ref()
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
