//! Parts → facts per account and period, for a *bucket*: the periods that begin in one calendar month. One sort and one pass over the
//! user-days of each account give sums, distinct users of trailing windows and what the model's own windows are made of.

use super::part::month_of;
use super::sheet::{DAYS, Joining, Names, Sheet, Use, Words, days, sheet};
use super::{MONTH_DAYS, WEEK_DAYS};
use crate::columns::{ACCOUNT_ID, PERIOD};
use crate::config::{Calendar, MauWindow};
use crate::period::PeriodRange;
use chrono::NaiveDate;
use polars::prelude::*;
use std::collections::BTreeSet;
use std::ops::Range;

/// What decides how parts become facts.
pub struct Rules<'a> {
    pub calendar: &'a Calendar,
    pub mau_window: MauWindow,
    pub joining: Joining,
    /// Whether seconds came with the rows; else they are a session's first to last instant.
    pub has_seconds: bool,
    /// Whether features come with one row for each day.
    pub has_daily_features: bool,
    /// How far the scores look back.
    pub window_days: i32,
    /// With an onboarding rule: how many days from the sign-up on count.
    pub within_days: Option<i32>,
}

/// What other tables say of the ids that usage names.
#[derive(Default)]
pub struct Known<'a> {
    /// Where usage names subscriptions: the account of each.
    pub accounts: Option<PlHashMap<&'a str, &'a str>>,
    /// With an onboarding rule: when each account signed up.
    pub signups: PlHashMap<&'a str, i32>,
    /// Accounts that take part in a merge.
    pub merged: BTreeSet<&'a str>,
}

/// The facts of a bucket; no merges are applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    /// `period_index`, `account_id`, `events`, `sessions`, `session_seconds`, `active_days`, `active_user_days`, `wau`, `mau`.
    pub facts: DataFrame,
    /// Days with use: `account_id`, the period that they come in (`period_index`) and the one in which they leave the scores' window
    /// (`period_out`), `days` (how many), `first_day`, `last_day`.
    pub days: DataFrame,
    /// `account_id`, `feature`, `period_index`, first `day`; apart what was used `since_signup` where that is asked for.
    pub features: DataFrame,
    /// Within the days that the onboarding rule looks at: `account_id`, `day`, `session_seconds`.
    pub onboarding: DataFrame,
    /// Of accounts in a merge: `account_id`, `user_id`, `day`, `events`, `sessions`, `session_seconds`.
    pub merged: DataFrame,
    /// See [`Known::of`]: the facts hold as long as this does.
    pub premises: DataFrame,
    /// Days that stand in more than one row of a given `usage_daily` (`id`, `user_id`, `day`) or `usage_features` (`id`, `feature`, `day`).
    pub repeated: DataFrame,
}

/// The days of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    pub periods: PeriodRange,
    /// Days since 1970-01-01.
    pub own: Range<i32>,
    /// With those that trailing windows reach back to.
    pub all: Range<i32>,
}

impl Bucket {
    /// For keeping.
    pub fn into_frames(self) -> [DataFrame; 7] {
        let Self {
            facts,
            days,
            features,
            onboarding,
            merged,
            premises,
            repeated,
        } = self;
        [
            facts, days, features, onboarding, merged, premises, repeated,
        ]
    }

    /// What [`Bucket::into_frames`] gave.
    pub fn from_frames(frames: [DataFrame; 7]) -> Self {
        let [
            facts,
            days,
            features,
            onboarding,
            merged,
            premises,
            repeated,
        ] = frames;
        Self {
            facts,
            days,
            features,
            onboarding,
            merged,
            premises,
            repeated,
        }
    }
}

impl<'a> Known<'a> {
    /// What is known of `ids`, as it shapes a bucket: `id`, `account_id`, `signup`, `is_merged`.
    pub fn of(&self, mut ids: Vec<&str>) -> PolarsResult<DataFrame> {
        ids.sort_unstable();
        let accounts: Vec<Option<&str>> = ids.iter().map(|id| self.account(id)).collect();
        let signup = |account: &Option<&str>| self.signups.get((*account)?).copied();
        let signups: Vec<Option<i32>> = accounts.iter().map(signup).collect();
        let is_merged =
            |account: &Option<&str>| account.is_some_and(|one| self.merged.contains(one));
        let merged: Vec<bool> = accounts.iter().map(is_merged).collect();
        df!("id" => ids, ACCOUNT_ID => accounts, "signup" => signups, "is_merged" => merged)
    }

