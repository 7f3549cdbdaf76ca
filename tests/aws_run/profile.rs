//! Credentials by a profile of AWS's shared files, which people mend while an edge runs.

use crate::planet::{NO_CREDENTIALS, Planet, READ_WELL, serves};
use crate::run_support::{Edge, eventually};
use crate::world::{REGION, SUBJECT, assume, token};

const NODE: &str = "role_arn = arn:aws:iam::000000000000:role/edge\ncredential_source = Ec2InstanceMetadata";
const SSO: &str = "sso_start_url = https://example.awsapps.com/start\nsso_region = eu-west-1\n\
                   sso_account_id = 000000000000\nsso_role_name = edge";
const LOGIN: &str = "login_session = arn:aws:iam::000000000000:user/somebody";

/// Writes the profile of the edge.
fn write(planet: &Planet, profile: &str) -> String {
    let text = format!("[default]\naws_access_key_id = nobody\n[profile edge]\n{profile}\n");
    planet.folder.write("config", &text).to_str().unwrap().to_owned()
}

/// Keys of the role, as a file has them.
fn keys(planet: &Planet) -> String {
    let [key, secret, session] =
        assume(planet.world.stand_in.address, &planet.role, &token(SUBJECT)).unwrap();
    format!("aws_access_key_id = {key}\naws_secret_access_key = {secret}\naws_session_token = {session}")
}

fn edge(planet: &Planet, file: String) -> Edge {
    let variables = [("AWS_CONFIG_FILE", file), ("AWS_PROFILE", "edge".to_owned())];
    planet.edge_by("profile", REGION, &planet.world.url(), &variables)
}

#[tokio::test]
async fn keys_of_the_profile_that_is_named_are_used() {
    let Some(planet) = Planet::new().await else { return };
    let edge = edge(&planet, write(&planet, &keys(&planet)));
    edge.until_metric(READ_WELL, 2.0);
    assert_eq!(edge.metric(NO_CREDENTIALS), Some(0.0));
    assert!(edge.log().contains(r#""source":"profile""#), "{}", edge.log());
}

#[tokio::test]
async fn a_profile_that_cannot_be_used_is_told_with_what_to_do_and_a_mended_one_is_read() {
    let Some(planet) = Planet::new().await else { return };
    let edge = edge(&planet, write(&planet, NODE));
    edge.until_metric(NO_CREDENTIALS, 1.0);
    serves(&edge);
    let told = |word: &str| {
        eventually(&format!("it says {word}\n{}", edge.log()), || edge.log().contains(word).then_some(()))
    };
    told(
        r#"credential_source is Ec2InstanceMetadata, which is the node's role; if that is meant, write `credentials = \"node\"`"#,
    );
    let sign_in = "credential_process = aws configure export-credentials --profile NAME";
    for (profile, of) in [(SSO, "enabled: sso"), (LOGIN, "enabled: credentials-login")] {
        write(&planet, profile);
        told(of);
        told(sign_in);
    }
    assert_eq!(edge.metric(READ_WELL), Some(0.0));
    assert_eq!(planet.imds.knocks(), 0, "the instance was asked");

    write(&planet, &keys(&planet));
    edge.until_metric(READ_WELL, 1.0);
}
