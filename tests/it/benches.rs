//! The tables of the bench, as DuckDB SQL and Python polars make them for speed, against ours.

use crate::python::environment;
use crate::support::repository;
use std::process::Command;

#[test]
fn duckdb_and_polars_make_the_tables_of_the_bench_too() {
    let python = environment("bench-venv", "benches/requirements.txt").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(&python);
    command.arg(repository().join("benches/run.py"));
    command.args(["XS", "--check", "--cskpi", env!("CARGO_BIN_EXE_cskpi")]);
    command
        .arg("--python")
        .arg(&python)
        .arg("--dir")
        .arg(folder.path());
    let ran = command.output().unwrap();
    let said = [ran.stdout, ran.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(ran.status.success(), "{said}");
    for table in [
        "account_period",
        "kpi_values",
        "mrr_movements",
        "cohort_retention",
    ] {
        assert!(said.contains(table), "{said}");
    }
}
