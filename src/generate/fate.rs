//! What becomes of an account: its core subscription, month by month, from sign-up to the end of the timeline.

use super::accounts::{Profile, Scale};
use super::addons;
use super::calendar::{
    DAY, Timeline, local_day, midnight, months_after, next_month_start, office_time,
};
use super::deals::{first_deal, hold_discount, renewed};
use super::dice::Dice;
use super::subscriptions::{Deal, Status, Subscription, Version};

/// Reasons why customers leave of their own will, by weight.
const REASONS: [(&str, u64); 6] = [
    ("no_use", 28),
    ("price", 24),
    ("competitor", 20),
    ("missing_feature", 12),
    ("budget_cut", 9),
    ("closed_business", 7),
];

/// All subscriptions of one account.
pub(super) fn subscriptions(
    account: u32,
    profile: &Profile,
    timeline: &Timeline,
    mut dice: Dice,
) -> Vec<Subscription> {
    let waits = dice.weighted(&[((0, 3), 45), ((4, 20), 40), ((21, 60), 15)]);
    let mut opens = profile.signup + dice.days(waits.0, waits.1);
    let never_subscribes = dice.chance(400);
    let only_tries = dice.chance(450);
    if never_subscribes {
        return Vec::new();
    }
    if only_tries {
        let trial = trial_only(profile, timeline, opens, &mut dice);
        return trial
            .into_iter()
            .map(|trial| Subscription::new(account, vec![trial]))
            .collect();
    }

    let mut books: Vec<Subscription> = Vec::new();
    let mut is_return = false;
    while let Some(core) = core(profile, timeline, opens, is_return, &mut dice) {
        close_tail(&mut books, core[0].started);
        let ended = core.iter().rev().find(|version| version.status.is_served());
        let ended = ended.and_then(|version| version.ended);
        let addons = addons::of_core(&core, profile, timeline, &mut dice);
        books.push(Subscription::new(account, core));
        books.extend(
            addons
                .into_iter()
                .map(|addon| Subscription::new(account, addon)),
        );

        let comes_back = dice.chance(1_500);
        let Some(ended) = ended.filter(|_| comes_back) else {
            break;
        };
        opens = local_day(ended) + dice.days(60, 240);
        is_return = true;
    }
    books
}

/// A returning customer's old subscription no longer says `canceled` beside the new one.
fn close_tail(books: &mut [Subscription], at: i64) {
    for version in books.iter_mut().flat_map(|book| &mut book.versions) {
        if version.status == Status::Canceled && version.ended.is_none() {
            version.ended = Some(at);
        }
    }
}

/// A trial that was not bought.
fn trial_only(
    profile: &Profile,
    timeline: &Timeline,
    opens: i32,
    dice: &mut Dice,
) -> Option<Version> {
    let started = midnight(opens) + office_time(dice);
    if started >= timeline.horizon() {
        return None;
    }
    let ends = started + dice.pick(&[14, 30]) * DAY;
    let is_over = ends < timeline.horizon();
    Some(Version {
        started,
        ended: is_over.then_some(ends),
        status: Status::Trialing,
        deal: first_deal(profile, timeline, opens, false, dice),
        trial_end: Some(ends),
        cancel_requested: None,
        end_reason: is_over.then_some("trial_expired"),
        planned_end: None,
    })
}

/// A core subscription that is being written: the versions before the open one never change again.
struct Chain {
    closed: Vec<Version>,
    open: Version,
}

impl Chain {
    /// Closes the open version and goes on with a copy of it. Nothing happens twice at one instant: a second change
    /// falls into the version that the first one opened.
    fn change(&mut self, at: i64, status: Status) -> &mut Version {
        if at > self.open.started {
            let next = Version {
                started: at,
                trial_end: None,
                ..self.open.clone()
            };
            let mut before = std::mem::replace(&mut self.open, next);
            before.ended = Some(at);
            self.closed.push(before);
        }
        self.open.status = status;
        &mut self.open
    }

    fn finish(mut self) -> Vec<Version> {
        self.closed.push(self.open);
        self.closed
    }

