//! Runs that end before their end, and runs that meet others, on the local disk and on S3.
//!
//! [`faulty_program`] is the program with a fault: it dies, or waits, at a named step of the publishing protocol
//! (`cskpi::fault`). Everything else runs the shipped binary.
//!
//! | file | what |
//! |---|---|
//! | `scene` | a small company in three states of its inputs, and roots to publish it to |
//! | `faulty` | starts the program, with or without a fault, and waits for it |
//! | `readers` | DuckDB and pyarrow, polling the tables all the while |
//! | `kills` | SIGKILL at every step, at random instants, and during recovery |
//! | `zombies` | runs that were thought dead and wake up |
//! | `rivals` | two runs at once, `unlock`, clocks that are off |
//! | `endings` | SIGTERM and SIGINT, a full disk, a folder that cannot be written |

mod endings;
mod faulty;
mod kills;
mod readers;
mod rivals;
mod scene;
mod zombies;

/// Not a test: the program with a fault, for [`faulty::Running`]. It does nothing when the tests run it.
#[test]
fn faulty_program() {
    faulty::program();
}
