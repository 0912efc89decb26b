//! The table `opportunities`: what sales offered, and what came of it. Offers that were won follow the subscriptions;
//! those that were lost are drawn beside them.

use super::accounts::{self, Profile, Scale};
use super::calendar::{DAY, HOUR, Timeline, busy_day, local_day, midnight, office_time};
use super::dice::{Dice, Stream};
use super::life::Life;
use super::merges::MIGRATED;
use super::plans::{Currency, Family};
use super::subscriptions::{Subscription, Version};
use super::table::{self, Column, Table};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    New,
    Upsell,
    CrossSell,
    Renewal,
}

#[derive(Debug, Clone)]
struct Opportunity {
    account: Option<u32>,
    kind: Kind,
    created: i64,
    /// When it was closed, and whether it was won.
    closed: Option<(i64, bool)>,
    amount: Option<i64>,
    currency: Currency,
}

/// Prospects that were lost, per 100 accounts.
const LOST_PROSPECTS: usize = 110;

/// The table, by time.
pub(super) fn table(lives: &[Life], timeline: &Timeline, seed: u64) -> Table {
    let mut all = prospects(lives.len(), timeline, seed);
    for life in lives {
        let mut dice = Dice::new(seed, Stream::Opportunities, u64::from(life.account));
        all.extend(new_business(life, &mut dice));
        all.extend(growth(life, &mut dice));
        all.extend(idle_offers(life, timeline, &mut dice));
        for subscription in life.book.iter().filter(|book| is_core(book)) {
            all.extend(renewals(life, subscription, timeline, &mut dice));
        }
    }
    all.retain(|row| row.created < timeline.horizon());
    for row in &mut all {
        row.closed = row.closed.filter(|&(at, _)| at < timeline.horizon());
        let latest = row.closed.map_or(row.created, |(at, _)| at);
        row.created = row.created.min(latest);
    }
    all.sort_by_key(|row| (row.created, row.account, row.kind));
    rows_of(&all)
}

fn rows_of(rows: &[Opportunity]) -> Table {
    let kind = |row: &Opportunity| match row.kind {
        Kind::New => "new",
        Kind::Upsell => "upsell",
        Kind::CrossSell => "cross_sell",
        Kind::Renewal => "renewal",
    };
    let ids = (1..=rows.len()).map(|nth| Some(format!("OPP{nth:06}")));
    let won = rows.iter().map(|row| row.closed.map(|(_, is_won)| is_won));
    Table {
        name: "opportunities",
        columns: vec![
            ("opportunity_id", Column::Text(ids.collect())),
            (
                "account_id",
                table::text(rows, |row| row.account.map(accounts::id)),
            ),
            ("kind", table::text(rows, |row| Some(kind(row).to_owned()))),
            ("created_at", table::instant(rows, |row| Some(row.created))),
            (
                "closed_at",
                table::instant(rows, |row| row.closed.map(|(at, _)| at)),
            ),
            ("is_won", Column::Bool(won.collect())),
            ("amount", table::money(rows, |row| row.amount)),
            (
                "currency",
                table::text(rows, |row| Some(row.currency.code().to_owned())),
            ),
        ],
    }
}

fn is_core(subscription: &Subscription) -> bool {
    let mut versions = subscription.versions.iter();
    versions.any(|version| version.deal.plan.family == Family::Core)
}

fn of_account(life: &Life, kind: Kind, amount: i64, closed: Option<(i64, bool)>) -> Opportunity {
    Opportunity {
        account: Some(life.account),
        kind,
        created: 0,
        closed,
        amount: Some(amount),
        currency: life.profile.currency,
    }
}

