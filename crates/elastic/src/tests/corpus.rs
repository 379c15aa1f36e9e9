//! Valid bodies in which every key of the table stands, with a value other than its default.

pub(crate) const SEARCHES: &[&str] = &[
    r#"{}"#,
    r#"{"query":{"match_all":{"boost":2}},"from":5,"size":20,"track_total_hits":false,"track_scores":true,"min_score":0.5,"timeout":"2s","version":false,"seq_no_primary_term":false,"explain":false,"profile":false}"#,
    r#"{"query":{"match_none":{}}}"#,
    r#"{"query":{"match":{"title":"red car"}}}"#,
    r#"{"query":{"match":{"title":{"query":"red car","operator":"and","minimum_should_match":"2<75% 9<-3","zero_terms_query":"all","boost":1.5}}}}"#,
    r#"{"query":{"multi_match":{"query":"red","fields":["title^3","body"],"type":"best_fields","tie_breaker":0.3,"operator":"and","minimum_should_match":2,"boost":2}}}"#,
    r#"{"query":{"match_phrase":{"title":"red car"}}}"#,
    r#"{"query":{"match_phrase":{"title":{"query":"red car","slop":2,"boost":2}}}}"#,
    r#"{"query":{"term":{"year":2019}}}"#,
    r#"{"query":{"term":{"brand":{"value":"saab","case_insensitive":false,"boost":2}}}}"#,
    r#"{"query":{"terms":{"brand":["saab","volvo",7,true,1.5],"boost":2}}}"#,
    r#"{"query":{"ids":{"values":["1","2"],"boost":2}}}"#,
    r#"{"query":{"range":{"date":{"gte":"2020-01||/M","lt":"now","format":"yyyy-MM","time_zone":"+01:00","boost":2}}}}"#,
    r#"{"query":{"range":{"price":{"gt":10,"lte":20.5}}}}"#,
    r#"{"query":{"exists":{"field":"seller","boost":2}}}"#,
    r#"{"query":{"prefix":{"brand":"sa"}}}"#,
    r#"{"query":{"prefix":{"brand":{"value":"sa","case_insensitive":true,"boost":2}}}}"#,
    r#"{"query":{"bool":{"must":[{"match":{"title":"red"}},{"bool":{"should":{"term":{"a":1}}}}],"filter":{"term":{"a":1}},"should":[{"term":{"b":1}},{"term":{"c":1}}],"must_not":[{"exists":{"field":"d"}}],"minimum_should_match":-1,"boost":2}}}"#,
    r#"{"query":{"constant_score":{"filter":{"bool":{"must":{"term":{"a":1}}}},"boost":2}}}"#,
    r#"{"sort":["price",{"year":"desc"},{"title.keyword":{"order":"desc","missing":"_first","unmapped_type":"keyword"}},{"_score":{"order":"asc"}},{"_id":"desc"},"_doc"],"search_after":[1,2.5,"x",null,"7",true]}"#,
    r#"{"_source":{"includes":["a.*","b"],"excludes":"c"}}"#,
    r#"{"_source":["a"]}"#,
    r#"{"_source":false}"#,
    r#"{"aggs":{"brands":{"terms":{"field":"brand","size":5,"order":[{"prices.avg":"asc"},{"_key":"desc"}],"min_doc_count":2,"missing":"none","shard_size":100},"aggs":{"prices":{"stats":{"field":"price","missing":0}},"years":{"histogram":{"field":"year","interval":10,"offset":2,"min_doc_count":1,"keyed":true}}}}}}"#,
    r#"{"aggregations":{"prices":{"range":{"field":"price","ranges":[{"key":"cheap","to":10},{"from":10,"to":20},{"from":20}],"keyed":true},"aggregations":{"n":{"value_count":{"field":"price"}}}}}}"#,
    r#"{"aggs":{"months":{"date_histogram":{"field":"date","calendar_interval":"1M","time_zone":"-05:00","format":"yyyy-MM","keyed":true,"min_doc_count":1}},"days":{"date_histogram":{"field":"date","fixed_interval":"1d"}}}}"#,
    r#"{"aggs":{"a":{"min":{"field":"x","missing":1}},"b":{"max":{"field":"x","missing":1}},"c":{"avg":{"field":"x","missing":1}},"d":{"sum":{"field":"x","missing":1}},"e":{"value_count":{"field":"x","missing":1}}}}"#,
];

pub(crate) const COUNTS: &[&str] = &[r#"{"query":{"term":{"a":1}}}"#];

pub(crate) const MGETS: &[&str] = &[
    r#"{"docs":[{"_index":"car","_id":"7","_source":["a"]},{"_id":8,"_source":{"includes":"a","excludes":["b"]}}]}"#,
    r#"{"ids":["7","8"]}"#,
];
