//! Parts → facts per account and period, for a *bucket*: the periods that begin in one calendar month. One sort and one pass over the
//! user-days of each account give sums, distinct users of trailing windows and what the model's own windows are made of.

mod features;
mod found;

use super::part::month_of;
use super::sheet::{DAYS, Joining, Words, sheet, sort_and_dedup};
use super::{MONTH_DAYS, WEEK_DAYS};
use crate::columns::ACCOUNT_ID;
use crate::config::{Calendar, MauWindow};
use crate::period::PeriodRange;
use chrono::NaiveDate;
use found::Found;
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
    /// What is known of `ids` in order, as it shapes a bucket: `id`, `account_id`, `signup`, `is_merged`.
    pub fn of(&self, ids: Vec<&str>) -> PolarsResult<DataFrame> {
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
            found.add(account, &uses[..kept]);
        }
        let mut ids = std::mem::take(&mut sheet.ids);
        let features = self.features(span, features, known, &mut ids, &mut found.repeated)?;
        sort_and_dedup(&mut ids);
        found.finished(features, known.of(ids)?, &words)
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
