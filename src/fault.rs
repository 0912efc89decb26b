//! Named steps of the publishing protocol. A test stops the program at one of them, as a crash would; in the shipped
//! program nothing listens.

use std::sync::OnceLock;

/// The steps of one run, in order; those of a period come once for each.
pub const STEPS: [&str; 17] = [
    "lock_probed",
    "lock_taken",
    "recovered",
    "results_begun",
    "unit_staged",
    "period_audited",
    "journal_written",
    "lock_committing",
    "unit_committed",
    "multipart_uploaded",
    "period_committed",
    "manifest_written",
    "lock_working",
    "results_written",
    "ledger_written",
    "staging_cleared",
    "lock_freed",
];

static LISTENER: OnceLock<fn(&str)> = OnceLock::new();

/// Calls `listener` at every step from now on. The first call wins.
pub fn listen(listener: fn(&str)) {
    let _ = LISTENER.set(listener);
}

/// The program has reached a step.
pub(crate) fn step(name: &'static str) {
    debug_assert!(STEPS.contains(&name));
    if let Some(listener) = LISTENER.get() {
        listener(name);
    }
}
