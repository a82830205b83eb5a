//! `status`, `audit` and `migrate`: what is looked at, and what makes a person be called.

use clap::Parser as _;
use control_plane::config::Cli;
use control_plane::db::Db;
use control_plane::operator::audit::audit;
use control_plane::operator::migrate::migrate;
use control_plane::operator::status::{Status, status};
use control_plane::operator::{Exit, Form, Outcome};
use serde_json::json;
use sqlx::PgPool;

use super::{kept, rehearsed};
use crate::payments::stage::{PRICE, RELAY_KEY, SECRET, SETTLEMENT, Stage, refused_by};

async fn stands(stage: &Stage) -> Outcome {
    let key = "k:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let cli = Cli::try_parse_from([
        "control-plane".to_owned(),
        "--database-url=postgres://127.0.0.1/unused".to_owned(),
        format!("--internal-secrets={SECRET}"),
        format!("--crochet-master-keys={key}"),
        format!("--gateway-cache-keys={key}"),
        format!("--relay-base-url={}", stage.sandbox),
        format!("--relay-api-key={RELAY_KEY}"),
        format!("--settlement-address={SETTLEMENT}"),
    ]);
    let wanted = Status {
        since: None,
        form: Form::default(),
    };
    status(&stage.app.db, &cli.unwrap().settings, &wanted)
        .await
        .unwrap()
}

/// The requests in a state: how many, and their prices together.
fn in_state(outcome: &Outcome, state: &str) -> (i64, i64) {
    let rows = outcome.json["requests"].as_array().unwrap();
    let row = rows.iter().find(|row| row["state"] == state).unwrap();
    (
        row["count"].as_i64().unwrap(),
        row["price_micros"].as_i64().unwrap(),
    )
}

#[sqlx::test(migrations = "./migrations")]
async fn a_quiet_marketplace_needs_nobody(pool: PgPool) {
    let stage = Stage::with_sandbox(pool, &[]).await;
    stage.quoted().await;
    stage.delivered().await;
    let claimed = stage.paid().await;
    stage.claimed(&claimed).await;
    let other = stage.quoted().await;
    stage.evidence(&other, false, Some(5)).await;
    stage.run("delete from outbox").await;
    let outcome = stands(&stage).await;
    // What arrived is owed, whatever its price was.
    assert_eq!(in_state(&outcome, "refund_due"), (1, PRICE));
    assert_eq!(outcome.json["refund_due_micros"], 5);
    assert_eq!(outcome.exit, Exit::Done, "{}", outcome.text);
    assert_eq!(in_state(&outcome, "delivered"), (1, PRICE));
    assert_eq!(in_state(&outcome, "refunded"), (0, 0));
    assert_eq!(outcome.json["clearing_micros"], PRICE);
    assert_eq!(
        outcome.json["oldest_claim"]["request_id"],
        claimed.request_id().to_string()
    );
    assert!(
        outcome.json["provider"]["reachable"].is_object(),
        "{}",
        outcome.text
    );
    assert_eq!(outcome.json["troubles"], json!([]));
}

#[sqlx::test(migrations = "./migrations")]
async fn each_trouble_is_named_and_calls_a_person(pool: PgPool) {
    // Nobody is at the provider's address.
    let stage = Stage::new(pool).await;
    let request = stage.paid().await;
    stage
        .run(
            "update deadline set due_at = now() - interval '2 minutes';
            update outbox set created_at = now() - interval '1 minute';
            delete from payment_evidence;
            update pg_index set indisvalid = false where indexrelid = 'gateway_request_refund'::regclass",
        )
        .await;
    let outcome = stands(&stage).await;
    assert_eq!(outcome.exit, Exit::Attention);
    let troubles = outcome.json["troubles"].as_array().unwrap();
    assert_eq!(troubles.len(), 5, "{}", outcome.text);
    let broken = &outcome.json["schema"]["broken_indexes"];
    assert_eq!(broken, &json!(["gateway_request_refund"]));
    let audited = audit(&stage.app.db).await.unwrap();
    assert_eq!(audited.exit, Exit::Attention);
    assert_eq!(
        (
            &audited.json["violations"][0]["invariant"],
            &audited.json["violations"][0]["what"]
        ),
        (&json!("evidence_covers_price"), &json!(request.id))
    );
    assert!(
        audited.text.ends_with("audit: 1 rows\n"),
        "{}",
        audited.text
    );
}

