//! Where and how a run was made.

use std::time::SystemTime;

use serde::Serialize;

/// What a reader needs to know to judge or repeat the numbers.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// Over the last minute before the run: other work on the machine spoils it.
    pub(crate) load_average: String,
    pub(crate) date: String,
    pub(crate) command: String,
}

impl Machine {
    pub(crate) fn this() -> Self {
        let cpu_info = read("/proc/cpuinfo");
        let cpu = cpu_info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
        let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
        Self {
            cpu: cpu.unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_average: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            command: format!("cargo bench --bench runtime_latency -- {}", arguments.join(" "))
                .trim_end_matches([' ', '-'])
                .to_owned(),
        }
    }

    /// The last core that this process may use: the first one takes most interrupts.
    pub(crate) fn last_core() -> Option<usize> {
        let status = read("/proc/self/status");
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        list.trim().rsplit([',', '-']).next()?.parse().ok()
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
