//! What the program refuses: the exit code, and what it says. Nothing is published then, and nothing stays behind.

use crate::project::{Project, RUN};
use std::fs;

#[test]
fn a_wrong_command_line_is_refused() {
    let cases: &[(&str, &[&str])] = &[
        ("frobnicate", &["unrecognized subcommand 'frobnicate'"]),
        ("run", &["<PIPELINE>"]),
        (
            "run missing.yaml",
            &[
                "the pipeline file missing.yaml cannot be read",
                "help: `cskpi init` writes one",
            ],
        ),
        (
            "run pipeline.yaml --as-of yesterday",
            &[
                "--as-of `yesterday` is no instant",
                "2026-11-21T03:00:00+09:00",
            ],
        ),
        (
            "run pipeline.yaml --period 2024-13",
            &["`2024-13` is not a month", "2026-07"],
        ),
        (
            "run pipeline.yaml --period 2024-02-02",
            &["2024-02-02", "2024-02-01"],
        ),
        (
            "run pipeline.yaml --period 2023-12",
            &["`2023-12` lies before calendar.begin (2024-01-01)"],
        ),
        (
            "backfill pipeline.yaml --start 2024-03 --end 2024-02",
            &["--end must lie after --start"],
        ),
        (
            "run pipeline.yaml --select kpi_valus",
            &[
                "--select `kpi_valus` is no table",
                "did you mean `kpi_values`?",
            ],
        ),
        (
            "run pipeline.yaml --exclude runs_x",
            &["--exclude `runs_x` is no table"],
        ),
        (
            "schema subscripions",
            &[
                "there is no table `subscripions`",
                "did you mean `subscriptions`?",
            ],
        ),
        (
            "generate --out data --start 2024",
            &["--start `2024` is no month", "2024-04"],
        ),
    ];
    for (command, messages) in cases {
        Project::new().refuses(command, 2, messages);
    }
}

#[test]
fn a_missing_input_may_come_later() {
    for verb in ["validate pipeline.yaml", RUN] {
        let messages = [
            "source accounts",
            "no file matches `accounts.csv`",
            "run again when it is there",
        ];
        Project::new()
            .without("accounts.csv")
            .refuses(verb, 75, &messages);
    }
}

#[test]
fn inputs_without_a_needed_column_are_refused() {
    let without_start = "subscription_id,account_id,amount\ns1,acme,1000\n";
    let messages = [
        "subscriptions has no column `started_at`",
        "none of `subscription_id`, `account_id`, `amount`",
        "help: map it in the pipeline",
    ];
    for verb in ["validate pipeline.yaml", RUN] {
        Project::new()
            .put("subscriptions.csv", without_start)
            .refuses(verb, 2, &messages);
    }
    let without_price = "subscription_id,account_id,started_at\ns1,acme,2024-01-10\n";
    let messages = ["subscriptions needs one of the columns `amount`, `mrr`"];
    Project::new()
        .put("subscriptions.csv", without_price)
        .refuses(RUN, 2, &messages);
}

#[test]
fn names_that_no_column_answers_to_are_refused() {
    let dimension = "policy: {gross_margin: 0.8}\ndimensions: {size: employee_cnt}";
    let messages = [
        "no account has a column `employee_cnt`",
        "did you mean `employee_count`",
        "pipeline.yaml",
    ];
    for verb in ["validate pipeline.yaml", RUN] {
        Project::new()
            .pipeline("policy: {gross_margin: 0.8}", dimension)
            .refuses(verb, 2, &messages);
    }
    let column = "subscriptions: {path: subscriptions.csv, columns: {quantity: seats}}";
    let messages = [
        "columns.quantity of subscriptions names the unknown column `seats`",
        "`amount`",
    ];
    Project::new()
        .pipeline("subscriptions: {path: subscriptions.csv}", column)
        .refuses(RUN, 2, &messages);
    let misspelt = "subscriptions: {path: subscriptions.csv, columns: {amonut: amount}}";
    Project::new()
        .pipeline("subscriptions: {path: subscriptions.csv}", misspelt)
        .refuses(RUN, 2, &["did you mean `amount`"]);
}

