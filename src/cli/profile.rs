//! `--profile`: where the time of a run went, as a trace that <https://ui.perfetto.dev> and chrome://tracing open.
//!
//! Every span of the program becomes an event. Its field `name` is what the viewer shows (else the span's own name, which is also the
//! event's category); its other fields can be read by a click.

use crate::failure::Failure;
use crate::run::live::held;
use serde_json::{Map, Value, json};
use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Context;

/// Of the thread that comes first, which is the run's. 0 is the idle thread to viewers.
const FIRST_TRACK: u32 = 1;

/// Collects spans, and writes them at the end.
#[derive(Clone)]
pub(super) struct Profile(Arc<Inner>);

struct Inner {
    path: PathBuf,
    begun: Instant,
    /// From the moment at which it is known that it can be written until it has been.
    file: Mutex<Option<File>>,
    spans: Mutex<Spans>,
}

#[derive(Default)]
struct Spans {
    open: HashMap<u64, Event>,
    over: Vec<Event>,
}

/// A span; instants in microseconds since the beginning.
#[derive(Clone)]
struct Event {
    /// A parent comes before its children, also where they begin in the same microsecond.
    number: usize,
    name: String,
    category: &'static str,
    track: u32,
    from: u64,
    until: u64,
    fields: Map<String, Value>,
}

impl Profile {
    pub fn new(path: &Path) -> Self {
        Self(Arc::new(Inner {
            path: path.to_owned(),
            begun: Instant::now(),
            file: Mutex::default(),
            spans: Mutex::default(),
        }))
    }

    /// Opens the file, so that a run does not find out at its end that it cannot be written.
    pub fn open(&self) -> Result<(), Failure> {
        let path = self.0.path.display();
        let opened = File::create(&self.0.path).map_err(|error| {
            let failure = Failure::usage(format!("the profile {path} cannot be written: {error}"));
            match path.to_string().contains("://") {
                true => failure.hint("--profile takes a file on the local disk"),
                false => failure,
            }
        })?;
        *held(&self.0.file) = Some(opened);
        Ok(())
    }

    /// Writes what there is, once. What is still going on ends now.
    pub fn write(&self) {
        let mut file = held(&self.0.file);
        let Some(mut open) = file.take() else {
            return;
        };
        let trace = self.trace().to_string();
        // The run has done what it was asked for; that stands.
        if let Err(error) = open.write_all(trace.as_bytes()) {
            let path = self.0.path.display();
            tracing::warn!("the profile {path} cannot be written: {error}");
        }
    }

    /// The layer that listens to the program's own spans.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    {
        let is_own = |metadata: &Metadata| {
            metadata.is_span() && metadata.target().starts_with(env!("CARGO_PKG_NAME"))
        };
        let filter = filter_fn(is_own).with_max_level_hint(LevelFilter::DEBUG);
        self.clone().with_filter(filter)
    }

    fn micros(&self) -> u64 {
        self.0.begun.elapsed().as_micros() as u64
    }

    /// See "Trace Event Format", the JSON object form.
    fn trace(&self) -> Value {
        let pid = std::process::id();
        let spans = held(&self.0.spans);
        let now = self.micros();
        let going_on = spans.open.values().cloned().map(|mut event| {
            event.until = now;
            event.fields.insert("unfinished".to_owned(), true.into());
            event
        });
        let mut events: Vec<Event> = spans.over.iter().cloned().chain(going_on).collect();
        drop(spans);
        events.sort_by_key(|event| (event.from, event.number));
        let tracks: BTreeSet<u32> = events.iter().map(|event| event.track).collect();
        let named = |what: &str, track: u32, name: String| json!({"ph": "M", "name": what, "pid": pid, "tid": track, "args": {"name": name}});
        let names = tracks.into_iter().map(|track| match track {
            FIRST_TRACK => named("thread_name", track, "run".to_owned()),
            _ => named(
                "thread_name",
                track,
                format!("worker {}", track - FIRST_TRACK),
            ),
        });
        let process = named(
            "process_name",
            FIRST_TRACK,
            env!("CARGO_PKG_NAME").to_owned(),
        );
        let complete = events.iter().map(|event| {
            json!({
                "ph": "X", "name": event.name, "cat": event.category, "pid": pid, "tid": event.track,
                "ts": event.from, "dur": event.until - event.from, "args": event.fields,
            })
        });
        json!({
            "displayTimeUnit": "ms",
            "otherData": {"program": crate::run::program()},
            "traceEvents": std::iter::once(process).chain(names).chain(complete).collect::<Vec<_>>(),
        })
    }
}

impl<S: Subscriber> Layer<S> for Profile {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        let metadata = attributes.metadata();
        let mut fields = Fields(Map::new());
        attributes.record(&mut fields);
        let name = match fields.0.shift_remove("name") {
            Some(Value::String(name)) => name,
            _ => metadata.name().to_owned(),
        };
        let track = TRACK.with(|track| track.number());
        let mut spans = held(&self.0.spans);
        let from = self.micros();
        let event = Event {
            number: spans.open.len() + spans.over.len(),
            name,
            category: metadata.name(),
            track,
            from,
            until: from,
            fields: fields.0,
        };
        spans.open.insert(id.into_u64(), event);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        if let Some(event) = held(&self.0.spans).open.get_mut(&id.into_u64()) {
            let mut fields = Fields(std::mem::take(&mut event.fields));
            values.record(&mut fields);
            event.fields = fields.0;
        }
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        let mut spans = held(&self.0.spans);
        let now = self.micros();
        if let Some(mut event) = spans.open.remove(&id.into_u64()) {
            event.until = now;
            spans.over.push(event);
        }
    }
}

