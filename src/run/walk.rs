//! A run's way through time: step by step, each a few periods, with what was learnt of the ones before.

use super::inputs::usage_rollup::cache::UsageCache;
use super::inputs::{self, InputSummary, Listing, Loaded};
use super::past::Past;
use super::scores;
use super::tables::{self, Ingredients};
use super::{
    Progress, Project, Request, RunError, collected, names, part, wanted_tables, window_days,
};
use crate::account_period::{Ground, History, account_periods, history};
use crate::columns::{CURRENCY, PERIOD};
use crate::config::Pipeline;
use crate::facts::{Context, Inputs};
use crate::metrics::catalogue::Catalogue;
use crate::period::PeriodRange;
use crate::publish::Table;
use crate::segments::dimension;
use polars::prelude::*;
use std::collections::BTreeSet;

/// Bytes that an account takes in a period at the height of a step, with all that is made of it: measured, 3.8 kB with few inputs,
/// 4.8 kB with all of them, and some to spare.
const BYTES_PER_ROW: u64 = 6_000;

/// How many periods of which only [`history`] is needed take the room of one of the others.
const PAST_AT_ONCE: u64 = 6;

/// A run on its way: the inputs, read once, and what is known of the periods it has been through.
pub(super) struct Walk<'a> {
    project: &'a Project<'a>,
    request: &'a Request,
    progress: &'a dyn Progress,
    loaded: Loaded,
    ground: Ground,
    /// The first period that lacks an exchange rate: neither it nor what comes after can be computed.
    unrated: Option<(i32, RunError)>,
    past: Past,
    /// The periods that it goes through.
    range: PeriodRange,
    /// The first one that it publishes.
    first_published: i32,
    wanted: Vec<&'static str>,
}

impl<'a> Walk<'a> {
    /// Reads the inputs of the periods from `published.first` to `published.last`, and what the first of them needs of the past.
    pub fn begun(
        project: &'a Project<'a>,
        request: &'a Request,
        published: PeriodRange,
        listing: &Listing,
        cache: &UsageCache,
        progress: &'a dyn Progress,
    ) -> Result<Self, RunError> {
        let pipeline = project.pipeline;
        let catalogue = project.catalogue;
        let mut loaded = inputs::loaded(
            pipeline,
            catalogue,
            listing,
            project.storage,
            cache,
            request.memory_limit,
            progress,
        )?;
        let problems = names::unknown_names(pipeline, &loaded.account_columns);
        if problems.has_errors() {
            return Err(RunError::Names {
                problems: Box::new(problems),
            });
        }
        let wanted = wanted_tables(pipeline, request);
        let calendar = &pipeline.calendar;
        // Lifetime value looks at the churn of the periods before.
        let lead = pipeline.policy.ltv_churn_periods.max(1) as i32;
        let begin = calendar.index_of(calendar.begin).min(published.first) - lead;
        let compute = |source| RunError::Compute {
            stage: "looking at what has to be computed",
            source,
        };
        let first = match tables::reach(catalogue, &wanted, calendar) {
            None => begin,
            Some(reach) => {
                let members = scores::reach(pipeline, calendar).map_err(compute)?;
                begin.max(published.first - reach - members)
            }
        };
        progress.stage("preparing inputs");
        let all = PeriodRange {
            first: begin,
            last: published.last,
        };
        let context = context_of(pipeline, all);
        let ground =
            Ground::of(&loaded.inputs, context, window_days(pipeline), &held).map_err(compute)?;
        let unrated = missing_rates(ground.missing_rates.clone(), context)?;
        loaded.inputs.without_ground();
        let mut walk = Self {
            project,
            request,
            progress,
            loaded,
            ground,
            unrated,
            past: Past::default(),
            range: PeriodRange {
                first,
                last: published.last,
            },
            first_published: published.first,
            wanted,
        };
        if first > begin {
            let before = PeriodRange {
                first: begin,
                last: first - 1,
            };
            // A period gone by takes little room; many accounts' many periods do not.
            for part in walk.steps_of(before, walk.fitting().max(1) * PAST_AT_ONCE) {
                let context = walk.context(part);
                let history =
                    history(&walk.loaded.inputs, &walk.ground, context).map_err(compute)?;
                walk.remember(history).map_err(compute)?;
            }
        }
        Ok(walk)
    }

    pub fn inputs(&self) -> &[InputSummary] {
        &self.loaded.summaries
    }

