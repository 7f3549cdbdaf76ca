//! Classes of octets, and the few words made of them.

/// RFC 9110 section 5.6.2, `tchar`.
const fn is_tchar(octet: u8) -> bool {
    matches!(octet, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
        || octet.is_ascii_alphanumeric()
}

/// A control character other than HTAB, which is whitespace.
pub const fn is_control(octet: u8) -> bool {
    (octet < 0x20 && octet != b'\t') || octet == 0x7f
}

/// `is_control` by octet: the scan looks at every octet of every head.
pub const CONTROL: [bool; 256] = {
    let mut table = [false; 256];
    let mut octet = 0_u8;
    loop {
        table[octet as usize] = is_control(octet);
        if octet == 255 {
            break table;
        }
        octet += 1;
    }
};

pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|octet| is_tchar(*octet))
}

/// Without optional whitespace (SP and HTAB, no other) around it.
pub fn trimmed(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// The elements of a comma-separated list, trimmed; empty ones are kept.
pub fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|octet| *octet == b',').map(trimmed)
}

/// A decimal number of 1 to 19 digits that fits into 63 bits.
///
/// RFC 9110 section 8.6 allows any number of digits; a length that some
/// recipient's signed integer can't hold is read as another one.
pub fn length(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    let value = text.iter().try_fold(0_u64, |value, octet| {
        octet.is_ascii_digit().then(|| value * 10 + u64::from(octet - b'0'))
    })?;
    (value <= i64::MAX as u64).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_digits_that_fit_a_signed_integer() {
        let rows: &[(&str, Option<u64>)] = &[
            ("0", Some(0)),
            ("007", Some(7)),
            ("9223372036854775807", Some(i64::MAX as u64)),
            ("9223372036854775808", None),
            ("9999999999999999999", None),
            ("00000000000000000001", None),
            ("", None),
            ("+5", None),
            ("-5", None),
            ("0x5", None),
            ("5_0", None),
            ("5 ", None),
            ("5,5", None),
            ("\u{0665}", None),
        ];
        for (text, value) in rows {
            assert_eq!(length(text.as_bytes()), *value, "{text:?}");
        }
    }

    #[test]
    fn a_token_is_what_the_rfc_lists() {
        let listed = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        for octet in 0..=255_u8 {
            assert_eq!(is_token(&[octet]), listed.contains(&octet), "{octet:#x}");
        }
        assert!(!is_token(b""));
    }

    #[test]
    fn only_space_and_tab_are_trimmed() {
        assert_eq!(trimmed(b" \t a b\t "), b"a b");
        assert_eq!(trimmed(b" \t "), b"");
        assert_eq!(trimmed(b"\x0ba\xa0"), b"\x0ba\xa0");
    }
}
