//! Every route for every kind of caller: the status, and what the engine was given.

use super::*;

/// method, path, body; for anonymous, buyer and staff: status and the indexes that reached the engine.
type Case = (&'static str, &'static str, &'static str, [(u16, &'static str); 3]);

const ALL: &str = "ad-en ad-sv ledger-unspecified seller-unspecified";
const MATCH: &str = r#"{"query":{"match":{"name":"x"}}}"#;
const MGET: &str = r#"{"docs":[{"_index":"ad","_id":"open"},{"_index":"ledger","_id":"entry"}]}"#;

const CASES: &[Case] = &[
    ("GET", "/", "", [(200, ""), (200, ""), (200, "")]),
    ("HEAD", "/", "", [(200, ""), (200, ""), (200, "")]),
    (
        "GET",
        "/_search",
        "",
        [
            (200, "seller-unspecified"),
            (200, "ad-en ad-sv seller-unspecified"),
            (200, ALL),
        ],
    ),
    (
        "POST",
        "/_search",
        MATCH,
        [
            (200, "seller-unspecified"),
            (200, "ad-en ad-sv seller-unspecified"),
            (200, ALL),
        ],
    ),
    (
        "GET",
        "/_all/_search",
        MATCH,
        [
            (200, "seller-unspecified"),
            (200, "ad-en ad-sv seller-unspecified"),
            (200, ALL),
        ],
    ),
    (
        "GET",
        "/*/_count",
        "",
        [
            (200, "seller-unspecified"),
            (200, "ad-en ad-sv seller-unspecified"),
            (200, ALL),
        ],
    ),
    (
        "GET",
        "/ad/_search",
        "",
        [(404, ""), (200, "ad-en ad-sv"), (200, "ad-en ad-sv")],
    ),
    (
        "POST",
        "/ad-sv/_search",
        MATCH,
        [(404, ""), (200, "ad-sv"), (200, "ad-sv")],
    ),
    ("POST", "/ad-de/_search", MATCH, [(404, ""), (404, ""), (404, "")]),
    (
        "POST",
        "/a*/_search",
        MATCH,
        [(200, ""), (200, "ad-en ad-sv"), (200, "ad-en ad-sv")],
    ),
    (
        "POST",
        "/l*/_search",
        MATCH,
        [(200, ""), (200, ""), (200, "ledger-unspecified")],
    ),
    (
        "GET",
        "/seller/_search",
        "",
        [
            (200, "seller-unspecified"),
            (200, "seller-unspecified"),
            (200, "seller-unspecified"),
        ],
    ),
    (
        "GET",
        "/seller,ad/_search",
        "",
        [
            (404, ""),
            (200, "ad-en ad-sv seller-unspecified"),
            (200, "ad-en ad-sv seller-unspecified"),
        ],
    ),
    (
        "GET",
        "/seller%2Cad-en/_search",
        "",
        [
            (404, ""),
            (200, "ad-en seller-unspecified"),
            (200, "ad-en seller-unspecified"),
        ],
    ),
    (
        "GET",
        "/ledger/_search",
        "",
        [(404, ""), (404, ""), (200, "ledger-unspecified")],
    ),
    (
        "GET",
        "/ledger/_count",
        "",
        [(404, ""), (404, ""), (200, "ledger-unspecified")],
    ),
    (
        "POST",
        "/ad,ledger/_count",
        "",
        [(404, ""), (404, ""), (200, "ad-en ad-sv ledger-unspecified")],
    ),
    ("GET", "/none/_search", "", [(404, ""), (404, ""), (404, "")]),
    (
        "GET",
        "/documents-blue7-ad-en/_search",
        "",
        [(404, ""), (404, ""), (404, "")],
    ),
    (
        "GET",
        "/documents-blue7-ad-en/_doc/open",
        "",
        [(404, ""), (404, ""), (404, "")],
    ),
    ("GET", "/Ad/_search", "", [(400, ""), (400, ""), (400, "")]),
    ("GET", "/*,-ledger/_search", "", [(400, ""), (400, ""), (400, "")]),
    ("GET", "/other:ad/_search", "", [(400, ""), (400, ""), (400, "")]),
    (
        "GET",
        "/%3Cad-%7Bnow%7D%3E/_search",
        "",
        [(400, ""), (400, ""), (400, "")],
    ),
    ("GET", "/ad%0A/_search", "", [(400, ""), (400, ""), (400, "")]),
    ("GET", "/ad%FF/_search", "", [(400, ""), (400, ""), (400, "")]),
    (
        "GET",
        "/_count",
        "",
        [
            (200, "seller-unspecified"),
            (200, "ad-en ad-sv seller-unspecified"),
            (200, ALL),
        ],
    ),
    (
        "GET",
        "/ad/_doc/open",
        "",
        [(404, ""), (200, "ad-en ad-sv"), (200, "ad-en ad-sv")],
    ),
    (
        "HEAD",
        "/ad/_doc/open",
        "",
        [(404, ""), (200, "ad-en ad-sv"), (200, "ad-en ad-sv")],
    ),
    (
        "GET",
        "/ad-sv/_doc/svensk",
        "",
        [(404, ""), (200, "ad-sv"), (200, "ad-sv")],
    ),
    (
        "GET",
        "/ad/_doc/hidden",
        "",
        [(404, ""), (404, "ad-en ad-sv"), (200, "ad-en ad-sv")],
    ),
    (
        "HEAD",
        "/ad/_doc/hidden",
        "",
        [(404, ""), (404, "ad-en ad-sv"), (200, "ad-en ad-sv")],
    ),
    (
        "GET",
        "/seller/_doc/1",
        "",
        [
            (200, "seller-unspecified"),
            (200, "seller-unspecified"),
            (200, "seller-unspecified"),
        ],
    ),
    (
        "GET",
        "/seller/_doc/a%2Fb%2C%C3%B6%20%3F%25",
        "",
        [
            (200, "seller-unspecified"),
            (200, "seller-unspecified"),
            (200, "seller-unspecified"),
        ],
    ),
    (
        "GET",
        "/seller/_doc/none",
        "",
        [
            (404, "seller-unspecified"),
            (404, "seller-unspecified"),
            (404, "seller-unspecified"),
        ],
    ),
    ("GET", "/*/_doc/1", "", [(400, ""), (400, ""), (400, "")]),
    ("GET", "/seller,ad/_doc/1", "", [(400, ""), (400, ""), (400, "")]),
    (
        "POST",
        "/_mget",
        MGET,
        [
            (200, ""),
            (200, "ad-en ad-sv"),
            (200, "ad-en ad-sv ledger-unspecified"),
        ],
    ),
    (
        "GET",
        "/seller/_mget",
        r#"{"ids":["1","none"]}"#,
        [
            (200, "seller-unspecified"),
            (200, "seller-unspecified"),
            (200, "seller-unspecified"),
        ],
    ),
    (
        "POST",
        "/_mget",
        r#"{"ids":["1"]}"#,
        [(400, ""), (400, ""), (400, "")],
    ),
    (
        "GET",
        "/_mget",
        MGET,
        [
            (200, ""),
            (200, "ad-en ad-sv"),
            (200, "ad-en ad-sv ledger-unspecified"),
        ],
    ),
    (
        "POST",
        "/seller/_mget",
        r#"{"ids":["1"]}"#,
        [
            (200, "seller-unspecified"),
            (200, "seller-unspecified"),
            (200, "seller-unspecified"),
        ],
    ),
    (
        "POST",
        "/_count",
        MATCH,
        [
            (200, "seller-unspecified"),
            (200, "ad-en ad-sv seller-unspecified"),
            (200, ALL),
        ],
    ),
    (
        "GET",
        "/_instep/health/live",
        "",
        [(200, ""), (200, ""), (200, "")],
    ),
    (
        "GET",
        "/_instep/health/ready",
        "",
        [(200, ""), (200, ""), (200, "")],
    ),
    (
        "GET",
        "/_instep/capabilities",
        "",
        [(200, ""), (200, ""), (200, "")],
    ),
    ("GET", "/_instep/status", "", [(401, ""), (403, ""), (200, "")]),
    ("GET", "/metrics", "", [(401, ""), (403, ""), (200, "")]),
    ("GET", "/_cat/indices", "", [(404, ""), (404, ""), (404, "")]),
    ("GET", "/ad/_mapping", "", [(404, ""), (404, ""), (404, "")]),
    ("POST", "/_bulk", "{}", [(404, ""), (404, ""), (404, "")]),
    ("PUT", "/ad/_doc/open", "{}", [(405, ""), (405, ""), (405, "")]),
    ("DELETE", "/ad/_doc/open", "", [(405, ""), (405, ""), (405, "")]),
    ("DELETE", "/_search", "", [(405, ""), (405, ""), (405, "")]),
    ("POST", "/", "", [(405, ""), (405, ""), (405, "")]),
];

