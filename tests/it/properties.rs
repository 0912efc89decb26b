//! What must hold for any company: on generated ones, and on the same with random changes.

use crate::company::{Company, Dice, Lines, fields, tables};
use crate::point_in_time::UNTIL_JUNE;
use crate::support::{
    self, assert_same_bytes, assert_same_files, published_files, published_table, temp_folder,
};
use polars::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Money by key: the columns of the key, then `value`, of the rows for which `condition` holds.
fn sums(
    frame: &DataFrame,
    condition: &str,
    key: &[&str],
    value: &str,
) -> BTreeMap<Vec<String>, i128> {
    let selected = frame
        .clone()
        .lazy()
        .filter(polars::sql::sql_expr(condition).unwrap());
    let columns: Vec<Expr> = key.iter().chain([&value]).map(|name| col(*name)).collect();
    let mut sums = BTreeMap::new();
    for mut row in support::rows_as_text(&selected.select(columns).collect().unwrap()) {
        let value: i128 = row.pop().unwrap().parse().unwrap();
        *sums.entry(row).or_default() += value;
    }
    sums.retain(|_, value| *value != 0);
    sums
}

/// In the order of their start.
fn periods(frame: &DataFrame) -> Vec<String> {
    let mut starts: Vec<String> = support::rows_as_text(&frame.select(["period_start"]).unwrap())
        .into_iter()
        .map(|mut row| row.remove(0))
        .collect();
    starts.sort();
    starts.dedup();
    starts
}

fn assert_foots(root: &Path, what: &str) {
    let movements = published_table(root, "mrr_movements").unwrap();
    let group = ["period_start", "dimension", "member", "product"];
    let moved = sums(&movements, "movement <> 'closing'", &group, "mrr");
    let closing = sums(&movements, "movement = 'closing'", &group, "mrr");
    assert!(!closing.is_empty(), "{what}: no one has MRR");
    assert_eq!(moved, closing, "{what}: opening + movements = closing");

    let opening = sums(&movements, "movement = 'opening'", &group, "mrr");
    let months = periods(&movements);
    for pair in months.windows(2) {
        let of = |rows: &BTreeMap<Vec<String>, i128>, month: &str| -> BTreeMap<Vec<String>, i128> {
            let of_month = rows.iter().filter(|(key, _)| key[0] == month);
            of_month
                .map(|(key, value)| (key[1..].to_vec(), *value))
                .collect()
        };
        assert_eq!(
            of(&opening, &pair[1]),
            of(&closing, &pair[0]),
            "{what}: {} opens as {} closed",
            pair[1],
            pair[0]
        );
    }

    // The three tables that tell of closing MRR agree.
    let closing = sums(
        &movements,
        "movement = 'closing' AND dimension = 'region'",
        &["period_start", "member"],
        "mrr",
    );
    let accounts = published_table(root, "account_period").unwrap();
    assert_eq!(
        closing,
        sums(
            &accounts,
            "TRUE",
            &["period_start", "region"],
            "closing_mrr"
        ),
        "{what}"
    );
}

#[test]
fn every_member_and_product_foots_and_opens_as_it_closed() {
    for seed in [1, 2] {
        assert_foots(
            Company::generated(seed).published("backfill").path(),
            &format!("seed {seed}"),
        );
    }
}

#[test]
fn mutated_companies_foot_too() {
    for seed in [11, 12, 13] {
        let company = Company::mutated(seed);
        assert_foots(
            company.published("backfill").path(),
            &format!("mutated seed {seed}"),
        );
    }
}

#[test]
fn weeks_and_quarters_foot_too() {
    let company = Company::mutated(14);
    for (grain, range, some) in [
        (
            "week",
            "backfill --start 2024-07-29 --end 2024-09-30",
            "2024-W35",
        ),
        ("quarter", "backfill", "2024-Q3"),
    ] {
        let (at_once, one) = (temp_folder(), temp_folder());
        company.publish(at_once.path(), range, &[("GRAIN", grain)]);
        assert_foots(at_once.path(), grain);
        company.publish(
            one.path(),
            &format!("run --period {some}"),
            &[("GRAIN", grain)],
        );
        let alone = published_files(one.path());
        let mut same = published_files(at_once.path());
        same.retain(|(name, _)| alone.iter().any(|(other, _)| other == name));
        assert_same_bytes(&same, &alone, &format!("{some} by itself"));
    }
}

