//! What is agreed: the first deal of a customer, and what becomes of it at the end of a term.

use super::accounts::{Profile, Scale};
use super::calendar::{Timeline, local_day};
use super::dice::Dice;
use super::plans::{Family, Interval, Terms, plan_of, unit_price};
use super::subscriptions::{Deal, Discount, DiscountKind};

/// Thousandths of the first price list that new contracts pay: it rises every year.
fn list_level(timeline: &Timeline, day: i32) -> i64 {
    1_000 + 50 * i64::from((day - timeline.start + 200).max(0) / 365)
}

/// What an account agrees to when it becomes a customer, or becomes one again.
pub(super) fn first_deal(
    profile: &Profile,
    timeline: &Timeline,
    anchor: i32,
    is_return: bool,
    dice: &mut Dice,
) -> Deal {
    let tier = dice.weighted(match profile.scale {
        Scale::Small => &[(1, 70), (2, 27), (3, 3)],
        Scale::Middle => &[(1, 25), (2, 60), (3, 15)],
        Scale::Large | Scale::Giant => &[(1, 4), (2, 36), (3, 60)],
    });
    let (interval, count) = dice.weighted(&[
        ((Interval::Month, 1), 600),
        ((Interval::Year, 1), 290),
        ((Interval::Quarter, 1), 40),
        ((Interval::Month, 6), 20),
        ((Interval::Year, 2), 10),
        ((Interval::Quarter, 2), 5),
        ((Interval::Week, 1), 8),
        ((Interval::Week, 4), 9),
        ((Interval::Day, 30), 14),
        ((Interval::Day, 7), 4),
    ]);
    let plan = plan_of(Family::Core, tier);
    let terms = Terms::new(interval, count);
    let level = list_level(timeline, anchor) * profile.negotiated / 1_000;
    let amount = unit_price(plan, profile.currency, terms, level);
    let currency = profile.currency;
    let quantity = profile.seats;
    let mut deal = Deal {
        plan,
        quantity,
        amount,
        level,
        terms,
        discount: None,
        currency,
        anchor,
    };
    deal.discount = discount(&deal, is_return, dice);
    deal
}

/// About a third of all contracts start with a discount, and most that win a customer back.
fn discount(deal: &Deal, is_return: bool, dice: &mut Dice) -> Option<Discount> {
    if !dice.chance(if is_return { 6_500 } else { 3_000 }) {
        return None;
    }
    let (kind, choices) = dice.weighted::<(_, &[i64])>(&[
        (
            (
                DiscountKind::RecurringPercent,
                &[500, 1_000, 1_500, 2_000, 3_000],
            ),
            50,
        ),
        ((DiscountKind::Recurring, &[500, 1_000, 2_000]), 20),
        (
            (DiscountKind::OneOffPercent, &[1_000, 2_000, 5_000, 10_000]),
            20,
        ),
        ((DiscountKind::OneOff, &[2_000, 5_000]), 10),
    ]);
    let percent = dice.pick(choices);
    let is_percent = matches!(
        kind,
        DiscountKind::RecurringPercent | DiscountKind::OneOffPercent
    );
    let unit = deal.currency.minor_unit();
    let money = deal.line() * percent / 10_000 / unit * unit;
    Some(Discount {
        kind,
        value: if is_percent { percent } else { money },
    })
}

/// The deal that follows at a term's end: often the same, sometimes another plan, term, price or number of seats.
pub(super) fn renewed(
    before: &Deal,
    profile: &Profile,
    timeline: &Timeline,
    month: i32,
    at: i64,
    dice: &mut Dice,
) -> Deal {
    let mut deal = before.clone();
    let day = local_day(at);
    let months = deal.terms.months() as u64;
    let is_anniversary = month % 12 == 0;

    let is_short = matches!(deal.terms.interval, Interval::Day | Interval::Week);
    if months == 1 && month >= 3 && !is_short && dice.chance(80) {
        deal.terms = Terms::new(Interval::Year, 1);
        deal.anchor = day;
    }
    if dice.chance(60 * months) {
        deal.plan = plan_of(Family::Core, deal.plan.tier + 1);
    } else if dice.chance(30 * months) {
        deal.plan = plan_of(Family::Core, deal.plan.tier - 1);
    }
    if is_anniversary && dice.chance(5_500) {
        deal.level = list_level(timeline, day) * profile.negotiated / 1_000;
    }
    if dice.chance((110 * months).min(1_000)) {
        let fewer = deal.quantity * dice.between(5, 30) / 100;
        deal.quantity = (deal.quantity - fewer.max(1)).max(1);
    }
    let loses_discount = is_anniversary && dice.chance(4_000);
    let discount_is_used = deal.discount.is_some_and(Discount::is_one_off);
    if loses_discount || discount_is_used && (deal != *before || dice.chance(2_000)) {
        deal.discount = None;
    }

    let is_repriced =
        deal.plan != before.plan || deal.terms != before.terms || deal.level != before.level;
    if is_repriced {
        deal.amount = unit_price(deal.plan, deal.currency, deal.terms, deal.level);
    }
    hold_discount(&mut deal);
    deal
}

/// A discount in money never takes more than half of what the term costs.
pub(super) fn hold_discount(deal: &mut Deal) {
    let unit = deal.currency.minor_unit();
    let most = deal.line() / 2 / unit * unit;
    if let Some(discount) = &mut deal.discount
        && matches!(
            discount.kind,
            DiscountKind::Recurring | DiscountKind::OneOff
        )
    {
        discount.value = discount.value.min(most);
    }
}
