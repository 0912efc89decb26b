//! Accounts that are merged into others, and the table `account_merges`.

use super::accounts::{self, Profile};
use super::calendar::{DAY, Timeline, midnight, month_start, office_time};
use super::dice::{Dice, Stream};
use super::plans::Family;
use super::subscriptions::{Status, Subscription};
use super::table::{self, Table};

/// From `at` on the old account counts as the surviving one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Merge {
    pub old: u32,
    pub survivor: u32,
    pub at: i64,
}

/// Why a subscription ended whose customer was merged into another.
pub(super) const MIGRATED: &str = "migrated";
/// One account of so many is merged away.
const ACCOUNTS_PER_MERGE: usize = 40;

/// Chooses the merges and moves subscriptions between the accounts' books, in order of time. The first two make a
/// chain: one account goes into another that is merged away itself later on.
pub(super) fn apply(
    books: &mut [Vec<Subscription>],
    profiles: &[Profile],
    timeline: &Timeline,
    seed: u64,
) -> Vec<Merge> {
    let mut dice = Dice::new(seed, Stream::Merges, 0);
    let merges = chosen(books, profiles, timeline, &mut dice);
    for merge in &merges {
        // The two ways in which a CRM does it: a new contract with the survivor, or the old one goes on as it is.
        let gets_new_contract = dice.chance(6_000);
        if gets_new_contract {
            let mut book = std::mem::take(&mut books[merge.old as usize]);
            let moved: Vec<_> = book
                .iter_mut()
                .filter_map(|old| split(old, merge))
                .collect();
            book.retain(|subscription| !subscription.versions.is_empty());
            books[merge.old as usize] = book;
            books[merge.survivor as usize].extend(moved);
        }
    }
    merges
}

/// Pairs of live customers of one currency; by time.
fn chosen(
    books: &[Vec<Subscription>],
    profiles: &[Profile],
    timeline: &Timeline,
    dice: &mut Dice,
) -> Vec<Merge> {
    let wanted = match profiles.len() {
        0..5 => 0,
        few @ 5..100 => few / 20,
        many => (many / ACCOUNTS_PER_MERGE).max(2),
    };
    let length = timeline.end - timeline.begin;
    let core: Vec<Vec<(i64, i64)>> = books
        .iter()
        .map(|book| book.iter().flat_map(paid_stretches).collect())
        .collect();
    let is_live = |account: u32, at: i64| {
        let margin = 40 * DAY;
        let stretches = &core[account as usize];
        stretches
            .iter()
            .any(|&(from, to)| from + margin < at && at + margin < to)
    };
    // When an account is merged away, and the last time something was merged into it.
    let mut gone: Vec<Option<i64>> = vec![None; profiles.len()];
    let mut grown: Vec<Option<i64>> = vec![None; profiles.len()];
    let mut merges: Vec<Merge> = Vec::new();
    for _ in 0..wanted {
        let percent = match merges.len() {
            0 => 55,
            1 => 80,
            _ => dice.days(20, 97),
        };
        let at = moment(
            timeline.begin + (i64::from(length) * i64::from(percent) / 100) as i32,
            dice,
        );
        let old = match merges.first() {
            Some(first) if merges.len() == 1 => Some(first.survivor),
            _ => nth_where(profiles.len(), dice, |old| {
                let is_taken = gone[old as usize].is_some() || grown[old as usize].is_some();
                !is_taken && is_live(old, at)
            }),
        };
        let later = timeline.begin + (i64::from(length) * 82 / 100) as i32;
        let survivor = old.and_then(|old| {
            nth_where(profiles.len(), dice, |survivor| {
                let stays = gone[survivor as usize].is_none() && survivor != old;
                let lives_on = !merges.is_empty() || is_live(survivor, midnight(later));
                let is_same_currency =
                    profiles[survivor as usize].currency == profiles[old as usize].currency;
                stays && lives_on && is_same_currency && is_live(survivor, at)
            })
        });
        let (Some(old), Some(survivor)) = (old, survivor) else {
            continue;
        };
        gone[old as usize] = Some(at);
        grown[survivor as usize] = Some(at);
        merges.push(Merge { old, survivor, at });
    }
    merges.sort_by_key(|merge| (merge.at, merge.old));
    merges
}

/// The first account after a random one that fits.
fn nth_where(accounts: usize, dice: &mut Dice, fits: impl Fn(u32) -> bool) -> Option<u32> {
    let offset = dice.below(accounts as u64);
    (0..accounts as u64)
        .map(|step| ((offset + step) % accounts as u64) as u32)
        .find(|&account| fits(account))
}

/// Mergers take effect at the first of a month, or any day.
fn moment(day: i32, dice: &mut Dice) -> i64 {
    match dice.below(10) {
        0..4 => midnight(month_start(day)),
        4..7 => midnight(day),
        _ => midnight(day) + office_time(dice),
    }
}

fn paid_stretches(subscription: &Subscription) -> impl Iterator<Item = (i64, i64)> + '_ {
    let is_core = |family| family == Family::Core;
    let mut stretches: Vec<(i64, i64)> = Vec::new();
    for version in &subscription.versions {
        let is_paid = version.status.is_billed() && is_core(version.deal.plan.family);
        let (from, to) = (version.paid_from(), version.ended.unwrap_or(i64::MAX));
        match stretches.last_mut() {
            Some(last) if is_paid && last.1 == from => last.1 = to,
            _ if is_paid => stretches.push((from, to)),
            _ => {}
        }
    }
    stretches.into_iter()
}

/// Ends a subscription at the merge; what would have followed goes on as the survivor's.
fn split(subscription: &mut Subscription, merge: &Merge) -> Option<Subscription> {
    let at = merge.at;
    let mut before = Vec::new();
    let mut after = Vec::new();
    for version in subscription.versions.drain(..) {
        let is_past = version.ended.is_some_and(|ended| ended <= at) && version.started < at;
        let is_closing_note = version.status == Status::Canceled && version.started < at;
        if is_past || is_closing_note {
            before.push(version);
        } else if version.started >= at {
            after.push(version);
        } else {
            let mut head = version.clone();
            head.ended = Some(at);
            head.cancel_requested = None;
            head.planned_end = None;
            head.end_reason = Some(MIGRATED);
            before.push(head);
            let cancel_requested = version
                .cancel_requested
                .filter(|&requested| requested >= at);
            after.push(super::subscriptions::Version {
                started: at,
                cancel_requested,
                ..version
            });
        }
    }
    subscription.versions = before;
    let starts_anew = after.first()?.started > at;
    let is_taken_over = subscription.is_taken_over || !starts_anew;
    Some(Subscription {
        account: merge.survivor,
        versions: after,
        is_taken_over,
    })
}

/// The table `account_merges`.
pub(super) fn table(merges: &[Merge]) -> Table {
    Table {
        name: "account_merges",
        columns: vec![
            (
                "old_account_id",
                table::text(merges, |merge| Some(accounts::id(merge.old))),
            ),
            (
                "account_id",
                table::text(merges, |merge| Some(accounts::id(merge.survivor))),
            ),
            ("merged_at", table::instant(merges, |merge| Some(merge.at))),
        ],
    }
}
