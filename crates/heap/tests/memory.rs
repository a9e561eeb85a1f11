//! Memory and speed; alone in its process, so that no other test disturbs the figures.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::time::Instant;

use bytes::Bytes;
use nightmail_core::Timestamp;
use nightmail_heap::{BlobBuilder, Heap, HeapOptions, Record};
use tokio::runtime::Runtime;

/// Anonymous resident memory in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() * 1024
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

#[test]
fn a_blob_of_30_mib_passes_through_bounded_memory() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = Runtime::new().unwrap();
    let heap = Heap::open(dir.path(), HeapOptions::default()).unwrap();
    let before = resident();
    let mut most = 0;
    let mut builder = BlobBuilder::new(&heap);
    for seed in 0..480 {
        builder.push(&noise(seed, 64 << 10)).unwrap();
        most = most.max(resident() - before);
    }
    let record = Record {
        blob: builder.finish().unwrap(),
        envelope: Bytes::new(),
        created: Timestamp::default(),
    };
    let location = runtime.block_on(heap.append_group(vec![record])).unwrap()[0];
    most = most.max(resident() - before);
    let mut reader = runtime
        .block_on(heap.reader(&location, 0..u64::MAX))
        .unwrap();
    let mut digest = blake3::Hasher::new();
    while let Some(chunk) = runtime.block_on(reader.next_chunk()).unwrap() {
        digest.update(&chunk);
        most = most.max(resident() - before);
    }
    let mut expected = blake3::Hasher::new();
    (0..480).for_each(|seed| {
        expected.update(&noise(seed, 64 << 10));
    });
    assert_eq!(digest.finalize(), expected.finalize());
    assert_eq!(location.size, 30 << 20);
    eprintln!("at most {} KiB for 30 MiB", most >> 10);
    assert!(most < 8 << 20, "{most} bytes");
}

/// Figures for groups as deliveries make them: run with `--ignored --nocapture measure`.
#[test]
#[ignore = "a measurement"]
fn measure_groups_of_64_messages() {
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let runtime = Runtime::new().unwrap();
    let heap = Heap::open(dir.path(), HeapOptions::default()).unwrap();
    let (mut packing, mut appending, mut times) = (0.0, 0.0, Vec::new());
    let mut some = Vec::new();
    for group in 0..500u64 {
        let plains: Vec<_> = (0..64).map(|n| message(group * 64 + n)).collect();
        let start = Instant::now();
        let records: Vec<_> = plains
            .iter()
            .map(|plain| {
                let mut builder = BlobBuilder::new(&heap);
                builder.push(plain).unwrap();
                Record {
                    blob: builder.finish().unwrap(),
                    envelope: Bytes::from_static(b"<someone@example.org> <someone@example.net>"),
                    created: Timestamp::from_secs(1),
                }
            })
            .collect();
        packing += start.elapsed().as_secs_f64();
        let start = Instant::now();
        let locations = runtime.block_on(heap.append_group(records)).unwrap();
        times.push(start.elapsed());
        appending += start.elapsed().as_secs_f64();
        some.push(locations[group as usize % 64]);
    }
    times.sort_unstable();
    let stats = heap.stats();
    eprintln!(
        "{} records, {} bytes each; packing {:.1} us each; append {:?} a group (p99 {:?}), {:.0} records/s",
        stats.records,
        stats.bytes_written / stats.records,
        packing * 1e6 / stats.records as f64,
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        stats.records as f64 / appending,
    );
    let start = Instant::now();
    for location in &some {
        runtime.block_on(heap.read(location, 0..u64::MAX)).unwrap();
    }
    eprintln!("{:?} a read", start.elapsed() / some.len() as u32);
    drop(heap);
    let start = Instant::now();
    Heap::open(dir.path(), HeapOptions::default()).unwrap();
    eprintln!("{:?} to open", start.elapsed());
}

/// 8.8 KiB that compress about as mail does: half words, half base64-like noise.
fn message(seed: u64) -> Vec<u8> {
    let mut bytes = noise(seed, 2600);
    bytes.iter_mut().for_each(|byte| *byte = b'A' + *byte % 58);
    while bytes.len() < 8800 {
        let at = bytes.len();
        let word = [
            &b"the "[..],
            b"mail ",
            b"is ",
            b"delivered ",
            b"to ",
            b"you\r\n",
        ];
        bytes.extend_from_slice(word[(seed as usize + at * 31) % word.len()]);
    }
    bytes
}
