//! `bramble run`.

use std::time::Duration;

use bramble_remote::printable;
use bramble_shell::{Commands, OUTPUT, Script};
use serde_json::json;

use crate::drive::visit;
use crate::ui::printer::{Format, Printer, Style};
use crate::{Common, Done, cluster_file};
use bramble_engine::{Event, Session, SshNetwork, Transport, without_address};
use bramble_spec::{Node, group, name_ranges};

#[derive(clap::Args)]
pub(crate) struct Run {
    /// Only these nodes
    #[arg(short, long, value_delimiter = ',', value_name = "NODE")]
    nodes: Vec<String>,
    /// As root
    #[arg(long)]
    sudo: bool,
    /// The command, run by the user's shell on the node
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// A command of the user's may take as long as it likes.
pub(super) const A_YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

struct Answer {
    name: String,
    code: Option<u32>,
    stdout: String,
    stderr: String,
}

async fn answer(session: Session<SshNetwork>, command: &str, sudo: bool) -> Answer {
    session.say(Event::Running);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let result = if sudo {
        // The user's own text is run as it is: by a shell of its own, without the rules for ours.
        let mut run = Commands::new();
        run.call("exec sh -c", [command]);
        let script = Script::new("run the command", &run).silent_for(A_YEAR).printing(OUTPUT);
        let result = session.transport().run(&script, &mut |bytes| stdout.extend_from_slice(bytes)).await;
        if let Ok(exit) = &result {
            stderr.extend_from_slice(exit.stderr.as_bytes());
        }
        result
    } else {
        let take = |error: bool, bytes: &[u8]| if error { &mut stderr } else { &mut stdout }.extend_from_slice(bytes);
        session.transport().connection.run_command(command, OUTPUT, take).await
    };
    let code = match result {
        Ok(exit) => Some(exit.code),
        Err(error) => {
            stderr.extend_from_slice(format!("{error}\n").as_bytes());
            None
        }
    };
    session.say(Event::Looked);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Answer { name: session.node.name.to_string(), code, stdout: text(stdout), stderr: text(stderr) }
}

impl Run {
    /// The exit code is the greatest of the nodes'; 255 for one that could not be reached.
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = cluster_file::open(common, printer)?;
        let nodes: Vec<Node> = project.nodes(&self.nodes)?.into_iter().cloned().collect();
        let known: Vec<String> = nodes.iter().map(|node| node.name.to_string()).collect();
        let command = match self.command.as_slice() {
            [line] => line.clone(),
            words => words.iter().map(|word| bramble_shell::shell_word(word)).collect::<Vec<_>>().join(" "),
        };
        let work = move |session: Session<SshNetwork>| {
            let command = command.clone();
            async move { Ok(answer(session, &command, self.sudo).await) }
        };
        let fleet = visit(&cluster_file::network(&project)?, &nodes, printer, work).await?;
        let mut answers = fleet.nodes;
        answers.extend(fleet.lost.into_iter().map(|(node, error)| Answer {
            name: node.name.to_string(),
            code: None,
            stdout: String::new(),
            stderr: without_address(&node, &error),
        }));
        answers.sort_by_key(|answer| known.iter().position(|known| *known == answer.name));
        let worst = answers.iter().map(|answer| answer.code.map_or(255, |code| code.min(254))).max().unwrap_or(0);
        if printer.format == Format::Json {
            let list: Vec<_> = answers
                .iter()
                .map(|a| json!({ "node": a.name, "code": a.code, "stdout": a.stdout, "stderr": a.stderr }))
                .collect();
            printer.json(&json!(list));
        } else {
            let groups = group(answers.iter().map(|a| (a.name.as_str(), (a.code, &a.stdout, &a.stderr))));
            for (names, (code, stdout, stderr)) in groups {
                let how = match code {
                    Some(0) => String::new(),
                    Some(code) => printer.style(Style::Bad, &format!(" (exit code {code})")),
                    None => printer.style(Style::Bad, " (no answer)"),
                };
                let many = if names.len() > 1 { format!(" ({} nodes)", names.len()) } else { String::new() };
                printer.result(format!("{}{many}{how}", printer.style(Style::Bold, &name_ranges(names))));
                for line in printable(stdout).lines() {
                    printer.result(format!("  {line}"));
                }
                for line in printable(stderr).lines() {
                    printer.error(format!("  {line}"));
                }
            }
        }
        Ok(match u8::try_from(worst) {
            Ok(0) => Done::Good,
            Ok(code) => Done::Code(code),
            Err(_) => Done::Code(1),
        })
    }
}
