//! `twinway bench`: measures tools of running gateways, side by side.

mod caller;
mod report;

use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Client, ClientError, Endpoint, Failure, Gateway, Output, tools};
use crate::measure::{Crew, Machine, Round};
use caller::ToolCaller;
use report::{Case, Report};

/// More rounds say nothing new, and a run must end.
const ROUNDS_MAX: u32 = 100;
/// Longer rounds are worse: a machine's slow drift then falls on one case and not on its neighbour.
const SECONDS_MAX: f64 = 60.0;
/// Connections to the gateway; it admits as many calls of one target at a time by default.
const IN_FLIGHT_MAX: usize = 256;

/// Measure tools of running gateways.
#[derive(Debug, Args)]
#[command(after_help = "Two tools of the same make, one behind each runtime, compare the runtimes:
  twinway bench weather.forecast --against gpu-box.weather.forecast --arguments '{\"city\":\"Oslo\"}'

The calls go through the gateway as any client's do: its limits, layers and caches count.")]
pub(super) struct Bench {
    /// The tool's public name.
    tool: String,
    /// Its arguments, a JSON object; the same in every call.
    #[arg(long, default_value = "{}", value_parser = tools::object, value_name = "JSON")]
    arguments: Map<String, Value>,
    /// The tool to compare it with; it gets the same arguments. Absent, with --against-endpoint: the tool of the same name.
    #[arg(long, value_name = "TOOL")]
    against: Option<String>,
    /// The gateway of the tool to compare with, when it is another one.
    #[arg(long, value_name = "URL")]
    against_endpoint: Option<Endpoint>,
    /// Calls at a time, each over a connection of its own.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16], value_parser = in_flight, value_name = "N")]
    in_flight: Vec<usize>,
    /// Interleaved rounds of every case.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROUNDS_MAX)))]
    rounds: u32,
    /// Seconds per case and round.
    #[arg(long, default_value_t = 0.5, value_parser = seconds)]
    seconds: f64,
    /// Seconds of untimed calls before each of them.
    #[arg(long, default_value_t = 0.1, value_parser = seconds)]
    warm_up: f64,
    /// Measure tools too that do not say that they only read: they will run thousands of times.
    #[arg(long)]
    yes_it_may_run_often: bool,
    #[command(flatten)]
    gateway: Gateway,
}

fn in_flight(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=IN_FLIGHT_MAX).contains(number));
    number.ok_or_else(|| format!("it is a number from 1 to {IN_FLIGHT_MAX}"))
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..=SECONDS_MAX).contains(seconds));
    seconds.ok_or_else(|| format!("it is a number of seconds from 0 to {SECONDS_MAX}"))
}

/// A tool that is measured.
struct Subject {
    client: Client,
    endpoint: String,
    tool: String,
}

/// What is looked at of a definition.
#[derive(Deserialize)]
struct Definition {
    name: String,
    /// As the upstream wrote them, which may be anything.
    #[serde(default)]
    annotations: Value,
}

impl Bench {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let machine = Machine::this(std::env::args().collect::<Vec<_>>().join(" "));
        let subjects = self.subjects()?;
        let mut paths = Vec::new();
        for subject in &subjects {
            self.allow(subject).await?;
            paths.push(subject.name(subject.way(&self.arguments).await?));
        }
        let all = self.in_flight.iter().flat_map(|in_flight| paths.iter().map(move |path| Case::new(path, *in_flight)));
        let mut cases: Vec<Case> = all.collect();
        for number in 1..=self.rounds {
            for (case, subject) in cases.iter_mut().zip(subjects.iter().cycle()) {
                let round = self.round(subject, case.in_flight).await;
                output.note(&case.progress(number, self.rounds, &round));
                case.rounds.push(round);
            }
        }
        let report = Report::new(machine, self.rounds, self.seconds, self.warm_up, &cases, subjects.len());
        output.either(&report, &report.text())?;
        match report.failure_count() {
            0 => Ok(()),
            count => Err(Failure::failed(format!("{count} calls failed"))),
        }
    }

    fn subjects(&self) -> Result<Vec<Subject>, Failure> {
        let of = |gateway: &Gateway, tool: &str| -> Result<Subject, Failure> {
            Ok(Subject { client: gateway.client()?, endpoint: gateway.endpoint.to_string(), tool: tool.to_owned() })
        };
        let mut subjects = vec![of(&self.gateway, &self.tool)?];
        if self.against.is_some() || self.against_endpoint.is_some() {
            let endpoint = self.against_endpoint.clone().unwrap_or_else(|| self.gateway.endpoint.clone());
            let (token, timeout) = (self.gateway.token.clone(), self.gateway.timeout);
            let ca_file = self.gateway.ca_file.clone().filter(|_| endpoint.is_https());
            subjects.push(of(&Gateway { endpoint, token, timeout, ca_file }, self.against.as_deref().unwrap_or(&self.tool))?);
        }
        Ok(subjects)
    }

    /// A tool that may change something is not called thousands of times by accident.
    async fn allow(&self, subject: &Subject) -> Result<(), Failure> {
        let definition = subject.definition().await?;
        if definition.annotations["readOnlyHint"] == true || self.yes_it_may_run_often {
            return Ok(());
        }
        let tool = &subject.tool;
        Err(Failure::usage(format!(
            "`{tool}` does not say that it only reads (`annotations.readOnlyHint`), and this calls it thousands of times; add \
             --yes-it-may-run-often if that does no harm"
        )))
    }

    /// A round that cannot be measured is a failure, not the end of the run.
    async fn round(&self, subject: &Subject, in_flight: usize) -> Round {
        let callers = (0..in_flight).map(|_| ToolCaller::new(&subject.client, &subject.tool, &self.arguments)).collect();
        let warm_up = Duration::from_secs_f64(self.warm_up);
        let measured = async {
            let crew = Crew::warmed_up(callers, warm_up, self.gateway.timeout).await?;
            crew.measure(Duration::from_secs_f64(self.seconds)).await
        };
        measured.await.map_or_else(|unanswered| Round::failed(unanswered.to_string()), Round::new)
    }
}

impl Subject {
    async fn definition(&self) -> Result<Definition, Failure> {
        let mut cursor = None;
        loop {
            let page = tools::page(&self.client, cursor).await?;
            for raw in &page.tools {
                let definition: Definition = serde_json::from_str(raw.get()).map_err(ClientError::NotMcp)?;
                if definition.name == self.tool {
                    return Ok(definition);
                }
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                let (tool, endpoint) = (&self.tool, &self.endpoint);
                return Err(Failure::usage(format!(
                    "the gateway at {endpoint} has no tool `{tool}`; `twinway tools` lists them"
                )));
            }
        }
    }

    /// One call before all others: an error shows at once, and the gateway says which way the calls will go.
    async fn way(&self, arguments: &Map<String, Value>) -> Result<Option<(String, String)>, Failure> {
        let raw = tools::call(&self.client, &self.tool, arguments.clone(), true).await?;
        let result: tools::ToolResult = serde_json::from_str(raw.get()).map_err(ClientError::NotMcp)?;
        if result.is_error {
            return Err(Failure::failed(format!("`{}` answered with an error: {}", self.tool, result.text())));
        }
        Ok(result.way().map(|(runtime, target)| (runtime.to_owned(), target.to_owned())))
    }

    fn name(&self, way: Option<(String, String)>) -> String {
        let tool = &self.tool;
        way.map_or_else(|| tool.clone(), |(runtime, target)| format!("{tool} ({runtime}, {target})"))
    }
}
