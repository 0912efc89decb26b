//! `explain` and `docs`: definitions as they are executed, and the numbers behind what is published.

use crate::project::{Project, RUN};
use crate::support::{self, Ran, says, temp_folder};
use polars::prelude::*;
use serde_json::Value;
use std::fs;
use std::path::Path;

const TO_MARCH: &str = "backfill pipeline.yaml --as-of 2024-04-01T00:00:00+09:00";

fn published() -> Project {
    let project = Project::new().pipeline(
        "policy: {gross_margin: 0.8}",
        "policy: {gross_margin: 0.8}\ndimensions: {grade: grade}\ncohorts: {grades: {by: [grade]}}",
    );
    let project = project.put(
        "accounts.csv",
        "account_id,name,grade,signup_date\nacme,Acme KK,gold,2024-01-05\nbolt,ボルト,銀,2024-01-20\n",
    );
    project.run(TO_MARCH).succeeded();
    project
}

/// Standard output says all of this; how its columns are aligned does not matter.
#[track_caller]
fn shows(ran: &Ran, parts: &[&str]) {
    let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let text: Vec<String> = ran.stdout.lines().map(line).collect();
    let text = text.join("\n");
    for part in parts {
        assert!(text.contains(part), "no `{part}`:\n{}", ran.stdout);
    }
}

#[track_caller]
fn json(ran: Ran) -> Value {
    let ran = ran.succeeded();
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stdout))
}

#[test]
fn a_metric_is_explained_before_anything_is_published() {
    let project = Project::new();
    let ran = project.run("explain ltv pipeline.yaml").succeeded();
    let parts = [
        "ltv: LTV (unit: currency; good: up)",
        "numerator arpa * gross_margin",
        "denominator SUM(closing_customers)",
        "over the trailing 6 periods",
        "closing_mrr MRR at the period's end",
        "subscriptions subscriptions.csv",
        "fx_rates not mapped",
        "gross_margin 0.8",
        "past_due_grace_days not set",
        "months_per_period 1",
        "No kpi_values is published yet under out.",
    ];
    shows(&ran, &parts);
    let offline = project.run("explain ltv pipeline.yaml --offline");
    assert!(!offline.succeeded().stdout.contains("published yet"));
    let asked = "explain ltv pipeline.yaml --period 2024-02";
    project.refuses(
        asked,
        2,
        &[
            "no kpi_values is published yet under out",
            "cskpi run pipeline.yaml",
        ],
    );
}

#[test]
fn the_accounts_of_a_group_reproduce_what_is_published() {
    let project = published();
    let ran = project.run("explain nrr pipeline.yaml").succeeded();
    let parts = [
        "2024-03, total",
        "value 0.666667",
        "numerator 10,000",
        "churn_mrr 5,000",
        "These rows give 10,000 / 15,000: what is published.",
        "acme 10,000 / 10,000 Acme KK",
        "bolt 0 / 5,000 ボルト",
    ];
    shows(&ran, &parts);
    // The same for every kind of group, and for every shape of metric.
    for member in [
        "total",
        "grade=gold",
        "grade=銀",
        "grades=銀",
        "cohort_first_paid=2024-01-01",
        "cohort_signup=2024-01-01",
    ] {
        for metric in ["mrr", "nrr", "arpa", "dau"] {
            let command = format!("explain {metric} pipeline.yaml --member {member} --output json");
            let explained = json(project.run(&command));
            let numbers = &explained["numbers"];
            assert_eq!(
                numbers["accounts"]["computed"]["reproduces"],
                Value::Bool(true),
                "{metric} {member}: {numbers}"
            );
        }
    }
}

