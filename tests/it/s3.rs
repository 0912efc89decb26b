//! An S3 server on this machine, faults on the way to it, and keys that expire: the scripts of `tests/s3`, started here.
//!
//! Each runs on a port of 127.0.0.1 that the system chooses and ends with the value that stands for it, or with this process.
//! [`Server::shared`] is one for all tests, each with a bucket of its own.

use crate::python;
use crate::support::{files_below, temp_folder};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

// ── processes ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A server script. It ends when its standard input is closed, so it cannot outlive us.
pub struct Script {
    child: Child,
    pub port: u16,
    /// What it printed before `ready`.
    said: Vec<String>,
}

impl Script {
    #[track_caller]
    pub fn start(name: &str, arguments: &[&str]) -> Self {
        let mut child = python::command(name)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some(port) = line.strip_prefix("ready ") {
                let port = port.parse().unwrap();
                return Self { child, port, said };
            }
            said.push(line);
        }
        panic!("{name} {arguments:?} ended: {}", child.wait().unwrap());
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

// ── HTTP ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// A header by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(other, _)| other == name);
        found.next().map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert!(
            (200..300).contains(&self.status),
            "{} {}",
            self.status,
            self.text()
        );
        self
    }
}

/// One request on a connection of its own; an error if the connection ends before the answer does.
fn request(
    port: u16,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Reply> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut head = format!(
        "{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;

    let ended = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        line.strip_suffix("\r\n")
            .map(str::to_owned)
            .ok_or_else(ended)
    };
    let status_line = line()?;
    let status = status_line.split(' ').nth(1).unwrap().parse().unwrap();
    let mut headers = Vec::new();
    loop {
        let line = line()?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap();
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let reply = Reply {
        status,
        headers,
        body: Vec::new(),
    };
    let length: usize = match reply.header("content-length") {
        Some(length) if method != "HEAD" => length.parse().unwrap(),
        _ => 0,
    };
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Reply { body, ..reply })
}

