//! Failures in Elasticsearch's shape.

use instep_core::{Error, Fault};

use crate::write::{self, Members};

/// The status and body of a failure. The type is the error's code where that is one of Elasticsearch's
/// (`…_exception`), else the usual one of its fault; the code itself and the remedy stand beside it.
pub fn render_error(error: &Error) -> (u16, String) {
    let status = status(error);
    let mut out = String::new();
    write::object(&mut out, |o| {
        member(o, error);
        o.number("status", status);
    });
    (status, out)
}

/// The member `error` of an answer.
pub(crate) fn member(o: &mut Members<'_>, error: &Error) {
    let reason = error.to_string();
    o.object("error", |o| {
        o.array("root_cause", [error], |out, error| {
            write::object(out, |o| {
                o.text("type", kind(error));
                o.text("reason", &reason);
            });
        });
        o.text("type", kind(error));
        o.text("reason", &reason);
        o.text("code", error.code());
        if let Some(remedy) = error.remedy() {
            o.text("remedy", remedy);
        }
    });
}

fn status(error: &Error) -> u16 {
    match error.fault() {
        Fault::Invalid => 400,
        Fault::Unauthenticated => 401,
        Fault::Denied => 403,
        Fault::NotFound => 404,
        Fault::Conflict => 409,
        Fault::Transient => 503,
        Fault::Poison | Fault::Fatal => 500,
    }
}

fn kind(error: &Error) -> &'static str {
    if error.code().ends_with("_exception") {
        return error.code();
    }
    match error.fault() {
        Fault::Invalid => "illegal_argument_exception",
        Fault::Unauthenticated | Fault::Denied => "security_exception",
        Fault::NotFound => "resource_not_found_exception",
        Fault::Conflict => "version_conflict_engine_exception",
        Fault::Transient => "no_shard_available_action_exception",
        Fault::Poison | Fault::Fatal => "exception",
    }
}
