//! The engine: its directory, its open indexes, and the two traits.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use instep_core::{
    Applied, Authorized, Capabilities, Cursor, DocId, Engine, Ensured, Error, GetRequest, IndexName, Mapping,
    Result, Search, SearchRequest, SearchResponse, Settings, Stored, Walked, Write,
};
use tokio::sync::Semaphore;

use crate::fault::{from_io, from_tantivy, internal};
use crate::index::{self, OpenIndex, missing};
use crate::stop::Stop;
use crate::write::{self, Writers};
use crate::{search, walk, widen};

/// The file that a process locks for as long as it has the directory open.
const LOCK: &str = "lock";

/// How the engine uses memory and processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Memory of all writers together, in bytes, whatever the number of indexes. One writer takes at least 15 MB, so
    /// less than that counts as 15 MB.
    pub writer_memory_bytes: usize,
    /// Searches that run at the same time; others wait.
    pub parallel_searches: usize,
}

/// 64 MB for writers, one search for each processor.
impl Default for Options {
    fn default() -> Self {
        Options {
            writer_memory_bytes: 64_000_000,
            parallel_searches: std::thread::available_parallelism().map_or(2, usize::from),
        }
    }
}

/// The embedded engine over one directory: an index of the library for each of ours.
///
/// A value is a handle; clones share it. One process at a time writes: the directory is locked, and the lock ends with
/// the process, however it ends. Others may look beside it ([`Embedded::open_beside`]).
#[derive(Clone)]
pub struct Embedded(Arc<Inner>);

struct Inner {
    directory: PathBuf,
    capabilities: Capabilities,
    indexes: Mutex<BTreeMap<IndexName, Arc<OpenIndex>>>,
    /// Held while an index is made or removed.
    changes: Mutex<()>,
    writers: Arc<Writers>,
    searches: Arc<Semaphore>,
    /// `None` beside another process: nothing is written.
    lock: Option<File>,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded")
            .field("directory", &self.0.directory)
            .finish_non_exhaustive()
    }
}

