//! Credentials: where they come from, that they are the same for our own requests and for polars' scans, what is said when
//! they are refused, and that no secret is ever shown.
//!
//! The server checks signatures and rights; its user may do all in the bucket `mine`.

use crate::cloud::{self, RUN};
use crate::s3::{CredentialServer, Key, Proxy, Server};
use crate::support::{Ran, assert_refused, temp_folder};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::sync::OnceLock;
use tempfile::TempDir;

const BUCKET: &str = "mine";
/// Rights end here.
const THEIRS: &str = "theirs";

/// One server for all of these tests, each with a folder of its own in the bucket.
fn guarded() -> &'static (Server, Key) {
    static GUARDED: OnceLock<(Server, Key)> = OnceLock::new();
    GUARDED.get_or_init(|| {
        let (server, key) = Server::with_iam(BUCKET);
        server
            .request("PUT", &format!("/{THEIRS}"), &[], b"")
            .succeeded();
        (server, key)
    })
}

struct Guarded {
    server: &'static Server,
    key: &'static Key,
    proxy: Proxy,
    /// Of the test, in the bucket.
    prefix: String,
    folder: TempDir,
}

impl Guarded {
    #[track_caller]
    fn new(prefix: &str) -> Self {
        let (server, key) = guarded();
        for bucket in [BUCKET, THEIRS] {
            let put = |file: &str, text: &str| {
                server.put(bucket, &format!("{prefix}/in/{file}"), text.as_bytes())
            };
            put("accounts.csv", cloud::ACCOUNTS);
            put("subscriptions.csv", cloud::SUBSCRIPTIONS);
        }
        let guarded = Self {
            proxy: Proxy::start(server),
            prefix: prefix.to_owned(),
            folder: temp_folder(),
            server,
            key,
        };
        guarded.pipeline(BUCKET, BUCKET, "");
        guarded
    }

    fn pipeline(&self, from: &str, to: &str, settings: &str) {
        let (prefix, proxy) = (&self.prefix, self.proxy.url());
        let text = cloud::pipeline(
            &format!("s3://{from}/{prefix}/in"),
            &format!("s3://{to}/{prefix}/out"),
            &format!(
                "endpoint: {proxy}, allow_http: true, timeout_seconds: 5, max_retries: 1{settings}"
            ),
        );
        self.file("pipeline.yaml", &text);
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn run(&self, variables: &[(&str, &str)]) -> Ran {
        let command = format!("{RUN} --reprocess all");
        cloud::run(self.folder.path(), variables, &command)
    }

    fn in_environment(&self) -> [(&'static str, &'static str); 2] {
        [
            ("AWS_ACCESS_KEY_ID", &self.key.id),
            ("AWS_SECRET_ACCESS_KEY", &self.key.secret),
        ]
    }

    /// A run that reads and publishes, after which nothing was asked for with any other key.
    #[track_caller]
    fn works_with(&self, variables: &[(&str, &str)]) -> BTreeSet<String> {
        self.proxy.clear_log();
        let ran = self.run(variables).succeeded();
        assert!(ran.stdout.starts_with("1 periods: "), "{}", ran.stdout);
        let log = self.proxy.log();
        let is_scan = |entry: &&Value| {
            entry["method"] == "GET" && entry["path"].as_str().unwrap().contains("/in/")
        };
        assert!(log.iter().filter(is_scan).count() >= 2, "polars has read");
        let keys = log
            .iter()
            .map(|entry| entry["key"].as_str().unwrap().to_owned());
        keys.collect()
    }

    /// A run with the server's own key, and no other.
    #[track_caller]
    fn finds_its_key(&self, variables: &[(&str, &str)]) {
        assert_eq!(
            self.works_with(variables),
            BTreeSet::from([self.key.id.clone()])
        );
    }

    #[track_caller]
    fn refuses(&self, variables: &[(&str, &str)], messages: &[&str]) {
        let ran = self.run(variables);
        assert_refused(&ran, 1, messages);
        assert!(!ran.stderr.contains(&self.key.secret));
        // The store's answer is put into words, not printed.
        assert!(!ran.stderr.contains('<'), "{}", ran.stderr);
    }
}

/// Wherever they stand, they serve our own requests and polars' scans.
#[test]
fn credentials_are_found_wherever_aws_tools_look() {
    let guarded = Guarded::new("found");
    let (id, secret) = (&guarded.key.id, &guarded.key.secret);
    let keys = format!("aws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    let wrong = "aws_access_key_id = AKIAWRONG\naws_secret_access_key = wrong\n";
    let wrong_keys = [
        ("AWS_ACCESS_KEY_ID", "AKIAWRONG"),
        ("AWS_SECRET_ACCESS_KEY", "wrong"),
    ];

    guarded.finds_its_key(&guarded.in_environment());

    guarded.file(
        ".aws/credentials",
        &format!("[default]\n{wrong}\n[work]\n{keys}"),
    );
    guarded.finds_its_key(&[("AWS_PROFILE", "work")]);

    let nowhere = ("HOME", "/nowhere");
    let credentials = guarded.file("elsewhere/credentials", &format!("[work]\n{keys}"));
    let config = guarded.file("elsewhere/config", &format!("[profile work]\n{keys}"));
    let shared = ("AWS_SHARED_CREDENTIALS_FILE", credentials.as_str());
    guarded.finds_its_key(&[nowhere, ("AWS_PROFILE", "work"), shared]);
    let config = ("AWS_CONFIG_FILE", config.as_str());
    guarded.finds_its_key(&[nowhere, ("AWS_PROFILE", "work"), config]);

    // What the pipeline names comes before what happens to stand in the environment.
    guarded.pipeline(BUCKET, BUCKET, ", profile: work");
    guarded.finds_its_key(&[wrong_keys[0], wrong_keys[1], ("AWS_PROFILE", "default")]);
    guarded.pipeline(
        BUCKET,
        BUCKET,
        ", access_key_id: '${MY_ID}', secret_access_key: '${MY_SECRET}'",
    );
    let named = [("MY_ID", id.as_str()), ("MY_SECRET", secret.as_str())];
    guarded.finds_its_key(&[wrong_keys[0], wrong_keys[1], named[0], named[1]]);
}

#[test]
fn roles_of_containers_and_instances_give_credentials() {
    let guarded = Guarded::new("roles");
    let keys = CredentialServer::start(3600, Some(guarded.server));
    let container = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", keys.ecs())];
    let instance = [
        ("AWS_EC2_METADATA_DISABLED", "false".to_owned()),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", keys.imds()),
    ];
    for (variables, place) in [(&container[..], "ecs"), (&instance[..], "imds")] {
        let variables: Vec<(&str, &str)> = variables
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let used = guarded.works_with(&variables);
        assert_eq!(used.len(), 1, "{used:?}");
        assert!(used.first().unwrap().starts_with("ASIA"));
        // Fetched once, not for every request.
        assert_eq!(keys.count(place), 1);
    }
}

/// Every request takes a while, so that the first keys are long expired when polars reads, and those again when the run publishes.
#[test]
fn credentials_that_expire_during_a_run_are_renewed() {
    let guarded = Guarded::new("renewed");
    let keys = CredentialServer::start(3, Some(guarded.server));
    let container = keys.ecs();
    guarded
        .proxy
        .fault(json!({"action": "delay", "seconds": 0.2}));
    let used = guarded.works_with(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &container)]);
    assert!(used.len() >= 3, "{used:?}");

