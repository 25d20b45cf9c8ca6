//! Where and how a run was made.

use std::time::SystemTime;

use serde::Serialize;

/// What a reader needs to know to judge or repeat the numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Its model.
    pub cpu: String,
    /// How many this process may use.
    pub cores: usize,
    /// Release of Linux.
    pub kernel: String,
    /// Over the last minute before the run: other work on the machine spoils it.
    pub load_average: String,
    /// When the run began, as RFC 3339 says it.
    pub date: String,
    /// What was typed.
    pub command: String,
}

impl Machine {
    /// This machine now, for a run that is repeated by `command`.
    #[must_use]
    pub fn this(command: String) -> Self {
        let cpu_info = read("/proc/cpuinfo");
        let cpu = cpu_info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
        Self {
            cpu: cpu.unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_average: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            command,
        }
    }

    /// It in one sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { cpu, cores, kernel, load_average, date, .. } = self;
        format!("{cpu}, {cores} cores, Linux {kernel}, load average before the run {load_average}; {date}.")
    }

    /// The last core that this process may use: the first one takes most interrupts.
    #[must_use]
    pub fn last_core() -> Option<usize> {
        let status = read("/proc/self/status");
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        list.trim().rsplit([',', '-']).next()?.parse().ok()
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
