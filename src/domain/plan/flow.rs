//! Integer min-cost flow by successive shortest augmenting paths.
//!
//! It knows nodes, arcs, whole amounts and whole costs, and nothing of regions or users. Potentials
//! keep every reduced cost at zero or above, so that Dijkstra's search finds each path. Equal ways
//! are told apart by the numbers of nodes and by the order in which arcs were added, so that one
//! input has one answer everywhere. Source: Ahuja, Magnanti, Orlin, "Network Flows" (1993), 9.7.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A network that flow can be sent through once.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// Arc `i` and its way back, `i ^ 1`.
    arcs: Vec<End>,
    /// Numbers of the arcs that leave each node.
    leaving: Vec<Vec<usize>>,
}

/// One direction of an arc.
#[derive(Debug, Clone, Copy)]
struct End {
    to: usize,
    /// What can still be sent this way.
    left: u64,
    /// Of one unit; negative on the way back.
    cost: i64,
}

/// The number of an arc, as `add` gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArcId(usize);

/// What was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    pub amount: u64,
    /// Sum of amount x cost over all arcs.
    pub cost: u128,
}

impl Network {
    /// Greatest cost of an arc: sums over any path stay far below the end of the numbers.
    pub const COST_MAX: u64 = 1 << 40;

    /// A network of so many nodes, numbered from 0, and no arc.
    pub fn new(nodes: usize) -> Self {
        Self { arcs: Vec::new(), leaving: vec![Vec::new(); nodes] }
    }

    /// Adds an arc; costs beyond [`Self::COST_MAX`] count as that.
    pub fn add(&mut self, from: usize, to: usize, capacity: u64, cost: u64) -> ArcId {
        let cost = i64::try_from(cost.min(Self::COST_MAX)).unwrap_or(i64::MAX);
        let number = self.arcs.len();
        self.arcs.push(End { to, left: capacity, cost });
        self.arcs.push(End { to: from, left: 0, cost: -cost });
        self.leaving[from].push(number);
        self.leaving[to].push(number + 1);
        ArcId(number)
    }

    /// What goes over an arc.
    pub fn flow(&self, arc: ArcId) -> u64 {
        self.arcs.get(arc.0 ^ 1).map_or(0, |back| back.left)
    }

    /// Sends as much as fits from `source` to `sink`, at the least cost for that amount.
    ///
    /// Every round fills an arc of a shortest path, and shortest paths never get shorter: it ends.
    pub fn send(&mut self, source: usize, sink: usize) -> Sent {
        let mut potential = vec![0_i64; self.leaving.len()];
        let mut sent = Sent::default();
        while let Some(path) = self.shortest(source, sink, &mut potential) {
            let amount = path.iter().map(|arc| self.arcs[*arc].left).min().unwrap_or(0);
            let cost: i64 = path.iter().map(|arc| self.arcs[*arc].cost).sum();
            for arc in path {
                self.arcs[arc].left -= amount;
                self.arcs[arc ^ 1].left += amount;
            }
            sent.amount += amount;
            sent.cost += u128::from(amount) * u128::from(cost.unsigned_abs());
        }
        sent
    }

    /// The arcs of a shortest path, last one first; `None` when nothing more fits. Moves the potentials on.
    fn shortest(&self, source: usize, sink: usize, potential: &mut [i64]) -> Option<Vec<usize>> {
        let mut distance = vec![i64::MAX; self.leaving.len()];
        let mut via = vec![usize::MAX; self.leaving.len()];
        let mut open = BinaryHeap::from([Reverse((0, source))]);
        distance[source] = 0;
        while let Some(Reverse((so_far, node))) = open.pop() {
            if node == sink {
                break;
            }
            if so_far > distance[node] {
                continue;
            }
            for number in &self.leaving[node] {
                let arc = self.arcs[*number];
                if arc.left == 0 {
                    continue;
                }
                let through = so_far + arc.cost + potential[node] - potential[arc.to];
                if through < distance[arc.to] {
                    distance[arc.to] = through;
                    via[arc.to] = *number;
                    open.push(Reverse((through, arc.to)));
                }
            }
        }
        let length = distance[sink];
        if length == i64::MAX {
            return None;
        }
        // Nodes that the search did not settle are at least as far as the sink.
        for (node, distance) in distance.iter().enumerate() {
            potential[node] += (*distance).min(length);
        }
        let mut path = Vec::new();
        let mut node = sink;
        while node != source {
            path.push(via[node]);
            node = self.arcs[via[node] ^ 1].to;
        }
        Some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_first_gives_way_when_another_needs_the_place_more() {
        // 1 would go to 3 for nothing, but 2 reaches only 3; 1 can go to 4 for 5.
        let (source, sink) = (5, 0);
        let mut network = Network::new(6);
        let arcs =
            [(source, 1, 0), (source, 2, 0), (1, 3, 0), (1, 4, 5), (2, 3, 7), (3, sink, 0), (4, sink, 0)]
                .map(|(from, to, cost)| network.add(from, to, 10, cost));
        assert_eq!(network.send(source, sink), Sent { amount: 20, cost: 10 * 5 + 10 * 7 });
        assert_eq!(arcs.map(|arc| network.flow(arc)), [10, 10, 0, 10, 10, 10, 10]);
    }

    #[test]
    fn what_does_not_fit_stays() {
        let mut network = Network::new(3);
        let arc = network.add(2, 1, 10, 3);
        network.add(1, 0, 4, 0);
        assert_eq!(network.send(2, 0), Sent { amount: 4, cost: 12 });
        assert_eq!(network.flow(arc), 4);
        assert_eq!(Network::new(2).send(1, 0), Sent::default());
    }

    #[test]
    fn equal_ways_are_taken_in_the_order_of_the_nodes() {
        let mut network = Network::new(5);
        network.add(4, 3, 2, 0);
        let (far, near) = (network.add(3, 2, 9, 1), network.add(3, 1, 9, 1));
        network.add(1, 0, 1, 0);
        network.add(2, 0, 9, 0);
        network.send(4, 0);
        assert_eq!((network.flow(near), network.flow(far)), (1, 1));
    }
}
