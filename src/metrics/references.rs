//! Values that formulas over metrics take from elsewhere (docs/definitions.md § 14): the period before, a year ago, the total.

use super::catalogue::Metric;
use crate::columns::*;
use crate::facts::Context;
use crate::sql::{Elsewhere, Reference};
use polars::prelude::*;
use std::collections::BTreeSet;

/// The references of a catalogue's formulas, each joined once, when the metric that it names has its values.
pub struct References {
    waiting: BTreeSet<Reference>,
}

impl References {
    pub fn of<'a>(metrics: impl Iterator<Item = &'a Metric>) -> Self {
        let wanted = metrics.flat_map(|metric| metric.references());
        Self {
            waiting: wanted.cloned().collect(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds a column for each reference to a metric that has just been evaluated: `previous(mrr)` and so on. Rows that
    /// belong to a draw take it from the same one.
    pub fn joined(
        &mut self,
        frame: LazyFrame,
        metric: &str,
        draw: Option<&Expr>,
        context: Context,
    ) -> LazyFrame {
        let (here, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<BTreeSet<_>, _>(|reference| reference.name == metric);
        self.waiting = waiting;
        if here.is_empty() {
            return frame;
        }
        // Computed once, read by itself and by what is joined to it.
        let frame = frame.cache();
        let values = frame.clone();
        here.iter().fold(frame, |frame, reference| {
            joined(frame, values.clone(), reference, draw, context)
        })
    }
}

fn joined(
    frame: LazyFrame,
    values: LazyFrame,
    wanted: &Reference,
    draw: Option<&Expr>,
    context: Context,
) -> LazyFrame {
    let value = || col(wanted.name.as_str()).alias(wanted.column());
    let with_draw = |key: &[&str]| -> Vec<Expr> {
        let key = key.iter().map(|name| col(*name));
        key.chain(draw.cloned()).collect()
    };
    let (values, key) = match wanted.to {
        Elsewhere::Total => {
            let total = values.filter(col(DIMENSION).eq(lit(TOTAL)));
            let key = with_draw(&[PERIOD]);
            (total.select([key.clone(), vec![value()]].concat()), key)
        }
        Elsewhere::Previous | Elsewhere::YearAgo => {
            let key = with_draw(&[PERIOD, DIMENSION, MEMBER]);
            let calendar = context.calendar;
            let back = wanted.to.periods_back(calendar.grain.periods_per_year());
            // Trailing windows reach further back than what is told of.
            let has_begun = col(PERIOD).gt_eq(lit(calendar.index_of(calendar.begin)));
            let earlier = values
                .filter(has_begun)
                .with_column((col(PERIOD) + lit(back)).alias(PERIOD));
            (earlier.select([key.clone(), vec![value()]].concat()), key)
        }
    };
    frame.join(values, key.clone(), key, JoinArgs::new(JoinType::Left))
}
