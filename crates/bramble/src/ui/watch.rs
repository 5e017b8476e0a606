//! The live view of a cluster: what is on the screen, given what is known.

use std::time::{Duration, Instant};

use bramble_kube::{ClusterSample, NodeSample, Sample};
use bramble_spec::Role;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table, TableState, Wrap};

/// Above this a board is warm, and above the second hot: it is throttled from 80 °C on (raspberrypi.com, "Frequency management and
/// thermal control").
const WARM: f64 = 65.0;
const HOT: f64 = 78.0;
/// What the bits of `get_throttled` mean that are true now.
const NOW: [(u32, &str); 4] = [(0, "under-voltage"), (1, "capped"), (2, "throttled"), (3, "hot")];
/// An fsync of etcd's log should take less than this at the mean, in seconds (etcd.io, "Hardware recommendations").
const SLOW: f64 = 0.010;

/// The columns of figures, each with its width.
const FIGURES: [(&str, u16); 7] =
    [("CPU", 4), ("LOAD", 5), ("MEM", 4), ("DISK", 4), ("TEMP", 5), ("PODS", 5), ("UP", 5)];
/// The width of the column of roles.
const ROLE: u16 = 7;

/// A board, as it was last.
#[derive(Debug, Clone)]
pub(crate) struct Board {
    /// Its name.
    pub(crate) name: String,
    /// Its role.
    pub(crate) role: Role,
    /// What it said last, and what it said before that.
    pub(crate) samples: Option<(Sample, Option<Sample>)>,
    /// Since when it does not answer, and why.
    pub(crate) away: Option<(Instant, String)>,
}

impl Board {
    /// What it said last, if it answers.
    fn last(&self) -> Option<&Sample> {
        self.samples.as_ref().filter(|_| self.away.is_none()).map(|(last, _)| last)
    }
}

/// All that the view shows.
#[derive(Debug)]
pub(crate) struct View {
    /// The first line: the cluster and what it is.
    pub(crate) title: String,
    /// The boards in the order of the cluster file.
    pub(crate) boards: Vec<Board>,
    /// What the API said last, and when.
    pub(crate) cluster: Option<(ClusterSample, Instant)>,
    /// Whether there is Kubernetes.
    pub(crate) kubernetes: bool,
    /// The line of the table that the cursor is on.
    pub(crate) selected: usize,
    /// The details of a board: its place among them, and its journal once that is there.
    pub(crate) details: Option<(usize, Option<String>)>,
    /// Whether colours are used.
    pub(crate) colour: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Good,
    Note,
    Bad,
    Dim,
    Plain,
}