    let log = guarded.proxy.log();
    assert!(
        log.iter()
            .all(|entry| entry["status"].as_u64().unwrap() < 500)
    );
    let key_of = |method: &str, part: &str| {
        let is_it = |entry: &&Value| {
            entry["method"] == method && entry["path"].as_str().unwrap().contains(part)
        };
        log.iter().rfind(is_it).unwrap()["key"].clone()
    };
    let (listed, scanned) = (
        key_of("PUT", "/probe/"),
        key_of("GET", "/in/subscriptions.csv"),
    );
    let published = key_of("PUT", "/out/runs/");
    assert_ne!(listed, scanned);
    assert_ne!(scanned, published);
}

/// A store may know better than we when a key expires; its answer to HEAD cannot say so in words.
#[test]
fn keys_that_the_store_calls_expired_are_fetched_anew() {
    let guarded = Guarded::new("expired");
    let keys = CredentialServer::start(3600, Some(guarded.server));
    let container = keys.ecs();
    let expired = |method: &str, path: &str| {
        json!({
            "action": "status", "method": method, "path": path, "times": 1,
            "status": 400, "code": "ExpiredToken", "message": "The provided token has expired.",
        })
    };
    guarded.proxy.faults(json!([
        expired("HEAD", "/in/accounts.csv"),
        expired("GET", "list-type"),
        expired("PUT", "/out/kpi_values/"),
    ]));
    let used = guarded.works_with(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &container)]);
    assert_eq!(used.len(), 4, "{used:?}");
}

