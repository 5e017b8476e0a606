//! What happens when somebody ends a command before its end: Ctrl-C, a closed terminal, a machine that is shut down.

use std::sync::Arc;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::Notify;

use crate::ui::printer::Printer;

/// How long a command has to end by itself. Secrets on their way have no names, and go with the process at any time.
const GRACE: Duration = Duration::from_secs(2);

/// A command was ended by a signal.
#[derive(Debug, thiserror::Error)]
#[error("interrupted{}", .next.map(|next| format!("; {next}")).unwrap_or_default())]
pub(crate) struct Interrupted {
    signal: i32,
    next: Option<&'static str>,
}

impl Interrupted {
    /// The exit code by which a shell knows it.
    pub(crate) fn code(&self) -> u8 {
        128_u8.saturating_add(u8::try_from(self.signal).unwrap_or(0))
    }
}

/// Runs a command until it ends, or until it is ended. `next`: what goes on then, and how to go on.
pub(crate) fn block_on<T>(
    printer: &Printer,
    next: Option<&'static str>,
    command: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let ended = Arc::new(Notify::new());
    let (handle, told) = (signals.handle(), ended.clone());
    let (send, receive) = std::sync::mpsc::channel();
    let printer = printer.clone();
    std::thread::spawn(move || {
        let mut pending = signals.forever();
        let Some(signal) = pending.next() else { return };
        // Whoever waits takes what it was before it is told.
        send.send(signal).ok();
        told.notify_one();
        // Nothing that the process has open needs more than its end.
        #[allow(clippy::exit)]
        let exit = move || std::process::exit(i32::from(Interrupted { signal, next }.code()));
        std::thread::spawn(move || {
            std::thread::sleep(GRACE);
            // It is in the middle of something that cannot be left.
            printer.interrupted(&Interrupted { signal, next }.to_string());
            exit();
        });
        // A second one does not wait.
        if pending.next().is_some() {
            exit();
        }
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = command => result,
            () = ended.notified() => Err(Interrupted { signal: receive.recv().unwrap_or(SIGINT), next }.into()),
        }
    });
    runtime.shutdown_background();
    handle.close();
    result
}
