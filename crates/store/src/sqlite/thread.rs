//! The two threads that hold the connections: one writes, one reads. Callers hand them jobs and await the answers.
//!
//! Jobs that wait for the writer at the same time share one transaction, and so one fsync: each runs in a savepoint of
//! its own, and none is answered before the commit. No runtime is needed or made here.

use std::thread::JoinHandle;

use instep_core::{Error, Result};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::failure::{Done, Failure, from_sqlite, repeated};
use super::file::Held;
use super::tickets::Tickets;

/// Jobs that may wait for a thread. When so many wait, callers wait in `call` until there is room: a source that
/// produces faster than the disk takes is slowed down, and memory stays bounded.
const WAITING: usize = 256;

/// Jobs that share one transaction at most, so that the first of them is not kept waiting.
const GROUP: usize = 64;

/// What jobs work on.
pub(super) struct Desk {
    pub(super) conn: Connection,
    pub(super) tickets: Tickets,
    /// Keeps the file ours as long as the writer's connection is open.
    pub(super) held: Option<Held>,
}

/// Tells a caller what became of its job, once it is known whether the transaction was committed.
type Answer = Box<dyn FnOnce(Result<(), &Error>) + Send>;

/// Does its work, or only answers when there is no transaction to do it in.
type Job = Box<dyn FnOnce(Result<&mut Desk, &Error>) -> Ran + Send>;

struct Ran {
    failed: bool,
    answer: Answer,
}

/// A thread with a connection. Dropping it lets the jobs that wait finish, then closes the connection.
pub(super) struct Thread {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Thread {
    /// A thread whose jobs write. Statements outside of a job's own savepoint are not undone with it.
    pub(super) fn writing(desk: Desk) -> Result<Thread> {
        Thread::spawn("instep-state-write", desk, "begin immediate", GROUP)
    }

    /// A thread whose jobs read, each from one snapshot.
    pub(super) fn reading(conn: Connection) -> Result<Thread> {
        let desk = Desk {
            conn,
            tickets: Tickets::default(),
            held: None,
        };
        // One job to a transaction: a later one must see what was committed before it was called.
        Thread::spawn("instep-state-read", desk, "begin", 1)
    }

    fn spawn(name: &str, mut desk: Desk, begin: &'static str, size: usize) -> Result<Thread> {
        let (jobs, mut waiting) = mpsc::channel::<Job>(WAITING);
        let work = move || {
            while let Some(first) = waiting.blocking_recv() {
                desk.group(begin, size, first, &mut waiting);
            }
            // The connection is closed before the file is let go.
            let Desk { conn, held, .. } = desk;
            drop(conn);
            drop(held);
        };
        let thread = std::thread::Builder::new().name(name.into()).spawn(work);
        let thread = thread.map_err(|error| {
            Error::fatal("state_thread", "cannot start a thread for the state file").with_source(error)
        })?;
        Ok(Thread {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// Runs `work` on the thread. After `Ok`, what it wrote is durable; after an error, nothing of it was written.
    /// A caller that stops waiting does not stop the work.
    pub(super) async fn call<T, W>(&self, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&mut Desk) -> Done<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |desk| {
            let done = match desk {
                Ok(desk) => work(desk),
                Err(error) => Err(Failure::Refused(repeated(error))),
            };
            let failed = done.is_err();
            let answer = move |committed: Result<(), &Error>| {
                let result = match (done, committed) {
                    (Ok(value), Ok(())) => Ok(value),
                    (Ok(_), Err(error)) => Err(repeated(error)),
                    (Err(failure), _) => Err(failure.into()),
                };
                // The caller may have stopped waiting.
                let _ = answer.send(result);
            };
            Ran {
                failed,
                answer: Box::new(answer),
            }
        });
        let jobs = self.jobs.as_ref().expect("the sender is taken only by drop");
        jobs.send(job).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened, and every caller got `state_stopped`.
            let _ = thread.join();
        }
    }
}

fn gone() -> Error {
    Error::fatal("state_stopped", "the thread of the state file has ended")
        .with_remedy("start the process again")
}

impl Desk {
    /// Runs `first` and the jobs that wait behind it in one transaction, at most `size`, then answers all of them.
    fn group(&mut self, begin: &str, size: usize, first: Job, waiting: &mut mpsc::Receiver<Job>) {
        if let Err(error) = self.run(begin) {
            let error = from_sqlite(error);
            let ran = first(Err(&error));
            return (ran.answer)(Err(&error));
        }
        let mut answers = Vec::new();
        let mut next = Some(first);
        let mut ended = None;
        while let Some(job) = next.take() {
            match self.in_savepoint(job) {
                Ok(answer) => answers.push(answer),
                Err((answer, error)) => {
                    answers.push(answer);
                    ended = Some(error);
                    break;
                }
            }
            if answers.len() < size {
                next = waiting.try_recv().ok();
            }
        }
        let committed = match ended {
            Some(error) => Err(error),
            None => self.run("commit").map_err(from_sqlite),
        };
        if committed.is_err() {
            if !self.conn.is_autocommit() {
                // Fails only when there is nothing left to roll back.
                let _ = self.conn.execute_batch("rollback");
            }
            self.tickets.forget_reserved();
        }
        for answer in answers {
            answer(committed.as_ref().map(|_| ()));
        }
    }

