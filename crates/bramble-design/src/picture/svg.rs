//! Shapes and texts.

use std::fmt::Write;

/// Which colours a picture has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    /// What the reader's system prefers.
    Auto,
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

const LIGHT: &str = "--bg:#ffffff;--card:#f5f6f8;--edge:#c9ced6;--text:#1b1f26;--dim:#5c6470;--plane:#b3245a;--worker:#2f6fb5;--gateway:#7a5ab5;--power:#c07a00;--data:#2b7a4b;--disk:#7b8694;--hat:#8f6fc2;--bad:#c62828;--warn:#b26a00;--free:#e4e7ec";
const DARK: &str = "--bg:#14171c;--card:#1f242c;--edge:#414a57;--text:#e8ebf0;--dim:#a3adba;--plane:#f0709f;--worker:#6fb0f2;--gateway:#b79cf0;--power:#f0b44a;--data:#6fcf97;--disk:#8b97a6;--hat:#b79cf0;--bad:#ff7b72;--warn:#f0b44a;--free:#2b323c";

/// The rules for shapes and texts; colours come from variables.
pub(crate) const STYLE: &str = ".br text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:var(--text)}.br .dim{fill:var(--dim)}.br .b{font-weight:600}.br .bad{fill:var(--bad)}.br .card{fill:var(--card);stroke:var(--edge)}.br .line{stroke:var(--edge);fill:none}.br .plane{fill:var(--plane)}.br .worker{fill:var(--worker)}.br .gateway{fill:var(--gateway)}.br .disk{fill:var(--disk)}.br .hat{fill:var(--hat)}.br .power{stroke:var(--power);fill:none}.br .data{stroke:var(--data);fill:none}.br .both{stroke:var(--hat);fill:none}.br .fpower{fill:var(--power)}.br .fdata{fill:var(--data)}.br .free{fill:var(--free)}.br .over{stroke:var(--bad);fill:none}";

/// Colours for a whole page or picture.
pub(crate) fn colours(theme: Theme, scope: &str) -> String {
    match theme {
        Theme::Light => format!("{scope}{{{LIGHT}}}"),
        Theme::Dark => format!("{scope}{{{DARK}}}"),
        Theme::Auto => format!("{scope}{{{LIGHT}}}@media(prefers-color-scheme:dark){{{scope}{{{DARK}}}}}"),
    }
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Where a text stands in relation to its point.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// The widest that a text of common letters gets, in pixels: wide fonts have 0.62 of the size for an average letter.
pub(crate) fn width(text: &str, size: u32) -> u32 {
    text.chars()
        .map(|c| {
            if matches!(c, 'W' | 'M' | 'm' | 'w' | '@' | '%') {
                95
            } else if c.is_ascii_uppercase() {
                72
            } else {
                62
            }
        })
        .sum::<u32>()
        * size
        / 100
}

/// The text, cut so that it fits.
pub(crate) fn fit(text: &str, room: u32, size: u32) -> String {
    if width(text, size) <= room {
        return text.to_owned();
    }
    let mut cut: Vec<char> = text.chars().collect();
    while !cut.is_empty() && width(&cut.iter().collect::<String>(), size) + size > room {
        cut.pop();
    }
    cut.into_iter().collect::<String>().trim_end().to_owned() + "…"
}

/// A picture that is being drawn.
pub(crate) struct Svg {
    body: String,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

impl Svg {
    pub(crate) fn new(width: u32) -> Svg {
        Svg { body: String::new(), width, height: 0 }
    }

    fn grow(&mut self, bottom: u32) {
        self.height = self.height.max(bottom);
    }

    pub(crate) fn rect(&mut self, class: &str, (x, y): (u32, u32), (w, h): (u32, u32), radius: u32) {
        self.grow(y + h);
        write!(self.body, "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" rx=\"{radius}\"/>")
            .ok();
    }

    pub(crate) fn circle(&mut self, class: &str, (x, y): (u32, u32), r: u32) {
        self.grow(y + r);
        write!(self.body, "<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"{r}\"/>").ok();
    }

    pub(crate) fn path(&mut self, class: &str, stroke: u32, d: &str) {
        write!(self.body, "<path class=\"{class}\" stroke-width=\"{stroke}\" d=\"{d}\"/>").ok();
    }

    /// A line that leaves and arrives level.
    pub(crate) fn curve(&mut self, class: &str, stroke: u32, (x1, y1): (u32, u32), (x2, y2): (u32, u32)) {
        let d = if y1 == y2 {
            format!("M{x1} {y1}H{x2}")
        } else {
            let middle = (x1 + x2) / 2;
            format!("M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}")
        };
        self.path(class, stroke, &d);
    }

    /// A text of this size that takes no more than `room`; what is cut stands in its title.
    pub(crate) fn text(&mut self, class: &str, (x, y): (u32, u32), size: u32, anchor: Anchor, room: u32, text: &str) {
        self.grow(y + size / 2);
        let shown = fit(text, room, size);
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let title = if shown == text { String::new() } else { format!("<title>{}</title>", escape(text)) };
        write!(
            self.body,
            "<text class=\"{class}\" x=\"{x}\" y=\"{y}\" font-size=\"{size}\"{anchor}>{title}{}</text>",
            escape(&shown)
        )
        .ok();
    }

    /// The whole picture. Within a page colours come from the page.
    pub(crate) fn finish(self, title: &str, theme: Option<Theme>) -> String {
        let (width, height) = (self.width, self.height + 12);
        let style = theme.map_or(String::new(), |theme| {
            format!(
                "<style>{}{STYLE}</style><rect width=\"100%\" height=\"100%\" style=\"fill:var(--bg)\"/>",
                colours(theme, "svg")
            )
        });
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"br\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\"><title>{}</title>{style}{}</svg>\n",
            escape(title),
            self.body
        )
    }
}
