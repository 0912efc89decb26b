//! The table `usage_events`: the events are shared out among accounts and months by how much each should be in use,
//! then laid out as sessions. Nothing but counts is held for more than a month.

use std::sync::Arc;

use super::Company;
use super::accounts;
use super::activity::{AccountUse, FEATURES, Month, Share};
use super::calendar::{self, DAY, HOUR, Timeline, midnight, months_after};
use super::dice::{Dice, Stream};
use super::table::{Column, Table};

/// Usage is kept for a few months before the reported ones, so that look-back windows are full from the first month on.
const LEAD_MONTHS: i32 = 3;
/// How often each feature is used, in 64 shares.
const FEATURE_SHARES: [u8; 12] = [16, 9, 8, 7, 5, 5, 4, 3, 2, 2, 2, 1];
const ADMIN: u64 = 11;
/// Hours of the day in which sessions start, in 64 shares from midnight on.
const OFFICE_SHARES: [u8; 24] = [
    0, 0, 0, 0, 0, 0, 0, 1, 3, 8, 9, 8, 3, 7, 7, 6, 5, 4, 2, 1, 0, 0, 0, 0,
];
const NIGHT_SHARES: [u8; 24] = [
    6, 4, 2, 0, 0, 2, 4, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 6, 8, 10, 10, 8,
];

/// A table of 64 entries in which each index stands as often as it has shares.
const fn lots<const N: usize>(shares: [u8; N]) -> [u8; 64] {
    let mut table = [0; 64];
    let mut filled = 0;
    let mut index = 0;
    while index < N {
        let mut copies = shares[index];
        while copies > 0 {
            table[filled] = index as u8;
            filled += 1;
            copies -= 1;
        }
        index += 1;
    }
    assert!(filled == 64, "shares must add up to 64");
    table
}

static FEATURE_LOTS: [u8; 64] = lots(FEATURE_SHARES);
static OFFICE_LOTS: [u8; 64] = lots(OFFICE_SHARES);
static NIGHT_LOTS: [u8; 64] = lots(NIGHT_SHARES);

/// A sort key that says everything about an event: second of the month, user, feature.
const FEATURE_BITS: u32 = 4;
const USER_BITS: u32 = 32;

/// All that is needed to write down any month's events.
pub(super) struct Usage {
    seed: u64,
    events: u128,
    accounts: Vec<AccountUse>,
    /// First day of each month.
    months: Vec<i32>,
    /// Weight of everything before each month; the last entry is the total.
    weight_before: Vec<u128>,
    account_of_user: Vec<u32>,
    account_ids: Arc<[String]>,
    user_ids: Arc<[String]>,
    feature_names: Arc<[String]>,
}