    /// Runs one job; its failure undoes its own writes. `Err` when the whole transaction is lost: SQLite rolls back
    /// by itself when the disk is full or fails.
    fn in_savepoint(&mut self, job: Job) -> std::result::Result<Answer, (Answer, Error)> {
        if let Err(error) = self.run("savepoint job") {
            let error = from_sqlite(error);
            let ran = job(Err(&error));
            return Err((ran.answer, error));
        }
        let ran = job(Ok(self));
        let lost = || {
            Error::transient(
                "state_rolled_back",
                "the transaction of the state file was rolled back",
            )
        };
        if self.conn.is_autocommit() {
            return Err((ran.answer, lost()));
        }
        if ran.failed {
            self.tickets.forget_reserved();
            if let Err(error) = self.run("rollback to job") {
                return Err((ran.answer, from_sqlite(error)));
            }
        }
        match self.run("release job") {
            Ok(()) => Ok(ran.answer),
            Err(error) => Err((ran.answer, from_sqlite(error))),
        }
    }

    fn run(&self, sql: &str) -> rusqlite::Result<()> {
        self.conn.prepare_cached(sql)?.execute([]).map(drop)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc::sync_channel;

    use tempfile::TempDir;

    use super::super::file;
    use super::*;

    fn block_on<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(test)
    }

    fn writer(dir: &TempDir) -> Thread {
        let desk = Desk {
            conn: file::open_writer(&dir.path().join("state.db")).unwrap(),
            tickets: Tickets::default(),
            held: None,
        };
        Thread::writing(desk).unwrap()
    }

    fn memos(desk: &mut Desk) -> Done<i64> {
        Ok(desk
            .conn
            .query_row("select count(*) from memo", [], |row| row.get(0))?)
    }

    fn remember(name: &str, bytes: usize) -> impl FnOnce(&mut Desk) -> Done<()> + Send + 'static {
        let name = name.to_owned();
        move |desk| {
            let sql = "insert into memo (name, text) values (?1, ?2)";
            desk.conn.execute(sql, [name, "x".repeat(bytes)])?;
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_waited_sees_what_was_committed_before_it_was_called() {
        let dir = TempDir::new().unwrap();
        let writer = writer(&dir);
        let reader = Thread::reading(file::open_reader(&dir.path().join("state.db")).unwrap()).unwrap();
        let (entered, in_first) = sync_channel(1);
        let (release, released) = sync_channel::<()>(1);
        let first = move |desk: &mut Desk| {
            let seen = memos(desk)?;
            entered.send(()).unwrap();
            released.recv().unwrap();
            Ok(seen)
        };
        let later = async {
            in_first.recv().unwrap();
            writer.call(remember("a", 1)).await.unwrap();
            let (seen, ()) = tokio::join!(reader.call(memos), async { release.send(()).unwrap() });
            seen.unwrap()
        };
        let (first, later) = block_on(async { tokio::join!(reader.call(first), later) });
        assert_eq!((first.unwrap(), later), (0, 1));
    }

    #[test]
    fn jobs_that_wait_together_share_a_transaction_and_a_failed_one_undoes_only_itself() {
        let dir = TempDir::new().unwrap();
        let writer = writer(&dir);
        let (entered, in_first) = sync_channel(1);
        let (release, released) = sync_channel::<()>(1);
        let first = move |desk: &mut Desk| {
            entered.send(()).unwrap();
            released.recv().unwrap();
            remember("first", 1)(desk)
        };
        let fails = |desk: &mut Desk| -> Done<()> {
            remember("undone", 1)(desk)?;
            Err(Error::invalid("refused", "this job is refused").into())
        };
        // Sees what the jobs before it wrote, before it is committed: they are in one transaction.
        let last = |desk: &mut Desk| {
            assert!(!desk.conn.is_autocommit());
            memos(desk)
        };
        let others = async {
            in_first.recv().unwrap();
            let release = async { release.send(()).unwrap() };
            tokio::join!(
                writer.call(fails),
                writer.call(remember("b", 1)),
                writer.call(last),
                release
            )
        };
        let (first, (fails, b, last, ())) = block_on(async { tokio::join!(writer.call(first), others) });
        first.unwrap();
        b.unwrap();
        assert_eq!(fails.unwrap_err().code(), "refused");
        assert_eq!(last.unwrap(), 2);
        assert_eq!(block_on(writer.call(memos)).unwrap(), 2);
    }

    #[test]
    fn a_full_disk_refuses_and_the_work_goes_on_when_there_is_room() {
        let dir = TempDir::new().unwrap();
        let writer = writer(&dir);
        let limit = |pages: i64| {
            move |desk: &mut Desk| {
                let sql = format!("pragma max_page_count = {pages}");
                desk.conn.query_row(&sql, [], |_| Ok(()))?;
                Ok(())
            }
        };
        block_on(async {
            writer.call(remember("before", 1)).await.unwrap();
            writer.call(limit(40)).await.unwrap();
            let error = writer.call(remember("large", 1 << 20)).await.unwrap_err();
            assert_eq!(error.code(), "state_full");
            assert!(error.is_transient());
            assert_eq!(writer.call(memos).await.unwrap(), 1);
            writer.call(limit(1 << 20)).await.unwrap();
            writer.call(remember("large", 1 << 20)).await.unwrap();
            assert_eq!(writer.call(memos).await.unwrap(), 2);
        });
    }
}
