//! The field's printed examples (`tests/cases/worked-examples.yaml`), by the program's own catalogue entries: each example's
//! inputs become rows of account × period, and the entry is evaluated over them as a run does.

use crate::support::repository;
use cskpi::config::{Pipeline, load};
use cskpi::contract::{self, Kind};
use cskpi::facts::Context;
use cskpi::metrics::aggregate::{Available, Grouping, evaluated, sums};
use cskpi::metrics::catalogue::{DAYS_IN_PERIOD, default_catalogue};
use cskpi::period::PeriodRange;
use polars::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Example {
    id: String,
    inputs: BTreeMap<String, f64>,
    expect: f64,
}

/// Rows of account × period: what each column holds, a value per row. Columns not named are 0.
struct Rows {
    count: usize,
    columns: Vec<(&'static str, Vec<i64>)>,
}

impl Rows {
    fn of(count: usize) -> Self {
        Self {
            count,
            columns: Vec::new(),
        }
    }

    /// The same value in the first `rows` rows, 0 in the others.
    fn first(mut self, rows: usize, column: &'static str, value: i64) -> Self {
        let values = (0..self.count)
            .map(|row| if row < rows { value } else { 0 })
            .collect();
        self.columns.push((column, values));
        self
    }

    fn all(self, column: &'static str, value: i64) -> Self {
        let rows = self.count;
        self.first(rows, column, value)
    }

