//! Metrics of the control side: probes, states, votes, snapshots, reloads.
