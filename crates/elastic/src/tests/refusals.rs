//! Refusals: what they name, and where.

use super::{params, refusal, search};
use crate::{Params, parse_count, parse_get, parse_mget, parse_search};

#[test]
fn bodies() {
    let cases = [
        // What is not there at all.
        (
            r#"{"query":{"nested":{"path":"a"}}}"#,
            "query: [nested] is not supported by instep; supported: match_all,",
        ),
        (
            r#"{"query":{"bool":{"must":[{"match_all":{}},{"script":{}}]}}}"#,
            "query.bool.must[1]: [script] is not supported",
        ),
        (
            r#"{"query":{"wrapper":{"query":"e30="}}}"#,
            "[wrapper] is not supported",
        ),
        (
            r#"{"query":{"script_score":{}}}"#,
            "[script_score] is not supported",
        ),
        (
            r#"{"query":{"more_like_this":{}}}"#,
            "[more_like_this] is not supported",
        ),
        (
            r#"{"query":{"constant_score":{"filter":{"has_child":{}}}}}"#,
            "query.constant_score.filter: [has_child]",
        ),
        (
            r#"{"script_fields":{}}"#,
            "unknown key [script_fields] in [search]",
        ),
        (
            r#"{"runtime_mappings":{}}"#,
            "unknown key [runtime_mappings] in [search]",
        ),
        (r#"{"highlight":{}}"#, "unknown key [highlight] in [search]"),
        (r#"{"suggest":{}}"#, "unknown key [suggest] in [search]"),
        (r#"{"pit":{"id":"x"}}"#, "unknown key [pit] in [search]"),
        (
            r#"{"aggs":{"a":{"global":{}}}}"#,
            "aggs.a: [global] is not supported by instep",
        ),
        (
            r#"{"aggs":{"a":{"significant_terms":{"field":"x"}}}}"#,
            "[significant_terms] is not supported",
        ),
        (
            r#"{"aggs":{"a":{"meta":{},"max":{"field":"x"}}}}"#,
            "[meta] is not supported",
        ),
        // Keys.
        (
            r#"{"query":{"match":{"title":{"query":"a","fuzziness":"AUTO"}}}}"#,
            "query.match.title: unknown key [fuzziness] in [match]; supported: query, operator,",
        ),
        (
            r#"{"query":{"match":{"title":{"query":"a","_name":"n"}}}}"#,
            "unknown key [_name] in [match]",
        ),
        (
            r#"{"query":{"bool":{"mustNot":[]}}}"#,
            "unknown key [mustNot] in [bool]",
        ),
        (
            r#"{"query":{"bool":{"_name":"n"}}}"#,
            "unknown key [_name] in [bool]",
        ),
        (
            r#"{"query":{"range":{"a":{"from":1}}}}"#,
            "unknown key [from] in [range]",
        ),
        (
            r#"{"query":{"range":{"a":{"relation":"WITHIN"}}}}"#,
            "unknown key [relation] in [range]",
        ),
        (
            r#"{"query":{"prefix":{"a":{"value":"x","rewrite":"constant_score"}}}}"#,
            "unknown key [rewrite] in [prefix]",
        ),
        (
            r#"{"sort":{"a":{"mode":"avg"}}}"#,
            "sort.a: unknown key [mode] in [sort]",
        ),
        (
            r#"{"sort":[{"_score":{"missing":"_last"}}]}"#,
            "sort[0]._score: unknown key [missing]",
        ),
        (
            r#"{"sort":{"_script":{"type":"number","script":"1"}}}"#,
            "sort._script: the metadata field [_script]",
        ),
        (
            r#"{"sort":{"_geo_distance":{"a":[0,0]}}}"#,
            "sort._geo_distance: the metadata field [_geo_distance]",
        ),
        (
            r#"{"aggs":{"a":{"terms":{"field":"x","include":"a.*"}}}}"#,
            "unknown key [include] in [terms]",
        ),
        (
            r#"{"aggs":{"a":{"terms":{"script":"1"}}}}"#,
            "unknown key [script] in [terms]",
        ),
        (
            r#"{"aggs":{"a":{"histogram":{"field":"x","interval":1,"extended_bounds":{}}}}}"#,
            "unknown key [extended_bounds]",
        ),
        (
            r#"{"aggs":{"a":{"date_histogram":{"field":"x","interval":"1d"}}}}"#,
            "unknown key [interval] in [date_histogram]",
        ),
        (
            r#"{"aggs":{"a":{"date_histogram":{"field":"x","fixed_interval":"1d","offset":"1h"}}}}"#,
            "unknown key [offset]",
        ),
        (
            r#"{"_source":{"include":["a"]}}"#,
            "_source: unknown key [include]",
        ),
        // Forms.
        (r#"[]"#, "the body must be an object, not an array"),
        (r#"{"query":{}}"#, "[query] is empty"),
        (r#"{"query":null}"#, "[query] must be an object, not null"),
        (
            r#"{"query":{"match_all":{},"term":{"a":1}}}"#,
            "found [match_all] and [term]",
        ),
        (
            r#"{"query":{"match":{"a":"x","b":"y"}}}"#,
            "query.match: [match] takes the name of one field, found [a] and [b]",
        ),
        (
            r#"{"query":{"match":{"a":["x"]}}}"#,
            "query.match.a: [a] must be a single value, not an array",
        ),
        (
            r#"{"query":{"match":{"a":{"operator":"and"}}}}"#,
            "[match] requires [query]",
        ),
        (r#"{"query":{"match":{"":"x"}}}"#, "a field's name is empty"),
        (
            r#"{"query":{"term":{"a":null}}}"#,
            "[a] must be a single value, not null",
        ),
        (r#"{"query":{"term":{"a":[1,2]}}}"#, "[a] must be a single value"),
        (
            r#"{"query":{"terms":{"a":{"index":"x","id":"1","path":"p"}}}}"#,
            "[terms] lookup is not supported, found for [a]",
        ),
        (r#"{"query":{"terms":{"a":[1],"b":[2]}}}"#, "found [a] and [b]"),
        (r#"{"query":{"terms":{"a":"x"}}}"#, "[a] must be an array"),
        (r#"{"query":{"terms":{"a":[null]}}}"#, "query.terms.a[0]"),
        (r#"{"query":{"terms":{"boost":2}}}"#, "[terms] requires a field"),
        (
            r#"{"query":{"bool":{"must":null}}}"#,
            "[must] must be an object, not null",
        ),
        (r#"{"query":{"bool":{"must":["x"]}}}"#, "query.bool.must[0]"),
        (
            r#"{"query":{"multi_match":{"query":"x"}}}"#,
            "[multi_match] requires [fields]",
        ),
        (
            r#"{"query":{"multi_match":{"query":"x","fields":[]}}}"#,
            "at least one field",
        ),
        (
            r#"{"aggs":{},"aggregations":{}}"#,
            "[aggs] or [aggregations], not both",
        ),
        (r#"{"aggs":{"a":{}}}"#, "the aggregation [a] has no kind"),
        (
            r#"{"aggs":{"a":{"min":{"field":"x"},"max":{"field":"x"}}}}"#,
            "[min] and [max]",
        ),
        (
            r#"{"aggs":{"a":{"terms":{"field":"x"},"aggs":{},"aggregations":{}}}}"#,
            "aggs.a: an aggregation takes",
        ),
        // Values.
        (
            r#"{"query":{"match":{"a":{"query":"x","operator":"xor"}}}}"#,
            "query.match.a.operator: [operator] cannot be [xor]; supported: or, and",
        ),
        (
            r#"{"query":{"match":{"a":{"query":"x","boost":-1}}}}"#,
            "negative [boost]",
        ),
        (
            r#"{"query":{"match":{"a":{"query":"x","minimum_should_match":"most"}}}}"#,
            "[most] is no minimum",
        ),
        (
            r#"{"query":{"multi_match":{"query":"x","fields":"a","type":"cross_fields"}}}"#,
            "[type] cannot be [cross_fields]; supported: best_fields",
        ),
        (
            r#"{"query":{"multi_match":{"query":"x","fields":"a^b"}}}"#,
            "[a^b] has no number",
        ),
        (
            r#"{"query":{"term":{"a":{"value":"x","case_insensitive":true}}}}"#,
            "[case_insensitive] may only be false",
        ),
        (
            r#"{"query":{"range":{"a":{"gt":1,"gte":1}}}}"#,
            "[gte] or [gt], not both",
        ),
        (
            r#"{"query":{"range":{"a":{"time_zone":"Europe/Stockholm"}}}}"#,
            "the time zone [Europe/Stockholm] is not supported",
        ),
        (r#"{"version":true}"#, "version: [version] may only be false"),
        (r#"{"explain":true}"#, "[explain] may only be false"),
        (r#"{"size":-1}"#, "[size] must be at least 0, found [-1]"),
        (r#"{"size":1.5}"#, "[size] must be an integer"),
        (
            r#"{"from":9990,"size":11}"#,
            "Result window is too large, from + size must be less than or equal to: [10000] but was [10001]",
        ),
        (
            r#"{"size":10001,"sort":"a","search_after":[1]}"#,
            "Result window is too large",
        ),
        (r#"{"search_after":[1]}"#, "requires [sort]"),
        (
            r#"{"sort":["a","b"],"search_after":[1]}"#,
            "has 1 values but [sort] has 2 keys",
        ),
        (
            r#"{"sort":"a","search_after":[1],"from":1}"#,
            "`from` parameter must be set to 0",
        ),
        (
            r#"{"sort":{"a":{"missing":"zero"}}}"#,
            "sort.a.missing: [missing] cannot be [zero]",
        ),
        (
            r#"{"sort":{"a":{"unmapped_type":"geo_point"}}}"#,
            "[unmapped_type] cannot be [geo_point]",
        ),
        (r#"{"sort":{"a":"up"}}"#, "[a] cannot be [up]"),
        (
            r#"{"_source":{"includes":["a"],"excludes":["a"]}}"#,
            "[a] is both included and excluded",
        ),
        (r#"{"track_total_hits":-1}"#, "must be at least 0"),
        (r#"{"timeout":"soon"}"#, "[soon] is no duration"),
        (
            r#"{"aggs":{"a>b":{"max":{"field":"x"}}}}"#,
            "[a>b] cannot be the name",
        ),
        (r#"{"aggs":{"a[b]":{"max":{"field":"x"}}}}"#, "cannot be the name"),
        (
            r#"{"aggs":{"a":{"max":{"field":"x"},"aggs":{}}}}"#,
            "[a] of kind [max] cannot have aggregations inside",
        ),
        (
            r#"{"aggs":{"a":{"terms":{"field":"x","size":0}}}}"#,
            "[size] must be at least 1",
        ),
        (
            r#"{"aggs":{"a":{"terms":{"field":"x","size":10001}}}}"#,
            "[size] must be at most 10000",
        ),
        (
            r#"{"aggs":{"a":{"terms":{"field":"x","order":{"m":"asc"}}}}}"#,
            "[order] names [m], which is no aggregation",
        ),
        (
            r#"{"aggs":{"a":{"terms":{"field":"x","order":{"_term":"asc"}}}}}"#,
            "[order] by [_term] is not supported",
        ),
        (
            r#"{"aggs":{"a":{"terms":{"field":"x","order":{"m":"asc"}},"aggs":{"m":{"stats":{"field":"y"}}}}}}"#,
            "needs one of its",
        ),
        (
            r#"{"aggs":{"a":{"terms":{"field":"x","order":{"m":"asc"}},"aggs":{"m":{"terms":{"field":"y"}}}}}}"#,
            "which is no metric",
        ),
        (
            r#"{"aggs":{"a":{"terms":{"field":"x","order":{"m.avg":"asc"}},"aggs":{"m":{"max":{"field":"y"}}}}}}"#,
            "has no value [avg]",
        ),
        (
            r#"{"aggs":{"a":{"range":{"field":"x","ranges":[]}}}}"#,
            "at least one of [ranges]",
        ),
        (
            r#"{"aggs":{"a":{"range":{"field":"x","ranges":[{"from":"now"}]}}}}"#,
            "aggs.a.range.ranges[0].from",
        ),
        (
            r#"{"aggs":{"a":{"histogram":{"field":"x","interval":0}}}}"#,
            "[interval] must be above 0",
        ),
        (
            r#"{"aggs":{"a":{"date_histogram":{"field":"x"}}}}"#,
            "either [fixed_interval] or [calendar_interval]",
        ),
        (
            r#"{"aggs":{"a":{"date_histogram":{"field":"x","fixed_interval":"1M"}}}}"#,
            "[1M] is no fixed interval",
        ),
        (
            r#"{"aggs":{"a":{"date_histogram":{"field":"x","calendar_interval":"2d"}}}}"#,
            "[calendar_interval] cannot be [2d]",
        ),
    ];
    for (body, expected) in cases {
        match search(body) {
            Ok(call) => panic!("accepted: {body}\nas {call:?}"),
            Err(error) => assert!(refusal(&error).contains(expected), "{body}\n{error}\n{expected}"),
        }
    }
}

#[test]
fn parameters() {
    let cases = [
        (("q", "title:red"), "[q] is supported only as"),
        (("source", "{}"), "unknown parameter [source] of [_search]"),
        (("scroll", "1m"), "unknown parameter [scroll]"),
        (("routing", "a"), "unknown parameter [routing]"),
        (
            ("ignore_unavailable", "true"),
            "?ignore_unavailable: [ignore_unavailable] cannot be [true]; supported: false",
        ),
        (
            ("allow_no_indices", "false"),
            "[allow_no_indices] cannot be [false]",
        ),
        (
            ("expand_wildcards", "none"),
            "[expand_wildcards] cannot be [none]",
        ),
        (("preference", "_shards:0"), "[preference] cannot be [_shards:0]"),
        (("batched_reduce_size", "1"), "must be at least 2"),
        (("search_type", "dfs_query_then_fetch"), "[search_type] cannot be"),
        (("version", "true"), "[version] cannot be [true]"),
        (
            ("pretty", "yes"),
            "[pretty] cannot be [yes]; supported: true, false",
        ),
        (("size", "ten"), "[size] must be an integer"),
        (("sort", "a:up"), "?sort: the order [up]"),
        (("sort", "a,,b"), "a field's name is empty"),
        (("timeout", "1w"), "[1w] is no duration"),
        (("filter_path", "a..b"), "[a..b] is no path"),
    ];
    for ((name, value), expected) in cases {
        let error = parse_search(b"", &params(&[(name, value)]), 0).unwrap_err();
        assert!(refusal(&error).contains(expected), "{name}={value}: {error}");
    }
    let pairs = vec![
        ("size".to_owned(), "1".to_owned()),
        ("size".to_owned(), "1".to_owned()),
    ];
    assert!(refusal(&Params::new(pairs).unwrap_err()).contains("[size] stands twice"));

    let both = [
        (r#"{"query":{"match_all":{}}}"#, ("q", "*"), "exclude each other"),
        (r#"{"sort":"a"}"#, ("sort", "a"), "in the body and in the URL"),
    ];
    for (body, pair, expected) in both {
        let error = parse_search(body.as_bytes(), &params(&[pair]), 0).unwrap_err();
        assert!(refusal(&error).contains(expected), "{error}");
    }
    let hits = params(&[("rest_total_hits_as_int", "true"), ("track_total_hits", "100")]);
    assert!(refusal(&parse_search(b"", &hits, 0).unwrap_err()).contains("needs an exact total"));
    for pairs in [
        [("_source", "false"), ("_source_includes", "a")],
        [("_source", "a"), ("_source_includes", "b")],
        [("_source_includes", "a"), ("_source_excludes", "a")],
    ] {
        refusal(&parse_get(&params(&pairs)).unwrap_err());
    }
}

#[test]
fn documents_and_counts() {
    let none = Params::default();
    let long = format!(r#"{{"ids":["{}"]}}"#, "x".repeat(513));
    let cases = [
        ("", "ends where a JSON value"),
        ("{}", "either [docs] or [ids]"),
        (r#"{"ids":[],"docs":[]}"#, "either [docs] or [ids]"),
        (r#"{"ids":[]}"#, "no documents to get"),
        (r#"{"ids":[""]}"#, "ids[0]: a document's _id has 1 to 512 bytes"),
        (&long, "a document's _id has 1 to 512 bytes"),
        (r#"{"docs":[{"_index":"a"}]}"#, "docs[0]: [docs] requires [_id]"),
        (
            r#"{"docs":[{"_id":"1","routing":"x"}]}"#,
            "unknown key [routing] in [docs]",
        ),
        (
            r#"{"docs":[{"_id":"1","_type":"x"}]}"#,
            "unknown key [_type] in [docs]",
        ),
    ];
    for (body, expected) in cases {
        let error = parse_mget(body.as_bytes(), &none).unwrap_err();
        assert!(refusal(&error).contains(expected), "{body}: {error}");
    }
    let error = parse_count(br#"{"size":1}"#, &none, 0).unwrap_err();
    assert!(refusal(&error).contains("unknown key [size] in [count]; supported: query"));
    let error = parse_get(&params(&[("realtime", "false")])).unwrap_err();
    assert!(refusal(&error).contains("[realtime] cannot be [false]"));
}

#[test]
fn remedies() {
    let cases = [
        (r#"{"query":{"bool":{"mustNot":[]}}}"#, "write must_not"),
        (r#"{"query":{"range":{"a":{"from":1}}}}"#, "use gte or gt"),
        (r#"{"from":10000}"#, "page with `search_after`"),
    ];
    for (body, remedy) in cases {
        assert_eq!(search(body).unwrap_err().remedy(), Some(remedy), "{body}");
    }
}

/// `prefix`, `range` or an aggregation on a metadata field answered 200 with nothing.
#[test]
fn metadata_fields_are_refused_rather_than_empty() {
    let queries = [
        (r#"{"prefix":{"_id":"1"}}"#, "_id"),
        (r#"{"range":{"_id":{"gte":"1"}}}"#, "_id"),
        (r#"{"range":{"_seq_no":{"gte":1}}}"#, "_seq_no"),
        (r#"{"term":{"_index":"ad"}}"#, "_index"),
        (r#"{"terms":{"_index":["ad"]}}"#, "_index"),
        (r#"{"exists":{"field":"_index"}}"#, "_index"),
        (r#"{"exists":{"field":"_source"}}"#, "_source"),
        (r#"{"match":{"_all":"x"}}"#, "_all"),
        (r#"{"match_phrase":{"_all":"x"}}"#, "_all"),
        (
            r#"{"multi_match":{"query":"x","fields":["title","_all^2"]}}"#,
            "_all",
        ),
        (r#"{"multi_match":{"query":"x","fields":["_*"]}}"#, "_*"),
    ];
    let mut bodies: Vec<(String, &str)> = queries
        .iter()
        .map(|(query, named)| (format!(r#"{{"query":{query}}}"#), *named))
        .collect();
    for (kind, more) in [
        ("terms", ""),
        ("value_count", ""),
        ("stats", ""),
        ("histogram", r#","interval":1"#),
        ("range", r#","ranges":[{"to":1}]"#),
        ("date_histogram", r#","fixed_interval":"1d""#),
    ] {
        for field in ["_id", "_index"] {
            let body = format!(r#"{{"aggs":{{"a":{{"{kind}":{{"field":"{field}"{more}}}}}}}}}"#);
            bodies.push((body, field));
        }
    }
    for field in ["_index", "_seq_no"] {
        bodies.push((format!(r#"{{"sort":"{field}"}}"#), field));
        bodies.push((format!(r#"{{"sort":[{{"{field}":"desc"}}]}}"#), field));
    }
    for (body, named) in &bodies {
        let told = refusal(&search(body).expect_err(body));
        assert!(
            told.contains(&format!("the metadata field [{named}]")),
            "{body}\n{told}"
        );
    }
    let url = params(&[("sort", "_index:desc")]);
    assert!(refusal(&parse_search(b"", &url, 0).unwrap_err()).contains("[_index]"));

    for body in [
        r#"{"query":{"term":{"_id":"1"}}}"#,
        r#"{"query":{"terms":{"_id":["1"]}}}"#,
        r#"{"query":{"ids":{"values":["1"]}}}"#,
        r#"{"query":{"exists":{"field":"_id"}}}"#,
        r#"{"query":{"match":{"_id":"1"}}}"#,
        r#"{"sort":["_id",{"_doc":"desc"},"_score"]}"#,
    ] {
        assert!(search(body).is_ok(), "{body}");
    }
}

/// `?size=1` hid `{"size":-1}`.
#[test]
fn a_value_of_the_body_is_checked_though_the_url_names_it_too() {
    for (body, pair) in [
        (r#"{"size":-1}"#, ("size", "1")),
        (r#"{"from":"x"}"#, ("from", "1")),
        (r#"{"timeout":"soon"}"#, ("timeout", "1s")),
        (r#"{"track_total_hits":[]}"#, ("track_total_hits", "true")),
        (r#"{"track_scores":"perhaps"}"#, ("track_scores", "true")),
        (r#"{"_source":7}"#, ("_source", "a")),
    ] {
        let told = refusal(&parse_search(body.as_bytes(), &params(&[pair]), 0).expect_err(body));
        assert!(told.starts_with(pair.0), "{body}\n{told}");
    }
    // The value that counts is the one that must fit the others.
    let url = params(&[("rest_total_hits_as_int", "true"), ("track_total_hits", "true")]);
    assert!(parse_search(br#"{"track_total_hits":100}"#, &url, 0).is_ok());
}

#[test]
fn a_long_path_is_told_by_its_ends() {
    let levels = 20;
    let body = format!(
        r#"{{"query":{}{{"match_all":{{}}}}{}}}"#,
        r#"{"bool":{"must":["#.repeat(levels),
        "]}}".repeat(levels)
    );
    let told = refusal(&search(&body).unwrap_err());
    assert!(told.starts_with("query.bool.must[0].bool."), "{told}");
    assert!(told.contains('…') && told.contains("must[0]: queries"), "{told}");
    assert!(told.chars().count() < 250, "{told}");
}