#[test]
fn json_has_all_of_it() {
    let explained =
        json(published().run(
            "explain churn_rate pipeline.yaml --period 2024-03 --member grade=銀 --output json",
        ));
    assert_eq!(explained["label"]["ja"], "解約率");
    assert_eq!(explained["interval"], "proportion");
    let definition = &explained["definition"];
    assert_eq!(
        definition["formulas"][0]["numerator"],
        "SUM(churned_customers)"
    );
    assert_eq!(definition["columns"][0]["column"], "churned_customers");
    let numbers = &explained["numbers"];
    assert_eq!(numbers["period_start"], "2024-03-01");
    assert_eq!(numbers["dimension_sql"], "grade");
    assert_eq!(numbers["value"]["value"], 1.0);
    assert_eq!(numbers["accounts"]["largest"][0]["account_id"], "bolt");
    assert_eq!(numbers["accounts"]["sums"][0]["sum"], 1.0);
}

#[test]
fn japanese_is_japanese() {
    let ran = published()
        .run("explain nrr pipeline.yaml --language ja")
        .succeeded();
    let parts = [
        "nrr：売上継続率（NRR）（単位：比率、高いほど良い）",
        "期首MRRが、拡大を含めて",
        "分子",
        "account_period の列",
        "ポリシー",
        "fx_rates マッピングなし",
        "2024-03, 全体",
        "公開値と一致します",
        "影響の大きいアカウント",
    ];
    shows(&ran, &parts);
}

#[test]
fn what_is_not_there_is_answered_with_what_is() {
    let project = published();
    for (command, messages) in [
        (
            "explain nrrr pipeline.yaml",
            &["there is no metric `nrrr`", "did you mean `nrr`"][..],
        ),
        (
            "explain zzzz pipeline.yaml",
            &["there is no metric `zzzz`", "cskpi docs pipeline.yaml"],
        ),
        ("explain pipeline.yaml nrr", &["the metric comes first"]),
        (
            "explain nrr pipeline.yaml --period 2024-07",
            &[
                "no kpi_values of 2024-07 is published",
                "the nearest is 2024-03",
                "3 periods from 2024-01",
            ],
        ),
        (
            "explain nrr pipeline.yaml --period March",
            &["`March` is not a month"],
        ),
        (
            "explain nrr pipeline.yaml --member gold",
            &["--member `gold` names no group", "write `total`"],
        ),
        (
            "explain nrr pipeline.yaml --member grad=gold",
            &["`grad` is no published dimension or cohort", "`grade`"],
        ),
        (
            "explain nrr pipeline.yaml --member grade=golt",
            &["`grade` has no member `golt`", "did you mean `gold`"],
        ),
        (
            "explain nrr pipeline.yaml --member grade=銅",
            &["`grade` has no member `銅`", "there are `gold`, `銀`"],
        ),
    ] {
        let ran = project.run(command);
        assert_eq!(ran.code, 2, "{command}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{command}");
        says(&ran, messages);
    }
}

/// What stands in `account_period` of March, changed.
fn rewrite(root: &Path, change: impl Fn(DataFrame) -> DataFrame) {
    let path = root.join("account_period/period=2024-03-01/part-0.parquet");
    let mut frame = change(support::read_parquet(&path));
    let file = fs::File::create(&path).unwrap();
    ParquetWriter::new(file).finish(&mut frame).unwrap();
}

