//! Route 53's rules for change batches, one row a rule.
#![allow(clippy::too_many_lines)] // Tables are long by nature.

use super::{ZONE, create, delete, entry, simple, upsert, weighted};
use aws_sdk_route53::types::{Change, ResourceRecordSet, ResourceRecordSetRegion, RrType};

/// What must come of a batch.
pub enum Want {
    Accepted,
    /// The code and a part of the message.
    Refused(&'static str, &'static str),
}

pub struct Row {
    pub rule: &'static str,
    pub batch: Vec<Change>,
    pub want: Want,
}

fn row(rule: &'static str, batch: Vec<Change>, want: Want) -> Row {
    Row { rule, batch, want }
}

fn adjusted(mut set: ResourceRecordSet, adjust: impl FnOnce(&mut ResourceRecordSet)) -> ResourceRecordSet {
    adjust(&mut set);
    set
}

fn latency(region: &str, address: &str) -> ResourceRecordSet {
    adjusted(simple("lat", RrType::A, &[address]), |set| {
        set.set_identifier = Some(address.into());
        set.region = Some(ResourceRecordSetRegion::from(region));
    })
}

/// In a row, the id of the zone that the row runs in.
const OWN_ZONE: &str = "OWN-ZONE";

/// A load balancer that every row's server knows: its name and zone.
pub const BALANCER: (&str, &str) = ("lb.elb.example.net", "ZLB");

/// The whole table, for the zone with this id.
pub fn table(zone: &str) -> Vec<Row> {
    let mut rows: Vec<Row> =
        [existence_rows(), policy_rows(), content_rows(), limit_rows()].into_iter().flatten().collect();
    let sets = rows
        .iter_mut()
        .flat_map(|row| &mut row.batch)
        .filter_map(|change| change.resource_record_set.as_mut());
    for target in
        sets.filter_map(|set| set.alias_target.as_mut()).filter(|target| target.hosted_zone_id == OWN_ZONE)
    {
        zone.clone_into(&mut target.hosted_zone_id);
    }
    rows
}

/// What every row finds: a simple, a weighted, a latency set, a CNAME and a TXT.
pub fn ground() -> Vec<Change> {
    vec![
        create(simple("one", RrType::A, &["10.0.0.1", "10.0.0.2"])),
        create(weighted("set", "10.0.1.1", 10)),
        create(weighted("set", "10.0.1.2", 20)),
        create(latency("eu-west-1", "10.0.2.1")),
        create(simple("cname", RrType::Cname, &["one.example.test"])),
        create(simple("text", RrType::Txt, &["\"v=1\""])),
    ]
}

const BATCH: &str = "InvalidChangeBatch";
const INPUT: &str = "InvalidInput";
pub use Want::{Accepted, Refused};

