//! How long customers stay: what was seen (Kaplan–Meier), and what is to be expected beyond it (shifted beta-geometric).

pub mod beta_geometric;
pub mod kaplan_meier;

#[cfg(test)]
mod tests;
