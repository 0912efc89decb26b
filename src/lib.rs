//! `cskpi`: customer-success KPIs from CRM, billing and usage tables, as tables that BI tools trust.

pub mod account_period;
pub mod cli;
pub mod columns;
pub mod config;
pub mod contract;
pub mod facts;
pub mod failure;
pub mod generate;
pub mod marts;
pub mod metrics;
pub mod period;
pub mod publish;
pub mod run;
pub mod segments;
pub mod sources;
pub mod sql;
pub mod staging;
pub mod storage;
