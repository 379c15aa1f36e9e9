//! One physical index on disk: its directory, its mapping beside it, its reader.
//!
//! An index is made in a directory of another name and renamed when complete, and renamed before it is removed, so a
//! crash leaves nothing that looks like an index and is none.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use instep_core::{Error, FieldType, IndexName, Mapping, Result};
use serde::{Deserialize, Serialize};
use tantivy::directory::MmapDirectory;
use tantivy::index::SegmentId;
use tantivy::schema::Field;
use tantivy::{Index, IndexReader, IndexSettings, ReloadPolicy, Searcher};

use crate::analysis::{self, Analyzer};
use crate::fault::{from_io, from_tantivy};
use crate::fields::{Fields, SEQUENCE};
use crate::write::Queue;

/// What this crate writes into an index besides the mapping; another number means another layout.
const FORMAT: u32 = 1;
/// The file with an index's [`Description`].
const DESCRIPTION: &str = "instep.json";
/// Directories with this ending are being made or removed.
const UNFINISHED: &str = ".unfinished";
/// A directory with this ending is made to take the place of the index without it; with [`COMPLETE`] beside it, it does.
const REPLACEMENT: &str = ".next";
/// The file in a replacement that says that it is complete.
const COMPLETE: &str = "complete";
/// Decompressed blocks that a reader keeps for each segment.
const STORE_BLOCKS: usize = 8;

/// What an index was made with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Description {
    format: u32,
    analysis: String,
    pub(crate) mapping: Mapping,
}

impl Description {
    pub(crate) fn new(mapping: Mapping) -> Self {
        Description {
            format: FORMAT,
            analysis: analysis::version(),
            mapping,
        }
    }

    /// Whether an index that was made with this serves whoever wants `mapping` now.
    pub(crate) fn serves(&self, mapping: &Mapping) -> bool {
        let fields = &self.mapping.fields;
        self.mapping.language == mapping.language
            && mapping
                .fields
                .iter()
                .all(|(path, kind)| fields.get(path) == Some(kind))
    }

    /// The mapping of an index that serves `mapping` and whoever this served, when the two agree on every field.
    pub(crate) fn widened(&self, mapping: &Mapping) -> Option<Mapping> {
        let agrees = |path: &String, kind: &FieldType| match self.mapping.fields.get(path) {
            Some(known) => known == kind,
            None => !self.mapping.is_taken(path),
        };
        let fits = self.mapping.language == mapping.language
            && mapping.fields.iter().all(|(path, kind)| agrees(path, kind));
        fits.then(|| {
            let mut wide = self.mapping.clone();
            wide.fields.extend(mapping.fields.clone());
            wide
        })
    }

    /// Whether this version can read and write an index that was made with this.
    pub(crate) fn is_current(&self) -> bool {
        self.format == FORMAT && self.analysis == analysis::version()
    }
}

/// The directory of an index; refuses names that are no plain file name.
pub(crate) fn directory(root: &Path, name: &IndexName) -> Result<PathBuf> {
    let text = name.as_str();
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    if text.is_empty() || text.len() > 200 || text.starts_with(['-', '_']) || !text.bytes().all(plain) {
        return Err(Error::invalid(
            "bad_index_name",
            format!("`{text}` cannot be the name of an index"),
        )
        .with_remedy("use up to 200 of a-z, 0-9, - and _, starting with a letter or digit"));
    }
    Ok(root.join(text))
}

/// The description of the index in this directory; `None` where there is no index.
pub(crate) fn describe(directory: &Path) -> Result<Option<Description>> {
    let bytes = match fs::read(directory.join(DESCRIPTION)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(from_io(error, "reading an index's description")),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        Error::fatal("index_unreadable", "an index's description cannot be read")
            .with_remedy("drop the index and scan its collection again")
            .with_source(error)
    })
}