    fn each(mut self, column: &'static str, values: &[i64]) -> Self {
        self.columns.push((column, values.to_vec()));
        self
    }
}

/// The accounts of an example; `None` if nobody has said how its inputs lie in the model.
fn rows(example: &Example) -> Option<Rows> {
    let input = |name: &str| example.inputs[name] as i64;
    let rows = match example.id.as_str() {
        "churn_rate" | "retention_rate" => {
            let (opening, churned) = (
                input("opening_customers"),
                input("churned_customers") as usize,
            );
            Rows::of(opening as usize)
                .all("opening_customers", 1)
                .first(churned, "churned_customers", 1)
                .first(opening as usize - churned, "closing_customers", 1)
        }
        // 24 months of 30.4375 days are 730.5 days: one customer of 730 and one of 731.
        "ltv_tenure" => {
            let days = (2.0 * 30.4375 * example.inputs["tenure_months"]) as i64;
            Rows::of(2)
                .all("closing_customers", 1)
                .all("closing_mrr", input("monthly_revenue_per_customer"))
                .each("tenure_days", &[days / 2, days - days / 2])
        }
        // Four accounts of a quarter each: one grows, one shrinks, one leaves.
        "nrr" => {
            let quarter = input("opening_mrr") / 4;
            let (contraction, churn) = (input("contraction"), input("churn"));
            Rows::of(5)
                .each(
                    "opening_mrr",
                    &[quarter, quarter, quarter, quarter - churn, churn],
                )
                .each("expansion_mrr", &[input("expansion"), 0, 0, 0, 0])
                .each("contraction_mrr", &[0, contraction, 0, 0, 0])
                .each("churn_mrr", &[0, 0, 0, 0, churn])
        }
        "avg_session_minutes" => {
            let (users, seconds) = (input("users"), input("session_seconds"));
            assert_eq!(
                users,
                input("sessions"),
                "the example has one session per user"
            );
            Rows::of(users as usize)
                .all("sessions", 1)
                .all("session_seconds", seconds / users)
        }
        "mau" => Rows::of(100).all("mau", input("users_logged_in_last_30_days") / 100),
        // 1,000 customers, of whom the example's share leaves.
        "ltv" => {
            let churned = (1000.0 * example.inputs["churn_rate"]) as usize;
            Rows::of(1000)
                .all("opening_customers", 1)
                .first(churned, "churned_customers", 1)
                .first(1000 - churned, "closing_customers", 1)
                .first(1000 - churned, "closing_mrr", input("arpa"))
        }
        "upsell_rate" => Rows::of(input("offered_accounts") as usize)
            .all("upsell_target_accounts", 1)
            .first(
                input("upsold_accounts") as usize,
                "upsold_target_accounts",
                1,
            ),
        "onboarding_completion_rate" => Rows::of(input("started") as usize)
            .all("onboardings_started", 1)
            .first(input("completed") as usize, "onboardings_completed", 1),
        "nps" => Rows::of(input("respondents") as usize)
            .all("nps_respondents", 1)
            .first(input("promoters") as usize, "nps_promoters", 1)
            .first(input("detractors") as usize, "nps_detractors", 1),
        "cac" => Rows::of(input("new_customers") as usize)
            .all("new_customers", 1)
            .all(
                "marketing_cost",
                input("marketing_cost") / input("new_customers"),
            )
            .all("sales_cost", input("sales_cost") / input("new_customers")),
        "csat" => Rows::of(input("answers") as usize)
            .all("csat_answers", 1)
            .first(input("satisfied") as usize, "csat_satisfied", 1),
        // A month's MRR and a month's cost of a hundred customers, half of it people, half tools.
        "arr_crc" => Rows::of(100)
            .all("closing_customers", 1)
            .all("closing_mrr", input("arr") / 12 / 100)
            .all("cs_people_cost", input("crc_per_year") / 12 / 200)
            .all("cs_tools_cost", input("crc_per_year") / 12 / 200),
        _ => return None,
    };
    Some(rows)
}

fn pipeline(gross_margin: f64) -> Pipeline {
    let text = format!(
        "{{version: 1, name: example, currency: JPY, calendar: {{time_zone: Asia/Tokyo, begin: 2024-04-01}}, \
         sources: {{accounts: {{path: a.csv}}, subscriptions: {{path: s.csv}}}}, \
         policy: {{gross_margin: {gross_margin}}}, outputs: {{root: out}}}}"
    );
    let loaded = load::load("example.yaml", &text, &|_| None);
    let report = loaded.problems.to_string();
    loaded.pipeline().unwrap_or_else(|| panic!("{report}"))
}

/// What the catalogue's entry makes of the rows.
fn value(id: &str, rows: &Rows, pipeline: &Pipeline) -> Option<f64> {
    let period = pipeline.calendar.index_of(pipeline.calendar.begin);
    let range = PeriodRange {
        first: period,
        last: period,
    };
    let context = Context {
        calendar: &pipeline.calendar,
        currency: &pipeline.currency,
        policy: &pipeline.policy,
        range,
    };
    let total = Grouping {
        dimension: "total".into(),
        member: lit("total"),
    };
    let tables = contract::INPUT_TABLES.into_iter().collect();
    let available = Available::of(tables, true, &pipeline.policy);
    let catalogue = default_catalogue(&pipeline.policy);
    let accounts = account_periods(rows, period, pipeline).lazy();
    let sums = sums(&accounts, &[total], &catalogue, &available, context).unwrap();
    let evaluated = evaluated(sums, &catalogue, &[], &available, context)
        .unwrap()
        .collect()
        .unwrap();
    evaluated.column(id).unwrap().f64().unwrap().get(0)
}

/// The rows in the types of the published account × period.
fn account_periods(rows: &Rows, period: i32, pipeline: &Pipeline) -> DataFrame {
    let mut columns = vec![
        Column::new("period_index".into(), vec![period; rows.count]),
        Column::new(DAYS_IN_PERIOD.into(), vec![30i64; rows.count]),
    ];
    let is_number = |kind| matches!(kind, Kind::Integer | Kind::Float | Kind::Money);
    for column in contract::of("account_period")
        .columns
        .iter()
        .filter(|column| is_number(column.kind))
    {
        let given = rows.columns.iter().find(|(name, _)| *name == column.name);
        let values = given.map_or_else(|| vec![0; rows.count], |(_, values)| values.clone());
        let column = Column::new(column.name.as_str().into(), values)
            .cast(&column.dtype(&pipeline.currency));
        columns.push(column.unwrap());
    }
    for (name, _) in &rows.columns {
        assert!(
            columns.iter().any(|column| column.name() == name),
            "account_period has no column {name}"
        );
    }
    DataFrame::new_infer_height(columns).unwrap()
}

#[test]
fn every_example_comes_out_as_printed() {
    let text =
        std::fs::read_to_string(repository().join("tests/cases/worked-examples.yaml")).unwrap();
    let examples: Vec<Example> = serde_yaml::from_str(&text).unwrap();
    let mut wrong = Vec::new();
    for example in &examples {
        let Some(rows) = rows(example) else {
            panic!("the example of {} is not covered", example.id);
        };
        let gross_margin = example.inputs.get("gross_margin").copied().unwrap_or(1.0);
        let found = value(&example.id, &rows, &pipeline(gross_margin));
        let is_right = found
            .is_some_and(|found| (found - example.expect).abs() <= 1e-9 * example.expect.abs());
        if !is_right {
            wrong.push(format!(
                "{}: printed {}, found {found:?}",
                example.id, example.expect
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
