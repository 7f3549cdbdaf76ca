//! Explanations as text, for people.

use crate::domain::explain::{Explanation, LeftOut, NameExplanation, RegionExplanation, ServiceExplanation};
use crate::domain::health::{Ground, State, Word};
use crate::domain::name::RegionId;
use crate::domain::routing::Miss;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A request.
pub(super) fn request(told: &Explanation) -> String {
    let mut out = String::new();
    let q = &told.question;
    let scheme = if q.https { "https" } else { "http" };
    let query = if q.query.is_empty() { String::new() } else { format!("?{}", q.query) };
    line(
        &mut out,
        &format!("{} {scheme}://{}{}{query}, at an edge in {}", q.method, q.host, q.path, told.own),
    );
    if let Some(path) = told.path.as_ref().filter(|path| **path != q.path) {
        line(&mut out, &format!("path     {path} in its normal form"));
    }
    if let Some(problem) = &told.problem {
        line(&mut out, &format!("path     {problem}"));
    }
    match (&told.route.route, &told.route.by) {
        (Some(route), Some(by)) => line(&mut out, &format!("route    {route} ({by}): {}", told.action)),
        _ => line(&mut out, "route    none"),
    }
    for other in &told.route.others {
        let why = match other.why {
            Miss::Condition => "would come first, but asks for",
            Miss::Later => "would take it too, but comes later:",
            Miss::Host => "has the path, but asks for",
            Miss::Path => "has the host, but asks for",
        };
        line(&mut out, &format!("  not    {} {why} {}", other.route, other.detail));
    }
    if told.route.untold > 0 {
        line(&mut out, &format!("  not    {} more", told.route.untold));
    }
    told.services.iter().for_each(|of| service(&mut out, of));
    line(&mut out, &format!("rule     {}: {}", told.rule.as_str(), told.rule.text()));
    out
}

fn service(out: &mut String, of: &ServiceExplanation) {
    let share =
        if of.share < 1.0 { format!(", {} of the requests", percent(of.share)) } else { String::new() };
    line(out, &format!("service  {}{share}: {}", of.service, of.rule.as_str()));
    for region in &of.regions {
        let turn = region.turn.map_or("  -".to_owned(), |turn| format!("{turn:>3}"));
        line(out, &format!("  {turn}  {:<16} {}", region.region.as_str(), facts(region)));
        for (name, votes) in region.votes.iter().filter(|(_, votes)| !votes.is_empty()) {
            line(out, &format!("       votes for {name}: {}", words(votes)));
        }
    }
}

fn facts(of: &RegionExplanation) -> String {
    let mut facts = vec![state(of)];
    if of.turn.is_some() {
        facts.push(format!("first for {} of requests", percent(of.first)));
    }
    if let Some(share) = of.share.filter(|share| *share < 1.0) {
        facts.push(format!("takes {} when its turn comes", percent(share)));
    }
    match (of.rtt_ms, of.sample_age_ms) {
        (Some(rtt), Some(age)) => facts.push(format!("{rtt:.1} ms away (sample {} old)", seconds(age))),
        (Some(rtt), None) => facts.push(format!("{rtt:.1} ms away")),
        _ if of.own => {}
        _ => facts.push("distance unknown".to_owned()),
    }
    // Else it is ranked by the distance, which stands there already.
    if let Some(score) = of.score_ms.filter(|score| of.rtt_ms.is_some_and(|rtt| rtt != *score)) {
        facts.push(format!("ranked as {score:.1} ms"));
    }
    if let Some(age) = of.view_age_ms {
        facts.push(format!("heard {} ago", seconds(age)));
    }
    if let Some(capacity) = of.capacity_rps {
        facts.push(format!("capacity {capacity:.0}/s"));
    }
    if let Some(headroom) = of.headroom_rps {
        facts.push(format!("room for {headroom:.0}/s"));
    }
    if let Some(capacity) = of.service_capacity {
        let source = capacity.source.as_str();
        facts.push(format!("the service's capacity {:.0}/s ({source})", capacity.rps));
    }
    match (of.asked_rps, of.granted_rps) {
        (Some(asked), Some(granted)) => facts.push(format!("grants {granted:.0}/s of {asked:.0}/s asked")),
        (Some(asked), None) => facts.push(format!("asked for {asked:.0}/s")),
        (None, _) => {}
    }
    facts.push(match of.endpoints {
        1 => "1 endpoint".to_owned(),
        count => format!("{count} endpoints"),
    });
    match of.left_out {
        Some(LeftOut::State) => facts.push("left out: its state".to_owned()),
        Some(LeftOut::NoAddress) => facts.push("left out: no address".to_owned()),
        Some(LeftOut::Undecided) | None => {}
    }
    facts.join(", ")
}

