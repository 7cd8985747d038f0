//! `weir serve`.

mod early;
mod prospects;
mod reload;

use std::{
    cell::OnceCell,
    io,
    net::SocketAddr,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};
use weir_api::{Bound, Server};
use weir_serving::{Keeper, Loader, ModelControl, ServingSnapshot, Watch};
use weir_types::{Clock, SystemClock};

use self::{early::Early, prospects::Prospects};
use crate::{
    args::Serve,
    commands::start::prepare,
    environment,
    host::Limits,
    output::Output,
    settings::{self, Listen, listeners, routes_refused},
    state::Opening,
    telemetry::{self, Telemetry},
};
use reload::Reload;

/// Signals closer together than this are one.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

pub(crate) fn run(options: Serve, output: &Output) -> anyhow::Result<ExitCode> {
    let (flags, limits) = (options.addresses.flags(), Limits::of_this_process());
    let (loaded, impossible) = settings::read_within(&options.sources, flags.clone(), &limits)?;
    if !impossible.is_empty() {
        // Nothing is begun by settings that cannot work, but what else is wrong is told with it.
        let started = prepare((loaded, impossible), Opening::Check).load(output);
        bail!(started.wrong().unwrap_or_default());
    }
    let in_force = Arc::new(Mutex::new(loaded.clone()));
    let logs = telemetry::start(&loaded.value.log)?;
    environment::misspelt(&settings::keys()).iter().for_each(|told| tracing::warn!("{told}"));
    // A runtime of its own for the listeners; models run on theirs. With one thread, the
    // scheduler that never hands work over saves some 4 % of a small request's CPU.
    let threads = settings::threads(&loaded.value.server);
    let mut runtime = if threads == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    let runtime = runtime.worker_threads(threads).thread_name("weir-http").enable_all().build()?;
    // Heard from now on and obeyed once there is a server: it would end a process that loads.
    let hangup = {
        let _inside = runtime.enter();
        signal(SignalKind::hangup())?
    };
    let early = early::listen()?;
    raise_descriptor_limit(loaded.value.server.max_connections);
    let watched = options.watch.then(|| Watched {
        models: Watch::new(&loaded.value.server.models),
        configuration: Watch::of_files(&options.sources.config),
    });
    let listeners = listeners(&loaded.value.server);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let sending = loaded.value.telemetry.clone();
    let started = prepare((loaded, Vec::new()), Opening::Use).load(output);
    for (spec, engine) in started.loaded.iter().map(|version| (&version.spec, &version.engine)) {
        tracing::info!(model = %spec.name, version = %spec.version, engine = engine.name, "loaded");
    }
    let (server, (loader, fetcher), cache) = started.serving()?;
    // Behind what checks its files, which tells everything that is wrong and where.
    let telemetry = Telemetry::start(&sending, environment::otlp_headers().as_deref(), &clock)?;
    server.offer_log_control(logs.clone());
    server.offer_runtime(runtime.metrics());
    limits.memory.into_iter().for_each(|bytes| server.offer_memory_limit(bytes));
    if let Some(cache) = &cache {
        cache.start(runtime.handle());
    }
    if let Some(telemetry) = &telemetry {
        server.offer_telemetry(telemetry.stats.clone());
        telemetry.tracing.iter().for_each(|tracing| server.offer_tracing(tracing.clone()));
        if sending.metrics {
            let (server, every) = (server.clone(), sending.metrics_interval.get());
            telemetry.send_metrics(every, Box::new(move || server.exposition()), clock);
        }
    }
    let sources = options.sources;
    let reload = Reload { sources, flags, limits, in_force, server: server.clone(), cache, fetcher, logs };
    runtime.block_on(serve((server, telemetry), (loader, reload), listeners, watched, (early, hangup)))
}

/// What is looked at for changes.
struct Watched {
    models: Watch,
    configuration: Watch,
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

async fn serve(
    (server, telemetry): (Server, Option<Telemetry>),
    (loader, reload): (Loader, Reload),
    listeners: Vec<Listen>,
    watched: Option<Watched>,
    signals: (Early, Signal),
) -> anyhow::Result<ExitCode> {
    let bound = server.clone().bind().await;
    let bound = bound.map_err(|(address, error)| not_bound(&listeners, address, error))?;
    for address in [Some(bound.address()?), bound.grpc_address()?].into_iter().flatten() {
        if !address.ip().is_loopback() {
            tracing::warn!("anybody who reaches {address} may use it: there is no authentication");
        }
    }
    let (prospects, in_vain) = Prospects::of(&server.snapshot());
    let control = keep_models(&server, (loader, reload), watched, prospects)?;
    run_until_told((bound, telemetry), (control, in_vain), signals).await?;
    Ok(ExitCode::SUCCESS)
}

/// What the operator does about an address that cannot be listened on.
fn not_bound(listeners: &[Listen], address: SocketAddr, error: io::Error) -> anyhow::Error {
    let listen = listeners.iter().find(|listen| listen.address == address);
    let key = listen.map_or("listen", |listen| listen.key);
    let flag = match key {
        "listen" => ", with --listen for example",
        "admin_listen" => ", with --admin-listen for example",
        _ => "",
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            anyhow!("{address} is in use: stop what listens there (ss -ltnp), or change `server.{key}`{flag}")
        }
        _ => anyhow!(error).context(format!("`server.{key}`: {address} cannot be listened on")),
    }
}

