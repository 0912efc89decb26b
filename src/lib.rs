//! `cskpi`: customer-success KPIs from CRM, billing and usage tables, as tables that BI tools trust.
//!
//! Data flows one way. Each stage is a room that imports only rooms above it in this list; what stands below the model
//! sees no file, no clock and no environment.
//!
//! | stage | room | takes → gives |
//! |---|---|---|
//! | calendar | [`period`] | dates → periods, half-open, by index |
//! | words | [`currency`], [`sql`] | ISO 4217 → minor units; text → an expression that is allowed |
//! | contracts | [`contract`] | schemas/*.yaml → what a table promises; a frame → its offending rows |
//! | config | [`config`] | YAML text → [`config::Pipeline`], or every problem with its line |
//! | storage | [`storage`] | a path or URL → files listed, read, and written under a condition |
//! | sources | [`sources`] | files → frames as they lie there, with file and row |
//! | staging | [`staging`] | a scanned frame → the canonical columns of one table |
//! | facts | [`facts`] | checked tables → columns at account × period |
//! | model | [`account_period`] | facts → [`account_period::AccountPeriods`], one row per account and period |
//! | metrics | [`metrics`] | model + catalogue → KPIs by dimension, cohorts, lifetime |
//! | segments | [`segments`] | model + rules → dimensions, RFM, touch model |
//! | marts | [`marts`] | all of these → the published tables, in their contracts' shape |
//! | publish | [`publish`] | tables → staged, audited, committed files; lock, journal, manifests |
//! | plan | [`plan`] | manifests and listings → what is missing or stale, and why |
//! | run | [`run`] | a request → an outcome: the only place that collects frames |
//! | lineage | [`lineage`] | a metric → what it is made of; a run's request and results → OpenLineage events |
//! | command line | [`failure`], [`cli`] | words → a request; an outcome → text and exit code |
//!
//! [`generate`] stands beside: sample data of any size. So does [`fault`]: steps at which a test may stop the program.

pub mod account_period;
pub mod cli;
pub mod columns;
pub mod config;
pub mod contract;
pub mod currency;
pub mod facts;
pub mod failure;
pub mod fault;
pub mod generate;
pub mod lineage;
pub mod marts;
pub mod metrics;
pub mod period;
pub mod plan;
pub mod publish;
pub mod run;
pub mod segments;
pub mod sources;
pub mod sql;
pub mod staging;
pub mod storage;