#[test]
fn violations_of_all_tables_are_reported_together() {
    let accounts = "account_id,signup_date\nacme,2024-01-05\nacme,2024-01-06\nbolt,soon\n";
    let subscriptions = "\
subscription_id,account_id,started_at,ended_at,amount,status,quantity,discount,discount_kind
s1,acme,2024-01-10,2024-01-05,1000,,,,
s2,bolt,2024-02-30,,1000,,,,
s3,nobody,2024-02-01,,1000,,,,
s4,bolt,2024-02-01,2024-03-01,1000,,,,
s4,bolt,2024-02-15,,1000,,,,
s5,bolt,2024-02-15,,a lot,,,,
s6,bolt,2024-02-15,,1000,actve,,,
s7,bolt,2024-02-15,,1000,,-1,,
s8,bolt,2024-02-15,,1000,,,101,recurring_percent
,bolt,2024-02-15,,1000,,,,
";
    let messages = [
        "12 rows of the inputs break their contracts",
        "accounts.account_id the key (account_id) stands in more than one row (2 rows)\n    accounts.csv row 2: `acme`",
        "accounts.signup_date is not a date (1 row)\n    accounts.csv row 4: `soon`",
        "subscriptions.ended_at ended_at lies before started_at (1 row)\n    subscriptions.csv row 2: `2024-01-05`",
        "subscriptions.started_at is not a date or time (1 row)\n    subscriptions.csv row 3: `2024-02-30`",
        "subscriptions.account_id is not in accounts (1 row)\n    subscriptions.csv row 4: `nobody`",
        "subscriptions.started_at overlaps the row before it of the same subscription_id (1 row)\n    subscriptions.csv row 6: `2024-02-15`",
        "subscriptions.amount is not an amount (1 row)\n    subscriptions.csv row 7: `a lot`",
        "subscriptions.status must be one of active, past_due, trialing, paused, unpaid, canceled (1 row)\n    subscriptions.csv row 8: `actve`",
        "subscriptions.quantity must be at least 0 (1 row)\n    subscriptions.csv row 9: `-1`",
        "subscriptions.discount a discount of more than 100 percent (1 row)\n    subscriptions.csv row 10: `101`",
        "subscriptions.subscription_id must have a value (1 row)\n    subscriptions.csv row 11: no value",
        "nothing was published",
    ];
    Project::new()
        .put("accounts.csv", accounts)
        .put("subscriptions.csv", subscriptions)
        .refuses(RUN, 1, &messages);
}

/// A project that maps further tables, each from `<table>.csv` with this text.
fn with_tables(tables: &[(&str, &str)]) -> Project {
    let mut mapped = String::from("  accounts: {path: accounts.csv}");
    let mut project = Project::new();
    for (table, text) in tables {
        mapped += &format!("\n  {table}: {{path: {table}.csv}}");
        project = project.put(&format!("{table}.csv"), text);
    }
    project.pipeline("  accounts: {path: accounts.csv}", &mapped)
}

