//! A plot of what goes up and down in time, as SVG.

use std::fmt::Write as _;

use crate::plot::escape;

/// Size of the picture and of what is around the field, in pixels.
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 72.0;
const BOTTOM: f64 = 52.0;

/// What the picture looks like by day and by night: it brings its own ground, so it can be read on
/// any page. The colours of the lines are told apart by people who do not see all of them (Okabe
/// and Ito).
const STYLE: &str = "\
    text{fill:#24292f} .ground{fill:#ffffff} .grid{stroke:#d8dee4} .axis{stroke:#57606a} \
    .line{fill:none;stroke-width:2} .l0{stroke:#57606a;stroke-dasharray:6 4} .l1{stroke:#d55e00} .l2{stroke:#0072b2} \
    @media(prefers-color-scheme:dark){text{fill:#e6edf3} .ground{fill:#0d1117} .grid{stroke:#30363d} \
    .axis{stroke:#8b949e} .l0{stroke:#8b949e} .l1{stroke:#e69f00} .l2{stroke:#56b4e9}}";

/// Lines that [`STYLE`] knows.
const LINES_MAX: usize = 3;

/// What went up and down.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What it is.
    pub name: String,
    /// Time and value, in the units of the axes; in the order of time.
    pub points: Vec<(f64, f64)>,
}

/// What a plot says of its axes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axes<'a> {
    /// The unit of time.
    pub time: &'a str,
    /// Units of time between two marks.
    pub mark: f64,
    /// The unit of the values.
    pub value: &'a str,
}

impl Axes<'static> {
    /// Bit rates over some seconds.
    pub const RATES: Axes<'static> = Axes {
        time: "seconds",
        mark: 5.0,
        value: "Mbit/s",
    };
}

/// A plot of up to three lines over the same time, the first of them dashed; `None` when there is
/// nothing to plot, or more than can be told apart.
#[must_use]
pub fn by_time(title: &str, axes: &Axes<'_>, lines: &[Line]) -> Option<String> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let end = points().map(|(time, _)| *time).fold(0.0, f64::max);
    let highest = points().map(|(_, value)| *value).fold(0.0, f64::max);
    if end <= 0.0 || lines.len() > LINES_MAX {
        return None;
    }
    let field = Field {
        end,
        top: (highest + 0.5).ceil(),
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<style>{STYLE}</style>\n\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{}</text>\n",
        escape(title)
    );
    draw_axes(&mut svg, axes, &field);
    for (number, line) in lines.iter().enumerate() {
        draw_line(&mut svg, &field, number, line);
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

/// What both axes span, from 0.
struct Field {
    end: f64,
    top: f64,
}

impl Field {
    fn x(&self, time: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * time / self.end
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / self.top
    }
}

fn draw_axes(svg: &mut String, axes: &Axes<'_>, field: &Field) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    // About six lines, at whole numbers.
    let step = (field.top / 6.0).ceil().max(1.0);
    let mut value = 0.0;
    while value <= field.top {
        let (y, class) = (field.y(value), if value > 0.0 { "grid" } else { "axis" });
        let _ = writeln!(
            svg,
            "<line class=\"{class}\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            LEFT - 8.0,
            y + 4.0
        );
        value += step;
    }
    let mut time = 0.0;
    while time <= field.end {
        let (x, below) = (field.x(time), bottom + 5.0);
        let _ = writeln!(
            svg,
            "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{below}\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{time}</text>",
            bottom + 19.0
        );
        time += axes.mark;
    }
    let middle = f64::midpoint(TOP, bottom);
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
         <text x=\"20\" y=\"{middle}\" text-anchor=\"middle\" transform=\"rotate(-90 20 {middle})\">{}</text>",
        f64::midpoint(LEFT, right),
        HEIGHT - 12.0,
        escape(axes.time),
        escape(axes.value)
    );
}

/// A line, and what it is called, above the field.
fn draw_line(svg: &mut String, field: &Field, number: usize, line: &Line) {
    let points = line.points.iter();
    let points = points.map(|(s, rate)| format!("{:.1},{:.1}", field.x(*s), field.y(*rate)));
    let path: Vec<String> = points.collect();
    let (x, y) = (LEFT + 264.0 * number as f64, TOP - 22.0);
    let _ = writeln!(
        svg,
        "<polyline class=\"line l{number}\" points=\"{}\"/>\
         <line class=\"line l{number}\" x1=\"{x}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\"/>\
         <text x=\"{}\" y=\"{}\">{}</text>",
        path.join(" "),
        x + 24.0,
        x + 32.0,
        y + 4.0,
        escape(&line.name)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_inside_the_picture_and_have_names() {
        let line = |name: &str, top: f64| Line {
            name: name.to_owned(),
            points: vec![(0.0, 0.0), (25.0, top), (50.0, top)],
        };
        let svg = by_time(
            "1 < 2",
            &Axes::RATES,
            &[line("network", 8.0), line("video", 3.0)],
        )
        .unwrap();
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains("1 &lt; 2") && svg.contains("network") && svg.contains("Mbit/s"));
        // The highest rate is below the top of the field, the last second at its right end.
        let (top, right) = (TOP + (HEIGHT - TOP - BOTTOM) / 9.0, WIDTH - RIGHT);
        assert!(svg.contains(&format!("{right:.1},{top:.1}")), "{svg}");
        assert_eq!(by_time("", &Axes::RATES, &[]), None);
        assert_eq!(by_time("", &Axes::RATES, &vec![line("", 1.0); 4]), None);
    }
}