/// What stands for a text in a path or a query.
fn encoded(text: &str, kept: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        let character = char::from(byte);
        if character.is_ascii_alphanumeric()
            || "-_.~".contains(character)
            || kept.contains(character)
        {
            encoded.push(character);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn target(bucket: &str, key: &str) -> String {
    format!("/{bucket}/{}", encoded(key, "/"))
}

/// The texts of all elements of a name in an XML text, in order.
fn elements(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let parts = xml.split(open.as_str()).skip(1);
    parts
        .map(|part| part.split(close.as_str()).next().unwrap())
        .map(|text| {
            let text = text.replace("&lt;", "<").replace("&gt;", ">");
            let text = text.replace("&quot;", "\"").replace("&#34;", "\"");
            text.replace("&#39;", "'").replace("&amp;", "&")
        })
        .collect()
}

// ── the server ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/// An access key and its secret.
pub struct Key {
    pub id: String,
    pub secret: String,
}

/// An S3 server, in memory. Its own methods need no key.
pub struct Server {
    script: Script,
}

impl Server {
    /// The server that tests share, each in a [`Server::new_bucket`].
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[]))
    }

    /// A server of one's own, that takes requests with any keys.
    #[track_caller]
    pub fn start(buckets: &[&str]) -> Self {
        let script = Script::start("s3/server.py", buckets);
        Self { script }
    }

    /// A server that checks signatures, and the key of a user with rights in this bucket only.
    #[track_caller]
    pub fn with_iam(bucket: &str) -> (Self, Key) {
        let script = Script::start("s3/server.py", &["--iam", bucket]);
        let words: Vec<&str> = script.said[0].split(' ').collect();
        let ["key", id, secret] = words[..] else {
            panic!("{words:?}")
        };
        let (id, secret) = (id.to_owned(), secret.to_owned());
        (Self { script }, Key { id, secret })
    }

    pub fn url(&self) -> String {
        url(self.script.port)
    }

    /// A bucket that no other test knows.
    #[track_caller]
    pub fn new_bucket(&self) -> String {
        static NUMBER: AtomicUsize = AtomicUsize::new(1);
        let bucket = format!("bucket-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.request("PUT", &format!("/{bucket}"), &[], b"")
            .succeeded();
        bucket
    }

    /// A request without a signature, from one who may do all.
    #[track_caller]
    pub fn request(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let mut all = vec![("x-test-owner", "yes")];
        all.extend(headers);
        request(self.script.port, method, target, &all, body).unwrap()
    }

    /// Writes an object; its ETag.
    #[track_caller]
    pub fn put(&self, bucket: &str, key: &str, content: &[u8]) -> String {
        let reply = self
            .request("PUT", &target(bucket, key), &[], content)
            .succeeded();
        reply.header("etag").unwrap().to_owned()
    }

    #[track_caller]
    pub fn get(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        let reply = self.request("GET", &target(bucket, key), &[], b"");
        (reply.status != 404).then(|| reply.succeeded().body)
    }

    #[track_caller]
    pub fn delete(&self, bucket: &str, key: &str) {
        self.request("DELETE", &target(bucket, key), &[], b"")
            .succeeded();
    }

    /// Key, size and ETag of every object whose key begins so, by key.
    #[track_caller]
    pub fn list(&self, bucket: &str, prefix: &str) -> Vec<(String, u64, String)> {
        let mut objects = Vec::new();
        let mut from = String::new();
        loop {
            let query = format!("/{bucket}?list-type=2&prefix={}{from}", encoded(prefix, ""));
            let page = self.request("GET", &query, &[], b"").succeeded().text();
            let keys = elements(&page, "Key").into_iter();
            let sizes = elements(&page, "Size").into_iter();
            let etags = elements(&page, "ETag").into_iter();
            let rows = keys.zip(sizes).zip(etags);
            objects.extend(rows.map(|((key, size), etag)| (key, size.parse().unwrap(), etag)));
            match &elements(&page, "NextContinuationToken")[..] {
                [token] => from = format!("&continuation-token={}", encoded(token, "")),
                _ => return objects,
            }
        }
    }

    /// Writes every file below a folder as an object: `prefix` and its path in the folder.
    #[track_caller]
    pub fn upload_tree(&self, folder: &Path, bucket: &str, prefix: &str) {
        for file in files_below(folder) {
            let content = fs::read(folder.join(&file)).unwrap();
            self.put(bucket, &format!("{prefix}{file}"), &content);
        }
    }

    /// Writes every object whose key begins with `prefix` as a file, its path in the folder being the rest of the key.
    #[track_caller]
    pub fn download_tree(&self, bucket: &str, prefix: &str, folder: &Path) {
        for (key, ..) in self.list(bucket, prefix) {
            let file = folder.join(&key[prefix.len()..]);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, self.get(bucket, &key).unwrap()).unwrap();
        }
    }
}

// ── the proxy ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A way to a server on which one can have things go wrong: `tests/s3/proxy.py` says which, and how a rule is written.
pub struct Proxy {
    script: Script,
}

impl Proxy {
    #[track_caller]
    pub fn start(server: &Server) -> Self {
        let script = Script::start("s3/proxy.py", &[&server.script.port.to_string()]);
        Self { script }
    }

    pub fn url(&self) -> String {
        url(self.script.port)
    }

    /// From now on these rules, a list, in the place of those before.
    #[track_caller]
    pub fn faults(&self, rules: Value) {
        self.own("POST", "/__faults__", rules.to_string().as_bytes());
    }

    /// From now on one rule.
    #[track_caller]
    pub fn fault(&self, rule: Value) {
        self.faults(json!([rule]));
    }

    /// The requests so far, in the order in which they came.
    #[track_caller]
    pub fn log(&self) -> Vec<Value> {
        serde_json::from_str(&self.own("GET", "/__log__", b"").text()).unwrap()
    }

    #[track_caller]
    pub fn clear_log(&self) {
        self.own("DELETE", "/__log__", b"");
    }

    #[track_caller]
    fn own(&self, method: &str, target: &str, body: &[u8]) -> Reply {
        request(self.script.port, method, target, &[], body)
            .unwrap()
            .succeeded()
    }
}

// ── keys that expire ────────────────────────────────────────────────────────────────────────────────────────────────────

/// The two places that a program in the cloud has its keys from.
pub struct CredentialServer {
    script: Script,
}

impl CredentialServer {
    /// Gives keys that are good for so many seconds. With a [`Server::with_iam`] they have the rights of its user, and it refuses them afterwards;
    /// without one they are made up: `TEST0001`, `TEST0002`, ...
    #[track_caller]
    pub fn start(seconds: u32, server: Option<&Server>) -> Self {
        let mut arguments = vec![seconds.to_string()];
        arguments.extend(server.map(|server| server.script.port.to_string()));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let script = Script::start("s3/credentials.py", &arguments);
        Self { script }
    }

