//! The command line: what a person may say, and who carries it out.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::command;
use crate::output::Output;

/// Keeps a search index in step with your database, and serves secure, typed search on top of it.
#[derive(Debug, Parser)]
#[command(name = "instep", version, about, propagate_version = true)]
struct Cli {
    /// Answer in JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Log more: info, debug, or a filter such as `instep_sync=debug`.
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        default_value = "warn,tantivy=error"
    )]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a car marketplace, index it, and serve it.
    Demo(command::demo::Demo),
    /// Print a commented configuration made from a database's own schema.
    Init {
        /// The database: sqlite:<path>, or postgres://user@host:port/database. In '…', `${VAR}` is taken from the
        /// environment: a password written so shows in no list of processes.
        url: String,
    },
    /// Check every prerequisite; each failure names its cause and the statement that mends it.
    Check {
        #[command(flatten)]
        configured: Configured,
        /// Print the statements that prepare the databases to be followed, for somebody with the rights; run nothing.
        #[arg(long)]
        sql: bool,
    },
    /// Index, follow every change, and serve the search API.
    Serve {
        #[command(flatten)]
        configured: Configured,
        /// Listen here instead of where the configuration says.
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<std::net::SocketAddr>,
    },
    /// Index what has changed, then exit. Fails when a row could not be indexed.
    Sync {
        #[command(flatten)]
        configured: Configured,
        /// Exit once everything that was committed before the start is indexed. Without it: `instep serve`.
        #[arg(long, required = true)]
        once: bool,
        /// Give up after so long, and say what was waited for: 90s, 15m, 2h. What was indexed stays, and the next run goes on
        /// from there. Without it a database or a cluster that cannot be reached is waited for.
        #[arg(long, value_name = "DURATION", value_parser = command::duration)]
        within: Option<std::time::Duration>,
        /// Walk every collection again, from both sides.
        #[arg(long)]
        rescan: bool,
    },
    /// Follow a source anew and scan its collections from both sides: the way on when its position is refused. Search
    /// goes on meanwhile. Works beside a running server, too.
    Rescan {
        #[command(flatten)]
        configured: Configured,
        /// The source, as the configuration calls it.
        source: String,
    },
    /// Say what starting with this configuration would do to what is indexed: which definitions are edited and how, what
    /// is built again and how long that takes, what is refused and why. No index is touched.
    Plan {
        #[command(flatten)]
        configured: Configured,
        /// Let the index of this collection be emptied and filled again at the next start with this very definition.
        #[arg(long, value_name = "COLLECTION", conflicts_with = "keep")]
        remake: Option<String>,
        /// Take that back.
        #[arg(long, value_name = "COLLECTION")]
        keep: Option<String>,
        /// Only in this index set.
        #[arg(long, value_name = "NAME")]
        set: Option<String>,
    },
    /// Say how far each index set is, and what became of every change.
    Status(Configured),
    /// Stop indexing a collection, or all collections of a source, until it is resumed; nothing is lost.
    ///
    /// Its changes are still taken into instep's own log, so that the database keeps nothing back for it; its documents
    /// stay as they are, and search goes on. Holds across restarts, and works beside a running server.
    Pause {
        #[command(flatten)]
        configured: Configured,
        /// A source or a collection; where both have the name, source:<name> or collection:<name>.
        name: String,
    },
    /// Index again what was paused, or an index set that halted, from where it stopped.
    Resume {
        #[command(flatten)]
        configured: Configured,
        /// A source or a collection; where both have the name, source:<name> or collection:<name>. A set: set:<name>.
        name: String,
    },
    /// Build documents again although their rows did not change.
    ///
    /// For data migrations that no change tells of. Works beside a running server, too.
    Touch {
        #[command(flatten)]
        configured: Configured,
        /// The collection.
        collection: String,
        /// Only documents whose root row meets this SQL condition; the whole collection is scanned without it.
        #[arg(long = "where", value_name = "CONDITION")]
        condition: Option<String>,
    },
    /// Remove the documents of rows that were soft-deleted longer ago than the collection's `purge` says, now rather than
    /// when the hour turns. Works beside a running server, too.
    Purge {
        #[command(flatten)]
        configured: Configured,
        /// The collection.
        collection: String,
    },
    /// Documents that cannot be indexed: look at them, try them again, take them off the list.
    ///
    /// A dead letter holds nothing up, and is tried again when any row it was built from changes. All of it works beside
    /// a running server, too.
    Dead {
        #[command(subcommand)]
        what: command::dead::Dead,
    },
    /// Say why a document is what it is or is not there, or which documents a change touches.
    Explain {
        #[command(subcommand)]
        what: Explain,
    },
    /// Say what happened to one document lately, from the journal: touches, builds, what became of each.
    Trace {
        #[command(flatten)]
        configured: Configured,
        /// The collection.
        collection: String,
        /// The document's key: its `_id`.
        key: String,
        /// The last so many events.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Compare database and index, document by document, in both directions.
    Verify {
        #[command(flatten)]
        configured: Configured,
        /// Index again what differs.
        #[arg(long)]
        repair: bool,
        /// Go on where an interrupted verification stopped.
        #[arg(long)]
        resume: bool,
        /// Only this collection.
        #[arg(long, value_name = "NAME")]
        collection: Option<String>,
        /// Only this index set.
        #[arg(long, value_name = "NAME")]
        set: Option<String>,
    },
    /// Show the configuration's schema, or the configuration with its defaults and without its secrets.
    Config {
        #[command(subcommand)]
        what: ConfigCommand,
    },
}

