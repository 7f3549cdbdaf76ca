use super::binary::SIGNATURE;
use super::crc32c::crc32c;
use super::*;

/// Version 2: command, family and transport, and what follows.
pub(super) fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[0x20 | command, family], &length, rest].concat()
}

pub(super) const IPV4: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 4, 1, 0xbb];

pub(super) fn field(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind], &u16::try_from(value.len()).unwrap().to_be_bytes()[..], value].concat()
}

/// A header over IPv4 whose checksum comes after these fields.
pub(super) fn checksummed(fields: &[u8]) -> Vec<u8> {
    let mut bytes = v2(1, 0x11, &[&IPV4[..], fields, &field(3, &[0; 4])].concat());
    let crc = crc32c(&bytes);
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn whole(bytes: &[u8]) -> Header {
    match scan(bytes) {
        Scan::Header { header, length } if length == bytes.len() => header,
        other => panic!("{other:?}"),
    }
}

fn source(bytes: &[u8]) -> Option<String> {
    whole(bytes).addresses.map(|a| format!("{} {}", a.source, a.destination))
}

#[test]
fn a_line_of_text_tells_both_addresses() {
    for (line, expected) in [
        ("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", Some("192.0.2.1:56324 192.0.2.2:443")),
        ("PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n", Some("255.255.255.255:65535 0.0.0.0:0")),
        ("PROXY TCP6 2001:db8::1 ::1 1 2\r\n", Some("[2001:db8::1]:1 [::1]:2")),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN ffff::1 whatever stands here\r\n", None),
    ] {
        assert_eq!(source(line.as_bytes()).as_deref(), expected, "{line:?}");
    }
}

#[test]
fn a_line_that_is_not_exact_is_refused() {
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
    assert_eq!(long.len(), 108);
    for (line, reason) in [
        ("GET / HTTP/1.1\r\n", Malformed::Signature),
        ("proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Malformed::Signature),
        (" PROXY UNKNOWN\r\n", Malformed::Signature),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", Malformed::LineEnd),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\rX", Malformed::LineEnd),
        ("PROXY UNKNOWN \r \r\n", Malformed::LineEnd),
        ("PROXY\r\n", Malformed::Address),
        ("PROXYTCP4 192.0.2.1 192.0.2.2 1 2\r\n", Malformed::Address),
        ("PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Malformed::Address),
        ("PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n", Malformed::Address),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", Malformed::Address),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", Malformed::Address),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", Malformed::Address),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n", Malformed::Address),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 +2\r\n", Malformed::Address),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", Malformed::Address),
        ("PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n", Malformed::Address),
        ("PROXY TCP4 ::1 ::1 1 2\r\n", Malformed::Address),
        ("PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", Malformed::Address),
        ("PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", Malformed::Address),
        ("PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n", Malformed::Address),
        ("PROXY TCP4 192.0.2.\u{661} 192.0.2.2 1 2\r\n", Malformed::Address),
        (&long, Malformed::TooLong),
    ] {
        assert_eq!(scan(line.as_bytes()), Scan::Malformed(reason), "{line:?}");
    }
    assert_eq!(scan(b"PROXY TCP4 \xff\r\n"), Scan::Malformed(Malformed::Address));
    // One less is allowed.
    whole(long.replacen('x', "", 1).as_bytes());
}

#[test]
fn a_binary_header_tells_both_addresses() {
    let mut ipv6 = [0; 36];
    ipv6[15] = 1;
    ipv6[31] = 2;
    ipv6[33] = 3;
    ipv6[35] = 4;
    for (what, bytes, expected) in [
        ("ipv4", v2(1, 0x11, &IPV4), Some("192.0.2.1:56324 192.0.2.2:443")),
        ("ipv6", v2(1, 0x21, &ipv6), Some("[::1]:3 [::2]:4")),
        ("unix", v2(1, 0x31, &[b'x'; 216]), None),
        ("unspecified", v2(1, 0, &[]), None),
        ("unspecified with addresses", v2(1, 0, &IPV4), None),
        ("local", v2(0, 0, &[]), None),
        ("local with addresses", v2(0, 0x11, &IPV4), None),
        ("local of no family that exists", v2(0, 0xff, &[1, 2, 3]), None),
        ("the longest", v2(1, 0, &[0; LENGTH_MAX - 16]), None),
    ] {
        assert_eq!(source(&bytes).as_deref(), expected, "{what}");
    }
}