/// Who was never won, and has no account yet.
fn prospects(accounts: usize, timeline: &Timeline, seed: u64) -> Vec<Opportunity> {
    let mut dice = Dice::new(seed, Stream::Prospects, 0);
    (0..accounts * LOST_PROSPECTS / 100)
        .map(|_| {
            let day = busy_day(timeline.begin, timeline.end - 1, &mut dice);
            let created = midnight(day) + office_time(&mut dice);
            let lost = created + dice.between(8, 130) * DAY + dice.between(0, 4) * HOUR;
            let is_forgotten = dice.chance(300);
            let currency =
                dice.weighted(&[(Currency::Jpy, 84), (Currency::Usd, 10), (Currency::Eur, 6)]);
            let seats = dice.between(2, 20) * dice.between(1, 4);
            let amount = currency.of_yen(seats * dice.pick(&[14_400, 24_000, 42_000]));
            Opportunity {
                account: None,
                kind: Kind::New,
                created,
                closed: (!is_forgotten).then_some((lost, false)),
                amount: (!dice.chance(800)).then_some(amount),
                currency,
            }
        })
        .collect()
}

/// Every customer was won once, and again when it came back; who only tried or signed up was lost.
fn new_business(life: &Life, dice: &mut Dice) -> Vec<Opportunity> {
    let own = life
        .book
        .iter()
        .filter(|book| is_core(book) && !book.is_taken_over);
    let mut all: Vec<Opportunity> = Vec::new();
    for subscription in own {
        let signed_early = dice.between(0, 6) * DAY + dice.between(0, 20) * HOUR / 4;
        let first = subscription
            .versions
            .iter()
            .find(|version| version.is_paid());
        let opportunity = match (first, subscription.versions.first()) {
            (Some(paid), _) => {
                // A customer that tries first signs within the trial.
                let signed = paid.paid_from() - signed_early;
                of_account(life, Kind::New, paid.deal.yearly(), Some((signed, true)))
            }
            (None, Some(trial)) => {
                let lost = trial
                    .trial_end
                    .map(|end| (end + dice.between(1, 40) * DAY, false));
                of_account(life, Kind::New, trial.deal.yearly(), lost)
            }
            (None, None) => continue,
        };
        all.push(opportunity);
    }
    if life.book.is_empty() {
        let lost = midnight(life.profile.signup) + dice.between(20, 120) * DAY + 11 * HOUR;
        let wanted = guess(life.profile);
        all.push(of_account(life, Kind::New, wanted, Some((lost, false))));
    }
    for (nth, row) in all.iter_mut().enumerate() {
        // Who comes by himself has an account before sales hears of him.
        let comes_alone = matches!(life.profile.channel, Some("inbound" | "referral"));
        let signup = midnight(life.profile.signup) + office_time(dice);
        let known = dice.between(14, 120) * DAY;
        let closed = row.closed.map_or(signup, |(at, _)| at);
        row.created = if comes_alone && nth == 0 {
            signup.min(closed)
        } else {
            closed - known
        };
        row.amount = row.amount.filter(|_| !dice.chance(200));
    }
    all
}

/// What an account that never subscribed might have paid in a year.
fn guess(profile: &Profile) -> i64 {
    let monthly_yen = match profile.scale {
        Scale::Small => 1_200,
        Scale::Middle => 2_400,
        Scale::Large | Scale::Giant => 4_200,
    };
    profile.currency.of_yen(profile.seats * monthly_yen * 12)
}