    fn account<'b>(&self, id: &'b str) -> Option<&'b str>
    where
        'a: 'b,
    {
        match &self.accounts {
            None => Some(id),
            Some(accounts) => accounts.get(id).copied(),
        }
    }
}

impl Rules<'_> {
    /// The buckets whose facts the days of a calendar month are part of.
    pub fn buckets_of(&self, month: i32) -> impl Iterator<Item = i32> + use<> {
        let first = self.calendar.index_of(first_day(month));
        let last_day = epoch_day(first_day(month + 1)) - 1;
        let looked_back_from = self.calendar.index_of(date(last_day + self.lookback())) - 1;
        let last = self.calendar.index_of(date(last_day)).max(looked_back_from);
        let starts: BTreeSet<i32> = (first..=last)
            .map(|period| month_of(epoch_day(self.calendar.start_of(period))))
            .collect();
        starts.into_iter()
    }

    /// The days of a bucket; `None` if no period begins in its month.
    pub fn span(&self, bucket: i32) -> Option<Span> {
        let start = |period: i32| epoch_day(self.calendar.start_of(period));
        let begins_before = |period: i32| month_of(start(period)) < bucket;
        let mut first = self.calendar.index_of(first_day(bucket));
        first += i32::from(begins_before(first));
        let last = self.calendar.index_of(first_day(bucket + 1));
        let last = if month_of(start(last)) > bucket {
            last - 1
        } else {
            last
        };
        if last < first {
            return None;
        }
        let own = start(first)..start(last + 1);
        let reach = start(first + 1) - self.lookback();
        Some(Span {
            periods: PeriodRange { first, last },
            all: own.start.min(reach)..own.end,
            own,
        })
    }

    fn lookback(&self) -> i32 {
        match self.mau_window {
            MauWindow::Rolling30 => MONTH_DAYS,
            MauWindow::Calendar => WEEK_DAYS,
        }
    }

    /// The rows of all buckets.
    pub fn together(&self, buckets: Vec<Bucket>) -> PolarsResult<Bucket> {
        let nothing = Span {
            periods: PeriodRange { first: 0, last: -1 },
            own: 0..0,
            all: 0..0,
        };
        let mut all = self
            .bucket(&nothing, &[], &[], &Known::default())?
            .into_frames();
        for bucket in buckets {
            for (all, rows) in all.iter_mut().zip(bucket.into_frames()) {
                all.vstack_mut_owned(rows)?;
            }
        }
        Ok(Bucket::from_frames(all))
    }

    /// The facts of a bucket from the parts of all the months that its span touches.
    pub fn bucket(
        &self,
        span: &Span,
        uses: &[DataFrame],
        features: &[DataFrame],
        known: &Known,
    ) -> PolarsResult<Bucket> {
        let mut words = Words::default();
        let mut sheet = sheet(
            uses,
            &span.all,
            |id| known.account(id),
            |frame| words.uses(frame),
        )?;
        let mut found = Found::new(self, span, known);
        for (account, uses) in sheet.groups() {
            let kept = self.joining.joined(uses);
            found.add(account, &uses[..kept], &words);
        }
        let mut ids = std::mem::take(&mut sheet.ids);
        let features = self.features(span, features, known, &mut ids, &mut found.repeated)?;
        ids.sort_unstable();
        ids.dedup();
        found.finished(features, known.of(ids)?)
    }

    fn features<'a>(
        &self,
        span: &Span,
        frames: &'a [DataFrame],
        known: &'a Known,
        ids: &mut Vec<&'a str>,
        repeated: &mut Vec<Repeated<'a>>,
    ) -> PolarsResult<DataFrame> {
        let mut names = Names::default();
        let rows_of = |frame: &'a DataFrame| {
            let texts = frame.column("feature")?.str()?.iter();
            let rows = texts.zip(days(frame)?);
            Ok(rows
                .map(|(text, day)| (names.number(text.unwrap_or_default()), *day))
                .collect())
        };
        let mut sheet: Sheet<(u32, i32)> =
            sheet(frames, &span.own, |id| known.account(id), rows_of)?;
        ids.append(&mut sheet.ids);
        let table = PeriodTable::new(self.calendar, span.own.clone());
        let mut rows = FeatureRows::default();
        for (account, used) in sheet.groups() {
            used.sort_unstable();
            if self.has_daily_features {
                let twice = used.windows(2).filter(|pair| pair[0] == pair[1]);
                let feature = |pair: &[(u32, i32)]| names.texts[pair[0].0 as usize];
                repeated.extend(twice.map(|pair| Repeated {
                    id: account,
                    user: None,
                    feature: Some(feature(pair)),
                    day: pair[0].1,
                }));
            }
            let signup = known.signups.get(account);
            let is_since = |day: i32| signup.is_some_and(|signup| day >= *signup);
            let place = |one: &(u32, i32)| (one.0, table.of(one.1), is_since(one.1));
            for same in used.chunk_by(|a, b| place(a) == place(b)) {
                let (feature, period, since) = place(&same[0]);
                rows.accounts.push(account);
                rows.features.push(names.texts[feature as usize]);
                rows.periods.push(period);
                rows.days.push(same[0].1);
                rows.since.push(since);
            }
        }
        rows.frame(self.within_days.is_some())
    }
}

