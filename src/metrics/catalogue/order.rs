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
            problems.push(
                path,
                format!(
                    "metrics refer to each other in a circle: {}",
                    circle.join(" → ")
                ),
                None,
            );
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
    for expression in metric
        .expressions()
        .filter(|expression| !expression.has_aggregate())
    {
        for name in expression.columns() {
            if open.contains(&name.as_str()) {
                return Err(open
                    .iter()
                    .map(|id| (*id).to_owned())
                    .chain([name.clone()])
                    .collect());
            }
            if let Some((known, _)) = by_id.get_key_value(name.as_str()) {
                visit(known, by_id, done, open)?;
            }
        }
    }
    open.pop();
    done.push(id);
    Ok(())
}