/// Makes an empty index.
pub(crate) fn create(directory: &Path, mapping: &Mapping) -> Result<()> {
    let what = "making an index";
    let unfinished = unfinished(directory);
    remove_all(&unfinished)?;
    fs::create_dir_all(&unfinished).map_err(|error| from_io(error, what))?;
    let fields = Fields::new(mapping.clone())?;
    Index::create_in_dir(&unfinished, fields.schema).map_err(|error| from_tantivy(error, what))?;
    let description = serde_json::to_vec_pretty(&Description::new(mapping.clone()))
        .expect("a mapping is maps and strings, which JSON can hold");
    let file = unfinished.join(DESCRIPTION);
    fs::write(&file, description).map_err(|error| from_io(error, what))?;
    fs::File::open(&file)
        .and_then(|file| file.sync_all())
        .map_err(|error| from_io(error, what))?;
    sync_directory(&unfinished)?;
    fs::rename(&unfinished, directory).map_err(|error| from_io(error, what))?;
    directory.parent().map_or(Ok(()), sync_directory)
}

/// Removes an index and what was to take its place; one that does not exist is fine.
pub(crate) fn drop(directory: &Path) -> Result<()> {
    remove_all(&replacement(directory))?;
    remove(directory)
}

/// Removes an index; one that does not exist is fine.
fn remove(directory: &Path) -> Result<()> {
    let unfinished = unfinished(directory);
    remove_all(&unfinished)?;
    match fs::rename(directory, &unfinished) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(from_io(error, "removing an index")),
    }
    directory.parent().map_or(Ok(()), sync_directory)?;
    remove_all(&unfinished)
}

/// Where an index is made that is to take the place of the one in this directory.
pub(crate) fn replacement(directory: &Path) -> PathBuf {
    let mut name = directory.as_os_str().to_owned();
    name.push(REPLACEMENT);
    name.into()
}

/// Ends or undoes a replacement that was under way: one that is complete takes the index's place, another goes. Returns
/// whether the directory holds another index now.
pub(crate) fn settle(directory: &Path) -> Result<bool> {
    let next = replacement(directory);
    match (next.is_dir(), next.join(COMPLETE).is_file()) {
        (true, true) => finish_replacing(directory).map(|()| true),
        (true, false) => remove_all(&next).map(|()| false),
        (false, _) => Ok(false),
    }
}

/// Lets the replacement take the index's place; a crash or failure in between is finished by [`settle`].
pub(crate) fn replace(directory: &Path) -> Result<()> {
    let what = "replacing an index";
    let next = replacement(directory);
    let mark = fs::File::create(next.join(COMPLETE)).and_then(|file| file.sync_all());
    mark.map_err(|error| from_io(error, what))?;
    sync_directory(&next)?;
    finish_replacing(directory)
}

fn finish_replacing(directory: &Path) -> Result<()> {
    let what = "replacing an index";
    let next = replacement(directory);
    remove(directory)?;
    fs::rename(&next, directory).map_err(|error| from_io(error, what))?;
    directory.parent().map_or(Ok(()), sync_directory)?;
    match fs::remove_file(directory.join(COMPLETE)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(from_io(error, what)),
        _ => Ok(()),
    }
}

/// Ends or undoes what a crash left behind.
pub(crate) fn sweep(root: &Path) -> Result<()> {
    for entry in entries(root)? {
        if let Some(directory) = entry.to_string_lossy().strip_suffix(REPLACEMENT) {
            settle(Path::new(directory))?;
        }
    }
    for entry in entries(root)? {
        if entry.to_string_lossy().ends_with(UNFINISHED) {
            remove_all(&entry)?;
        }
    }
    Ok(())
}

/// The indexes in a directory, sorted.
pub(crate) fn list(root: &Path) -> Result<Vec<IndexName>> {
    let mut names: Vec<IndexName> = entries(root)?
        .into_iter()
        .filter(|path| {
            let name = path.to_string_lossy();
            let is_other = name.ends_with(UNFINISHED) || name.ends_with(REPLACEMENT);
            !is_other && path.join(DESCRIPTION).is_file()
        })
        .filter_map(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .map(IndexName::from)
        })
        .collect();
    names.sort();
    Ok(names)
}

fn entries(root: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(root).and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect());
    read.map_err(|error| from_io(error, "listing the indexes"))
}

fn unfinished(directory: &Path) -> PathBuf {
    let mut name = directory.as_os_str().to_owned();
    name.push(UNFINISHED);
    name.into()
}

fn remove_all(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(from_io(error, "removing an index"))
        }
        _ => Ok(()),
    }
}