/// A day that stands in more than one row of a table that has one for each.
struct Repeated<'a> {
    id: &'a str,
    user: Option<&'a str>,
    feature: Option<&'a str>,
    day: i32,
}

#[derive(Default)]
struct FeatureRows<'a> {
    accounts: Vec<&'a str>,
    features: Vec<&'a str>,
    periods: Vec<i32>,
    days: Vec<i32>,
    since: Vec<bool>,
}

impl FeatureRows<'_> {
    fn frame(self, with_signups: bool) -> PolarsResult<DataFrame> {
        let mut columns = vec![
            Column::new(ACCOUNT_ID.into(), self.accounts),
            Column::new("feature".into(), self.features),
            Column::new(PERIOD.into(), self.periods),
            Column::new("day".into(), self.days).cast(&DataType::Date)?,
        ];
        if with_signups {
            columns.push(Column::new("since_signup".into(), self.since));
        }
        DataFrame::new_infer_height(columns)
    }
}

/// The period of each day of a stretch.
struct PeriodTable {
    from: i32,
    periods: Vec<i32>,
}

impl PeriodTable {
    fn new(calendar: &Calendar, days: Range<i32>) -> Self {
        let from = days.start;
        let periods = days.map(|day| calendar.index_of(date(day))).collect();
        Self { from, periods }
    }

    fn of(&self, day: i32) -> i32 {
        self.periods[(day - self.from) as usize]
    }
}

fn date(day: i32) -> NaiveDate {
    let day = day.clamp(DAYS.start, DAYS.end - 1);
    NaiveDate::default() + chrono::Duration::days(i64::from(day))
}

fn epoch_day(date: NaiveDate) -> i32 {
    (date - NaiveDate::default()).num_days() as i32
}

fn first_day(month: i32) -> NaiveDate {
    let first = NaiveDate::from_ymd_opt(month.div_euclid(12), month.rem_euclid(12) as u32 + 1, 1);
    first.unwrap_or(NaiveDate::MAX)
}

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
struct Found<'a, 'k> {
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
    merged: (Vec<&'a str>, Vec<&'a str>, Vec<i32>, Vec<Sums>),
    repeated: Vec<Repeated<'a>>,
}

impl<'a, 'k: 'a> Found<'a, 'k> {
    fn new(rules: &'a Rules<'a>, span: &'a Span, known: &'k Known<'k>) -> Self {
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
    fn add(&mut self, account: &'a str, uses: &[Use], words: &Words<'a>) {
        self.sums.fill(Sums::default());
        self.days.clear();
        self.seconds.clear();
        let is_merged = self.known.merged.contains(account);
        for of_user in uses.chunk_by(|a, b| a.user == b.user) {
            let user = words
                .users
                .text_or_none(of_user[0].user)
                .unwrap_or_default();
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
                let of_day = self.day_sums(of_day, account, user);
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
                    self.merged.1.push(user);
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
    fn day_sums(&mut self, sessions: &[Use], account: &'a str, user: &'a str) -> Sums {
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
                user: Some(user),
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

    fn finished(self, features: DataFrame, premises: DataFrame) -> PolarsResult<Bucket> {
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
            Column::new("user_id".into(), self.merged.1),
            day("day", self.merged.2)?,
        ];
        merged.extend(uses(&self.merged.3));
        let repeated = self.repeated.iter();
        let repeated = vec![
            Column::new(
                "id".into(),
                repeated.clone().map(|one| one.id).collect::<Vec<_>>(),
            ),
            Column::new(
                "user_id".into(),
                repeated.clone().map(|one| one.user).collect::<Vec<_>>(),
            ),
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