    pub fn notices(&self) -> Vec<String> {
        notices(
            self.project.pipeline,
            self.project.catalogue,
            &self.loaded.inputs,
        )
    }

    /// The steps to go: `size` periods each, or as many as pay off and fit into the memory that the request allows.
    pub fn steps(&self, size: Option<usize>) -> Vec<PeriodRange> {
        let accounts = self.loaded.account_count as u64;
        let size = size.map_or_else(
            || {
                even(
                    self.range.len() as u64,
                    self.fitting().min(paying(accounts)),
                )
            },
            |size| size as u64,
        );
        let steps = self.steps_of(self.range, size);
        if steps.len() > 1 {
            tracing::info!("{} steps of {} periods", steps.len(), steps[0].len());
        }
        steps
    }

    /// How many periods fit into what is left of the memory.
    fn fitting(&self) -> u64 {
        let used = (self.request.cost)().peak_memory_bytes.unwrap_or(0);
        let accounts = self.loaded.account_count as u64;
        fitting(self.request.memory_limit, used, accounts)
    }

    fn steps_of(&self, range: PeriodRange, size: u64) -> Vec<PeriodRange> {
        let PeriodRange { first, last } = range;
        let size = i32::try_from(size).unwrap_or(i32::MAX).max(1);
        (first..=last)
            .step_by(size as usize)
            .map(|first| PeriodRange {
                first,
                last: first.saturating_add(size - 1).min(last),
            })
            .collect()
    }

    /// What is needed of periods whose accounts need no members: who churned, and the cohorts.
    fn remember(&mut self, history: History) -> PolarsResult<()> {
        let needs_cohorts = self.wanted.contains(&"cohort_retention");
        self.past.churn.add(collected(history.churn)?)?;
        if needs_cohorts {
            self.past.cohorts.add(collected(history.seen)?)?;
            if let Some(merged) = history.merged {
                self.past.merged.add(collected(merged)?)?;
            }
        }
        Ok(())
    }

    /// The first period that lacks an exchange rate, and which rates are missing; told once.
    pub fn unrated(&mut self) -> Option<(i32, RunError)> {
        self.unrated.take()
    }

    fn context(&self, range: PeriodRange) -> Context<'a> {
        context_of(self.project.pipeline, range)
    }

    /// The next step: the tables of those of its periods that are in `published`.
    pub fn step(
        &mut self,
        range: PeriodRange,
        published: Option<PeriodRange>,
    ) -> Result<Vec<Table>, RunError> {
        let pipeline = self.project.pipeline;
        let context = self.context(range);
        let compute = |stage| move |source| RunError::Compute { stage, source };

        self.progress.stage("computing the account × period model");
        let settled = self.ground.go_on_to(range.first, context, &held);
        settled.map_err(compute("the account × period model"))?;
        let inputs = &self.loaded.inputs;
        let window_days = window_days(pipeline);
        let model = account_periods(
            inputs,
            &self.ground,
            context,
            self.request.as_of,
            window_days,
            &held,
        )
        .map_err(compute("the account × period model"))?;

        self.progress.stage("scoring accounts");
        let scored = scores::scored(pipeline, &model, &mut self.past, context, self.progress)
            .map_err(compute("scoring"))?;

        self.progress.stage("building tables");
        let dimensions = self.project.dimensions();
        let ingredients = Ingredients {
            pipeline,
            catalogue: self.project.catalogue,
            inputs,
            products: &model.products,
            details: &model.details,
            scored: &scored,
            context,
            as_of: self.request.as_of,
            first_published: self.first_published,
        };
        let shape = published.map(|published| self.project.shape(&dimensions, published));
        tables::tables(
            &ingredients,
            &mut self.past,
            &self.wanted,
            shape,
            self.progress,
        )
        .map_err(compute("building the tables"))
    }
}

fn context_of(pipeline: &Pipeline, range: PeriodRange) -> Context<'_> {
    Context {
        calendar: &pipeline.calendar,
        currency: &pipeline.currency,
        policy: &pipeline.policy,
        range,
    }
}

/// A frame kept in memory, so that what follows computes it once.
fn held(name: &'static str, frame: LazyFrame) -> PolarsResult<DataFrame> {
    part(name, || collected(frame))
}