    /// Service ends. Billing systems write this down in different ways: the last version just ends; a version of no
    /// length closes the chain; or one that says `canceled` stays open.
    fn end(mut self, at: i64, reason: &'static str, dice: &mut Dice) -> Vec<Version> {
        let way = dice.below(100);
        if way < 25 && at > self.open.started {
            let closing = self.change(at, Status::Canceled);
            closing.cancel_requested = None;
            closing.end_reason = Some(reason);
            closing.ended = (way < 10).then_some(at);
        } else {
            self.open.ended = Some(at.max(self.open.started));
            self.open.end_reason = Some(reason);
        }
        self.finish()
    }

    /// The same, of the customer's own will and announced beforehand.
    fn leave(mut self, at: i64, dice: &mut Dice) -> Vec<Version> {
        let notice = dice.between(7, 60) * DAY + dice.between(-10, 8) * 1_800;
        self.open.cancel_requested = Some((at - notice).max(self.open.started));
        let reason = dice.weighted(&REASONS);
        self.end(at, reason, dice)
    }
}

/// What a step of a subscription's life leads to.
enum Step {
    Goes(Chain),
    Over(Vec<Version>),
}

/// The core subscription that opens on this day, if that is within the timeline.
fn core(
    profile: &Profile,
    timeline: &Timeline,
    opens: i32,
    is_return: bool,
    dice: &mut Dice,
) -> Option<Vec<Version>> {
    let starts_on_first = dice.chance(4_500);
    let day = if starts_on_first {
        next_month_start(opens)
    } else {
        opens
    };
    let starts_at_midnight = starts_on_first || dice.chance(6_000);
    let time = if starts_at_midnight {
        0
    } else {
        office_time(dice)
    };
    let started = midnight(day) + time;
    let horizon = timeline.horizon();
    if started >= horizon {
        return None;
    }

    let mut chain = Chain {
        closed: Vec::new(),
        open: Version {
            started,
            ended: None,
            status: Status::Active,
            deal: first_deal(profile, timeline, day, is_return, dice),
            trial_end: None,
            cancel_requested: None,
            end_reason: None,
            planned_end: None,
        },
    };
    if !is_return && dice.chance(3_000) {
        let trial_days = dice.pick(&[14, 30]);
        let ends = started + i64::from(trial_days) * DAY;
        chain.open.trial_end = Some(ends);
        chain.open.deal.anchor = day + trial_days;
        if ends >= horizon {
            chain.open.status = Status::Trialing;
            return Some(chain.finish());
        }
        if dice.chance(5_000) {
            chain.open.status = Status::Trialing;
            chain.change(ends, Status::Active);
        }
    }

    let mut month = 1;
    loop {
        let anchor = chain.open.deal.anchor;
        let at = midnight(months_after(anchor, month)) + time;
        if at >= horizon {
            plan_to_leave(&mut chain, profile, month, at, horizon, dice);
            return Some(chain.finish());
        }
        let is_term_end = month % chain.open.deal.terms.months() == 0;
        if is_term_end {
            match term_end(chain, profile, timeline, month, at, dice) {
                Step::Goes(goes_on) => chain = goes_on,
                Step::Over(versions) => return Some(versions),
            }
        }
        change_seats_within_month(&mut chain, at, horizon, dice);
        let is_anchor_moved = chain.open.deal.anchor != anchor;
        month = if is_anchor_moved { 1 } else { month + 1 };
    }
}

/// How many of 10,000 customers leave at the end of such a term.
fn leaving_rate(profile: &Profile, deal: &Deal, month: i32) -> u64 {
    let monthly = match profile.scale {
        Scale::Small => 215,
        Scale::Middle => 130,
        Scale::Large => 85,
        Scale::Giant => 60,
    };
    let months = deal.terms.months() as u64;
    let is_new = month <= 3;
    // Who binds himself for long is the more loyal one.
    let loyalty = if months >= 12 { 75 } else { 100 };
    let rate = monthly * months * loyalty / 100;
    if is_new { rate * 13 / 10 } else { rate }
}

/// A cancellation that has been announced, for a day that is beyond the timeline.
fn plan_to_leave(
    chain: &mut Chain,
    profile: &Profile,
    month: i32,
    at: i64,
    horizon: i64,
    dice: &mut Dice,
) {
    let deal = &chain.open.deal;
    let is_term_end = month % deal.terms.months() == 0;
    let leaves = dice.chance(leaving_rate(profile, deal, month));
    let requested = at - dice.between(7, 60) * DAY;
    let is_announced = requested < horizon && requested > chain.open.started;
    let is_live = chain.open.status == Status::Active;
    if is_term_end && leaves && is_announced && is_live {
        chain.open.cancel_requested = Some(requested);
        chain.open.planned_end = Some(at);
    }
}

