//! Rows of usage brought together by account: strings become numbers, rows are dealt out to their accounts, and small groups
//! are sorted. A batch of events and a kept part have the same columns, so both are read by the same code.
//!
//! | column | if missing |
//! |---|---|
//! | `id`, `day` | |
//! | `first_at`, `length` (microseconds) | 0 |
//! | `events`, `sessions` | 1 |
//! | `seconds` | 0 |
//! | `user_id`, `session_id`, `feature` | none |

use polars::prelude::*;
use std::ops::Range;

/// A use of an account by a user on a local day: an event, a session, or all of the day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Use {
    pub user: Key,
    pub session: Key,
    pub day: i32,
    /// 0: none.
    pub feature: u32,
    /// Microseconds since 1970-01-01 UTC.
    pub first: i64,
    pub last: i64,
    pub events: i64,
    pub sessions: i64,
    pub seconds: i64,
}

/// Which uses of one user and day are one. What is joined part by part is the same as what is joined at once: a session is a
/// run of uses with no gap wider than is allowed, whichever of them were brought together first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joining {
    /// Those with no more than so many microseconds between them: sessions cut from events.
    Gap(i64),
    /// Those of one session id.
    Given,
    /// All.
    Day,
    /// None: there is one row of each, and a second one is a mistake.
    Once,
}

impl Joining {
    /// Sorts the uses of one account by user and day, and joins them in place; gives how many are left, in front.
    pub fn joined(self, uses: &mut [Use]) -> usize {
        uses.sort_unstable_by_key(|one| (one.user, one.day, one.session, one.first));
        let mut kept = 0;
        for at in 0..uses.len() {
            let next = uses[at];
            if at > 0 && self.is_one(&uses[kept], &next) {
                uses[kept].take_in(&next);
                continue;
            }
            kept += usize::from(at > 0);
            uses[kept] = next;
        }
        if uses.is_empty() { 0 } else { kept + 1 }
    }

    fn is_one(self, before: &Use, next: &Use) -> bool {
        (before.user, before.day) == (next.user, next.day)
            && match self {
                Self::Gap(gap) => next.first.saturating_sub(before.last) <= gap,
                Self::Given => before.session == next.session,
                Self::Day => true,
                Self::Once => false,
            }
    }
}

impl Use {
    fn take_in(&mut self, other: &Use) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.events = self.events.saturating_add(other.events);
        self.sessions = self.sessions.saturating_add(other.sessions);
        self.seconds = self.seconds.saturating_add(other.seconds);
    }

    /// Whole seconds from the first instant to the last.
    pub fn length_in_seconds(&self) -> i64 {
        self.last.saturating_sub(self.first).div_euclid(1_000_000)
    }
}

/// Numbers for texts, in the order in which they are first seen.
#[derive(Default)]
pub struct Names<'a> {
    /// Most ids are short: their bytes are compared as one number.
    short: PlHashMap<u128, u32>,
    long: PlHashMap<&'a str, u32>,
    pub texts: Vec<&'a str>,
    /// Rows that stand together often have the same.
    latest: (u128, u32),
}

impl<'a> Names<'a> {
    pub fn number(&mut self, text: &'a str) -> u32 {
        let next = self.texts.len() as u32;
        let number = match as_number(text) {
            Some(short) if short == self.latest.0 => return self.latest.1,
            Some(short) => {
                let number = *self.short.entry(short).or_insert(next);
                self.latest = (short, number);
                number
            }
            None => *self.long.entry(text).or_insert(next),
        };
        if number == next {
            self.texts.push(text);
        }
        number
    }

    /// 0 for no text, else a number from 1 on.
    fn number_or_none(&mut self, text: Option<&'a str>) -> u32 {
        text.map_or(0, |text| self.number(text) + 1)
    }

    /// What [`Names::number_or_none`] gave a number to.
    pub fn text_or_none(&self, number: u32) -> Option<&'a str> {
        let at = (number as usize).checked_sub(1)?;
        self.texts.get(at).copied()
    }
}

/// The bytes and the length of a text of up to 15 bytes, never 0. The order of such numbers is that of the texts.
fn as_number(text: &str) -> Option<u128> {
    let bytes = text.as_bytes();
    if bytes.len() > 15 {
        return None;
    }
    Some(beginning(bytes) | (bytes.len() as u128 + 1))
}