/// Fields as JSON.
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        self.0.insert(field.name().to_owned(), text.into());
    }
}

/// A line of the viewer. Threads come and go; one that has ended leaves its line to the next one, so that there are as many
/// lines as there were threads at one time.
#[derive(Default)]
struct Track(Cell<Option<u32>>);

thread_local! {
    static TRACK: Track = Track::default();
}

static TAKEN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

impl Track {
    fn number(&self) -> u32 {
        let number = self.0.get().unwrap_or_else(|| {
            let mut taken = held(&TAKEN);
            let free = (FIRST_TRACK..)
                .find(|number| !taken.contains(number))
                .unwrap_or(FIRST_TRACK);
            taken.insert(free);
            free
        });
        self.0.set(Some(number));
        number
    }
}

impl Drop for Track {
    fn drop(&mut self) {
        if let Some(number) = self.0.get() {
            held(&TAKEN).remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::field::Empty;
    use tracing::{debug_span, info, trace_span};
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::registry;

    /// The trace of some work.
    fn traced(work: impl FnOnce()) -> Value {
        let profile = Profile::new(Path::new("unused"));
        let listening = registry().with(profile.layer());
        tracing::subscriber::with_default(listening, work);
        profile.trace()
    }

    fn complete(trace: &Value) -> Vec<&Value> {
        let events = trace["traceEvents"].as_array().unwrap().iter();
        events.filter(|event| event["ph"] == "X").collect()
    }

    #[test]
    fn spans_are_events_within_each_other() {
        let trace = traced(|| {
            let stage = debug_span!("stage", name = "reading accounts", rows = Empty);
            {
                let path = "usage/2026-01.parquet";
                let _file = debug_span!("file", name = %path, bytes = 7).entered();
                info!("not a span");
            }
            stage.record("rows", 300u64);
        });
        let events = complete(&trace);
        let said = |at: usize| {
            let event = events[at];
            [&event["cat"], &event["name"], &event["args"]].map(Value::to_string)
        };
        assert_eq!(
            said(0),
            ["\"stage\"", "\"reading accounts\"", "{\"rows\":300}"]
        );
        assert_eq!(
            said(1),
            ["\"file\"", "\"usage/2026-01.parquet\"", "{\"bytes\":7}"]
        );
        assert_eq!(events.len(), 2);
        let begin = |event: &Value| event["ts"].as_u64().unwrap();
        let end = |event: &Value| begin(event) + event["dur"].as_u64().unwrap();
        assert!(begin(events[0]) <= begin(events[1]) && end(events[1]) <= end(events[0]));
        assert_eq!(events[0]["tid"], events[1]["tid"]);
    }

    #[test]
    fn spans_of_others_and_small_ones_are_left_out() {
        let trace = traced(|| {
            let _theirs = debug_span!(target: "object_store", "request").entered();
            let _small = trace_span!("small").entered();
        });
        assert_eq!(complete(&trace), Vec::<&Value>::new());
    }

    #[test]
    fn what_goes_on_ends_with_the_trace() {
        let profile = Profile::new(Path::new("unused"));
        let listening = registry().with(profile.layer());
        let trace = tracing::subscriber::with_default(listening, || {
            let _stage = debug_span!("stage").entered();
            profile.trace()
        });
        let events = complete(&trace);
        assert_eq!(
            (&events[0]["name"], &events[0]["args"]),
            (&"stage".into(), &json!({"unfinished": true}))
        );
    }

    #[test]
    fn threads_at_one_time_have_lines_of_their_own() {
        let own = TRACK.with(Track::number);
        let others = || {
            let track = || TRACK.with(Track::number);
            // Both live until both have told.
            let barrier = std::sync::Barrier::new(2);
            let told = || {
                let track = track();
                barrier.wait();
                track
            };
            std::thread::scope(|scope| {
                let threads = [scope.spawn(told), scope.spawn(told)];
                threads.map(|thread| thread.join().unwrap())
            })
        };
        let [one, other] = others();
        assert!(one != other && one != own && other != own);
        assert_eq!(TRACK.with(Track::number), own);
    }

    #[test]
    fn it_is_written_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.json");
        let profile = Profile::new(&path);
        // Not opened: the run was refused.
        profile.write();
        assert!(!path.exists());
        profile.open().unwrap();
        profile.write();
        let trace: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(trace["displayTimeUnit"], "ms");
        std::fs::remove_file(&path).unwrap();
        profile.write();
        assert!(!path.exists());
        let failure = Profile::new(folder.path()).open().unwrap_err();
        assert_eq!(failure.kind.exit_code(), 2);
    }
}
