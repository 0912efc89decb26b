//! Sample data of any size: a believable B2B SaaS company, mostly with Japanese customers.
//!
//! The same [`Size`] gives the same bytes on any machine: every draw comes from a ChaCha8 stream that belongs to one
//! account or one table, nothing iterates over a hash map, and all arithmetic is on integers.
//!
//! | stage | takes | gives |
//! |---|---|---|
//! | `accounts::profiles` | [`Size`] | who the accounts are: size, region, currency, sign-up |
//! | `fate::subscriptions` | one profile | its subscriptions from sign-up to the end of the timeline |
//! | `merges::apply` | all subscriptions | the same, with some accounts merged into others |
//! | `history`, `subscriptions`, `invoices`, `fx`, `plans` | all of the above | one [`Table`] each |
//! | `activity` | subscriptions and profiles | how much each account is in use, day by day |
//! | `usage` | all of the above | usage events, month by month |
//! | `life` | subscriptions, activity, `members` | each account as those see it who look after it |
//! | `opportunities`, `onboarding`, `tickets`, `surveys`, `community`, `costs`, `time_entries`, `targets` | lives | one [`Table`] each |
//!
//! Names of companies are put together from word lists; a likeness to a real company is chance.

mod accounts;
mod activity;
mod addons;
mod calendar;
mod community;
mod costs;
mod deals;
mod dice;
mod fate;
pub mod files;
mod fx;
mod history;
mod invoices;
mod life;
mod members;
mod merges;
mod names;
mod onboarding;
mod opportunities;
mod plans;
mod subscriptions;
mod surveys;
mod table;
mod targets;
#[cfg(test)]
mod tests;
mod tickets;
mod time_entries;
mod usage;

use chrono::{Datelike, NaiveDate};

use accounts::Profile;
use calendar::Timeline;
use dice::{Dice, Stream};
use merges::Merge;
use subscriptions::Subscription;

pub use table::{Column, Table};

/// How large a company to make, and which of the many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size {
    /// Accounts in total; about 60 % of them have signed up before `start`.
    pub accounts: usize,
    /// Months from `start`; more than 1,200 are taken as 1,200.
    pub months: usize,
    /// Usage events in total, from three months before `start` on.
    pub events: usize,
    /// Any day of the first month. The company's history begins 18 months earlier.
    pub start: NaiveDate,
    pub seed: u64,
}

/// A company whose whole history is decided, but for the single usage events.
#[derive(Debug, Clone)]
pub struct Company {
    size: Size,
    timeline: Timeline,
    profiles: Vec<Profile>,
    subscriptions: Vec<Subscription>,
    merges: Vec<Merge>,
}

/// The company of this size and seed.
pub fn company(size: &Size) -> Company {
    let timeline = Timeline::new(size.start, size.months);
    let profiles = accounts::profiles(size, &timeline);
    let mut books: Vec<Vec<Subscription>> = (0u32..)
        .zip(&profiles)
        .map(|(index, profile)| {
            let dice = Dice::new(size.seed, Stream::Fate, u64::from(index));
            fate::subscriptions(index, profile, &timeline, dice)
        })
        .collect();
    let merges = merges::apply(&mut books, &profiles, &timeline, size.seed);
    let mut subscriptions: Vec<Subscription> = books.into_iter().flatten().collect();
    // Ids are given in this order, so that they rise with time as a billing system's do.
    subscriptions.sort_by_key(|subscription| (subscription.started(), subscription.account));
    Company {
        size: size.clone(),
        timeline,
        profiles,
        subscriptions,
        merges,
    }
}

impl Company {
    /// Every table but `usage_events`.
    pub fn tables(&self) -> Vec<Table> {
        let Company {
            timeline,
            profiles,
            subscriptions,
            ..
        } = self;
        let seed = self.size.seed;
        let stretches = history::stretches(profiles, subscriptions, timeline, seed);
        let lines = invoices::lines(subscriptions, profiles, timeline, seed);
        let lives = life::lives(self);
        let onboardings = onboarding::of_all(&lives, timeline, seed);
        let tickets = tickets::of_all(&lives, timeline, seed);
        vec![
            history::table(&stretches, profiles),
            merges::table(&self.merges),
            plans::table(),
            subscriptions::table(subscriptions, timeline),
            invoices::table(&lines),
            fx::table(timeline, seed),
            opportunities::table(&lives, timeline, seed),
            members::table(&lives),
            onboarding::table(&onboardings),
            surveys::table(&lives, &onboardings, &tickets, timeline, seed),
            tickets::table(&tickets),
            community::table(&lives, timeline, seed),
            costs::table(&lives, timeline, seed),
            time_entries::table(&lives, &stretches, timeline, seed),
            targets::table(&lives, &lines, timeline, seed),
        ]
    }

    /// The subscriptions of each account.
    fn books(&self) -> Vec<Vec<&Subscription>> {
        let mut books = vec![Vec::new(); self.profiles.len()];
        for subscription in &self.subscriptions {
            books[subscription.account as usize].push(subscription);
        }
        books
    }

    /// `usage_events`, one table per local (Asia/Tokyo) month with the month's first day, rows in time order.
    ///
    /// Only one month is held in memory. There are exactly `events` rows in total, unless nobody ever used the
    /// product (then there are none).
    pub fn usage_months(&self) -> impl Iterator<Item = (NaiveDate, Table)> + '_ {
        let usage = usage::Usage::new(self);
        (0..usage.months()).map(move |month| {
            let day = usage.first_day(month);
            (date(day), usage.table(month))
        })
    }
}

/// A day since 1970-01-01 as a date, held within what a date can say.
fn date(day: i32) -> NaiveDate {
    const EPOCH_FROM_CE: i32 = 719_163;
    NaiveDate::from_num_days_from_ce_opt(day.saturating_add(EPOCH_FROM_CE)).unwrap_or(if day < 0 {
        NaiveDate::MIN
    } else {
        NaiveDate::MAX
    })
}

/// Days since 1970-01-01 of the first day of the date's month.
fn first_of_month(date: NaiveDate) -> i32 {
    calendar::day_of(date.year(), date.month(), 1)
}