#[test]
fn violations_of_deals_surveys_tickets_and_costs_are_reported() {
    let surveys = "\
account_id,respondent_id,kind,score,scale,answered_at
acme,r1,nps,11,,2024-01-10
acme,r1,csat,6,5,2024-01-10
acme,r1,csat,6,,2024-01-10
acme,r1,csat,0,10,2024-01-10
acme,r1,nps,4,5,2024-01-10
acme,r1,ces,4,,2024-01-10
";
    let opportunities = "\
opportunity_id,account_id,kind,created_at,closed_at,is_won
o1,acme,new,2024-01-10,2024-01-20,
o2,acme,renewal,2024-01-10,2024-01-05,true
o3,acme,upsale,2024-01-10,,
o4,,new,2024-01-10,,
";
    let costs = "\
date,kind,amount,account_id
2024-01-10,markting,1000,
2024-01-10,sales,-1000,
2024-02-30,cs_people,1000,
";
    let tickets = "\
ticket_id,account_id,opened_at,closed_at,satisfaction
t1,nobody,2024-01-10,,
t2,acme,2024-01-10,2024-01-09,
t3,acme,2024-01-10,,0
t4,,2024-01-10,,
";
    let time_entries = "\
date,owner_id,account_id,hours
2024-01-10,sato,(unallocated),1
2024-01-10,sato,acme,-1
2024-01-10,sato,,1
";
    let members = "\
account_id,user_id,joined_at,left_at
acme,u1,2024-01-10,2024-01-09
";
    let onboarding = "\
account_id,user_id,started_at,completed_at
acme,,2024-01-10,
acme,,2024-01-10,
acme,u1,2024-01-10,2024-01-09
";
    let messages = [
        "21 rows of the inputs break their contracts",
        "surveys.csv row 2: `11`",
        "surveys.score a csat score lies from 1 to its scale (3 rows)\n    surveys.csv row 3: `6`\n    surveys.csv row 4: `6`\n    surveys.csv row 5: `0`",
        "surveys.scale a scale is 10 (nps), or 5 or 10 (csat) (1 row)\n    surveys.csv row 6: `5`",
        "surveys.kind must be one of nps, csat (1 row)\n    surveys.csv row 7: `ces`",
        "opportunities.is_won a closed opportunity needs is_won (1 row)\n    opportunities.csv row 2: no value",
        "opportunities.closed_at closed_at lies before created_at (1 row)\n    opportunities.csv row 3: `2024-01-05`",
        "opportunities.kind must be one of new, upsell, cross_sell, renewal (1 row)\n    opportunities.csv row 4: `upsale`",
        "costs.kind must be one of marketing, sales, cs_people, cs_tools (1 row)\n    costs.csv row 2: `markting`",
        "costs.date is not a date (1 row)\n    costs.csv row 4: `2024-02-30`",
        "tickets.account_id is not in accounts (1 row)\n    tickets.csv row 2: `nobody`",
        "tickets.closed_at closed_at lies before opened_at (1 row)\n    tickets.csv row 3: `2024-01-09`",
        "tickets.satisfaction must be at least 1 (1 row)\n    tickets.csv row 4: `0`",
        "tickets.account_id must have a value (1 row)\n    tickets.csv row 5: no value",
        "time_entries.account_id is not in accounts (1 row)\n    time_entries.csv row 2: `(unallocated)`",
        "time_entries.hours must be at least 0 (1 row)\n    time_entries.csv row 3: `-1`",
        "members.left_at left_at lies before joined_at (1 row)\n    members.csv row 2: `2024-01-09`",
        "onboarding.account_id the key (account_id, user_id, started_at) stands in more than one row (2 rows)\n    onboarding.csv row 2: `acme`",
        "onboarding.completed_at completed_at lies before started_at (1 row)\n    onboarding.csv row 4: `2024-01-09`",
        "help: correct the rows, map the columns differently, or leave rows out with `filter:`; nothing was published",
    ];
    with_tables(&[
        ("surveys", surveys),
        ("opportunities", opportunities),
        ("costs", costs),
        ("tickets", tickets),
        ("time_entries", time_entries),
        ("members", members),
        ("onboarding", onboarding),
    ])
    .refuses(RUN, 1, &messages);
}

/// What belongs to no account has rows of that name.
#[test]
fn an_account_named_unallocated_is_refused() {
    let messages = [
        "accounts.account_id (unallocated) is the name of what belongs to no account (1 row)\n    accounts.csv row 4: `(unallocated)`",
    ];
    Project::new()
        .put("accounts.csv", "account_id\nacme\nbolt\n(unallocated)\n")
        .refuses(RUN, 1, &messages);
}

#[test]
fn policies_that_lack_their_source_are_refused() {
    let cases: &[(&str, &[&str])] = &[
        (
            "upsell_base: offered",
            &[
                "no source tells what was offered",
                "pipeline.yaml:8  policy.upsell_base",
                "help: map `sources.opportunities`, or leave `upsell_base` at `opening`",
            ],
        ),
        (
            "onboarding_rule: {features: 3, within_days: 30}",
            &[
                "no source tells of features used",
                "pipeline.yaml:8  policy.onboarding_rule",
                "help: map `sources.usage_events`",
            ],
        ),
    ];
    for (policy, messages) in cases {
        for verb in ["validate pipeline.yaml --offline", RUN] {
            Project::new()
                .pipeline(
                    "{gross_margin: 0.8}",
                    &format!("{{gross_margin: 0.8, {policy}}}"),
                )
                .refuses(verb, 2, messages);
        }
    }
}

