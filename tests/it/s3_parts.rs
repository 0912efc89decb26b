//! Files too large for one request go up in parts. The last step carries the condition; what is left of an upload that was
//! never finished is cleared.

use crate::cloud::{self, ANY_KEYS, AS_OF, Cloud, RUN};
use crate::s3::Server;
use crate::support::{Ran, assert_same_bytes, cskpi, published_files, temp_folder};
use cskpi::config::{S3, S3Keys};
use cskpi::storage::{Condition, Storage, StorageError, Store};
use serde_json::json;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Above one request, and no multiple of a part.
const LARGE: usize = (18 << 20) + 12_345;

// ── the store itself ────────────────────────────────────────────────────────────────────────────────────────────────────

fn store(url: &str, bucket: &str) -> Arc<dyn Store> {
    let settings = S3 {
        endpoint: Some(url.to_owned()),
        region: None,
        path_style: None,
        allow_http: true,
        profile: None,
        keys: Some(S3Keys {
            access_key_id: ANY_KEYS[0].1.to_owned(),
            secret_access_key: ANY_KEYS[1].1.to_owned(),
            session_token: None,
        }),
        timeout: Duration::from_secs(20),
        max_retries: 2,
    };
    let nothing = |_: &str| None;
    let root = format!("s3://{bucket}/root");
    Storage::new(&settings, &nothing).store(&root).unwrap()
}

/// Bytes that a part in the wrong place would change.
fn large(seed: u8) -> Vec<u8> {
    let byte = |at: usize| (at % 251) as u8 ^ (at >> 16) as u8 ^ seed;
    (0..LARGE).map(byte).collect()
}

/// Keys of uploads that were begun and not finished.
fn unfinished(server: &Server, bucket: &str) -> Vec<String> {
    let text = server
        .request("GET", &format!("/{bucket}?uploads="), &[], b"")
        .succeeded()
        .text();
    let keys = text.split("<Key>").skip(1);
    keys.map(|rest| rest.split("</Key>").next().unwrap().to_owned())
        .collect()
}

#[test]
fn a_large_file_is_written_under_its_condition() {
    let cloud = Cloud::new();
    let store = store(&cloud.proxy.url(), &cloud.bucket);
    let key = "t/period=2024-02-01/a b+c=100%.parquet";
    let holds = |content: &[u8]| {
        assert!(store.read(key).unwrap().unwrap().0 == content);
        assert_eq!(
            unfinished(cloud.server, &cloud.bucket),
            Vec::<String>::new()
        );
    };
    let refused = |content: &[u8], condition: Condition| {
        let put = store.put(key, content, condition);
        assert!(matches!(put, Err(StorageError::Conflict { .. })), "{put:?}");
    };
    let (one, two, three) = (large(1), large(2), large(3));

    let first = store.put(key, &one, Condition::Absent).unwrap();
    let parts = cloud.requests();
    let parts = parts
        .iter()
        .filter(|(_, path)| path.contains("partNumber="));
    assert_eq!(parts.count(), 3);
    holds(&one);
    assert_eq!(store.entry(key).unwrap().unwrap().version, first);
    refused(&two, Condition::Absent);
    holds(&one);
    let second = store.put(key, &two, Condition::Matches(&first)).unwrap();
    holds(&two);
    refused(&three, Condition::Matches(&first));
    holds(&two);

    // The completion takes effect, its answer is lost: it is looked at what lies there.
    let complete = |action: &str, status: u16| match action {
        "status" => json!({
            "action": "status", "method": "POST", "path": "uploadId=", "times": 1,
            "status": status, "code": "SlowDown", "message": "slow",
        }),
        action => json!({"action": action, "method": "POST", "path": "uploadId=", "times": 1}),
    };
    cloud.proxy.fault(complete("drop_after", 0));
    let third = store.put(key, &three, Condition::Matches(&second)).unwrap();
    holds(&three);
    cloud.proxy.fault(complete("status", 503));
    let fourth = store.put(key, &one, Condition::Matches(&third)).unwrap();
    holds(&one);
    // A part that is lost on the way goes up again.
    cloud.proxy.fault(
        json!({"action": "drop_before", "method": "PUT", "path": "partNumber=2", "times": 1}),
    );
    store.put(key, &two, Condition::Matches(&fourth)).unwrap();
    holds(&two);
}

// ── the program, stopped at a step ──────────────────────────────────────────────────────────────────────────────────────

/// What happens to [`program`] at its step: SIGKILL, or a write by somebody else.
const STEP: &str = "multipart_uploaded";
const TIMES: &str = "CSKPI_TEST_KILLED_AT";
const RIVAL: &str = "CSKPI_TEST_RIVAL";
static SEEN: AtomicU32 = AtomicU32::new(0);

fn at_step(step: &str) {
    if step != STEP {
        return;
    }
    let seen = SEEN.fetch_add(1, Ordering::SeqCst) + 1;
    if std::env::var(TIMES).is_ok_and(|times| times == seen.to_string()) {
        let me = rustix::process::getpid();
        rustix::process::kill_process(me, rustix::process::Signal::KILL).unwrap();
    }
    if let Ok(rival) = std::env::var(RIVAL)
        && seen == 1
    {
        let (address, path) = rival.split_once('/').unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        let head = format!(
            "PUT /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: 5\r\n\r\nrival"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("200 OK"), "{answer}");
    }
}

