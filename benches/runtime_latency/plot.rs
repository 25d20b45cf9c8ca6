//! p50 and p99 of every case as pictures: SVG that is readable on light and on dark ground.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;

use crate::report::{CaseReport, RunReport};

/// Pixels.
const WIDTH: f64 = 860.0;
const ROW: f64 = 20.0;
/// Left of it stand the names of the rows, right of it the figures.
const PLOT_LEFT: f64 = 250.0;
const PLOT_RIGHT: f64 = 720.0;
/// Above the first row of a panel: its heading.
const HEADING: f64 = 44.0;
/// Below the last row of a panel: the scale.
const SCALE: f64 = 26.0;

/// The colours follow the reader's preference; without one the light ones count.
const STYLE: &str = "
  text { font: 12px system-ui, sans-serif; fill: #24292f }
  .heading { font-weight: 600; font-size: 14px }
  .scale, .figure { fill: #57606a }
  .grid { stroke: #d0d7de; stroke-width: 1 }
  .span { stroke: #8c959f; stroke-width: 2 }
  .p50 { fill: #0969da }
  .p99 { fill: none; stroke: #0969da; stroke-width: 2 }
  .ground { fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .scale, .figure { fill: #9198a1 }
    .grid { stroke: #3d444d }
    .span { stroke: #656c76 }
    .p50 { fill: #4493f8 }
    .p99 { stroke: #4493f8 }
    .ground { fill: #0d1117 }
  }
";

/// Where the picture is, seen from `benches/`.
pub(crate) fn file_name(figure: &str) -> String {
    format!("results/{figure}.svg")
}

/// Writes all pictures of the run.
pub(crate) fn write_all(report: &RunReport, folder: &Path) -> anyhow::Result<()> {
    let mut figures: BTreeMap<String, Vec<(String, Vec<&CaseReport>)>> = BTreeMap::new();
    for (group, cases) in report.groups() {
        figures.entry(cases[0].scenario.figure()).or_default().push((group, cases));
    }
    for (figure, panels) in figures {
        let path = folder.join(file_name(&figure));
        std::fs::create_dir_all(path.parent().context("a picture is in a folder")?)?;
        std::fs::write(&path, picture(&panels)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// One panel for each group, all on one scale, so that they can be compared.
fn picture(panels: &[(String, Vec<&CaseReport>)]) -> String {
    let cases: Vec<&CaseReport> = panels.iter().flat_map(|(_, cases)| cases.iter().copied()).collect();
    let scale =
        Scale::of(cases.iter().filter(|case| case.summary.calls > 0).flat_map(|case| [case.summary.p50_us, case.summary.p99_us]));
    let height: f64 = panels.iter().map(|(_, cases)| HEADING + ROW * cases.len() as f64 + SCALE).sum();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <style>{STYLE}</style>\n<rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\"/>\n"
    );
    let mut top = 0.0;
    for (group, cases) in panels {
        top = panel(&mut svg, &scale, top, group, cases);
    }
    svg + "</svg>\n"
}

/// Returns where the next one begins.
fn panel(svg: &mut String, scale: &Scale, top: f64, group: &str, cases: &[&CaseReport]) -> f64 {
    let first = top + HEADING;
    let bottom = first + ROW * cases.len() as f64;
    let heading = escaped(group);
    element(svg, format_args!(r#"<text class="heading" x="12" y="{}">{heading}</text>"#, top + 24.0));
    element(
        svg,
        format_args!(r#"<text class="scale" x="{PLOT_LEFT}" y="{}">● p50   ○ p99, microseconds, logarithmic</text>"#, top + 24.0),
    );
    for mark in scale.marks() {
        let (x, text) = (scale.x(mark), label(mark));
        element(svg, format_args!(r#"<line class="grid" x1="{x:.1}" y1="{}" x2="{x:.1}" y2="{bottom}"/>"#, first - 8.0));
        element(svg, format_args!(r#"<text class="scale" text-anchor="middle" x="{x:.1}" y="{}">{text}</text>"#, bottom + 14.0));
    }
    for (number, case) in (0_u32..).zip(cases) {
        row(svg, scale, ROW.mul_add(f64::from(number) + 0.5, first), case);
    }
    bottom + SCALE
}

fn row(svg: &mut String, scale: &Scale, y: f64, case: &CaseReport) {
    let (name, below) = (escaped(&case.scenario.row()), y + 4.0);
    element(svg, format_args!(r#"<text text-anchor="end" x="{}" y="{below}">{name}</text>"#, PLOT_LEFT - 12.0));
    let summary = &case.summary;
    let beside = PLOT_RIGHT + 12.0;
    if summary.calls == 0 {
        element(svg, format_args!(r#"<text class="figure" x="{beside}" y="{below}">failed</text>"#));
        return;
    }
    let (p50, p99) = (scale.x(summary.p50_us), scale.x(summary.p99_us));
    element(svg, format_args!(r#"<line class="span" x1="{p50:.1}" y1="{y}" x2="{p99:.1}" y2="{y}"/>"#));
    element(svg, format_args!(r#"<circle class="p50" cx="{p50:.1}" cy="{y}" r="5"/>"#));
    element(svg, format_args!(r#"<circle class="p99" cx="{p99:.1}" cy="{y}" r="4"/>"#));
    let figures = format!("{} / {}", label(summary.p50_us), label(summary.p99_us));
    element(svg, format_args!(r#"<text class="figure" x="{beside}" y="{below}">{figures}</text>"#));
}

/// Maps microseconds to pixels, logarithmically, over whole decades.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    fn of(values_us: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values_us.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return Self { low: 0.0, high: 1.0 };
        }
        let low = low.max(1.0).log10().floor();
        Self { low, high: high.max(1.0).log10().ceil().max(low + 1.0) }
    }

    fn x(&self, value_us: f64) -> f64 {
        let part = (value_us.max(1.0).log10() - self.low) / (self.high - self.low);
        PLOT_LEFT + part * (PLOT_RIGHT - PLOT_LEFT)
    }

    /// The powers of ten.
    fn marks(&self) -> impl Iterator<Item = f64> {
        (self.low as i32..=self.high as i32).map(|exponent| 10_f64.powi(exponent))
    }
}

/// 84, 1,240, 12,400.
fn label(value_us: f64) -> String {
    let digits = format!("{value_us:.0}");
    let mut text = String::new();
    for (number, digit) in digits.chars().enumerate() {
        if number > 0 && (digits.len() - number).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn element(svg: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(svg, "{arguments}").expect("a string takes every line");
}
