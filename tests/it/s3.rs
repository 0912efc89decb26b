//! An S3 server on this machine, faults on the way to it, and keys that expire: the scripts of `tests/s3`, started here.
//!
//! Each runs on a port of 127.0.0.1 that the system chooses and ends with the value that stands for it, or with this process.
//! [`Server::shared`] is one for all tests, each with a bucket of its own.

mod tests;

use crate::python;
use crate::support::files_below;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

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
