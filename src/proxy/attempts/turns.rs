//! Whose turn it is, and who had one, without an allocation.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

/// Candidates in the order of their turns, by index. In place: every request has one, and none needs
/// to allocate for it.
#[derive(Debug)]
pub(super) struct Turns {
    list: [u8; Self::MAX],
    begin: usize,
    end: usize,
}

impl Turns {
    /// Most candidates that have a turn: the nearest ones.
    const MAX: usize = 64;

    /// A turn for each of so many, in their order.
    pub(super) fn each(of: usize) -> Self {
        const IN_ORDER: [u8; Turns::MAX] = {
            let (mut list, mut index) = ([0; Turns::MAX], 0);
            while index < Turns::MAX {
                list[index] = index as u8;
                index += 1;
            }
            list
        };
        Self { list: IN_ORDER, begin: 0, end: of.min(Self::MAX) }
    }

    pub(super) fn push(&mut self, index: usize) {
        if let (Some(turn), Ok(index)) = (self.list.get_mut(self.end), u8::try_from(index)) {
            *turn = index;
            self.end += 1;
        }
    }

    pub(super) fn left(&self) -> &[u8] {
        self.list.get(self.begin..self.end).unwrap_or_default()
    }

    pub(super) fn first(&self) -> Option<usize> {
        self.left().first().map(|index| usize::from(*index))
    }

    pub(super) fn next(&mut self) {
        self.begin = (self.begin + 1).min(self.end);
    }

    /// How many turns come before that of a candidate.
    pub(super) fn place(&self, index: usize) -> Option<usize> {
        self.left().iter().position(|turn| usize::from(*turn) == index)
    }

    /// Puts a candidate first.
    pub(super) fn prefer(&mut self, index: usize) {
        if let Some(at) = self.place(index)
            && let Some(turns) = self.list.get_mut(self.begin..=self.begin + at)
        {
            turns.rotate_right(1);
        }
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self { list: [0; Self::MAX], begin: 0, end: 0 }
    }
}

/// Endpoints that were tried, in place as well.
#[derive(Debug)]
pub(super) struct Tried {
    list: [SocketAddr; Self::MAX],
    count: usize,
}

impl Tried {
    /// As many as `attempts` may be at most in the configuration.
    const MAX: usize = 10;

    pub(super) fn push(&mut self, address: SocketAddr) {
        if let Some(place) = self.list.get_mut(self.count) {
            *place = address;
            self.count += 1;
        }
    }

    pub(super) fn all(&self) -> &[SocketAddr] {
        self.list.get(..self.count).unwrap_or_default()
    }

    pub(super) fn clear(&mut self) {
        self.count = 0;
    }
}

impl Default for Tried {
    fn default() -> Self {
        let nowhere = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
        Self { list: [nowhere; Self::MAX], count: 0 }
    }
}