/// The first period that lacks a rate, and all that are missing. What comes after it counts amounts that nobody can convert.
fn missing_rates(
    missing: LazyFrame,
    context: Context,
) -> Result<Option<(i32, RunError)>, RunError> {
    let failed = |source| RunError::Compute {
        stage: "looking for missing rates",
        source,
    };
    let order = [PERIOD, CURRENCY];
    let frame = collected(missing.sort(order, SortMultipleOptions::default())).map_err(failed)?;
    let columns = || -> PolarsResult<_> {
        Ok((frame.column(PERIOD)?.i32()?, frame.column(CURRENCY)?.str()?))
    };
    let (periods, currencies) = columns().map_err(failed)?;
    let missing: Vec<String> = periods
        .iter()
        .zip(currencies.iter())
        .map(|(period, currency)| {
            let period = period.map_or_else(String::new, |index| context.calendar.label(index));
            format!(
                "{} in {period}",
                currency.unwrap_or("a row without currency")
            )
        })
        .collect();
    let first = periods
        .iter()
        .map(|period| period.unwrap_or(i32::MIN))
        .next();
    Ok(first.map(|first| (first, RunError::MissingRates { missing })))
}

fn notices(pipeline: &Pipeline, catalogue: &Catalogue, inputs: &Inputs) -> Vec<String> {
    let mut notices = Vec::new();
    let needs: BTreeSet<&str> = catalogue
        .documented()
        .flat_map(|metric| metric.needs.iter().map(String::as_str))
        .collect();
    let available = tables::available(inputs, &pipeline.policy);
    for need in needs.into_iter().filter(|need| !available.has(need)) {
        let what = match need {
            "usage" => "usage_events, usage_sessions or usage_daily",
            "features" => "usage_events with a column `feature`, or usage_features,",
            "member_onboarding" => "onboarding (by members)",
            table => table,
        };
        let nulled = catalogue.documented();
        let nulled = nulled.filter(|metric| metric.needs.iter().any(|own| own == need));
        let nulled: Vec<&str> = nulled.map(|metric| metric.id.as_str()).collect();
        notices.push(format!(
            "no source is mapped for {what}, which leaves null: {}",
            nulled.join(", ")
        ));
    }
    let current: Vec<&str> = pipeline
        .dimensions
        .iter()
        .filter(|dimension| dimension::reads_attributes(dimension))
        .map(|dimension| dimension.name.as_str())
        .collect();
    if !inputs.is_historised && !current.is_empty() {
        notices.push(format!(
            "accounts has no valid_from and valid_to: today's values hold for all periods ({})",
            current.join(", ")
        ));
    }
    notices
}

/// How many periods of so many accounts fit into what is left of the memory. Inputs that leave little are not made smaller by
/// ever smaller steps.
fn fitting(limit: u64, used: u64, accounts: u64) -> u64 {
    let left = limit.saturating_sub(used).max(limit / 4);
    left / BYTES_PER_ROW / accounts.max(1)
}

/// How many periods of so many accounts are fastest in one step. More take new memory from the system for every column, whose pages it
/// has to clear; fewer look back over the same year again and again. Measured: 100,000 accounts took 73 s in steps of 3, 89 s in
/// steps of 6, 105 s in steps of 1.
fn paying(accounts: u64) -> u64 {
    const ROWS: u64 = 300_000;
    const LEAST: u64 = 3;
    (ROWS / accounts.max(1)).max(LEAST)
}

/// The size of steps of at most `size`, all alike, that `all` are cut into.
fn even(all: u64, size: u64) -> u64 {
    all.div_ceil(all.div_ceil(size.max(1)).max(1))
}

#[cfg(test)]
mod tests {
    use super::{even, fitting, paying};

    #[test]
    fn steps_are_as_long_as_pays_off_and_alike() {
        assert_eq!(paying(100_000), 3);
        assert_eq!(paying(1_000_000), 3);
        assert_eq!(paying(10_000), 30);
        assert!(paying(0) > 1_000);
        assert_eq!(even(41, 30), 21);
        assert_eq!(even(36, 3), 3);
        assert_eq!(even(1, 30), 1);
        assert_eq!(even(5, 0), 1);
        assert_eq!(even(0, 3), 0);
    }

    #[test]
    fn steps_fit_into_what_is_left() {
        const GIB: u64 = 1 << 30;
        assert_eq!(fitting(6 * GIB, 0, 100_000), 10);
        assert_eq!(fitting(6 * GIB, 3 * GIB, 100_000), 5);
        // A quarter of the memory at least.
        assert_eq!(fitting(6 * GIB, 6 * GIB, 100_000), 2);
        assert_eq!(fitting(GIB, 0, 1_000_000), 0);
        assert!(fitting(u64::MAX, 0, 0) > 1_000_000);
    }
}
