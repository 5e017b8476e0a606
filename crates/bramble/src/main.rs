//! `bramble`: from a pile of boards to a running Kubernetes cluster.

mod arguments;
mod cluster_file;
mod commands;
mod confirmed;
mod drive;
mod interrupt;
mod sudo_user;
mod ui;
mod user_file;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rustix::process::{Resource, Rlimit};

pub(crate) use crate::arguments::Common;
use crate::interrupt::{Interrupted, block_on};
use crate::ui::printer::{Colour, Format, Printer, Style};

/// The heading of options that every command has.
const OF_ALL: &str = "Global options";

#[derive(Parser)]
#[command(
    name = "bramble",
    version,
    about = "From a pile of Raspberry Pis to a running Kubernetes cluster",
    max_term_width = 110
)]
struct Arguments {
    /// Output format
    #[arg(short, long, global = true, value_enum, default_value = "text", help_heading = OF_ALL)]
    output: Format,
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN", help_heading = OF_ALL)]
    color: Colour,
    /// Hide progress: print results and errors only
    #[arg(short, long, global = true, help_heading = OF_ALL)]
    quiet: bool,
    /// Show each script that runs and what the nodes print
    #[arg(short, long, global = true, help_heading = OF_ALL)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a first cluster file
    Init(commands::init::Init),
    /// Check the hardware: power, ports, memory, disks, addresses, cost (exit code 3 if something cannot work)
    Design(commands::design::Design),
    /// Show what `up` would change, without changing anything (exit code 3 if there is something)
    Plan(commands::plan::Plan),
    /// Make the cluster what the cluster file says
    #[command(visible_alias = "apply")]
    Up(commands::up::Up),
    /// Upgrade the boards' system and firmware, one board after the other, while the cluster runs
    Upgrade(commands::maintain::Upgrade),
    /// Boot boards again, one after the other, while the cluster runs
    Reboot(commands::maintain::Reboot),
    /// Switch all boards off, in order: the state is saved, pods end, then workers, control planes, the gateway
    Off(commands::power::SwitchOff),
    /// Wait until a cluster that was switched off is as it was, and say what is not
    On(commands::power::SwitchOn),
    /// Ask what power boards have, give it, take it away: PoE ports, plugs, slots
    Power(commands::outlets::Switch),
    /// Say of a board that it is off for certain: its pods and volumes go elsewhere at once
    Out(commands::power::Out),
    /// Show the health of nodes and cluster
    Status(commands::status::Status),
    /// Show how boards and cluster are, live, until you press q
    Watch(commands::watch::Watch),
    /// Say why nodes, or the cluster, are not well: the cause, where it is seen, what to do
    Why(commands::why::Why),
    /// Measure what the boards write to their disks, by program, and how long the disks last
    Wear(commands::wear::Wear),
    /// Keep all cores busy, and say whether the boards are cooled well enough
    Soak(commands::soak::Soak),
    /// Gather what somebody who helps wants to see into a file, without secrets and addresses
    Report(commands::report::Report),
    /// Add-ons: what they need and what they are made of
    Addons(commands::addons::Addons),
    /// Run a command on all nodes
    Run(commands::run::Run),
    /// Log in to a node, by the keys and the way of the cluster file, or run a command there
    Ssh(commands::ssh::Ssh),
    /// Show the journal of a node
    Logs(commands::logs::Logs),
    /// Put the cluster into your kubeconfig
    Kubeconfig(commands::kubeconfig::Kubeconfig),
    /// Save the state of the cluster, encrypted, into a file
    Backup(commands::backup::Backup),
    /// Bring a cluster back from a backup
    Restore(commands::restore::Restore),
    /// Make secrets of the cluster anew while it runs: tokens, encryption keys
    Rotate(commands::rotate::Rotate),
    /// Bundles: releases for machines without a network
    Bundle(commands::bundle::Bundle),
    /// Write the disks of boards: cards, sticks, drives, several at once
    Flash(commands::flash::Flash),
    /// Let boards boot from the network and write their own disks: no card is moved
    Netboot(commands::netboot::Netboot),
    /// Find the boards on the network, and which node each is (exit code 3 if one is not where the cluster file says)
    Discover(commands::discover::Discover),
    /// Put a board that is found on the network into the cluster file
    Adopt(commands::adopt::Adopt),
    /// Show, or set, from what boards boot: the EEPROM of Raspberry Pi 4 and 5 and what is built like them
    BootOrder(commands::boot_order::BootOrder),
    /// Copy the system of a running board to another of its disks, from which it boots then: from a card to an SSD
    MoveRoot(commands::move_root::MoveRoot),
    /// Images: of systems for the boards' disks, and whether container images fit
    Image(commands::image::Image),
    /// Undo everything that bramble did on the nodes
    #[command(visible_aliases = ["destroy", "reset"])]
    Down(commands::down::Down),
    /// A virtual rack of boards on this machine
    Lab(commands::lab::Lab),
    /// Print what lets a shell complete commands, options, nodes and clusters
    Completions(commands::completions::Completions),
    /// Write the manual pages into a folder
    Man(commands::completions::Man),
    /// List the boards that can be named in a cluster file
    Boards,
    /// List all parts that can be named in a cluster file
    Parts(commands::parts::Parts),
    /// Print the JSON Schema of the cluster file
    Schema {
        /// That of files of parts (`hardware.catalogue`) instead
        #[arg(long)]
        parts: bool,
    },
}