impl Usage {
    pub fn new(company: &Company) -> Usage {
        let seed = company.size.seed;
        let mut accounts = account_uses(company);
        let mut account_of_user = Vec::new();
        let mut user_ids = Vec::new();
        for account in &mut accounts {
            account.first_user = account_of_user.len() as u32;
            for user in 1..=account.users {
                account_of_user.push(account.account);
                user_ids.push(accounts::user_id(account.account, user));
            }
        }
        let months = months(&company.timeline);
        let mut weight_before = vec![0];
        let mut sum = 0;
        for &first in &months {
            let month = Month::new(first);
            let weights = accounts
                .iter()
                .map(|account| account.share(&month, seed).weight);
            sum += weights.map(u128::from).sum::<u128>();
            weight_before.push(sum);
        }
        let count = company.profiles.len() as u32;
        Usage {
            seed,
            events: company.size.events as u128,
            accounts,
            months,
            weight_before,
            account_of_user,
            account_ids: (0..count).map(accounts::id).collect(),
            user_ids: user_ids.into(),
            feature_names: FEATURES.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    /// Number of months with events.
    pub fn months(&self) -> usize {
        self.months.len()
    }

    /// First day of the n-th month.
    pub fn first_day(&self, month: usize) -> i32 {
        self.months[month]
    }

    /// How many events there are before so much of the whole weight.
    fn events_before(&self, weight: u128) -> u128 {
        let total = self.weight_before[self.months.len()];
        (self.events * weight).checked_div(total).unwrap_or(0)
    }

    /// The events of the n-th month in order of time.
    pub fn table(&self, nth: usize) -> Table {
        let month = Month::new(self.months[nth]);
        let mut weight = self.weight_before[nth];
        let mut done = self.events_before(weight);
        let expected = self.events_before(self.weight_before[nth + 1]) - done;
        let mut keys: Vec<u64> = Vec::with_capacity(expected as usize);
        for account in &self.accounts {
            let share = account.share(&month, self.seed);
            weight += u128::from(share.weight);
            let due = self.events_before(weight);
            let index = ((nth as u64) << 32) | u64::from(account.account);
            if due > done {
                let mut dice = Dice::new(self.seed, Stream::Usage, index);
                push_sessions(account, &share, (due - done) as usize, &mut dice, &mut keys);
            }
            done = due;
        }
        keys.sort_unstable();
        self.rows(&keys, midnight(month.first))
    }

    fn rows(&self, keys: &[u64], month_starts: i64) -> Table {
        let second = |key: u64| month_starts + (key >> (FEATURE_BITS + USER_BITS)) as i64;
        let user = |key: u64| (key >> FEATURE_BITS) as u32;
        let feature = |key: u64| (key & ((1 << FEATURE_BITS) - 1)) as u32;
        let account = |key: u64| self.account_of_user[user(key) as usize];
        let codes = |code: &dyn Fn(u64) -> u32, values: &Arc<[String]>| Column::Codes {
            codes: keys.iter().map(|&key| code(key)).collect(),
            values: Arc::clone(values),
        };
        let occurred = keys.iter().map(|&key| second(key) * 1_000_000).collect();
        Table {
            name: "usage_events",
            columns: vec![
                ("account_id", codes(&account, &self.account_ids)),
                ("user_id", codes(&user, &self.user_ids)),
                ("occurred_at", Column::DenseInstant(occurred)),
                ("feature", codes(&feature, &self.feature_names)),
            ],
        }
    }
}

fn account_uses(company: &Company) -> Vec<AccountUse> {
    (0u32..)
        .zip(&company.profiles)
        .zip(&company.books())
        .map(|((account, profile), book)| {
            AccountUse::new(account, profile, book, company.size.seed)
        })
        .filter(|account| account.users > 0)
        .collect()
}

fn months(timeline: &Timeline) -> Vec<i32> {
    let first = months_after(timeline.start, -LEAD_MONTHS);
    calendar::months(first, timeline.end).collect()
}

/// Lays out so many events of one account as sessions within the month.
fn push_sessions(
    account: &AccountUse,
    share: &Share,
    events: usize,
    dice: &mut Dice,
    keys: &mut Vec<u64>,
) {
    let mut day_ends = share.days;
    let mut sum = 0;
    for day in &mut day_ends {
        sum += *day;
        *day = sum;
    }
    // With few events there are short sessions of few users, rather than one click by each.
    let pool = u64::from(share.users).min(events as u64 / 2 + 1);
    let per_user = events as u64 / u64::from(share.users.max(1));
    let longest: u64 = match per_user {
        0..10 => 4,
        10..50 => 8,
        _ => 16,
    };
    let mut left = events;
    while left > 0 {
        let target = dice.below(share.total);
        let day = day_ends.partition_point(|&end| end <= target) as i64;
        // The smaller of two draws: the first users are the busiest.
        let bits = dice.bits();
        let user = scaled(bits >> 32, pool).min(scaled(bits & 0xffff_ffff, pool));
        let code = u64::from(account.first_user) + user;
        let bits = dice.bits();
        let is_night_user = (code.wrapping_mul(0x9e37_79b9) & 0xffff_ffff) >> 28 == 0;
        let lots = if is_night_user {
            &NIGHT_LOTS
        } else {
            &OFFICE_LOTS
        };
        let hour = (i64::from(lots[(bits & 63) as usize]) + account.hours_behind) % 24;
        let day_ends = (day + 1) * DAY;
        let mut second = day * DAY + hour * HOUR + scaled(bits >> 32, HOUR as u64) as i64;
        let mut length = 1 + (bits >> 6) % longest;
        while length > 0 && left > 0 && second < day_ends {
            let bits = dice.bits();
            let feature = feature(account, user, bits);
            let user_bits = (second as u64) << USER_BITS | code;
            keys.push(user_bits << FEATURE_BITS | feature);
            // Half a minute to about six minutes until the next click.
            second += 25 + scaled((bits >> 8) & 0xffff_ffff, 330) as i64;
            left -= 1;
            length -= 1;
        }
    }
}

/// A 32-bit draw, scaled to `0..bound`.
fn scaled(draw: u64, bound: u64) -> u64 {
    (draw * bound) >> 32
}

/// A feature that the account uses; only its first two users are administrators.
fn feature(account: &AccountUse, user: u64, bits: u64) -> u64 {
    let drawn = u64::from(FEATURE_LOTS[(bits & 63) as usize]);
    let is_used = account.features >> drawn & 1 == 1;
    let is_allowed = drawn != ADMIN || user < 2;
    if is_used && is_allowed {
        drawn
    } else {
        bits >> 6 & 1
    }
}
