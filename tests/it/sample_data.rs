//! What `generate` writes: it is what ships, it keeps the contracts, and CSV and Parquet say the same.

use crate::company::sample_tables;
use crate::support::{
    assert_same_bytes, cskpi, cskpi_with, published_files, repository, temp_folder,
};
use std::fs;

/// The command that the head of `pipelines/quickstart.yaml` gives.
#[test]
fn the_shipped_sample_is_what_generate_makes() {
    let pipeline = fs::read_to_string(repository().join("pipelines/quickstart.yaml")).unwrap();
    let from = pipeline.find("`cskpi generate").expect("its command");
    let command = pipeline[from..].trim_start_matches("`cskpi ");
    let (command, _) = command.split_once('`').unwrap();
    let folder = temp_folder();
    cskpi(folder.path(), command).succeeded();
    let made = folder.path().join("data/quickstart");
    let shipped = repository().join("data/quickstart");
    let [made, shipped] = [made, shipped].map(|folder| published_files(&folder));
    assert_same_bytes(&made, &shipped, "the shipped sample");
}

#[test]
fn both_formats_keep_the_contracts_and_give_the_same_results() {
    let folder = temp_folder();
    let size = "--accounts 90 --months 8 --events 3000 --start 2024-01 --seed 21 --format both";
    cskpi(folder.path(), &format!("generate --out data {size}")).succeeded();
    let published = ["csv", "parquet"].map(|format| {
        let sources: String = sample_tables()
            .map(|table| match (table, format) {
                ("usage_events", "parquet") => {
                    "  usage_events: {path: data/usage_events/**/*.parquet}\n".to_owned()
                }
                _ => format!("  {table}: {{path: data/{table}.{format}}}\n"),
            })
            .collect();
        let file = format!("{format}.yaml");
        fs::write(
            folder.path().join(&file),
            PIPELINE.replace("$SOURCES\n", &sources),
        )
        .unwrap();
        let root = folder.path().join(format);
        let command = format!("--quiet run {file} --period 2024-08 --as-of 2024-09-02T00:00:00Z");
        cskpi_with(folder.path(), &[("OUT", root.to_str().unwrap())], &command).succeeded();
        published_files(&root)
    });
    assert!(!published[0].is_empty());
    assert_same_bytes(&published[0], &published[1], "CSV and Parquet");
}

const PIPELINE: &str = "\
version: 1
name: sample
currency: JPY
calendar: {time_zone: Asia/Tokyo, begin: 2024-01-01}
sources:
$SOURCES
policy: {gross_margin: 0.75}
dimensions: {industry: industry, region: region, channel: channel, owner: owner_id}
outputs: {root: \"${OUT}\"}
";
