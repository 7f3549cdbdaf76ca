//! zone_server.
