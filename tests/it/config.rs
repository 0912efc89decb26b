//! Pipeline files: `tests/config/valid/` load, `tests/config/invalid/` are refused with exactly the report beside them.
//!
//! `UPDATE=1 cargo test` writes the reports anew; read their diff.

#![allow(clippy::disallowed_methods, reason = "a test reads its cases")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cskpi::config::error::YamlPath;
use cskpi::config::load::{Loaded, load};
use cskpi::config::{Format, Input, LineageTarget, Pipeline, RfmMethod, S3, TouchModelName};

/// What the cases find in the environment.
fn environment(name: &str) -> Option<String> {
    let value = match name {
        "DATA" => "/data",
        "TIME_ZONE" => "Asia/Tokyo",
        "LOOKBACK" => "3",
        "DB_PASSWORD" => "correct horse battery staple",
        "API_KEY" => "k3y",
        _ => return None,
    };
    Some(value.to_string())
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/config")
        .join(name)
}

/// The files of a folder with this ending, in order, without the ending.
fn names(name: &str, ending: &str) -> Vec<String> {
    let entries = fs::read_dir(folder(name)).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|file| file.strip_suffix(ending).map(String::from))
        .collect();
    names.sort();
    names
}

fn load_case(kind: &str, name: &str) -> Loaded {
    let text = fs::read_to_string(folder(kind).join(format!("{name}.yaml"))).unwrap();
    load(
        &format!("tests/config/{kind}/{name}.yaml"),
        &text,
        &environment,
    )
}

/// Compares a report with the one beside its case; gives the difference, or writes it when asked to.
fn difference(kind: &str, name: &str, report: &str) -> Option<String> {
    let file = folder(kind).join(format!("{name}.txt"));
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, report).unwrap();
        return None;
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    (expected != report).then(|| {
        format!(
            "{}:\n--- expected\n{expected}\n--- found\n{report}",
            file.display()
        )
    })
}