#[test]
fn members_sum_to_the_total() {
    let company = Company::mutated(3);
    let root = company.published("backfill");
    let values = published_table(root.path(), "kpi_values").unwrap();
    let text = fs::read_to_string(company.path().join("pipeline.yaml")).unwrap();
    let out = |name: &str| (name == "OUT").then(|| "out".to_owned());
    let policy = cskpi::config::load::load("pipeline.yaml", &text, &out)
        .pipeline()
        .unwrap()
        .policy;
    let catalogue = cskpi::metrics::catalogue::default_catalogue(&policy);
    let is_sum = |metric: &&cskpi::metrics::catalogue::Metric| {
        metric.numerator.has_aggregate() && metric.trailing.is_none()
    };
    let metrics: Vec<String> = catalogue
        .published()
        .filter(is_sum)
        .map(|metric| metric.id.clone())
        .collect();
    assert!(metrics.len() > 30, "{metrics:?}");

    let additive = col("metric").is_in(
        lit(Series::new("ids".into(), metrics)).implode(false),
        false,
    );
    let summed = values.lazy().filter(additive).group_by([
        col("period_start"),
        col("metric"),
        col("dimension"),
    ]);
    let summed = summed
        .agg([col("numerator").sum()])
        .sort(["period_start", "metric"], Default::default())
        .collect()
        .unwrap();
    let mut totals = BTreeMap::new();
    let mut others = Vec::new();
    for row in support::rows_as_text(
        &summed
            .select(["period_start", "metric", "dimension", "numerator"])
            .unwrap(),
    ) {
        let value: f64 = row[3].parse().unwrap();
        match row[2].as_str() {
            "total" => drop(totals.insert((row[0].clone(), row[1].clone()), value)),
            // Accounts without a cohort are left out there.
            cohort if cohort.starts_with("cohort_") => {}
            _ => others.push((row, value)),
        }
    }
    assert!(others.len() > 5 * 30 * 14);
    for (row, value) in others {
        let total = totals[&(row[0].clone(), row[1].clone())];
        assert!(
            (value - total).abs() <= 1e-9 * total.abs(),
            "{row:?}: members sum to {value}, the total is {total}"
        );
    }
}

/// What is put onto accounts, and what nobody could take, is what was spent; to the yen, in every month.
#[test]
fn allocated_costs_are_the_costs() {
    for (seed, variables) in [(21, vec![]), (22, vec![("GRAIN", "quarter")])] {
        let company = Company::mutated(seed);
        let mut costs = company.lines("costs");
        let (kind, amount) = (costs.position("kind"), costs.position("amount"));
        costs.keep("currency", |currency| {
            currency.is_empty() || currency == "JPY"
        });
        costs.keep("date", |date| ("2024-01-01".."2025-01-01").contains(&date));
        company.put("costs", &costs);
        let mut spent: BTreeMap<String, i128> = BTreeMap::new();
        for row in &costs.rows {
            let row = fields(row);
            let yen: f64 = row[amount].parse().unwrap();
            *spent.entry(row[kind].clone()).or_default() += yen.round() as i128;
        }
        let root = temp_folder();
        company.publish(
            root.path(),
            "backfill --start 2024-01-01 --end 2025-01-01",
            &variables,
        );
        let accounts = published_table(root.path(), "account_period").unwrap();
        for (kind, sum) in spent {
            let found: i128 = sums(&accounts, "true", &["account_id"], &format!("{kind}_cost"))
                .values()
                .sum();
            assert_eq!(found, sum, "{kind}, company {seed}");
        }
    }
}

