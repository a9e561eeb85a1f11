//! Every pack store keeps the promises; what is special to one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nightmail_testbed::garage::Garage;
use object_store::memory::InMemory;

use super::*;

fn garage_options(garage: &Garage) -> ObjectsOptions {
    ObjectsOptions {
        endpoint: Some(garage.endpoint()),
        region: Some(garage.region().to_owned()),
        access_key: Some(garage.access_key().to_owned()),
        secret_key: Some(garage.secret_key().to_owned()),
        allow_http: true,
        ..ObjectsOptions::new(format!("s3://{}/packs/here", garage.bucket()))
    }
}

#[tokio::test]
async fn packs_in_memory_keep_the_promises() {
    conformance::run(Arc::new(MemoryPacks::new()), 40 << 20).await;
}

#[tokio::test]
async fn packs_in_a_directory_keep_the_promises() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}", dir.path().join("below/packs").display());
    let packs = ObjectPacks::connect(&ObjectsOptions::new(url)).unwrap();
    conformance::run(packs, 40 << 20).await;
}

#[tokio::test]
async fn packs_in_an_object_store_keep_the_promises() {
    for prefix in ["", "one", "one/two"] {
        let store = Arc::new(InMemory::new());
        let packs = ObjectPacks::new(store, prefix, Duration::from_secs(10));
        conformance::run(Arc::new(packs), 10 << 20).await;
    }
}

#[tokio::test]
async fn packs_in_garage_keep_the_promises() {
    let Some(garage) = Garage::start() else {
        return;
    };
    let packs = ObjectPacks::connect(&garage_options(&garage)).unwrap();
    // It ignores the condition that there be no such object yet.
    conformance::run_without_refusals(&packs, 40 << 20).await;
}

#[tokio::test]
async fn a_store_that_is_cut_off_is_unavailable_in_time_and_works_again_later() {
    let Some(mut garage) = Garage::start() else {
        return;
    };
    let options = ObjectsOptions {
        request_timeout: Duration::from_secs(2),
        ..garage_options(&garage)
    };
    let packs = ObjectPacks::connect(&options).unwrap();
    packs
        .put(1, vec![Bytes::from_static(b"one")])
        .await
        .unwrap();
    let begun = Instant::now();
    garage.pause();
    let silent = packs.put(2, vec![Bytes::from_static(b"two")]).await;
    assert!(matches!(silent, Err(PackError::Unavailable(_))));
    let silent = packs.read(1, 0..10).await;
    assert!(matches!(silent, Err(PackError::Unavailable(_))));
    garage.resume();
    garage.stop();
    let gone = packs.list(None, 10).await;
    assert!(matches!(gone, Err(PackError::Unavailable(_))));
    assert!(begun.elapsed() < Duration::from_secs(60));
    garage.restart();
    assert_eq!(packs.read(1, 0..10).await.unwrap(), "one");
    packs
        .put(3, vec![Bytes::from_static(b"three")])
        .await
        .unwrap();
    assert_eq!(packs.read(3, 2..9).await.unwrap(), "ree");
}

#[test]
fn only_known_urls_name_a_store() {
    for url in [
        "",
        "s3://",
        "s3:///prefix",
        "/var/packs",
        "https://host/bucket",
    ] {
        let connected = ObjectPacks::connect(&ObjectsOptions::new(url));
        assert!(matches!(connected, Err(ObjectsError::Url(_))), "{url}");
    }
}

#[test]
fn options_do_not_show_the_secret() {
    let options = ObjectsOptions {
        secret_key: Some("hunter2".to_owned()),
        ..ObjectsOptions::new("s3://mail")
    };
    assert!(!format!("{options:?}").contains("hunter2"));
}

#[tokio::test]
async fn what_is_no_pack_is_not_listed() {
    let dir = tempfile::tempdir().unwrap();
    let packs = DirectoryPacks::open(dir.path()).unwrap();
    packs.put(7, vec![Bytes::from_static(b"x")]).await.unwrap();
    for name in ["7.pack", "readme", "zzzzzzzzzzzzzzzz.pack", ".draft-1"] {
        std::fs::write(dir.path().join(name), "x").unwrap();
    }
    let listed = packs.list(None, 10).await.unwrap();
    assert_eq!(listed, [PackInfo { pack: 7, bytes: 1 }]);
}

#[tokio::test]
async fn a_put_that_fails_leaves_no_pack() {
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("packs");
    let packs = DirectoryPacks::open(&below).unwrap();
    std::fs::remove_dir_all(&below).unwrap();
    let put = packs.put(1, vec![Bytes::from_static(b"x")]).await;
    assert!(put.is_err(), "{put:?}");
    std::fs::create_dir(&below).unwrap();
    assert_eq!(packs.list(None, 10).await.unwrap(), []);
    packs.put(1, vec![Bytes::from_static(b"x")]).await.unwrap();
}
