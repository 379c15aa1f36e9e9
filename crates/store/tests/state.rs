//! A state file in a directory of its own.

use std::path::PathBuf;
use std::sync::Arc;

use instep_conformance::change_log::{Clock, Place};
use instep_core::{ChangeLog, DocId, DocKey, Touch};
use instep_store::SqliteLog;
use tempfile::TempDir;

pub(crate) struct FreshState(TempDir);

impl FreshState {
    pub(crate) fn new() -> FreshState {
        FreshState(TempDir::new().unwrap())
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("state.db")
    }
}

impl Place for FreshState {
    fn open(&self, clock: Clock) -> Box<dyn ChangeLog> {
        Box::new(SqliteLog::open(self.path(), clock).unwrap())
    }
}

/// A clock that stands.
pub(crate) fn noon() -> Clock {
    Arc::new(|| 1_700_000_000_000)
}

pub(crate) fn block_on<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test)
}

/// A second process looks and touches while the first one indexes.
#[tokio::test]
async fn beside_an_owner_touches_can_be_appended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let clock: instep_store::Clock = std::sync::Arc::new(|| 1);
    let owner = SqliteLog::open(&path, clock.clone()).unwrap();
    let set = "a".into();
    owner.register(&set, &[("c".into(), "f".into())]).await.unwrap();
    let owned = owner.own(&set, "owner").await.unwrap();
    let guest = SqliteLog::open_beside(&path, clock).unwrap();
    let key = DocKey {
        collection: "c".into(),
        id: DocId::parse("1").unwrap(),
    };
    guest
        .append(&"s".into(), None, &[Touch::Document(key.clone())])
        .await
        .unwrap();
    let entries = owner.take(&owned, owned.position, 10).await.unwrap().entries;
    assert_eq!(entries.iter().map(|entry| &entry.key).collect::<Vec<_>>(), [&key]);
    assert_eq!(guest.status().await.unwrap()[0].pending, 1);
}