#[test]
fn a_refusal_names_bucket_key_and_what_was_refused() {
    let guarded = Guarded::new("refused");
    let keys = guarded.in_environment();
    let hint = "help: check the credentials (s3.profile, AWS_PROFILE, AWS_ACCESS_KEY_ID, the instance's role) and what they may do: s3:ListBucket";
    let source = "error: source accounts";
    let input = "caused by: reading s3://mine/refused/in/accounts.csv was refused: ";

    let wrong_secret = [keys[0], ("AWS_SECRET_ACCESS_KEY", "wrong")];
    let reason =
        format!("{input}SignatureDoesNotMatch: The request signature we calculated does not match");
    guarded.refuses(&wrong_secret, &[source, &reason, hint]);
    let unknown_key = [("AWS_ACCESS_KEY_ID", "AKIANOBODY"), keys[1]];
    let reason =
        format!("{input}InvalidAccessKeyId: The AWS Access Key Id you provided does not exist");
    guarded.refuses(&unknown_key, &[source, &reason, hint]);

    guarded.pipeline(THEIRS, BUCKET, "");
    let denied = "caused by: reading s3://theirs/refused/in/accounts.csv was refused: AccessDenied: Access Denied";
    guarded.refuses(&keys, &[source, denied, hint]);
    guarded.pipeline(BUCKET, THEIRS, "");
    let denied = [
        "error: writing s3://theirs/refused/out/_cskpi/probe/",
        " was refused: AccessDenied: Access Denied",
        hint,
    ];
    guarded.refuses(&keys, &denied);

    // Of a listing, too.
    let text = fs::read_to_string(guarded.folder.path().join("pipeline.yaml")).unwrap();
    guarded.file(
        "pipeline.yaml",
        &text.replace("mine/refused/in/accounts", "theirs/refused/in/a*"),
    );
    let denied =
        "caused by: listing s3://theirs/refused/in was refused: AccessDenied: Access Denied";
    guarded.refuses(&keys, &[source, denied, hint]);

    assert_eq!(guarded.server.list(THEIRS, "refused/out"), []);
}

/// Outside of a cloud nobody answers at the address of its credentials, or something else does that keeps silent.
#[test]
fn without_credentials_a_run_ends_soon_and_says_where_it_looked() {
    let guarded = Guarded::new("nowhere");
    let none = "caused by: reading s3://mine/nowhere/in/accounts.csv was refused: no S3 credentials: none in the pipeline \
                (s3.access_key_id), the environment, a profile or an instance role";
    let hint = "help: check the credentials";
    guarded.refuses(&[], &["error: source accounts", none, hint]);
    let nobody = "http://127.0.0.1:1";
    guarded.refuses(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", nobody)], &[none]);

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let instance = [
        ("AWS_EC2_METADATA_DISABLED", "false"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", silent.as_str()),
    ];
    guarded.refuses(&instance, &[none]);

    guarded.pipeline(BUCKET, BUCKET, ", profile: nosuch");
    let named = "no S3 credentials: none in the profile `nosuch` (s3.profile), and no role";
    guarded.refuses(&guarded.in_environment(), &[named, hint]);
}

/// Neither what people see nor what is written holds a secret or a token, however much is logged and however the run ends.
#[test]
fn no_secret_is_ever_shown() {
    let guarded = Guarded::new("silent");
    let session = guarded
        .server
        .request("POST", "/__session__?seconds=3600", &[], b"")
        .succeeded();
    let session: Value = serde_json::from_str(&session.text()).unwrap();
    let text = |name: &str| session[name].as_str().unwrap().to_owned();
    let (id, secret, token) = (text("AccessKeyId"), text("SecretAccessKey"), text("Token"));
    let variables = [
        ("MY_ID", id.as_str()),
        ("MY_SECRET", secret.as_str()),
        ("MY_TOKEN", token.as_str()),
    ];
    let settings = ", access_key_id: '${MY_ID}', secret_access_key: '${MY_SECRET}', session_token: '${MY_TOKEN}'";
    let secrets = [&secret[8..32], &token[8..32], &guarded.key.secret[8..32]];
    let check = |what: &str, text: &str| {
        for secret in secrets {
            assert!(!text.contains(secret), "{what} shows a secret");
        }
    };
    for to in [BUCKET, THEIRS] {
        for level in ["debug", "trace"] {
            guarded.pipeline(BUCKET, to, settings);
            let ran = guarded.run(&[&variables[..], &[("CSKPI_LOG", level)]].concat());
            assert_eq!(ran.code, i32::from(to == THEIRS), "{}", ran.stderr);
            assert!(ran.stderr.contains("DEBUG"));
            check("standard output", &ran.stdout);
            check("standard error", &ran.stderr);
        }
        // The same from the environment, refused and not.
        guarded.pipeline(BUCKET, to, "");
        let refused = [
            ("AWS_ACCESS_KEY_ID", id.as_str()),
            ("AWS_SECRET_ACCESS_KEY", secret.as_str()),
            ("AWS_SESSION_TOKEN", token.as_str()),
            ("CSKPI_LOG", "trace"),
        ];
        for variables in [&refused[..], &refused[1..]] {
            check("standard error", &guarded.run(variables).stderr);
        }
    }
    let written = guarded.server.list(BUCKET, "silent/out/");
    assert!(written.len() > 10);
    for (key, ..) in written {
        let content = guarded.server.get(BUCKET, &key).unwrap();
        check(&key, &String::from_utf8_lossy(&content));
    }
}