/// Offers behind growth: most of it, the rest customers order by themselves.
fn growth(life: &Life, dice: &mut Dice) -> Vec<Opportunity> {
    let mut all = Vec::new();
    let first_paid = life.first_paid().unwrap_or(i64::MAX);
    for subscription in &life.book {
        let is_further = !is_core(subscription) && !subscription.is_taken_over;
        let bought = subscription
            .versions
            .iter()
            .find(|version| version.is_paid());
        if let Some(bought) = bought
            && is_further
            && bought.paid_from() > first_paid + 5 * DAY
            && dice.chance(8_500)
        {
            let amount = bought.deal.yearly();
            all.push((Kind::CrossSell, bought.paid_from(), amount));
        }
        for pair in subscription.versions.windows(2) {
            let more = pair[1].deal.yearly() - pair[0].deal.yearly();
            let is_upgrade = pair[1].deal.plan.tier > pair[0].deal.plan.tier;
            let (before, after) = (pair[0].deal.quantity, pair[1].deal.quantity);
            let is_notable = is_upgrade || (after - before) * 12 >= before && after > before;
            let is_paid = pair[0].is_paid() && pair[1].is_paid();
            if is_paid && more > 0 && is_notable && dice.chance(7_000) {
                all.push((Kind::Upsell, pair[1].started, more));
            }
        }
    }
    all.into_iter()
        .map(|(kind, starts, amount)| {
            let signed = starts - dice.between(0, 4) * DAY - dice.between(0, 3) * HOUR;
            let offered = signed - dice.between(7, 60) * DAY;
            let closed = signed.max(first_paid);
            Opportunity {
                created: offered.max(first_paid),
                ..of_account(life, kind, amount, Some((closed, true)))
            }
        })
        .collect()
}

/// Offers that were declined, are still open, or were forgotten.
fn idle_offers(life: &Life, timeline: &Timeline, dice: &mut Dice) -> Vec<Opportunity> {
    let Some(first_paid) = life.first_paid() else {
        return Vec::new();
    };
    let mut all = Vec::new();
    let mut day = local_day(first_paid) + dice.days(40, 200);
    while day < timeline.end {
        let is_offered = life.spell_on(day).is_some() && dice.chance(2_800);
        let kind = dice.pick(&[Kind::Upsell, Kind::Upsell, Kind::CrossSell]);
        let created = midnight(day) + office_time(dice);
        let declined = created + dice.between(10, 100) * DAY;
        let is_forgotten = dice.chance(500);
        let percent = dice.between(8, 45);
        let yearly = life.yearly_at(created);
        if is_offered && yearly > 0 {
            let unit = life.profile.currency.minor_unit();
            let amount = (yearly * percent / 100 / unit * unit).max(unit);
            let closed = (!is_forgotten).then_some((declined, false));
            all.push(Opportunity {
                created,
                ..of_account(life, kind, amount, closed)
            });
        }
        day += dice.days(90, 240);
    }
    all
}

/// Contracts of a year and more are renewed term by term: won when the customer stays, lost when it leaves.
fn renewals(
    life: &Life,
    subscription: &Subscription,
    timeline: &Timeline,
    dice: &mut Dice,
) -> Vec<Opportunity> {
    const AHEAD_DAYS: i32 = 70;
    let served = subscription
        .versions
        .iter()
        .filter(|version| version.is_paid());
    let served: Vec<&Version> = served.collect();
    let last = served.last();
    let gone = last.filter(|version| version.end_reason != Some(MIGRATED));
    let gone = gone.and_then(|version| version.ended.or(version.planned_end));
    let mut all = Vec::new();
    for version in served {
        let deal = &version.deal;
        if deal.terms.months() < 12 {
            continue;
        }
        let from = local_day(version.started);
        let to = version.ended.map_or(timeline.end + AHEAD_DAYS, local_day);
        let first = deal.terms.term_from(deal.anchor, from + 1).max(1);
        let ends = (first..).map(|nth| deal.terms.term_start(deal.anchor, nth));
        for day in ends.take_while(|&day| day <= to) {
            let end = midnight(day);
            let leaves = gone.filter(|&gone| (end - DAY..end + 25 * DAY).contains(&gone));
            let signed = end - dice.between(0, 30) * DAY + dice.between(0, 8) * HOUR;
            let created = end - dice.between(45, 95) * DAY;
            all.push(Opportunity {
                created,
                ..of_account(
                    life,
                    Kind::Renewal,
                    deal.yearly(),
                    Some(match leaves {
                        Some(gone) => (gone, false),
                        None => (signed, true),
                    }),
                )
            });
        }
    }
    all
}
