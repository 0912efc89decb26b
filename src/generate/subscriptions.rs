//! What a subscription is, and the table `subscriptions`.

use super::accounts;
use super::calendar::{Timeline, local_day, midnight};
use super::plans::{Currency, Interval, Plan, Terms};
use super::table::{self, Table};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Trialing,
    Active,
    PastDue,
    Paused,
    Unpaid,
    Canceled,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Status::Trialing => "trialing",
            Status::Active => "active",
            Status::PastDue => "past_due",
            Status::Paused => "paused",
            Status::Unpaid => "unpaid",
            Status::Canceled => "canceled",
        }
    }

    /// Is the customer charged while in this state?
    pub fn is_billed(self) -> bool {
        matches!(self, Status::Active | Status::PastDue)
    }

    /// May the customer's users log in?
    pub fn is_served(self) -> bool {
        matches!(self, Status::Trialing | Status::Active | Status::PastDue)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DiscountKind {
    Recurring,
    OneOff,
    RecurringPercent,
    OneOffPercent,
}

/// Money or percent, in hundredths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Discount {
    pub kind: DiscountKind,
    pub value: i64,
}

impl Discount {
    fn kind_name(self) -> &'static str {
        match self.kind {
            DiscountKind::Recurring => "recurring",
            DiscountKind::OneOff => "one_off",
            DiscountKind::RecurringPercent => "recurring_percent",
            DiscountKind::OneOffPercent => "one_off_percent",
        }
    }

    /// Is it taken off one term only?
    pub fn is_one_off(self) -> bool {
        matches!(
            self.kind,
            DiscountKind::OneOff | DiscountKind::OneOffPercent
        )
    }
}

/// What was agreed: a change of any part makes a new version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Deal {
    pub plan: &'static Plan,
    pub quantity: i64,
    /// Price of one unit for one term.
    pub amount: i64,
    /// The price level it was sold at, in thousandths of the list price.
    pub level: i64,
    pub terms: Terms,
    pub discount: Option<Discount>,
    pub currency: Currency,
    /// The day from which terms are counted.
    pub anchor: i32,
}

impl Deal {
    /// What one term costs before discounts.
    pub fn line(&self) -> i64 {
        self.amount * self.quantity
    }

    /// What one term costs; a one-off discount counts in the first term only.
    pub fn net(&self, is_first_term: bool) -> i64 {
        let off = match self.discount {
            Some(discount) if discount.is_one_off() && !is_first_term => 0,
            Some(Discount {
                kind: DiscountKind::Recurring | DiscountKind::OneOff,
                value,
            }) => value,
            Some(Discount { value: percent, .. }) => {
                let unit = self.currency.minor_unit();
                super::plans::quotient(self.line() * percent, 10_000 * unit) * unit
            }
            None => 0,
        };
        self.line() - off
    }

    /// What a year of it costs.
    pub fn yearly(&self) -> i64 {
        let count = i64::from(self.terms.count);
        let terms_a_year = match self.terms.interval {
            Interval::Day => 365,
            Interval::Week => 52,
            Interval::Month => 12,
            Interval::Quarter => 4,
            Interval::Year => 1,
        };
        let unit = self.currency.minor_unit();
        super::plans::quotient(self.net(false) * terms_a_year, count * unit) * unit
    }
}

/// A subscription from `started` to `ended`, during which nothing about it changed.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub started: i64,
    pub ended: Option<i64>,
    pub status: Status,
    pub deal: Deal,
    pub trial_end: Option<i64>,
    pub cancel_requested: Option<i64>,
    pub end_reason: Option<&'static str>,
    /// When it will end, if that has been decided but lies beyond the timeline.
    pub planned_end: Option<i64>,
}

impl Version {
    /// From when on it is paid for: a trial may come first.
    pub fn paid_from(&self) -> i64 {
        self.started.max(self.trial_end.unwrap_or(self.started))
    }

    /// Is it paid for at this instant?
    pub fn is_paid_at(&self, at: i64) -> bool {
        let is_open = self.ended.is_none_or(|ended| at < ended);
        self.status.is_billed() && self.paid_from() <= at && is_open
    }