impl Embedded {
    /// Opens the engine over a directory, which is made where it does not exist. Whatever was committed is there,
    /// however the last process ended.
    pub fn open(directory: impl AsRef<Path>, options: Options) -> Result<Self> {
        let directory = directory.as_ref().to_owned();
        let what = "opening the directory of the embedded engine";
        fs::create_dir_all(&directory).map_err(|error| from_io(error, what))?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join(LOCK))
            .map_err(|error| from_io(error, what))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::fatal(
                    "index_locked",
                    "another process has the embedded engine's directory open",
                )
                .with_remedy("stop the other process, or give this one a directory of its own"));
            }
            Err(TryLockError::Error(error)) => return Err(from_io(error, what)),
        }
        index::sweep(&directory)?;
        Ok(Self::over(directory, options, Some(lock)))
    }

    /// Opens the engine to look at a directory that another process may write to. Every write is refused
    /// (`engine_read_only`); [`Engine::refresh`] shows what the other process has committed since.
    pub fn open_beside(directory: impl AsRef<Path>, options: Options) -> Self {
        Self::over(directory.as_ref().to_owned(), options, None)
    }

    fn over(directory: PathBuf, options: Options, lock: Option<File>) -> Self {
        Embedded(Arc::new(Inner {
            directory,
            capabilities: Capabilities {
                name: "embedded",
                forgets_deletes: false,
                forgets_when_closed: true,
                stores: true,
                sloppy_phrases: false,
                exact_totals: true,
                exact_decimals: true,
            },
            indexes: Mutex::default(),
            changes: Mutex::default(),
            writers: Arc::new(Writers::new(options.writer_memory_bytes)),
            searches: Arc::new(Semaphore::new(options.parallel_searches.max(1))),
            lock,
        }))
    }

    /// Refuses a write where another process may be writing.
    fn require_lock(&self) -> Result<()> {
        match self.0.lock {
            Some(_) => Ok(()),
            None => Err(Error::fatal(
                "engine_read_only",
                "the engine was opened to look, beside another process",
            )
            .with_remedy("write in the process that holds the directory")),
        }
    }

    /// Runs what blocks, off the runtime's threads.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .unwrap_or_else(|error| {
                Err(internal("a task of the embedded engine ended early").with_source(error))
            })
    }

    /// [`Embedded::blocking`], with at most so many at a time as searches may run: what runs keeps its place until it
    /// ends, also where nobody waits for it any more, and is told so.
    async fn searching<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner, &Stop) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = Arc::clone(&self.0.searches)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let stop = Stop::default();
        let _waiting = stop.waiting();
        self.blocking(move |inner| {
            let _permit = permit;
            stop.check()?;
            work(inner, &stop)
        })
        .await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn opened(&self, name: &IndexName) -> Option<Arc<OpenIndex>> {
        lock(&self.indexes).get(name).cloned()
    }

    /// The index of this name, opened if it is not yet; blocks.
    fn index(&self, name: &IndexName) -> Result<Arc<OpenIndex>> {
        if let Some(index) = self.opened(name) {
            return Ok(index);
        }
        let directory = index::directory(&self.directory, name).map_err(|_| missing(name))?;
        let _changes = lock(&self.changes);
        if let Some(index) = self.opened(name) {
            return Ok(index);
        }
        let index = Arc::new(OpenIndex::open(name, &directory)?);
        lock(&self.indexes).insert(name.clone(), Arc::clone(&index));
        Ok(index)
    }

    /// The same, as it is now. Every commit of this process reloads the reader before it answers; another process's does not.
    fn newest(&self, name: &IndexName) -> Result<Arc<OpenIndex>> {
        let index = self.index(name)?;
        if self.lock.is_none() {
            index
                .reload()
                .map_err(|error| from_tantivy(error, "looking for newer commits"))?;
        }
        Ok(index)
    }

    fn all(&self, names: &[IndexName]) -> Result<Vec<Arc<OpenIndex>>> {
        let mut seen = BTreeSet::new();
        names
            .iter()
            .filter(|name| seen.insert(*name))
            .map(|name| self.index(name))
            .collect()
    }

    fn ensure(&self, name: &IndexName, mapping: &Mapping) -> Result<Ensured> {
        let directory = index::directory(&self.directory, name)?;
        let changes = lock(&self.changes);
        if index::settle(&directory)?
            && let Some(former) = lock(&self.indexes).remove(name)
        {
            former.queue.close();
            self.writers.forget(name);
        }
        let Some(description) = index::describe(&directory)? else {
            index::create(&directory, mapping)?;
            return Ok(Ensured::Created);
        };
        if !description.is_current() {
            return Ok(Ensured::Outdated);
        }
        if description.serves(mapping) {
            return Ok(Ensured::Unchanged);
        }
        let Some(wide) = description.widened(mapping) else {
            return Ok(Ensured::NeedsNewIndex);
        };
        // Copying takes its time: other indexes are opened meanwhile.
        drop(changes);
        self.widen(name, &directory, &wide)?;
        Ok(Ensured::Extended)
    }

    /// Puts a wider index in the place of one, which is searched until then. Nobody else makes, changes or removes it
    /// meanwhile: an index has one owner.
    fn widen(&self, name: &IndexName, directory: &Path, mapping: &Mapping) -> Result<()> {
        let former = self.index(name)?;
        former.queue.close();
        self.writers.forget(name);
        let copied = widen::copy(&former, directory, mapping, self.writers.memory());
        let _changes = lock(&self.changes);
        // Opened anew in any case: the queue of this one is closed.
        lock(&self.indexes).remove(name);
        copied?;
        index::replace(directory)?;
        let wide = OpenIndex::open(name, directory)?;
        wide.queue.go_on_from(&former.queue);
        lock(&self.indexes).insert(name.clone(), Arc::new(wide));
        Ok(())
    }

    fn drop_index(&self, name: &IndexName) -> Result<()> {
        let directory = index::directory(&self.directory, name)?;
        let _changes = lock(&self.changes);
        let open = lock(&self.indexes).remove(name);
        if let Some(open) = open {
            open.queue.close();
            self.writers.forget(name);
        }
        index::drop(&directory)
    }
}

/// Ends what is being written (calls in flight are answered first) and closes the writers, so that the directory's
/// lock is the last thing to go.
impl Drop for Inner {
    fn drop(&mut self) {
        for index in lock(&self.indexes).values() {
            index.queue.close();
        }
        self.writers.close_idle();
    }
}

