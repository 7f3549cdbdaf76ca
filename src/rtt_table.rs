//! Measured round-trip times between AWS regions, as data.
//!
//! The zone server reads it to know which region is nearest to a query (what
//! Route 53 does with its own latency measurements), the demo to delay traffic.
//! It knows nothing of who asks. Unit of the file: whole milliseconds.

use std::collections::BTreeMap;
use std::time::Duration;

const CSV: &str = include_str!("rtt_table.csv");

/// Round-trip times between named regions.
#[derive(Debug, Clone)]
pub struct RttTable {
    regions: Vec<String>,
    rtts: BTreeMap<(String, String), Duration>,
}

/// Why a table could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("RTT table, line {line}: {problem}")]
pub struct Error {
    /// 1-based.
    pub line: usize,
    pub problem: String,
}

impl RttTable {
    /// The table that the binary carries.
    ///
    /// # Errors
    /// Never for the table of a tested build: a test reads it.
    pub fn measured() -> Result<Self, Error> {
        Self::parse(CSV)
    }

    /// Reads `region,a,b` followed by one line a region, in milliseconds.
    ///
    /// # Errors
    /// Names the first line with a missing, extra or non-numeric cell.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut lines = text.lines().enumerate();
        let problem = |line: usize, problem: String| Error { line, problem };
        let Some((_, header)) = lines.next() else {
            return Err(problem(1, "no header".into()));
        };
        let regions: Vec<String> = header.split(',').skip(1).map(str::to_owned).collect();
        let mut rtts = BTreeMap::new();
        for (index, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
            let mut cells = line.split(',');
            let from = cells.next().unwrap_or_default().to_owned();
            let cells: Vec<&str> = cells.collect();
            if !regions.contains(&from) || cells.len() != regions.len() {
                let want = regions.len();
                return Err(problem(index + 1, format!("want a region of the header and {want} cells")));
            }
            for (to, cell) in regions.iter().zip(cells) {
                let ms: u64 = cell
                    .trim()
                    .parse()
                    .map_err(|_| problem(index + 1, format!("'{cell}' is not whole milliseconds")))?;
                rtts.insert((from.clone(), to.clone()), Duration::from_millis(ms));
            }
        }
        Ok(Self { regions, rtts })
    }

    /// The regions of the table, in the file's order.
    #[must_use]
    pub fn regions(&self) -> &[String] {
        &self.regions
    }

    /// The round-trip time between two regions; zero within one; `None` when either is unknown.
    #[must_use]
    pub fn rtt(&self, from: &str, to: &str) -> Option<Duration> {
        self.rtts.get(&(from.to_owned(), to.to_owned())).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carried_table_is_square_and_symmetric() {
        let table = RttTable::measured().unwrap();
        assert!(table.regions().len() >= 4);
        for a in table.regions() {
            assert_eq!(table.rtt(a, a), Some(Duration::ZERO));
            for b in table.regions() {
                assert_eq!(table.rtt(a, b), table.rtt(b, a), "{a} to {b}");
            }
        }
    }

    #[test]
    fn a_short_line_is_named() {
        let error = RttTable::parse("region,a,b\na,0,1\nb,1\n").unwrap_err();
        assert_eq!(error.line, 3);
    }
}
