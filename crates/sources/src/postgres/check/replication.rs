//! Whether a replication connection comes through: by making one, which is the only proof there is.

use instep_core::{Error, Finding};

use super::server::Server;
use super::{error, ok};
use crate::postgres::Database;
use crate::postgres::slot::Facts;
use crate::postgres::wire::Wire;

pub(super) async fn check(database: &Database, server: &Server, facts: &Facts) -> Finding {
    let subject = database.stream.to_string();
    let refused = match Wire::connect(&database.stream).await {
        Ok(wire) => {
            wire.end().await;
            return ok(
                "replication",
                &subject,
                format!("role `{}` may replicate", server.role),
            );
        }
        Err(refused) => refused,
    };
    let in_use = facts.slot.as_ref().is_some_and(|slot| slot.active_pid.is_some());
    if in_use && refused.message().contains("max_wal_senders") {
        // The one that follows has the last walsender.
        return ok(
            "replication",
            &subject,
            "a replication connection of ours is open",
        );
    }
    if refused.code() == "permission_denied" {
        let message = format!("role `{}` may not replicate", server.role);
        return error(
            "replication",
            &subject,
            message,
            server.managed.replication(&server.role),
        );
    }
    let message = format!(
        "ordinary connections are accepted and replication connections are not: {}",
        refused.message()
    );
    error("replication", &subject, message, remedy(&refused))
}

fn remedy(refused: &Error) -> String {
    let pooler = "let stream_url lead to the database itself: poolers such as PgBouncer carry no replication";
    match refused.code() {
        "authentication_failed" => {
            "allow this role and machine in pg_hba.conf (a rule for the database itself, not for `replication`, holds for \
             them), or correct the password"
                .to_owned()
        }
        _ if refused.message().contains("max_wal_senders") => "raise max_wal_senders".to_owned(),
        _ if refused.message().contains("startup parameter") => pooler.to_owned(),
        _ => format!("if this is a pooler, {pooler}; else look into the server's log"),
    }
}