#[test]
fn every_proportion_lies_in_its_interval() {
    let company = Company::mutated(9);
    let root = company.published("backfill --start 2024-08");
    let proportions = published_table(root.path(), "metric_dictionary").unwrap();
    let sql = |text: &str| polars::sql::sql_expr(text).unwrap();
    let proportions = proportions
        .lazy()
        .filter(col("interval").eq(lit("proportion")))
        .select([col("metric")])
        .unique(None, UniqueKeepStrategy::Any);
    let mut checked = 0;
    for table in ["kpi_values", "kpi_breakdown"] {
        let Some(values) = published_table(root.path(), table) else {
            continue;
        };
        let of_proportions = values
            .lazy()
            .join(
                proportions.clone(),
                [col("metric")],
                [col("metric")],
                JoinArgs::new(JoinType::Inner),
            )
            .collect()
            .unwrap();
        let holds = "CASE WHEN value IS NULL THEN lower IS NULL AND upper IS NULL \
                     ELSE 0 <= lower AND lower <= value AND value <= upper AND upper < 100.000000001 END \
                     AND (sample_size IS NULL OR sample_size = denominator)";
        let broken = of_proportions
            .clone()
            .lazy()
            .filter(sql(holds).fill_null(lit(false)).not())
            .collect()
            .unwrap();
        assert_eq!(broken.height(), 0, "{table}: {broken}");
        checked += of_proportions.height();
    }
    assert!(checked > 1_000, "{checked}");
}

#[test]
fn a_range_at_once_is_its_periods_one_by_one() {
    let company = Company::mutated(4);
    let at_once = company.published(UNTIL_JUNE);
    let one_by_one = temp_folder();
    // Not in their order either.
    for month in [
        "2024-05", "2024-01", "2024-06", "2024-02", "2024-04", "2024-03",
    ] {
        company.publish(one_by_one.path(), &format!("run --period {month}"), &[]);
    }
    assert_same_files(
        at_once.path(),
        one_by_one.path(),
        "a range at once and its periods one by one",
    );
}

/// The audit of every run looks at the sums, too; here they are held against `kpi_values`.
#[test]
fn effects_of_members_sum_to_the_change_of_the_total() {
    for company in [Company::generated(21), Company::mutated(22)] {
        let root = company.published("backfill");
        let values = published_table(root.path(), "kpi_values").unwrap();
        let totals = support::rows_as_text(
            &values
                .lazy()
                .filter(col("dimension").eq(lit("total")))
                .select([col("metric"), col("period_start"), col("value")])
                .collect()
                .unwrap(),
        );
        let totals: BTreeMap<(String, String), f64> = totals
            .into_iter()
            .filter_map(|row| Some(((row[0].clone(), row[1].clone()), row[2].parse().ok()?)))
            .collect();
        let drivers = published_table(root.path(), "kpi_drivers").unwrap();
        let key = ["metric", "period_start", "comparison", "dimension"].map(col);
        let summed = drivers
            .lazy()
            .group_by(key.clone())
            .agg([col("effect").sum()])
            .select([&key[..], &[col("effect")]].concat())
            .collect()
            .unwrap();
        let mut told = BTreeMap::new();
        for row in support::rows_as_text(&summed) {
            let [metric, period, comparison, _, effect] = <[String; 5]>::try_from(row).unwrap();
            let day: chrono::NaiveDate = period.parse().unwrap();
            let months = if comparison == "previous" { 1 } else { 12 };
            let before = (day - chrono::Months::new(months)).to_string();
            let total = totals[&(metric.clone(), period)];
            let total_before = totals[&(metric.clone(), before)];
            let effect: f64 = effect.parse().unwrap();
            let (change, size) = (total - total_before, total.abs() + total_before.abs());
            assert!(
                (effect - change).abs() <= 1e-9 * size.max(1.0),
                "{metric} on {day}, {comparison}: effects of {effect}, a change of {change}"
            );
            *told.entry(comparison).or_insert(0) += 1;
        }
        // Two of fourteen months have a year before them; eight groupings.
        assert!(told["previous"] > 8 * 10 * 10, "{told:?}");
        assert!(told["year_ago"] > 2 * 8 * 8, "{told:?}");

        let alone = company.published("run --period 2025-02");
        let mut same = published_files(root.path());
        same.retain(|(name, _)| name.contains("2025-02-01") && name.starts_with("kpi_drivers/"));
        let mut alone = published_files(alone.path());
        alone.retain(|(name, _)| name.starts_with("kpi_drivers/"));
        assert_same_bytes(&same, &alone, "drivers of a month in a range and by itself");
    }
}