impl View {
    fn style(&self, mood: Mood) -> Style {
        let colour = match mood {
            Mood::Good => Color::Green,
            Mood::Note => Color::Yellow,
            Mood::Bad => Color::Red,
            Mood::Dim => return Style::new().add_modifier(Modifier::DIM),
            Mood::Plain => return Style::new(),
        };
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    /// Draws it.
    pub(crate) fn draw(&self, frame: &mut Frame<'_>, now: Instant) {
        let all = frame.area();
        let wide = all.width >= 130;
        let told = self.head(now);
        let lines: usize = told.iter().map(|line| line.width().div_ceil(usize::from(all.width.max(1))).max(1)).sum();
        let lines = u16::try_from(lines).unwrap_or(4).min(4);
        let [head, body, foot] =
            Layout::vertical([Constraint::Length(lines), Constraint::Fill(1), Constraint::Length(1)]).areas(all);
        let told = Paragraph::new(told).wrap(Wrap { trim: true });
        frame.render_widget(told, head);
        let keys = match self.details {
            Some(_) => "Esc back  r read the journal again  q quit",
            None => "↑ ↓ choose a board  Enter its journal  q quit",
        };
        frame.render_widget(Paragraph::new(keys).style(self.style(Mood::Dim)), foot);
        if let Some((place, journal)) = &self.details {
            if let Some(board) = self.boards.get(*place) {
                self.draw_details(frame, body, board, journal.as_deref(), now);
            }
            return;
        }
        let rows = u16::try_from(self.boards.len()).unwrap_or(u16::MAX).saturating_add(1);
        let events = self.kubernetes && body.height > 8;
        if wide && events {
            let [left, right] = Layout::horizontal([Constraint::Length(86), Constraint::Fill(1)]).areas(body);
            self.draw_boards(frame, left, now);
            self.draw_events(frame, right, Borders::LEFT);
        } else if events {
            let least = (body.height / 3).max(4);
            let table = rows.min(body.height - least);
            let [top, bottom] = Layout::vertical([Constraint::Length(table), Constraint::Fill(1)]).areas(body);
            self.draw_boards(frame, top, now);
            self.draw_events(frame, bottom, Borders::TOP);
        } else {
            self.draw_boards(frame, body, now);
        }
    }

    fn head(&self, now: Instant) -> Vec<Line<'_>> {
        let mut second = Vec::new();
        let mut say = |text: String, mood: Mood| {
            if !second.is_empty() {
                second.push(Span::raw("  "));
            }
            second.push(Span::styled(text, self.style(mood)));
        };
        let away = self.boards.iter().filter(|board| board.away.is_some()).count();
        if away > 0 {
            say(format!("{away} of {} boards do not answer", self.boards.len()), Mood::Bad);
        }
        if let Some((cluster, at)) = &self.cluster {
            let members = self.boards.iter().filter(|board| board.role != Role::Gateway).count();
            let ready = cluster.nodes.values().filter(|node| is_ready(node)).count();
            say(format!("{ready} of {members} Ready"), if ready == members { Mood::Good } else { Mood::Bad });
            let pods: usize = cluster.nodes.values().map(|node| node.pods).sum();
            let unready: usize = cluster.nodes.values().map(|node| node.unready.len()).sum();
            let waiting = cluster.waiting.len();
            say(format!("{pods} pods"), Mood::Plain);
            for (count, what) in [(unready, "not ready"), (waiting, "on no node")] {
                if count > 0 {
                    say(format!("{count} {what}"), Mood::Note);
                }
            }
            let age = now.duration_since(*at);
            if age > Duration::from_secs(20) {
                say(format!("the API is silent for {}", span(age.as_secs())), Mood::Bad);
            }
        } else if self.kubernetes {
            say("the API has not answered yet".to_owned(), Mood::Note);
        }
        let members: Vec<(&Board, (bool, bool), &Sample)> = self
            .boards
            .iter()
            .filter_map(|board| {
                let sample = board.last()?;
                Some((board, sample.etcd?, sample))
            })
            .collect();
        if !members.is_empty() {
            let leader = members.iter().find(|(_, (_, is), _)| *is).map(|(board, ..)| board.name.as_str());
            let lost = members.iter().filter(|(_, (has, _), _)| !has).count();
            match leader {
                Some(leader) if members.len() == 1 => say(format!("etcd on {leader}"), Mood::Plain),
                Some(leader) if lost == 0 => {
                    say(format!("etcd: {leader} leads {} members", members.len()), Mood::Plain);
                }
                Some(leader) => say(format!("etcd: {leader} leads, {lost} members do not know it"), Mood::Bad),
                None => say("etcd has no leader here".to_owned(), Mood::Bad),
            }
            let mean = |sample: &Sample| if sample.fsync.1 > 0.0 { sample.fsync.0 / sample.fsync.1 } else { 0.0 };
            let slowest =
                members.iter().map(|(board, _, sample)| (mean(sample), board)).max_by(|a, b| a.0.total_cmp(&b.0));
            if let Some((seconds, board)) = slowest.filter(|(seconds, _)| *seconds > SLOW) {
                say(format!("{} writes in {:.0} ms", board.name, seconds * 1000.0), Mood::Note);
            }
        }
        let works = self.boards.iter().find_map(|board| board.last()?.works.as_deref());
        if let Some(works) = works {
            say(format!("bramble runs: {works}"), Mood::Note);
        }
        vec![Line::styled(self.title.as_str(), Style::new().add_modifier(Modifier::BOLD)), Line::from(second)]
    }

