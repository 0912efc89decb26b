//! `close`: when a period is frozen.

use std::collections::BTreeSet;

use super::calendar::date;
use super::check_range;
use crate::config::Close;
use crate::config::error::{Problems, YamlPath, show};
use crate::config::raw::RawClose;

pub(super) fn close(raw: &RawClose, problems: &mut Problems) -> Close {
    let section = YamlPath::keys(["close"]);
    check_range(
        raw.business_days,
        0..=366,
        &section.key("business_days"),
        problems,
    );
    let mut holidays = BTreeSet::new();
    for (index, text) in raw.holidays.iter().enumerate() {
        match date(text) {
            Some(day) => {
                holidays.insert(day);
            }
            None => {
                let message = format!("expected a date, found `{}`", show(text));
                let hint = "year-month-day: `2026-01-01`".to_string();
                problems.push(section.key("holidays").index(index), message, hint);
            }
        }
    }
    Close {
        business_days: raw.business_days,
        holidays,
    }
}