#[test]
fn a_binary_header_that_is_not_exact_is_refused() {
    let with = |fields: &[u8]| v2(1, 0x11, &[&IPV4[..], fields].concat());
    let mut wrong_sum = checksummed(&[]);
    wrong_sum[16] ^= 1;
    let mut version = v2(1, 0x11, &IPV4);
    version[12] = 0x11;
    for (what, bytes, reason) in [
        ("version 1", version, Malformed::Version),
        ("command 2", v2(2, 0x11, &IPV4), Malformed::Command),
        ("datagrams", v2(1, 0x12, &IPV4), Malformed::Family),
        ("a family without a transport", v2(1, 0x10, &IPV4), Malformed::Family),
        ("family 4", v2(1, 0x41, &IPV4), Malformed::Family),
        ("short addresses", v2(1, 0x11, &IPV4[..11]), Malformed::TooShort),
        ("ipv4 for ipv6", v2(1, 0x21, &IPV4), Malformed::TooShort),
        ("too long", v2(1, 0, &[0; LENGTH_MAX - 15]), Malformed::TooLong),
        ("half a field", with(&[4, 0]), Malformed::Field),
        ("a field past the end", with(&[4, 0, 2, 0]), Malformed::Field),
        ("an empty ALPN", with(&field(1, b"")), Malformed::Field),
        ("an authority with a line end", with(&field(2, b"a\r\nb")), Malformed::Field),
        ("an authority not in UTF-8", with(&field(2, b"\xff")), Malformed::Field),
        ("a long unique id", with(&field(5, &[0; 129])), Malformed::Field),
        ("an empty VPC endpoint", with(&field(0xea, &[1])), Malformed::Field),
        ("half a field of SSL", with(&field(0x20, &[1, 0, 0, 0])), Malformed::Field),
        ("a field of SSL past its end", with(&field(0x20, &[1, 0, 0, 0, 0, 0x21, 0, 9])), Malformed::Field),
        ("a cipher with a line end", with(&field(0x20, b"\x01\0\0\0\0\x23\0\x02\r\n")), Malformed::Field),
        ("a short checksum", with(&field(3, &[0; 3])), Malformed::Field),
        ("two checksums", checksummed(&field(3, &[0; 4])), Malformed::Checksum),
        ("another checksum", wrong_sum, Malformed::Checksum),
    ] {
        assert_eq!(scan(&bytes), Scan::Malformed(reason), "{what}");
    }
}

#[test]
fn fields_are_read_and_unknown_ones_passed_over() {
    let fields = [
        field(1, b"h2"),
        field(2, b"www.example.com"),
        field(4, &[0; 7]),
        field(5, &[7; 128]),
        field(0xea, b"\x01vpce-0123456789abcdef0"),
        // Another subtype, another vendor.
        field(0xea, b"\x02whatever"),
        field(0xee, &[1, 2, 3]),
    ];
    let header = whole(&checksummed(&fields.concat()));
    assert_eq!(header.facts.alpn.as_deref(), Some(&b"h2"[..]));
    assert_eq!(header.facts.authority.as_deref(), Some("www.example.com"));
    assert_eq!(header.facts.unique_id.as_deref(), Some(&[7; 128][..]));
    assert_eq!(header.facts.vpc_endpoint.as_deref(), Some("vpce-0123456789abcdef0"));
}

/// Flags: by TLS (1), with a certificate (2); then 0 where that one was found right.
#[test]
fn what_the_sender_agreed_on_with_its_client_is_read() {
    let inner =
        [field(0x21, b"TLSv1.3"), field(0x22, b"client"), field(0x23, b"AES"), field(0x24, b"")].concat();
    let ssl = |flags: u8, verify: u8, inner: &[u8]| {
        whole(&checksummed(&field(0x20, &[&[flags, 0, 0, 0, verify], inner].concat()))).facts.tls
    };
    let told = ssl(3, 0, &inner).unwrap();
    let words = [&told.version, &told.cipher, &told.common_name].map(|word| word.as_deref().unwrap());
    assert_eq!((words, told.verified), (["TLSv1.3", "AES", "client"], true));
    for (flags, verify, verified) in [(1, 0, false), (3, 1, false), (5, 0, true)] {
        assert_eq!(ssl(flags, verify, &inner).unwrap().verified, verified, "{flags} {verify}");
    }
    assert_eq!(ssl(1, 0, &[]), Some(TlsFacts::default()));
    assert_eq!(ssl(0, 0, &inner), None, "no TLS");
}

#[test]
fn reasons_are_spelled_apart_and_indexed_by_their_place() {
    for (index, reason) in Malformed::ALL.iter().enumerate() {
        assert_eq!(*reason as usize, index);
    }
    let names: std::collections::BTreeSet<_> = Malformed::ALL.map(Malformed::as_str).into();
    assert_eq!(names.len(), Malformed::ALL.len());
}