    /// What the API says of a board.
    fn node(&self, board: &Board) -> Option<&NodeSample> {
        self.cluster.as_ref().and_then(|(cluster, _)| cluster.nodes.get(&board.name))
    }

    /// What a board is in a few words.
    fn state(&self, board: &Board, now: Instant) -> (String, Mood) {
        if let Some((since, _)) = &board.away {
            return (format!("away {}", span(now.duration_since(*since).as_secs())), Mood::Bad);
        }
        let Some((sample, _)) = &board.samples else { return ("connecting".to_owned(), Mood::Dim) };
        let mut words: Vec<String> = Vec::new();
        let mut mood = Mood::Good;
        let node = self.node(board);
        match node {
            Some(node) if is_ready(node) => words.push("Ready".to_owned()),
            Some(_) => {
                words.push("NotReady".to_owned());
                mood = Mood::Bad;
            }
            None if self.kubernetes && self.cluster.is_some() && board.role != Role::Gateway => {
                words.push("no node".to_owned());
                mood = Mood::Note;
            }
            None => words.push("up".to_owned()),
        }
        if let Some(node) = node {
            let pressures = node.conditions.iter().filter(|is| is.ends_with("Pressure") || *is == "NetworkUnavailable");
            for pressure in pressures {
                words.push(pressure.clone());
                mood = Mood::Bad;
            }
            if node.cordoned {
                words.push("cordoned".to_owned());
                mood = if mood == Mood::Bad { mood } else { Mood::Note };
            }
        }
        for (bit, word) in NOW {
            if sample.throttled.is_some_and(|bits| bits >> bit & 1 == 1) {
                words.push(word.to_owned());
                mood = Mood::Bad;
            }
        }
        (words.join(" "), mood)
    }

    fn draw_boards(&self, frame: &mut Frame<'_>, area: Rect, now: Instant) {
        let length =
            |words: &mut dyn Iterator<Item = usize>| u16::try_from(words.max().unwrap_or(0)).unwrap_or(u16::MAX);
        let states: Vec<(String, Mood)> = self.boards.iter().map(|board| self.state(board, now)).collect();
        let name = length(&mut self.boards.iter().map(|board| board.name.chars().count())).clamp(4, 20);
        let state = length(&mut states.iter().map(|(state, _)| state.chars().count()));
        let figures = FIGURES.iter().map(|(_, width)| width + 1).sum::<u16>();
        // What a board is counts less than how it is.
        let roles = area.width > name + 1 + state + figures + ROLE;
        let rows = self.boards.iter().zip(states).map(|(board, (state, mood))| {
            let mut cells = vec![Cell::from(board.name.as_str())];
            cells.extend(roles.then(|| Cell::from(role(board.role))));
            cells.push(Cell::from(Span::styled(state, self.style(mood))));
            cells.extend(self.figures(board).into_iter().map(|figure| {
                let (text, mood) = figure.unwrap_or(("–".to_owned(), Mood::Dim));
                Cell::from(Line::styled(text, self.style(mood)).right_aligned())
            }));
            Row::new(cells)
        });
        let mut title = vec![Cell::from("NODE")];
        title.extend(roles.then(|| Cell::from("ROLE")));
        title.push(Cell::from("STATE"));
        title.extend(FIGURES.iter().map(|(name, _)| Cell::from(Line::from(*name).right_aligned())));
        let mut widths = vec![Constraint::Length(name)];
        widths.extend(roles.then_some(Constraint::Length(ROLE)));
        widths.push(Constraint::Fill(1));
        widths.extend(FIGURES.iter().map(|(_, width)| Constraint::Length(*width)));
        let table = Table::new(rows, widths)
            .header(Row::new(title).style(Style::new().add_modifier(Modifier::BOLD)))
            .column_spacing(1)
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        let mut state = TableState::default().with_selected(Some(self.selected));
        frame.render_stateful_widget(table, area, &mut state);
    }