/// At the end of a term customers leave, fail to pay, pause, or change what they have.
fn term_end(
    mut chain: Chain,
    profile: &Profile,
    timeline: &Timeline,
    month: i32,
    at: i64,
    dice: &mut Dice,
) -> Step {
    let terms = chain.open.deal.terms;
    if dice.chance(leaving_rate(profile, &chain.open.deal, month)) {
        let leaves_at_once = dice.chance(800);
        let later = at + dice.between(1, 20) * DAY + dice.between(0, 20_000);
        let ends = if leaves_at_once && later < timeline.horizon() {
            later
        } else {
            at
        };
        return Step::Over(chain.leave(ends, dice));
    }
    let fails_to_pay = match profile.scale {
        Scale::Small => 130,
        Scale::Middle => 60,
        Scale::Large | Scale::Giant => 25,
    };
    if dice.chance(fails_to_pay) {
        return payment_failure(chain, at, timeline.horizon(), dice);
    }
    if terms.months() <= 3 && dice.chance(35) {
        return pause(chain, at, timeline.horizon(), dice);
    }

    let deal = renewed(&chain.open.deal, profile, timeline, month, at, dice);
    let is_long = terms.months() >= 12;
    let is_rewritten = is_long && dice.chance(7_000);
    if is_rewritten || deal != chain.open.deal {
        chain.change(at, Status::Active).deal = deal;
    }
    Step::Goes(chain)
}

/// Payment fails at a term's end: most pay within weeks, the others lose the service.
fn payment_failure(mut chain: Chain, at: i64, horizon: i64, dice: &mut Dice) -> Step {
    chain.change(at, Status::PastDue);
    let second = at + dice.between(4, 25) * DAY + dice.between(0, 20_000);
    if second >= horizon {
        return Step::Over(chain.finish());
    }
    if dice.chance(7_000) {
        chain.change(second, Status::Active);
        return Step::Goes(chain);
    }
    if dice.chance(5_000) {
        return Step::Over(chain.end(second, "payment_failed", dice));
    }
    chain.change(second, Status::Unpaid);
    let third = second + dice.between(25, 60) * DAY;
    if third >= horizon {
        return Step::Over(chain.finish());
    }
    Step::Over(chain.end(third, "payment_failed", dice))
}

/// The customer pauses for some months, and comes back or not.
fn pause(mut chain: Chain, at: i64, horizon: i64, dice: &mut Dice) -> Step {
    chain.change(at, Status::Paused);
    let day = months_after(local_day(at), dice.days(1, 4));
    let back = midnight(day) + at - midnight(local_day(at));
    if back >= horizon {
        return Step::Over(chain.finish());
    }
    if dice.chance(1_500) {
        return Step::Over(chain.end(back, "no_use", dice));
    }
    chain.change(back, Status::Active).deal.anchor = day;
    Step::Goes(chain)
}

/// Seats are mostly added, at any time of the month.
fn change_seats_within_month(chain: &mut Chain, month_from: i64, horizon: i64, dice: &mut Dice) {
    let grows = dice.chance(360);
    let shrinks = dice.chance(25);
    let changes_at_midnight = dice.chance(5_000);
    let day = local_day(month_from.max(chain.open.started)) + dice.days(1, 26);
    let time = if changes_at_midnight {
        0
    } else {
        office_time(dice)
    };
    let at = midnight(day) + time;
    let month_ends = months_after(local_day(month_from), 1);
    let is_settled = chain.open.status == Status::Active && day < month_ends && at < horizon;
    if !(grows || shrinks) || !is_settled {
        return;
    }
    let quantity = chain.open.deal.quantity;
    let percent = dice.between(5, 25);
    let by = (quantity * percent / 100).max(1);
    let deal = &mut chain.change(at, Status::Active).deal;
    deal.quantity = if grows {
        quantity + by
    } else {
        (quantity - by).max(1)
    };
    hold_discount(deal);
}