#[test]
fn files_of_other_versions_are_told_of() {
    let project = published();
    let explain = || project.run("explain nrr pipeline.yaml");
    rewrite(&project.root(), |frame| {
        let more = (col("churn_mrr").cast(DataType::Int64) + lit(1)).cast(DataType::Decimal(18, 0));
        frame
            .lazy()
            .with_column(more.alias("churn_mrr"))
            .collect()
            .unwrap()
    });
    says(
        &explain().succeeded(),
        &["WARNING: these rows give", "published is 10,000 / 15,000"],
    );
    rewrite(&project.root(), |frame| frame.drop("churn_mrr").unwrap());
    says(
        &explain().succeeded(),
        &["churn_mrr: the file has no such column"],
    );
    rewrite(&project.root(), |frame| frame.drop("grade").unwrap());
    shows(
        &project
            .run("explain nrr pipeline.yaml --member grade=gold")
            .succeeded(),
        &["grade: the file has no such column", "value 1"],
    );
    let path = |table: &str| {
        let file = format!("{table}/period=2024-03-01/part-0.parquet");
        project.root().join(file)
    };
    fs::remove_file(path("account_period")).unwrap();
    says(
        &explain().succeeded(),
        &["account_period of this period is not published"],
    );
    fs::write(path("kpi_values"), "no Parquet").unwrap();
    let ran = explain();
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    says(&ran, &["cannot be read back", "cskpi verify"]);
    let mut other = df!("x" => [1i64]).unwrap();
    let file = fs::File::create(path("kpi_values")).unwrap();
    ParquetWriter::new(file).finish(&mut other).unwrap();
    let ran = explain();
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    says(&ran, &["cannot be read as a published table"]);
}

#[test]
fn a_metric_that_is_not_published_says_why() {
    let project = Project::new().pipeline(
        "policy: {gross_margin: 0.8}",
        "policy: {gross_margin: 0.8}\ndimensions: {grade: account_id}\nmetrics: {exclude: [arr], define: {own: {label: {en: Own, ja: 独自}, unit: ratio, numerator: mrr, dimensions: [cohort_signup]}}}",
    );
    project.run(RUN).succeeded();
    for (command, message) in [
        (
            "explain trailing_churn_rate pipeline.yaml",
            "it feeds other metrics",
        ),
        ("explain arr pipeline.yaml", "metrics.only, metrics.exclude"),
        (
            "explain own pipeline.yaml --member grade=acme",
            "the total and these only: cohort_signup",
        ),
        (
            "explain csat_by_item pipeline.yaml --period 2024-02",
            "nothing of the kind",
        ),
    ] {
        says(&project.run(command).succeeded(), &[message]);
    }
}

#[test]
fn items_and_values_of_other_periods_are_shown() {
    let surveys = "account_id,respondent_id,answered_at,kind,item,score\n\
acme,u1,2024-03-05,csat,support,5\nacme,u2,2024-03-06,csat,support,1\nbolt,u3,2024-03-06,csat,product,4\n";
    let project = Project::new()
        .pipeline(
            "  subscriptions: {path: subscriptions.csv}",
            "  subscriptions: {path: subscriptions.csv}\n  surveys: {path: surveys.csv}\nmetrics: {define: {csat_by_item: {dimensions: [cohort_signup]}}}",
        )
        .put("surveys.csv", surveys);
    project.run(TO_MARCH).succeeded();
    let ran = project
        .run("explain csat_by_item pipeline.yaml")
        .succeeded();
    shows(&ran, &["product\nvalue 100", "support\nvalue 50"]);

    // It is told of the total and of what its entry names.
    let items = support::published_table(&project.root(), "kpi_breakdown").unwrap();
    let mut dimensions: Vec<String> =
        support::rows_as_text(&items.select(["dimension"]).unwrap()).concat();
    dimensions.dedup();
    assert_eq!(dimensions, ["cohort_signup", "total"]);

    let story = support::repository().join("tests/cases/values_of_other_periods");
    let root = temp_folder();
    let run = |command: &str| {
        let variables = [("OUT", root.path().to_str().unwrap())];
        support::cskpi_with(&story, &variables, command).succeeded()
    };
    run("backfill pipeline.yaml --as-of 2025-03-01T00:00:00+09:00");
    let grown = run("explain mrr_growth pipeline.yaml --period 2024-12 --member region=west");
    shows(&grown, &["value -250", "mrr 0", "previous(mrr) 250"]);
    let share = run("explain mrr_share pipeline.yaml --period 2024-01 --member region=east");
    shows(&share, &["value 0.25", "total(mrr) 400"]);
    // Before the calendar begins there is nothing to show.
    let first = run("explain mrr_growth pipeline.yaml --period 2024-01");
    assert!(
        !first.stdout.contains("previous(mrr)  "),
        "{}",
        first.stdout
    );
}

