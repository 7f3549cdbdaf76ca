//! The binary and AWS's own services, by a stand-in that checks signatures, rights and trust: credentials, the
//! instance's metadata, a configuration in a bucket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod run_support;

#[path = "aws_run/archive.rs"]
mod archive;
#[path = "aws_run/bucket.rs"]
mod bucket;
#[path = "aws_run/credentials.rs"]
mod credentials;
#[path = "aws_run/doctor.rs"]
mod doctor;
#[path = "aws_run/failover.rs"]
mod failover;
#[path = "aws_run/gate.rs"]
mod gate;
#[path = "aws_run/instance.rs"]
mod instance;
#[path = "dns_support/ministack.rs"]
mod ministack;
#[path = "aws_run/planet.rs"]
mod planet;
#[path = "aws_run/pod_identity.rs"]
mod pod_identity;
#[path = "aws_run/profile.rs"]
mod profile;
#[path = "aws_run/users.rs"]
mod users;
#[path = "aws_run/world.rs"]
mod world;
