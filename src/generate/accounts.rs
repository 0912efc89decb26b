//! Who the accounts are when they sign up.

use super::Size;
use super::calendar::{Timeline, busy_day};
use super::dice::{Dice, Stream};
use super::names::Names;
use super::plans::Currency;

/// How big a customer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    Small,
    Middle,
    Large,
    Giant,
}

/// An account as it signs up.
#[derive(Debug, Clone)]
pub(super) struct Profile {
    pub name: String,
    pub industry: Option<&'static str>,
    pub scale: Scale,
    pub employees: Option<i64>,
    pub region: Option<&'static str>,
    pub channel: Option<&'static str>,
    pub owner: u32,
    pub is_strategic: bool,
    pub parent: Option<u32>,
    /// Seats that it will buy first.
    pub seats: i64,
    pub signup: i32,
    pub currency: Currency,
    /// Thousandths of the list price that it was able to agree on.
    pub negotiated: i64,
}

const INDUSTRIES: [(&str, u64); 10] = [
    ("SaaS", 20),
    ("製造", 18),
    ("小売", 12),
    ("金融", 9),
    ("医療", 8),
    ("物流", 8),
    ("教育", 7),
    ("建設", 7),
    ("不動産", 5),
    ("サービス", 6),
];
const REGIONS: [(&str, u64); 8] = [
    ("関東", 42),
    ("関西", 15),
    ("中部", 9),
    ("九州・沖縄", 6),
    ("北海道・東北", 5),
    ("中国・四国", 4),
    ("US", 11),
    ("EU", 8),
];
pub(super) const CHANNELS: [(&str, u64); 5] = [
    ("inbound", 38),
    ("outbound", 22),
    ("partner", 18),
    ("event", 12),
    ("referral", 10),
];
const ACCOUNTS_PER_OWNER: u64 = 32;

/// The id of the n-th account.
pub(super) fn id(index: u32) -> String {
    format!("A{:06}", u64::from(index) + 1)
}

/// The id of an account's user; users are numbered from 1.
pub(super) fn user_id(account: u32, user: u32) -> String {
    format!("{}-u{user:02}", id(account))
}

/// The id of the n-th customer-success manager.
pub(super) fn owner_id(owner: u32) -> String {
    format!("csm-{:02}", u64::from(owner) + 1)
}

/// How many customer-success managers look after so many accounts.
pub(super) fn owners(accounts: usize) -> u64 {
    (accounts as u64).div_ceil(ACCOUNTS_PER_OWNER).max(1)
}

/// All accounts, by sign-up date.
pub(super) fn profiles(size: &Size, timeline: &Timeline) -> Vec<Profile> {
    let mut names = Names::default();
    let owners = owners(size.accounts);
    (0u32..)
        .zip(signup_days(size, timeline))
        .map(|(index, signup)| {
            let mut dice = Dice::new(size.seed, Stream::Profile, u64::from(index));
            let mut naming = Dice::new(size.seed, Stream::Names, u64::from(index));
            profile(index, signup, owners, &mut names, &mut dice, &mut naming)
        })
        .collect()
}

/// 60 % of the accounts are there at the start of the reported months.
fn signup_days(size: &Size, timeline: &Timeline) -> Vec<i32> {
    let mut dice = Dice::new(size.seed, Stream::SignUps, 0);
    let is_growing = timeline.end > timeline.start;
    let early = if is_growing {
        size.accounts - size.accounts * 2 / 5
    } else {
        size.accounts
    };
    let mut days: Vec<i32> = (0..size.accounts)
        .map(|index| {
            let is_early = index < early;
            let (first, after) = if is_early {
                (timeline.begin, timeline.start)
            } else {
                (timeline.start, timeline.end)
            };
            busy_day(first, after - 1, &mut dice)
        })
        .collect();
    days.sort_unstable();
    days
}

fn profile(
    index: u32,
    signup: i32,
    owners: u64,
    names: &mut Names,
    dice: &mut Dice,
    naming: &mut Dice,
) -> Profile {
    let industry = dice.weighted(&INDUSTRIES);
    let region = dice.weighted(&REGIONS);
    let scale = dice.weighted(&[
        (Scale::Small, 62),
        (Scale::Middle, 26),
        (Scale::Large, 10),
        (Scale::Giant, 2),
    ]);
    let (employees, share) = match scale {
        Scale::Small => (dice.between(4, 50), dice.between(25, 80)),
        Scale::Middle => (dice.between(51, 300), dice.between(8, 35)),
        Scale::Large => (dice.between(301, 3_000), dice.between(3, 15)),
        Scale::Giant => (dice.between(3_001, 20_000), dice.between(1, 4)),
    };
    let currency = dice.weighted(match region {
        "US" => &[(Currency::Usd, 92), (Currency::Jpy, 6), (Currency::Eur, 2)],
        "EU" => &[(Currency::Eur, 90), (Currency::Usd, 6), (Currency::Jpy, 4)],
        _ => &[
            (Currency::Jpy, 974),
            (Currency::Usd, 18),
            (Currency::Eur, 8),
        ],
    });
    let is_abroad = matches!(region, "US" | "EU");
    let is_large = matches!(scale, Scale::Large | Scale::Giant);
    let has_parent = index > 0 && dice.chance(500);
    Profile {
        name: names.next(industry, is_abroad, naming),
        industry: (!dice.chance(400)).then_some(industry),
        scale,
        employees: (!dice.chance(700)).then_some(employees),
        region: (!dice.chance(100)).then_some(region),
        channel: (!dice.chance(150)).then_some(dice.weighted(&CHANNELS)),
        owner: dice.below(owners) as u32,
        is_strategic: dice.chance(if is_large { 2_800 } else { 150 }),
        parent: has_parent.then(|| dice.below(u64::from(index)) as u32),
        seats: (employees * share / 100).clamp(2, 400),
        signup,
        currency,
        negotiated: dice.pick(&[1_000, 1_000, 1_000, 1_000, 1_000, 970, 950, 900, 1_040]),
    }
}
