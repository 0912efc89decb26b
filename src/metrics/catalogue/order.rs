//! The order of evaluation: each metric after those it refers to.

use super::{Metric, Problems, YamlPath};
use std::collections::BTreeMap;

/// Sorts metrics so that each comes after those it refers to.
pub(super) fn in_order(metrics: Vec<Metric>, problems: &mut Problems) -> Option<Vec<Metric>> {
    let by_id: BTreeMap<&str, &Metric> = metrics
        .iter()
        .map(|metric| (metric.id.as_str(), metric))
        .collect();
    let mut done: Vec<&str> = Vec::new();
    for metric in &metrics {
        if let Err(circle) = visit(&metric.id, &by_id, &mut done, &mut Vec::new()) {
            let path = YamlPath::keys(["metrics", "define", metric.id.as_str()]);
            let message = match circle.as_slice() {
                [id, again] if id == again => format!("`{id}` refers to itself"),
                _ => format!(
                    "metrics refer to each other in a circle: {}",
                    circle.join(" → ")
                ),
            };
            // `previous(…)` is no way out of a circle.
            let is_earlier = circle.iter().any(|id| {
                let metric = by_id.get(id.as_str()).into_iter();
                let references = metric.flat_map(|metric| metric.references());
                references
                    .into_iter()
                    .any(|reference| circle.contains(&reference.name))
            });
            let hint = is_earlier.then(|| {
                "a metric may not rest on itself, not even on its earlier values: before calendar.begin there are none to begin with".to_owned()
            });
            problems.push(path, message, hint);
            return None;
        }
    }
    Some(
        done.into_iter()
            .filter_map(|id| by_id.get(id).copied().cloned())
            .collect(),
    )
}

fn visit<'a>(
    id: &'a str,
    by_id: &BTreeMap<&'a str, &'a Metric>,
    done: &mut Vec<&'a str>,
    open: &mut Vec<&'a str>,
) -> Result<(), Vec<String>> {
    let Some(metric) = by_id.get(id).copied().filter(|_| !done.contains(&id)) else {
        return Ok(());
    };
    open.push(id);
    for name in metric.refers_to() {
        if open.contains(&name) {
            let circle = open.iter().skip_while(|id| **id != name);
            return Err(circle.chain([&name]).map(|id| (*id).to_owned()).collect());
        }
        visit(name, by_id, done, open)?;
    }
    open.pop();
    done.push(id);
    Ok(())
}