fn state(of: &RegionExplanation) -> String {
    let ground = match of.ground {
        Ground::Unheard => return of.state.as_str().to_owned(),
        Ground::Probes => "by probes",
        Ground::Outcomes => "by requests of this edge",
        Ground::Drain => "drained",
    };
    if of.state == State::Draining {
        of.state.as_str().to_owned()
    } else {
        format!("{} {ground}", of.state.as_str())
    }
}

/// A DNS name.
pub(super) fn name(told: &NameExplanation) -> String {
    let mut out = String::new();
    let read = match (told.generation, told.changed_ms) {
        (None, _) => "its records were not read yet".to_owned(),
        (Some(generation), None) => format!("generation {generation}"),
        (Some(generation), Some(age)) => {
            let by = told.writer.as_ref().map_or(String::new(), |writer| format!(" by {writer}"));
            format!("generation {generation}, changed {} ago{by}", seconds(age))
        }
    };
    line(&mut out, &format!("{}, at an edge in {}: {read}", told.name, told.own));
    for entry in &told.entries {
        let applied = weights(&entry.applied);
        let then = match (entry.applied.is_empty(), entry.applied == entry.wanted) {
            (true, true) => "not read yet".to_owned(),
            (false, true) => format!("{applied}, as wanted"),
            (_, false) => format!("{applied}, wanted: {}", weights(&entry.wanted)),
        };
        line(&mut out, &format!("entry    {:<16} {then}", entry.entry.as_str()));
    }
    for region in &told.regions {
        let drained = if region.drained { ", drained" } else { "" };
        let (target, witness) = (word(region.target), format!("{:?}", region.witness).to_lowercase());
        line(
            &mut out,
            &format!(
                "region   {:<16} {}{drained}; {} votes, {} needed ({}); itself says {target}, its health check is {witness}",
                region.region.as_str(),
                region.verdict,
                region.votes.len(),
                region.majority,
                words(&region.votes)
            ),
        );
    }
    for check in &told.checks {
        let detail = if check.detail.is_empty() { String::new() } else { format!(": {}", check.detail) };
        line(&mut out, &format!("check    {:<20} {}{detail}", check.rule, check.outcome.replace('_', " ")));
    }
    operator(&mut out, told);
    line(&mut out, &format!("writers  {} stand before this region", told.writers_before));
    line(&mut out, if told.gate_closed { "gate     closed" } else { "gate     open" });
    let held = told
        .refusal
        .as_deref()
        .map_or("nothing is held back".to_owned(), |rule| format!("held back by {rule}"));
    line(&mut out, &format!("rule     {held}"));
    out
}

fn operator(out: &mut String, told: &NameExplanation) {
    if let Some(freeze) = &told.operator.freeze {
        line(out, &format!("operator froze it: {}", freeze.said.reason));
    }
    for (region, drain) in &told.operator.drains {
        line(out, &format!("operator drains {region}: {}", drain.said.reason));
    }
    for (rule, over) in &told.operator.overrides {
        line(out, &format!("operator sets {rule} aside: {}", over.said.reason));
    }
}

fn line(out: &mut String, text: &str) {
    // Writing to a string cannot fail.
    writeln!(out, "{text}").ok();
}

fn weights(set: &BTreeMap<RegionId, u8>) -> String {
    if set.is_empty() {
        return "none".to_owned();
    }
    let pairs: Vec<String> = set.iter().map(|(region, weight)| format!("{region} {weight}")).collect();
    pairs.join(", ")
}

fn words(votes: &BTreeMap<RegionId, Word>) -> String {
    let pairs: Vec<String> = votes.iter().map(|(voter, vote)| format!("{voter} {}", word(*vote))).collect();
    pairs.join(", ")
}

const fn word(word: Word) -> &'static str {
    match word {
        Word::Unknown => "unknown",
        Word::Up => "up",
        Word::Down => "down",
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn seconds(millis: u64) -> String {
    if millis < 10_000 { format!("{:.1} s", millis as f64 / 1000.0) } else { format!("{} s", millis / 1000) }
}
