//! Metrics: the catalogue (what they mean), their aggregation for any dimension, cohorts, lifetime value,
//! targets, and why rates moved.

pub mod aggregate;
pub mod breakdown;
pub mod catalogue;
pub mod cohort;
pub mod drivers;
pub mod lifetime;
pub mod references;
pub mod survival;
pub mod target;
