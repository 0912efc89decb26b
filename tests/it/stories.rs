//! Stories: a small company, what happens to it, and the rows that must come of it.
//!
//! A story is a folder `tests/cases/<story>/`:
//! - `story.md`: what happens and why the expected numbers are right. They were worked out by hand from
//!   docs/definitions.md, so nothing here writes them anew from the program's output.
//! - `pipeline.yaml`, whose first lines say how to run it: `# run: backfill --as-of …`, and once per variant
//!   `# variant <name>: KEY=value …` (variables that the pipeline reads).
//! - inputs; paths are relative to the folder.
//! - `expected/<table>.csv` (`expected/<variant>/<table>.csv`): the chosen columns of all rows, or of those for which the first line,
//!   `# where: <SQL>`, holds. An empty field is null; a ratio may be written as `2/3`.
//! - `expected/log.txt`: lines that standard error must have.

use crate::support::{self, Ran};
use polars::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

macro_rules! stories {
    ($($story:ident),* $(,)?) => {
        $(#[test] fn $story() { tell(stringify!($story)); })*
        const STORIES: &[&str] = &[$(stringify!($story)),*];
    };
}

stories![
    a_year_ago,
    acquisition_cost_by_channel,
    amount_of_the_line,
    annual_to_monthly,
    cancel_requested_or_ended,
    channel_as_of_the_end,
    cohort_of_merged_accounts,
    cohort_triangle_with_nulls,
    columns_named_like_facts,
    community_window,
    costs_by_quarter,
    cross_sell_and_drop,
    csat_by_item_and_scale,
    custom_metric,
    days_across_clock_change,
    deals_and_renewals,
    dimension_history_moves_segment,
    discount_beyond_the_line,
    discount_kinds,
    drivers_come_and_go,
    drivers_mix_and_rate,
    drivers_need_a_year,
    drivers_rest_of_cohorts,
    equal_price_swap,
    events_with_session_ids,
    everyone_churns,
    features_used_and_adopted,
    fiscal_quarters,
    fx_only_moves_fx,
    how_sure_of_few,
    inline_plans_rows,
    involuntary_and_voluntary_churn,
    japanese_csv,
    late_invoice_and_credit,
    ltv_by_segment,
    ltv_by_tenure_and_purchase,
    members_and_who_is_done,
    members_of_dimensions,
    merge_of_two_cohorts,
    merged_usage_and_invoices,
    migrated_account,
    new_facts_follow_merges,
    no_invoices_no_usage,
    nothing_of_the_new_inputs,
    nps_latest_answer,
    onboarding_by_hours_alone,
    onboarding_by_usage_rule,
    onboarding_of_the_last_year,
    onboarding_that_never_ends,
    past_due_with_grace,
    pause_then_return,
    ready_mrr,
    retention_cost_by_time,
    rfm_ntile,
    rfm_thresholds,
    rfm_ties_quantile,
    rounding_half_up,
    seats_and_utilization,
    sessions_as_they_come,
    signs_of_life,
    starts_and_ends_on_the_boundary,
    survival_by_quarter,
    survival_of_merged_and_returned,
    targets_met_and_missed,
    tickets_over_the_boundary,
    time_by_phase,
    touch_capacity_and_hold,
    trial_then_paid,
    two_overlapping_plans,
    upgrade_with_more_seats,
    upsell_of_offered_accounts,
    usage_around_midnight,
    usage_beside_mrr,
    values_of_other_periods,
    weeks_from_sunday,
    windows_across_clock_change,
    zero_length_version,
];

#[test]
fn every_story_is_told() {
    let is_story = |name: &String| cases().join(name).is_dir();
    let folders: Vec<String> = support::names_in(&cases())
        .into_iter()
        .filter(is_story)
        .collect();
    for folder in &folders {
        assert!(
            STORIES.contains(&folder.as_str()),
            "tests/cases/{folder} is not in the list of stories"
        );
        assert!(
            cases().join(folder).join("story.md").is_file(),
            "tests/cases/{folder} has no story.md"
        );
    }
}

fn cases() -> PathBuf {
    support::repository().join("tests/cases")
}

struct Variant {
    /// Empty for a story that is told in one way only.
    name: String,
    variables: Vec<(String, String)>,
}

#[track_caller]
fn tell(story: &str) {
    let folder = cases().join(story);
    let pipeline = fs::read_to_string(folder.join("pipeline.yaml")).unwrap();
    let command = pipeline
        .lines()
        .find_map(|line| line.strip_prefix("# run: "))
        .expect("`# run:` in pipeline.yaml");
    let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
    let mut differences = Vec::new();
    for variant in variants(&pipeline) {
        let root = support::temp_folder();
        let mut variables = vec![("OUT", root.path().to_str().unwrap())];
        variables.extend(
            variant
                .variables
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        let ran = support::cskpi_with(&folder, &variables, &format!("{verb} pipeline.yaml {rest}"));
        assert_eq!(ran.code, 0, "{story} {}\n{}", variant.name, ran.stderr);
        let expected = folder.join("expected").join(&variant.name);
        let found = differences_to(&expected, root.path(), &ran);
        differences.extend(
            found
                .into_iter()
                .map(|difference| format!("{story} {}: {difference}", variant.name)),
        );
    }
    assert!(
        differences.is_empty(),
        "rows that differ (- expected, + published)\n\n{}",
        differences.join("\n")
    );
}

fn variants(pipeline: &str) -> Vec<Variant> {
    let read = |line: &str| {
        let (name, variables) = line.split_once(':').expect("`# variant <name>: KEY=value`");
        let pairs = variables
            .split_whitespace()
            .filter_map(|pair| pair.split_once('='));
        let variables = pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Variant {
            name: name.to_owned(),
            variables,
        }
    };
    let found: Vec<Variant> = pipeline
        .lines()
        .filter_map(|line| line.strip_prefix("# variant "))
        .map(read)
        .collect();
    if found.is_empty() {
        vec![Variant {
            name: String::new(),
            variables: Vec::new(),
        }]
    } else {
        found
    }
}

fn differences_to(expected: &Path, root: &Path, ran: &Ran) -> Vec<String> {
    let files = support::names_in(expected);
    let tables: Vec<&str> = files
        .iter()
        .filter_map(|file| file.strip_suffix(".csv"))
        .collect();
    assert!(!tables.is_empty(), "{} expects nothing", expected.display());
    let mut differences = Vec::new();
    for table in tables {
        let text = fs::read_to_string(expected.join(format!("{table}.csv"))).unwrap();
        differences.extend(table_difference(table, &text, root));
    }
    let log = fs::read_to_string(expected.join("log.txt")).unwrap_or_default();
    let missing = log.lines().filter(|line| !ran.stderr.contains(line));
    differences
        .extend(missing.map(|line| format!("standard error lacks `{line}`:\n{}", ran.stderr)));
    differences
}

/// The rows of a table that are not as a file of expectations says.
fn table_difference(table: &str, text: &str, root: &Path) -> Option<String> {
    let Some(published) = support::published_table(root, table) else {
        return Some(format!("{table} was not published"));
    };
    let condition = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("# where: "));
    let mut lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    let columns: Vec<&str> = lines
        .next()
        .expect("a line that names the columns")
        .split(',')
        .collect();
    // Dates as text, so that a condition may compare them with '2024-05-01'.
    let is_date = |column: &&Column| *column.dtype() == DataType::Date;
    let dates = published
        .columns()
        .iter()
        .filter(is_date)
        .map(|date| col(date.name().clone()).cast(DataType::String));
    let mut wanted = published
        .clone()
        .lazy()
        .with_columns(dates.collect::<Vec<_>>());
    if let Some(condition) = condition {
        wanted = wanted.filter(polars::sql::sql_expr(condition).unwrap());
    }
    let wanted = wanted
        .select(columns.iter().map(|name| col(*name)).collect::<Vec<_>>())
        .collect()
        .unwrap();
    let dtypes = wanted.dtypes();
    let mut unexpected = support::rows_as_text(&wanted);
    let mut missing = Vec::new();
    for line in lines {
        let row: Vec<&str> = line.split(',').collect();
        assert_eq!(row.len(), columns.len(), "{table}: {line}");
        match unexpected
            .iter()
            .position(|found| is_same_row(found, &row, &dtypes))
        {
            Some(position) => drop(unexpected.remove(position)),
            None => missing.push(line.to_owned()),
        }
    }
    if missing.is_empty() && unexpected.is_empty() {
        return None;
    }
    let mut rows: Vec<(String, char)> = missing.into_iter().map(|line| (line, '-')).collect();
    rows.extend(unexpected.into_iter().map(|row| (row.join(","), '+')));
    rows.sort();
    let rows: Vec<String> = rows
        .into_iter()
        .map(|(row, sign)| format!("  {sign} {row}"))
        .collect();
    Some(format!(
        "{table}\n    {}\n{}\n",
        columns.join(","),
        rows.join("\n")
    ))
}

fn is_same_row(found: &[String], expected: &[&str], dtypes: &[DataType]) -> bool {
    found
        .iter()
        .zip(expected)
        .zip(dtypes)
        .all(|((found, expected), dtype)| match dtype {
            DataType::Float64 => is_same_float(found, expected),
            dtype if dtype.is_decimal() => *found == support::plain_decimal(expected),
            _ => found == expected,
        })
}

fn is_same_float(found: &str, expected: &str) -> bool {
    let number = |text: &str| -> Option<f64> {
        if text.is_empty() {
            return None;
        }
        let (numerator, denominator) = text.split_once('/').unwrap_or((text, "1"));
        Some(numerator.parse::<f64>().unwrap() / denominator.parse::<f64>().unwrap())
    };
    match (number(found), number(expected)) {
        (Some(found), Some(expected)) => {
            (found - expected).abs() <= 1e-12 * expected.abs().max(1.0)
        }
        (found, expected) => found.is_none() && expected.is_none(),
    }
}
