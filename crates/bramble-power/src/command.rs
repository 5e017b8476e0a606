//! Power that a program of this machine switches.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::error::{PowerError, Result};
use crate::{Outlet, Reading};

/// How long the program may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn read(outlet: &Outlet, words: &[String]) -> Result<Reading> {
    let said = run(outlet, words, "status").await?;
    let mut parts = said.split_whitespace();
    let on = match parts.next() {
        Some("on") => true,
        Some("off") => false,
        _ => {
            let said = format!("for `status` it prints neither `on` nor `off`, but: {}", said.trim());
            return Err(PowerError::Refused { device: outlet.device(), said });
        }
    };
    Ok(Reading { on: Some(on), watts: parts.next().and_then(|watts| watts.parse().ok()) })
}

pub(crate) async fn set(outlet: &Outlet, words: &[String], on: bool) -> Result<()> {
    run(outlet, words, if on { "on" } else { "off" }).await.map(|_| ())
}

async fn run(outlet: &Outlet, words: &[String], action: &str) -> Result<String> {
    let fill = |word: &String| {
        let word = word.replace("{action}", action).replace("{node}", outlet.node.as_str());
        match (word.contains("{outlet}"), outlet.number()) {
            (true, None) => outlet.outlet().map(str::to_owned),
            (_, number) => Ok(word.replace("{outlet}", number.unwrap_or_default())),
        }
    };
    let words: Vec<String> = words.iter().map(fill).collect::<Result<_>>()?;
    let [program, arguments @ ..] = words.as_slice() else { return Err(outlet.no_such_outlet()) };
    let refused = |said: String| PowerError::Refused { device: outlet.device(), said };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(PATIENCE, command.output())
        .await
        .map_err(|_| refused(format!("it has not ended after {} s", PATIENCE.as_secs())))?
        .map_err(|error| refused(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
        return Err(refused(format!("`{action}` ended with {}: {last}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
