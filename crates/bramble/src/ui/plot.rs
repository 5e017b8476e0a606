//! Curves, in the terminal and as SVG.

/// Draws a curve as a line of so many characters, from its least to its greatest value.
pub(crate) fn line(points: &[(f64, f64)], width: usize) -> String {
    const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return String::new() };
    let (low, high) = range(points.iter().map(|(_, value)| *value));
    let time = (last.0 - first.0).max(1.0);
    let width = width.min(points.len());
    let mut text = String::new();
    for column in 0..width {
        let from = first.0 + time * column as f64 / width as f64;
        let to = first.0 + time * (column + 1) as f64 / width as f64;
        let inside = points.iter().filter(|(at, _)| *at >= from && *at <= to).map(|(_, value)| *value);
        let (_, value) = range(inside);
        let share = if value.is_finite() { (value - low) / (high - low).max(1.0) } else { 0.0 };
        text.push(STEPS[((share * 7.0).round() as usize).min(7)]);
    }
    text
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 48.0;
/// Colours that can be told apart, also by those who see fewer (Okabe and Ito, 2008).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#444444"];

/// Draws temperatures in degrees Celsius over seconds, one curve for each name, with a line at the limit.
pub(crate) fn svg(lines: &[(&str, Vec<(f64, f64)>)], limit: f64) -> String {
    let all = || lines.iter().flat_map(|(_, points)| points);
    let (low, high) = range(all().map(|(_, value)| *value).chain([limit]));
    let (low, high) = ((low / 10.0).floor() * 10.0, (high / 10.0).ceil() * 10.0);
    let end = all().map(|(at, _)| *at).fold(60.0, f64::max);
    let x = |at: f64| LEFT + (WIDTH - LEFT - RIGHT) * at / end;
    let y = |value: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low).max(1.0);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    );
    let mut degrees = low;
    while degrees <= high {
        let at = y(degrees);
        text.push_str(&format!(
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#dddddd\"/>\n<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{degrees:.0} °C</text>\n",
            WIDTH - RIGHT, LEFT - 8.0, at + 4.0
        ));
        degrees += 10.0;
    }
    let minutes = (end / 60.0).ceil();
    let step = (minutes / 8.0).ceil().max(1.0);
    let mut minute = 0.0;
    while minute * 60.0 <= end {
        text.push_str(&format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{minute:.0} min</text>\n",
            x(minute * 60.0),
            HEIGHT - BOTTOM + 22.0
        ));
        minute += step;
    }
    let at = y(limit);
    text.push_str(&format!(
        "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#b00020\" stroke-dasharray=\"6 4\"/>\n",
        WIDTH - RIGHT
    ));
    for (number, (name, points)) in lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let path: Vec<String> = points.iter().map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value))).collect();
        text.push_str(&format!(
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>\n",
            path.join(" ")
        ));
        let place = TOP + 14.0 + number as f64 * 18.0;
        text.push_str(&format!(
            "<rect x=\"{}\" y=\"{:.1}\" width=\"12\" height=\"4\" fill=\"{colour}\"/>\n<text x=\"{}\" y=\"{place:.1}\">{name}</text>\n",
            WIDTH - RIGHT + 16.0, place - 6.0, WIDTH - RIGHT + 34.0
        ));
    }
    text + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_rises_from_left_to_right_as_its_values_do() {
        let points: Vec<(f64, f64)> =
            (0..80).map(|second| (f64::from(second), 40.0 + f64::from(second) / 2.0)).collect();
        let text = line(&points, 8);
        assert!(text.starts_with('▁') || text.starts_with('▂'), "{text}");
        assert!(text.ends_with('█') && text.chars().count() == 8, "{text}");
        assert_eq!(line(&[], 8), "");
        assert_eq!(line(&[(0.0, 50.0)], 8), "▁");
    }

    #[test]
    fn every_board_has_a_curve_in_the_picture() {
        let points = vec![(0.0, 41.0), (60.0, 73.0), (120.0, 84.5)];
        let picture = svg(&[("kube1", points.clone()), ("kube2", points)], 85.0);
        assert_eq!(picture.matches("<polyline").count(), 2);
        for part in [">kube2</text>", ">40 °C<", ">90 °C<", ">2 min<", "stroke-dasharray"] {
            assert!(picture.contains(part), "{part}: {picture}");
        }
    }
}
