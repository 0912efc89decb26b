//! The kernel against [`super::reference`], on random use: every grain, every window, and rows split up in any way.

use super::bucket::{Bucket, Known, Rules};
use super::part::{Shape, month_of, parts};
use super::sheet::Joining;
use super::*;
use crate::config::Pipeline;
use crate::facts::merges::Merge;
use crate::facts::spine::SLOT;
use crate::period::utc_micros;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};

const WINDOW_DAYS: i32 = 45;
/// 1 December 2023, in microseconds since 1970.
const FROM: i64 = 1_701_388_800_000_000;
const HOUR: i64 = 3_600_000_000;

fn pipeline(calendar: &str, policy: &str) -> Pipeline {
    let text = format!(
        "version: 1\nname: x\ncurrency: EUR\ncalendar: {{{calendar}}}\nsources:\n  accounts: {{path: a.csv}}\n  \
         subscriptions: {{path: s.csv}}\npolicy: {{gross_margin: 0.8, {policy}}}\noutputs: {{root: out}}\n"
    );
    let loaded = crate::config::load::load("x.yaml", &text, &|_| None);
    let problems = loaded.problems.to_string();
    loaded.pipeline().unwrap_or_else(|| panic!("{problems}"))
}

/// Names of 1 to 24 bytes; no one is another's beginning alone.
fn long_or_short(number: u32) -> String {
    format!("{number}{}", "x".repeat(number as usize % 24))
}

type Event = (String, String, i64, Option<String>, Option<String>, i64);

/// Events of four months: some in sessions, some at the same instant, some accounts with hardly any.
fn events(seed: u64, count: usize) -> DataFrame {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = |below: u32| rng.next_u32() % below;
    let rows: Vec<Event> = (0..count)
        .map(|_| {
            let account = draw(12).min(draw(12));
            let hour = i64::from(draw(120 * 24));
            let minutes = i64::from(draw(5) * 13);
            (
                format!("account {account}"),
                long_or_short(draw(6)),
                FROM + hour * HOUR + minutes * 60_000_000 + i64::from(draw(3)) * 400_000,
                (draw(4) > 0).then(|| format!("feature {}", draw(9))),
                (draw(3) > 0).then(|| long_or_short(draw(20))),
                i64::from(draw(900)),
            )
        })
        .collect();
    df!(
        ACCOUNT_ID => rows.iter().map(|row| row.0.as_str()).collect::<Vec<_>>(),
        "user_id" => rows.iter().map(|row| row.1.as_str()).collect::<Vec<_>>(),
        "occurred_at" => rows.iter().map(|row| row.2).collect::<Vec<_>>(),
        "feature" => rows.iter().map(|row| row.3.as_deref()).collect::<Vec<_>>(),
        "session_id" => rows.iter().map(|row| row.4.as_deref()).collect::<Vec<_>>(),
        "seconds" => rows.iter().map(|row| row.5).collect::<Vec<_>>(),
    )
    .unwrap()
}

/// Columns as they are read from a source.
fn batch(events: &DataFrame, pipeline: &Pipeline, mapped: &[String]) -> DataFrame {
    let at = col("occurred_at").cast(utc_micros());
    let mut columns = vec![
        col(ACCOUNT_ID).alias("id"),
        col("user_id"),
        pipeline.calendar.local_date(at).alias("day"),
        col("occurred_at").alias("first_at"),
        col("feature"),
    ];
    columns.extend(mapped.iter().map(|name| col(name.as_str())));
    collect(events.clone().lazy().select(columns))
}

#[expect(clippy::disallowed_methods, reason = "a test")]
fn collect(frame: LazyFrame) -> DataFrame {
    let mut frame = frame.collect().unwrap();
    frame.rechunk_mut();
    frame
}

fn sorted(frame: LazyFrame, by: &[&str]) -> DataFrame {
    let order = SortMultipleOptions::default().with_nulls_last(true);
    collect(frame.sort(by.to_vec(), order))
}

