//! What a caller may not see answers as what does not exist; failures tell nothing of the inside.

use super::*;

/// Two paths of which the first is hidden and the second absent, for this caller.
const PAIRS: &[(&str, Option<&str>, &str, &str, &str)] = &[
    ("GET", Some(BUYER), "/ad/_doc/hidden", "/ad/_doc/absent", ""),
    ("HEAD", Some(BUYER), "/ad/_doc/hidden", "/ad/_doc/absent", ""),
    ("GET", Some(BUYER), "/ad-en/_doc/hidden", "/ad-en/_doc/absent", ""),
    (
        "GET",
        Some(BUYER),
        "/ad/_doc/hidden?hydrate=true",
        "/ad/_doc/absent?hydrate=true",
        "",
    ),
    ("GET", Some(BUYER), "/ledger/_doc/entry", "/absent/_doc/entry", ""),
    (
        "HEAD",
        Some(BUYER),
        "/ledger/_doc/entry",
        "/absent/_doc/entry",
        "",
    ),
    ("GET", Some(BUYER), "/ledger/_search", "/absent/_search", ""),
    ("GET", Some(BUYER), "/ledger-en/_search", "/absent-en/_search", ""),
    (
        "GET",
        Some(BUYER),
        "/ledger-unspecified/_search",
        "/absent-unspecified/_search",
        "",
    ),
    (
        "GET",
        Some(BUYER),
        "/ledger/_search?hydrate=true",
        "/absent/_search?hydrate=true",
        "",
    ),
    ("GET", Some(BUYER), "/ledger*/_search", "/absent*/_search", ""),
    ("GET", Some(BUYER), "/ledger/_count", "/absent/_count", ""),
    ("GET", None, "/ledger/_count", "/absent/_count", ""),
    ("GET", None, "/ad/_search", "/no/_search", ""),
    ("GET", None, "/ad/_doc/hidden", "/no/_doc/hidden", ""),
    (
        "POST",
        Some(BUYER),
        "/ledger/_search",
        "/absent/_search",
        r#"{"query":{"nested":{}}}"#,
    ),
    (
        "POST",
        Some(BUYER),
        "/ad/_mget",
        "/ad/_mget",
        r#"{"ids":["open","hidden"]}"#,
    ),
    (
        "POST",
        Some(BUYER),
        "/_mget",
        "/_mget",
        r#"{"docs":[{"_index":"ledger","_id":"entry"},{"_index":"ad","_id":"open"}]}"#,
    ),
    (
        "POST",
        None,
        "/ledger/_mget",
        "/absent/_mget",
        r#"{"ids":["entry"]}"#,
    ),
];

#[tokio::test]
async fn hidden_and_absent_answer_alike() {
    let shop = shop();
    for (method, key, hidden, absent, body) in PAIRS {
        let seen = shop.ask(method, hidden, *key, body).await;
        let other = body.replace("hidden", "absent").replace("ledger", "absent");
        let unseen = shop.ask(method, absent, *key, &other).await;
        assert_eq!(seen.status, unseen.status, "{method} {hidden}");
        // What the caller wrote comes back; everything else is the same, to the byte.
        let same = |answer: &Answer| {
            untimed(&answer.body)
                .replace("hidden", "absent")
                .replace("ledger", "absent")
                .replace("[ad]", "[no]")
        };
        assert_eq!(same(&seen), same(&unseen), "{method} {hidden}");
        assert_eq!(seen.headers, unseen.headers, "{method} {hidden}");
        shop.given();
    }
}

/// The bytes without the digits of `took`.
fn untimed(body: &str) -> String {
    let Some((before, after)) = body.split_once(r#""took":"#) else {
        return body.to_owned();
    };
    format!(
        "{before}{}",
        after.trim_start_matches(|c: char| c.is_ascii_digit())
    )
}

