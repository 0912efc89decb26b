//! Kaplan–Meier: the share that is still there at each age, when some are known only to have lasted so long.

use crate::metrics::interval::Z;
use std::f64::consts::E;

/// Those whose time ended at one age: with the event, or out of sight before they had it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exits {
    pub age: i64,
    pub events: i64,
    pub censored: i64,
}

/// The curve at one age.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    pub age: i64,
    /// Those whose time did not end before this age.
    pub at_risk: i64,
    pub events: i64,
    pub censored: i64,
    pub survival: f64,
    /// 95 %, by Greenwood's formula on the scale of ln(−ln S); none once nobody is left.
    pub bounds: Option<(f64, f64)>,
}

/// One step per entry; ages ascend, each once.
pub fn kaplan_meier(exits: &[Exits]) -> Vec<Step> {
    let mut at_risk: i64 = exits.iter().map(|exit| exit.events + exit.censored).sum();
    let mut survival = 1.0;
    let mut greenwood = 0.0;
    let step = |exit: &Exits| {
        if exit.events > 0 {
            let (n, d) = (at_risk as f64, exit.events as f64);
            survival *= 1.0 - d / n;
            greenwood += d / (n * (n - d));
        }
        let step = Step {
            age: exit.age,
            at_risk,
            events: exit.events,
            censored: exit.censored,
            survival,
            bounds: bounds(survival, greenwood),
        };
        at_risk -= exit.events + exit.censored;
        step
    };
    exits.iter().map(step).collect()
}

fn bounds(survival: f64, greenwood: f64) -> Option<(f64, f64)> {
    if survival <= 0.0 {
        return None;
    }
    if survival >= 1.0 {
        return Some((1.0, 1.0));
    }
    let reach = Z * greenwood.sqrt() / survival.ln().abs();
    Some((survival.powf(E.powf(reach)), survival.powf(E.powf(-reach))))
}

/// The smallest age at which half or fewer are still there; none if more than half are to the last.
pub fn median(steps: &[Step]) -> Option<i64> {
    // A product of fractions that is one half may come out a little above it.
    const ROUNDING: f64 = 1e-12;
    let is_half = |step: &&Step| step.survival <= 0.5 + ROUNDING;
    steps.iter().find(is_half).map(|step| step.age)
}
