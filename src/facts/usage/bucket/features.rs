//! Features used per account and period.

use super::{Known, PeriodTable, Rules, Span};
use crate::columns::{ACCOUNT_ID, PERIOD};
use crate::facts::usage::sheet::{Key, Names, Sheet, days, sheet};
use polars::prelude::*;

impl Rules<'_> {
    /// [`super::Bucket::features`]. `ids` takes the ids that are named, `repeated` the days that stand there more than once.
    pub(super) fn features<'a>(
        &self,
        span: &Span,
        frames: &'a [DataFrame],
        known: &'a Known,
        ids: &mut Vec<&'a str>,
        repeated: &mut Vec<Repeated<'a>>,
    ) -> PolarsResult<DataFrame> {
        let mut names = Names::default();
        let rows_of = |frame: &'a DataFrame| {
            let texts = frame.column("feature")?.str()?.iter();
            let rows = texts.zip(days(frame)?);
            Ok(rows
                .map(|(text, day)| (names.number(text.unwrap_or_default()), *day))
                .collect())
        };
        let mut sheet: Sheet<(u32, i32)> =
            sheet(frames, &span.own, |id| known.account(id), rows_of)?;
        ids.append(&mut sheet.ids);
        let table = PeriodTable::new(self.calendar, span.own.clone());
        let mut rows = FeatureRows::default();
        for (account, used) in sheet.groups() {
            used.sort_unstable();
            if self.has_daily_features {
                let twice = used.windows(2).filter(|pair| pair[0] == pair[1]);
                let feature = |pair: &[(u32, i32)]| names.texts[pair[0].0 as usize];
                repeated.extend(twice.map(|pair| Repeated {
                    id: account,
                    user: Key::default(),
                    feature: Some(feature(pair)),
                    day: pair[0].1,
                }));
            }
            let signup = known.signups.get(account);
            let is_since = |day: i32| signup.is_some_and(|signup| day >= *signup);
            let place = |one: &(u32, i32)| (one.0, table.of(one.1), is_since(one.1));
            for same in used.chunk_by(|a, b| place(a) == place(b)) {
                let (feature, period, since) = place(&same[0]);
                rows.accounts.push(account);
                rows.features.push(names.texts[feature as usize]);
                rows.periods.push(period);
                rows.days.push(same[0].1);
                rows.since.push(since);
            }
        }
        rows.frame(self.within_days.is_some())
    }
}

/// A day that stands in more than one row of a table that has one for each.
pub(super) struct Repeated<'a> {
    pub id: &'a str,
    pub user: Key,
    pub feature: Option<&'a str>,
    pub day: i32,
}

#[derive(Default)]
struct FeatureRows<'a> {
    accounts: Vec<&'a str>,
    features: Vec<&'a str>,
    periods: Vec<i32>,
    days: Vec<i32>,
    since: Vec<bool>,
}

impl FeatureRows<'_> {
    fn frame(self, with_signups: bool) -> PolarsResult<DataFrame> {
        let mut columns = vec![
            Column::new(ACCOUNT_ID.into(), self.accounts),
            Column::new("feature".into(), self.features),
            Column::new(PERIOD.into(), self.periods),
            Column::new("day".into(), self.days).cast(&DataType::Date)?,
        ];
        if with_signups {
            columns.push(Column::new("since_signup".into(), self.since));
        }
        DataFrame::new_infer_height(columns)
    }
}