/// The rows dealt out to files at random.
fn split(events: &DataFrame, files: usize, seed: u64) -> Vec<DataFrame> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let of_row: Vec<u32> = (0..events.height())
        .map(|_| rng.next_u32() % files as u32)
        .collect();
    let of_row = UInt32Chunked::from_vec("file".into(), of_row);
    let file = |file: usize| {
        let rows = events.filter(&of_row.equal(file as u32)).unwrap();
        // Every other file is the other way round.
        if file.is_multiple_of(2) {
            rows
        } else {
            rows.reverse()
        }
    };
    (0..files).map(file).collect()
}

/// All buckets of events that lie in several files.
fn kernel(
    files: &[DataFrame],
    mapped: &[String],
    rules: &Rules,
    known: &Known,
    pipeline: &Pipeline,
) -> Bucket {
    let shape = Shape {
        joining: Some(rules.joining),
        has_seconds: rules.has_seconds,
        has_features: true,
    };
    let mut by_month: BTreeMap<i32, (Vec<DataFrame>, Vec<DataFrame>)> = BTreeMap::new();
    for file in files {
        for part in parts(&batch(file, pipeline, mapped), shape).unwrap() {
            let of_month = by_month.entry(part.month).or_default();
            of_month.0.push(part.uses);
            of_month.1.push(part.features);
        }
    }
    let buckets: BTreeSet<i32> = by_month
        .keys()
        .flat_map(|month| rules.buckets_of(*month))
        .collect();
    let made = buckets.into_iter().filter_map(|bucket| {
        let span = rules.span(bucket)?;
        let months = month_of(span.all.start)..=month_of(span.all.end - 1);
        let (mut uses, mut features) = (Vec::new(), Vec::new());
        for (_, part) in by_month.range(months) {
            uses.extend(part.0.iter().cloned());
            features.extend(part.1.iter().cloned());
        }
        Some(rules.bucket(&span, &uses, &features, known).unwrap())
    });
    rules.together(made.collect()).unwrap()
}

const CALENDARS: [&str; 6] = [
    "grain: month, time_zone: Asia/Tokyo, begin: 2024-01-01",
    "grain: month, time_zone: America/New_York, begin: 2023-12-01",
    "grain: day, time_zone: UTC, begin: 2024-01-05",
    "grain: week, time_zone: Europe/Berlin, begin: 2024-01-07, week_start: sunday",
    "grain: quarter, time_zone: Asia/Tokyo, begin: 2024-01-01",
    "grain: quarter, time_zone: UTC, begin: 2024-02-01, fiscal_year_start: 2",
];

/// Every calendar, window and way to cut sessions.
fn trials() -> Vec<(&'static str, &'static str, Vec<String>)> {
    let mut all = Vec::new();
    for calendar in CALENDARS {
        for policy in [
            "mau_window: rolling_30",
            "mau_window: calendar, session_gap_minutes: 20",
        ] {
            for mapped in [
                &[] as &[&str],
                &["seconds"],
                &["session_id"],
                &["session_id", "seconds"],
            ] {
                let mapped = mapped.iter().map(|name| (*name).to_owned()).collect();
                all.push((calendar, policy, mapped));
            }
        }
    }
    all
}

fn rules<'a>(pipeline: &'a Pipeline, mapped: &[String]) -> Rules<'a> {
    let has = |name: &str| mapped.iter().any(|column| column == name);
    let gap = i64::from(pipeline.policy.session_gap_minutes) * 60_000_000;
    Rules {
        calendar: &pipeline.calendar,
        mau_window: pipeline.policy.mau_window,
        joining: if has("session_id") {
            Joining::Given
        } else {
            Joining::Gap(gap)
        },
        has_seconds: has("seconds"),
        has_daily_features: false,
        window_days: WINDOW_DAYS,
        within_days: None,
    }
}

fn context(pipeline: &Pipeline) -> Context<'_> {
    let calendar = &pipeline.calendar;
    let first = calendar.index_of(calendar.begin);
    let last = calendar.index_of(calendar.begin + chrono::Months::new(3));
    Context {
        calendar,
        currency: &pipeline.currency,
        policy: &pipeline.policy,
        range: PeriodRange { first, last },
    }
}