/// The first 16 bytes of a text, the first of them the highest; 0 where there are no more.
fn beginning(bytes: &[u8]) -> u128 {
    if let Some(all) = bytes.first_chunk() {
        return u128::from_be_bytes(*all);
    }
    let unused = 8 * (16 - bytes.len());
    // The first half and the last may overlap: they say the same there.
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return u128::from(u64::from_be_bytes(*first)) << 64
            | u128::from(u64::from_be_bytes(*last)) << unused;
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return u128::from(u32::from_be_bytes(*first)) << 96
            | u128::from(u32::from_be_bytes(*last)) << unused;
    }
    let joined = |number: u128, byte: &u8| number << 8 | u128::from(*byte);
    bytes
        .iter()
        .fold(0, joined)
        .checked_shl(unused as u32)
        .unwrap_or(0)
}

/// A text to sort by: few of those that differ have to be looked at beyond their beginning.
fn sorting_key(text: &str) -> (u128, &str) {
    (beginning(text.as_bytes()), text)
}

/// Sorts texts, and leaves each but once.
pub fn sort_and_dedup(texts: &mut Vec<&str>) {
    texts.sort_by_cached_key(|text| sorting_key(text));
    texts.dedup();
}

/// A text that is compared with few others: it needs no number, which would have to be looked up among all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key([u64; 2]);

impl Key {
    /// Lowest byte of those that hold the number of a long text.
    const LONG: u8 = u8::MAX;

    fn of(number: u128) -> Self {
        Self([(number >> 64) as u64, number as u64])
    }

    fn number(self) -> u128 {
        u128::from(self.0[0]) << 64 | u128::from(self.0[1])
    }
}

/// Days of 1 January 0001 to 31 December 9999: calendars know no others.
pub const DAYS: Range<i32> = -719_162..2_932_897;

/// Rows by account, accounts in order.
pub struct Sheet<'a, T> {
    accounts: Vec<&'a str>,
    /// Where each account's rows begin; one more than there are accounts.
    starts: Vec<usize>,
    rows: Vec<T>,
    /// The ids that the rows came with.
    pub ids: Vec<&'a str>,
}

impl<'a, T> Sheet<'a, T> {
    /// The rows of each account.
    pub fn groups(&mut self) -> impl Iterator<Item = (&'a str, &mut [T])> {
        let Self {
            accounts,
            starts,
            rows,
            ..
        } = self;
        let mut rest = rows.as_mut_slice();
        let lengths = starts.windows(2).map(|pair| pair[1] - pair[0]);
        accounts.iter().zip(lengths).map(move |(account, length)| {
            let (group, others) = std::mem::take(&mut rest).split_at_mut(length);
            rest = others;
            (*account, group)
        })
    }
}

/// Deals out the rows of `frames` to the accounts that `account_of` gives for their `id`. Only those of the days, and those whose id
/// has an account; `rows_of` reads all of a frame.
pub fn sheet<'a, T: Copy + Default>(
    frames: &'a [DataFrame],
    days: &Range<i32>,
    account_of: impl Fn(&'a str) -> Option<&'a str>,
    mut rows_of: impl FnMut(&'a DataFrame) -> PolarsResult<Vec<T>>,
) -> PolarsResult<Sheet<'a, T>> {
    const NONE: u32 = u32::MAX;
    let mut ids = Names::default();
    let mut numbers = Vec::with_capacity(frames.iter().map(DataFrame::height).sum());
    for frame in frames {
        let of_days = self::days(frame)?;
        let rows = frame.column("id")?.str()?.iter().zip(of_days);
        numbers.extend(rows.map(|(id, day)| match id {
            Some(id) if days.contains(day) => ids.number(id),
            _ => NONE,
        }));
    }
    let id_and_account = ids.texts.iter().enumerate();
    let mut by_account: Vec<_> = id_and_account
        .filter_map(|(id, text)| Some((sorting_key(account_of(text)?), id)))
        .collect();
    by_account.sort_unstable();
    let mut accounts: Vec<&str> = Vec::new();
    let mut places = vec![NONE; ids.texts.len()];
    for ((_, account), id) in by_account {
        if accounts.last() != Some(&account) {
            accounts.push(account);
        }
        places[id] = accounts.len() as u32 - 1;
    }
    // From here on, the number of a row is that of its account.
    let mut starts = vec![0; accounts.len() + 1];
    for number in &mut numbers {
        *number = places.get(*number as usize).copied().unwrap_or(NONE);
        if let Some(length) = starts.get_mut((*number as usize).saturating_add(1)) {
            *length += 1;
        }
    }
    for at in 1..starts.len() {
        starts[at] += starts[at - 1];
    }
    let mut next = starts[..accounts.len()].to_vec();
    let mut rows = vec![T::default(); starts[accounts.len()]];
    let mut numbers = numbers.into_iter();
    for frame in frames {
        for (row, number) in rows_of(frame)?.into_iter().zip(numbers.by_ref()) {
            if let Some(next) = next.get_mut(number as usize) {
                rows[*next] = row;
                *next += 1;
            }
        }
    }
    Ok(Sheet {
        accounts,
        starts,
        rows,
        ids: ids.texts,
    })
}