    /// The figures of a board, in the order of [`FIGURES`]; nothing where it does not tell.
    fn figures(&self, board: &Board) -> [Option<(String, Mood)>; FIGURES.len()] {
        let last = board.last();
        let share = |part: f64, bad: f64| (format!("{:.0}%", part * 100.0), mood(part, 0.8, bad));
        let memory = last.filter(|last| last.memory.0 > 0);
        let node = self.node(board);
        [
            last.and_then(|last| Some(share(busy(last, board.samples.as_ref()?.1.as_ref()?)?, 0.95))),
            last.map(|last| (format!("{:.1}", last.load), Mood::Plain)),
            memory.map(|last| share(1.0 - last.memory.1 as f64 / last.memory.0 as f64, 0.95)),
            last.and_then(|last| Some(share(f64::from(last.disk?) / 100.0, 0.9))),
            last.and_then(|last| last.temperature).map(|degrees| (format!("{degrees:.0}°C"), mood(degrees, WARM, HOT))),
            node.map(|node| match node.unready.len() {
                0 => (node.pods.to_string(), Mood::Plain),
                unready => (format!("{}/{}", node.pods - unready, node.pods), Mood::Note),
            }),
            last.map(|last| (span(last.uptime as u64), Mood::Plain)),
        ]
    }

    fn draw_events(&self, frame: &mut Frame<'_>, area: Rect, borders: Borders) {
        let block = Block::new().borders(borders).title(" what happened last ").border_style(self.style(Mood::Dim));
        let inside = block.inner(area);
        frame.render_widget(block, area);
        let events = self.cluster.as_ref().map_or(&[][..], |(cluster, _)| &cluster.events);
        let mut lines: Vec<Line<'_>> = Vec::new();
        // The newest first: what fits is what counts.
        for event in events.iter().rev().take(usize::from(inside.height)) {
            let at = event.at.get(11..19).unwrap_or("        ");
            let mood = if event.warning { Mood::Note } else { Mood::Plain };
            lines.push(Line::from(vec![
                Span::styled(format!("{at} "), self.style(Mood::Dim)),
                Span::styled(format!("{} ", event.reason), self.style(mood)),
                Span::raw(format!("{}: {}", event.object, event.message)),
            ]));
        }
        if lines.is_empty() {
            lines.push(Line::styled("nothing in the last hour", self.style(Mood::Dim)));
        }
        frame.render_widget(Paragraph::new(lines), inside);
    }

    fn draw_details(&self, frame: &mut Frame<'_>, area: Rect, board: &Board, journal: Option<&str>, now: Instant) {
        let (state, mood) = self.state(board, now);
        let mut lines = vec![Line::from(vec![
            Span::styled(format!("{} ({})  ", board.name, board.role), Style::new().add_modifier(Modifier::BOLD)),
            Span::styled(state, self.style(mood)),
        ])];
        if let Some((_, why)) = &board.away {
            lines.push(Line::styled(why.as_str(), self.style(Mood::Bad)));
        }
        let node = self.node(board);
        if let Some(node) = node.filter(|node| !node.unready.is_empty()) {
            lines.push(Line::styled(
                format!("pods that are not ready: {}", node.unready.join(", ")),
                self.style(Mood::Note),
            ));
        }
        let height = u16::try_from(lines.len()).unwrap_or(3).min(area.height / 2);
        let [top, rest] = Layout::vertical([Constraint::Length(height), Constraint::Fill(1)]).areas(area);
        frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: true }), top);
        let block = Block::new()
            .borders(Borders::TOP)
            .title(" warnings of its journal, the last first ")
            .border_style(self.style(Mood::Dim));
        let inside = block.inner(rest);
        frame.render_widget(block, rest);
        let text = match journal {
            None => vec![Line::styled("reading …", self.style(Mood::Dim))],
            Some(text) if text.trim().is_empty() => vec![Line::styled("there are none", self.style(Mood::Dim))],
            Some(text) => text.lines().rev().map(Line::from).collect(),
        };
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }), inside);
    }
}

/// What a figure means: from `note` on it is worth a look, from `bad` on it is too much.
fn mood(figure: f64, note: f64, bad: f64) -> Mood {
    if figure >= bad {
        Mood::Bad
    } else if figure >= note {
        Mood::Note
    } else {
        Mood::Plain
    }
}

