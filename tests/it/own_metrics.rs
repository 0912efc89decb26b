//! Metrics, dimensions and rules of a pipeline's own: where they appear, and what they may say.

use crate::project::Project;
use crate::support::{self, published_files, temp_folder};

const VALIDATE: &str = "validate pipeline.yaml";

/// The small company with metrics, or other sections, of its own.
fn with(sections: &str) -> Project {
    Project::new().pipeline("policy: {gross_margin: 0.8}", sections)
}

fn with_metric(entry: &str) -> Project {
    with(&format!(
        "policy: {{gross_margin: 0.8}}\nmetrics: {{define: {{own: {{label: {{en: Own, ja: 独自}}, unit: ratio, {entry}}}}}}}"
    ))
}

#[test]
fn what_a_metric_names_is_known() {
    for (entry, messages) in [
        (
            "numerator: SUM(closing_mmr)",
            &["`closing_mmr` is no column", "did you mean `closing_mrr`"][..],
        ),
        (
            "numerator: previous(churn_rat)",
            &["`churn_rat` is no metric", "did you mean `churn_rate`"],
        ),
        (
            "numerator: mrr, denominator: total(mrrr)",
            &["`mrrr` is no metric", "did you mean `mrr`"],
        ),
        (
            "numerator: previous(gross_margin)",
            &["`gross_margin` is no metric", "a constant has no history"],
        ),
        (
            "numerator: mrr - previous(own)",
            &["`own` refers to itself", "not even on its earlier values"],
        ),
        (
            "numerator: SUM(closing_mrr) - previous(mrr)",
            &["beside an aggregate", "a metric of its own"],
        ),
        (
            "numerator: \"SUM(closing_mrr) FILTER (WHERE account_id IN (SELECT a FROM read_csv('/etc/passwd')))\"",
            &["a subquery is not allowed"],
        ),
        (
            "numerator: \"read_csv('/etc/passwd')\"",
            &["`read_csv` is not allowed", "an expression opens no files"],
        ),
        (
            "numerator: csat_by_item * 2",
            &["`csat_by_item` is no metric of kpi_values"],
        ),
        (
            "numerator: mrr, dimensions: [cohort_first_payd]",
            &[
                "`cohort_first_payd` is no dimension or cohort",
                "did you mean `cohort_first_paid`",
            ],
        ),
    ] {
        with_metric(entry).refuses(VALIDATE, 2, messages);
    }
}

#[test]
fn a_metric_is_not_named_like_a_constant() {
    for name in ["gross_margin", "days_in_period"] {
        let metrics = format!(
            "policy: {{gross_margin: 0.8}}
metrics:
  define:
    {name}: {{label: {{en: Own, ja: 独自}}, unit: ratio, numerator: SUM(closing_mrr)}}
"
        );
        let message = format!("`{name}` is a constant of formulas; a metric needs another name");
        let hint = format!("for example `own_{name}`");
        with(&metrics).refuses(VALIDATE, 2, &[&message, &hint]);
    }
}

#[test]
fn a_circle_is_one_also_by_way_of_the_past() {
    let metrics = "policy: {gross_margin: 0.8}
metrics:
  define:
    a: {label: {en: A, ja: あ}, unit: ratio, numerator: previous(b)}
    b: {label: {en: B, ja: い}, unit: ratio, numerator: a * 2}
";
    let messages = [
        "circle: a → b → a",
        "a metric may not rest on itself, not even on its earlier values",
    ];
    with(metrics).refuses(VALIDATE, 2, &messages);
}

#[test]
fn rules_and_dimensions_look_back_on_columns_that_there_are() {
    let of_rule = |when: &str| {
        format!(
            "policy: {{gross_margin: 0.8}}\ntouch_model: {{rules: [{{name: one, model: high, when: \"{when}\"}}]}}"
        )
    };
    let of_dimension =
        |sql: &str| format!("policy: {{gross_margin: 0.8}}\ndimensions: {{trend: \"{sql}\"}}");
    for (sections, messages) in [
        (
            of_rule("mrr < previous(mrrr)"),
            &["no account has a column `mrrr`", "did you mean `mrr`"][..],
        ),
        (
            of_rule("previous(touch_model) = 'high'"),
            &["`touch_model` is what the rules decide"],
        ),
        (
            of_rule("mrr > total(mrr)"),
            &["only formulas over metrics know a total"],
        ),
        (
            of_dimension("year_ago(signup_dat)"),
            &["no account has a column `signup_dat`", "`signup_date`"],
        ),
        (
            of_dimension("previous(touch_model)"),
            &["`touch_model` needs the section `touch_model`"],
        ),
    ] {
        with(&sections).refuses(VALIDATE, 2, messages);
    }
    let of_source = Project::new().pipeline(
        "subscriptions: {path: subscriptions.csv}",
        "subscriptions: {path: subscriptions.csv, filter: previous(amount) > 1}",
    );
    of_source.refuses(VALIDATE, 2, &["look elsewhere"]);
}

/// Values of other periods are those of then, whichever periods are asked for.
#[test]
fn a_period_is_the_same_alone_and_in_a_range() {
    let story = support::repository().join("tests/cases/values_of_other_periods");
    let [all, alone] = [temp_folder(), temp_folder()];
    let run = |root: &std::path::Path, command: &str| {
        let variables = [("OUT", root.to_str().unwrap())];
        let command = format!("{command} --as-of 2025-03-01T00:00:00+09:00");
        support::cskpi_with(&story, &variables, &command).succeeded();
    };
    run(all.path(), "backfill pipeline.yaml");
    for period in ["2024-01", "2024-02", "2024-10", "2025-02"] {
        run(
            alone.path(),
            &format!("run pipeline.yaml --period {period}"),
        );
    }
    let together = published_files(all.path());
    let found = published_files(alone.path());
    assert!(found.len() >= 4 * 8);
    for (file, bytes) in found {
        let same = together
            .iter()
            .any(|(name, all)| *name == file && *all == bytes);
        assert!(same, "{file}");
    }
}