fn sync_directory(directory: &Path) -> Result<()> {
    let synced = fs::File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| from_io(error, "making an index"))
}

/// An index, open.
pub(crate) struct OpenIndex {
    pub(crate) name: IndexName,
    pub(crate) fields: Fields,
    pub(crate) index: Index,
    pub(crate) queue: Queue,
    reader: IndexReader,
    /// The number of the next write.
    sequence: AtomicU64,
    /// How many documents of a segment have a field: the segments' share of the statistics of BM25.
    documents_with: Mutex<HashMap<(SegmentId, Field), u64>>,
}

impl OpenIndex {
    pub(crate) fn open(name: &IndexName, directory: &Path) -> Result<Self> {
        let what = "opening an index";
        let Some(description) = describe(directory)? else {
            return Err(missing(name));
        };
        if !description.is_current() {
            return Err(Error::fatal(
                "index_outdated",
                format!("index `{name}` was made by another version"),
            )
            .with_remedy("drop the index and scan its collection again"));
        }
        let fields = Fields::new(description.mapping)?;
        let files = MmapDirectory::open(directory).map_err(|error| from_tantivy(error.into(), what))?;
        let mut index = Index::open(files).map_err(|error| from_tantivy(error, what))?;
        if index.schema() != fields.schema {
            return Err(Error::fatal(
                "index_unreadable",
                format!("index `{name}` does not fit its description"),
            )
            .with_remedy("drop the index and scan its collection again"));
        }
        debug_assert!(
            index.settings() == &IndexSettings::default(),
            "made with the default settings"
        );
        Analyzer::register_all(index.tokenizers());
        index.set_executor(tantivy::Executor::single_thread());
        let reader = index
            .reader_builder()
            .reload_policy(ReloadPolicy::Manual)
            .doc_store_cache_num_blocks(STORE_BLOCKS)
            .try_into()
            .map_err(|error| from_tantivy(error, what))?;
        let next = next_sequence(&reader.searcher()).map_err(|error| from_tantivy(error, what))?;
        Ok(OpenIndex {
            name: name.clone(),
            fields,
            index,
            queue: Queue::default(),
            reader,
            sequence: AtomicU64::new(next),
            documents_with: Mutex::default(),
        })
    }

    /// The newest durable state.
    pub(crate) fn searcher(&self) -> Searcher {
        self.reader.searcher()
    }

    /// Lets searches see the last commit.
    pub(crate) fn reload(&self) -> tantivy::Result<()> {
        self.reader.reload()?;
        let searcher = self.reader.searcher();
        let live: HashSet<SegmentId> = searcher
            .segment_readers()
            .iter()
            .map(|segment| segment.segment_id())
            .collect();
        self.documents().retain(|(segment, _), _| live.contains(segment));
        Ok(())
    }

    pub(crate) fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    fn documents(&self) -> MutexGuard<'_, HashMap<(SegmentId, Field), u64>> {
        self.documents_with.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many documents have at least one token in this field.
    pub(crate) fn documents_with(&self, searcher: &Searcher, field: Field) -> tantivy::Result<u64> {
        let mut total = 0;
        for segment in searcher.segment_readers() {
            let key = (segment.segment_id(), field);
            let known = self.documents().get(&key).copied();
            total += match known {
                Some(count) => count,
                None => {
                    let norms = segment.get_fieldnorms_reader(field)?;
                    let with = (0..segment.max_doc())
                        .filter(|&doc| norms.fieldnorm_id(doc) > 0)
                        .count() as u64;
                    self.documents().insert(key, with);
                    with
                }
            };
        }
        Ok(total)
    }
}

/// The error of an index that does not exist.
pub(crate) fn missing(name: &IndexName) -> Error {
    Error::not_found("index_not_found_exception", format!("there is no index `{name}`"))
        .with_remedy("it is made when its collection is first indexed")
}

fn next_sequence(searcher: &Searcher) -> tantivy::Result<u64> {
    let mut next = 0;
    for segment in searcher.segment_readers() {
        if let Some(column) = segment.fast_fields().column_opt::<u64>(SEQUENCE)? {
            next = next.max(column.max_value() + 1);
        }
    }
    Ok(next)
}
