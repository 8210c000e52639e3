use super::*;

#[test]
fn every_known_name_is_recognised_in_any_case() {
    for (known, name) in NAMES {
        assert_eq!(Known::of(name.as_bytes()), *known, "{name}");
        assert_eq!(Known::of(name.to_ascii_uppercase().as_bytes()), *known, "{name}");
        assert_eq!(known.name(), *name);
    }
}

#[test]
fn a_name_one_byte_off_is_not_recognised() {
    for (_, name) in NAMES {
        for at in 0..name.len() {
            let mut other = name.as_bytes().to_vec();
            other[at] = if other[at] == b'z' { b'y' } else { b'z' };
            assert!(
                matches!(Known::of(&other), Known::Other),
                "{name} changed at {at} is still {:?}",
                Known::of(&other)
            );
        }
        assert_eq!(Known::of(&name.as_bytes()[1..]), Known::Other, "{name}");
        assert_eq!(Known::of(format!("{name}x").as_bytes()), Known::Other, "{name}");
    }
    assert_eq!(Known::of(b""), Known::Other);
    assert_eq!(Known::of(&[b'a'; 33]), Known::Other);
}

#[test]
fn a_control_byte_does_not_pass_for_its_neighbour() {
    // 0x0d and 0x2d differ only in the bit that folds case.
    assert_eq!(Known::of(b"content\x0dlength"), Known::Other);
}

#[test]
fn underscores_are_seen_only_where_they_shadow_something_that_matters() {
    for name in ["Content_Length", "transfer_encoding", "X_Api-Key", "proxy_authorization"] {
        assert_eq!(Known::of(name.as_bytes()), Known::UnderscoreAlias, "{name}");
    }
    for name in ["user_agent", "my_field", "_", "content_lengths"] {
        assert_eq!(Known::of(name.as_bytes()), Known::Other, "{name}");
    }
}

#[test]
fn the_table_finds_the_first_and_remembers_repeats() {
    let buf = b"Accept: a\r\nX-Mine: b\r\nACCEPT: c\r\n";
    let mut fields = Fields::new();
    assert!(fields.push(Known::Accept, (0, 6), (8, 9), 3));
    assert!(fields.push(Known::Other, (11, 17), (19, 20), 3));
    assert!(fields.push(Known::Accept, (22, 28), (30, 31), 3));
    assert!(!fields.push(Known::Accept, (22, 28), (30, 31), 3), "one past the limit");
    assert_eq!(fields.value(buf, Known::Accept), Some(&b"a"[..]));
    assert_eq!(fields.find(buf, b"x-mine"), Some(&b"b"[..]));
    assert_eq!(fields.find(buf, b"x-min"), None);
    assert!(fields.repeated(Known::Accept) && !fields.repeated(Known::Other));
    assert_eq!(fields.iter().count(), 3);
    fields.clear();
    assert!(fields.is_empty() && !fields.has(Known::Accept) && !fields.repeated(Known::Accept));
}
