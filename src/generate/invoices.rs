//! The table `invoice_lines`: what the subscriptions are billed for, and what comes beside it.

use super::accounts::{self, Profile, Scale};
use super::calendar::{DAY, HOUR, Timeline, local_day, midnight, month_start, months_after};
use super::dice::{Dice, Stream, habit};
use super::plans::{Currency, Family, quotient};
use super::subscriptions::{Status, Subscription, Version};
use super::table::{self, Table};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Recurring,
    OneOff,
    Usage,
    Credit,
    Refund,
}

#[derive(Debug, Clone)]
pub(super) struct Line {
    account: u32,
    pub issued: i64,
    pub amount: i64,
    kind: Kind,
    pub currency: Currency,
    /// First day of service and the day after the last.
    service: Option<(i32, i32)>,
    paid: Option<i64>,
}

/// How an account is billed and pays, all its life.
struct Habits {
    seed: u64,
    /// Seconds after midnight.
    issue_time: i64,
    pays_by_card: bool,
    pays_late: bool,
    has_setup_fee: bool,
    is_metered: bool,
}

impl Habits {
    fn of(account: u32, profile: &Profile, seed: u64) -> Habits {
        let draw = |aspect| habit(seed, Stream::InvoiceHabit, u64::from(account), aspect);
        let is_small = profile.scale == Scale::Small;
        Habits {
            seed,
            issue_time: if draw(1) < 5_000 {
                0
            } else {
                9 * HOUR + draw(2) as i64
            },
            pays_by_card: draw(3) < if is_small { 6_000 } else { 1_500 },
            pays_late: draw(4) < 1_500,
            has_setup_fee: draw(5) < 4_000,
            is_metered: draw(6) < 1_200,
        }
    }

    /// When the bill for a service that starts on this day goes out: sometimes only weeks later, for all its lines.
    fn issued(&self, account: u32, day: i32) -> i64 {
        let draw = |aspect| {
            let index = (u64::from(account) << 32) | u64::from(day as u32);
            habit(self.seed, Stream::InvoiceHabit, index, aspect)
        };
        let is_late = draw(7) < 400;
        let delay = if is_late { 5 + draw(8) as i64 % 36 } else { 0 };
        midnight(day) + self.issue_time + delay * DAY
    }

    /// Cards pay at once; bank transfers come at the end of the following month, as is usual in Japan.
    fn paid(&self, issued: i64, dice: &mut Dice) -> i64 {
        if self.pays_by_card {
            return issued + dice.between(20, 900);
        }
        let due = months_after(month_start(local_day(issued)), 2) - 1;
        let delay = if self.pays_late {
            dice.days(0, 40)
        } else {
            dice.days(-8, 0)
        };
        midnight(due + delay) + 10 * HOUR
    }
}

/// All lines, by time of issue.
pub(super) fn lines(
    subscriptions: &[Subscription],
    profiles: &[Profile],
    timeline: &Timeline,
    seed: u64,
) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut is_known = vec![false; profiles.len()];
    for (index, subscription) in (0u64..).zip(subscriptions) {
        let account = subscription.account;
        let profile = &profiles[account as usize];
        let habits = Habits::of(account, profile, seed);
        let mut dice = Dice::new(seed, Stream::Invoices, index);
        let is_first = !std::mem::replace(&mut is_known[account as usize], true);
        if is_first && habits.has_setup_fee {
            lines.extend(setup_fee(subscription, profile, &habits, &mut dice));
        }
        if habits.is_metered {
            lines.extend(metered(subscription, &habits, timeline, &mut dice));
        }
        lines.extend(terms(subscription, &habits, timeline, &mut dice));
    }
    lines.retain(|line| line.issued < timeline.horizon());
    for line in &mut lines {
        line.paid = line.paid.filter(|&paid| paid < timeline.horizon());
    }
    // A stable sort: lines of one invoice stay in the order of subscriptions.
    lines.sort_by_key(|line| (line.issued, line.account, line.currency, line.kind));
    lines
}