#[sqlx::test(migrations = "./migrations")]
async fn an_audit_without_a_row_says_so(pool: PgPool) {
    let stage = Stage::new(pool).await;
    stage.delivered().await;
    let outcome = audit(&stage.app.db).await.unwrap();
    assert_eq!(
        (outcome.exit, outcome.text.as_str()),
        (Exit::Done, "audit: no row\n")
    );
    assert_eq!(outcome.json["violations"], json!([]));
}

#[sqlx::test(migrations = false)]
async fn what_is_missing_of_the_schema_is_listed_and_then_applied(pool: PgPool) {
    let db = Db::from_pool(pool);
    let listed = migrate(&db, &rehearsed()).await.unwrap();
    let count = control_plane::db::MIGRATIONS.iter().count();
    assert_eq!(listed.exit, Exit::Attention);
    assert_eq!(listed.json["migrations"].as_array().unwrap().len(), count);
    let tables = "select count(*) from pg_tables where schemaname = 'public'";
    let made: i64 = sqlx::query_scalar(tables)
        .fetch_one(db.pool())
        .await
        .unwrap();
    assert_eq!(made, 0, "a rehearsal makes nothing");
    let applied = migrate(&db, &kept()).await.unwrap();
    assert_eq!(applied.exit, Exit::Done);
    assert_eq!(applied.json["migrations"].as_array().unwrap().len(), count);
    let again = migrate(&db, &rehearsed()).await.unwrap();
    assert_eq!(
        (again.exit, again.text.as_str()),
        (Exit::Done, "the schema is up to date\n")
    );
}

#[sqlx::test(migrations = "./migrations")]
async fn an_index_whose_building_broke_off_is_told_of_until_it_is_built_anew(pool: PgPool) {
    let definition: String =
        sqlx::query_scalar("select pg_get_indexdef('gateway_request_refund'::regclass)")
            .fetch_one(&pool)
            .await
            .unwrap();
    let again = definition.replacen("CREATE INDEX", "create index concurrently if not exists", 1);
    sqlx::query("drop index gateway_request_refund")
        .execute(&pool)
        .await
        .unwrap();
    // A writer's transaction is waited for, until it is waited for no longer.
    let mut writer = pool.begin().await.unwrap();
    sqlx::query("lock table gateway_request in row exclusive mode")
        .execute(&mut *writer)
        .await
        .unwrap();
    let mut builder = pool.acquire().await.unwrap();
    sqlx::query("set lock_timeout = '50ms'")
        .execute(&mut *builder)
        .await
        .unwrap();
    let build = || sqlx::raw_sql(sqlx::AssertSqlSafe(again.clone()));
    let waited = build().execute(&mut *builder).await.unwrap_err();
    assert_eq!(refused_by(&waited), "55P03", "no lock in time");
    writer.rollback().await.unwrap();
    // What migrations say: it takes the half for the whole.
    build().execute(&mut *builder).await.unwrap();
    builder.close().await.unwrap();

    let db = Db::from_pool(pool);
    let listed = migrate(&db, &rehearsed()).await.unwrap();
    let broken = json!(["gateway_request_refund"]);
    assert_eq!(
        (listed.exit, &listed.json["broken_indexes"]),
        (Exit::Attention, &broken)
    );
    // The schema is whole, and nothing need wait for it.
    let told = migrate(&db, &kept()).await.unwrap();
    assert_eq!(
        (told.exit, &told.json["broken_indexes"]),
        (Exit::Done, &broken)
    );
    let said = "reindex index concurrently gateway_request_refund";
    assert!(told.text.contains(said), "{}", told.text);
    sqlx::query(said).execute(db.pool()).await.unwrap();
    let after = migrate(&db, &rehearsed()).await.unwrap();
    assert_eq!(after.text, "the schema is up to date\n");
}

#[sqlx::test(migrations = "./migrations")]
async fn a_schema_of_a_newer_version_is_left_as_it_is(pool: PgPool) {
    let newer =
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
        values (9999, 'of tomorrow', true, '', 0)";
    sqlx::query(newer).execute(&pool).await.unwrap();
    let outcome = migrate(&Db::from_pool(pool), &kept()).await.unwrap();
    assert_eq!(
        (outcome.exit, outcome.text.as_str()),
        (Exit::Done, "the schema is up to date\n")
    );
}
