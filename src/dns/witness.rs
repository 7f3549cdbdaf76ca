//! The witness: what Route 53's own checkers say of a region's `/health/edge`.

use super::api::Api;
use super::checks::{CheckSpec, Checks};
use super::error::ApiError;
use crate::domain::votes::Witness;

/// A check is well when more than this share of its checkers say so.
/// Source: developer guide, "How Route 53 determines whether a health check is healthy".
const HEALTHY_PERCENT: usize = 18;

/// Reads what the checkers say now.
///
/// `Unknown` while every checker's word is missing.
///
/// # Errors
/// Those of the API; `Missing` when the check is not known, or not any more.
pub async fn ask(api: &Api, checks: &Checks, edge: &CheckSpec) -> Result<Witness, ApiError> {
    let id = checks.id(edge).ok_or_else(|| ApiError::no_check(&edge.to_string()))?;
    Ok(judge(&api.observations(id).await?))
}

fn judge(observations: &[bool]) -> Witness {
    let well = observations.iter().filter(|well| **well).count();
    match observations.len() {
        0 => Witness::Unknown,
        all if well * 100 > all * HEALTHY_PERCENT => Witness::Green,
        _ => Witness::Red,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_eighteen_percent_is_green() {
        for (well, all, witness) in [
            (0, 0, Witness::Unknown),
            (0, 1, Witness::Red),
            (1, 1, Witness::Green),
            (18, 100, Witness::Red),
            (19, 100, Witness::Green),
            (3, 16, Witness::Green),
            (2, 16, Witness::Red),
        ] {
            let observations: Vec<bool> = (0..all).map(|n| n < well).collect();
            assert_eq!(judge(&observations), witness, "{well} of {all}");
        }
    }
}