/// How busy the processors were between two samples, from 0 to 1.
fn busy(last: &Sample, before: &Sample) -> Option<f64> {
    let all = last.ticks.0.checked_sub(before.ticks.0).filter(|all| *all > 0)?;
    let idle = last.ticks.1.saturating_sub(before.ticks.1).min(all);
    Some((all - idle) as f64 / all as f64)
}

fn role(role: Role) -> &'static str {
    match role {
        Role::ControlPlane => "control",
        Role::Worker => "worker",
        Role::Gateway => "gateway",
    }
}

/// Says how long something is, in five letters at most.
fn span(seconds: u64) -> String {
    match seconds {
        0..100 => format!("{seconds}s"),
        100..6000 => format!("{}m", seconds / 60),
        6000..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn is_ready(node: &NodeSample) -> bool {
    node.conditions.iter().any(|is| is == "Ready")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bramble_kube::ClusterEvent;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn view(count: usize, now: Instant) -> View {
        let boards = (1..=count).map(|at| {
            let last = Sample {
                ticks: (2000, 1500),
                load: 0.7,
                memory: (4_000_000, 1_500_000),
                disk: Some(41),
                temperature: Some(if at == 2 { 81.4 } else { 52.0 }),
                throttled: Some(if at == 2 { 0x5 } else { 0 }),
                uptime: 93_600.0,
                etcd: (at == 1).then_some((true, true)),
                ..Sample::default()
            };
            let before = Sample { ticks: (1000, 800), ..Sample::default() };
            let role = if at == 1 { Role::ControlPlane } else { Role::Worker };
            let away = (at == 3).then(|| {
                (now.checked_sub(Duration::from_secs(12)).unwrap_or(now), "it does not answer: timed out".to_owned())
            });
            Board { name: format!("kube{at}"), role, samples: Some((last, Some(before))), away }
        });
        let boards: Vec<Board> = boards.collect();
        let nodes = boards.iter().map(|board| {
            let ready = if board.away.is_some() { vec![] } else { vec!["Ready".to_owned()] };
            (board.name.clone(), NodeSample { conditions: ready, pods: 9, ..NodeSample::default() })
        });
        let event = ClusterEvent {
            at: "2026-11-30T18:22:01Z".into(),
            warning: true,
            object: "Pod default/web".into(),
            reason: "BackOff".into(),
            message: "Back-off restarting failed container".into(),
        };
        let cluster =
            ClusterSample { nodes: nodes.collect(), waiting: vec!["default/late".into()], events: vec![event] };
        View {
            title: "shelf: kubeadm 1.36.3".into(),
            boards,
            cluster: Some((cluster, now)),
            kubernetes: true,
            selected: 0,
            details: None,
            colour: true,
        }
    }

    fn screen(view: &View, width: u16, height: u16, now: Instant) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view.draw(frame, now)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let line = |row: u16| (0..width).map(|column| buffer[(column, row)].symbol().to_owned()).collect::<String>();
        (0..height).map(|row| line(row).trim_end().to_owned() + "\n").collect()
    }

    #[test]
    fn a_small_terminal_shows_three_boards_and_what_happened() {
        let now = Instant::now();
        insta::assert_snapshot!(screen(&view(3, now), 80, 24, now));
    }

    #[test]
    fn thirty_boards_fit_on_a_large_terminal_and_the_cursor_stays_in_sight_on_a_small_one() {
        let now = Instant::now();
        let mut view = view(30, now);
        let large = screen(&view, 160, 48, now);
        assert!((1..=30).all(|at| large.contains(&format!("kube{at} "))), "{large}");
        view.selected = 29;
        let small = screen(&view, 80, 24, now);
        assert!(small.contains("kube30") && small.contains("BackOff"), "{small}");
    }

    #[test]
    fn the_details_of_a_board_say_why_it_does_not_answer() {
        let now = Instant::now();
        let mut view = view(3, now);
        view.details = Some((2, Some("first\nlast\n".into())));
        let text = screen(&view, 80, 24, now);
        assert!(text.contains("it does not answer: timed out"), "{text}");
        assert!(text.find("last\n").unwrap() < text.find("first\n").unwrap(), "{text}");
    }
}
