//! `--memory-limit`: how much memory a run may plan with.

use clap::Args;
use std::path::Path;

#[derive(Debug, Args)]
pub(super) struct Limits {
    /// Memory that the run plans its steps for: `6GiB`, `900MiB`, or `50%` of what the machine or its container has [default: 60%].
    #[arg(long, value_name = "SIZE", value_parser = Limit::parsed)]
    memory_limit: Option<Limit>,
}

impl Limits {
    /// Bytes to plan with.
    pub fn memory(&self) -> u64 {
        match self.memory_limit.unwrap_or(Limit::Percent(60)) {
            Limit::Bytes(bytes) => bytes,
            // Where nothing is known of the machine, nothing is held back.
            Limit::Percent(share) => {
                available().map_or(u64::MAX, |bytes| bytes / 100 * u64::from(share))
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    Bytes(u64),
    Percent(u8),
}

impl Limit {
    fn parsed(text: &str) -> Result<Self, String> {
        const EXAMPLES: &str = "say for example 6GiB, 900MiB or 50%";
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
        let number: f64 = number.parse().map_err(|_| EXAMPLES.to_owned())?;
        let factor = match unit.trim().to_ascii_lowercase().as_str() {
            "%" if (1.0..=100.0).contains(&number) => return Ok(Self::Percent(number as u8)),
            "%" => return Err("a share lies between 1% and 100%".to_owned()),
            "" | "b" => 1.0,
            "k" | "kib" => 1024.0,
            "m" | "mib" => 1024f64.powi(2),
            "g" | "gib" => 1024f64.powi(3),
            "t" | "tib" => 1024f64.powi(4),
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            "tb" => 1e12,
            _ => return Err(EXAMPLES.to_owned()),
        };
        let bytes = number * factor;
        match bytes >= 64.0 * 1024.0 * 1024.0 {
            true => Ok(Self::Bytes(bytes as u64)),
            false => Err("less than 64MiB is not enough for anything".to_owned()),
        }
    }
}

/// Memory of the machine, or of the container that the process is in, if that has less. Linux tells; other systems do not.
fn available() -> Option<u64> {
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let limits = of_groups(&groups, &|path| read(path));
    let machine = read("/proc/meminfo").and_then(|text| total(&text));
    limits.into_iter().chain(machine).min()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the command line owns the environment"
)]
fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// The limits of the control groups that the process is in, and of those above them.
fn of_groups(groups: &str, read: &dyn Fn(&str) -> Option<String>) -> Vec<u64> {
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            other if other.split(',').any(|one| one == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        // In a container, the group's path may be the host's and lead nowhere; the root then tells of the container.
        for above in Path::new(group).ancestors() {
            let folder = above.to_string_lossy();
            let path = format!("{root}{}/{file}", folder.trim_end_matches('/'));
            let limit: Option<u64> = read(&path).and_then(|text| text.trim().parse().ok());
            limits.extend(limit);
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_shares() {
        for (text, expected) in [
            ("6GiB", Limit::Bytes(6 << 30)),
            ("900 MiB", Limit::Bytes(900 << 20)),
            ("1.5g", Limit::Bytes(3 << 29)),
            ("2GB", Limit::Bytes(2_000_000_000)),
            ("134217728", Limit::Bytes(128 << 20)),
            ("50%", Limit::Percent(50)),
        ] {
            assert_eq!(Limit::parsed(text), Ok(expected), "{text}");
        }
        for text in ["", "much", "6 GiBs", "0%", "101%", "1KiB", "-1GiB"] {
            assert!(Limit::parsed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_container_has_less_than_its_machine() {
        let v2 = |path: &str| match path {
            "/sys/fs/cgroup/pod/memory.max" => Some("8589934592\n".to_owned()),
            "/sys/fs/cgroup/pod/app/memory.max" => Some("max\n".to_owned()),
            _ => None,
        };
        assert_eq!(of_groups("0::/pod/app\n", &v2), [8 << 30]);
        let v1 = |path: &str| {
            let is_known = path == "/sys/fs/cgroup/memory/memory.limit_in_bytes";
            is_known.then(|| "1073741824\n".to_owned())
        };
        assert_eq!(
            of_groups("4:memory:/docker/0af3\n3:cpu:/x\n", &v1),
            [1 << 30]
        );
        assert_eq!(
            total("MemFree: 1 kB\nMemTotal:       2048 kB\n"),
            Some(2 << 20)
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_some() {
        assert!(available().is_some_and(|bytes| bytes > 64 << 20));
    }
}
