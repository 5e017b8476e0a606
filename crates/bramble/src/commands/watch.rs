//! `bramble watch`.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use bramble_engine::{Event as Told, Fleet, Interface, Project, Session, SshNetwork};
use bramble_kube::{Inputs, Sample, journal_script, lifecycle, sample_script};
use bramble_remote::{UnknownKey, printable};
use bramble_spec::{Cluster, Distribution, Node, Role};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::{Notify, mpsc};

use crate::drive::visit;
use crate::ui::printer::{Format, Printer};
use crate::ui::watch::{Board, View};
use crate::{Common, Done, cluster_file};

/// How often a board is asked, at most.
const EVERY: Duration = Duration::from_secs(1);
/// How often the API is asked.
const API: Duration = Duration::from_secs(5);
/// How long a board that does not answer is left alone.
const AGAIN: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub(crate) struct Watch {
    /// Only these nodes; otherwise all
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
}

/// What somebody has to say; boards go by their places in the cluster file.
enum News {
    /// How a board is.
    Sample(usize, Box<Sample>),
    /// A board does not answer.
    Away(usize, String),
    /// A board's journal.
    Journal(usize, String),
    /// A key.
    Key(KeyEvent),
    /// The terminal has another size.
    Resized,
}

/// Gives the terminal back, however this ends.
struct Screen(ratatui::DefaultTerminal);

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

impl Watch {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let mut project = cluster_file::open(common, printer)?;
        let nodes: Vec<Node> = project.nodes(&self.nodes)?.into_iter().cloned().collect();
        if printer.format == Format::Json || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
            bail!(
                "`bramble watch` is for a terminal; `bramble status` says once how the cluster is, also with `-o json`"
            );
        }
        let network = cluster_file::network(&project)?;
        project.cluster.nodes.clone_from(&nodes);
        // The first time with its questions for host keys, if there are any.
        let fleet = visit(&network, &nodes, printer, async |session: Session<SshNetwork>| Ok(session)).await?;
        let (send, news) = mpsc::channel(256);
        let mut sessions: Vec<Session<SshNetwork>> = fleet.nodes;
        let cluster = Arc::new(project.cluster.clone());
        let mut journals = Vec::new();
        for (place, node) in nodes.into_iter().enumerate() {
            let at = sessions.iter().position(|session| session.node.name == node.name);
            let journal = Arc::new(Notify::new());
            journals.push(journal.clone());
            let follower = Follower {
                place,
                node,
                network: network.clone(),
                session: at.map(|at| sessions.swap_remove(at)),
                cluster: cluster.clone(),
                journal,
                send: send.clone(),
            };
            tokio::spawn(follower.follow());
        }
        std::thread::spawn(move || read_keys(&send));
        show(&project, printer, &journals, news).await?;
        Ok(Done::Good)
    }
}

/// Passes on what is typed, until nobody listens.
fn read_keys(send: &mpsc::Sender<News>) {
    while let Ok(event) = event::read() {
        let news = match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => News::Key(key),
            Event::Resize(..) => News::Resized,
            _ => continue,
        };
        if send.blocking_send(news).is_err() {
            return;
        }
    }
}

async fn show(
    project: &Project,
    printer: &Printer,
    journals: &[Arc<Notify>],
    mut news: mpsc::Receiver<News>,
) -> anyhow::Result<()> {
    let cluster = &project.cluster;
    let boards = cluster.nodes.iter();
    let boards = boards.map(|node| Board { name: node.name.to_string(), role: node.role, samples: None, away: None });
    let mut view = View {
        title: title(cluster),
        boards: boards.collect(),
        cluster: None,
        kubernetes: cluster.distribution != Distribution::None,
        selected: 0,
        details: None,
        colour: printer.colour,
    };
    let mut screen = Screen(ratatui::try_init()?);
    let mut clock = tokio::time::interval(EVERY);
    loop {
        screen.0.draw(|frame| view.draw(frame, Instant::now()))?;
        let told = tokio::select! {
            told = news.recv() => told,
            _ = clock.tick() => continue,
        };
        let Some(told) = told else { return Ok(()) };
        let ask = |place: usize| {
            if let Some(journal) = journals.get(place) {
                journal.notify_one();
            }
        };
        match told {
            News::Resized => {}
            News::Sample(place, sample) => {
                let Some(board) = view.boards.get_mut(place) else { continue };
                let mut sample = *sample;
                if let Some(told) = sample.cluster.take() {
                    view.cluster = Some((told, Instant::now()));
                }
                board.away = None;
                board.samples = Some((sample, board.samples.take().map(|(last, _)| last)));
            }
            News::Away(place, why) => {
                let Some(board) = view.boards.get_mut(place) else { continue };
                let since = board.away.take().map_or_else(Instant::now, |(since, _)| since);
                board.away = Some((since, why));
            }
            News::Journal(place, text) => {
                if let Some((shown, journal)) = &mut view.details
                    && *shown == place
                {
                    *journal = Some(text);
                }
            }
            News::Key(key) => {
                let last = view.boards.len().saturating_sub(1);
                match (key.code, &view.details) {
                    (KeyCode::Char('c'), _) if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(()),
                    (KeyCode::Char('q'), _) => return Ok(()),
                    (KeyCode::Esc | KeyCode::Left | KeyCode::Backspace, _) => view.details = None,
                    (KeyCode::Char('r'), Some((place, _))) => {
                        let place = *place;
                        ask(place);
                        view.details = Some((place, None));
                    }
                    (KeyCode::Up | KeyCode::Char('k'), None) => view.selected = view.selected.saturating_sub(1),
                    (KeyCode::Down | KeyCode::Char('j'), None) => view.selected = (view.selected + 1).min(last),
                    (KeyCode::PageUp, None) => view.selected = view.selected.saturating_sub(10),
                    (KeyCode::PageDown, None) => view.selected = (view.selected + 10).min(last),
                    (KeyCode::Home, None) => view.selected = 0,
                    (KeyCode::End, None) => view.selected = last,
                    (KeyCode::Enter | KeyCode::Right, None) => {
                        ask(view.selected);
                        view.details = Some((view.selected, None));
                    }
                    _ => {}
                }
            }
        }
    }
}

