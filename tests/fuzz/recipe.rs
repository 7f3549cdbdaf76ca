//! Bytes of a fuzzer, read as changes to seeds.

/// Octets that mean something to the readers under test.
const MEANINGFUL: &[u8] = b"\r\n\0 \t:;,/.%=\"[]{}#\\0159aAzZ-_+\x7f\x80\xff";
/// Pieces that change what a message means.
const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: b\r\n",
    b"0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"%2e",
    b"../",
    b"\xff\xff\xff\xff",
    b"[[routes]]\n",
];

/// What is left of a fuzzer's bytes.
pub struct Recipe<'a>(&'a [u8]);

impl<'a> Recipe<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next number; 0 when nothing is left.
    fn number(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first_chunk::<2>() else { return 0 };
        self.0 = rest;
        usize::from(u16::from_le_bytes(*first))
    }

    /// A number below a bound; 0 when that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.number().checked_rem(bound).unwrap_or(0)
    }

    /// A seed, or two in a row, with changes while the recipe lasts.
    pub fn make(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        if self.below(4) == 1 {
            bytes.extend_from_slice(&seeds[self.below(seeds.len())]);
        }
        for _ in 0..self.below(8) {
            let at = self.below(bytes.len() + 1);
            match self.below(5) {
                0 if at < bytes.len() => bytes[at] = MEANINGFUL[self.below(MEANINGFUL.len())],
                1 if at < bytes.len() => bytes[at] = self.number() as u8,
                2 => drop(bytes.splice(at..at, PIECES[self.below(PIECES.len())].iter().copied())),
                3 => {
                    let end = (at + self.below(16)).min(bytes.len());
                    drop(bytes.drain(at..end));
                }
                _ => bytes.truncate(at),
            }
        }
        bytes
    }
}