#[derive(Debug, Subcommand)]
enum Explain {
    /// The rows a document comes from, the SQL that reads them, what each index set holds of it, and why that differs.
    Doc {
        #[command(flatten)]
        configured: Configured,
        /// The collection.
        collection: String,
        /// The document's key: its `_id`.
        key: String,
        /// Only in this index set.
        #[arg(long, value_name = "NAME")]
        set: Option<String>,
        /// Show the values of the rows, and the documents.
        #[arg(long)]
        values: bool,
    },
    /// The documents that a change of one row touches, and through which joins.
    Change {
        #[command(flatten)]
        configured: Configured,
        /// The table, with or without its schema.
        table: String,
        /// The row's primary key; of several columns, with commas between them.
        key: String,
        /// The source, where several have such a table.
        #[arg(long, value_name = "NAME")]
        source: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// The JSON Schema of the configuration file, for editors.
    Schema,
    /// The configuration with the defaults of state, server, clusters and sets, and without its secrets.
    Print(Configured),
}

/// A command that works with a configuration.
#[derive(Debug, Args)]
pub(crate) struct Configured {
    /// The configuration file.
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "instep.toml",
        env = "INSTEP_CONFIG"
    )]
    pub(crate) config: PathBuf,
}

/// Carries out what the process was told. Failures are said on standard error; the exit code is 0 when everything
/// held, 1 when something did not, 2 when the command could not be understood.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.json);
    if let Err(error) = start_logging(&cli.log, cli.json) {
        return failed(&output, &error);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = instep_core::Error::fatal("no_runtime", format!("cannot start: {error}"));
            return failed(&output, &error);
        }
    };
    let done = runtime.block_on(carry_out(cli.command, &output));
    done.unwrap_or_else(|error| failed(&output, &error))
}

/// Says what failed. What could not be understood is 2, what was not carried out is 1.
fn failed(output: &Output, error: &instep_core::Error) -> ExitCode {
    output.error(error);
    ExitCode::from(if error.fault() == instep_core::Fault::Invalid {
        2
    } else {
        1
    })
}

async fn carry_out(command: Command, output: &Output) -> instep_core::Result<ExitCode> {
    match command {
        Command::Demo(demo) => command::demo::run(demo, output).await,
        Command::Init { url } => command::inspect::init(&url, output).await,
        Command::Check {
            configured,
            sql: false,
        } => command::inspect::check(&configured.config, output).await,
        Command::Check {
            configured,
            sql: true,
        } => command::inspect::set_up_sql(&configured.config, output).await,
        Command::Serve { configured, listen } => {
            command::serve::serve(&configured.config, listen, output).await
        }
        Command::Sync {
            configured,
            once: _,
            within,
            rescan,
        } => command::serve::sync(&configured.config, within, rescan, output).await,
        Command::Rescan { configured, source } => {
            command::rescan::rescan(&configured.config, &source, output).await
        }
        Command::Plan {
            configured,
            remake,
            keep,
            set,
        } => {
            let (remake, keep) = (remake.as_deref(), keep.as_deref());
            command::plan::plan(&configured.config, remake, keep, set.as_deref(), output).await
        }
        Command::Status(configured) => command::status::status(&configured.config, output).await,
        Command::Pause { configured, name } => command::pause::pause(&configured.config, &name, output).await,
        Command::Resume { configured, name } => {
            command::pause::resume(&configured.config, &name, output).await
        }
        Command::Touch {
            configured,
            collection,
            condition,
        } => command::touch::touch(&configured.config, &collection, condition.as_deref(), output).await,
        Command::Purge {
            configured,
            collection,
        } => command::touch::purge(&configured.config, &collection, output).await,
        Command::Dead { what } => command::dead::run(what, output).await,
        Command::Explain {
            what:
                Explain::Doc {
                    configured,
                    collection,
                    key,
                    set,
                    values,
                },
        } => {
            let wanted = command::explain::Wanted {
                collection,
                key,
                set,
                values,
            };
            command::explain::doc(&configured.config, wanted, output).await
        }
        Command::Explain {
            what:
                Explain::Change {
                    configured,
                    table,
                    key,
                    source,
                },
        } => command::explain::change(&configured.config, &table, &key, source.as_deref(), output).await,
        Command::Trace {
            configured,
            collection,
            key,
            limit,
        } => command::trace::trace(&configured.config, &collection, &key, limit, output).await,
        Command::Verify {
            configured,
            repair,
            resume,
            collection,
            set,
        } => {
            let wanted = command::verify::Wanted {
                repair,
                resume,
                collection,
                set,
            };
            command::verify::verify(&configured.config, wanted, output).await
        }
        Command::Config {
            what: ConfigCommand::Schema,
        } => command::inspect::schema(output),
        Command::Config {
            what: ConfigCommand::Print(configured),
        } => command::inspect::print(&configured.config, output),
    }
}

fn start_logging(filter: &str, json: bool) -> instep_core::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).map_err(|error| {
        instep_core::Error::invalid(
            "bad_log_filter",
            format!("`{filter}` is not a log filter: {error}"),
        )
        .with_remedy("write warn, info, debug, or a target with a level: instep_sync=debug")
    })?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    match json {
        true => logs.json().init(),
        false => logs.init(),
    }
    Ok(())
}
