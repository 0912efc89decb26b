//! `rfm`: scores and the map from scores to segments.

use std::collections::BTreeMap;

use super::check_range;
use crate::config::error::{Problems, YamlPath, show};
use crate::config::raw::{
    FrequencyBasis, MonetaryBasis, RawRfm, RawRfmSegment, RawSources, RawThresholds, RecencyBasis,
    RfmMethod,
};
use crate::config::{Rfm, RfmSegment, Thresholds};

/// Ranges of scores that are named before "and so on".
const MOST_RANGES: usize = 8;

/// A segment's name, its R and its F.
type NamedRanges = (&'static str, (u8, u8), (u8, u8));

/// The field's usual ten segments. They cover all 25 cells, each once.
const DEFAULT_SEGMENTS: &[NamedRanges] = &[
    ("Champions", (5, 5), (4, 5)),
    ("Loyal", (3, 4), (4, 5)),
    ("Potential Loyalist", (4, 5), (2, 3)),
    ("New", (5, 5), (1, 1)),
    ("Promising", (4, 4), (1, 1)),
    ("Need Attention", (3, 3), (3, 3)),
    ("About to Sleep", (3, 3), (1, 2)),
    ("Can't Lose Them", (1, 2), (5, 5)),
    ("At Risk", (1, 2), (3, 4)),
    ("Hibernating", (1, 2), (1, 2)),
];

pub(super) fn rfm(raw: &RawRfm, sources: &RawSources, problems: &mut Problems) -> Option<Rfm> {
    let section = YamlPath::keys(["rfm"]);
    check_range(
        raw.window_days,
        1..=3_660,
        &section.key("window_days"),
        problems,
    );
    check_sources(raw, sources, problems);
    let thresholds = thresholds(raw, problems);
    let segments = match &raw.segments {
        Some(written) => segments(written, raw.first_match, problems)?,
        None => default_segments(),
    };
    Some(Rfm {
        method: raw.method,
        window_days: raw.window_days,
        recency: raw.recency,
        frequency: raw.frequency,
        monetary: raw.monetary,
        thresholds,
        segments,
    })
}

fn check_sources(raw: &RawRfm, sources: &RawSources, problems: &mut Problems) {
    // A source under a misspelt key has been reported already.
    let is_reported = |table: &str| problems.is_silenced(&YamlPath::keys(["sources", table]));
    let tables = [
        ("usage_events", &sources.usage_events),
        ("usage_sessions", &sources.usage_sessions),
        ("usage_daily", &sources.usage_daily),
    ];
    let has_usage = tables
        .iter()
        .any(|(table, source)| source.is_some() || is_reported(table));
    let has_invoices = sources.invoice_lines.is_some() || is_reported("invoice_lines");
    let usage = "one of the sources `usage_events`, `usage_sessions` and `usage_daily`";
    let invoices = "the source `invoice_lines`";
    let axes = [
        match raw.recency {
            RecencyBasis::Usage => (
                "recency",
                "usage",
                usage,
                has_usage,
                "`recency: payment` reads invoices instead",
            ),
            RecencyBasis::Payment => (
                "recency",
                "payment",
                invoices,
                has_invoices,
                "`recency: usage` reads usage instead",
            ),
        },
        match raw.frequency {
            FrequencyBasis::ActiveDays => (
                "frequency",
                "active_days",
                usage,
                has_usage,
                "`frequency: invoices` reads invoices instead",
            ),
            FrequencyBasis::Invoices => (
                "frequency",
                "invoices",
                invoices,
                has_invoices,
                "`frequency: active_days` reads usage instead",
            ),
        },
        match raw.monetary {
            MonetaryBasis::Revenue => (
                "monetary",
                "revenue",
                invoices,
                has_invoices,
                "`monetary: mrr` reads subscriptions instead",
            ),
            MonetaryBasis::Mrr => ("monetary", "mrr", "", true, ""),
        },
    ];
    for (axis, basis, needed, is_there, instead) in axes {
        if !is_there {
            let path = YamlPath::keys(["rfm", axis]);
            problems.push(
                path,
                format!("`{axis}: {basis}` needs {needed}"),
                Some(instead.to_string()),
            );
        }
    }
}

fn thresholds(raw: &RawRfm, problems: &mut Problems) -> Option<Thresholds> {
    let path = YamlPath::keys(["rfm", "thresholds"]);
    match (raw.method, &raw.thresholds) {
        (
            RfmMethod::Thresholds,
            Some(RawThresholds {
                recency,
                frequency,
                monetary,
            }),
        ) => {
            let recency = four_rising(recency, &path.key("recency"), problems);
            let frequency = four_rising(frequency, &path.key("frequency"), problems);
            let monetary = four_rising(monetary, &path.key("monetary"), problems);
            Some(Thresholds {
                recency: recency?,
                frequency: frequency?,
                monetary: monetary?,
            })
        }
        (RfmMethod::Thresholds, None) => {
            let hint =
                "four rising values for each of `recency`, `frequency` and `monetary`".to_string();
            problems.push(
                YamlPath::keys(["rfm"]),
                "`method: thresholds` needs the key `thresholds`",
                hint,
            );
            None
        }
        (RfmMethod::Quantile | RfmMethod::Ntile, Some(_)) => {
            let hint = "add `method: thresholds`, or leave them out".to_string();
            problems.push(
                path,
                "thresholds are given, but `method` does not read them",
                hint,
            );
            None
        }
        (RfmMethod::Quantile | RfmMethod::Ntile, None) => None,
    }
}

fn four_rising(values: &[f64], path: &YamlPath, problems: &mut Problems) -> Option<[f64; 4]> {
    let four: Option<[f64; 4]> = values.try_into().ok();
    let rises = values.windows(2).all(|pair| pair[0] < pair[1])
        && values.iter().all(|value| value.is_finite());
    if four.is_none() || !rises {
        let shown = values
            .iter()
            .take(8)
            .map(f64::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        problems.push(
            path,
            format!("expected four rising values, found `[{shown}]`"),
            None,
        );
        return None;
    }
    four
}

fn default_segments() -> Vec<RfmSegment> {
    let segment = |&(name, r, f): &NamedRanges| RfmSegment {
        name: name.into(),
        r,
        f,
        m: (1, 5),
    };
    DEFAULT_SEGMENTS.iter().map(segment).collect()
}

fn segments(
    written: &[RawRfmSegment],
    first_match: bool,
    problems: &mut Problems,
) -> Option<Vec<RfmSegment>> {
    let path = YamlPath::keys(["rfm", "segments"]);
    let mut segments: Vec<RfmSegment> = Vec::new();
    let mut is_understood = true;
    for (index, raw) in written.iter().enumerate() {
        let path = path.index(index);
        if raw.name.trim().is_empty() {
            problems.push(path.key("name"), "a segment needs a name", None);
        }
        if segments.iter().any(|earlier| earlier.name == raw.name) {
            let message = format!("there is a segment `{}` already", show(&raw.name));
            problems.push(path.key("name"), message, None);
        }
        let ranges = [("r", raw.r), ("f", raw.f), ("m", raw.m)]
            .map(|(axis, range)| score_range(range.unwrap_or([1, 5]), &path.key(axis), problems));
        match ranges {
            [Some(r), Some(f), Some(m)] => segments.push(RfmSegment {
                name: raw.name.clone(),
                r,
                f,
                m,
            }),
            _ => is_understood = false,
        }
    }
    // A map with a broken range has holes that are not its own mistakes.
    if !is_understood {
        return None;
    }
    check_cells(&segments, first_match, &path, problems);
    Some(segments)
}

fn score_range([low, high]: [u8; 2], path: &YamlPath, problems: &mut Problems) -> Option<(u8, u8)> {
    if (1..=5).contains(&low) && (low..=5).contains(&high) {
        return Some((low, high));
    }
    if !problems.is_silenced(path) {
        let hint = "two scores from 1 to 5, the lower one first: `[4, 5]`".to_string();
        problems.push(
            path,
            format!("`[{low}, {high}]` is not a range of scores"),
            hint,
        );
    }
    None
}

/// Every combination of scores belongs to a segment, and to one only unless the first one wins.
fn check_cells(
    segments: &[RfmSegment],
    first_match: bool,
    path: &YamlPath,
    problems: &mut Problems,
) {
    let mut cells: BTreeMap<Vec<usize>, Vec<Cell>> = BTreeMap::new();
    for r in 1..=5 {
        for f in 1..=5 {
            for m in 1..=5 {
                let cell = [r, f, m];
                let owners: Vec<usize> = (0..segments.len())
                    .filter(|&index| holds(&segments[index], cell))
                    .collect();
                let is_wrong = owners.is_empty() || (owners.len() > 1 && !first_match);
                if is_wrong {
                    cells.entry(owners).or_default().push(cell);
                }
            }
        }
    }
    let mut messages = Vec::new();
    for (owners, cells) in cells {
        for scores in ranges(cells) {
            messages.push(match owners.as_slice() {
                [] => format!("{scores} has no segment"),
                [one, another] => format!(
                    "{scores} is both {} and {}",
                    show(&segments[*one].name),
                    show(&segments[*another].name)
                ),
                owners => {
                    let names: Vec<String> = owners
                        .iter()
                        .map(|&index| show(&segments[index].name))
                        .collect();
                    format!("{scores} is {} at once", names.join(", "))
                }
            });
        }
    }
    let more = messages.len().saturating_sub(MOST_RANGES);
    for message in messages.into_iter().take(MOST_RANGES) {
        let is_hole = message.ends_with("has no segment");
        let hint = (!is_hole).then(|| {
            "narrow one of them, or let the first one win with `first_match: true`".to_string()
        });
        problems.push(path, message, hint);
    }
    if more > 0 {
        problems.push(
            path,
            format!("{more} more ranges of scores have no segment or several"),
            None,
        );
    }
}

/// Scores of recency, frequency and monetary.
type Cell = [u8; 3];

fn holds(segment: &RfmSegment, [r, f, m]: Cell) -> bool {
    let within = |(low, high): (u8, u8), score: u8| (low..=high).contains(&score);
    within(segment.r, r) && within(segment.f, f) && within(segment.m, m)
}

/// Cells put together to as few `R=3 F=1-2` as a simple sweep finds; M is left out where it does not matter.
fn ranges(mut cells: Vec<Cell>) -> Vec<String> {
    let mut ranges = Vec::new();
    while let Some(&first) = cells.first() {
        let (mut low, mut high) = (first, first);
        // Along M first, then F, then R: maps without M then read without it.
        for axis in [2, 1, 0] {
            loop {
                let mut wider = high;
                wider[axis] += 1;
                let mut slice_low = low;
                slice_low[axis] = wider[axis];
                let is_there = wider[axis] <= 5
                    && cells_within(slice_low, wider).all(|cell| cells.contains(&cell));
                if !is_there {
                    break;
                }
                high = wider;
            }
        }
        low = first;
        cells.retain(|cell| !(0..3).all(|axis| (low[axis]..=high[axis]).contains(&cell[axis])));
        ranges.push(range_text(low, high));
    }
    ranges
}

fn cells_within(low: Cell, high: Cell) -> impl Iterator<Item = Cell> {
    (low[0]..=high[0]).flat_map(move |r| {
        (low[1]..=high[1]).flat_map(move |f| (low[2]..=high[2]).map(move |m| [r, f, m]))
    })
}

fn range_text(low: Cell, high: Cell) -> String {
    let axis_text = |axis: usize, name: char| match (low[axis], high[axis]) {
        (low, high) if low == high => format!("{name}={low}"),
        (low, high) => format!("{name}={low}-{high}"),
    };
    let is_any_m = low[2] == 1 && high[2] == 5;
    let m = if is_any_m {
        String::new()
    } else {
        format!(" {}", axis_text(2, 'M'))
    };
    format!("{} {}{m}", axis_text(0, 'R'), axis_text(1, 'F'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(segments: &[RfmSegment], first_match: bool) -> Vec<String> {
        let mut problems = Problems::new("p.yaml");
        check_cells(segments, first_match, &YamlPath::root(), &mut problems);
        problems
            .sorted()
            .iter()
            .map(|problem| problem.message.clone())
            .collect()
    }

    #[test]
    fn the_usual_segments_cover_every_cell_once() {
        assert!(check(&default_segments(), false).is_empty());
    }

    #[test]
    fn holes_and_overlaps_are_named_by_range() {
        let mut segments = default_segments();
        segments.retain(|segment| segment.name != "About to Sleep");
        assert_eq!(check(&segments, true), ["R=3 F=1-2 has no segment"]);
        let mut segments = default_segments();
        segments[0].r = (4, 5);
        assert_eq!(
            check(&segments, false),
            ["R=4 F=4-5 is both Champions and Loyal"]
        );
        assert!(check(&segments, true).is_empty());
    }

    #[test]
    fn monetary_counts_where_a_map_reads_it() {
        let mut segments = default_segments();
        segments[0].m = (3, 5);
        assert_eq!(check(&segments, false), ["R=5 F=4-5 M=1-2 has no segment"]);
    }

    #[test]
    fn a_hopeless_map_is_cut_short() {
        let segment = |name: &str, r, f, m| RfmSegment {
            name: name.into(),
            r,
            f,
            m,
        };
        let dots: Vec<RfmSegment> = (1..=5)
            .map(|i| segment(&format!("s{i}"), (i, i), (i, i), (i, i)))
            .collect();
        assert_eq!(check(&dots, false).len(), MOST_RANGES + 1);
    }
}