fn title(cluster: &Cluster) -> String {
    let inputs = Inputs::default();
    match lifecycle(cluster, &inputs) {
        Some(life) => format!("{}: {}, {} boards", cluster.name, life.name(), cluster.nodes.len()),
        None => format!("{}: {} boards", cluster.name, cluster.nodes.len()),
    }
}

/// Watches one board: one exchange a second at most, over a connection that stays open.
struct Follower {
    place: usize,
    node: Node,
    network: Arc<SshNetwork>,
    session: Option<Session<SshNetwork>>,
    cluster: Arc<Cluster>,
    journal: Arc<Notify>,
    send: mpsc::Sender<News>,
}

impl Follower {
    async fn follow(mut self) {
        let place = self.place;
        let inputs = Inputs::default();
        let mut asked: Option<Instant> = None;
        loop {
            let begun = Instant::now();
            let Some(session) = &self.session else {
                match self.connect().await {
                    Ok(session) => self.session = Some(session),
                    Err(why) => {
                        if self.send.send(News::Away(place, why)).await.is_err() {
                            return;
                        }
                        tokio::time::sleep(AGAIN).await;
                    }
                }
                continue;
            };
            // Each control plane tells what the API says: the first ones may be away.
            let speaks = self.node.role == Role::ControlPlane && asked.is_none_or(|at| at.elapsed() >= API);
            let told = {
                let life = if speaks { lifecycle(&self.cluster, &inputs) } else { None };
                let script = sample_script(life.as_deref());
                session.ask(&script, |_, _| {}).await
            };
            if speaks {
                asked = Some(Instant::now());
            }
            let told = match told {
                Err(_) if speaks => {
                    // Its API may be away, and the board be well.
                    session.ask(&sample_script(None), |_, _| {}).await
                }
                told => told,
            };
            let news = match told {
                Ok(text) => News::Sample(place, Box::new(Sample::parse(&text))),
                Err(error) => {
                    self.session = None;
                    News::Away(place, printable(&format!("{error:#}")))
                }
            };
            if self.send.send(news).await.is_err() {
                return;
            }
            let Some(session) = &self.session else { continue };
            tokio::select! {
                () = tokio::time::sleep(EVERY.saturating_sub(begun.elapsed())) => {}
                () = self.journal.notified() => {
                    let text = match session.ask(&journal_script(), |_, _| {}).await {
                        Ok(text) => text.lines().map(|line| printable(line) + "\n").collect(),
                        Err(error) => printable(&format!("{error:#}")),
                    };
                    if self.send.send(News::Journal(place, text)).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn connect(&self) -> Result<Session<SshNetwork>, String> {
        let interface: Arc<dyn Interface> = Arc::new(Nobody);
        let work = async |session: Session<SshNetwork>| Ok(session);
        let fleet = Fleet::visit(&self.network, std::slice::from_ref(&self.node), &interface, work).await;
        let mut fleet = fleet.map_err(|error| error.to_string())?;
        match fleet.nodes.pop() {
            Some(session) => Ok(session),
            None => Err(fleet.lost.pop().map_or_else(String::new, |(_, error)| printable(&format!("{error:#}")))),
        }
    }
}

/// Nobody hears what happens while a connection is made again, and nobody is asked.
struct Nobody;

impl bramble_fetch::Watcher for Nobody {
    fn note(&self, _: &str) {}

    fn transfer(&self, _: &str, _: u64, _: Option<u64>) {}
}

impl Interface for Nobody {
    fn event(&self, _: &str, _: Told) {}

    fn trusts(&self, _: &[UnknownKey]) -> bool {
        false
    }
}
