//! Whose turn it is on a node: what was planned is only done if nobody else has changed the node since it was looked at.

use bramble_shell::{Commands, Script};

use crate::paths::{HOME, LOCK, TURN};

/// A run's right to change a node that it has looked at. It ends when another run changes the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The name of this run, of which there is one: random hexadecimal digits.
    pub run: String,
    /// Who began it.
    pub who: String,
    /// What the node said of the last turn when this run looked at it, as in [`Facts::run`](crate::Facts::run).
    pub seen: String,
}

impl Turn {
    /// Lets a script that keeps the node's lock, as those of plans do, fail if the turn is over.
    pub fn for_plan(&self, script: Script) -> Script {
        script.preceded_by(&self.commands())
    }

    /// Lets any other script fail if the turn is over when it begins.
    pub fn for_step(&self, script: Script) -> Script {
        let mut commands = self.commands();
        commands.fixed(LOCK).fixed("one_turn");
        script.preceded_by(&commands)
    }

    fn commands(&self) -> Commands {
        let mut commands = Commands::new();
        commands.set("B", HOME).set("RUN", &self.run).set("WHO", &self.who).set("SEEN", &self.seen).fixed(TURN);
        commands
    }
}

/// Says who had a turn, by what the node says of it.
pub fn who(run: &str) -> &str {
    run.split_once(' ').map_or("somebody", |(_, who)| who)
}
