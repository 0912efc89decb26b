//! One pass over the uses of each account: sums, distinct users of windows, days.

use super::features::Repeated;
use super::{Bucket, Known, PeriodTable, Rules, Span};
use crate::columns::{ACCOUNT_ID, PERIOD};
use crate::config::MauWindow;
use crate::facts::usage::sheet::{Joining, Key, Use, Words};
use crate::facts::usage::{MONTH_DAYS, WEEK_DAYS};
use crate::period::PeriodRange;
use polars::prelude::*;

/// A period's sums of one account.
#[derive(Clone, Copy, Default)]
struct Sums {
    events: i64,
    sessions: i64,
    seconds: i64,
    active_days: i64,
    user_days: i64,
    wau: i64,
    mau: i64,
}

/// Rows of the frames of a bucket, column by column.
pub(super) struct Found<'a, 'k> {
    rules: &'a Rules<'a>,
    span: &'a Span,
    known: &'k Known<'k>,
    table: PeriodTable,
    /// Of the account at hand, by period of the bucket.
    sums: Vec<Sums>,
    days: Vec<i32>,
    seconds: Vec<(i32, i64)>,
    facts: (Vec<i32>, Vec<&'a str>, Vec<Sums>),
    entries: (Vec<&'a str>, Vec<[i32; 4]>, Vec<i64>),
    onboarding: (Vec<&'a str>, Vec<i32>, Vec<i64>),
    merged: (Vec<&'a str>, Vec<Key>, Vec<i32>, Vec<Sums>),
    pub repeated: Vec<Repeated<'a>>,
}

impl<'a, 'k: 'a> Found<'a, 'k> {
    pub fn new(rules: &'a Rules<'a>, span: &'a Span, known: &'k Known<'k>) -> Self {
        let reach = rules.window_days.max(MONTH_DAYS) + 1;
        Self {
            rules,
            span,
            known,
            table: PeriodTable::new(rules.calendar, span.all.start..span.own.end + reach),
            sums: vec![Sums::default(); span.periods.len()],
            days: Vec::new(),
            seconds: Vec::new(),
            facts: Default::default(),
            entries: Default::default(),
            onboarding: Default::default(),
            merged: Default::default(),
            repeated: Vec::new(),
        }
    }

    /// Takes the joined uses of an account, in order of user and day.
    pub fn add(&mut self, account: &'a str, uses: &[Use]) {
        self.sums.fill(Sums::default());
        self.days.clear();
        self.seconds.clear();
        let is_merged = self.known.merged.contains(account);
        for of_user in uses.chunk_by(|a, b| a.user == b.user) {
            // The latest period that counts the user already.
            let (mut week, mut month) = (i32::MIN, i32::MIN);
            for of_day in of_user.chunk_by(|a, b| a.day == b.day) {
                let day = of_day[0].day;
                self.count(day, WEEK_DAYS, &mut week, |sums| &mut sums.wau);
                if self.rules.mau_window == MauWindow::Rolling30 {
                    self.count(day, MONTH_DAYS, &mut month, |sums| &mut sums.mau);
                }
                if !self.span.own.contains(&day) {
                    continue;
                }
                let period = self.table.of(day);
                let of_day = self.day_sums(of_day, account);
                let sums = &mut self.sums[(period - self.span.periods.first) as usize];
                sums.events = sums.events.saturating_add(of_day.events);
                sums.sessions = sums.sessions.saturating_add(of_day.sessions);
                sums.seconds = sums.seconds.saturating_add(of_day.seconds);
                sums.user_days += 1;
                if self.rules.mau_window == MauWindow::Calendar {
                    sums.mau += i64::from(period > month);
                    month = period;
                }
                self.days.push(day);
                self.seconds.push((day, of_day.seconds));
                if is_merged {
                    self.merged.0.push(account);
                    self.merged.1.push(of_user[0].user);
                    self.merged.2.push(day);
                    self.merged.3.push(of_day);
                }
            }
        }
        self.enter_days(account);
        self.enter_onboarding(account);
        let first = self.span.periods.first;
        for (at, sums) in self.sums.iter().enumerate() {
            if sums.user_days > 0 || sums.wau > 0 || sums.mau > 0 {
                self.facts.0.push(first + at as i32);
                self.facts.1.push(account);
                self.facts.2.push(*sums);
            }
        }
    }

    /// Counts a user of `day` in the periods in whose last `window` days it lies, and that have not counted it yet.
    fn count(&mut self, day: i32, window: i32, latest: &mut i32, of: fn(&mut Sums) -> &mut i64) {
        let PeriodRange { first, last } = self.span.periods;
        let from = self.table.of(day).max(latest.saturating_add(1)).max(first);
        let to = (self.table.of(day + window) - 1).min(last);
        for period in from..=to {
            *of(&mut self.sums[(period - first) as usize]) += 1;
            *latest = period;
        }
    }

    /// A user's day, from its sessions.
    fn day_sums(&mut self, sessions: &[Use], account: &'a str) -> Sums {
        let mut sums = Sums::default();
        let is_cut = self.rules.joining != Joining::Day && self.rules.joining != Joining::Once;
        for one in sessions {
            let seconds = if self.rules.has_seconds {
                one.seconds
            } else {
                one.length_in_seconds()
            };
            sums.events = sums.events.saturating_add(one.events);
            sums.sessions = sums
                .sessions
                .saturating_add(if is_cut { 1 } else { one.sessions });
            sums.seconds = sums.seconds.saturating_add(seconds);
        }
        if self.rules.joining == Joining::Once && sessions.len() > 1 {
            self.repeated.push(Repeated {
                id: account,
                user: sessions[0].user,
                feature: None,
                day: sessions[0].day,
            });
        }
        sums
    }

    /// Days on which the account was in use, each once.
    fn enter_days(&mut self, account: &'a str) {
        self.days.sort_unstable();
        self.days.dedup();
        let window = self.rules.window_days;
        let table = &self.table;
        let periods = |day: &i32| (table.of(*day), table.of(*day + window));
        for same in self.days.chunk_by(|a, b| periods(a) == periods(b)) {
            let (first, last) = (same[0], same[same.len() - 1]);
            let (period, out) = periods(&first);
            self.entries.0.push(account);
            self.entries.1.push([period, out, first, last]);
            self.entries.2.push(same.len() as i64);
            self.sums[(period - self.span.periods.first) as usize].active_days += same.len() as i64;
        }
    }

    fn enter_onboarding(&mut self, account: &'a str) {
        let (Some(within), Some(signup)) =
            (self.rules.within_days, self.known.signups.get(account))
        else {
            return;
        };
        self.seconds.sort_unstable();
        let window = *signup..signup.saturating_add(within);
        for same in self.seconds.chunk_by(|a, b| a.0 == b.0) {
            if window.contains(&same[0].0) {
                self.onboarding.0.push(account);
                self.onboarding.1.push(same[0].0);
                self.onboarding
                    .2
                    .push(same.iter().map(|(_, seconds)| seconds).sum());
            }
        }
    }

    pub fn finished(
        self,
        features: DataFrame,
        premises: DataFrame,
        words: &Words,
    ) -> PolarsResult<Bucket> {
        let (periods, accounts, sums) = self.facts;
        let of = |name: &str, sums: &[Sums], value: fn(&Sums) -> i64| {
            Column::new(name.into(), sums.iter().map(value).collect::<Vec<_>>())
        };
        let uses = |sums: &[Sums]| {
            [
                of("events", sums, |sums| sums.events),
                of("sessions", sums, |sums| sums.sessions),
                of("session_seconds", sums, |sums| sums.seconds),
            ]
        };
        let day = |name: &str, days: Vec<i32>| Column::new(name.into(), days).cast(&DataType::Date);
        let mut facts = vec![
            Column::new(PERIOD.into(), periods),
            Column::new(ACCOUNT_ID.into(), accounts),
        ];
        facts.extend(uses(&sums));
        facts.extend([
            of("active_days", &sums, |sums| sums.active_days),
            of("active_user_days", &sums, |sums| sums.user_days),
            of("wau", &sums, |sums| sums.wau),
            of("mau", &sums, |sums| sums.mau),
        ]);
        let (accounts, places, counts) = self.entries;
        let place = |at: usize| places.iter().map(|place| place[at]).collect::<Vec<_>>();
        let days = vec![
            Column::new(ACCOUNT_ID.into(), accounts),
            Column::new(PERIOD.into(), place(0)),
            Column::new("period_out".into(), place(1)),
            Column::new("days".into(), counts),
            day("first_day", place(2))?,
            day("last_day", place(3))?,
        ];
        let onboarding = vec![
            Column::new(ACCOUNT_ID.into(), self.onboarding.0),
            day("day", self.onboarding.1)?,
            Column::new("session_seconds".into(), self.onboarding.2),
        ];
        let mut merged = vec![
            Column::new(ACCOUNT_ID.into(), self.merged.0),
            words.column("user_id", self.merged.1.into_iter()),
            day("day", self.merged.2)?,
        ];
        merged.extend(uses(&self.merged.3));
        let repeated = self.repeated.iter();
        let repeated = vec![
            Column::new(
                "id".into(),
                repeated.clone().map(|one| one.id).collect::<Vec<_>>(),
            ),
            words.column("user_id", repeated.clone().map(|one| one.user)),
            Column::new(
                "feature".into(),
                repeated.clone().map(|one| one.feature).collect::<Vec<_>>(),
            ),
            day("day", repeated.map(|one| one.day).collect())?,
        ];
        Ok(Bucket {
            facts: DataFrame::new_infer_height(facts)?,
            days: DataFrame::new_infer_height(days)?,
            features,
            onboarding: DataFrame::new_infer_height(onboarding)?,
            merged: DataFrame::new_infer_height(merged)?,
            premises,
            repeated: DataFrame::new_infer_height(repeated)?,
        })
    }
}
