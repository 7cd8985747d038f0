//! The server as a child that never outlives the demo.

use std::{
    net::SocketAddr,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use signal_hook::{
    consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use super::ask;
use crate::repo;

const PATIENCE: Duration = Duration::from_secs(60);

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    signals: Signals,
}

impl Server {
    /// Starts it with a configuration file, given from the root.
    ///
    /// It gets a process group of its own: Ctrl-C on a terminal goes to the whole group of
    /// the foreground, and the server would get it twice, once from there and once from us.
    ///
    /// # Errors
    /// The binary is missing or cannot be started.
    pub(crate) fn start(address: SocketAddr, config: &str) -> Result<Self> {
        // Before the child is there: no signal may find it without its keeper.
        let signals =
            Signals::new([SIGINT, SIGTERM, SIGHUP, SIGCHLD]).context("signals cannot be handled")?;
        let weir = repo::target()?.join("release/weir");
        let child = Command::new(&weir)
            .args(["serve", "--config", config, "--listen", &address.to_string()])
            .current_dir(repo::root())
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("{} cannot be started", weir.display()))?;
        Ok(Self { child, address, signals })
    }

    /// Waits for `/readyz`; false where the demo was told to stop first.
    ///
    /// # Errors
    /// The server ended, or is not ready within a minute.
    pub(crate) fn wait_until_ready(&mut self) -> Result<bool> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if self.signals.pending().any(|signal| signal != SIGCHLD) {
                return Ok(false);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended before it was ready ({status}); it says why above");
            }
            if ask::status_of(self.address, "/readyz").is_ok_and(|status| status == 200) {
                return Ok(true);
            }
            pause();
        }
        bail!("the server was not ready after {} s", PATIENCE.as_secs())
    }

    /// Serves until a signal says stop, or the server ends by itself.
    ///
    /// # Errors
    /// The server ended by itself, or badly.
    pub(crate) fn serve_until_told(mut self) -> Result<ExitCode> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended by itself ({status})");
            }
            // Sleeps until the next signal; the end of the child is one too.
            if self.signals.wait().any(|signal| signal != SIGCHLD) {
                return self.stop();
            }
        }
    }

    /// Asks the server to drain and waits for it.
    ///
    /// # Errors
    /// It did not end well.
    pub(crate) fn stop(mut self) -> Result<ExitCode> {
        match self.terminate()? {
            status if status.success() => Ok(ExitCode::SUCCESS),
            status => bail!("the server did not end well ({status})"),
        }
    }

    fn terminate(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        // `kill` rather than a crate or unsafe code for one system call.
        Command::new("kill").arg(self.child.id().to_string()).status().context("kill cannot be started")?;
        self.child.wait().context("waiting for the server")
    }
}

impl Drop for Server {
    /// On every way out, an error's too.
    fn drop(&mut self) {
        let _ = self.terminate();
    }
}

fn pause() {
    // Reason: this program waits for one child and has nothing else to do.
    #[allow(clippy::disallowed_methods)]
    std::thread::sleep(Duration::from_millis(20));
}
