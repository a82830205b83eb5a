//! The stores of our own: made, reached by password, killed, ended after a killed runner.

use std::path::PathBuf;
use std::process::Command;

use crochet_dev::{Cluster, Stores, end_leftovers};
use sqlx::{Connection as _, PgConnection};

fn directory(name: &str) -> PathBuf {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    target.join(format!("{name}-{}", std::process::id()))
}

async fn setting(connection: &mut PgConnection, name: &str) -> sqlx::Result<String> {
    sqlx::query_scalar("SELECT current_setting($1)")
        .bind(name)
        .fetch_one(connection)
        .await
}

#[tokio::test]
async fn both_stores_start_keep_their_data_and_stop() {
    crochet_dev::install::install_missing(|line| println!("{line}")).unwrap();
    let directory = directory("stores");
    let stores = Stores::start(&directory, 50).await.unwrap();
    let mut connection = PgConnection::connect(&stores.database_url()).await.unwrap();
    for (name, value) in [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("max_connections", "50"),
        ("unix_socket_directories", ""),
        ("listen_addresses", "127.0.0.1"),
    ] {
        assert_eq!(
            setting(&mut connection, name).await.unwrap(),
            value,
            "{name}"
        );
    }
    sqlx::raw_sql("CREATE TABLE kept (a int)")
        .execute(&mut connection)
        .await
        .unwrap();
    let without_password = stores
        .database_url()
        .replace("postgres://crochet:", "postgres://crochet:x");
    assert!(
        PgConnection::connect(&without_password).await.is_err(),
        "a wrong password is refused"
    );
    drop(connection);
    stores.stop().await.unwrap();

    let again = Stores::start(&directory, 50).await.unwrap();
    let mut connection = PgConnection::connect(&again.database_url()).await.unwrap();
    sqlx::raw_sql("SELECT * FROM kept")
        .execute(&mut connection)
        .await
        .unwrap();
    drop(connection);
    drop(again);
    Cluster::remove(&directory).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test]
async fn what_a_killed_runner_left_is_ended_by_the_next() {
    crochet_dev::install::install_missing(|line| println!("{line}")).unwrap();
    let directory = directory("leftover-stores");
    let stores = Stores::start(&directory, 20).await.unwrap();
    let (database_url, redis_url) = (stores.database_url(), stores.redis_url());
    // A runner that is killed drops nothing.
    std::mem::forget(stores);
    let mut ended = end_leftovers(&directory).await.unwrap();
    ended.sort();
    assert_eq!(ended, ["postgres", "redis"]);
    assert!(PgConnection::connect(&database_url).await.is_err());
    let address = redis_url
        .trim_start_matches("redis://")
        .trim_end_matches('/');
    assert!(std::net::TcpStream::connect(address).is_err());
    assert!(
        end_leftovers(&directory).await.unwrap().is_empty(),
        "nothing is left to end"
    );
    Cluster::remove(&directory).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test]
async fn no_server_runs_as_root() {
    crochet_dev::install::install_missing(|line| println!("{line}")).unwrap();
    let directory = directory("owner");
    let stores = Stores::start(&directory, 20).await.unwrap();
    let record: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(directory.join("processes.json")).unwrap())
            .unwrap();
    for child in record["children"].as_array().unwrap() {
        let output = Command::new("ps")
            .args(["-o", "uid=", "-p", &child["pid"].to_string()])
            .output()
            .unwrap();
        let uid = String::from_utf8(output.stdout).unwrap();
        assert!(
            !uid.trim().is_empty() && uid.trim() != "0",
            "{child} runs as uid {uid:?}"
        );
    }
    drop(stores);
    Cluster::remove(&directory).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
}
