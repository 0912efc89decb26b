//! How long customers stay: what must hold in the table `survival` of any company, and the frames that metrics are made of.
//! (Its numbers: unit tests of `src/metrics/survival`, and stories.)

use crate::company::{Company, Dice};
use crate::support::{self, published_table};
use cskpi::metrics::survival;
use polars::prelude::*;
use std::collections::BTreeMap;

/// Rows of a published table as (group, age) → numbers; a group is a period, dimension and member.
fn curves(table: &DataFrame) -> BTreeMap<Vec<String>, Vec<Vec<Option<f64>>>> {
    let columns = [
        "period_start",
        "dimension",
        "member",
        "age",
        "at_risk",
        "churned",
        "censored",
        "sample_size",
        "survival",
        "lower",
        "upper",
        "projected_survival",
        "expected_lifetime",
    ];
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in support::rows_as_text(&table.select(columns).unwrap()) {
        let numbers = row[3..].iter().map(|text| text.parse().ok()).collect();
        groups.entry(row[..3].to_vec()).or_default().push(numbers);
    }
    groups
}

#[test]
fn curves_fall_and_their_counts_foot() {
    for seed in [21, 22] {
        let root = Company::mutated(seed).published("backfill");
        let groups = curves(&published_table(root.path(), "survival").unwrap());
        assert!(groups.len() > 100, "{}", groups.len());
        let mut fitted = 0;
        for (group, rows) in &groups {
            let of = |age: usize, column: usize| rows[age][column];
            let seen = rows.iter().take_while(|row| row[1].is_some()).count();
            // policy.survival_horizon is 3.
            assert_eq!(rows.len(), seen + 3, "{group:?}");
            assert_eq!(of(0, 1), of(0, 4), "{group:?}: all are at risk at age 0");
            assert_eq!((of(0, 2), of(0, 5)), (Some(0.0), Some(1.0)), "{group:?}");
            for age in 0..seen {
                let [at_risk, churned, censored] = [1, 2, 3].map(|column| of(age, column).unwrap());
                let left = if age + 1 < seen {
                    of(age + 1, 1).unwrap()
                } else {
                    0.0
                };
                assert_eq!(at_risk - churned - censored, left, "{group:?} {age}");
                let survival = of(age, 5).unwrap();
                assert!(
                    age == 0 || survival <= of(age - 1, 5).unwrap(),
                    "{group:?} {age}"
                );
                match (of(age, 6), of(age, 7)) {
                    (Some(lower), Some(upper)) => assert!(lower <= survival && survival <= upper),
                    nothing => assert_eq!((nothing, survival), ((None, None), 0.0)),
                }
            }
            let projected: Vec<f64> = rows.iter().filter_map(|row| row[8]).collect();
            assert!(
                projected.is_empty() || projected.len() == rows.len(),
                "{group:?}"
            );
            assert!(
                projected.windows(2).all(|pair| pair[1] < pair[0]),
                "{group:?}"
            );
            assert_eq!(of(0, 9).is_some(), !projected.is_empty(), "{group:?}");
            fitted += usize::from(!projected.is_empty());
        }
        assert!(fitted > 20, "{fitted}");
    }
}

#[test]
fn members_sum_to_the_total_at_every_age() {
    let root = Company::mutated(23).published("backfill --start 2024-06");
    let groups = curves(&published_table(root.path(), "survival").unwrap());
    let mut sums: BTreeMap<(String, String, usize), [f64; 3]> = BTreeMap::new();
    for (group, rows) in &groups {
        for (age, row) in rows.iter().enumerate().filter(|(_, row)| row[1].is_some()) {
            let key = (group[0].clone(), group[1].clone(), age);
            let sum = sums.entry(key).or_default();
            for (sum, column) in sum.iter_mut().zip([1, 2, 3]) {
                *sum += row[column].unwrap();
            }
        }
    }
    let mut compared = 0;
    for ((period, dimension, age), sum) in &sums {
        // Accounts without a sign-up date are left out of that cohort.
        if dimension != "cohort_signup" {
            let total = sums[&(period.clone(), "total".into(), *age)];
            assert_eq!(*sum, total, "{period} {dimension} {age}");
            compared += 1;
        }
    }
    assert!(compared > 100, "{compared}");
}