    /// The value of `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
    pub fn ecs(&self) -> String {
        format!("{}/ecs", url(self.script.port))
    }

    /// The value of `AWS_EC2_METADATA_SERVICE_ENDPOINT`.
    pub fn imds(&self) -> String {
        url(self.script.port)
    }

    /// How many keys were given as `ecs` and as `imds`.
    #[track_caller]
    pub fn count(&self, place: &str) -> u64 {
        let reply = request(self.script.port, "GET", "/count", &[], b"").unwrap();
        let counts: Value = serde_json::from_str(&reply.succeeded().text()).unwrap();
        counts[place].as_u64().unwrap()
    }
}

// ── the tests ───────────────────────────────────────────────────────────────────────────────────────────────────────────

const NOTHING: &[(&str, &str)] = &[];
const IF_NEW: &[(&str, &str)] = &[("If-None-Match", "*")];

/// What the tests of the program rely on: conditions hold, also for writers at the same moment, and what was written is there.
#[test]
fn the_server_keeps_its_word() {
    let server = Server::shared();
    let bucket = server.new_bucket();
    let path = target(&bucket, "a/key");
    let put = |headers: &[(&str, &str)], content: &[u8]| {
        server.request("PUT", &path, headers, content).status
    };

    assert_eq!(put(&[("If-Match", "\"0\"")], b"zero"), 404);
    assert_eq!(put(IF_NEW, b"one"), 200);
    assert_eq!(put(IF_NEW, b"two"), 412);
    assert_eq!(put(&[("If-Match", "\"0\"")], b"two"), 412);
    assert_eq!(server.get(&bucket, "a/key").as_deref(), Some(&b"one"[..]));
    let etag = server.list(&bucket, "a/")[0].2.clone();
    assert_eq!(put(&[("If-Match", etag.as_str())], b"two"), 200);
    assert_eq!(put(&[("If-Match", etag.as_str())], b"three"), 412);
    assert_eq!(server.get(&bucket, "a/key").as_deref(), Some(&b"two"[..]));

    for round in 0..10 {
        let path = target(&bucket, &format!("race/{round}"));
        let winners: usize = std::thread::scope(|scope| {
            let put = || server.request("PUT", &path, IF_NEW, &[0; 10_000]).status;
            let writers: Vec<_> = (0..8).map(|_| scope.spawn(put)).collect();
            let statuses = writers.into_iter().map(|writer| writer.join().unwrap());
            statuses.filter(|status| *status == 200).count()
        });
        assert_eq!(winners, 1);
    }

    // More than one page, and all that a key may need to be written otherwise.
    let odd = "t/period=2024-01-31/<ä> & \"x+y\" 100%.parquet";
    let etag = server.put(&bucket, odd, b"content");
    let listed = server.list(&bucket, "t/period=2024-01-31/<");
    assert_eq!(listed, [(odd.to_owned(), 7, etag)]);
    for number in 0..1001 {
        server.put(&bucket, &format!("many/{number:04}"), b"");
    }
    let many: Vec<String> = server
        .list(&bucket, "many/")
        .into_iter()
        .map(|row| row.0)
        .collect();
    assert_eq!(many.len(), 1001);
    assert!(many.is_sorted());
    server.delete(&bucket, odd);
    assert_eq!(server.get(&bucket, odd), None);

    let (from, to) = (temp_folder(), temp_folder());
    fs::create_dir_all(from.path().join("t/period=2024-01-31")).unwrap();
    fs::write(from.path().join("t/period=2024-01-31/part-0.parquet"), b"1").unwrap();
    fs::write(from.path().join("x"), b"2").unwrap();
    server.upload_tree(from.path(), &bucket, "tree/");
    server.download_tree(&bucket, "tree/", to.path());
    assert_eq!(files_below(to.path()), files_below(from.path()));
    assert_eq!(fs::read(to.path().join("x")).unwrap(), b"2");
}

