//! What of a request's body can be sent again.

use crate::proxy::attempts::Body;
use crate::proxy::session::Piece;

/// Memory that a body takes at most, while it is kept for another attempt.
const REPLAY_BYTES: usize = 64 * 1024;

/// The body so far, while it is small and no answer has begun.
#[derive(Debug)]
pub(super) enum Replay {
    Keeping {
        pieces: Vec<Piece>,
        bytes: usize,
    },
    /// It outgrew the bound, or is not needed any more.
    Dropped,
}

impl Replay {
    pub(super) const fn new() -> Self {
        Self::Keeping { pieces: Vec::new(), bytes: 0 }
    }

    /// Takes note of a piece that goes out for the first time.
    pub(super) fn push(&mut self, piece: &Piece) {
        let Self::Keeping { pieces, bytes } = self else { return };
        // A piece costs more than what it says: a body of single bytes must not become many times as large.
        *bytes += size_of::<Piece>();
        if let Piece::Data(data) = piece {
            *bytes += data.len();
        }
        if *bytes > REPLAY_BYTES {
            *self = Self::Dropped;
        } else {
            pieces.push(piece.clone());
        }
    }

    /// The piece with this number, counted from the beginning.
    pub(super) fn piece(&self, number: usize) -> Option<&Piece> {
        match self {
            Self::Keeping { pieces, .. } => pieces.get(number),
            Self::Dropped => None,
        }
    }

    /// Whether all of the body has come, and can be sent again.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self, Self::Keeping { pieces, .. } if pieces.last() == Some(&Piece::End))
    }

    pub(super) const fn body(&self) -> Body {
        match self {
            Self::Keeping { .. } => Body::Replayable,
            Self::Dropped => Body::Consumed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_small_body_is_kept_and_a_large_one_is_not() {
        let data = |bytes: usize| Piece::Data(Bytes::from(vec![b'x'; bytes]));
        let mut replay = Replay::new();
        let small = data(REPLAY_BYTES - 2 * size_of::<Piece>());
        replay.push(&small);
        replay.push(&Piece::End);
        assert_eq!(replay.body(), Body::Replayable);
        assert_eq!((replay.piece(0), replay.piece(1)), (Some(&small), Some(&Piece::End)));
        let mut replay = Replay::new();
        replay.push(&data(REPLAY_BYTES));
        replay.push(&data(1));
        assert_eq!((replay.body(), replay.piece(0)), (Body::Consumed, None));
    }

    #[test]
    fn a_body_of_single_bytes_is_kept_only_while_its_pieces_are_few() {
        let mut replay = Replay::new();
        let mut kept = 0;
        while replay.body() == Body::Replayable {
            replay.push(&Piece::Data(Bytes::from_static(b"x")));
            kept += 1;
        }
        assert!(kept * size_of::<Piece>() <= REPLAY_BYTES + size_of::<Piece>(), "{kept} pieces");
    }
}