/// A metric of the pipeline's own stands wherever the shipped ones do.
#[test]
fn an_own_metric_is_everywhere() {
    let project = Project::new().pipeline(
        "policy: {gross_margin: 0.8}",
        "policy: {gross_margin: 0.8}\nmetrics: {define: {big_mrr: {label: {en: Big MRR, ja: 大口MRR}, description: {en: MRR of the big ones, ja: 大口顧客のMRR}, unit: currency, numerator: SUM(closing_mrr) FILTER (WHERE closing_mrr > 5000), dimensions: [cohort_signup], source: sales handbook}}}",
    );
    project.run(RUN).succeeded();
    let table = |name: &str| support::published_table(&project.root(), name).unwrap();
    let of_it = |name: &str| {
        let is_it = col("metric").eq(lit("big_mrr"));
        table(name).lazy().filter(is_it).collect().unwrap()
    };
    let values = of_it("kpi_values");
    let rows = values.select(["dimension", "member", "value"]).unwrap();
    assert_eq!(
        support::rows_as_text(&rows),
        [
            ["cohort_signup", "2024-01-01", "10000.0"],
            ["total", "total", "10000.0"]
        ]
    );
    let summary = table("kpi_summary");
    assert_eq!(
        summary.column("big_mrr").unwrap().f64().unwrap().get(0),
        Some(10_000.0)
    );
    let columns = [
        "label_ja",
        "description",
        "description_ja",
        "dimensions",
        "is_custom",
        "source",
    ];
    let dictionary = of_it("metric_dictionary").select(columns).unwrap();
    assert_eq!(
        support::rows_as_text(&dictionary),
        [[
            "大口MRR",
            "MRR of the big ones",
            "大口顧客のMRR",
            "cohort_signup",
            "true",
            "sales handbook"
        ]]
    );
    let docs = project.run("docs pipeline.yaml").succeeded();
    says(&docs, &["## big_mrr", "told of: total, cohort_signup"]);
    let explained = project.run("explain big_mrr pipeline.yaml").succeeded();
    says(
        &explained,
        &["big_mrr: Big MRR", "what is published", "sales handbook"],
    );
}

#[test]
fn the_dictionary_is_written_in_either_language() {
    let project = Project::new();
    let docs = |options: &str| {
        project
            .run(&format!("docs pipeline.yaml {options}"))
            .succeeded()
            .stdout
    };
    let english = docs("");
    assert_eq!(english, docs("--language en"));
    for part in [
        "# Metrics of `small`",
        "- 95 % interval: Wilson, of a proportion",
        "- sample size: `SUM(opening_customers)`",
        "- not mature (`is_mature` is false) while `SUM(onboardings_open)` is above 0",
        "- policy: `gross_margin`, `bootstrap_samples`",
        "- in `kpi_breakdown`, by survey item",
    ] {
        assert!(english.contains(part), "no `{part}`");
    }
    let japanese = docs("--language ja");
    for part in [
        "# `small` の指標一覧",
        "| ID | 名称 | 英語名 | 単位 | 望ましい方向 |",
        "**売上継続率（NRR）**（Net revenue retention）：期首MRRが、",
        "- 95%信頼区間：アカウント単位のブートストラップ",
        "- `kpi_breakdown` にアンケート項目別で出力",
        "- surveysがない場合はnull",
    ] {
        assert!(japanese.contains(part), "no `{part}`");
    }
    for english_note in ["unit:", "sample size", "null without", "policy:", "source:"] {
        assert!(!japanese.contains(english_note), "{english_note}");
    }
    // Links lead to the headings of their own language.
    let both = docs("--language both");
    assert!(both.starts_with(&english));
    assert!(both.contains("[`nrr`](#nrr)") && both.contains("[`nrr`](#nrr-1)"));
}
