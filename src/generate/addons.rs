//! Further products beside the core one. They share its billing term and its fate, so each is the core's chain of
//! versions, clipped to the time for which the product was held and sold at its own price.

use super::accounts::{Profile, Scale};
use super::calendar::{Timeline, local_day, midnight, months_after, office_time};
use super::dice::Dice;
use super::plans::{Family, plan_of, unit_price};
use super::subscriptions::{Deal, Discount, DiscountKind, Status, Version};

/// A product that was bought at some time and kept to the end or dropped before.
struct Holding {
    family: Family,
    tier: i64,
    from: i64,
    to: Option<i64>,
    /// From when on it is held one tier higher.
    upgraded_from: Option<i64>,
    discount_percent: Option<i64>,
}

/// The add-on subscriptions beside one core subscription.
pub(super) fn of_core(
    core: &[Version],
    profile: &Profile,
    timeline: &Timeline,
    dice: &mut Dice,
) -> Vec<Vec<Version>> {
    let (analytics, support) = match profile.scale {
        Scale::Small => (1_400, 500),
        Scale::Middle => (3_000, 1_500),
        Scale::Large | Scale::Giant => (4_500, 4_000),
    };
    let mut addons = Vec::new();
    for (family, share) in [(Family::Analytics, analytics), (Family::Support, support)] {
        let is_bought = dice.chance(share);
        let Some(holding) = holding(family, core, profile, timeline, dice) else {
            continue;
        };
        let is_bought = is_bought && holding.from < timeline.horizon();
        let versions = if is_bought {
            versions(core, &holding)
        } else {
            Vec::new()
        };
        if !versions.is_empty() {
            addons.push(versions);
        }
    }
    addons.extend(mistaken_order(core, timeline, dice).map(|version| vec![version]));
    addons
}

fn holding(
    family: Family,
    core: &[Version],
    profile: &Profile,
    timeline: &Timeline,
    dice: &mut Dice,
) -> Option<Holding> {
    let paid = core
        .iter()
        .find(|version| version.status == Status::Active)?;
    let bought_with_core = dice.chance(4_000);
    let day = months_after(local_day(paid.paid_from()), dice.days(1, 15)) + dice.days(0, 20);
    let in_office = if dice.chance(5_000) {
        office_time(dice)
    } else {
        0
    };
    let from = if bought_with_core {
        paid.paid_from()
    } else {
        midnight(day) + in_office
    };
    let is_dropped = dice.chance(3_000);
    let dropped = midnight(months_after(local_day(from), dice.days(3, 24)));
    let upgraded = midnight(months_after(local_day(from), dice.days(3, 18)));
    let is_upgraded = dice.chance(2_500);
    let is_large = matches!(profile.scale, Scale::Large | Scale::Giant);
    let tier = if dice.chance(if is_large { 5_000 } else { 2_000 }) {
        2
    } else {
        1
    };
    let percent = dice.pick(&[500, 1_000, 2_000]);
    Some(Holding {
        family,
        tier,
        from,
        to: (is_dropped && dropped < timeline.horizon()).then_some(dropped),
        upgraded_from: is_upgraded.then_some(upgraded),
        discount_percent: dice.chance(2_500).then_some(percent),
    })
}

fn versions(core: &[Version], holding: &Holding) -> Vec<Version> {
    let mut versions: Vec<Version> = Vec::new();
    let kept = core
        .iter()
        .filter(|version| version.status != Status::Canceled);
    for version in kept {
        let started = version.started.max(holding.from);
        let is_cut = match (version.ended, holding.to) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(ended), Some(to)) => to < ended,
        };
        let ended = if is_cut { holding.to } else { version.ended };
        if ended.is_some_and(|ended| ended <= started) {
            continue;
        }
        let piece = Version {
            started,
            ended,
            status: version.status,
            deal: deal(version, started, holding),
            trial_end: None,
            cancel_requested: version
                .cancel_requested
                .filter(|&at| !is_cut && at >= started),
            end_reason: None,
            planned_end: version.planned_end.filter(|_| !is_cut),
        };
        match versions.last_mut() {
            Some(before) if before.status == piece.status && before.deal == piece.deal => {
                before.ended = piece.ended;
                before.cancel_requested = piece.cancel_requested;
                before.planned_end = piece.planned_end;
            }
            _ => versions.push(piece),
        }
        if is_cut {
            break;
        }
    }
    let core_reason = core.last().and_then(|version| version.end_reason);
    if let Some(last) = versions.last_mut()
        && last.ended.is_some()
    {
        let is_dropped = last.ended == holding.to;
        last.end_reason = if is_dropped {
            Some("no_use")
        } else {
            core_reason
        };
    }
    versions
}

/// The add-on's deal beside this version of the core. An upgrade waits for the core's next version.
fn deal(core: &Version, started: i64, holding: &Holding) -> Deal {
    let is_upgraded = holding.upgraded_from.is_some_and(|from| started >= from);
    let plan = plan_of(holding.family, holding.tier + i64::from(is_upgraded));
    let Deal {
        currency,
        terms,
        level,
        anchor,
        ..
    } = core.deal;
    Deal {
        plan,
        quantity: if holding.family == Family::Support {
            1
        } else {
            core.deal.quantity
        },
        amount: unit_price(plan, currency, terms, level),
        level,
        terms,
        discount: holding.discount_percent.map(|value| Discount {
            kind: DiscountKind::RecurringPercent,
            value,
        }),
        currency,
        anchor,
    }
}

/// Now and then something is ordered by mistake and taken back at once: a subscription of no length.
fn mistaken_order(core: &[Version], timeline: &Timeline, dice: &mut Dice) -> Option<Version> {
    let is_mistaken = dice.chance(200);
    let at = core.first()?.started + dice.between(20, 200) * 86_400 + dice.between(0, 9_000);
    let served = core.iter().find(|version| {
        version.status == Status::Active
            && version.paid_from() <= at
            && version.ended.is_none_or(|ended| at < ended)
    })?;
    let plan = plan_of(Family::Analytics, 2);
    let Deal {
        currency,
        terms,
        level,
        ..
    } = served.deal;
    let amount = unit_price(plan, currency, terms, level);
    let deal = Deal {
        plan,
        amount,
        discount: None,
        ..served.deal.clone()
    };
    (is_mistaken && at < timeline.horizon()).then_some(Version {
        started: at,
        ended: Some(at),
        status: Status::Canceled,
        deal,
        trial_end: None,
        cancel_requested: Some(at),
        end_reason: Some("ordered_by_mistake"),
        planned_end: None,
    })
}
