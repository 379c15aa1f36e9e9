#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// Writes messages as the server does, from what `decode` makes of them.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes()).bytes(&[0])
    }

    fn tuple(mut self, values: &[Datum<'_>]) -> Self {
        self = self.bytes(&u16::try_from(values.len()).unwrap().to_be_bytes());
        for value in values {
            self = match value {
                Datum::Null => self.bytes(b"n"),
                Datum::Unchanged => self.bytes(b"u"),
                Datum::Text(text) => {
                    let length = u32::try_from(text.len()).unwrap();
                    self.bytes(b"t").bytes(&length.to_be_bytes()).bytes(text)
                }
            };
        }
        self
    }
}

fn begins(kind: u8, relation: u32) -> Writer {
    Writer(vec![kind]).bytes(&relation.to_be_bytes())
}

fn values(tuple: Tuple<'_>) -> Vec<Datum<'_>> {
    tuple.iter().collect()
}

const ROW: &[Datum<'_>] = &[Datum::Text(b"7"), Datum::Null, Datum::Unchanged, Datum::Text(b"")];

/// One good message of each kind.
fn good() -> Vec<Vec<u8>> {
    let relation = begins(b'R', 9)
        .text("")
        .text("Art, \"new\"")
        .bytes(b"d")
        .bytes(&2u16.to_be_bytes())
        .bytes(&[1])
        .text("id")
        .bytes(&23u32.to_be_bytes())
        .bytes(&(-1i32).to_be_bytes())
        .bytes(&[0])
        .text("tïtle")
        .bytes(&1043u32.to_be_bytes())
        .bytes(&68i32.to_be_bytes());
    let messages = [
        Writer(b"B".to_vec())
            .bytes(&0x16_B374_D848u64.to_be_bytes())
            .bytes(&(-1i64).to_be_bytes())
            .bytes(&77u32.to_be_bytes()),
        Writer(b"C".to_vec())
            .bytes(&[0])
            .bytes(&1u64.to_be_bytes())
            .bytes(&2u64.to_be_bytes())
            .bytes(&3i64.to_be_bytes()),
        relation,
        begins(b'I', 9).bytes(b"N").tuple(ROW),
        begins(b'U', 9).bytes(b"N").tuple(ROW),
        begins(b'U', 9)
            .bytes(b"K")
            .tuple(&ROW[..2])
            .bytes(b"N")
            .tuple(ROW),
        begins(b'U', 9)
            .bytes(b"O")
            .tuple(&ROW[1..])
            .bytes(b"N")
            .tuple(ROW),
        begins(b'D', 9).bytes(b"K").tuple(ROW),
        begins(b'D', 9).bytes(b"O").tuple(ROW),
        begins(b'T', 2)
            .bytes(&[1])
            .bytes(&9u32.to_be_bytes())
            .bytes(&10u32.to_be_bytes()),
    ];
    messages.into_iter().map(|message| message.0).collect()
}

#[test]
fn each_message_is_understood() {
    let good = good();
    let decoded: Vec<Message<'_>> = good.iter().map(|message| decode(message).unwrap()).collect();
    assert_eq!(
        decoded[0],
        Message::Begin(Begin {
            xid: 77,
            commit: Lsn(0x16_B374_D848),
            committed_ms: EPOCH_MS - 1,
        })
    );
    assert_eq!(decoded[1], Message::Commit(Lsn(2)));
    let Message::Relation(relation) = &decoded[2] else {
        panic!()
    };
    assert_eq!(
        (&*relation.namespace, &*relation.name),
        ("pg_catalog", "Art, \"new\"")
    );
    assert_eq!((relation.oid, relation.identity), (9, b'd'));
    let columns: Vec<_> = relation
        .columns
        .iter()
        .map(|column| (&*column.name, column.identity, column.type_oid, column.modifier))
        .collect();
    assert_eq!(columns, [("id", true, 23, -1), ("tïtle", false, 1043, 68)]);
    let Message::Insert { relation: 9, new } = decoded[3] else {
        panic!()
    };
    assert_eq!((new.len(), values(new)), (4, ROW.to_vec()));
    assert!(matches!(decoded[4], Message::Update { old: None, new, .. } if values(new) == ROW));
    assert!(
        matches!(decoded[5], Message::Update { old: Some(Old::Key(old)), new, .. }
            if values(old) == ROW[..2] && values(new) == ROW)
    );
    assert!(
        matches!(decoded[6], Message::Update { old: Some(Old::Full(old)), new, .. }
            if values(old) == ROW[1..] && values(new) == ROW)
    );
    assert!(matches!(decoded[7], Message::Delete { relation: 9, old: Old::Key(old) } if values(old) == ROW));
    assert!(matches!(decoded[8], Message::Delete { relation: 9, old: Old::Full(old) } if values(old) == ROW));
    assert_eq!(decoded[9], Message::Truncate(vec![9, 10]));
    for nothing in [&b"O12345678name\0"[..], b"Y", b"M\x01whatever"] {
        assert_eq!(decode(nothing).unwrap(), Message::Nothing);
    }
    let rows: Vec<Option<u32>> = good.iter().map(|message| row_of(message)).collect();
    let expected: Vec<Option<u32>> = (0..10).map(|at| (3..9).contains(&at).then_some(9)).collect();
    assert_eq!(rows, expected);
}

#[test]
fn messages_that_are_cut_short_or_too_long_are_errors() {
    for message in good() {
        for end in 0..message.len() {
            let error = decode(&message[..end]).unwrap_err();
            assert_eq!(error.code(), "protocol", "{end} of {message:?}");
        }
        let longer = [&message[..], b"x"].concat();
        assert_eq!(decode(&longer).unwrap_err().code(), "protocol", "{longer:?}");
    }
}

#[test]
fn what_is_unknown_is_said_by_name() {
    for (message, why) in [
        (&b"Zabc"[..], "unknown message `Z`"),
        (b"\xff", "unknown message"),
        (b"S\0\0\0\x01\x01", "unknown message `S`"),
        (b"I\0\0\0\x09K", "unknown part of a change `K`"),
        (b"U\0\0\0\x09X", "unknown part of an update `X`"),
        (b"D\0\0\0\x09N", "unknown part of a change `N`"),
        (b"I\0\0\0\x09N\0\x01b\0\0\0\x00", "unknown kind of value `b`"),
        (
            b"I\0\0\0\x09N\0\x01t\xff\xff\xff\xff",
            "4294967295 bytes expected",
        ),
        (b"T\xff\xff\xff\xff\0", "bytes expected"),
        (b"R\0\0\0\x09public", "a name does not end"),
    ] {
        let error = decode(message).unwrap_err().to_string();
        assert!(error.contains(why), "{message:?}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever comes is understood or refused; a tuple that was understood has as many values as it says.
    #[test]
    fn hostile_bytes_never_panic(
        which in 0usize..10,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        tail in prop::collection::vec(any::<u8>(), 0..40),
        alone in any::<bool>(),
    ) {
        let mut message = if alone { Vec::new() } else { good()[which].clone() };
        message.extend(tail);
        for (at, byte) in flips {
            if !message.is_empty() {
                let at = at.index(message.len());
                message[at] = byte;
            }
        }
        row_of(&message);
        if let Ok(Message::Insert { new, .. } | Message::Update { new, .. }) = decode(&message) {
            prop_assert_eq!(new.iter().count(), new.len());
        }
    }

    #[test]
    fn tuples_come_back(row in prop::collection::vec(
        prop_oneof![Just(None), prop::collection::vec(any::<u8>(), 0..30).prop_map(Some)], 0..20,
    )) {
        let row: Vec<Datum<'_>> = row
            .iter()
            .map(|value| value.as_deref().map_or(Datum::Null, Datum::Text))
            .collect();
        let message = begins(b'I', 1).bytes(b"N").tuple(&row).0;
        let Message::Insert { relation: 1, new } = decode(&message).unwrap() else { panic!() };
        prop_assert_eq!(values(new), row);
    }
}
