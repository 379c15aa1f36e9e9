//! Documents of rows that were soft-deleted long ago go: whether one is due is decided whenever it is built; here those
//! are touched that become due by the passing of time alone.

use std::sync::Arc;
use std::time::Duration;

use instep_core::{ChangeLog, Collection, Expression, Purge, Result, Source, date};
use instep_sync::SignalledLog;
use tokio::sync::watch;

use crate::touching::touch_rows;
use crate::wiring::now_ms;

/// How often to look whether another hour has begun.
const LOOK: Duration = Duration::from_secs(1);
/// How soon what failed is tried again.
const AGAIN: Duration = Duration::from_secs(60);
const DAY_MS: i64 = 24 * 3_600_000;
/// Once a day rows are looked at so much further back: a day without a time, and a text with a zone or a `T`, stand in
/// another order than their moments. Touching a document once more does no harm.
const BACK_MS: i64 = 2 * DAY_MS;

/// What a collection is purged by, and what that needs.
pub(crate) struct Purging {
    pub(crate) collection: Collection,
    pub(crate) purge: Purge,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) log: Arc<SignalledLog>,
}

impl Purging {
    /// Touches what has become due, once for each hour, until it is told to stop.
    pub(crate) async fn run(self, mut stopped: watch::Receiver<bool>) {
        let mut done = None;
        loop {
            let cutoff = self.purge.cutoff_ms(self.now());
            let mut wait = LOOK;
            if done != Some(cutoff) {
                let touched = tokio::select! {
                    touched = self.once(cutoff) => touched,
                    _ = stopped.wait_for(|stop| *stop) => return,
                };
                match touched {
                    Ok(()) => done = Some(cutoff),
                    Err(error) => {
                        wait = AGAIN;
                        let collection = &self.collection.name;
                        tracing::warn!(%collection, "documents of rows that were deleted long ago are not purged: {error}");
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stopped.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Touches what has become due since this was done last. Repeating it does no harm, and a crash repeats it.
    async fn once(&self, cutoff: i64) -> Result<()> {
        let memo = format!("purged/{}", self.collection.name);
        let before = self
            .log
            .memo(&memo)
            .await?
            .and_then(|text| text.parse::<i64>().ok());
        if before.is_some_and(|before| before >= cutoff) {
            return Ok(());
        }
        let since = before.map(
            |before| match before.div_euclid(DAY_MS) == cutoff.div_euclid(DAY_MS) {
                true => before,
                false => before - BACK_MS,
            },
        );
        let touched = touch_due(
            &*self.source,
            &self.log,
            &self.collection,
            &self.purge,
            since,
            cutoff,
        )
        .await?;
        if touched > 0 {
            tracing::info!(collection = %self.collection.name, touched, "rows were soft-deleted long ago: their documents go");
        }
        self.log.set_memo(&memo, Some(&cutoff.to_string())).await
    }

    fn now(&self) -> i64 {
        i64::try_from(now_ms()).unwrap_or(i64::MAX)
    }
}

/// Touches the documents of rows that were soft-deleted before `cutoff`, and not before `since`.
pub(crate) async fn touch_due(
    source: &dyn Source,
    log: &SignalledLog,
    collection: &Collection,
    purge: &Purge,
    since: Option<i64>,
    cutoff: i64,
) -> Result<u64> {
    let column = format!("\"{}\"", purge.column.replace('"', "\"\""));
    // As databases write it, and without a zone: as text it comes before the same moment written with a `T`, so that no
    // row is touched before it is due.
    let moment = |ms: i64| date::format(ms, Some("yyyy-MM-dd HH:mm:ss"), 0);
    let mut condition = format!("{column} < '{}'", moment(cutoff)?);
    if let Some(since) = since {
        condition.push_str(&format!(" and {column} >= '{}'", moment(since)?));
    }
    touch_rows(source, log, collection, &Expression::condition(&condition)?).await
}
