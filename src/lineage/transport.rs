//! How events reach their receiver. Failures are logged, and that is all.

use crate::config::LineageTarget;
use crate::storage;
use serde_json::Value;
use std::time::Duration;

/// A receiver that does not answer must not hold up a run.
const PATIENCE: Duration = Duration::from_secs(5);

pub fn send(target: &LineageTarget, event: &Value) {
    let sent = match target {
        LineageTarget::File(path) => {
            storage::append_line(path, &event.to_string()).map_err(|error| error.to_string())
        }
        LineageTarget::Http { url, api_key } => posted(url, api_key.as_deref(), event),
    };
    if let Err(error) = sent {
        tracing::warn!(
            "the OpenLineage event {} was not received: {error}",
            event["eventType"]
        );
    }
}

fn posted(url: &str, api_key: Option<&str>, event: &Value) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let post = async {
        let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
        let request = client
            .post(url)
            .header("content-type", "application/json")
            .body(event.to_string());
        let request = match api_key {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        request.send().await?.error_for_status()
    };
    // The address may hold a secret.
    runtime
        .block_on(post)
        .map(|_| ())
        .map_err(|error| error.without_url().to_string())
}