fn existence_rows() -> Vec<Row> {
    vec![
        row(
            "CREATE of what exists is refused",
            vec![create(simple("one", RrType::A, &["10.9.9.9"]))],
            Refused(
                BATCH,
                "Tried to create resource record set [name='one.example.test.', type='A'] but it already exists",
            ),
        ),
        row(
            "CREATE of an existing set identifier is refused, and named",
            vec![create(weighted("set", "10.0.1.1", 99))],
            Refused(BATCH, "set-identifier='10.0.1.1'] but it already exists"),
        ),
        row(
            "CREATE of another set identifier passes",
            vec![create(weighted("set", "10.0.1.3", 1))],
            Accepted,
        ),
        row(
            "names have one spelling, whatever the case",
            vec![create(simple("ONE", RrType::A, &["10.9.9.9"]))],
            Refused(BATCH, "but it already exists"),
        ),
        row(
            "DELETE of what is absent is refused",
            vec![delete(simple("absent", RrType::A, &["10.0.0.1"]))],
            Refused(
                BATCH,
                "Tried to delete resource record set [name='absent.example.test.', type='A'] but it was not found",
            ),
        ),
        row(
            "DELETE matches values in any order",
            vec![delete(simple("one", RrType::A, &["10.0.0.2", "10.0.0.1"]))],
            Accepted,
        ),
        row(
            "DELETE with another value is refused",
            vec![delete(simple("one", RrType::A, &["10.0.0.1"]))],
            Refused(BATCH, "but the values provided do not match the current values"),
        ),
        row(
            "DELETE with another TTL is refused",
            vec![delete(adjusted(weighted("set", "10.0.1.1", 10), |set| set.ttl = Some(21)))],
            Refused(BATCH, "do not match the current values"),
        ),
        row(
            "DELETE with another weight is refused",
            vec![delete(weighted("set", "10.0.1.1", 11))],
            Refused(BATCH, "do not match the current values"),
        ),
        row(
            "DELETE with another region is refused",
            vec![delete(latency("us-east-1", "10.0.2.1"))],
            Refused(BATCH, "do not match the current values"),
        ),
        row(
            "DELETE with a health check that the record has not is refused",
            vec![delete(adjusted(weighted("set", "10.0.1.1", 10), |set| {
                set.health_check_id = Some("x".into())
            }))],
            Refused(BATCH, "do not match the current values"),
        ),
        row(
            "DELETE with another text is refused: the fence",
            vec![delete(simple("text", RrType::Txt, &["\"v=2\""]))],
            Refused(BATCH, "do not match the current values"),
        ),
        row("UPSERT overwrites silently", vec![upsert(weighted("set", "10.0.1.1", 77))], Accepted),
        row("UPSERT creates what is absent", vec![upsert(simple("new", RrType::A, &["10.0.0.1"]))], Accepted),
        row(
            "DELETE then CREATE of one record set in a batch passes",
            vec![delete(weighted("set", "10.0.1.1", 10)), create(weighted("set", "10.0.1.1", 0))],
            Accepted,
        ),
        row(
            "DELETE twice in a batch is refused",
            vec![delete(weighted("set", "10.0.1.1", 10)), delete(weighted("set", "10.0.1.1", 10))],
            Refused(BATCH, "invalid set of changes"),
        ),
        row(
            "CREATE twice in a batch is refused",
            vec![
                create(simple("x", RrType::A, &["10.0.0.1"])),
                create(simple("x", RrType::A, &["10.0.0.1"])),
            ],
            Refused(BATCH, "invalid set of changes"),
        ),
        row(
            "an unknown health check is refused",
            vec![create(adjusted(weighted("set", "10.0.1.9", 1), |set| {
                set.health_check_id = Some("nope".into())
            }))],
            Refused("NoSuchHealthCheck", "nope"),
        ),
    ]
}

fn policy_rows() -> Vec<Row> {
    vec![
        row("weight 255 passes", vec![upsert(weighted("set", "10.0.1.1", 255))], Accepted),
        row("weight 256 is refused", vec![upsert(weighted("set", "10.0.1.1", 256))], Refused(INPUT, "'256'")),
        row("weight -1 is refused", vec![upsert(weighted("set", "10.0.1.1", -1))], Refused(INPUT, "'-1'")),
        row(
            "a weight needs a set identifier",
            vec![create(adjusted(weighted("w", "10.0.1.1", 1), |set| set.set_identifier = None))],
            Refused(
                INPUT,
                "Missing field 'SetIdentifier' in Change with [Action=CREATE, Name=w.example.test, Type=A, SetIdentifier=null]",
            ),
        ),
        row(
            "a set identifier needs a policy",
            vec![create(adjusted(weighted("w", "10.0.1.1", 1), |set| set.weight = None))],
            Refused(INPUT, "but found none in Change"),
        ),
        row(
            "one policy a record set",
            vec![create(adjusted(latency("us-east-1", "10.0.2.2"), |set| set.weight = Some(1)))],
            Refused(INPUT, "but found more than one in Change"),
        ),
        row(
            "weighted beside simple is refused",
            vec![create(weighted("one", "10.0.1.1", 1))],
            Refused(BATCH, "cannot be created as a non-weighted set exists with the same name and type."),
        ),
        row(
            "simple beside weighted is refused",
            vec![create(simple("set", RrType::A, &["10.0.0.1"]))],
            Refused(BATCH, "type A cannot be created as other RRSets exist with the same name and type."),
        ),
        row(
            "weighted beside latency is refused",
            vec![create(weighted("lat", "10.0.1.1", 1))],
            Refused(BATCH, "cannot be created as a non-weighted set exists"),
        ),
        row(
            "latency beside weighted is refused",
            vec![create(adjusted(latency("eu-west-2", "10.0.2.2"), |set| {
                set.name = "set.example.test".into()
            }))],
            Refused(BATCH, "cannot be created as a non-latency set exists"),
        ),
        row(
            "one latency record a region",
            vec![create(latency("eu-west-1", "10.0.2.9"))],
            Refused(BATCH, "a latency record for region eu-west-1 exists"),
        ),
        row(
            "a latency region that AWS does not have is refused",
            vec![create(latency("mars-north-1", "10.0.2.9"))],
            Refused(
                INPUT,
                "Value 'mars-north-1' at 'changeBatch.changes.1.member.resourceRecordSet.region' failed to satisfy constraint: Member must satisfy enum value set: [af-south-1, ",
            ),
        ),
        row("another region passes", vec![create(latency("us-east-1", "10.0.2.9"))], Accepted),
        row(
            "the other type of a name is another group",
            vec![create(simple("set", RrType::Aaaa, &["::1"]))],
            Accepted,
        ),
        row(
            "one TTL a weighted set",
            vec![create(adjusted(weighted("set", "10.0.1.3", 1), |set| set.ttl = Some(30)))],
            Refused(BATCH, "cannot be created as weighted sets must contain the same TTL."),
        ),
        row(
            "the TTL of a whole weighted set may change in one batch",
            vec![
                upsert(adjusted(weighted("set", "10.0.1.1", 1), |set| set.ttl = Some(30))),
                upsert(adjusted(weighted("set", "10.0.1.2", 1), |set| set.ttl = Some(30))),
            ],
            Accepted,
        ),
        row(
            "a group may change its policy in one batch",
            vec![
                delete(simple("one", RrType::A, &["10.0.0.1", "10.0.0.2"])),
                create(weighted("one", "10.0.0.1", 1)),
            ],
            Accepted,
        ),
    ]
}

