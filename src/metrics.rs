//! Metrics: the catalogue (what they mean), their aggregation for any dimension, how sure one may be of them, cohorts,
//! lifetime value, targets, and why rates moved.

pub mod aggregate;
pub mod bootstrap;
pub mod breakdown;
pub mod catalogue;
pub mod cohort;
pub mod drivers;
pub mod interval;
pub mod lifetime;
pub mod references;
pub mod survival;
pub mod target;
mod trailing;
