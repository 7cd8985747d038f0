//! `make demo`: from a fresh clone to two served models and a real answer from each.

mod ask;
mod server;

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use self::{ask::Question, server::Server};
use crate::{
    fetch, repo,
    say::{self, Style},
};

const DEFAULT_PORT: u16 = 8000;

/// Builds, fetches, serves, asks, and serves on until it is told to stop.
///
/// # Errors
/// The port is taken, the build fails, the server does not come up or answers wrongly.
pub(crate) fn run(words: &[&str]) -> Result<ExitCode> {
    let style = Style::of_stderr();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port(words)?));
    // Before the build: nobody should wait two minutes to be told this.
    check_free(address)?;
    build(style)?;
    let config = configuration(style);
    let mut server = Server::start(address, config)?;
    if !server.wait_until_ready()? {
        return server.stop();
    }
    for question in ask::questions(config == BOTH)? {
        show(&question, address, style)?;
    }
    say::note(format!("\n{}  http://{address}/docs", style.bold("docs page")));
    say::note(format!("{}       Ctrl-C\n", style.bold("stop")));
    server.serve_until_told()
}

const BOTH: &str = "examples/weir.toml";
const HOUSING: &str = "examples/housing.toml";

fn port(words: &[&str]) -> Result<u16> {
    match words {
        [] => Ok(DEFAULT_PORT),
        ["--port", number] => match number.parse() {
            Ok(port) if port > 0 => Ok(port),
            _ => bail!("PORT={number} is not a port: give a number from 1 to 65535"),
        },
        _ => bail!("demo takes --port N and nothing else"),
    }
}

fn check_free(address: SocketAddr) -> Result<()> {
    let Err(error) = TcpListener::bind(address) else { return Ok(()) };
    let port = address.port();
    match error.kind() {
        std::io::ErrorKind::AddrInUse => bail!(
            "port {port} is taken by another program. `ss -ltnp 'sport = :{port}'` shows which, `kill <pid>` \
             ends it; or use another port: make demo PORT={}",
            if port < u16::MAX { port + 1 } else { DEFAULT_PORT }
        ),
        std::io::ErrorKind::PermissionDenied => {
            bail!("port {port} is reserved for the system; use another: make demo PORT={DEFAULT_PORT}")
        }
        _ => Err(error).with_context(|| format!("cannot listen on {address}")),
    }
}

fn build(style: Style) -> Result<()> {
    say::note(style.bold("building weir (release; the first time takes some minutes)"));
    let status = Command::new("cargo")
        .args(["build", "--release", "--package", "weir"])
        .current_dir(repo::root())
        .stdin(Stdio::null())
        .status()
        .context("cargo cannot be started")?;
    ensure!(status.success(), "the build failed; cargo says why above");
    Ok(())
}

/// Both models where the second can be had; otherwise housing alone, and why.
fn configuration(style: Style) -> &'static str {
    match fetch::sentiment(style) {
        Ok(()) => BOTH,
        Err(error) => {
            say::note(format!("{} {error}", style.red("without sentiment:")));
            say::note("The demo goes on with the housing model alone.");
            HOUSING
        }
    }
}

fn show(question: &Question, address: SocketAddr, style: Style) -> Result<()> {
    let answer = question.ask(address).with_context(|| format!("{} did not answer", question.model))?;
    say::note(format!("\n{}  {}", style.bold(question.model), question.words));
    say::note(format!("  POST {}  {}", question.path, question.body));
    say::note(format!("  {} {answer}", style.green("→")));
    say::note(format!("  {}", question.curl(address)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_a_way_out() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = check_free(holder.local_addr().unwrap()).unwrap_err().to_string();
        assert!(error.contains("is taken") && error.contains("make demo PORT="), "{error}");
    }

    #[test]
    fn the_port_is_a_number_in_range() {
        assert_eq!(port(&[]).unwrap(), DEFAULT_PORT);
        assert_eq!(port(&["--port", "8001"]).unwrap(), 8001);
        for bad in ["0", "65536", "http"] {
            assert!(port(&["--port", bad]).unwrap_err().to_string().contains("not a port"));
        }
        assert!(port(&["8001"]).is_err());
    }
}
