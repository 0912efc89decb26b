//! How much each account is in use, day by day: what its subscriptions and its habits make of it.

use super::accounts::Profile;
use super::calendar::{business, local_day, midnight, months_after};
use super::dice::{Stream, habit};
use super::merges::MIGRATED;
use super::plans::Family;
use super::subscriptions::{Subscription, Version};

/// A later end than any timeline has.
const OPEN: i32 = i32::MAX;

/// The product's features, the most used ones first.
pub(super) const FEATURES: [&str; 12] = [
    "dashboard",
    "report",
    "search",
    "workflow",
    "export",
    "comment",
    "alert",
    "mobile",
    "import",
    "integration",
    "api",
    "admin",
];

/// A time without a break in which the account's users could log in: days `from..to`.
#[derive(Debug, Clone)]
pub(super) struct Spell {
    pub from: i32,
    pub to: i32,
    /// Days until the product is used in full: many for a new customer, fewer after a pause.
    ramp_days: i32,
    /// Does use fall away towards the end?
    pub fades: bool,
}

impl Spell {
    /// How much the product is used on this day, in percent; 0 outside the spell.
    fn intensity(&self, day: i32) -> u64 {
        if day < self.from || day >= self.to {
            return 0;
        }
        let since = i64::from(day - self.from);
        let left = i64::from(self.to) - i64::from(day);
        let rise = (25 + 75 * since / i64::from(self.ramp_days)).min(100);
        let fade = if self.fades {
            (12 + 88 * left / 100).min(100)
        } else {
            100
        };
        (rise * fade / 100) as u64
    }
}

/// How one account uses the product.
#[derive(Debug, Clone)]
pub(super) struct AccountUse {
    pub account: u32,
    pub spells: Vec<Spell>,
    /// Days from which to which there were so many seats.
    seats: Vec<(i32, i32, i64)>,
    /// Percent of the seats that have a user.
    user_share: i64,
    /// Percent of the usual number of events per user.
    pub vigour: u64,
    /// One bit for each feature that is used at all.
    pub features: u64,
    /// Hours by which office hours there are later than in Tokyo.
    pub hours_behind: i64,
    /// Users are numbered through the whole company.
    pub first_user: u32,
    pub users: u32,
}

impl AccountUse {
    pub fn new(account: u32, profile: &Profile, book: &[&Subscription], seed: u64) -> AccountUse {
        let draw = |aspect| habit(seed, Stream::UsageHabit, u64::from(account), aspect);
        let spells = spells(book);
        let seats: Vec<(i32, i32, i64)> = book
            .iter()
            .flat_map(|subscription| &subscription.versions)
            .filter(|version| is_core_service(version))
            .map(|version| {
                let to = version.ended.map_or(OPEN, local_day);
                (local_day(version.started), to, version.deal.quantity)
            })
            .collect();
        let loses_interest = spells.last().is_some_and(|spell| spell.fades);
        let vigour = 30 + draw(1) * draw(2) / 600_000;
        let optional = (3u64..)
            .zip(3..FEATURES.len())
            .filter(|&(aspect, _)| draw(aspect) < 5_500);
        let features = optional.fold(0b111, |features, (_, nth)| features | 1 << nth);
        let mut account_use = AccountUse {
            account,
            spells,
            seats,
            user_share: 30 + draw(20) as i64 * 66 / 10_000,
            vigour: if loses_interest {
                vigour * 6 / 10
            } else {
                vigour
            },
            features,
            hours_behind: match profile.region {
                Some("US") => 14,
                Some("EU") => 8,
                _ => 0,
            },
            first_user: 0,
            users: 0,
        };
        let starts = account_use
            .seats
            .iter()
            .map(|&(from, ..)| account_use.users_on(from));
        account_use.users = starts.max().unwrap_or(0);
        account_use
    }

