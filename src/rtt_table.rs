//! rtt_table.
