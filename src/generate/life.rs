//! An account's life as those see it who look after it: when it is served, what it pays, who its users are, and how
//! content it is. The tables about customer success are drawn from it.

use super::Company;
use super::accounts::Profile;
use super::activity::{AccountUse, Spell};
use super::calendar::HOUR;
use super::dice::{Dice, Stream, habit};
use super::members::{self, Member};
use super::plans::Family;
use super::subscriptions::{Subscription, Version};

/// How many days before its end a relation begins to go bad.
const DECLINE_DAYS: i32 = 240;

pub(super) struct Life<'a> {
    pub account: u32,
    pub profile: &'a Profile,
    pub book: Vec<&'a Subscription>,
    pub service: AccountUse,
    pub members: Vec<Member>,
    /// How content the account is when all goes well, in percent.
    temper: i64,
}

/// The lives of all accounts, also of those that were never served.
pub(super) fn lives(company: &Company) -> Vec<Life<'_>> {
    let seed = company.size.seed;
    (0u32..)
        .zip(&company.profiles)
        .zip(company.books())
        .map(|((account, profile), book)| {
            let service = AccountUse::new(account, profile, &book, seed);
            let mut dice = Dice::new(seed, Stream::Members, u64::from(account));
            let members = members::of_account(&service, profile, &company.timeline, &mut dice);
            let temper =
                52 + habit(seed, Stream::Temper, u64::from(account), 0) as i64 * 44 / 10_000;
            Life {
                account,
                profile,
                book,
                service,
                members,
                temper,
            }
        })
        .collect()
}

impl Life<'_> {
    /// When it first paid for the core product.
    pub fn first_paid(&self) -> Option<i64> {
        let paid = self.core().filter(|version| version.is_paid());
        paid.map(Version::paid_from).min()
    }

    /// What it pays in a year, in its currency, by the contracts of this instant.
    pub fn yearly_at(&self, at: i64) -> i64 {
        let versions = self.book.iter().flat_map(|book| &book.versions);
        let paid = versions.filter(|version| version.is_paid_at(at));
        paid.map(|version| version.deal.yearly()).sum()
    }

    /// The same in yen, by the price list.
    pub fn yearly_yen_at(&self, at: i64) -> i64 {
        self.profile.currency.in_yen(self.yearly_at(at))
    }

    pub fn core(&self) -> impl Iterator<Item = &Version> {
        let versions = self.book.iter().flat_map(|book| &book.versions);
        versions.filter(|version| version.deal.plan.family == Family::Core)
    }

    /// The time of service that a day falls into.
    pub fn spell_on(&self, day: i32) -> Option<&Spell> {
        let mut spells = self.service.spells.iter();
        spells.find(|spell| spell.from <= day && day < spell.to)
    }

    /// How bad the relation is, in percent: it gets worse and worse before the account leaves or pauses.
    pub fn gloom(&self, day: i32) -> i64 {
        let Some(spell) = self.spell_on(day).filter(|spell| spell.fades) else {
            return 0;
        };
        let left = spell.to - day;
        i64::from((DECLINE_DAYS - left).max(0)) * 100 / i64::from(DECLINE_DAYS)
    }

    /// How content it is on this day, in percent.
    pub fn mood(&self, day: i32) -> i64 {
        (self.temper - self.gloom(day) * 45 / 100).max(0)
    }

    /// Seconds by which its office hours are later than in Tokyo.
    pub fn office_shift(&self) -> i64 {
        self.service.hours_behind * HOUR
    }

    /// One who is a member at this instant.
    pub fn member_at(&self, at: i64, dice: &mut Dice) -> Option<&Member> {
        let present: Vec<&Member> = self
            .members
            .iter()
            .filter(|member| member.is_there_at(at))
            .collect();
        (!present.is_empty()).then(|| present[dice.below(present.len() as u64) as usize])
    }
}