#[test]
fn valid_files_load() {
    let mut differences = Vec::new();
    for name in names("valid", ".yaml") {
        let loaded = load_case("valid", &name);
        let report = loaded.problems.to_string();
        assert!(!loaded.problems.has_errors(), "{name}:\n{report}");
        // Only those that say so in their name have warnings.
        if name.starts_with("warned_") {
            differences.extend(difference(
                "valid",
                &name,
                &format!("{}\n", loaded.problems),
            ));
        } else {
            assert!(loaded.problems.is_empty(), "{name}:\n{}", loaded.problems);
        }
        assert!(loaded.pipeline().is_some(), "{name}:\n{report}");
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn invalid_files_are_refused_with_their_report() {
    let mut differences = Vec::new();
    for name in names("invalid", ".yaml") {
        let loaded = load_case("invalid", &name);
        assert!(loaded.problems.has_errors(), "{name} has no errors");
        differences.extend(difference(
            "invalid",
            &name,
            &format!("{}\n", loaded.problems),
        ));
        assert!(loaded.pipeline().is_none(), "{name} loads");
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn every_report_has_its_case() {
    for kind in ["valid", "invalid"] {
        let cases = names(kind, ".yaml");
        for report in names(kind, ".txt") {
            assert!(cases.contains(&report), "{kind}/{report}.txt has no case");
        }
    }
}

#[test]
fn reports_show_no_secret() {
    for kind in ["valid", "invalid"] {
        for report in names(kind, ".txt") {
            let text = fs::read_to_string(folder(kind).join(format!("{report}.txt"))).unwrap();
            for secret in ["correct horse", "k3y"] {
                assert!(!text.contains(secret), "{kind}/{report}.txt shows {secret}");
            }
        }
    }
}

#[test]
fn a_full_file_says_what_the_program_uses() {
    let pipeline = load_case("valid", "full").pipeline().unwrap();
    assert_eq!(
        (
            pipeline.currency.code.as_str(),
            pipeline.currency.minor_digits
        ),
        ("KWD", 3)
    );
    assert_eq!(pipeline.calendar.begin.to_string(), "2024-05-01");
    assert_eq!(pipeline.calendar.ready_after, chrono::Duration::hours(6));
    let accounts = &pipeline.sources["accounts"];
    assert!(matches!(
        &accounts.input,
        Input::Files {
            format: Format::Csv,
            ..
        }
    ));
    assert_eq!(
        (accounts.csv.delimiter, accounts.csv.quote),
        (b';', Some(b'\''))
    );
    assert_eq!(accounts.csv.encoding.name(), "Shift_JIS");
    assert_eq!(accounts.time_zone, chrono_tz::UTC);
    assert_eq!(accounts.constants["seats"].as_deref(), Some("5"));
    assert_eq!(accounts.constants["owner_id"], None);
    let plans = &pipeline.sources["plans"];
    assert_eq!(plans.csv.delimiter, b'\t');
    assert_eq!(plans.time_zone, chrono_tz::Asia::Tokyo);
    let rfm = pipeline.rfm.unwrap();
    assert_eq!(rfm.method, RfmMethod::Thresholds);
    assert_eq!(
        rfm.thresholds.unwrap().monetary,
        [1000.0, 5000.0, 20000.0, 100000.5]
    );
    assert_eq!(rfm.segments[1].f, (1, 5));
    let touch_model = pipeline.touch_model.unwrap();
    assert_eq!(touch_model.rules.len(), 3);
    assert_eq!(
        touch_model.owners[&TouchModelName::High],
        ["sato", "suzuki"]
    );
    let invoice_dates = pipeline.sources["invoice_lines"].file_dates.as_ref();
    let (from, to) = invoice_dates
        .unwrap()
        .days("data/invoices/invoices-2024-12.pq")
        .unwrap();
    assert_eq!(
        (from.to_string(), to.to_string()),
        ("2024-12-01".into(), "2025-01-01".into())
    );
    assert!(pipeline.sources["accounts"].file_dates.is_none());
}

#[test]
fn a_full_file_says_how_a_run_goes_about_it() {
    let pipeline = load_case("valid", "full").pipeline().unwrap();
    let debugged = format!("{pipeline:?}");
    assert!(!debugged.contains("k3y"), "{debugged}");
    assert_eq!(pipeline.outputs.lock_expiry, Duration::from_secs(120));
    assert_eq!(
        pipeline.s3,
        S3 {
            endpoint: Some("https://s3.example.com".into()),
            region: Some("ap-northeast-1".into()),
            path_style: Some(true),
            allow_http: false,
            profile: Some("analytics".into()),
            keys: None,
            timeout: Duration::from_secs(60),
            max_retries: 3,
        }
    );
    let close = pipeline.close.unwrap();
    assert_eq!((close.business_days, close.holidays.len()), (5, 2));
    let lineage = pipeline.lineage.unwrap();
    assert_eq!(lineage.namespace, "finance");
    let LineageTarget::Http { url, api_key } = lineage.target else {
        panic!("no address")
    };
    assert_eq!(url, "https://marquez.example/api/v1/lineage");
    assert_eq!(api_key.as_deref(), Some("k3y"));
}

#[test]
fn a_minimal_file_leaves_the_rest_to_the_environment() {
    let pipeline = load_case("valid", "minimal").pipeline().unwrap();
    assert_eq!(pipeline.outputs.lock_expiry, Duration::from_secs(60));
    assert_eq!(pipeline.s3, S3::default());
    assert_eq!(pipeline.s3.timeout, Duration::from_secs(30));
    assert_eq!(pipeline.s3.max_retries, 10);
    assert_eq!(pipeline.close, None);
    assert_eq!(pipeline.lineage, None);
}

#[test]
fn a_store_on_this_machine_is_reached_without_encryption() {
    let pipeline = load_case("valid", "store_on_this_machine")
        .pipeline()
        .unwrap();
    let debugged = format!("{pipeline:?}");
    assert!(!debugged.contains("correct horse"), "{debugged}");
    assert_eq!(pipeline.outputs.lock_expiry, Duration::from_secs(30));
    assert_eq!(
        pipeline.s3.endpoint.as_deref(),
        Some("http://localhost:9000")
    );
    assert!(pipeline.s3.allow_http);
    assert_eq!((pipeline.s3.path_style, pipeline.s3.profile), (None, None));
    let lineage = pipeline.lineage.unwrap();
    assert_eq!(
        lineage.target,
        LineageTarget::File("/data/lineage.jsonl".into())
    );
    assert_eq!(lineage.namespace, "cskpi");
}

/// Settings are those of the file as it is understood: neither its notation nor what changes no value counts.
#[test]
fn settings_tell_which_key_was_changed() {
    let with = |from: &str, to: &str| -> Pipeline {
        let text = fs::read_to_string(folder("valid").join("full.yaml")).unwrap();
        assert!(text.contains(from), "{from}");
        let loaded = load("full.yaml", &text.replace(from, to), &environment);
        let report = loaded.problems.to_string();
        loaded.pipeline().unwrap_or_else(|| panic!("{report}"))
    };
    let before = with("name: full", "name: full").settings;
    for (from, to, changed) in [
        (
            "gross_margin: 0.75",
            "gross_margin: 0.76",
            "policy.gross_margin",
        ),
        (
            "recency: [7, 14",
            "recency: [7, 15",
            "rfm.thresholds.recency",
        ),
        (
            "by: [industry, size]",
            "by: [industry, plan]",
            "cohorts.industry_and_size.by",
        ),
        (
            "  industry: industry\n",
            "  industry: channel\n",
            "dimensions.industry",
        ),
        (
            "closing_mrr >= 50000",
            "closing_mrr >= 50001",
            "touch_model.rules[1].when",
        ),
        (
            "invoices-%Y-%m.pq",
            "invoices-%Y-%m",
            "sources.invoice_lines.file_dates",
        ),
        ("data/plans.tsv", "plans.tsv", "sources.plans.path"),
        (
            "merged_at: 2024-06-01",
            "merged_at: 2024-07-01",
            "sources.account_merges.rows",
        ),
    ] {
        assert_eq!(with(from, to).settings.changed(&before), [changed]);
    }
    for (from, to) in [
        ("gross_margin: 0.75", "gross_margin: ${MARGIN:-0.750}"),
        ("lookback: 3", "lookback: 4"),
        ("ready_after: 6h", "ready_after: 7h"),
        ("s3://bucket/kpi", "out"),
        ("business_days: 5", "business_days: 6"),
        ("max_retries: 3", "max_retries: 4"),
        ("namespace: finance", "namespace: sales"),
        ("name: full-example_1", "name: other"),
    ] {
        let changed = with(from, to).settings.changed(&before);
        assert!(changed.is_empty(), "{to}: {changed:?}");
    }
}

#[test]
fn inline_rows_become_text() {
    let pipeline = load_case("valid", "inline_rows").pipeline().unwrap();
    let Input::Rows { columns, rows } = &pipeline.sources["accounts"].input else {
        panic!("not inline")
    };
    assert_eq!(
        columns,
        &["account_id", "seats", "signup_date", "is_strategic"]
    );
    let text = |value: &str| Some(value.to_string());
    assert_eq!(rows[0], [text("a1"), text("10"), text("2024-01-05"), None]);
    assert_eq!(rows[1], [text("a2"), None, None, text("true")]);
    assert_eq!(rows[2], [text("003"), None, None, None]);
}

#[test]
fn variables_become_what_is_expected() {
    let pipeline = load_case("valid", "variables").pipeline().unwrap();
    assert_eq!(pipeline.calendar.lookback, 3);
    assert_eq!(pipeline.policy.gross_margin, 0.5);
    assert_eq!(pipeline.policy.past_due_grace_days, None);
    assert!(!pipeline.sources["accounts"].csv.has_header);
    assert_eq!(
        pipeline.sources["accounts"].filter.as_deref(),
        Some("name <> '${not_a_variable}' AND code REGEXP '^A.*$'")
    );
    assert_eq!(pipeline.outputs.root, "s3://bucket/kpi");
    let s3 = pipeline.s3;
    assert_eq!(
        (s3.endpoint, s3.path_style, s3.max_retries),
        (None, Some(true), 3)
    );
    let keys = s3.keys.unwrap();
    assert_eq!(keys.access_key_id, "AKIA");
    assert_eq!(keys.secret_access_key, "correct horse battery staple");
    assert_eq!(keys.session_token, None);
}

#[test]
fn left_out_segments_are_the_usual_ones() {
    let pipeline = load_case("valid", "defaults_of_segments")
        .pipeline()
        .unwrap();
    assert_eq!(pipeline.rfm.unwrap().segments.len(), 10);
    let rules: Vec<String> = pipeline
        .touch_model
        .unwrap()
        .rules
        .into_iter()
        .map(|rule| rule.name)
        .collect();
    assert_eq!(
        rules,
        [
            "strategic_or_top_decile",
            "next_40_percent",
            "community",
            "rest"
        ]
    );
}

#[test]
fn later_checks_push_problems_by_path() {
    let mut problems = load_case("valid", "full").problems;
    let path = YamlPath::keys(["metrics", "define", "strategic_mrr", "numerator"]);
    problems.push(
        path,
        "unknown column `closing_mmr`",
        Some("did you mean `closing_mrr`?".to_string()),
    );
    let report = problems.to_string();
    assert!(
        report.contains("SUM(closing_mrr) FILTER (WHERE is_strategic)"),
        "{report}"
    );
}

/// Whatever a file holds, it is read or refused; nothing panics and nothing takes long.
#[test]
fn damaged_files_never_panic() {
    let text = fs::read_to_string(folder("valid").join("full.yaml")).unwrap();
    let boundaries: Vec<usize> = text.char_indices().map(|(position, _)| position).collect();
    for &cut in boundaries.iter().step_by(61) {
        let _ = load("cut.yaml", &text[..cut], &environment)
            .problems
            .to_string();
    }
    let lines: Vec<&str> = text.lines().collect();
    for left_out in 0..lines.len() {
        let kept: Vec<&str> = lines
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != left_out)
            .map(|(_, line)| *line)
            .collect();
        let _ = load("line.yaml", &kept.join("\n"), &environment)
            .problems
            .to_string();
    }
    for odd in [
        "null",
        "[]",
        "{}",
        "-1",
        ".nan",
        "true",
        "'`'",
        "\"\\0\"",
        "{a: {b: c}}",
    ] {
        for (replaced, line) in lines.iter().enumerate() {
            let Some((key, _)) = line.split_once(": ") else {
                continue;
            };
            let mut changed: Vec<String> = lines.iter().map(|line| line.to_string()).collect();
            changed[replaced] = format!("{key}: {odd}");
            let _ = load("odd.yaml", &changed.join("\n"), &environment)
                .problems
                .to_string();
        }
    }
}
