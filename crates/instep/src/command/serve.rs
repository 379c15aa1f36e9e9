//! `serve` and `sync --once`: the commands that index.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use instep_core::{Builder, ChangeLog, Error, Result, Side};
use instep_sync::{CaughtUp, Problem};
use serde_json::json;

use crate::command::{asked_to_stop, configuration};
use crate::operations;
use crate::output::{Output, Progress};
use crate::running::Running;
use crate::serving;
use crate::wiring::{Access, Parts};

/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// `instep serve`: indexes, follows, and answers searches until the process is asked to stop.
pub(crate) async fn serve(path: &Path, listen: Option<SocketAddr>, output: &Output) -> Result<ExitCode> {
    let config = configuration(path)?;
    let listener = serving::listen(&config, listen.unwrap_or(config.listen)).await?;
    let tell = |text: &str| output.note(text);
    let parts = tokio::select! {
        parts = Parts::open_patiently(config, &tell) => parts?,
        () = asked_to_stop() => return Ok(ExitCode::SUCCESS),
    };
    serve_parts(&parts, listener, output, |address| {
        output.result(
            &format!("serving on http://{address}"),
            &json!({ "address": address.to_string() }),
        );
    })
    .await
}

/// Runs opened parts and serves them; `started` is called once requests are answered.
pub(crate) async fn serve_parts(
    parts: &Parts,
    listener: tokio::net::TcpListener,
    output: &Output,
    started: impl FnOnce(SocketAddr),
) -> Result<ExitCode> {
    let metrics = serving::record_metrics()?;
    let running = Running::start(parts).await?;
    let router = instep_gateway::router(serving::gateway(parts, &running, metrics)?);
    let (stop, stopping) = tokio::sync::oneshot::channel::<()>();
    let address = listener
        .local_addr()
        .map_err(|error| Error::fatal("cannot_listen", format!("the address is not known: {error}")))?;
    let server = tokio::spawn(instep_gateway::serve(listener, router, async move {
        // A dropped sender stops the server, too.
        let _ = stopping.await;
    }));
    started(address);
    tokio::select! {
        () = asked_to_stop() => {}
        () = first_load(parts, &running, output) => asked_to_stop().await,
    }
    output.note("stopping: what is under way is finished first");
    drop(stop);
    running.stop().await;
    match server.await {
        Ok(served) => served.map(|()| ExitCode::SUCCESS),
        Err(error) => Err(Error::fatal(
            "server_failed",
            format!("the server ended in a panic: {error}"),
        )),
    }
}

/// `instep sync --once`: indexes what has changed, then exits; `within` says how long that may take.
pub(crate) async fn sync(
    path: &Path,
    within: Option<Duration>,
    rescan: bool,
    output: &Output,
) -> Result<ExitCode> {
    let parts = Parts::open(configuration(path)?, Access::Owner).await?;
    if rescan {
        // Also the way on when a position is refused: of another database, or ahead of a restored one.
        for source in parts.sources.keys() {
            parts.log.forget_position(source).await?;
        }
        for set in &parts.config.sets {
            parts
                .log
                .register(&set.name, &parts.assembler.fingerprints())
                .await?;
            parts
                .log
                .rescan(&set.name, &parts.assembler.fingerprints(), true)
                .await?;
        }
    }
    let started = Instant::now();
    let running = Running::start(&parts).await?;
    let expired = async {
        match within {
            Some(within) => tokio::time::sleep(within).await,
            None => std::future::pending().await,
        }
    };
    let done = tokio::select! {
        done = running.caught_up() => done.map(Some),
        () = forever(first_load(&parts, &running, output)) => Ok(None),
        () = asked_to_stop() => Ok(None),
        () = expired => Err(not_in_time(within.unwrap_or_default(), &running)),
    };
    running.stop().await;
    let Some(done) = done? else {
        output.note("stopped before everything was indexed; the next run goes on from here");
        return Ok(ExitCode::FAILURE);
    };
    report(&parts, &done, started.elapsed(), output);
    Ok(if done.is_complete() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What was waited for when the time was over.
fn not_in_time(within: Duration, running: &Running) -> Error {
    let of_sources = running.sources.iter().filter_map(|(name, status)| {
        let status = status.borrow();
        let problem = status.problem.clone().or(status.waiting.clone())?;
        Some((format!("source {name}"), problem))
    });
    let of_sets = running.sets.iter().filter_map(|(name, activity)| {
        let problem = activity.borrow().problem.clone()?;
        Some((format!("set {name}"), problem))
    });
    let mut known: Vec<(String, Problem)> = of_sources.chain(of_sets).collect();
    known.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut message = format!("not everything was indexed within {} s", within.as_secs());
    for (name, problem) in &known {
        message.push_str(&format!("; {name}: {}", problem.message));
    }
    let remedy = known.iter().find_map(|(_, problem)| problem.remedy.clone());
    Error::transient("not_in_time", message).with_remedy(
        remedy.unwrap_or_else(|| "run it again: it goes on from here; or give it longer".to_owned()),
    )
}

async fn forever(work: impl Future<Output = ()>) {
    work.await;
    std::future::pending().await
}

fn report(parts: &Parts, done: &CaughtUp, took: Duration, output: &Output) {
    let mut answer = operations::shown(&done.sets, &done.troubles, &parts.active());
    let halted = done
        .halted_sources
        .iter()
        .map(|problem| json!({ "problem": problem }));
    answer["halted_sources"] = halted.collect();
    answer["halted_collections"] = operations::halted_collections(&done.halted_collections);
    answer["complete"] = json!(done.is_complete());
    answer["seconds"] = json!(took.as_secs_f64());
    let text = crate::command::status::table(&answer);
    output.result(&text, &answer);
}

/// Shows the progress of unfinished scans until there are none.
async fn first_load(parts: &Parts, running: &Running, output: &Output) {
    let mut totals = std::collections::BTreeMap::new();
    for collection in &parts.collections {
        if let Ok(count) = running.assembler().count(&collection.name).await {
            totals.insert(collection.name.clone(), count);
        }
    }
    let mut bar: Option<Progress> = None;
    loop {
        let mut total = 0;
        let mut handled = 0;
        let mut unfinished = 0;
        for set in &parts.config.sets {
            let scans = match parts.log.scans(&set.name).await {
                Ok(scans) => scans,
                // Its indexer is about to make it known.
                Err(error) if error.code() == "unknown_set" => {
                    unfinished += 1;
                    continue;
                }
                Err(error) => {
                    tracing::warn!("progress cannot be shown: {error}");
                    return;
                }
            };
            for scan in scans.iter().filter(|scan| bar.is_some() || !scan.finished) {
                let rows = totals.get(&scan.collection).copied().unwrap_or(0);
                total += if scan.both { rows * 2 } else { rows };
                handled += if scan.finished && scan.side == Side::Source {
                    rows
                } else {
                    scan.done
                };
                unfinished += usize::from(!scan.finished);
            }
        }
        if unfinished == 0 && (bar.is_some() || !parts.config.sets.is_empty()) {
            if let Some(mut bar) = bar.take() {
                bar.set(handled, Some(total.max(handled)));
                bar.finish();
            }
            return;
        }
        bar.get_or_insert_with(|| output.progress("indexing", Some(total)))
            .set(handled, Some(total));
        tokio::time::sleep(LOOK).await;
    }
}
