//! Metrics of the request path: handles are resolved when config is applied.
