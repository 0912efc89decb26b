//! Intervals of a pipeline's own metrics: what they may ask for, and that an interval follows the formula.

use crate::company::Company;
use crate::project::{Project, RUN};
use crate::support::{self, published_table};
use polars::prelude::*;
use std::fs;

const VALIDATE: &str = "validate pipeline.yaml";

fn with_metrics(entries: &str) -> Project {
    let sections = format!("policy: {{gross_margin: 0.8}}\nmetrics: {{define: {{{entries}}}}}");
    Project::new().pipeline("policy: {gross_margin: 0.8}", &sections)
}

fn own(entry: &str) -> String {
    format!("own: {{label: {{en: Own, ja: 独自}}, unit: ratio, {entry}}}")
}

#[test]
fn an_interval_that_cannot_be_made_is_refused() {
    for (entries, messages) in [
        (
            own("numerator: AVG(closing_mrr), interval: bootstrap"),
            &[
                "metrics.define.own.interval",
                "`AVG(closing_mrr)` in `own` is no sum over columns",
                "write it with SUM(…)",
            ][..],
        ),
        (
            own("numerator: SUM(closing_mrr), denominator: COUNT(*), interval: bootstrap"),
            &["`COUNT(*)` in `own`"],
        ),
        (
            own("numerator: ltv_survival, denominator: arpa, interval: bootstrap"),
            &["cannot be drawn: `expected_lifetime` is made by a routine"],
        ),
        (
            own("numerator: dau * 2, interval: {through: dau}"),
            &["`dau` has no interval"],
        ),
        (
            own("numerator: mrr * 2, interval: {through: churn_rate}"),
            &["the formula does not refer to `churn_rate`"],
        ),
        (
            own("numerator: SUM(csat_answers), by: survey_item, interval: bootstrap"),
            &["a metric with `by` has no bootstrap"],
        ),
    ] {
        with_metrics(&entries).refuses(VALIDATE, 2, messages);
    }
}

/// A shipped metric that has become another one does not keep an interval that was made for what it was; nor do those that
/// rest on it stand in the way.
#[test]
fn a_changed_formula_brings_its_own_interval() {
    let project =
        with_metrics("arpa: {numerator: MEDIAN(closing_mrr)}, churn_rate: {unit: percent}");
    project.run(RUN).succeeded();
    let dictionary = published_table(&project.root(), "metric_dictionary").unwrap();
    let names = ["arpa", "ltv", "nrr", "churn_rate"];
    let wanted = polars::sql::sql_expr("metric IN ('arpa', 'ltv', 'nrr', 'churn_rate')").unwrap();
    let rows = dictionary
        .lazy()
        .filter(wanted)
        .select([col("metric"), col("interval")])
        .collect()
        .unwrap();
    let rows = support::rows_as_text(&rows);
    let interval = |id: &str| rows.iter().find(|row| row[0] == id).unwrap()[1].clone();
    assert_eq!(
        names.map(interval),
        ["", "", "bootstrap", "proportion"].map(str::to_owned)
    );
}

/// What a formula makes of other metrics, their draws make of the other metrics' draws.
#[test]
fn draws_go_through_formulas_and_other_periods() {
    let company = Company::generated(21);
    let path = company.path().join("pipeline.yaml");
    let metric = |id: &str, entry: &str| {
        format!(
            "    {id}: {{label: {{en: {id}, ja: {id}}}, unit: ratio, {entry}, interval: bootstrap}}\n"
        )
    };
    let metrics = [
        metric("same", "numerator: nrr"),
        metric(
            "filtered",
            "numerator: \"SUM(opening_mrr) FILTER (WHERE churned_customers = 0)\", denominator: SUM(opening_mrr)",
        ),
        metric(
            "spelled_out",
            "numerator: SUM(opening_mrr) - SUM(churn_mrr), denominator: SUM(opening_mrr)",
        ),
        metric("before", "numerator: previous(arpa)"),
        metric("year_before", "numerator: year_ago(arpa)"),
        metric("share", "numerator: arpa, denominator: total(arpa)"),
        metric(
            "pooled",
            "numerator: SUM(churn_mrr), denominator: SUM(opening_mrr), trailing: 3",
        ),
    ];
    let ids = "same, filtered, spelled_out, before, year_before, share, pooled, nrr, arpa";
    let text = fs::read_to_string(&path).unwrap();
    let own = format!("metrics:\n  only: [{ids}]\n  define:\n{}", metrics.concat());
    fs::write(&path, format!("{text}{own}")).unwrap();

    let root = company.published("backfill --start 2024-12");
    let values = published_table(root.path(), "kpi_values").unwrap();
    let bounds = |metric: &str, period: &str, group: &str| -> Vec<Vec<String>> {
        let wanted = format!(
            "metric = '{metric}' AND CAST(period_start AS VARCHAR) = '{period}' AND {group}"
        );
        let rows = values
            .clone()
            .lazy()
            .filter(polars::sql::sql_expr(&wanted).unwrap())
            .select(["dimension", "member", "value", "lower", "upper"].map(col))
            .sort(["dimension", "member"], Default::default())
            .collect()
            .unwrap();
        let rows = support::rows_as_text(&rows);
        assert!(!rows.is_empty(), "{wanted}");
        rows
    };
    let all = "TRUE";
    assert_eq!(
        bounds("same", "2025-02-01", all),
        bounds("nrr", "2025-02-01", all)
    );
    assert_eq!(
        bounds("filtered", "2025-02-01", all),
        bounds("spelled_out", "2025-02-01", all)
    );
    let total = "dimension = 'total'";
    assert_eq!(
        bounds("before", "2025-02-01", total),
        bounds("arpa", "2025-01-01", total)
    );
    assert_eq!(
        bounds("share", "2025-02-01", total)[0][2..],
        ["1.0", "1.0", "1.0"]
    );

    // A period alone looks as far back as it must.
    let alone = company.published("run --period 2025-02");
    let alone = published_table(alone.path(), "kpi_values").unwrap();
    let of_month = polars::sql::sql_expr("CAST(period_start AS VARCHAR) = '2025-02-01'").unwrap();
    let in_range = values.lazy().filter(of_month).collect().unwrap();
    assert!(alone.equals_missing(&in_range));
}
