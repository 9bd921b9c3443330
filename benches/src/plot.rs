//! A plot of cost by subscribers as SVG, and the table of the same rows.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::swarm::row::Row;

/// Size of the picture and of what is around the field, in pixels.
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 60.0;

/// Colours that are told apart by people who do not see all of them (Okabe and Ito).
const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#333333",
];

/// What a plot shows: of each server a line of subscribers and nanoseconds.
type Lines = BTreeMap<String, Vec<(f64, f64)>>;

/// A plot of CPU time per packet by subscribers of the rows of one scene, both axes logarithmic;
/// `None` when there is nothing to plot.
#[must_use]
pub fn cost_by_subscribers(rows: &[Row], scene: &str) -> Option<String> {
    let mut lines = Lines::new();
    for row in rows.iter().filter(|row| row.scene == scene) {
        if let Some(ns) = row.ns_per_packet.filter(|_| row.subscribers > 0) {
            let line = lines.entry(row.server.clone()).or_default();
            line.retain(|(subscribers, _)| *subscribers != row.subscribers as f64);
            line.push((row.subscribers as f64, ns));
            line.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
    }
    let points: Vec<(f64, f64)> = lines.values().flatten().copied().collect();
    let (first, rest) = points.split_first()?;
    let mut field = Field {
        x: (first.0, first.0),
        y: (first.1, first.1),
    };
    for (x, y) in rest {
        field.x = (field.x.0.min(*x), field.x.1.max(*x));
        field.y = (field.y.0.min(*y), field.y.1.max(*y));
    }
    // Whole powers of ten around the costs, and room where there is one column only.
    field.y = (floor_10(field.y.0), ceil_10(field.y.1));
    field.x = (field.x.0, field.x.1.max(field.x.0 * 2.0));
    Some(draw(&lines, &field))
}

/// What both axes span.
struct Field {
    x: (f64, f64),
    y: (f64, f64),
}

impl Field {
    fn x(&self, value: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * share(value, self.x)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share(value, self.y)
    }
}

/// Where between the ends a value lies, by its logarithm.
fn share(value: f64, (low, high): (f64, f64)) -> f64 {
    (value / low).ln() / (high / low).ln().max(f64::MIN_POSITIVE)
}

fn floor_10(value: f64) -> f64 {
    10_f64.powf(value.max(1.0).log10().floor())
}

fn ceil_10(value: f64) -> f64 {
    10_f64.powf(value.max(2.0).log10().ceil())
}

fn draw(lines: &Lines, field: &Field) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">Server CPU per forwarded packet, one publisher of \
         30 frames/s x 10 packets x 1150 B</text>\n"
    );
    let mut decade = field.y.0;
    while decade <= field.y.1 * 1.001 {
        for step in [1.0, 2.0, 5.0] {
            let value = decade * step;
            if value <= field.y.1 * 1.001 {
                let (y, right) = (field.y(value), WIDTH - RIGHT);
                let _ = writeln!(
                    svg,
                    "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>\
                     <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
                    LEFT - 8.0,
                    y + 4.0
                );
            }
        }
        decade *= 10.0;
    }
    let mut columns: Vec<f64> = lines.values().flatten().map(|(x, _)| *x).collect();
    columns.sort_by(f64::total_cmp);
    columns.dedup();
    let mut free_from = f64::MIN;
    for column in columns {
        let (x, bottom) = (field.x(column), HEIGHT - BOTTOM);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{:.1}\" stroke=\"#333333\"/>",
            bottom + 5.0
        );
        // Numbers that would touch are left out; their marks stay.
        if x > free_from {
            let at = bottom + 20.0;
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{at}\" text-anchor=\"middle\">{column}</text>"
            );
            free_from = x + 34.0;
        }
    }
    let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
    let _ = writeln!(
        svg,
        "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">subscribers</text>\
         <text x=\"18\" y=\"{}\" text-anchor=\"middle\" transform=\"rotate(-90 18 {})\">ns per packet</text>",
        HEIGHT - 16.0,
        HEIGHT / 2.0,
        HEIGHT / 2.0
    );
    for (number, (server, line)) in lines.iter().enumerate() {
        let colour = COLOURS.get(number % COLOURS.len()).unwrap_or(&"#000000");
        draw_line(&mut svg, field, line, colour);
        let y = TOP + 12.0 + 22.0 * number as f64;
        let x = WIDTH - RIGHT + 16.0;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{:.1}\" width=\"18\" height=\"4\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"{y:.1}\">{}</text>",
            y - 6.0,
            x + 26.0,
            escape(server)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_line(svg: &mut String, field: &Field, line: &[(f64, f64)], colour: &str) {
    let points: Vec<(f64, f64)> = line
        .iter()
        .map(|(x, y)| (field.x(*x), field.y(*y)))
        .collect();
    let path: Vec<String> = points
        .iter()
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
        path.join(" ")
    );
    for (x, y) in points {
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
        );
    }
}

/// Text as it stands in SVG.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(server: &str, subscribers: usize, ns: f64) -> Row {
        Row {
            server: server.to_owned(),
            scene: "video".to_owned(),
            subscribers,
            ns_per_packet: Some(ns),
            ..Row::default()
        }
    }

    #[test]
    fn a_line_for_each_server_inside_the_picture() {
        let rows = [
            row("a<b", 1, 900.0),
            row("a<b", 50, 1_500.0),
            row("c", 50, 13_000.0),
        ];
        let svg = cost_by_subscribers(&rows, "video").unwrap();
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(svg.contains("a&lt;b") && !svg.contains("NaN") && !svg.contains("inf"));
        assert_eq!(cost_by_subscribers(&rows, "audio"), None);
        let one = cost_by_subscribers(&rows[..1], "video").unwrap();
        assert!(!one.contains("NaN") && !one.contains("inf"));
    }
}
