//! Where a query comes from: address blocks and the AWS region each is nearest to.

use ipnet::IpNet;
use std::net::IpAddr;

/// Address blocks with their region; the longest match counts.
///
/// Stands in for Route 53's own map of the internet (developer guide,
/// "Latency-based routing").
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// Longest prefix first.
    blocks: Vec<(IpNet, String)>,
}

impl Places {
    #[must_use]
    pub fn new(mut blocks: Vec<(IpNet, String)>) -> Self {
        blocks.sort_by_key(|(block, _)| std::cmp::Reverse(block.prefix_len()));
        Self { blocks }
    }

    /// The block that holds the address, and its region; `None` when no block does.
    #[must_use]
    pub fn of(&self, address: IpAddr) -> Option<(IpNet, &str)> {
        let address = address.to_canonical();
        self.blocks
            .iter()
            .find(|(block, _)| block.contains(&address))
            .map(|(block, region)| (*block, region.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_match_counts() {
        let block = |text: &str, region: &str| (text.parse().unwrap(), region.to_owned());
        let places = Places::new(vec![block("127.0.0.0/8", "us-east-1"), block("127.1.0.0/16", "eu-west-1")]);
        assert_eq!(places.of("127.1.2.3".parse().unwrap()).unwrap().1, "eu-west-1");
        assert_eq!(places.of("127.2.2.3".parse().unwrap()).unwrap().1, "us-east-1");
        assert_eq!(places.of("::ffff:127.1.2.3".parse().unwrap()).unwrap().1, "eu-west-1");
        assert!(places.of("10.0.0.1".parse().unwrap()).is_none());
    }
}