/// The texts that keys and numbers of [`Use`] stand for.
#[derive(Default)]
pub struct Words<'a> {
    /// Those that do not fit into a key.
    long: Names<'a>,
    pub features: Names<'a>,
}

impl<'a> Words<'a> {
    fn key(&mut self, text: Option<&'a str>) -> Key {
        let Some(text) = text else {
            return Key::default();
        };
        let long = || u128::from(self.long.number(text)) << 8 | u128::from(Key::LONG);
        Key::of(as_number(text).unwrap_or_else(long))
    }

    /// Hands over the text of a key.
    pub fn text<R>(&self, key: Key, take: impl FnOnce(Option<&str>) -> R) -> R {
        let number = key.number();
        let bytes = number.to_be_bytes();
        match bytes[15] {
            0 => take(None),
            Key::LONG => take(self.long.texts.get((number >> 8) as usize).copied()),
            length => {
                let text = bytes.get(..usize::from(length - 1));
                take(text.and_then(|text| std::str::from_utf8(text).ok()))
            }
        }
    }

    /// A column of the texts of keys.
    pub fn column(&self, name: &str, keys: impl ExactSizeIterator<Item = Key>) -> Column {
        let mut texts = StringChunkedBuilder::new(name.into(), keys.len());
        for key in keys {
            self.text(key, |text| texts.append_option(text));
        }
        texts.finish().into_column()
    }

    /// The rows of a frame whose `day` is never null.
    pub fn uses(&mut self, frame: &'a DataFrame) -> PolarsResult<Vec<Use>> {
        let days = days(frame)?;
        let (firsts, lengths) = (numbers(frame, "first_at")?, numbers(frame, "length")?);
        let (events, sessions) = (numbers(frame, "events")?, numbers(frame, "sessions")?);
        let seconds = numbers(frame, "seconds")?;
        let of = |values: Option<&[i64]>, at: usize, missing: i64| {
            values.map_or(missing, |values| values[at])
        };
        let rows = days.iter().enumerate().map(|(at, day)| {
            let first = of(firsts, at, 0);
            Use {
                day: (*day).clamp(DAYS.start, DAYS.end - 1),
                first,
                last: first.saturating_add(of(lengths, at, 0)),
                events: of(events, at, 1),
                sessions: of(sessions, at, 1),
                seconds: of(seconds, at, 0),
                ..Use::default()
            }
        });
        let mut rows: Vec<Use> = rows.collect();
        for (name, of) in [
            ("user_id", (|row| &mut row.user) as fn(&mut Use) -> &mut Key),
            ("session_id", |row| &mut row.session),
        ] {
            if let Ok(column) = frame.column(name) {
                for (row, text) in rows.iter_mut().zip(column.str()?.iter()) {
                    *of(row) = self.key(text);
                }
            }
        }
        if let Ok(column) = frame.column("feature") {
            for (row, text) in rows.iter_mut().zip(column.str()?.iter()) {
                row.feature = self.features.number_or_none(text);
            }
        }
        Ok(rows)
    }
}

/// The column `day` of a frame without nulls, in one piece.
pub fn days(frame: &DataFrame) -> PolarsResult<&[i32]> {
    frame.column("day")?.date()?.physical().cont_slice()
}

/// A column of whole numbers without nulls, in one piece; `None` if there is none.
fn numbers<'a>(frame: &'a DataFrame, name: &str) -> PolarsResult<Option<&'a [i64]>> {
    match frame.column(name) {
        Ok(column) => column.i64()?.cont_slice().map(Some),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_texts_are_numbers_in_the_order_of_the_texts() -> PolarsResult<()> {
        let all = "ユーザー0123456789";
        let ends = all.char_indices().map(|(at, _)| at);
        let mut texts: Vec<&str> = ends.flat_map(|at| [&all[..at], &all[at..]]).collect();
        texts.extend(["a", "a\0", "b", "u00467568", "u00467570", "u0046757"]);
        texts.sort_unstable();
        let mut ours = texts.clone();
        ours.reverse();
        sort_and_dedup(&mut ours);
        texts.dedup();
        assert_eq!(ours, texts);
        let numbers: Vec<u128> = texts.iter().filter_map(|text| as_number(text)).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b));

        let mut words = Words::default();
        let mut keys = vec![Key::default()];
        keys.extend(texts.iter().map(|text| words.key(Some(text))));
        let column = words.column("texts", keys.into_iter());
        let back: Vec<Option<&str>> = column.str()?.iter().collect();
        assert_eq!(back[0], None);
        let given: Vec<Option<&str>> = texts.into_iter().map(Some).collect();
        assert_eq!(back[1..], given);
        Ok(())
    }
}
