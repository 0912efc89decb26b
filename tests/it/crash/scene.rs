//! A small company in three states of its inputs, and roots that hold what was published of the first.

mod checks;

use super::faulty::Running;
use crate::s3::Server;
use crate::support::{Ran, files_below, temp_folder};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub use checks::with_restatements_of;

/// January to March; January and February are closed.
pub const BACKFILL: &str = "backfill pipeline.yaml --as-of 2024-04-01T00:00:00+09:00 --output json";

const PIPELINE: &str = "\
version: 1
name: crash
currency: JPY
calendar: {time_zone: Asia/Tokyo, begin: 2024-01-01}
sources:
  accounts: {path: accounts.csv}
  subscriptions: {path: subscriptions.csv}
policy: {gross_margin: 0.8}
dimensions: {region: region}
close: {business_days: 5}
outputs: {root: \"${OUT}\", lock_expiry_seconds: \"${EXPIRY:-60}\"}
s3: {endpoint: \"${ENDPOINT:-http://127.0.0.1:9}\", allow_http: true, access_key_id: any, secret_access_key: any}
";
const ACCOUNTS: &str = "\
account_id,signup_date,region
acme,2023-12-05,north
bolt,2023-11-20,south
cine,2024-01-08,north
dune,2023-10-02,south
";

/// Which inputs lie there. Every step to the next one changes values of all three months.
#[derive(Debug, Clone, Copy)]
pub enum Inputs {
    Before,
    After,
    Later,
}

impl Inputs {
    const ALL: [Self; 3] = [Self::Before, Self::After, Self::Later];

    fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
            Self::Later => "later",
        }
    }

    fn subscriptions(self) -> String {
        let (acme, dune_ends) = match self {
            Self::Before => (10_000, "2024-02-10"),
            Self::After => (12_000, "2024-02-20"),
            Self::Later => (15_500, ""),
        };
        format!(
            "subscription_id,account_id,started_at,ended_at,amount\n\
             s1,acme,2023-12-10,,{acme}\ns2,bolt,2023-12-01,2024-03-10,5000\n\
             s3,cine,2024-01-10,,7000\ns4,dune,2023-11-01,{dune_ends},3000\n"
        )
    }
}

/// Files of a root by key.
pub type Files = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Disk,
    S3,
}

pub const BOTH: [Kind; 2] = [Kind::Disk, Kind::S3];

/// The company and its store.
pub struct Scene {
    folder: TempDir,
    server: Option<Arc<Server>>,
    number: AtomicUsize,
    /// What is published of the first inputs.
    before: Option<Root>,
}

/// A place to publish to.
pub struct Root {
    /// What stands in the pipeline: a path, or `s3://bucket/root`.
    pub url: String,
    /// The folder in which the folders of the inputs lie.
    work: PathBuf,
    place: Place,
}

enum Place {
    Disk(PathBuf),
    S3 {
        server: Arc<Server>,
        bucket: String,
        /// Where the program goes for it: the server itself, or a proxy.
        endpoint: String,
    },
}

impl Scene {
    pub fn new(kind: Kind) -> Self {
        let folder = temp_folder();
        for inputs in Inputs::ALL {
            let work = folder.path().join(inputs.name());
            fs::create_dir(&work).unwrap();
            fs::write(work.join("pipeline.yaml"), PIPELINE).unwrap();
            fs::write(work.join("subscriptions.csv"), inputs.subscriptions()).unwrap();
            // One file in all of them: it has not changed.
            let accounts = work.join("accounts.csv");
            match inputs {
                Inputs::Before => fs::write(accounts, ACCOUNTS).unwrap(),
                _ => fs::hard_link(folder.path().join("before/accounts.csv"), accounts).unwrap(),
            }
        }
        let mut scene = Self {
            folder,
            server: (kind == Kind::S3).then(|| Arc::new(Server::start(&[]))),
            number: AtomicUsize::new(0),
            before: None,
        };
        let before = scene.empty();
        before.cskpi(Inputs::Before, BACKFILL).succeeded();
        scene.before = Some(before);
        scene
    }

    pub fn server(&self) -> Option<&Server> {
        self.server.as_deref()
    }

    /// What is published of the first inputs. It stays as it is.
    pub fn before(&self) -> &Root {
        self.before.as_ref().unwrap()
    }

    fn empty(&self) -> Root {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let work = self.folder.path().to_owned();
        match &self.server {
            None => Root::on_disk(work.join(format!("root-{number}")), work),
            Some(server) => {
                let bucket = server.new_bucket();
                Root {
                    url: format!("s3://{bucket}/root"),
                    work,
                    place: Place::S3 {
                        server: Arc::clone(server),
                        bucket,
                        endpoint: server.url(),
                    },
                }
            }
        }
    }

    /// A new root that holds what [`Scene::before`] does.
    pub fn root(&self) -> Root {
        let root = self.empty();
        root.fill(self.before());
        root
    }

    /// The same in a folder on a disk of its own.
    pub fn root_at(&self, folder: &Path) -> Root {
        let root = Root::on_disk(folder.to_owned(), self.folder.path().to_owned());
        root.cskpi(Inputs::Before, BACKFILL).succeeded();
        root
    }

    /// A copy of that, on the same disk.
    pub fn root_beside(&self, folder: &Path, other: &Root) -> Root {
        let root = Root::on_disk(folder.to_owned(), self.folder.path().to_owned());
        root.fill(other);
        root
    }