#[test]
fn costs_and_deals_without_a_rate_are_refused() {
    let costs = "date,kind,amount,currency\n2024-01-10,cs_tools,10,USD\n";
    let deals = "\
opportunity_id,account_id,kind,created_at,closed_at,is_won,amount,currency
o1,,new,2024-01-10,2024-01-20,true,10,USD
";
    for (table, text) in [("costs", costs), ("opportunities", deals)] {
        let messages = [
            "no exchange rate for USD in 2024-01",
            "add the rates to fx_rates",
        ];
        with_tables(&[(table, text)]).refuses(RUN, 1, &messages);
    }
}

#[test]
fn a_currency_without_a_rate_is_refused() {
    let subscriptions = "\
subscription_id,account_id,started_at,amount,currency
s1,acme,2024-01-10,1000,USD
s2,bolt,2024-01-10,1000,EUR
";
    let rates = "date,currency,rate\n2023-01-01,EUR,160\n2024-02-01,USD,150\n";
    let with_rates = "  accounts: {path: accounts.csv}\n  fx_rates: {path: fx_rates.csv}";
    let project = Project::new()
        .put("subscriptions.csv", subscriptions)
        .put("fx_rates.csv", rates)
        .pipeline("  accounts: {path: accounts.csv}", with_rates);
    // The first rate of USD is February's: too late for January's closing, which is February's opening.
    project.refuses(
        RUN,
        1,
        &[
            "no exchange rate for USD in 2024-01",
            "add the rates to fx_rates",
        ],
    );
}

#[test]
fn merges_in_a_circle_are_refused() {
    let merges =
        "old_account_id,account_id,merged_at\nacme,bolt,2024-02-10\nbolt,acme,2024-03-10\n";
    let mapped = "  accounts: {path: accounts.csv}\n  account_merges: {path: account_merges.csv}";
    Project::new()
        .put("account_merges.csv", merges)
        .pipeline("  accounts: {path: accounts.csv}", mapped)
        .refuses(
            RUN,
            1,
            &["account_merges goes in a circle: acme → bolt → acme"],
        );
}

#[test]
fn damaged_files_are_named() {
    Project::new().put("accounts.csv", "").refuses(
        RUN,
        1,
        &["accounts.csv is empty: it has no header line"],
    );
    let ragged = "account_id,signup_date\nacme,2024-01-05,x,y\n";
    Project::new()
        .put("accounts.csv", ragged)
        .refuses(RUN, 1, &["accounts.csv"]);
}

/// The usual mistake with a Japanese export.
#[test]
fn a_file_in_another_encoding_is_named() {
    let project = Project::new();
    let shift_jis = [
        b"account_id,name\nacme,".as_slice(),
        &[0x93, 0xfa, 0x96, 0x7b],
        b"\nbolt,\n",
    ]
    .concat();
    fs::write(project.folder.path().join("accounts.csv"), shift_jis).unwrap();
    project.refuses(RUN, 1, &["accounts.csv", "encoding: shift_jis"]);
}

#[test]
fn a_circle_of_metrics_is_refused() {
    let metrics = "policy: {gross_margin: 0.8}\nmetrics: {define: {arpa: {numerator: arpa * 2}}}";
    let messages = ["`arpa` refers to itself"];
    Project::new()
        .pipeline("policy: {gross_margin: 0.8}", metrics)
        .refuses("validate pipeline.yaml --offline", 2, &messages);
}

