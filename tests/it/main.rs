//! Everything that is tested from outside, in one binary: it is linked once.
//!
//! | file | what |
//! |---|---|
//! | `stories` | small companies whose numbers one can check by eye: `tests/cases/<story>/` |
//! | `properties` | what must hold for any company |
//! | `survival` | how long customers stay: what must hold for any company |
//! | `worked_examples` | the field's printed examples, by the program's own catalogue |
//! | `messages` | what is refused: exit codes and what is said |
//! | `cli` | what goes to standard output and standard error, what is written and what is not |
//! | `progress` | stages with rows, bytes and time, what a run cost, traces of `--profile` |
//! | `config` | pipeline files that load, and reports on those that do not |
//! | `backfill` | many periods at once, kills, periods that fail, retries, which periods are taken |
//! | `usage` | usage kept between runs, and given as days |
//! | `explain` | `explain` and `docs`: definitions, and the numbers behind what is published |
//! | `own_metrics` | a pipeline's own metrics, and values of other periods and of the total |
//! | `closing` | what `close:` freezes |
//! | `nightly` | inputs and settings change between runs: what goes stale, what is restated and why |
//! | `python` | an independent computation of the same tables, and readers other than our own |
//! | `lineage` | OpenLineage events, held against the standard's schemas |
//! | `airflow` | the shipped DAG under a real Airflow |
//! | `shipped_nightly` | the shipped pipeline for S3, night after night |
//! | `crash` | runs that are killed, stopped, interrupted, or meet another run or a full disk, while readers look on |
//! | `sample_data` | what `generate` makes: it is what ships, keeps its contracts, and is the same in both formats |
//! | `plans` | what `plan` knows, plans that are written down, types that must not change |
//! | `upkeep` | `verify`, `vacuum`, tables about runs, the line for a scheduler |
//! | `s3` | an S3 server on this machine, a proxy that fails on demand, keys that expire |
//! | `cloud` | a small company in a bucket, which the files below share |
//! | `s3_runs` | sources and results on S3: the same bytes as on the local disk |
//! | `s3_keys` | credentials, where they are found, what is said when they are refused |
//! | `s3_faults` | networks and stores that fail during a run |
//! | `s3_parts` | files too large for one request |

#![allow(
    clippy::disallowed_methods,
    reason = "tests read and write their own cases"
)]

mod airflow;
mod backfill;
mod benches;
mod cli;
mod closing;
mod cloud;
mod company;
mod config;
mod crash;
mod dated;
mod explain;
mod intervals;
mod lineage;
mod messages;
mod nightly;
mod own_metrics;
mod plans;
mod point_in_time;
mod progress;
mod project;
mod properties;
mod python;
mod s3;
mod s3_faults;
mod s3_keys;
mod s3_parts;
mod s3_runs;
mod sample_data;
mod shipped_nightly;
mod stories;
mod support;
mod survival;
mod upkeep;
mod usage;
mod worked_examples;

/// A file that is not declared above would never run.
#[test]
fn no_test_file_is_forgotten() {
    let folder = support::repository().join("tests/it");
    let declarations = std::fs::read_to_string(folder.join("main.rs")).unwrap();
    for file in support::names_in(&folder) {
        let Some(module) = file.strip_suffix(".rs").filter(|module| *module != "main") else {
            continue;
        };
        assert!(
            declarations.contains(&format!("\nmod {module};\n")),
            "tests/it/{file} is not declared in main.rs"
        );
    }
}
