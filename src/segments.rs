//! Segments: what the numbers say about single accounts.

pub mod dimension;
pub mod earlier;
pub mod rfm;
pub mod touch;