/// The name that a directory has in the file that is locked; it gets one where it has none.
fn name_of(file: &Path) -> Result<String> {
    let what = "naming the directory of the embedded engine";
    let name = fs::read_to_string(file).map_err(|error| from_io(error, what))?;
    if !name.is_empty() {
        return Ok(name);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = format!("{:x}-{:x}", now.as_nanos(), std::process::id());
    let mut open = File::options()
        .write(true)
        .open(file)
        .map_err(|error| from_io(error, what))?;
    open.write_all(name.as_bytes())
        .and_then(|()| open.sync_all())
        .map_err(|error| from_io(error, what))?;
    Ok(name)
}

#[async_trait]
impl Engine for Embedded {
    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    async fn place(&self) -> Result<String> {
        self.require_lock()?;
        self.blocking(|inner| name_of(&inner.directory.join(LOCK))).await
    }

    async fn ensure(&self, index: &IndexName, mapping: &Mapping, settings: &Settings) -> Result<Ensured> {
        if let Some(name) = settings.keys().next() {
            return Err(Error::invalid(
                "unknown_setting",
                format!("the embedded engine has no setting `{name}`"),
            )
            .with_remedy("remove it: this engine's indexes have no settings"));
        }
        self.require_lock()?;
        let (index, mapping) = (index.clone(), mapping.clone());
        self.blocking(move |inner| inner.ensure(&index, &mapping)).await
    }

    async fn apply(&self, writes: Vec<(IndexName, Write)>) -> Result<Vec<Applied>> {
        self.require_lock()?;
        let count = writes.len();
        let mut by_index: BTreeMap<IndexName, Vec<(usize, Write)>> = BTreeMap::new();
        for (place, (name, write)) in writes.into_iter().enumerate() {
            by_index.entry(name).or_default().push((place, write));
        }
        let mut targets = Vec::with_capacity(by_index.len());
        for (name, writes) in by_index {
            let index = match self.0.opened(&name) {
                Some(index) => index,
                None => self.blocking(move |inner| inner.index(&name)).await?,
            };
            targets.push((index, writes));
        }
        // No await in between, so that overlapping calls queue in one order everywhere.
        let submit = |(index, writes)| write::submit(&index, &self.0.writers, writes);
        let answers: Vec<_> = targets.into_iter().map(submit).collect();
        let mut outcomes: Vec<(usize, Applied)> = Vec::with_capacity(count);
        let mut failed = None;
        for answer in answers {
            match answer.await {
                Ok(Ok(done)) => outcomes.extend(done),
                Ok(Err(error)) => failed = failed.or(Some(error)),
                Err(_) => {
                    failed = failed.or(Some(internal("the thread that writes to an index ended early")))
                }
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        outcomes.sort_unstable_by_key(|(place, _)| *place);
        Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
    }

    async fn walk(&self, index: &IndexName, after: Option<&Cursor>, n: usize) -> Result<Walked> {
        let (name, after) = (index.clone(), after.cloned());
        self.searching(move |inner, _| walk::walk(&*inner.newest(&name)?, after.as_ref(), n))
            .await
    }

    async fn read(&self, index: &IndexName, ids: &[DocId]) -> Result<Vec<Option<Stored>>> {
        let (name, ids) = (index.clone(), ids.to_vec());
        self.searching(move |inner, _| search::read(&*inner.newest(&name)?, &ids))
            .await
    }

    async fn refresh(&self, index: &IndexName) -> Result<()> {
        let name = index.clone();
        self.blocking(move |inner| inner.newest(&name).map(drop)).await
    }

    async fn drop_index(&self, index: &IndexName) -> Result<()> {
        self.require_lock()?;
        let name = index.clone();
        self.blocking(move |inner| inner.drop_index(&name)).await
    }

    async fn indexes(&self) -> Result<Vec<IndexName>> {
        self.blocking(|inner| index::list(&inner.directory)).await
    }
}

#[async_trait]
impl Search for Embedded {
    async fn search(
        &self,
        indexes: &[IndexName],
        request: &Authorized<SearchRequest>,
    ) -> Result<SearchResponse> {
        let (names, request) = (indexes.to_vec(), request.clone());
        self.searching(move |inner, stop| search::search(&inner.all(&names)?, &request, stop))
            .await
    }

    async fn get(
        &self,
        indexes: &[IndexName],
        request: &Authorized<GetRequest>,
    ) -> Result<Vec<Option<(IndexName, Stored)>>> {
        let (names, request) = (indexes.to_vec(), request.clone());
        self.searching(move |inner, _| search::get(&inner.all(&names)?, &request))
            .await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc::sync_channel;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// A search that nobody waits for any more keeps its place until it has ended, and is told to end.
    #[tokio::test]
    async fn an_abandoned_search_keeps_its_place_and_is_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options {
            parallel_searches: 1,
            ..Options::default()
        };
        let embedded = Embedded::open(directory.path(), options).unwrap();
        // One message each: none of them is ever full.
        let (started, begins) = sync_channel(1);
        let (release, released) = sync_channel::<()>(1);
        let (told, was_told) = sync_channel(1);
        let first = embedded.searching(move |_, stop| {
            started.send(stop.check().is_ok()).unwrap();
            released.recv().unwrap();
            told.send(stop.check().is_err()).unwrap();
            Ok(())
        });
        assert!(timeout(Duration::from_millis(100), first).await.is_err());
        assert!(begins.recv().unwrap());
        let second = timeout(Duration::from_millis(100), embedded.searching(|_, _| Ok(())));
        assert!(second.await.is_err(), "the first search still runs");
        release.send(()).unwrap();
        assert!(was_told.recv().unwrap());
        let third = timeout(Duration::from_secs(60), embedded.searching(|_, _| Ok(())));
        third.await.unwrap().unwrap();
    }
}
