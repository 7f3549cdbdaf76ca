//! A plot of the traffic by region over time, with the faults as bands: SVG 1.1, readable on light
//! and dark grounds.

use super::faults::Scenario;
use super::record::Record;
use std::time::Duration;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 44.0;
const HEIGHT: f64 = 300.0;
const RIGHT: f64 = 16.0;
/// Of one fault's band below the plot.
const BAND: f64 = 18.0;
const FAULTS_MAX: usize = 24;

/// Colours that differ in lightness too, for those who see few colours. Source: Okabe and Ito, 2008.
const COLOURS: [&str; 8] =
    ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999"];

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The plot as a document.
pub fn plot(scenario: &Scenario, record: &Record) -> String {
    let steps = &scenario.steps[..scenario.steps.len().min(FAULTS_MAX)];
    let legend_rows = scenario.cast.regions.len().div_ceil(4) as f64;
    let bottom = TOP + HEIGHT;
    let height = bottom + 34.0 + steps.len() as f64 * BAND + legend_rows * 20.0 + 60.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
         font-family=\"sans-serif\" font-size=\"12\" role=\"img\">\n<title>{}</title>\n<style>\n\
         .ground {{ fill: #ffffff }} .text {{ fill: #222222 }} .line {{ stroke: #888888 }}\n\
         .fault {{ fill: #b00020; fill-opacity: 0.10 }} .band {{ fill: #b00020; fill-opacity: 0.55 }}\n\
         .errors {{ stroke: #b00020; fill: none; stroke-width: 1.5 }}\n\
         @media (prefers-color-scheme: dark) {{ .ground {{ fill: #16181d }} .text {{ fill: #e8e8e8 }} \
         .fault {{ fill: #ff8a80; fill-opacity: 0.14 }} .band {{ fill: #ff8a80; fill-opacity: 0.6 }} \
         .errors {{ stroke: #ff8a80 }} }}\n</style>\n\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{height:.0}\"/>\n\
         <text class=\"text\" x=\"{LEFT}\" y=\"20\" font-size=\"15\">{}</text>\n",
        escaped(&scenario.title),
        escaped(&scenario.title),
    );
    let plot = Plot::new(record);
    for step in steps {
        let (from, to) = (plot.x(step.at), plot.x(step.at + step.lasts));
        let width = (to - from).max(1.5);
        svg += &format!(
            "<rect class=\"fault\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{HEIGHT}\"/>\n"
        );
    }
    svg += &plot.areas(record, scenario);
    svg += &plot.errors(record);
    svg += &plot.axes();
    for (index, step) in steps.iter().enumerate() {
        let y = bottom + 30.0 + index as f64 * BAND;
        let (from, to) = (plot.x(step.at), plot.x(step.at + step.lasts));
        let width = (to - from).max(2.0);
        let middle = (LEFT + WIDTH) / 2.0;
        let (anchor, at) =
            if from > middle { ("end", from - 4.0) } else { ("start", to.max(from + 2.0) + 4.0) };
        let (anchor, at) =
            if anchor == "start" && at > middle { ("start", from + 4.0) } else { (anchor, at) };
        svg += &format!(
            "<rect class=\"band\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"8\"/>\n\
             <text class=\"text\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>\n",
            y + 3.0,
            y + 11.0,
            escaped(&step.fault.shown(&scenario.cast)),
        );
    }
    let y = bottom + 44.0 + steps.len() as f64 * BAND;
    for (index, region) in scenario.cast.regions.iter().enumerate() {
        let (column, row) = ((index % 4) as f64, (index / 4) as f64);
        let (x, y) = (LEFT + column * 220.0, y + row * 20.0);
        svg += &format!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"12\" height=\"12\" fill=\"{}\"/>\n\
             <text class=\"text\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
            COLOURS[index % COLOURS.len()],
            x + 18.0,
            y + 10.0,
            escaped(region.as_str()),
        );
    }
    let y = y + legend_rows * 20.0 + 16.0;
    svg + &format!(
        "<text class=\"text\" x=\"{LEFT}\" y=\"{y:.1}\">Areas: requests a second that users send to each \
         region. Line: share of all requests that fail, full height is all.</text>\n</svg>\n"
    )
}

struct Plot {
    seconds: f64,
    most: f64,
    bucket: f64,
}

impl Plot {
    fn new(record: &Record) -> Self {
        let most = record.entered.iter().map(|regions| regions.iter().sum::<f64>()).fold(1.0, f64::max);
        let bucket = record.bucket.as_secs_f64();
        Self { seconds: (record.entered.len().max(1) as f64) * bucket, most, bucket }
    }

    fn x(&self, at: Duration) -> f64 {
        let share = (at.as_secs_f64() / self.seconds).min(1.0);
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    fn at(&self, bucket: usize) -> f64 {
        self.x(Duration::from_secs_f64((bucket as f64 + 0.5) * self.bucket))
    }

    fn y(&self, rps: f64) -> f64 {
        TOP + HEIGHT * (1.0 - rps / (self.most * 1.05))
    }

    /// One area a region, on top of each other.
    fn areas(&self, record: &Record, scenario: &Scenario) -> String {
        let mut svg = String::new();
        let mut below = vec![0.0; record.entered.len()];
        for (region, id) in scenario.cast.regions.iter().enumerate() {
            let mut path = String::new();
            let above: Vec<f64> =
                record.entered.iter().zip(&below).map(|(regions, base)| base + regions[region]).collect();
            for (bucket, rps) in above.iter().enumerate() {
                let command = if bucket == 0 { 'M' } else { 'L' };
                path += &format!("{command}{:.1} {:.1}", self.at(bucket), self.y(*rps));
            }
            for (bucket, rps) in below.iter().enumerate().rev() {
                path += &format!("L{:.1} {:.1}", self.at(bucket), self.y(*rps));
            }
            svg += &format!(
                "<path d=\"{path}Z\" fill=\"{}\" fill-opacity=\"0.75\"><title>{}</title></path>\n",
                COLOURS[region % COLOURS.len()],
                escaped(id.as_str()),
            );
            below = above;
        }
        svg
    }

    fn errors(&self, record: &Record) -> String {
        let points: Vec<String> = record
            .over_time(record.entered.len())
            .iter()
            .enumerate()
            .map(|(bucket, tally)| {
                format!("{:.1},{:.1}", self.at(bucket), TOP + HEIGHT * (1.0 - tally.errors()))
            })
            .collect();
        format!("<polyline class=\"errors\" points=\"{}\"/>\n", points.join(" "))
    }

    fn axes(&self) -> String {
        let bottom = TOP + HEIGHT;
        let right = WIDTH - RIGHT;
        let mut svg = format!(
            "<path class=\"line\" fill=\"none\" d=\"M{LEFT} {TOP}L{LEFT} {bottom}L{right} {bottom}\"/>\n"
        );
        for quarter in 0..=4 {
            let rps = self.most * f64::from(quarter) / 4.0;
            let y = self.y(rps) + 4.0;
            svg += &format!(
                "<text class=\"text\" x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"end\">{rps:.0}/s</text>\n",
                LEFT - 6.0
            );
        }
        for tenth in 0..=10 {
            let seconds = self.seconds * f64::from(tenth) / 10.0;
            let label = match seconds {
                s if s >= 7200.0 => format!("{:.1} h", s / 3600.0),
                s if s >= 180.0 => format!("{:.0} min", s / 60.0),
                s => format!("{s:.0} s"),
            };
            let x = self.x(Duration::from_secs_f64(seconds));
            svg += &format!(
                "<text class=\"text\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>\n",
                bottom + 16.0
            );
        }
        svg
    }
}