/// What the calendar, the catalogue and the dimensions say of targets is reported with what their contract says.
#[test]
fn targets_of_what_there_is_not_are_refused() {
    let targets = "\
metric,period,value,dimension,member,serves
mrr,2024-02,1000,,,
mrr,2024-02-01,2000,total,total,
chrun_rate,2024-02,0.1,,,mrr
churn_rate,2024-W07,0.1,,,nr
churn_rate,2024-02-02,0.1,,,
trailing_churn_rate,2024-02,0.1,,,
arr,2024-02,1,,,
grr,2024-02,1,,,
csat_by_item,2024-02,1,,,
hers,2024-02,1,sector,gold,
hers,2024-02,1,size,gold,mrr
mrr,2024-02,1,sise,gold,
mrr,2024-02,1,,gold,
mrr,2024-02,1,size,,
nrr,2024-02,a lot,,,nrr
";
    let messages = [
        "16 rows of the inputs break their contracts",
        "targets.metric two targets of one metric, period, dimension and member (2 rows)\n    targets.csv row 2: `mrr`\n    targets.csv row 3: `mrr`",
        "targets.metric is no metric (did you mean `churn_rate`?) (1 row)\n    targets.csv row 4: `chrun_rate`",
        "targets.serves is no metric (did you mean `nrr`?) (1 row)\n    targets.csv row 5: `nr`",
        "targets.period is not a month (write it like `2026-07`, or its first day) (1 row)\n    targets.csv row 5: `2024-W07`",
        "targets.period is not the first day of a month; the month that holds it starts on 2024-02-01 (1 row)\n    targets.csv row 6: `2024-02-02`",
        "targets.metric is not published: it only feeds other metrics (1 row)\n    targets.csv row 7: `trailing_churn_rate`",
        "targets.metric is not published: metrics.exclude names it (2 rows)\n    targets.csv row 8: `arr`\n    targets.csv row 9: `grr`",
        "targets.metric is told of one thing at a time, in kpi_breakdown; targets are of metrics of kpi_values (1 row)\n    targets.csv row 10: `csat_by_item`",
        "targets.metric is not published for size, only for total, sector (1 row)\n    targets.csv row 12: `hers`",
        "targets.dimension is no dimension or cohort (did you mean `size`?) (1 row)\n    targets.csv row 13: `sise`",
        "targets.member is of no dimension: the total has no such member (1 row)\n    targets.csv row 14: `gold`",
        "targets.member a target of a dimension needs its member (1 row)\n    targets.csv row 15: no value",
        "targets.value is not a number (1 row)\n    targets.csv row 16: `a lot`",
        "targets.serves a metric cannot serve itself (1 row)\n    targets.csv row 16: `nrr`",
    ];
    let policy = "\
policy: {gross_margin: 0.8}
dimensions: {size: account_id, sector: account_id}
metrics:
  exclude: [arr, grr]
  define:
    hers: {label: {en: Hers, ja: 彼女の}, unit: count, numerator: SUM(closing_mrr), dimensions: [sector]}";
    let project = Project::new().pipeline("policy: {gross_margin: 0.8}", policy);
    let text = fs::read_to_string(project.folder.path().join("pipeline.yaml")).unwrap();
    let accounts = "  accounts: {path: accounts.csv}";
    let mapped = format!("{accounts}\n  targets: {{path: targets.csv}}");
    project
        .put("pipeline.yaml", &text.replace(accounts, &mapped))
        .put("targets.csv", targets)
        .refuses(RUN, 1, &messages);
}

#[test]
fn a_target_of_a_metric_that_is_not_chosen_is_refused() {
    let policy = "policy: {gross_margin: 0.8}";
    let targets = "sources:\n  targets: {rows: [{metric: arr, period: 2024-02, value: 1, dimension: account}]}";
    let project = Project::new().pipeline(policy, &format!("{policy}\nmetrics: {{only: [mrr]}}"));
    let text = fs::read_to_string(project.folder.path().join("pipeline.yaml")).unwrap();
    let messages = [
        "targets.metric is not published: metrics.only does not name it (1 row)",
        "targets.dimension is no dimension or cohort (1 row)",
        "targets.dimension a target of a dimension needs its member (1 row)",
    ];
    project
        .put("pipeline.yaml", &text.replace("sources:", targets))
        .refuses(RUN, 1, &messages);
}
