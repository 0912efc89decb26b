//! Metrics: the catalogue (what they mean), their aggregation for any dimension, cohorts, lifetime value.

pub mod aggregate;
pub mod breakdown;
pub mod catalogue;
pub mod cohort;
pub mod lifetime;
pub mod references;
pub mod survival;
