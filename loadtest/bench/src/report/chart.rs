//! The report as a picture: what a request costs each proxy, and how many a second the machine answers.
//!
//! Points on a logarithmic axis, with a line from the smallest to the largest round: the paths differ by two orders
//! of magnitude, and bars would have to begin at a zero that such an axis does not have. Colours follow the
//! reader's light or dark background, which is painted too.

use std::fmt::Write as _;

use super::{Report, Row};
use crate::statistics::Summary;
use crate::subject::Subject;

const WIDTH: f64 = 860.0;
const MARGIN: f64 = 24.0;
/// Where the axes begin and end; what a path is called stands before, its figure behind.
const LEFT: f64 = 260.0;
const RIGHT: f64 = 720.0;
const ROW: f64 = 26.0;
const HEAD: f64 = 64.0;
const PANEL_HEAD: f64 = 44.0;
const PANEL_GAP: f64 = 34.0;

const STYLE: &str = "\
svg{background:#fff;font:14px system-ui,sans-serif}\
.ground{fill:#fff}text{fill:#1f2328}.small{fill:#59636e;font-size:12px}.title{font-size:17px;font-weight:600}\
.grid{stroke:#d1d9e0}.ours{fill:#0969da;stroke:#0969da}.theirs{fill:#6e7781;stroke:#6e7781}\
@media (prefers-color-scheme:dark){svg{background:#0d1117}.ground{fill:#0d1117}text{fill:#f0f6fc}\
.small{fill:#9198a1}.grid{stroke:#3d444d}.ours{fill:#4493f8;stroke:#4493f8}.theirs{fill:#9198a1;stroke:#9198a1}}";

/// One of the two pictures.
struct Panel<'a> {
    title: &'a str,
    unit: &'a str,
    value: fn(&Row) -> &Summary,
}

const PANELS: [Panel<'static>; 2] = [
    Panel {
        title: "Its own CPU for a request, in microseconds (less is better)",
        unit: "µs",
        value: |row| &row.cpu_us,
    },
    Panel {
        title: "Requests a second of the whole machine (more is better)",
        unit: "/s",
        value: |row| &row.rate,
    },
];

/// An axis of whole powers of ten around all values.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Axis {
    from: i32,
    to: i32,
}

impl Axis {
    fn around(values: impl Iterator<Item = f64>) -> Self {
        let logs: Vec<f64> = values
            .filter(|value| *value > 0.0)
            .map(f64::log10)
            .collect();
        let least = logs.iter().copied().fold(f64::INFINITY, f64::min);
        let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if logs.is_empty() {
            return Self { from: 0, to: 1 };
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "logarithms of figures that were measured are small"
        )]
        let (from, to) = (least.floor() as i32, most.ceil() as i32);
        Self {
            from,
            to: to.max(from + 1),
        }
    }

    /// Where a value lies, in pixels from the left.
    fn place(self, value: f64) -> f64 {
        let (from, to) = (f64::from(self.from), f64::from(self.to));
        let share = (value.max(f64::MIN_POSITIVE).log10() - from) / (to - from);
        LEFT + share.clamp(0.0, 1.0) * (RIGHT - LEFT)
    }
}

