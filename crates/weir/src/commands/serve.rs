//! `weir serve`.

use std::{
    io,
    process::ExitCode,
    sync::{Arc, mpsc},
    thread,
};

use anyhow::{Context, anyhow, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
};
use weir_api::{Bound, Server};
use weir_config::{Override, Places};
use weir_serving::{Loader, ServingSnapshot};
use weir_types::{AllowLocal, SystemClock};

use super::reload::{self, Fingerprint};
use crate::{
    args::Serve,
    output::Output,
    settings::{self, Settings, lines, route_lines},
    telemetry,
};

pub(crate) fn run(options: Serve, output: &Output) -> anyhow::Result<ExitCode> {
    let listen =
        options.listen.map(|address| Override::new("--listen", "server.listen", address.to_string()));
    let loaded = settings::load(&options.sources, listen.into_iter().collect())?;
    telemetry::start(&loaded.value.log)?;
    raise_descriptor_limit(loaded.value.server.max_connections);
    let threads = settings::threads(&loaded.value.server);
    let watched = options.watch.then(|| reload::fingerprint(&loaded.value.server.models));
    let (server, loader) = prepare(loaded.value, &loaded.places, output)?;
    // A runtime of its own for the listeners; models run on theirs.
    let runtime =
        Builder::new_multi_thread().worker_threads(threads).thread_name("weir-http").enable_all().build()?;
    runtime.block_on(serve(server, loader, watched))
}

/// Takes all the descriptors that the system allows: many start a process with 1,024, a
/// tenth of the default `max_connections`, and one too many would be left hanging.
fn raise_descriptor_limit(max_connections: usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = raised.map_or(current, |()| maximum);
    if let Some(limit) = limit.filter(|limit| *limit <= max_connections as u64) {
        tracing::warn!(
            "the system allows {limit} open files, fewer than max_connections ({max_connections}): \
             raise the limit (ulimit -Hn, LimitNOFILE=) or lower max_connections"
        );
    }
}

/// Loads the models and compiles the routes.
fn prepare(settings: Settings, places: &Places, output: &Output) -> anyhow::Result<(Server, Loader)> {
    let Settings { server, route, .. } = settings;
    if server.models.is_empty() {
        bail!(
            "nothing to serve: name a model (weir serve PATH) or list `models` under [server] in a --config file"
        );
    }
    let clock = Arc::new(SystemClock);
    let loader = Loader::new(server.models.clone(), settings::load_options(&server, clock.clone()));
    let progress = |index: usize, total: usize, candidate: &weir_artifact::Candidate| {
        output.progress(&format!("loading {}/{total} {}", index + 1, candidate.name));
    };
    let snapshot = loader.load(&ServingSnapshot::default(), progress);
    output.progress("");
    let snapshot = snapshot.map_err(|problems| anyhow!(lines(&problems)))?;
    if snapshot.models().next().is_none() {
        let reasons: Vec<_> =
            snapshot.failures().iter().map(|f| format!("{}/{}: {}", f.name, f.version, f.reason)).collect();
        bail!("no model could be loaded\n{}", reasons.join("\n"));
    }
    for version in snapshot.models().flat_map(|(_, model)| model.versions()) {
        let (spec, engine) = (&version.spec, &version.engine);
        tracing::info!(model = %spec.name, version = %spec.version, engine = engine.name, "loaded");
    }
    let server = Server::new(server, route, snapshot, Arc::new(AllowLocal), clock)
        .map_err(|problems| anyhow!(route_lines(&problems, places)))?;
    Ok((server, loader))
}

async fn serve(server: Server, loader: Loader, watched: Option<Fingerprint>) -> anyhow::Result<ExitCode> {
    let bound = server.clone().bind().await.map_err(|(address, error)| match error.kind() {
        io::ErrorKind::AddrInUse => {
            anyhow!("{address} is in use: stop what listens there, or choose another address with --listen")
        }
        _ => anyhow!(error).context(format!("{address} cannot be listened on")),
    })?;
    let address = bound.address()?;
    if !address.ip().is_loopback() {
        tracing::warn!("anybody who reaches {address} may use it: there is no authentication");
    }
    let (reload, requests) = mpsc::sync_channel(1);
    let reloader = thread::Builder::new().name("weir-reload".into());
    reloader
        .spawn(move || reload::run(&server, &loader, watched, &requests))
        .context("no thread for reloads")?;
    let cut_off = run_until_told(bound, reload).await?;
    match cut_off {
        0 => tracing::info!("drained"),
        connections => tracing::warn!(connections, "the drain timeout passed; connections were cut off"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Serves until SIGTERM or SIGINT; each SIGHUP asks for a reload.
async fn run_until_told(bound: Bound, reload: mpsc::SyncSender<()>) -> anyhow::Result<usize> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let hangup = signal(SignalKind::hangup())?;
    // Told only now: who starts us may send a signal as soon as it reads this.
    let address = bound.address()?;
    tracing::info!(%address, "listening on http://{address}, docs page http://{address}/docs");
    let reloads = tokio::spawn(pass_on(hangup, reload));
    let stop = async {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("draining");
    };
    let cut_off = bound.run(stop).await;
    reloads.abort();
    Ok(cut_off)
}

/// Turns each SIGHUP into a request to reload. One that finds another waiting is that one.
async fn pass_on(mut hangup: Signal, reload: mpsc::SyncSender<()>) {
    while hangup.recv().await.is_some() {
        let _ = reload.try_send(());
    }
}