/// The table `invoice_lines`. Lines of one account that are issued at the same instant make one invoice.
pub(super) fn table(lines: &[Line]) -> Table {
    let mut rows: Vec<(usize, usize, &Line)> = Vec::with_capacity(lines.len());
    let is_one_invoice =
        |a: &Line, b: &Line| (a.issued, a.account, a.currency) == (b.issued, b.account, b.currency);
    for (nth, invoice) in lines.chunk_by(is_one_invoice).enumerate() {
        rows.extend(
            invoice
                .iter()
                .enumerate()
                .map(|(line, row)| (nth + 1, line + 1, row)),
        );
    }
    let kind = |line: &Line| match line.kind {
        Kind::Recurring => "recurring",
        Kind::OneOff => "one_off",
        Kind::Usage => "usage",
        Kind::Credit => "credit",
        Kind::Refund => "refund",
    };
    let rows = rows.as_slice();
    Table {
        name: "invoice_lines",
        columns: vec![
            (
                "invoice_id",
                table::text(rows, |row| Some(format!("INV{:07}", row.0))),
            ),
            (
                "line_id",
                table::text(rows, |row| Some(format!("INV{:07}-{}", row.0, row.1))),
            ),
            (
                "account_id",
                table::text(rows, |row| Some(accounts::id(row.2.account))),
            ),
            ("issued_at", table::instant(rows, |row| Some(row.2.issued))),
            ("amount", table::money(rows, |row| Some(row.2.amount))),
            (
                "kind",
                table::text(rows, |row| Some(kind(row.2).to_owned())),
            ),
            (
                "currency",
                table::text(rows, |row| Some(row.2.currency.code().to_owned())),
            ),
            (
                "service_start",
                table::date(rows, |row| row.2.service.map(|days| days.0)),
            ),
            (
                "service_end",
                table::date(rows, |row| row.2.service.map(|days| days.1)),
            ),
            ("paid_at", table::instant(rows, |row| row.2.paid)),
        ],
    }
}

/// Days from which to which a version is billed; none if it never is.
fn billed_days(version: &Version, timeline: &Timeline) -> Option<(i32, i32)> {
    let from = version.paid_from();
    let is_empty = version.ended.is_some_and(|ended| ended <= from);
    let to = version.ended.map_or(timeline.end, local_day);
    let is_billed = version.status.is_billed() && !is_empty;
    is_billed.then(|| (local_day(from), to))
}

/// One line at the start of each term, and the difference when something changes within a term.
fn terms(
    subscription: &Subscription,
    habits: &Habits,
    timeline: &Timeline,
    dice: &mut Dice,
) -> Vec<Line> {
    let account = subscription.account;
    let mut lines = Vec::new();
    let mut before: Option<&Version> = None;
    for version in &subscription.versions {
        let Some((from, to)) = billed_days(version, timeline) else {
            before = None;
            continue;
        };
        let deal = &version.deal;
        let mut nth = deal.terms.term_from(deal.anchor, from);
        let next = deal.terms.term_start(deal.anchor, nth);
        if next > from && nth > 0 {
            let term_start = deal.terms.term_start(deal.anchor, nth - 1);
            let is_new = before.is_none() && !subscription.is_taken_over;
            let paid_already = before.filter(|last| last.deal.anchor == deal.anchor);
            let difference = match paid_already {
                Some(last) => deal.net(false) - last.deal.net(false),
                None if is_new => deal.net(true),
                None => 0,
            };
            let unit = deal.currency.minor_unit();
            let (rest, length) = (i64::from(next - from), i64::from(next - term_start));
            let amount = quotient(difference * rest, length * unit) * unit;
            if amount != 0 {
                let kind = if amount > 0 {
                    Kind::Recurring
                } else {
                    Kind::Credit
                };
                let line = line(account, version, kind, amount, (from, next), habits, dice);
                lines.push(line);
            }
        }
        let is_new_discount = before.is_none_or(|last| last.deal.discount != deal.discount);
        let mut is_first_term = is_new_discount;
        loop {
            let start = deal.terms.term_start(deal.anchor, nth);
            if start >= to {
                break;
            }
            nth += 1;
            let end = deal.terms.term_start(deal.anchor, nth);
            let amount = deal.net(is_first_term);
            let billed = line(
                account,
                version,
                Kind::Recurring,
                amount,
                (start, end),
                habits,
                dice,
            );
            let correction = correction(&billed, dice);
            lines.push(billed);
            lines.extend(correction);
            is_first_term = false;
        }
        before = Some(version);
    }
    lines
}