#[test]
fn running_again_changes_nothing() {
    let company = Company::generated(5);
    let root = company.published("backfill --start 2024-11");
    let times = || -> Vec<_> {
        let names = published_files(root.path())
            .into_iter()
            .map(|(name, _)| name);
        names
            .map(|name| {
                (
                    name.clone(),
                    fs::metadata(root.path().join(name))
                        .unwrap()
                        .modified()
                        .unwrap(),
                )
            })
            .collect()
    };
    let before = times();
    let summary = company
        .publish(root.path(), "backfill --start 2024-11", &[])
        .summary();
    assert_eq!(before, times());
    assert_eq!(
        (&summary["status"], &summary["up_to_date"]),
        (&"nothing_to_do".into(), &before.len().into())
    );

    // Computed again, it comes to the same bytes.
    let again = "backfill --start 2024-11 --reprocess all";
    let summary = company.publish(root.path(), again, &[]).summary();
    assert_eq!(before, times());
    assert_eq!(summary["reused"], before.len());
    assert_eq!(
        (&summary["created"], &summary["replaced"]),
        (&0.into(), &0.into())
    );
}

#[test]
fn the_order_of_rows_and_the_number_of_threads_change_nothing() {
    let company = Company::mutated(6);
    let range = "backfill --start 2024-09";
    let before = company.published(range);
    let dice = &mut Dice::of(6);
    for table in tables() {
        let mut lines = company.lines(table);
        dice.shuffle(&mut lines.rows);
        company.put(table, &lines);
    }
    for threads in ["1", "5"] {
        let root = temp_folder();
        company.publish(root.path(), range, &[("POLARS_MAX_THREADS", threads)]);
        assert_same_files(
            before.path(),
            root.path(),
            &format!("shuffled rows and {threads} threads"),
        );
    }
}

#[test]
fn splitting_inputs_over_files_changes_nothing() {
    let company = Company::generated(7);
    let range = "backfill --start 2024-12";
    let before = company.published(range);
    for table in tables() {
        let lines = company.lines(table);
        for part in 0..3 {
            let rows: Vec<String> = lines.rows.iter().skip(part).step_by(3).cloned().collect();
            company.put_as(
                &format!("parts/{table}/year={}/{part}.csv", 2020 + part),
                &lines.header,
                &rows,
            );
        }
    }
    company.map_sources(|table| format!("parts/{table}, format: csv"));
    assert_same_files(
        before.path(),
        company.published(range).path(),
        "a folder of files",
    );
    company.map_sources(|table| format!("parts/{table}/*/*.csv"));
    assert_same_files(before.path(), company.published(range).path(), "a glob");
}

#[test]
fn parquet_inputs_give_the_same_bytes() {
    let company = Company::generated(8);
    let range = "backfill --start 2024-10";
    let before = company.published(range);
    company.map_sources(|table| match table {
        "usage_events" => "data/usage_events/**/*.parquet".to_owned(),
        table => format!("data/{table}.parquet"),
    });
    assert_same_files(
        before.path(),
        company.published(range).path(),
        "Parquet in place of CSV",
    );
}

/// A company that no one has bought from yet: every table is there, with its columns.
#[test]
fn empty_tables_are_files_without_rows() {
    let company = Company::generated(1);
    let full = company.published("run --period 2024-03");
    for table in tables().filter(|table| *table != "plans") {
        company.put(
            table,
            &Lines {
                header: company.lines(table).header,
                rows: Vec::new(),
            },
        );
    }
    let root = company.published("run --period 2024-03");
    let names = |root: &Path| {
        published_files(root)
            .into_iter()
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(full.path()), names(root.path()));
    for table in support::names_in(root.path())
        .into_iter()
        .filter(|name| !["_cskpi", "runs", "checks", "restatements"].contains(&name.as_str()))
    {
        let (rows, before) = (
            published_table(root.path(), &table).unwrap(),
            published_table(full.path(), &table).unwrap(),
        );
        assert_eq!(rows.schema(), before.schema(), "{table}");
        assert!(before.height() > 0, "{table}");
        if table != "metric_dictionary" {
            assert_eq!(rows.height(), 0, "{table}");
        }
    }
}
