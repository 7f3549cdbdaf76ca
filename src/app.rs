//! The composition root of `proxima run`: the only file that names every adapter.
