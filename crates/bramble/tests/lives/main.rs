//! Lives of clusters, in rows of short tests: each begins with the boards of a cluster that was up and well, as they were saved.
//!
//! Some are for `make test`, all are for `make test-lives`: the others are called `lives::…`.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

mod addons;
#[path = "../common/mod.rs"]
mod common;
mod habits;
mod kept;
mod kubeadm;
mod later;
mod released;
mod second_day;
mod shelf;
mod standins;
mod two;
mod wreck;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use crate::shelf::Shelf;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One rack at a time is what a small machine carries.
    arguments.test_threads = Some(1);
    let shelf = Arc::new(Shelf::default());
    let rows = [
        habits::ROWS,
        addons::ROWS,
        kubeadm::ROWS,
        kept::ROWS,
        second_day::ROWS,
        later::ROWS,
        released::ROWS,
        standins::ROWS,
        two::ROWS,
    ]
    .concat();
    let trials = rows.iter().map(|row| {
        let (test, shelf) = (row.test, shelf.clone());
        let run = move || {
            test(&shelf);
            Ok(())
        };
        // Without being asked for, nothing that needs root is run.
        Trial::test(row.name, run).with_ignored_flag(true)
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    shelf.clear();
    conclusion.exit_code()
}

/// A test.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) test: fn(&Shelf),
}