fn content_rows() -> Vec<Row> {
    let alias = |name: &str, target: &str| {
        adjusted(entry(name, "eu-west-1", target, OWN_ZONE), |set| {
            set.region = None;
            set.set_identifier = None;
        })
    };
    let to_balancer = |kind: RrType| {
        adjusted(alias("x", "one"), |set| {
            set.r#type = kind;
            let target = set.alias_target.as_mut().unwrap();
            (target.hosted_zone_id, target.dns_name) = (BALANCER.1.to_owned(), BALANCER.0.to_owned());
        })
    };
    vec![
        row(
            "a TTL is required without an alias",
            vec![create(adjusted(simple("x", RrType::A, &["10.0.0.1"]), |set| set.ttl = None))],
            Refused(
                INPUT,
                "Expected exactly one of [AliasTarget, all of [TTL, and ResourceRecords], or TrafficPolicyInstanceId], but found none in Change with [Action=CREATE, Name=x.example.test, Type=A, SetIdentifier=null]",
            ),
        ),
        row(
            "a TTL is forbidden with an alias",
            vec![create(adjusted(alias("x", "one"), |set| set.ttl = Some(60)))],
            Refused(INPUT, "but found more than one in Change"),
        ),
        row("an alias onto a record of its zone and type passes", vec![create(alias("x", "one"))], Accepted),
        row(
            "an alias and its target may come in one batch, in any order",
            vec![create(alias("x", "y")), create(simple("y", RrType::A, &["10.0.0.1"]))],
            Accepted,
        ),
        row(
            "an alias needs an existing target",
            vec![create(alias("x", "absent"))],
            Refused(BATCH, "Tried to create an alias that targets absent.example.test., type A in zone"),
        ),
        row(
            "an alias needs a target of its own type",
            vec![create(adjusted(alias("x", "one"), |set| set.r#type = RrType::Aaaa))],
            Refused(BATCH, "type AAAA in zone"),
        ),
        row(
            "an alias cannot be its own target",
            vec![create(alias("x", "x"))],
            Refused(BATCH, "that target was not found"),
        ),
        row(
            "an alias into another zone is refused",
            vec![create(adjusted(alias("x", "one"), |set| {
                set.alias_target.as_mut().unwrap().hosted_zone_id = "Z2FDTNDATAQYW2".into();
            }))],
            Refused(BATCH, "the alias target name does not lie within the target zone"),
        ),
        row("an alias to a load balancer passes", vec![create(to_balancer(RrType::A))], Accepted),
        row(
            "an alias to a load balancer is of type A or AAAA",
            vec![create(to_balancer(RrType::Cname))],
            Refused(BATCH, "the alias target is a load balancer"),
        ),
        row(
            "a name outside the zone is refused",
            vec![create(adjusted(simple("x", RrType::A, &["10.0.0.1"]), |set| {
                set.name = "x.elsewhere.test".into()
            }))],
            Refused(BATCH, "RRSet with DNS name x.elsewhere.test. is not permitted in zone example.test."),
        ),
        row(
            "CNAME at the apex is refused",
            vec![create(adjusted(simple("x", RrType::Cname, &["a.test"]), |set| set.name = ZONE.into()))],
            Refused(BATCH, "is not permitted at apex in zone example.test."),
        ),
        row(
            "CNAME beside another type is refused",
            vec![create(simple("one", RrType::Cname, &["a.test"]))],
            Refused(BATCH, "is not permitted as it conflicts with other records with the same DNS name"),
        ),
        row(
            "another type beside CNAME is refused",
            vec![create(simple("cname", RrType::Txt, &["\"t\""]))],
            Refused(BATCH, "because a conflicting RRSet of type CNAME with the same DNS name already exists"),
        ),
        row(
            "CNAME has one value",
            vec![create(simple("x", RrType::Cname, &["a.test", "b.test"]))],
            Refused(BATCH, "must have one value"),
        ),
        row(
            "a text needs quotation marks",
            vec![create(simple("x", RrType::Txt, &["bare"]))],
            Refused(
                BATCH,
                "InvalidCharacterString (Value should be enclosed in quotation marks) encountered with 'bare'",
            ),
        ),
        row(
            "a text string holds at most 255 characters",
            vec![create(simple("x", RrType::Txt, &[&format!("\"{}\"", "a".repeat(256))]))],
            Refused(BATCH, "CharacterStringTooLong"),
        ),
        row(
            "a text may have several strings of 255",
            vec![create(simple("x", RrType::Txt, &[&format!("\"{0}\" \"{0}\"", "a".repeat(255))]))],
            Accepted,
        ),
        row(
            "A takes addresses only",
            vec![create(simple("x", RrType::A, &["one"]))],
            Refused(BATCH, "ARRDATAIllegalIPv4Address"),
        ),
        row(
            "AAAA takes its addresses only",
            vec![create(simple("x", RrType::Aaaa, &["1.2.3.4"]))],
            Refused(BATCH, "AAAARRDATAIllegalIPv6Address"),
        ),
        row(
            "values differ from one another",
            vec![create(simple("x", RrType::A, &["10.0.0.1", "10.0.0.1"]))],
            Refused(BATCH, "Duplicate Resource Record"),
        ),
        row(
            "the apex keeps its NS",
            vec![delete(adjusted(
                simple("x", RrType::Ns, &["ns-1.example.test", "ns-2.example.test"]),
                |set| {
                    set.name = ZONE.into();
                    set.ttl = Some(172_800);
                },
            ))],
            Refused(BATCH, "at least one NS record"),
        ),
        row(
            "one broken change refuses the whole batch",
            vec![
                create(simple("fine", RrType::A, &["10.0.0.1"])),
                create(simple("one", RrType::A, &["10.0.0.1"])),
            ],
            Refused(BATCH, "but it already exists"),
        ),
        row(
            "every broken rule is told",
            vec![
                create(simple("one", RrType::A, &["10.0.0.9"])),
                delete(simple("absent", RrType::A, &["10.0.0.1"])),
            ],
            Refused(BATCH, "already exists, Tried to delete"),
        ),
    ]
}

fn limit_rows() -> Vec<Row> {
    let many = |action: fn(ResourceRecordSet) -> Change, count: usize| -> Vec<Change> {
        (0..count).map(|i| action(simple(&format!("r{i}"), RrType::A, &["10.0.0.1"]))).collect()
    };
    // Strings of 200 characters with their quotes: 160 of them are 32,000.
    let text = format!("\"{}\"", "a".repeat(198));
    let texts = |action: fn(ResourceRecordSet) -> Change, count: usize| -> Vec<Change> {
        (0..count).map(|i| action(simple(&format!("t{i}"), RrType::Txt, &[&text]))).collect()
    };
    vec![
        row("1,000 records a batch pass", many(create, 1000), Accepted),
        row(
            "1,001 records are refused",
            many(create, 1001),
            Refused(BATCH, "Number of records limit of 1000 exceeded."),
        ),
        row("UPSERT counts twice: 500 pass", many(upsert, 500), Accepted),
        row(
            "UPSERT counts twice: 501 are refused",
            many(upsert, 501),
            Refused(BATCH, "Number of records limit of 1000 exceeded."),
        ),
        row("32,000 characters pass", texts(create, 160), Accepted),
        row(
            "32,200 characters are refused",
            texts(create, 161),
            Refused(BATCH, "RDATA character limit of 32000 exceeded."),
        ),
        row(
            "UPSERT counts characters twice",
            texts(upsert, 81),
            Refused(BATCH, "RDATA character limit of 32000 exceeded."),
        ),
    ]
}