/// A document that exists for others is found by them: the pairs above do not hold for want of documents.
#[tokio::test]
async fn what_is_hidden_exists() {
    let shop = shop();
    for path in ["/ad/_doc/hidden", "/ledger/_doc/entry", "/ad-en/_doc/hidden"] {
        assert_eq!(shop.ask("GET", path, Some(STAFF), "").await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn items_of_an_mget_are_authorised_one_by_one() {
    let shop = shop();
    let body = r#"{"docs":[
        {"_index":"ad","_id":"shared"}, {"_index":"ledger","_id":"entry"}, {"_index":"ad","_id":"hidden"},
        {"_index":"*","_id":"open"}, {"_index":"documents-x-ad-en","_id":"open"},
        {"_index":"seller","_id":"1","_source":["price"]}, {"_index":"ad-sv","_id":"shared"},
        {"_index":"ad-en","_id":"open","_source":false}, {"_index":"ad","_id":"shared"}]}"#;
    let answer = shop.ask("POST", "/_mget", Some(BUYER), body).await;
    let json = answer.json();
    let told: Vec<String> = json["docs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|doc| {
            let outcome = match doc.get("error") {
                Some(error) => error["type"].as_str().unwrap().to_owned(),
                None => format!("{} {}", doc["found"], doc.get("_source").unwrap_or(&Value::Null)),
            };
            format!("{} {outcome}", doc["_index"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        told,
        [
            r#"ad-en true {"name":"name of shared","price":1.0}"#,
            "ledger index_not_found_exception",
            "ad false null",
            "* invalid_index_name_exception",
            "documents-x-ad-en index_not_found_exception",
            r#"seller true {"price":1.0}"#,
            "ad-sv false null",
            "ad-en true null",
            r#"ad-en true {"name":"name of shared","price":1.0}"#,
        ]
    );
    assert_eq!(
        shop.given(),
        ["ad-en", "ad-sv", "seller-unspecified", "ad-sv", "ad-en"],
        "one call for each name and filter, and none for what is refused"
    );
    let many: Vec<String> = (0..65)
        .map(|at| format!(r#"{{"_index":"ad","_id":"1","_source":"f{at}"}}"#))
        .collect();
    let body = format!(r#"{{"docs":[{}]}}"#, many.join(","));
    assert_eq!(shop.ask("POST", "/_mget", Some(BUYER), &body).await.status, 400);
}

type Failing = (fn() -> Error, u16);

const FAILURES: &[Failing] = &[
    (
        || Error::transient("busy", "documents-blue7-ad-en is busy in /data/blue7"),
        503,
    ),
    (
        || {
            Error::fatal(
                "broken",
                "/data/blue7/documents-blue7-ad-en/meta.json: no such file",
            )
        },
        500,
    ),
    (
        || Error::poison("value", "the value 4711 of documents-blue7-ad-en").context("reading blue7"),
        500,
    ),
    (
        || {
            Error::invalid("no_field", "no field [x] in [documents-blue7-ad-en]")
                .with_remedy("map x in documents-blue7-ad-en")
        },
        400,
    ),
    (
        || {
            Error::not_found(
                "index_not_found_exception",
                "no such index [documents-blue7-ad-sv]",
            )
            .context("asking documents-blue7-other")
        },
        503,
    ),
    (
        || Error::not_found("no_document", "nothing of it in documents-blue7-ad-sv"),
        404,
    ),
    (|| Error::denied("denied", "not documents-blue7-ad-en"), 403),
];

#[tokio::test]
async fn failures_tell_nothing_of_the_inside() {
    let shop = shop();
    for (error, status) in FAILURES {
        shop.engine_does(Does::Fail(*error));
        for (method, path, body) in [
            ("GET", "/ad/_search", ""),
            ("GET", "/_count", ""),
            ("GET", "/ad/_doc/open", ""),
            ("POST", "/ad/_mget", r#"{"ids":["open"]}"#),
        ] {
            let answer = shop.ask(method, path, Some(BUYER), body).await;
            let expected = if path.ends_with("_mget") && *status < 500 {
                200
            } else {
                *status
            };
            assert_eq!(answer.status.as_u16(), expected, "{path} {}", answer.body);
            for secret in [SET, "documents-", "/data", "4711"] {
                assert!(!answer.body.contains(secret), "{path}: {}", answer.body);
            }
            assert_eq!(
                answer.header("retry-after"),
                if expected == 503 { "1" } else { "" }
            );
        }
    }
    shop.engine_does(Does::Panic);
    let answer = shop.ask("GET", "/ad/_search", Some(BUYER), "").await;
    assert_eq!(answer.status, 500);
    assert!(!answer.body.contains(SET), "{}", answer.body);
    assert_eq!(answer.json()["status"], 500);
}

/// An engine that breaks its contract is not passed on.
#[tokio::test]
async fn answers_that_were_not_asked_for_are_refused() {
    let shop = shop();
    shop.engine_does(Does::AnswerFrom("documents-blue7-ledger-unspecified"));
    let answer = shop.ask("GET", "/ad/_search", Some(BUYER), "").await;
    assert_eq!(answer.status, 500);
    assert!(
        answer.reason().contains("foreign_index") && !answer.body.contains("ledger"),
        "{}",
        answer.body
    );
    shop.engine_does(Does::IgnoreReaders);
    let answer = shop.ask("GET", "/ad/_doc/hidden", Some(BUYER), "").await;
    assert_eq!(answer.status, 500);
    assert!(!answer.body.contains("name of"), "{}", answer.body);
}

proptest::proptest! {
    /// Whatever stands in the place of names: an answer without the inside, and an engine that was given nothing but
    /// what the caller may see.
    #[test]
    fn any_name_in_the_path_is_safe(
        names in "(ad|seller|ledger|documents|blue7|-|,|_all|\\*|en|sv|:|<|\\.\\.){1,6}|[ -~]{1,12}|.{1,12}",
        route in proptest::sample::select(vec!["_search", "_count", "_doc/entry", "_mget"]),
    ) {
        let encoded: String = names.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let body = if route == "_mget" { r#"{"ids":["entry","open"]}"# } else { "" };
        let shop = shop();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(shop.ask("GET", &format!("/{encoded}/{route}"), Some(BUYER), body));
        let status = answer.status.as_u16();
        proptest::prop_assert!(matches!(status, 200 | 400 | 404), "{names}: {status} {}", answer.body);
        proptest::prop_assert!(names.contains(SET) || !answer.body.contains(SET), "{names}: {}", answer.body);
        for index in shop.given() {
            let allowed = ["ad-en", "ad-sv", "seller-unspecified"];
            proptest::prop_assert!(allowed.contains(&index.as_str()), "{names} reached {index}");
        }
    }
}
