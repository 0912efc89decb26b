//! Values that formulas over metrics take from elsewhere (docs/definitions.md § 14): the period before, a year ago, the total.

use super::catalogue::Catalogue;
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
    pub fn of(catalogue: &Catalogue) -> Self {
        let wanted = catalogue.all().flat_map(|metric| metric.references());
        Self {
            waiting: wanted.cloned().collect(),
        }
    }

    /// Adds a column for each reference to a metric that has just been evaluated: `previous(mrr)` and so on.
    pub fn joined(&mut self, frame: LazyFrame, metric: &str, context: Context) -> LazyFrame {
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
            joined(frame, values.clone(), reference, context)
        })
    }
}

fn joined(frame: LazyFrame, values: LazyFrame, wanted: &Reference, context: Context) -> LazyFrame {
    let value = || col(wanted.name.as_str()).alias(wanted.column());
    let (values, key) = match wanted.to {
        Elsewhere::Total => {
            let total = values.filter(col(DIMENSION).eq(lit(TOTAL)));
            (total.select([col(PERIOD), value()]), vec![col(PERIOD)])
        }
        Elsewhere::Previous | Elsewhere::YearAgo => {
            let key = vec![col(PERIOD), col(DIMENSION), col(MEMBER)];
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