/// The whole picture as SVG; none when no path was measured.
pub(super) fn render(report: &Report) -> Option<String> {
    let rows: Vec<&Row> = Subject::ALL
        .into_iter()
        .filter(|subject| subject.is_charted())
        .filter_map(|subject| report.row(subject))
        .collect();
    if rows.is_empty() {
        return None;
    }
    let panel_height = PANEL_HEAD + ROW * f64::from(u16::try_from(rows.len()).ok()?) + PANEL_GAP;
    let height = HEAD + 2.0 * panel_height;
    let mut svg = String::new();
    // Writing to memory cannot fail.
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\
         <title>Crochet bench</title><style>{STYLE}</style>\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\"/>"
    );
    let date = report.at.get(..10).unwrap_or(&report.at);
    text(&mut svg, MARGIN, 32.0, "title", "What a call costs");
    let how = format!(
        "{} run of {date}: {} rounds in turns on {} CPUs; median, and a line from the least to the most. Axes are logarithmic. Blue is Crochet.",
        report.name, report.rounds, report.cpus
    );
    text(&mut svg, MARGIN, 52.0, "small", &how);
    for (number, panel) in (0_u8..).zip(PANELS) {
        draw(
            &mut svg,
            &panel,
            &rows,
            HEAD + f64::from(number) * panel_height,
        );
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

fn draw(svg: &mut String, panel: &Panel<'_>, rows: &[&Row], top: f64) {
    let values = rows.iter().flat_map(|row| {
        let value = (panel.value)(row);
        [value.min, value.max]
    });
    let axis = Axis::around(values);
    text(svg, MARGIN, top + 22.0, "", panel.title);
    let first = top + PANEL_HEAD;
    let rows_high = f64::from(u16::try_from(rows.len()).unwrap_or(u16::MAX)) * ROW;
    for power in axis.from..=axis.to {
        let value = 10_f64.powi(power);
        let x = axis.place(value);
        let bottom = first + rows_high;
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{first:.1}\" y2=\"{bottom:.1}\"/>\
             <text class=\"small\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
            bottom + 15.0,
            figure(value)
        );
    }
    let mut middle = first + ROW / 2.0;
    for row in rows {
        let value = (panel.value)(row);
        let class = if row.subject.is_crochets() {
            "ours"
        } else {
            "theirs"
        };
        let (least, at, most) = (
            axis.place(value.min),
            axis.place(value.median),
            axis.place(value.max),
        );
        text(svg, MARGIN, middle + 5.0, "", row.subject.label());
        let _ = write!(
            svg,
            "<line class=\"{class}\" stroke-width=\"3\" x1=\"{least:.1}\" x2=\"{most:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>\
             <circle class=\"{class}\" cx=\"{at:.1}\" cy=\"{middle:.1}\" r=\"6\"/>"
        );
        let told = format!("{} {}", figure(value.median), panel.unit);
        text(svg, RIGHT + MARGIN, middle + 5.0, "", &told);
        middle += ROW;
    }
}

fn text(svg: &mut String, x: f64, y: f64, class: &str, content: &str) {
    let content = content
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _ = write!(
        svg,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{content}</text>"
    );
}

/// A figure with what digits matter: 7.2, 41, 9,490.
fn figure(value: f64) -> String {
    if value < 10.0 {
        format!("{value:.1}").trim_end_matches(".0").to_owned()
    } else {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "figures that were measured are positive and small"
        )]
        super::table::thousands(value.round() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn an_axis_goes_by_powers_of_ten_and_places_their_middle_in_the_middle() {
        let axis = Axis::around([7.0, 940.0].into_iter());
        assert_eq!(axis, Axis { from: 0, to: 3 });
        let at = |value| format!("{:.1}", axis.place(value));
        assert_eq!(at(1.0), format!("{LEFT:.1}"));
        assert_eq!(at(1_000.0), format!("{RIGHT:.1}"));
        let middle = axis.place(10_f64.powf(1.5));
        assert!((middle - f64::midpoint(LEFT, RIGHT)).abs() < 0.01);
        assert_eq!(Axis::around([0.0].into_iter()), Axis { from: 0, to: 1 });
    }

    #[test]
    fn figures_have_the_digits_that_matter() {
        let shown = [7.24, 1.0, 41.4, 9_490.2].map(figure);
        assert_eq!(shown, ["7.2", "1", "41", "9,490"]);
    }

    #[test]
    fn the_picture_has_every_path_twice_with_its_figures_and_is_well_formed() {
        let svg = render(&report([50.0, 60.0, 20.0], [10_000.0, 2_000.0], 60, 0)).unwrap();
        for label in ["bare pingora, pass-through", "paid call (retry -&gt; 200)"] {
            assert_eq!(svg.matches(label).count(), 2, "{label} in {svg}");
        }
        assert!(
            svg.contains(">60 µs<") && svg.contains(">2,000 /s<"),
            "{svg}"
        );
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        assert!(svg.contains("prefers-color-scheme:dark"));
    }

    #[test]
    fn without_a_path_there_is_no_picture() {
        let nothing = report([50.0, 60.0, 20.0], [10_000.0, 2_000.0], 60, 0);
        let nothing = Report {
            rows: Vec::new(),
            ..nothing
        };
        assert!(render(&nothing).is_none());
    }
}