#[tokio::test]
async fn every_route_for_every_caller() {
    let shop = shop();
    for (method, path, body, expected) in CASES {
        for ((who, key), (status, indexes)) in [
            ("anonymous", None),
            ("buyer", Some(BUYER)),
            ("staff", Some(STAFF)),
        ]
        .into_iter()
        .zip(expected)
        {
            let answer = shop.ask(method, path, key, body).await;
            assert_eq!(
                answer.status.as_u16(),
                *status,
                "{method} {path} as {who}: {}",
                answer.body
            );
            assert_eq!(shop.given().join(" "), *indexes, "{method} {path} as {who}");
            assert_eq!(
                answer.header("x-elastic-product"),
                "Elasticsearch",
                "{method} {path}"
            );
            if *method == "HEAD" {
                assert_eq!(answer.body, "", "{path}");
            } else if *status >= 400 && answer.json().get("found").is_none() {
                let json = answer.json();
                assert_eq!(json["status"], *status, "{method} {path}");
                assert!(
                    json["error"]["root_cause"][0]["reason"].is_string(),
                    "{method} {path}"
                );
            }
            // The caller's own words may stand in the answer; the set's name was only in those.
            let own = path.contains(SET);
            assert!(
                own || !answer.body.contains(SET),
                "{method} {path} as {who}: {}",
                answer.body
            );
        }
    }
}