/// Every fault of the proxy, as a client sees it and as it is in the store.
#[test]
fn the_proxy_fails_as_it_is_told() {
    let server = Server::start(&["bucket"]);
    let proxy = Proxy::start(&server);
    let content = |key: &str| server.get("bucket", key);
    let ask = |method: &str, key: &str, headers: &[(&str, &str)]| {
        let body: &[u8] = if method == "PUT" { b"0123456789" } else { b"" };
        request(
            proxy.script.port,
            method,
            &target("bucket", key),
            headers,
            body,
        )
    };
    let status = |method: &str, key: &str| ask(method, key, NOTHING).map(|reply| reply.status).ok();

    assert!(proxy.url().ends_with(&proxy.script.port.to_string()));
    assert_eq!(status("PUT", "a"), Some(200));
    assert_eq!(ask("GET", "a", NOTHING).unwrap().body, b"0123456789");

    proxy.fault(json!({
        "action": "status", "method": "PUT", "path": "^/bucket/a$", "after": 1, "times": 1,
        "status": 503, "code": "SlowDown", "message": "Please reduce your request rate.",
    }));
    assert_eq!(status("PUT", "a"), Some(200));
    assert_eq!(status("PUT", "other"), Some(200));
    let reply = ask("PUT", "a", NOTHING).unwrap();
    assert_eq!(
        (reply.status, elements(&reply.text(), "Code")),
        (503, vec!["SlowDown".to_owned()])
    );
    assert_eq!(status("PUT", "a"), Some(200));

    proxy.fault(json!({"action": "drop_before"}));
    assert_eq!((status("PUT", "before"), content("before")), (None, None));

    proxy.fault(json!({"action": "hang", "seconds": 0.2}));
    let began = Instant::now();
    assert_eq!((status("PUT", "hangs"), content("hangs")), (None, None));
    assert!(began.elapsed() >= Duration::from_millis(200));

    proxy.fault(json!({"action": "drop_after", "method": "PUT"}));
    assert_eq!(status("PUT", "after"), None);
    assert_eq!(status("GET", "after"), Some(200));

    proxy.clear_log();
    proxy.fault(json!({"action": "cut", "method": "GET", "times": 1}));
    assert_eq!(status("GET", "a"), None);
    assert_eq!(status("GET", "a"), Some(200));
    let log = proxy.log();
    assert_eq!((&log[0]["out"], &log[1]["out"]), (&json!(5), &json!(10)));
    assert_eq!(
        (&log[0]["faults"], &log[1]["faults"]),
        (&json!(["cut"]), &json!([]))
    );

    proxy.faults(json!([
        {"action": "strip_conditions", "times": 1},
        {"action": "delay", "seconds": 0.2},
        {"action": "clock", "seconds": -86400},
    ]));
    let began = Instant::now();
    let reply = ask("PUT", "a", IF_NEW).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert_eq!(reply.status, 200);
    let today = server.request("HEAD", "/bucket/a", &[], b"");
    let yesterday = ask("HEAD", "a", NOTHING).unwrap();
    assert!(today.header("last-modified").is_some());
    assert_ne!(
        yesterday.header("last-modified"),
        today.header("last-modified")
    );
    assert_ne!(
        &yesterday.header("date").unwrap()[..16],
        &today.header("date").unwrap()[..16]
    );
    assert_eq!(ask("PUT", "a", IF_NEW).unwrap().status, 412);
}

/// Who may not is refused, and keys expire.
#[test]
fn the_server_with_keys_lets_in_who_may() {
    let (server, key) = Server::with_iam("mine");
    assert!(key.id.starts_with("AKIA") && key.secret.len() == 40);
    assert!(server.url().starts_with("http://127.0.0.1:"));
    server.put("mine", "seed", b"1");
    let unsigned = request(server.script.port, "GET", "/mine/seed", &[], b"").unwrap();
    assert_eq!(unsigned.status, 403);

    let keys = CredentialServer::start(60, Some(&server));
    let ecs = keys.ecs();
    let path = ecs.strip_prefix(&keys.imds()).unwrap();
    let given = request(keys.script.port, "GET", path, &[], b"")
        .unwrap()
        .succeeded();
    let given: Value = serde_json::from_str(&given.text()).unwrap();
    assert!(given["AccessKeyId"].as_str().unwrap().starts_with("ASIA"));
    assert_eq!((keys.count("ecs"), keys.count("imds")), (1, 0));
    assert_eq!(CredentialServer::start(60, None).count("ecs"), 0);
}