const UP: Option<&str> = Some(
    "a change that a board has begun goes on there to its end, and no other one begins; `bramble up` goes on from there",
);
const DOWN: Option<&str> = Some(
    "what a board has begun to undo goes on there to its end, and nothing else begins; `bramble down` goes on from there",
);
const RESTORE: Option<&str> = Some(
    "a change that a board has begun goes on there to its end, and no other one begins; the cluster is not restored before \
     the same command was run to its end",
);
const BACKUP: Option<&str> = Some("no backup was written");
const MAINTENANCE: Option<&str> = Some(
    "what a board has begun goes on there to its end, and no other one begins; the same command again goes on, and `bramble up` \
     uncordons what was left cordoned",
);
const NETBOOT: Option<&str> =
    Some("boards that were writing do not boot from what they have; they go on when the same command runs again");
const OFF: Option<&str> =
    Some("boards that were told to halt go off; the others run on: `bramble off` goes on from there");
const ROTATE: Option<&str> =
    Some("nodes that have not taken the new secret need it when they start again: run the same command again");
const RUN: Option<&str> = Some("what a board has begun goes on there to its end");
const MOVE_ROOT: Option<&str> =
    Some("the copy is not finished, and the board boots from the disk that it had; run the same command again");

fn main() -> ExitCode {
    commands::completions::answer();
    let (arguments, common) = arguments::parse();
    raise_file_limit();
    let common = &common;
    let printer = Printer::new(arguments.output, arguments.color, arguments.quiet, arguments.verbose);
    let result = match arguments.command {
        Command::Init(command) => command.run(common, &printer),
        Command::Plan(command) => block_on(&printer, None, command.run(common, &printer)),
        Command::Up(command) => block_on(&printer, UP, command.run(common, &printer)),
        Command::Upgrade(command) => block_on(&printer, MAINTENANCE, command.run(common, &printer)),
        Command::Reboot(command) => block_on(&printer, MAINTENANCE, command.run(common, &printer)),
        Command::Off(command) => block_on(&printer, OFF, command.run(common, &printer)),
        Command::On(command) => block_on(&printer, None, command.run(common, &printer)),
        Command::Power(command) => block_on(&printer, None, command.run(common, &printer)),
        Command::Out(command) => block_on(&printer, None, command.run(common, &printer)),
        Command::Status(command) => block_on(&printer, None, command.run(common, &printer)),
        Command::Watch(command) => block_on(&printer, None, command.run(common, &printer)),
        Command::Why(command) => block_on(&printer, None, command.run(common, &printer)),
        Command::Soak(command) => block_on(&printer, None, command.run(common, &printer)),
        Command::Wear(command) => block_on(&printer, None, command.run(common, &printer)),
        Command::Report(command) => block_on(&printer, None, command.run(common, &printer)),
        Command::Addons(command) => block_on(&printer, None, command.run(common, &printer)),
        Command::Run(command) => block_on(&printer, RUN, command.run(common, &printer)),
        Command::Ssh(command) => command.run(common, &printer),
        Command::Logs(command) => block_on(&printer, None, command.run(common, &printer)),
        Command::Completions(command) => command.run(&printer),
        Command::Man(command) => command.run(),
        Command::Kubeconfig(command) => block_on(&printer, None, command.run(common, &printer)),
        Command::Backup(command) => block_on(&printer, BACKUP, command.run(common, &printer)),
        Command::Restore(command) => block_on(&printer, RESTORE, command.run(common, &printer)),
        Command::Rotate(command) => block_on(&printer, ROTATE, command.run(common, &printer)),
        Command::Bundle(command) => command.run(common, &printer),
        Command::Flash(command) => command.run(common, &printer),
        Command::Netboot(command) => block_on(&printer, NETBOOT, command.run(common, &printer)),
        Command::Discover(command) => block_on(&printer, None, command.run(common, &printer)),
        Command::Adopt(command) => block_on(&printer, None, command.run(common, &printer)),
        Command::BootOrder(command) => block_on(&printer, RUN, command.run(common, &printer)),
        Command::MoveRoot(command) => block_on(&printer, MOVE_ROOT, command.run(common, &printer)),
        Command::Image(command) => command.run(common, &printer),
        Command::Down(command) => block_on(&printer, DOWN, command.run(common, &printer)),
        Command::Lab(command) => command.run(&printer),
        Command::Design(command) => command.run(common, &printer),
        Command::Boards => commands::parts::boards(&printer),
        Command::Parts(command) => command.run(common, &printer),
        Command::Schema { parts } => {
            printer.json(&if parts { bramble_spec::parts_schema() } else { bramble_spec::schema() });
            Ok(Done::Good)
        }
    };
    sudo_user::hand_back(&common.file);
    match result {
        Ok(Done::Good) => ExitCode::SUCCESS,
        Ok(Done::Code(code)) => ExitCode::from(code),
        Err(error) => {
            let code = match error.downcast_ref::<Interrupted>() {
                Some(interrupted) => {
                    printer.interrupted(&interrupted.to_string());
                    return ExitCode::from(interrupted.code());
                }
                None if error.is::<cluster_file::InvalidFile>() => 2,
                None => 1,
            };
            let mut text = format!("{} {error}", printer.style(Style::Bad, "error:"));
            for cause in error.chain().skip(1) {
                let cause = cause.to_string();
                if !text.contains(&cause) {
                    text.push_str(&format!(": {cause}"));
                }
            }
            printer.error(text);
            ExitCode::from(code)
        }
    }
}

/// How a command ended that did what it was asked for.
pub(crate) enum Done {
    Good,
    /// With an exit code that tells something.
    Code(u8),
}

/// A connection takes a file descriptor, and 1024 of them, the usual soft limit, are not enough for a thousand nodes.
fn raise_file_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    // Where that is refused, the error of the first connection too many says what to do.
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).ok();
}
