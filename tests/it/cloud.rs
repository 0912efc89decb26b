//! A small company whose inputs and results lie in a bucket, behind a proxy on which one can have things go wrong.

use crate::s3::{Proxy, Server};
use crate::support::{Ran, published_files, temp_folder};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

pub use crate::project::{ACCOUNTS, RUN, SUBSCRIPTIONS};

/// January to March are complete.
pub const AS_OF: &str = "--as-of 2024-04-01T00:00:00+09:00";
/// The server takes any keys.
pub const ANY_KEYS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "AKIAANYBODY"),
    ("AWS_SECRET_ACCESS_KEY", "any-secret"),
];

/// A bucket of its own on the shared server, and a folder to run in.
pub struct Cloud {
    pub server: &'static Server,
    pub bucket: String,
    pub proxy: Proxy,
    pub folder: TempDir,
}

impl Cloud {
    /// Accounts and subscriptions below `in/`; results go to `out/`.
    #[track_caller]
    pub fn new() -> Self {
        let server = Server::shared();
        let bucket = server.new_bucket();
        let cloud = Self {
            proxy: Proxy::start(server),
            folder: temp_folder(),
            server,
            bucket,
        };
        cloud.put("in/accounts.csv", ACCOUNTS);
        cloud.put("in/subscriptions.csv", SUBSCRIPTIONS);
        cloud.pipeline("", "");
        cloud
    }

    /// `s3://` and the key in our bucket.
    pub fn url(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket)
    }

    #[track_caller]
    pub fn put(&self, key: &str, text: &str) {
        self.server.put(&self.bucket, key, text.as_bytes());
    }

    /// How the proxy is reached: few and short retries.
    pub fn s3(&self) -> String {
        format!(
            "endpoint: {}, allow_http: true, timeout_seconds: 1, max_retries: 3",
            self.proxy.url()
        )
    }

    /// The pipeline with one part replaced.
    pub fn pipeline(&self, part: &str, replacement: &str) {
        let text = pipeline(&self.url("in"), &self.url("out"), &self.s3());
        assert!(text.contains(part), "{part}");
        let text = text.replacen(part, replacement, usize::from(!part.is_empty()));
        fs::write(self.folder.path().join("pipeline.yaml"), text).unwrap();
    }

    /// Replaces a part of the pipeline as it stands now.
    pub fn also(&self, part: &str, replacement: &str) {
        let file = self.folder.path().join("pipeline.yaml");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(part), "{part}");
        fs::write(file, text.replacen(part, replacement, 1)).unwrap();
    }

    pub fn run(&self, command_line: &str) -> Ran {
        run(self.folder.path(), &ANY_KEYS, command_line)
    }

    /// What is published below a prefix: tables, but not those about runs, and not the program's own.
    pub fn published(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let folder = temp_folder();
        self.server
            .download_tree(&self.bucket, prefix, folder.path());
        published_files(folder.path())
    }

    /// Requests since the last look, as method and path.
    pub fn requests(&self) -> Vec<(String, String)> {
        let log = self.proxy.log();
        self.proxy.clear_log();
        let text = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
        log.iter()
            .map(|entry| (text(entry, "method"), text(entry, "path")))
            .collect()
    }

    /// Nothing of a run that is over stays but what it published and its results.
    #[track_caller]
    pub fn is_tidy(&self) {
        for folder in ["staging", "journal", "probe"] {
            let left = self
                .server
                .list(&self.bucket, &format!("out/_cskpi/{folder}/"));
            assert_eq!(left, [], "stays behind");
        }
    }
}

pub fn pipeline(inputs: &str, root: &str, s3: &str) -> String {
    format!(
        "\
version: 1
name: small
currency: JPY
calendar: {{time_zone: Asia/Tokyo, begin: 2024-01-01}}
sources:
  accounts: {{path: {inputs}/accounts.csv}}
  subscriptions: {{path: {inputs}/subscriptions.csv}}
policy: {{gross_margin: 0.8}}
outputs: {{root: {root}}}
s3: {{{s3}}}
"
    )
}

/// Runs the program with these variables and none of the machine's own credentials.
pub fn run(folder: &Path, variables: &[(&str, &str)], command_line: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cskpi"));
    command.args(command_line.split_whitespace());
    ran(&mut command, folder, variables)
}

/// The same for another program.
pub fn ran(command: &mut Command, folder: &Path, variables: &[(&str, &str)]) -> Ran {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    let output = command
        .env_remove("CSKPI_LOG")
        .env("HOME", folder)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs(variables.iter().copied())
        .current_dir(folder)
        .output()
        .unwrap();
    Ran::of(output)
}

/// Stands for the DNS of S3: an HTTP proxy that takes `http://BUCKET.s3.test/KEY` to `/BUCKET/KEY` of a server.
pub struct Gateway {
    pub url: String,
    pub seen: Arc<Mutex<Vec<Seen>>>,
}

#[derive(Clone)]
pub struct Seen {
    pub host: String,
    pub path: String,
    pub authorization: String,
}

impl Gateway {
    pub fn start(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let upstream = server.url().strip_prefix("http://").unwrap().to_owned();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let all = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (upstream, all) = (upstream.clone(), Arc::clone(&all));
                std::thread::spawn(move || pass_on(stream.unwrap(), &upstream, &all));
            }
        });
        Self { url, seen }
    }
}

/// One request of a connection, which is closed after its answer.
fn pass_on(stream: TcpStream, upstream: &str, all: &Mutex<Vec<Seen>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let (method, rest) = first.split_once(" http://")?;
    let (host, rest) = rest.split_once('/')?;
    let (path, _) = rest.split_once(" HTTP/")?;
    let mut seen = Seen {
        host: host.to_owned(),
        path: format!("/{path}"),
        authorization: String::new(),
    };
    let bucket = host.split('.').next()?;
    let mut head = format!("{method} /{bucket}/{path} HTTP/1.1\r\nConnection: close\r\n");
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let (name, value) = line.trim().split_once(": ").unwrap_or((line.trim(), ""));
        match name.to_ascii_lowercase().as_str() {
            "" => break,
            "connection" | "proxy-connection" => continue,
            "content-length" => length = value.parse().ok()?,
            "authorization" => seen.authorization = value.to_owned(),
            _ => {}
        }
        head.push_str(&format!("{}\r\n", line.trim()));
    }
    all.lock().ok()?.push(seen);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut server = TcpStream::connect(upstream).ok()?;
    server.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    server.write_all(&body).ok()?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).ok()?;
    let mut stream = stream;
    stream.write_all(&answer).ok()
}