fn line(
    account: u32,
    version: &Version,
    kind: Kind,
    amount: i64,
    service: (i32, i32),
    habits: &Habits,
    dice: &mut Dice,
) -> Line {
    let issued = habits.issued(account, service.0);
    let paid = habits.paid(issued, dice);
    let paid = match version.status {
        // A failed payment is made good when the state ends, or never.
        Status::PastDue => version.ended.filter(|_| version.end_reason.is_none()),
        _ => Some(paid),
    };
    let paid = paid.map(|paid| paid.max(issued));
    let currency = version.deal.currency;
    Line {
        account,
        issued,
        amount,
        kind,
        currency,
        service: Some(service),
        paid,
    }
}

/// Some of what was billed is given back: as a credit, or as a refund of what was paid.
fn correction(billed: &Line, dice: &mut Dice) -> Option<Line> {
    let draw = dice.below(1_000);
    let after = |instant: i64, dice: &mut Dice| instant + dice.between(3, 25) * DAY;
    let (kind, percent, issued) = match (draw, billed.paid) {
        (0..8, _) => (
            Kind::Credit,
            dice.between(5, 30),
            after(billed.issued, dice),
        ),
        (8..13, Some(paid)) => (Kind::Refund, dice.between(10, 100), after(paid, dice)),
        _ => return None,
    };
    let unit = billed.currency.minor_unit();
    let amount = -(quotient(billed.amount * percent, 100 * unit) * unit);
    let paid = (kind == Kind::Refund).then_some(issued);
    Some(Line {
        amount,
        kind,
        issued,
        paid,
        ..billed.clone()
    })
}

/// Setting up a new customer costs by its size.
fn setup_fee(
    subscription: &Subscription,
    profile: &Profile,
    habits: &Habits,
    dice: &mut Dice,
) -> Option<Line> {
    let version = subscription
        .versions
        .iter()
        .find(|version| version.status == Status::Active)?;
    let yen = match profile.scale {
        Scale::Small => 30_000,
        Scale::Middle => 100_000,
        Scale::Large => 300_000,
        Scale::Giant => 800_000,
    };
    let amount = version.deal.currency.of_yen(yen);
    let day = local_day(version.paid_from());
    let setup = line(
        subscription.account,
        version,
        Kind::OneOff,
        amount,
        (day, day),
        habits,
        dice,
    );
    Some(Line {
        service: None,
        ..setup
    })
}

/// Metered use is billed on the first of the month after it.
fn metered(
    subscription: &Subscription,
    habits: &Habits,
    timeline: &Timeline,
    dice: &mut Dice,
) -> Vec<Line> {
    let mut lines = Vec::new();
    let core = subscription
        .versions
        .iter()
        .filter(|version| version.deal.plan.family == Family::Core);
    for version in core {
        let Some((from, to)) = billed_days(version, timeline) else {
            continue;
        };
        let mut month = month_start(from);
        while months_after(month, 1) <= to {
            let next = months_after(month, 1);
            let yen = version.deal.quantity * dice.between(0, 400);
            let amount = version.deal.currency.of_yen(yen);
            if amount > 0 {
                let service = (month, next);
                let account = subscription.account;
                let mut used = line(account, version, Kind::Usage, amount, service, habits, dice);
                used.issued = habits.issued(account, next);
                used.paid = used.paid.map(|_| habits.paid(used.issued, dice));
                lines.push(used);
            }
            month = next;
        }
    }
    lines
}