#[test]
fn facts_are_those_of_the_reference() {
    for (number, (calendar, policy, mapped)) in trials().into_iter().enumerate() {
        let pipeline = pipeline(calendar, policy);
        let context = context(&pipeline);
        let events = events(number as u64, 900);
        let rules = rules(&pipeline, &mapped);
        let files = split(&events, 1 + number % 4, number as u64);
        let merges = [("account 1", "account 2", 1), ("account 7", "account 3", 0)];
        let merge = |(old, new, after): (&str, &str, i32)| Merge {
            old_account_id: old.to_owned(),
            account_id: new.to_owned(),
            period: context.range.first + after,
        };
        let merges = merges.map(merge).into_iter().filter(|_| number % 2 == 1);
        let map = AccountMap::new(merges.collect()).unwrap();
        let known = Known {
            merged: map.involved(),
            ..Known::default()
        };
        let found = kernel(&files, &mapped, &rules, &known, &pipeline);
        let usage = Usage {
            facts: found.facts.lazy(),
            days: found.days.lazy(),
            onboarding: found.onboarding.lazy(),
            merged: found.merged.lazy(),
            missing: Vec::new(),
        };

        let at = col("occurred_at").cast(utc_micros());
        let instants = events.lazy().with_column(at.alias("occurred_at"));
        let daily = reference::daily_from_events(
            instants.clone(),
            &mapped,
            &pipeline.calendar,
            &pipeline.policy,
        );
        let key = [PERIOD, ACCOUNT_ID];
        let zeros = |frame: LazyFrame| frame.with_columns([all().as_expr().fill_null(lit(0i64))]);
        let what = format!("{calendar}, {policy}, {mapped:?}");
        let expected = sorted(zeros(per_period(daily.clone(), &map, context)), &key);
        let own = sorted(zeros(usage.per_period(&map, context).unwrap()), &key);
        assert!(own.equals_missing(&expected), "{what}\n{own}\n{expected}");

        let first = lit(context.range.first - 1).alias(spine::FIRST_SIGN);
        let accounts = daily
            .clone()
            .select([col(ACCOUNT_ID)])
            .unique(None, UniqueKeepStrategy::Any)
            .with_column(first);
        let hold = |_: &'static str, frame: LazyFrame| Ok(collect(frame));
        let accounts = hold("accounts", spine::numbered(accounts)).unwrap().lazy();
        let numbers = accounts.clone().select([col(ACCOUNT_ID), col(NUMBER)]);
        let spine = Spine::of(accounts, &AccountMap::default(), context, &hold).unwrap();
        let rows = spine
            .rows
            .clone()
            .select([col(SLOT), col(PERIOD), col(ACCOUNT_ID)]);
        let expected = reference::recency(rows.clone(), daily.clone(), WINDOW_DAYS, context);
        let days = usage.days.clone();
        let days = days.left_join(numbers, col(ACCOUNT_ID), col(ACCOUNT_ID));
        let own = recency(&spine, days, context).unwrap();
        let own = spine::side_by_side(vec![rows, own]).unwrap();
        let (own, expected) = (sorted(own, &key), sorted(expected, &key));
        assert!(own.equals_missing(&expected), "{what}\n{own}\n{expected}");

        let first_days = daily.group_by([col(ACCOUNT_ID)]).agg([col("day").min()]);
        let (own, expected) = (
            sorted(usage.first_days(), &[ACCOUNT_ID]),
            sorted(first_days, &[ACCOUNT_ID]),
        );
        assert!(own.equals_missing(&expected), "{what}\n{own}\n{expected}");

        let expected = reference::features_from_events(instants, None, &pipeline.calendar);
        let key = [ACCOUNT_ID, "feature", PERIOD];
        let (own, expected) = (sorted(found.features.lazy(), &key), sorted(expected, &key));
        assert!(own.equals_missing(&expected), "{what}\n{own}\n{expected}");
    }
}