/// Starts the thread that loads models while the server serves.
fn keep_models(
    server: &Server,
    (loader, reload): (Loader, Reload),
    watched: Option<Watched>,
    mut prospects: Prospects,
) -> anyhow::Result<ModelControl> {
    let swapped = server.clone();
    let in_force = reload.in_force.clone();
    let publish = Box::new(move |snapshot: ServingSnapshot| {
        let before = swapped.snapshot();
        prospects.look(&before, &snapshot);
        let complete = snapshot.awaited().next().is_none();
        swapped.swap(snapshot).map_err(|problems| {
            let in_force = in_force.lock().unwrap_or_else(PoisonError::into_inner);
            let reason = routes_refused(&problems, &in_force.places);
            if complete && before.awaited().next().is_some() {
                prospects.refused(&swapped, &reason);
            }
            reason
        })
    });
    let (keeper, control) = Keeper::new(loader, server.snapshot(), publish);
    let (models, files) = watched.map(|Watched { models, configuration }| (models, configuration)).unzip();
    let keeper = keeper.rereading(reload.reread(), files);
    let thread = thread::Builder::new().name("weir-models".into());
    thread.spawn(move || keeper.run(models)).context("no thread for loading models")?;
    server.offer_control(&control);
    Ok(control)
}

/// Serves until SIGTERM or SIGINT, and gives up the drain and what is behind it at a second one; each
/// SIGHUP asks for a reload. A start that is `in_vain` ends by itself, and badly: whoever started it may do
/// so again.
async fn run_until_told(
    (bound, telemetry): (Bound, Option<Telemetry>),
    (control, in_vain): (ModelControl, oneshot::Receiver<String>),
    (early, hangup): (Early, Signal),
) -> anyhow::Result<()> {
    let (mut first, mut second) = (Ending::listen()?, Ending::listen()?);
    early.end();
    // Told only now: who starts us may send a signal as soon as it reads this.
    let address = bound.address()?;
    tracing::info!(%address, "listening on http://{address}, docs page http://{address}/docs");
    if let Some(address) = bound.grpc_address()? {
        tracing::info!(%address, "gRPC on {address}");
    }
    if let Some(address) = bound.admin_address()? {
        tracing::info!(%address, "admin API on http://{address}, described at http://{address}/docs");
    }
    let reloads = tokio::spawn(reload_on(hangup, control));
    let failed = OnceCell::new();
    let stop = async {
        tokio::select! {
            () = first.signal() => tracing::info!("draining; a second signal ends at once"),
            Ok(why) = in_vain => drop(failed.set(why)),
        }
    };
    let impatient = async {
        second.signal().await;
        // What comes at once is the same signal twice: from the terminal to the whole process
        // group, say, and from a wrapper that passes it on.
        tokio::time::sleep(SAME_SIGNAL).await;
        Ending::listen()?.signal().await;
        io::Result::Ok(())
    };
    tokio::pin!(impatient);
    let cut_off = tokio::select! {
        cut_off = bound.run(stop) => cut_off,
        ended = &mut impatient => {
            ended?;
            bail!("ended by a second signal while requests were in flight");
        }
    };
    reloads.abort();
    match cut_off {
        0 => tracing::info!("drained"),
        connections => tracing::warn!(connections, "the drain timeout passed; connections were cut off"),
    }
    // Behind the drain, so that the last requests are in it.
    if let Some(telemetry) = telemetry {
        tokio::select! {
            () = telemetry.finish() => {}
            ended = impatient => {
                ended?;
                tracing::warn!("ended by a second signal: what telemetry had still to send is lost");
            }
        }
    }
    match failed.into_inner() {
        Some(why) => bail!(why),
        None => Ok(()),
    }
}

/// The signals that end the server. Every listener hears each of them.
struct Ending {
    term: Signal,
    interrupt: Signal,
}

impl Ending {
    fn listen() -> io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn signal(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Reloads on each SIGHUP. Nobody waits for the outcome: a newer reload replaces one that fetches, and those
/// that come before one begins are one.
async fn reload_on(mut hangup: Signal, control: ModelControl) {
    while hangup.recv().await.is_some() {
        let control = control.clone();
        tokio::spawn(async move {
            if let Err(error) = control.reload().await {
                tracing::error!("reload failed: {error}");
            }
        });
    }
}
