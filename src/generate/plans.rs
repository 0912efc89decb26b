//! The price list: plans, currencies and billing intervals. All money is in hundredths of the currency.

use super::calendar::months_after;
use super::table::{self, Table};

/// A product family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    Core,
    Analytics,
    Support,
}

/// A plan and its list price in yen per unit and month.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub id: &'static str,
    pub family: Family,
    pub tier: i64,
    monthly_yen: i64,
}

const fn plan(id: &'static str, family: Family, tier: i64, monthly_yen: i64) -> Plan {
    Plan {
        id,
        family,
        tier,
        monthly_yen,
    }
}

/// Everything on sale, by family and tier.
pub(super) static PLANS: [Plan; 7] = [
    plan("core-starter", Family::Core, 1, 1_200),
    plan("core-business", Family::Core, 2, 2_400),
    plan("core-enterprise", Family::Core, 3, 4_200),
    plan("analytics-basic", Family::Analytics, 1, 500),
    plan("analytics-pro", Family::Analytics, 2, 1_100),
    plan("support-standard", Family::Support, 1, 30_000),
    plan("support-premium", Family::Support, 2, 120_000),
];

/// The family's plan of this tier, or the nearest there is.
pub(super) fn plan_of(family: Family, tier: i64) -> &'static Plan {
    PLANS
        .iter()
        .filter(|plan| plan.family == family)
        .min_by_key(|plan| (plan.tier - tier).abs())
        .unwrap_or(&PLANS[0])
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Currency {
    Jpy,
    Usd,
    Eur,
}

impl Currency {
    pub fn code(self) -> &'static str {
        match self {
            Currency::Jpy => "JPY",
            Currency::Usd => "USD",
            Currency::Eur => "EUR",
        }
    }

    /// Yen per unit in the price list, which does not follow the market.
    fn list_rate(self) -> i64 {
        match self {
            Currency::Jpy => 1,
            Currency::Usd => 150,
            Currency::Eur => 160,
        }
    }

    /// Hundredths of the smallest sum that can be paid.
    pub fn minor_unit(self) -> i64 {
        match self {
            Currency::Jpy => 100,
            Currency::Usd | Currency::Eur => 1,
        }
    }

    /// So many hundredths in hundredths of a yen, by the price list.
    pub fn in_yen(self, amount: i64) -> i64 {
        amount * self.list_rate()
    }

    /// So many yen in this currency, by the price list.
    pub fn of_yen(self, yen: i64) -> i64 {
        quotient(yen * 100, self.list_rate() * self.minor_unit()) * self.minor_unit()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interval {
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

/// A billing term: every `count` intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    pub interval: Interval,
    pub count: i32,
}

impl Terms {
    pub fn new(interval: Interval, count: i32) -> Terms {
        Terms { interval, count }
    }

    pub fn interval_name(self) -> &'static str {
        match self.interval {
            Interval::Day => "day",
            Interval::Week => "week",
            Interval::Month => "month",
            Interval::Quarter => "quarter",
            Interval::Year => "year",
        }
    }

    /// Months after which it may be left; short terms are left at a month's end too.
    pub fn months(self) -> i32 {
        match self.interval {
            Interval::Day | Interval::Week => 1,
            Interval::Month => self.count,
            Interval::Quarter => 3 * self.count,
            Interval::Year => 12 * self.count,
        }
    }

    /// First day of the n-th term after `anchor`.
    pub fn term_start(self, anchor: i32, n: i32) -> i32 {
        match self.interval {
            Interval::Day => anchor + n * self.count,
            Interval::Week => anchor + 7 * n * self.count,
            Interval::Month | Interval::Quarter | Interval::Year => {
                months_after(anchor, n * self.months())
            }
        }
    }

    /// The number of the first term that does not start before `day`.
    pub fn term_from(self, anchor: i32, day: i32) -> i32 {
        let longest_days = match self.interval {
            Interval::Day => self.count,
            Interval::Week => 7 * self.count,
            Interval::Month | Interval::Quarter | Interval::Year => 31 * self.months(),
        };
        let mut n = ((day - anchor) / longest_days - 1).max(0);
        while self.term_start(anchor, n) < day {
            n += 1;
        }
        n
    }

    /// The list price of one term in months of the monthly price, as a fraction.
    fn price_months(self) -> (i64, i64) {
        let count = i64::from(self.count);
        match self.interval {
            Interval::Day => (12 * count, 365),
            Interval::Week => (12 * count, 52),
            Interval::Month => (count, 1),
            Interval::Quarter => (3 * count, 1),
            // Two months are free to who pays a year ahead.
            Interval::Year => (10 * count, 1),
        }
    }
}

/// The price of one unit for one term, at `level` thousandths of the list price.
pub(super) fn unit_price(plan: &Plan, currency: Currency, terms: Terms, level: i64) -> i64 {
    let (months, divisor) = terms.price_months();
    let step = match currency {
        // Yen prices are set in tens.
        Currency::Jpy => 1_000,
        Currency::Usd | Currency::Eur => 1,
    };
    let price = plan.monthly_yen * 100 * level * months;
    quotient(price, currency.list_rate() * 1_000 * divisor * step).max(1) * step
}

/// `dividend / divisor`, rounded half away from zero; `divisor` is positive.
pub(super) fn quotient(dividend: i64, divisor: i64) -> i64 {
    let half = divisor / 2;
    if dividend < 0 {
        -((half - dividend) / divisor)
    } else {
        (dividend + half) / divisor
    }
}

/// The table `plans`.
pub(super) fn table() -> Table {
    let family = |plan: &Plan| match plan.family {
        Family::Core => "core",
        Family::Analytics => "analytics",
        Family::Support => "support",
    };
    Table {
        name: "plans",
        columns: vec![
            (
                "plan_id",
                table::text(&PLANS, |plan| Some(plan.id.to_owned())),
            ),
            (
                "family",
                table::text(&PLANS, |plan| Some(family(plan).to_owned())),
            ),
            ("tier", table::int(&PLANS, |plan| Some(plan.tier))),
        ],
    }
}