    /// How many users have an account on this day; one at least.
    fn users_on(&self, day: i32) -> u32 {
        let live = self
            .seats
            .iter()
            .filter(|&&(from, to, _)| from <= day && day < to);
        let seats: i64 = live.map(|&(.., quantity)| quantity).sum();
        u32::try_from(seats * self.user_share / 100)
            .unwrap_or(u32::MAX)
            .max(1)
    }

    /// The first and the last day of service within `first..after`.
    pub fn served_within(&self, first: i32, after: i32) -> Option<(i32, i32)> {
        let parts = self.spells.iter().map(|spell| {
            let from = spell.from.max(first);
            let to = spell.to.min(after);
            (from, to)
        });
        let parts = parts.filter(|(from, to)| from < to);
        parts.fold(None, |whole: Option<(i32, i32)>, (from, to)| {
            Some((whole.map_or(from, |(first, _)| first), to - 1))
        })
    }

    /// How many users there are in a month, by its last day of service.
    pub fn users_in_month(&self, last_day: i32) -> u32 {
        self.users_on(last_day).min(self.users)
    }

    /// The month's days by weight, and how much of all usage falls to this account in it.
    pub fn share(&self, month: &Month, seed: u64) -> Share {
        let mut days = [0; 31];
        let mut total = 0;
        let mut last_day = month.first;
        for spell in &self.spells {
            let from = spell.from.max(month.first);
            let to = spell.to.min(month.after);
            for day in from..to {
                let nth = (day - month.first) as usize;
                days[nth] = month.business[nth] * spell.intensity(day);
                total += days[nth];
                last_day = day;
            }
        }
        if total == 0 {
            return Share {
                days,
                total,
                users: 0,
                weight: 0,
            };
        }
        let users = self.users_in_month(last_day);
        let index = (u64::from(self.account) << 32) | u64::from(month.first as u32);
        let mood = 75 + habit(seed, Stream::UsageLevel, index, 0) / 200;
        let weight = total * u64::from(users) * self.vigour * mood / 100;
        Share {
            days,
            total,
            users,
            weight,
        }
    }
}

/// What falls to one account in one month.
pub(super) struct Share {
    pub days: [u64; 31],
    pub total: u64,
    pub users: u32,
    pub weight: u64,
}

/// The days of a month, and how busy offices are on each.
pub(super) struct Month {
    pub first: i32,
    pub after: i32,
    pub business: [u64; 31],
}

impl Month {
    pub fn new(first: i32) -> Month {
        let after = months_after(first, 1);
        let mut days = [0; 31];
        for (business_of_day, day) in days.iter_mut().zip(first..after) {
            *business_of_day = business(day);
        }
        Month {
            first,
            after,
            business: days,
        }
    }
}

fn is_core_service(version: &Version) -> bool {
    version.status.is_served() && version.deal.plan.family == Family::Core
}

/// When the account's users could log in.
fn spells(book: &[&Subscription]) -> Vec<Spell> {
    let mut served: Vec<(i32, i32, bool)> = book
        .iter()
        .flat_map(|subscription| &subscription.versions)
        .filter(|version| is_core_service(version))
        .map(|version| {
            let started = local_day(version.started);
            // No use before the hour of the start.
            let from = if midnight(started) == version.started {
                started
            } else {
                started + 1
            };
            let to = version
                .ended
                .or(version.planned_end)
                .map_or(OPEN, local_day);
            let fades = to != OPEN && version.end_reason != Some(MIGRATED);
            (from, to, fades)
        })
        .collect();
    served.sort_unstable();
    let mut spells: Vec<Spell> = Vec::new();
    for (from, to, fades) in served {
        match spells.last_mut() {
            Some(last) if from <= last.to.saturating_add(1) => {
                if to >= last.to {
                    (last.to, last.fades) = (to, fades);
                }
            }
            last => {
                let ramp_days = if last.is_none() { 90 } else { 30 };
                spells.push(Spell {
                    from,
                    to,
                    ramp_days,
                    fades,
                });
            }
        }
    }
    spells
}
