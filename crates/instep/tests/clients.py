"""Drives instep through an official client: connect, search, page with search_after, meet an unknown clause.

usage: clients.py <elasticsearch|opensearch> <url> <collection> <sort field> <documents> [<key name> <secret>]
Prints one line and exits 0 when everything held.
"""

import sys

kind, url, collection, field, documents = sys.argv[1:6]
key = sys.argv[6:8]

if kind == "opensearch":
    import opensearchpy as library

    client = library.OpenSearch([url], http_auth=tuple(key) if key else None)
    failure = library.exceptions.RequestError
else:
    import elasticsearch as library

    major = library.__version__[0]
    options = {}
    if key and major >= 8:
        options["basic_auth"] = tuple(key)
    elif key:
        options["http_auth"] = tuple(key)
    client = library.Elasticsearch([url], **options)
    failure = getattr(library, "BadRequestError", None) or library.exceptions.RequestError

if key and kind == "elasticsearch":
    for api_key in (tuple(key), key[1]):
        by_key = library.Elasticsearch([url], api_key=api_key)
        assert by_key.count(index=collection)["count"] == int(documents)

version = ".".join(str(part) for part in library.__version__[:3]) if isinstance(library.__version__, tuple) else library.__versionstr__
# Clients took one `body` up to version 7 and for OpenSearch; later ones take its members as arguments.
whole_body = kind == "opensearch" or library.__version__[0] < 8


def search(**body):
    if whole_body:
        return client.search(index=collection, body=body)
    return client.search(index=collection, **{"from_" if name == "from" else name: value for name, value in body.items()})


information = client.info()
assert information["version"]["number"], information

found = search(query={"match_all": {}}, size=3, track_total_hits=True)
assert found["hits"]["total"] == {"value": int(documents), "relation": "eq"}, found["hits"]["total"]
assert len(found["hits"]["hits"]) == 3

assert client.count(index=collection)["count"] == int(documents)
first = found["hits"]["hits"][0]
assert client.get(index=collection, id=first["_id"])["_source"] == first["_source"]
assert client.exists(index=collection, id=first["_id"])
assert not client.exists(index=collection, id="no such document")

seen, after = set(), None
while True:
    body = {"query": {"match_all": {}}, "size": 500, "sort": [{field: "asc"}, {"_id": "asc"}]}
    if after is not None:
        body["search_after"] = after
    page = search(**body)["hits"]["hits"]
    if not page:
        break
    seen.update(hit["_id"] for hit in page)
    after = page[-1]["sort"]
assert len(seen) == int(documents), (len(seen), documents)

try:
    search(query={"more_or_less": {"title": "x"}})
except failure as error:
    assert "more_or_less" in str(error), error
    status = getattr(error, "status_code", None)
    assert status == 400, status
else:
    raise AssertionError("an unknown clause was accepted")

print(f"{kind} {version}: {len(seen)} documents paged, the unknown clause refused")