    /// Is it paid for at all?
    pub fn is_paid(&self) -> bool {
        self.status.is_billed() && self.ended.is_none_or(|ended| self.paid_from() < ended)
    }

    /// When the term ends that was running last, or that runs at the end of the timeline.
    fn renews_at(&self, timeline: &Timeline) -> Option<i64> {
        let is_short = matches!(self.deal.terms.interval, Interval::Day | Interval::Week);
        match self.status {
            Status::Trialing => self.trial_end,
            Status::Active | Status::PastDue if !is_short => {
                let anchor = self.deal.anchor;
                let known_until = self.ended.map_or(timeline.end, local_day);
                let nth = self
                    .deal
                    .terms
                    .term_from(anchor, known_until.max(anchor + 1))
                    .max(1);
                Some(midnight(self.deal.terms.term_start(anchor, nth)))
            }
            _ => None,
        }
    }
}

/// A chain of versions whose intervals abut.
#[derive(Debug, Clone)]
pub(super) struct Subscription {
    pub account: u32,
    pub versions: Vec<Version>,
    /// Was it taken over with its running term paid for?
    pub is_taken_over: bool,
}

impl Subscription {
    pub fn new(account: u32, versions: Vec<Version>) -> Subscription {
        Subscription {
            account,
            versions,
            is_taken_over: false,
        }
    }

    /// Start of the first version.
    pub fn started(&self) -> i64 {
        self.versions
            .first()
            .map_or(i64::MAX, |version| version.started)
    }
}

/// The id of the n-th subscription of the company.
fn id(index: usize) -> String {
    format!("S{:07}", index + 1)
}

/// The table `subscriptions`, one row per version.
pub(super) fn table(subscriptions: &[Subscription], timeline: &Timeline) -> Table {
    let rows: Vec<(usize, u32, &Version)> = subscriptions
        .iter()
        .enumerate()
        .flat_map(|(index, subscription)| {
            let account = subscription.account;
            subscription
                .versions
                .iter()
                .map(move |version| (index, account, version))
        })
        .collect();
    type Row<'a> = (usize, u32, &'a Version);
    let rows = rows.as_slice();
    let text = |value: fn(&Row) -> Option<String>| table::text(rows, value);
    let instant = |value: fn(&Row) -> Option<i64>| table::instant(rows, value);
    let money = |value: fn(&Row) -> Option<i64>| table::money(rows, value);
    Table {
        name: "subscriptions",
        columns: vec![
            ("subscription_id", text(|row| Some(id(row.0)))),
            ("account_id", text(|row| Some(accounts::id(row.1)))),
            ("plan_id", text(|row| Some(row.2.deal.plan.id.to_owned()))),
            ("started_at", instant(|row| Some(row.2.started))),
            ("ended_at", instant(|row| row.2.ended)),
            ("trial_end", instant(|row| row.2.trial_end)),
            (
                "quantity",
                table::int(rows, |row| Some(row.2.deal.quantity)),
            ),
            ("amount", money(|row| Some(row.2.deal.amount))),
            (
                "interval",
                text(|row| Some(row.2.deal.terms.interval_name().to_owned())),
            ),
            (
                "interval_count",
                table::int(rows, |row| Some(i64::from(row.2.deal.terms.count))),
            ),
            (
                "discount",
                money(|row| row.2.deal.discount.map(|discount| discount.value)),
            ),
            (
                "discount_kind",
                text(|row| {
                    row.2
                        .deal
                        .discount
                        .map(|discount| discount.kind_name().to_owned())
                }),
            ),
            (
                "currency",
                text(|row| Some(row.2.deal.currency.code().to_owned())),
            ),
            ("status", text(|row| Some(row.2.status.name().to_owned()))),
            ("cancel_requested_at", instant(|row| row.2.cancel_requested)),
            (
                "end_reason",
                text(|row| row.2.end_reason.map(str::to_owned)),
            ),
            (
                "renews_at",
                table::instant(rows, |row| row.2.renews_at(timeline)),
            ),
        ],
    }
}
