//! Whether each interval can be made from what the metrics are.

use super::{Interval, Metric, Problems, YamlPath, with_referred};

/// Refuses the intervals of the pipeline file that cannot be made. A shipped one that the pipeline's other changes have made
/// impossible is left out.
pub(super) fn check(
    metrics: &mut [Metric],
    is_asked_for: impl Fn(&str) -> bool,
    problems: &mut Problems,
) {
    for at in 0..metrics.len() {
        let (before, rest) = metrics.split_at_mut(at);
        let metric = &mut rest[0];
        let Some((message, hint)) = obstacle(metric, before) else {
            continue;
        };
        metric.interval = None;
        if is_asked_for(&metric.id) {
            let path = YamlPath::keys(["metrics", "define", metric.id.as_str(), "interval"]);
            problems.push(path, message, Some(hint));
        }
    }
}

/// Why the interval of a metric cannot be made, and what to do. `before` are the metrics that it may refer to.
fn obstacle(metric: &Metric, before: &[Metric]) -> Option<(String, String)> {
    match metric.interval.as_ref()? {
        Interval::Proportion | Interval::Mean => None,
        Interval::Through(_) if metric.by.is_some() => {
            let hint = "`proportion` is the one that it may have";
            Some((
                "a metric with `by` has no such interval".to_owned(),
                hint.to_owned(),
            ))
        }
        Interval::Through(other) => {
            let is_named = metric.refers_to().any(|name| name == other);
            let known = before.iter().find(|known| known.id == *other);
            if !is_named {
                let message = format!("the formula does not refer to `{other}`");
                let hint = "name a metric of the formula, whose bounds are put in its place";
                Some((message, hint.to_owned()))
            } else if known.is_some_and(|known| known.interval.is_none()) {
                let message = format!("`{other}` has no interval");
                Some((message, format!("give `{other}` one, or leave it out here")))
            } else {
                None
            }
        }
        Interval::Bootstrap => undrawable(metric, before),
    }
}

/// The first metric, of this one and those that its formulas rest on, of which no sums of accounts can be drawn.
fn undrawable(metric: &Metric, before: &[Metric]) -> Option<(String, String)> {
    let rests_on = with_referred(metric, before).into_iter();
    let reason = rests_on.map(|(_, metric)| metric).find_map(|metric| {
        let id = &metric.id;
        if metric.estimator.is_some() {
            return Some(format!("`{id}` is made by a routine"));
        }
        let mut summed_up = metric.expressions().filter(|side| side.has_aggregate());
        summed_up.find_map(|side| {
            let aggregate = side.over_sums(|_| "sum".to_owned()).err()?;
            Some(format!("`{aggregate}` in `{id}` is no sum over columns"))
        })
    });
    let hint = "the bootstrap adds up accounts: write it with SUM(…), such as SUM(x) / SUM(CASE WHEN … THEN 1 END), or leave \
                `interval` out";
    reason.map(|reason| (format!("this cannot be drawn: {reason}"), hint.to_owned()))
}
