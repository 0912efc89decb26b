//! What the process uses up, as Linux tells; other systems do not.

use crate::run::stages::Cost;

/// What the process has used up so far.
#[expect(
    clippy::disallowed_methods,
    reason = "the command line owns the environment"
)]
pub(super) fn cost() -> Cost {
    let read = |file: &str| std::fs::read_to_string(file).ok();
    Cost {
        peak_memory_bytes: read("/proc/self/status").and_then(|text| peak_memory_bytes(&text)),
        cpu_seconds: read("/proc/self/stat").and_then(|text| cpu_seconds(&text)),
    }
}

fn peak_memory_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Time in the program and in the system: the 14th and 15th fields, in hundredths of a second.
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The second field is the program's name and may hold anything.
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut ticks = after_name.split(' ').skip(11).map(str::parse::<u64>);
    let (user, system) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
    Some((user + system) as f64 / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_linux_are_understood() {
        let status = "Name:\tcskpi\nVmPeak:\t  901340 kB\nVmHWM:\t  204800 kB\nVmRSS:\t  1024 kB\n";
        assert_eq!(peak_memory_bytes(status), Some(200 << 20));
        assert_eq!(peak_memory_bytes("Name:\tkthreadd\n"), None);
        let stat =
            "4711 (a (odd) 1 2 name) S 1 4711 4711 0 -1 4194304 99 0 0 0 1234 66 0 0 20 0 9 0 100";
        assert_eq!(cpu_seconds(stat), Some(13.0));
        assert_eq!(cpu_seconds(""), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_own_process_costs_something() {
        let cost = cost();
        assert!(cost.peak_memory_bytes.is_some_and(|bytes| bytes > 1 << 20));
        assert!(cost.cpu_seconds.is_some_and(|seconds| seconds >= 0.0));
    }
}