#[test]
fn how_rows_are_split_makes_no_difference() {
    for (number, (calendar, policy, mapped)) in trials().into_iter().enumerate().step_by(3) {
        let pipeline = pipeline(calendar, policy);
        let mut rules = rules(&pipeline, &mapped);
        rules.within_days = Some(20);
        let signups = (0..12)
            .map(|at| (format!("account {at}"), 19_700 + at * 7))
            .collect::<Vec<_>>();
        let known = Known {
            accounts: None,
            signups: signups
                .iter()
                .map(|(account, day)| (account.as_str(), *day))
                .collect(),
            merged: BTreeSet::from(["account 1", "account 4"]),
        };
        let events = events(100 + number as u64, 700);
        let whole = kernel(
            std::slice::from_ref(&events),
            &mapped,
            &rules,
            &known,
            &pipeline,
        );
        for files in [2, 7, 40] {
            let files = split(&events, files, number as u64);
            let parted = kernel(&files, &mapped, &rules, &known, &pipeline);
            for (one, other) in whole
                .clone()
                .into_frames()
                .into_iter()
                .zip(parted.into_frames())
            {
                let columns = one.get_column_names_owned();
                let order: Vec<&str> = columns.iter().map(|name| name.as_str()).collect();
                let (one, other) = (sorted(one.lazy(), &order), sorted(other.lazy(), &order));
                assert!(
                    one.equals_missing(&other),
                    "{calendar}, {policy}, {mapped:?}\n{one}\n{other}"
                );
            }
        }
    }
}

#[test]
fn onboarding_and_sign_up_are_those_of_the_reference() {
    for calendar in CALENDARS {
        let pipeline = pipeline(calendar, "");
        let mut rules = rules(&pipeline, &[]);
        rules.within_days = Some(20);
        let accounts: Vec<String> = (0..9).map(|at| format!("account {at}")).collect();
        let days: Vec<i32> = (0..9).map(|at| 19_700 + at * 9).collect();
        let pairs = || {
            accounts
                .iter()
                .map(String::as_str)
                .zip(days.iter().copied())
        };
        let known = Known {
            signups: pairs().collect(),
            ..Known::default()
        };
        let events = events(77, 900);
        let found = kernel(&split(&events, 3, 1), &[], &rules, &known, &pipeline);

        let at = col("occurred_at").cast(utc_micros());
        let instants = events.lazy().with_column(at.alias("occurred_at"));
        let signups = df!(ACCOUNT_ID => accounts.clone(), "signup" => days.clone())
            .unwrap()
            .lazy();
        let signups = signups.with_column(col("signup").cast(DataType::Date));
        let with_signups = Some(signups.clone());
        let features =
            reference::features_from_events(instants.clone(), with_signups, &pipeline.calendar);
        let features = features.with_column(col("since_signup").fill_null(lit(false)));
        let key = [ACCOUNT_ID, "feature", PERIOD, "since_signup"];
        let columns = [ACCOUNT_ID, "feature", PERIOD, "day", "since_signup"].map(col);
        let (own, expected) = (
            sorted(found.features.lazy(), &key),
            sorted(features.select(columns), &key),
        );
        assert!(
            own.equals_missing(&expected),
            "{calendar}\n{own}\n{expected}"
        );

        let daily =
            reference::daily_from_events(instants, &[], &pipeline.calendar, &pipeline.policy);
        let is_within = col("day")
            .gt_eq(col("signup"))
            .and(col("day").lt(later_day(col("signup"), 20)));
        let expected = daily
            .inner_join(signups, col(ACCOUNT_ID), col(ACCOUNT_ID))
            .filter(is_within)
            .group_by([col(ACCOUNT_ID), col("day")])
            .agg([col("session_seconds").sum()]);
        let key = [ACCOUNT_ID, "day"];
        let (own, expected) = (
            sorted(found.onboarding.lazy(), &key),
            sorted(expected, &key),
        );
        assert!(
            own.equals_missing(&expected),
            "{calendar}\n{own}\n{expected}"
        );
    }
}

#[test]
fn months_are_those_of_the_calendar() {
    use chrono::Datelike;
    for day in (-800_000..3_000_000).step_by(13) {
        let date = chrono::NaiveDate::default() + chrono::Duration::days(day);
        let month = date.year() * 12 + date.month0() as i32;
        assert_eq!(month_of(day as i32), month, "{date}");
    }
}