#[tokio::test]
async fn the_table_covers_every_route() {
    for (route, methods) in crate::routes::ROUTES {
        let pieces = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
        let fits = |path: &str| {
            let (route, path) = (pieces(route), pieces(path));
            route.len() == path.len()
                && route.iter().zip(&path).all(|(pattern, piece)| {
                    pattern == piece || (pattern.starts_with('{') && !piece.is_empty())
                })
        };
        for wanted in methods.split(", ") {
            let covered = CASES
                .iter()
                .any(|(method, path, _, expected)| *method == wanted && fits(path) && expected[2].0 < 300);
            assert!(covered, "{wanted} {route}");
        }
    }
}

/// Readers decide on every path, and the engine is told of them.
#[tokio::test]
async fn callers_see_their_documents() {
    let shop = shop();
    let everyone = ["ad-en/open", "ad-en/shared", "ad-sv/svensk"];
    let all = ["ad-en/open", "ad-en/shared", "ad-en/hidden", "ad-sv/svensk"];
    for (key, expected) in [(BUYER, &everyone[..]), (STAFF, &all)] {
        assert_eq!(
            shop.ask("GET", "/ad/_search", Some(key), "").await.hits(),
            expected
        );
        let count = shop.ask("GET", "/ad/_count", Some(key), "").await.json()["count"].clone();
        assert_eq!(count, expected.len());
    }
    let visibilities: Vec<Visibility> = shop
        .engine
        .given
        .lock()
        .unwrap()
        .iter()
        .map(|(_, visibility)| visibility.clone())
        .collect();
    let buyer = Visibility::of(Some("buyer-subject"), &["everyone".to_owned()]);
    assert_eq!(
        visibilities,
        [
            buyer.clone(),
            buyer,
            Visibility::Everything,
            Visibility::Everything
        ]
    );
    let anonymous = shop.ask("GET", "/_search", None, "").await;
    assert_eq!(anonymous.hits(), ["seller/1", "seller/gone", "seller/a/b,ö ?%"]);
}