/// No test: this binary as the program, with a listener at its steps. Does nothing unless it is asked to.
#[test]
fn program() {
    let asked = |name: &str| std::env::var(name).ok();
    if let Some(words) = asked("CSKPI_TEST_PROGRAM") {
        cskpi::fault::listen(at_step);
        let words = words.split_whitespace().map(Into::into);
        let code = cskpi::cli::exit_code(std::iter::once("cskpi".into()).chain(words));
        std::process::exit(code.into());
    }
    if let Some(place) = asked("CSKPI_TEST_PUT") {
        cskpi::fault::listen(at_step);
        let (url, bucket) = place.split_once(' ').unwrap();
        let put = store(url, bucket).put("key", &large(1), Condition::Absent);
        assert!(matches!(put, Err(StorageError::Conflict { .. })), "{put:?}");
    }
}

fn stopped(cloud: &Cloud, variables: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "s3_parts::program", "--nocapture"]);
    let variables = [&ANY_KEYS[..], variables].concat();
    cloud::ran(&mut command, cloud.folder.path(), &variables)
}

/// Between the last part and the completion somebody else writes the key: theirs stays.
#[test]
fn a_write_by_somebody_else_during_an_upload_is_not_overwritten() {
    let cloud = Cloud::new();
    let url = cloud.server.url();
    let place = format!("{url} {}", cloud.bucket);
    let rival = format!(
        "{}/{}/root/key",
        url.strip_prefix("http://").unwrap(),
        cloud.bucket
    );
    let ran = stopped(&cloud, &[("CSKPI_TEST_PUT", &place), (RIVAL, &rival)]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("1 passed"));
    let found = cloud.server.get(&cloud.bucket, "root/key").unwrap();
    assert_eq!(found, b"rival");
    assert_eq!(
        unfinished(cloud.server, &cloud.bucket),
        Vec::<String>::new()
    );
}

/// Accounts with names so long that tables of accounts are larger than one request.
fn long_names() -> (String, String) {
    let mut accounts = "account_id,signup_date\n".to_owned();
    let mut subscriptions = "subscription_id,account_id,started_at,ended_at,amount\n".to_owned();
    for number in 0..600 {
        let account = format!("{number:06}-{}", "顧客".repeat(5_000));
        accounts.push_str(&format!("{account},2024-01-05\n"));
        subscriptions.push_str(&format!(
            "s{number},{account},2024-01-10,,{}\n",
            1_000 + number
        ));
    }
    (accounts, subscriptions)
}

#[test]
fn an_upload_that_was_never_finished_is_cleared_by_the_next_run() {
    let (accounts, subscriptions) = long_names();
    let local = temp_folder();
    let write = |file: &str, text: &str| fs::write(local.path().join(file), text).unwrap();
    write("accounts.csv", &accounts);
    write("subscriptions.csv", &subscriptions);
    let settings = ", compression: uncompressed, tables: [account_period, kpi_values]}";
    let text = cloud::pipeline(".", "out", "").replace("out}", &format!("out{settings}"));
    write("pipeline.yaml", &text);
    cskpi(local.path(), RUN).succeeded();
    let expected = published_files(&local.path().join("out"));
    let is_large = |(_, bytes): &&(String, Vec<u8>)| bytes.len() > 16 << 20;
    assert_eq!(expected.iter().filter(is_large).count(), 1);

    let cloud = Cloud::new();
    cloud.put("in/accounts.csv", &accounts);
    cloud.put("in/subscriptions.csv", &subscriptions);
    cloud.pipeline("/out}", &format!("/out{settings}"));
    cloud.also("timeout_seconds: 1", "timeout_seconds: 20");
    // First when the file is staged, then when it is committed.
    for (times, place) in [("1", "out/_cskpi/staging/"), ("2", "out/account_period/")] {
        let ran = stopped(&cloud, &[("CSKPI_TEST_PROGRAM", RUN), (TIMES, times)]);
        assert_eq!(ran.code, -1, "{}{}", ran.stdout, ran.stderr);
        let left = unfinished(cloud.server, &cloud.bucket);
        assert!(left.len() == 1 && left[0].starts_with(place), "{left:?}");
        let found = cloud.published("out/");
        assert!(found.iter().all(|file| expected.contains(file)));
        assert!(
            !found
                .iter()
                .any(|(file, _)| file.starts_with("account_period/"))
        );
    }
    let ran = cloud.run(RUN).succeeded();
    assert!(
        ran.stderr.contains("finishing the period"),
        "{}",
        ran.stderr
    );
    assert_same_bytes(&cloud.published("out/"), &expected, "after two crashes");
    assert_eq!(
        unfinished(cloud.server, &cloud.bucket),
        Vec::<String>::new()
    );
    cloud.is_tidy();
    cloud.run("verify pipeline.yaml").succeeded();
    let plan =
        format!("plan pipeline.yaml --start 2024-02 --end 2024-03 --detailed-exitcode {AS_OF}");
    cloud.run(&plan).succeeded();
}