/// Subjects are the accounts of the period that paid for the first time since the calendar's begin.
#[test]
fn everybody_who_ever_paid_is_a_subject() {
    let root = Company::mutated(24).published("backfill");
    let survival = published_table(root.path(), "survival").unwrap();
    let begin = published_table(root.path(), "kpi_summary").unwrap();
    let begin = begin.column("period_start").unwrap().min_reduce().unwrap();
    let accounts = published_table(root.path(), "account_period")
        .unwrap()
        .lazy();
    let expected = accounts
        .filter(col("cohort_first_paid").gt_eq(lit(begin)))
        .group_by([col("period_start")])
        .agg([len().cast(DataType::Int64).alias("subjects")])
        .sort(["period_start"], Default::default());
    let found = survival
        .lazy()
        .filter(col("dimension").eq(lit("total")).and(col("age").eq(lit(0))))
        .select([col("period_start"), col("sample_size").alias("subjects")])
        .sort(["period_start"], Default::default());
    let rows = |frame: LazyFrame| support::rows_as_text(&frame.collect().unwrap());
    assert_eq!(rows(found), rows(expected));
}

const PIPELINE: &str = "
version: 1
name: survival
currency: JPY
calendar: {grain: quarter, time_zone: Asia/Tokyo, begin: 2023-01-01}
sources: {accounts: {path: a.csv}, subscriptions: {path: s.csv}}
policy: {gross_margin: 0.8, discount_rate: 4.0625}
outputs: {root: out}
";

/// As in the story `survival_by_quarter`: of 6 and 3 at risk 3 and 1 churn, so α = β = 1.
#[test]
fn expected_lifetimes_per_group() {
    let pipeline = cskpi::config::load::load("pipeline.yaml", PIPELINE, &|_| None);
    let pipeline = pipeline.pipeline().unwrap();
    let range = cskpi::period::PeriodRange { first: 1, last: 2 };
    let context = cskpi::facts::Context {
        calendar: &pipeline.calendar,
        currency: &pipeline.currency,
        policy: &pipeline.policy,
        range,
    };
    let exits = df!(
        "period_index" => [1, 1, 1, 1, 2],
        "dimension" => ["total"; 5],
        "member" => ["total"; 5],
        "age" => [0_i64, 1, 2, 4, 0],
        "churned" => [0_i64, 3, 1, 0, 0],
        "censored" => [1_i64, 0, 2, 0, 5],
    );
    let exits = exits.unwrap().lazy();
    let lifetimes_of = |exits: LazyFrame| {
        let curves = survival::survival(exits, context);
        survival::lifetimes(curves).collect().unwrap()
    };
    let lifetimes = lifetimes_of(exits.clone());
    let columns = [
        "period_index",
        "dimension",
        "member",
        "value",
        "sample_size",
    ];
    assert_eq!(*lifetimes.get_column_names(), columns);
    let lifetime = lifetimes.column("value").unwrap().f64().unwrap();
    assert!((lifetime.get(0).unwrap() - 1.5 * 3f64.ln()).abs() < 1e-12);
    assert_eq!(lifetime.get(1), None);
    let subjects = lifetimes.column("sample_size").unwrap().i64().unwrap();
    assert_eq!(Vec::from(subjects), [Some(7), Some(5)]);
    // Without any rows there are the same columns.
    let none = exits.filter(col("age").gt(lit(9)));
    let nothing = lifetimes_of(none);
    assert_eq!(*nothing.get_column_names(), columns);
    assert_eq!(nothing.height(), 0);
}

/// Freireich's trial again, beside a group of which only one in three is done; in any order of rows.
#[test]
fn medians_of_days_in_any_order() {
    let trial = "6 6 6 6+ 7 9+ 10 10+ 11+ 13 16 17+ 19+ 20+ 22 23 25+ 32+ 32+ 34+ 35+";
    let mut rows: Vec<(&str, i64, bool)> = Vec::new();
    for word in trial.split(' ') {
        let days = word.trim_end_matches('+').parse().unwrap();
        rows.push(("trial", days, !word.ends_with('+')));
    }
    rows.extend([("open", 0, true), ("open", 3, false), ("open", 90, false)]);
    let mut dice = Dice::of(7);
    for _ in 0..5 {
        dice.shuffle(&mut rows);
        let frame = df!(
            "period_index" => vec![5; rows.len()],
            "dimension" => vec!["group"; rows.len()],
            "member" => rows.iter().map(|row| row.0).collect::<Vec<_>>(),
            "days" => rows.iter().map(|row| row.1).collect::<Vec<_>>(),
            "is_completed" => rows.iter().map(|row| row.2).collect::<Vec<_>>(),
        );
        let medians = survival::median_days(frame.unwrap().lazy())
            .collect()
            .unwrap();
        assert_eq!(
            support::rows_as_text(&medians),
            [
                ["5", "group", "open", "", "3"],
                ["5", "group", "trial", "23.0", "21"]
            ]
            .map(|row| row.map(str::to_owned).to_vec())
        );
    }
}