    /// What an undisturbed run makes of it.
    pub fn undisturbed(&self, inputs: Inputs) -> Root {
        let root = self.root();
        root.cskpi(inputs, BACKFILL).succeeded();
        root
    }
}

impl Root {
    fn on_disk(folder: PathBuf, work: PathBuf) -> Self {
        Self {
            url: folder.to_str().unwrap().to_owned(),
            work,
            place: Place::Disk(folder),
        }
    }

    /// The same root, reached by another way.
    pub fn through(self, proxy: String) -> Self {
        let Place::S3 { server, bucket, .. } = self.place else {
            panic!("a disk has no proxy")
        };
        let endpoint = proxy;
        let place = Place::S3 {
            server,
            bucket,
            endpoint,
        };
        Self { place, ..self }
    }

    /// Files of the other root under their names here, and the same to whoever looks at version, size or time.
    fn fill(&self, other: &Self) {
        match (&self.place, &other.place) {
            (Place::Disk(here), Place::Disk(there)) => {
                let files = files_below(there);
                for file in files.iter().filter(|file| !file.ends_with("guard")) {
                    fs::create_dir_all(here.join(file).parent().unwrap()).unwrap();
                    fs::hard_link(there.join(file), here.join(file)).unwrap();
                }
            }
            _ => {
                for (key, bytes) in other.files() {
                    self.put(&key, &bytes);
                }
            }
        }
    }

    pub fn files(&self) -> Files {
        match &self.place {
            Place::Disk(folder) => {
                let files = files_below(folder).into_iter();
                files
                    .filter_map(|file| Some((file.clone(), fs::read(folder.join(file)).ok()?)))
                    .collect()
            }
            Place::S3 { server, bucket, .. } => {
                let listed = server.list(bucket, "root/").into_iter();
                listed
                    .filter_map(|(key, ..)| {
                        let bytes = server.get(bucket, &key)?;
                        Some((key["root/".len()..].to_owned(), bytes))
                    })
                    .collect()
            }
        }
    }

    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        match &self.place {
            Place::Disk(folder) => fs::read(folder.join(key)).ok(),
            Place::S3 { server, bucket, .. } => server.get(bucket, &format!("root/{key}")),
        }
    }

    pub fn put(&self, key: &str, bytes: &[u8]) {
        match &self.place {
            Place::Disk(folder) => {
                let path = folder.join(key);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                // Another root may have the same file under its own name.
                let _ = fs::remove_file(&path);
                fs::write(path, bytes).unwrap();
            }
            Place::S3 { server, bucket, .. } => {
                server.put(bucket, &format!("root/{key}"), bytes);
            }
        }
    }

    pub fn remove_folder(&self, folder: &str) {
        match &self.place {
            Place::Disk(root) => fs::remove_dir_all(root.join(folder)).unwrap(),
            Place::S3 { server, bucket, .. } => {
                for (key, ..) in server.list(bucket, &format!("root/{folder}/")) {
                    server.delete(bucket, &key);
                }
            }
        }
    }

    /// How `tests/readers/poll.py` names it.
    pub fn for_readers(&self) -> String {
        match &self.place {
            Place::Disk(_) => self.url.clone(),
            Place::S3 { server, bucket, .. } => format!("{}/{bucket}/root", server.url()),
        }
    }

    pub fn lock(&self) -> Value {
        serde_json::from_slice(&self.get("_cskpi/lock.json").unwrap()).unwrap()
    }

    /// Keeps all others from writing until it is dropped. S3 knows nothing of the kind.
    pub fn guard(&self) -> Option<File> {
        let Place::Disk(folder) = &self.place else {
            return None;
        };
        let file = File::options()
            .append(true)
            .create(true)
            .open(folder.join("_cskpi/guard"))
            .unwrap();
        file.lock().unwrap();
        Some(file)
    }

    fn variables(&self) -> Vec<(String, String)> {
        let mut variables = vec![("OUT".to_owned(), self.url.clone())];
        if let Place::S3 { endpoint, .. } = &self.place {
            variables.push(("ENDPOINT".to_owned(), endpoint.clone()));
        }
        variables
    }

    pub fn cskpi(&self, inputs: Inputs, command: &str) -> Ran {
        self.start(inputs, command).ended()
    }

    pub fn start(&self, inputs: Inputs, command: &str) -> Running {
        self.start_with(inputs, command, &[])
    }

    pub fn start_with(&self, inputs: Inputs, command: &str, more: &[(&str, &str)]) -> Running {
        let mut variables = self.variables();
        variables.extend(
            more.iter()
                .map(|(name, value)| (name.to_string(), value.to_string())),
        );
        Running::start(&self.work.join(inputs.name()), &variables, command)
    }

    /// A backfill that meets a fault.
    pub fn faulty(&self, inputs: Inputs, fault: &str) -> Running {
        self.faulty_with(inputs, fault, &[])
    }

    pub fn faulty_with(&self, inputs: Inputs, fault: &str, more: &[(&str, &str)]) -> Running {
        let mut variables = self.variables();
        variables.extend(
            more.iter()
                .map(|(name, value)| (name.to_string(), value.to_string())),
        );
        Running::faulty(&self.work.join(inputs.name()), &variables, BACKFILL, fault)
    }

    /// A backfill that may have to wait for a lock to expire.
    pub fn cskpi_after_expiry(&self, inputs: Inputs) -> Ran {
        let began = Instant::now();
        loop {
            let ran = self.cskpi(inputs, BACKFILL);
            if ran.code != 75 || began.elapsed() > super::faulty::PATIENCE {
                return ran.succeeded();
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}
