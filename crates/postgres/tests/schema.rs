//! Making the tables, and whom they are made for.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;

use common::{get, options, put, row};
use nightmail_engine::Space;
use nightmail_postgres::{
    ConnectError, InitReport, PostgresEngine, PostgresTls, SCHEMA_VERSION, SchemaError, connect,
    init,
};
use nightmail_testbed::postgres::Postgres;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_made_once_and_keeps_its_secret() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let options = options(&server.url());
    let missing = PostgresEngine::open(options.clone()).await.err().unwrap();
    assert!(matches!(missing, SchemaError::NotInitialized));
    assert!(missing.to_string().contains("nightmail cluster init"));
    let to = SCHEMA_VERSION;
    let first = InitReport { from: None, to };
    assert_eq!(init(&options).await.unwrap(), first);
    let engine = PostgresEngine::open(options.clone()).await.unwrap();
    let key = row(Space::Meta, "k");
    put(&engine, &key, "1").await;
    let second = InitReport { from: Some(to), to };
    assert_eq!(init(&options).await.unwrap(), second);
    let again = PostgresEngine::open(options).await.unwrap();
    assert!(again.heap_key() == engine.heap_key());
    assert_eq!(get(&again, &key).await, Some("1".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_make_a_database_at_once_make_one() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let options = options(&server.url());
            tokio::spawn(async move { init(&options).await.unwrap() })
        })
        .collect();
    let mut makers = 0;
    for task in tasks {
        let report = task.await.unwrap();
        assert_eq!(report.to, SCHEMA_VERSION);
        makers += usize::from(report.from.is_none());
    }
    assert_eq!(makers, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_is_refused() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let options = options(&server.url());
    init(&options).await.unwrap();
    let set = |version: u32| {
        let text = format!("UPDATE nm_cluster SET value = '{version}' WHERE name = 'schema'");
        server.psql(&text);
    };
    set(SCHEMA_VERSION + 1);
    let opened = PostgresEngine::open(options.clone()).await.err();
    assert!(
        matches!(opened, Some(SchemaError::Newer { .. })),
        "{opened:?}"
    );
    let made = init(&options).await;
    assert!(matches!(made, Err(SchemaError::Newer { .. })), "{made:?}");
    set(SCHEMA_VERSION - 1);
    let opened = PostgresEngine::open(options).await.err();
    assert!(
        matches!(opened, Some(SchemaError::Older { .. })),
        "{opened:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_of_long_ago_are_forgotten() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let options = options(&server.url());
    init(&options).await.unwrap();
    server.psql("INSERT INTO nm_lane VALUES ('old', 1, now() - interval '8 days')");
    server.psql("INSERT INTO nm_lane VALUES ('new', 1, now() - interval '6 days')");
    PostgresEngine::open(options).await.unwrap();
    let lanes = server.psql("SELECT convert_from(id, 'UTF8') FROM nm_lane");
    assert_eq!(lanes, "new");
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_server_that_is_meant_is_spoken_to_over_tls() {
    let (ours, other) = (authority(), authority());
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned()];
    let params = CertificateParams::new(names).unwrap();
    let certificate = params.signed_by(&key, &ours).unwrap();
    let server = Postgres::start_with_tls(&certificate.pem(), &key.serialize_pem());
    let Some(server) = server else {
        return;
    };
    let options = |host: &str, authority: &CertifiedIssuer<'_, KeyPair>| {
        let url = format!(
            "postgres://nightmail@{host}:{}/nightmail?hostaddr=127.0.0.1",
            server.port()
        );
        let mut options = options(&url);
        options.tls = PostgresTls::Verify(vec![authority.der().clone()]);
        options
    };
    let trusted = options("localhost", &ours);
    init(&trusted).await.unwrap();
    let link = connect(&trusted).await.unwrap();
    let question = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let encrypted = link.client.query_one(question, &[]).await.unwrap();
    assert_eq!(encrypted.get::<_, &str>(0), "true");
    for wrong in [
        options("localhost", &other),
        options("localhost.localdomain", &ours),
    ] {
        let refused = connect(&wrong).await.err();
        assert!(
            matches!(refused, Some(ConnectError::Server(_))),
            "{refused:?}"
        );
    }
}
