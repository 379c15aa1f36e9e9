-- The demo's car marketplace. Every table has a primary key, and every foreign key an index.

CREATE TABLE manufacturer (
    id      INTEGER PRIMARY KEY,
    name    TEXT NOT NULL UNIQUE,
    country TEXT NOT NULL,
    founded INTEGER NOT NULL
);

CREATE TABLE model (
    id              INTEGER PRIMARY KEY,
    manufacturer_id INTEGER NOT NULL REFERENCES manufacturer (id),
    name            TEXT NOT NULL,
    body            TEXT NOT NULL,
    seats           INTEGER NOT NULL
);

CREATE TABLE car (
    id       INTEGER PRIMARY KEY,
    model_id INTEGER NOT NULL REFERENCES model (id),
    year     INTEGER NOT NULL,
    km       INTEGER NOT NULL,
    fuel     TEXT NOT NULL,
    gearbox  TEXT NOT NULL,
    colour   TEXT NOT NULL,
    power_kw INTEGER NOT NULL
);

CREATE TABLE seller (
    id      INTEGER PRIMARY KEY,
    name    TEXT NOT NULL,
    city    TEXT NOT NULL,
    country TEXT NOT NULL,
    kind    TEXT NOT NULL CHECK (kind IN ('private', 'dealer'))
);

CREATE TABLE ad (
    id        INTEGER PRIMARY KEY,
    car_id    INTEGER NOT NULL REFERENCES car (id) ON DELETE CASCADE,
    seller_id INTEGER NOT NULL REFERENCES seller (id),
    state     TEXT NOT NULL CHECK (state IN ('open', 'sold')),
    lang      TEXT NOT NULL CHECK (lang IN ('en', 'sv', 'de')),
    title     TEXT NOT NULL,
    body      TEXT NOT NULL,
    price     TEXT NOT NULL,                                 -- euros with two decimals, as text: no digit is lost
    published TEXT NOT NULL,                                 -- date and time in UTC
    readers   TEXT NOT NULL CHECK (json_type(readers) = 'array')   -- who may read the ad
);

CREATE TABLE tag (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE ad_tag (
    ad_id  INTEGER NOT NULL REFERENCES ad (id) ON DELETE CASCADE,
    tag_id INTEGER NOT NULL REFERENCES tag (id),
    PRIMARY KEY (ad_id, tag_id)
) WITHOUT ROWID;

-- Whom a seller does not want to deal with, by the subject of the caller's key.
CREATE TABLE block (
    id        INTEGER PRIMARY KEY,
    seller_id INTEGER NOT NULL REFERENCES seller (id),
    who       TEXT NOT NULL
);
