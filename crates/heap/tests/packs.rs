//! What a heap over packs promises, whatever keeps the packs.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use nightmail_heap::{
    BlobBuilder, DirectoryPacks, Heap, HeapError, HeapKey, Location, MemoryPacks, ObjectPacks,
    ObjectsOptions, PackOptions, PackStore, Record, SegmentInfo,
};
use nightmail_testbed::garage::Garage;
use proptest::prelude::*;
use support::{CHUNK, TinyDisk, noise, prepare, record, run, text};
use tempfile::TempDir;

mod support;

const KEY: HeapKey = HeapKey::new([7; 32]);

/// A heap over packs in memory, and the folder of its spilled blobs.
struct World {
    packs: MemoryPacks,
    heap: Heap,
    dir: TempDir,
}

impl World {
    fn new(change: impl FnOnce(&mut PackOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let packs = MemoryPacks::new();
        let mut options = PackOptions::new(dir.path().join("spill"));
        change(&mut options);
        let heap = Heap::open_packs(Arc::new(packs.clone()), KEY, options).unwrap();
        Self { packs, heap, dir }
    }

    fn cached() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let packs = MemoryPacks::new();
        let heap = open_cached(&packs, dir.path());
        Self { packs, heap, dir }
    }
}

/// A node's heap with a cache below `dir`.
fn open_cached(packs: &MemoryPacks, dir: &Path) -> Heap {
    let options = PackOptions {
        cache_dir: Some(dir.join("cache")),
        ..PackOptions::new(dir.join("spill"))
    };
    Heap::open_packs(Arc::new(packs.clone()), KEY, options).unwrap()
}

fn append(heap: &Heap, plain: &[u8]) -> Location {
    run(heap.append_group(vec![record(heap, plain)])).unwrap()[0]
}

fn append_all(heap: &Heap, plains: &[Vec<u8>]) -> Vec<Location> {
    let records = plains.iter().map(|plain| record(heap, plain)).collect();
    run(heap.append_group(records)).unwrap()
}

fn read(heap: &Heap, at: &Location, range: Range<u64>) -> Result<Bytes, HeapError> {
    run(heap.read(at, range))
}

fn whole(heap: &Heap, at: &Location) -> Result<Bytes, HeapError> {
    read(heap, at, 0..u64::MAX)
}

fn listed(heap: &Heap) -> Vec<SegmentInfo> {
    run(heap.segments(None, usize::MAX)).unwrap()
}

/// Everything that is there to be read, read in every way there is.
fn check(heap: &Heap, at: &Location, plain: &[u8]) {
    assert_eq!(at.size, plain.len() as u64);
    assert!(whole(heap, at).unwrap() == plain);
    let mut chunks = Vec::new();
    let mut reader = run(heap.reader(at, 0..u64::MAX)).unwrap();
    assert_eq!(reader.size(), plain.len() as u64);
    while let Some(chunk) = run(reader.next_chunk()).unwrap() {
        assert!(!chunk.is_empty() && chunk.len() <= CHUNK);
        chunks.extend_from_slice(&chunk);
    }
    assert!(chunks == plain);
    let len = plain.len();
    let edges = [
        0,
        1,
        100,
        CHUNK - 1,
        CHUNK,
        CHUNK + 1,
        len / 2,
        len,
        len + 9,
    ];
    for from in edges {
        for to in edges {
            let found = read(heap, at, from as u64..to as u64).unwrap();
            let expected = plain.get(from..to.min(len)).unwrap_or(&[]);
            assert!(found == expected, "{from}..{to} of {len}");
        }
    }
}

fn keeps_the_promises(store: Arc<dyn PackStore>) {
    let dir = tempfile::tempdir().unwrap();
    let heap = Heap::open_packs(
        Arc::clone(&store),
        KEY,
        PackOptions {
            cache_dir: Some(dir.path().join("cache")),
            writer: Some(1),
            ..PackOptions::new(dir.path())
        },
    )
    .unwrap();
    let other_options = PackOptions {
        writer: Some(2),
        ..PackOptions::new(dir.path())
    };
    let other = Heap::open_packs(store, KEY, other_options).unwrap();
    let plains = [
        Vec::new(),
        noise(1, 40),
        text(2, 9_000),
        text(3, 3 * CHUNK + 17),
        noise(4, 2 * CHUNK),
        noise(5, 5 * CHUNK + 1),
    ];
    let group = append_all(&heap, &plains);
    assert!(group.iter().all(|at| at.segment == group[0].segment));
    let alone = append(&other, &plains[3]);
    let large = noise(6, 33 << 20);
    let large_at = append(&other, &large);
    for heap in [&heap, &other] {
        for (at, plain) in group.iter().zip(&plains) {
            check(heap, at, plain);
        }
        check(heap, &alone, &plains[3]);
        assert!(whole(heap, &large_at).unwrap() == large);
    }
    let read = run(heap.read_many(group.clone()));
    for (read, plain) in read.into_iter().zip(&plains) {
        assert!(read.unwrap() == *plain);
    }
    let segments = listed(&heap);
    let ids: Vec<u64> = segments.iter().map(|segment| segment.id).collect();
    assert_eq!(ids, [group[0], alone, large_at].map(|at| at.segment));
    let index = run(heap.index(&segments[0])).unwrap();
    let indexed: Vec<_> = index.iter().map(|entry| entry.location).collect();
    assert_eq!(indexed, group);
    for segment in &segments {
        run(other.remove_segment(segment.id)).unwrap();
    }
    assert_eq!(listed(&heap), []);
    let gone = HeapError::Gone {
        segment: alone.segment,
    };
    assert_eq!(whole(&other, &alone), Err(gone));
}

#[test]
fn a_heap_of_packs_in_memory_keeps_the_promises() {
    keeps_the_promises(Arc::new(MemoryPacks::new()));
}

#[test]
fn a_heap_of_packs_in_a_directory_keeps_the_promises() {
    let dir = tempfile::tempdir().unwrap();
    keeps_the_promises(Arc::new(DirectoryPacks::open(dir.path()).unwrap()));
}

#[test]
fn a_heap_of_packs_in_garage_keeps_the_promises() {
    let Some(garage) = Garage::start() else {
        return;
    };
    let options = ObjectsOptions {
        endpoint: Some(garage.endpoint()),
        region: Some(garage.region().to_owned()),
        access_key: Some(garage.access_key().to_owned()),
        secret_key: Some(garage.secret_key().to_owned()),
        allow_http: true,
        ..ObjectsOptions::new(format!("s3://{}", garage.bucket()))
    };
    keeps_the_promises(ObjectPacks::connect(&options).unwrap());
}

#[test]
fn a_group_larger_than_a_pack_becomes_several() {
    let world = World::new(|options| options.pack_bytes_max = 100_000);
    let plains: Vec<_> = [40, 50, 20, 200, 1, 2]
        .map(|k| noise(k, k as usize * 1000))
        .into();
    let at = append_all(&world.heap, &plains);
    assert_eq!(world.packs.numbers().len(), 4, "40+50, 20, 200, 1+2");
    for (at, plain) in at.iter().zip(&plains) {
        assert!(whole(&world.heap, at).unwrap() == *plain);
    }
    assert_eq!(run(world.heap.append_group(Vec::new())).unwrap(), []);
    assert_eq!(world.packs.numbers().len(), 4);
    let stats = world.heap.stats();
    assert_eq!((stats.records, stats.groups, stats.failures), (6, 4, 0));
}

#[test]
fn many_records_fit_into_one_index() {
    let world = World::new(|_| ());
    let plains: Vec<_> = (0..3000).map(|n| text(n, 30)).collect();
    let at = append_all(&world.heap, &plains);
    let index = run(world.heap.index(&listed(&world.heap)[0])).unwrap();
    assert_eq!(index.len(), 3000);
    for ((entry, at), plain) in index.iter().zip(&at).zip(&plains) {
        assert_eq!(entry.location, *at);
        assert_eq!(entry.blob, prepare(&world.heap, plain).id());
        assert_eq!(entry.created.millis(), 1_795_364_520_123);
    }
    let (records, summary) = run(world.heap.scan_segment(at[0].segment)).unwrap();
    assert_eq!((records.len(), summary.damaged_bytes), (3000, 0));
    assert_eq!(&records[9].envelope[..], b"<a@example.org> <b@example.net>");
    assert_eq!(records[9].location, at[9]);
}

#[test]
fn a_number_that_is_taken_is_not_used() {
    let world = World::new(|_| ());
    world.packs.take_next_numbers(3);
    let at = append(&world.heap, b"x");
    assert_eq!(whole(&world.heap, &at).unwrap(), "x");
    world.packs.take_next_numbers(u64::MAX);
    let refused = run(world.heap.append_group(vec![record(&world.heap, b"y")]));
    assert!(matches!(refused, Err(HeapError::Unavailable(_))));
    assert_eq!(world.packs.numbers(), [at.segment]);
}

#[test]
fn a_store_that_is_away_is_unavailable_and_then_works_again() {
    let world = World::new(|_| ());
    let at = append(&world.heap, b"before");
    world.packs.set_unavailable(true);
    let away = |result: Result<(), HeapError>| {
        assert!(
            matches!(result, Err(HeapError::Unavailable(_))),
            "{result:?}"
        );
    };
    away(run(world.heap.append_group(vec![record(&world.heap, b"y")])).map(drop));
    away(whole(&world.heap, &at).map(drop));
    away(run(world.heap.segments(None, 1)).map(drop));
    away(run(world.heap.copy_records(vec![at])).map(drop));
    away(run(world.heap.remove_segment(at.segment)));
    let many = run(world.heap.read_many(vec![at, at]));
    assert!(many.iter().all(Result::is_err));
    world.packs.set_unavailable(false);
    assert_eq!(whole(&world.heap, &at).unwrap(), "before");
    world.packs.set_full(true);
    let full = run(world.heap.append_group(vec![record(&world.heap, b"z")]));
    assert!(matches!(full, Err(HeapError::Full(_))));
    world.packs.set_full(false);
    let later = append(&world.heap, b"later");
    assert_eq!(whole(&world.heap, &later).unwrap(), "later");
    assert_eq!(world.heap.stats().failures, 2);
}

#[test]
fn a_put_whose_answer_is_lost_is_a_failure_that_leaves_a_pack_behind() {
    let world = World::cached();
    world.packs.hide_next_puts(1);
    let lost = run(world.heap.append_group(vec![record(&world.heap, b"x")]));
    assert!(matches!(lost, Err(HeapError::Unavailable(_))));
    assert_eq!(world.packs.numbers().len(), 1);
    append(&world.heap, b"x");
    assert_eq!(world.packs.numbers().len(), 2);
}

#[test]
fn a_flipped_bit_is_an_error_and_costs_no_other_record() {
    let world = World::new(|_| ());
    let plains: Vec<_> = (0..3).map(|n| noise(n, 60)).collect();
    let at = append_all(&world.heap, &plains);
    let pack = at[0].segment;
    let good = world.packs.bytes(pack).unwrap();
    let index_at = (at[2].offset + at[2].length) as usize;
    for byte in 0..good.len() {
        let mut bad = good.to_vec();
        bad[byte] ^= 0x10;
        world.packs.overwrite(pack, bad.into());
        for (at, plain) in at.iter().zip(&plains) {
            let hurt = (at.offset..at.offset + at.length).contains(&(byte as u64));
            let read = whole(&world.heap, at);
            let copied = run(world.heap.copy_records(vec![*at]));
            match hurt {
                true => {
                    assert!(
                        matches!(read, Err(HeapError::Corrupt { offset, .. }) if offset == at.offset)
                    );
                    assert!(
                        matches!(copied, Err(HeapError::Corrupt { .. })),
                        "{copied:?}"
                    );
                }
                false => {
                    assert!(read.unwrap() == *plain);
                    assert_eq!(copied.unwrap()[0].blob.read(0..u64::MAX).unwrap(), *plain);
                }
            }
        }
        let index = run(world.heap.index(&listed(&world.heap)[0]));
        assert_eq!(index.is_err(), byte >= index_at, "{byte}");
        if byte >= index_at {
            let (records, _) = run(world.heap.scan_segment(pack)).unwrap();
            assert_eq!(records.len(), 3, "found without the index");
        }
    }
}

#[test]
fn a_pack_cut_short_has_no_index() {
    let world = World::new(|_| ());
    let at = append_all(&world.heap, &[noise(1, 60), noise(2, 60)]);
    let pack = at[0].segment;
    let good = world.packs.bytes(pack).unwrap();
    for len in 0..good.len() {
        world.packs.overwrite(pack, good.slice(..len));
        let index = run(world.heap.index(&listed(&world.heap)[0]));
        assert!(matches!(index, Err(HeapError::Corrupt { .. })), "{len}");
    }
}

#[test]
fn the_packs_of_another_key_are_told_apart() {
    let world = World::new(|_| ());
    let at = append(&world.heap, b"x");
    let options = PackOptions::new(world.dir.path());
    let key = HeapKey::new([8; 32]);
    let other = Heap::open_packs(Arc::new(world.packs.clone()), key, options).unwrap();
    let index = run(other.index(&listed(&other)[0]));
    let wrong = HeapError::WrongKey {
        segment: at.segment,
    };
    assert_eq!(index, Err(wrong));
    assert!(matches!(whole(&other, &at), Err(HeapError::Corrupt { .. })));
}

#[test]
fn a_location_that_names_no_record_is_an_error() {
    let world = World::cached();
    append(&world.heap, b"first");
    let real = append(&world.heap, &text(1, 100_000));
    let wrong = [
        Location {
            offset: real.offset + 1,
            ..real
        },
        Location {
            length: real.length + 1,
            ..real
        },
        Location {
            header: u32::MAX,
            ..real
        },
        Location {
            header: real.header - 1,
            ..real
        },
        Location { size: 7, ..real },
        Location {
            offset: 1 << 40,
            ..real
        },
        Location {
            length: u64::MAX,
            ..real
        },
        Location {
            offset: u64::MAX,
            ..real
        },
    ];
    for at in wrong {
        let read = whole(&world.heap, &at);
        assert!(matches!(read, Err(HeapError::Corrupt { .. })), "{at:?}");
        let copied = run(world.heap.copy_records(vec![at]));
        assert!(matches!(copied, Err(HeapError::Corrupt { .. })), "{at:?}");
    }
    let elsewhere = Location { segment: 9, ..real };
    let gone = HeapError::Gone { segment: 9 };
    assert_eq!(whole(&world.heap, &elsewhere), Err(gone));
}

#[test]
fn a_copy_is_the_record_and_outlives_its_pack() {
    let world = World::new(|_| ());
    let plains = [noise(1, 3 * CHUNK), text(2, 500), Vec::new(), noise(3, 100)];
    let mut old = append_all(&world.heap, &plains[..2]);
    old.extend(append_all(&world.heap, &plains[2..]));
    let copies = run(world.heap.copy_records(old.clone())).unwrap();
    for segment in listed(&world.heap) {
        run(world.heap.remove_segment(segment.id)).unwrap();
    }
    assert_eq!(copies[0].envelope, "<a@example.org> <b@example.net>");
    let new = run(world.heap.append_group(copies)).unwrap();
    for ((old, new), plain) in old.iter().zip(&new).zip(&plains) {
        let gone = HeapError::Gone {
            segment: old.segment,
        };
        assert_eq!(whole(&world.heap, old), Err(gone));
        check(&world.heap, new, plain);
    }
}

#[test]
fn a_pack_removed_under_a_reader_is_gone() {
    let world = World::new(|_| ());
    let plain = noise(1, 8 * CHUNK);
    let at = append(&world.heap, &plain);
    let mut reader = run(world.heap.reader(&at, 0..u64::MAX)).unwrap();
    let first = run(reader.next_chunk()).unwrap().unwrap();
    assert!(first == plain[..CHUNK]);
    run(world.heap.remove_segment(at.segment)).unwrap();
    let gone = loop {
        match run(reader.next_chunk()) {
            Ok(chunk) => assert!(chunk.is_some(), "read to the end"),
            Err(error) => break error,
        }
    };
    let segment = at.segment;
    assert_eq!(gone, HeapError::Gone { segment });
}

#[test]
fn what_the_node_has_written_or_read_comes_from_its_cache() {
    let world = World::cached();
    let plains = [text(1, 5000), noise(2, 9 * CHUNK), Vec::new()];
    let at = append_all(&world.heap, &plains);
    let calls = world.packs.calls();
    for (at, plain) in at.iter().zip(&plains) {
        check(&world.heap, at, plain);
    }
    let again = open_cached(&world.packs, world.dir.path());
    for (at, plain) in at.iter().zip(&plains) {
        check(&again, at, plain);
    }
    assert_eq!(world.packs.calls(), calls, "nothing was asked of the store");

    let elsewhere = tempfile::tempdir().unwrap();
    let other = open_cached(&world.packs, elsewhere.path());
    for (at, plain) in at.iter().zip(&plains) {
        assert!(whole(&other, at).unwrap() == *plain);
    }
    let calls = world.packs.calls();
    for (at, plain) in at.iter().zip(&plains) {
        assert!(whole(&other, at).unwrap() == *plain);
    }
    assert_eq!(world.packs.calls(), calls, "what was read once is kept");
}

/// Changes every file of the cache below `dir`.
fn spoil(dir: &Path, change: impl Fn(&mut Vec<u8>)) {
    for entry in std::fs::read_dir(dir.join("cache")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_bad_cache_is_healed_from_the_store() {
    let world = World::cached();
    let plains = [text(1, 5000), noise(2, 9 * CHUNK), text(3, 200)];
    let at = append_all(&world.heap, &plains);
    let flip: fn(&mut Vec<u8>) = |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 1);
    let hole: fn(&mut Vec<u8>) = |bytes| bytes.iter_mut().skip(3000).for_each(|byte| *byte = 0);
    let cut: fn(&mut Vec<u8>) = |bytes| bytes.truncate(bytes.len() / 2);
    let empty: fn(&mut Vec<u8>) = Vec::clear;
    for change in [flip, hole, cut, empty] {
        spoil(world.dir.path(), change);
        for (at, plain) in at.iter().zip(&plains) {
            check(&world.heap, at, plain);
        }
        let calls = world.packs.calls();
        for (at, plain) in at.iter().zip(&plains) {
            assert!(whole(&world.heap, at).unwrap() == *plain);
        }
        assert_eq!(world.packs.calls(), calls, "it was healed");
    }
}

#[test]
fn a_cache_keeps_its_bound_and_forgets_removed_packs() {
    let dir = tempfile::tempdir().unwrap();
    let packs = MemoryPacks::new();
    let options = PackOptions {
        cache_dir: Some(dir.path().join("cache")),
        cache_bytes: 1 << 20,
        ..PackOptions::new(dir.path())
    };
    let heap = Heap::open_packs(Arc::new(packs.clone()), KEY, options).unwrap();
    let kept = || -> u64 {
        let files = std::fs::read_dir(dir.path().join("cache")).unwrap();
        files
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum()
    };
    let at: Vec<_> = (0..20).map(|n| append(&heap, &noise(n, 200_000))).collect();
    assert!((500_000..=1 << 20).contains(&kept()), "{} bytes", kept());
    for (n, at) in at.iter().enumerate() {
        assert!(whole(&heap, at).unwrap() == noise(n as u64, 200_000));
        assert!(kept() <= 1 << 20);
    }
    for at in &at {
        run(heap.remove_segment(at.segment)).unwrap();
    }
    assert_eq!(kept(), 0);
}

#[test]
fn a_full_disk_of_the_cache_is_nobodys_trouble() {
    let Some(disk) = TinyDisk::mount(1) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let options = PackOptions {
        cache_dir: Some(disk.path().join("cache")),
        ..PackOptions::new(dir.path())
    };
    let packs = MemoryPacks::new();
    let heap = Heap::open_packs(Arc::new(packs.clone()), KEY, options).unwrap();
    let plains: Vec<_> = (0..30).map(|n| noise(n, 100_000)).collect();
    let at: Vec<_> = plains.iter().map(|plain| append(&heap, plain)).collect();
    for (at, plain) in at.iter().zip(&plains) {
        assert!(whole(&heap, at).unwrap() == *plain);
    }
    let calls = packs.calls();
    assert!(whole(&heap, &at[29]).unwrap() == plains[29]);
    assert_eq!(packs.calls(), calls, "what fits is still kept");
}

#[test]
fn a_blob_that_spilled_is_put_whole() {
    let world = World::new(|_| ());
    let plain = noise(1, 20 << 20);
    let mut builder = BlobBuilder::new(&world.heap);
    for piece in plain.chunks(1 << 20) {
        builder.push(piece).unwrap();
    }
    let record = Record {
        blob: builder.finish().unwrap(),
        ..record(&world.heap, b"")
    };
    let at = run(world.heap.append_group(vec![record])).unwrap()[0];
    assert!(whole(&world.heap, &at).unwrap() == plain);
    let (records, summary) = run(world.heap.scan_segment(at.segment)).unwrap();
    assert_eq!((records.len(), summary.damaged_bytes), (1, 0));
}

#[test]
fn the_extent_is_what_a_walk_through_all_pages_counted() {
    let world = World::new(|_| ());
    let mut bytes = 0;
    for n in 0..7 {
        let at = append(&world.heap, &text(n, 1000));
        bytes += world.packs.bytes(at.segment).unwrap().len() as u64;
    }
    assert_eq!(world.heap.stats().segments, 0, "nobody has looked yet");
    for _ in 0..2 {
        let first = run(world.heap.segments(None, 3)).unwrap();
        // The second page begins within the first.
        let second = run(world.heap.segments(Some(first[1].id), 3)).unwrap();
        run(world.heap.segments(Some(second[2].id), 3)).unwrap();
        let stats = world.heap.stats();
        assert_eq!((stats.segments, stats.segment_bytes), (7, bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn any_groups_read_back_on_another_node(
        groups in proptest::collection::vec(
            proptest::collection::vec((0usize..700_000, any::<bool>(), 0usize..300), 1..5),
            1..4,
        ),
        pack_bytes_max in 1u64..800_000,
        cached: bool,
    ) {
        let world = World::new(|options| options.pack_bytes_max = pack_bytes_max);
        let other_dir = tempfile::tempdir().unwrap();
        let other = match cached {
            true => open_cached(&world.packs, other_dir.path()),
            false => world.heap.clone(),
        };
        let mut expected = Vec::new();
        for group in groups {
            let plains: Vec<_> = group
                .iter()
                .map(|&(len, dense, _)| if dense { noise(len as u64, len) } else { text(len, len) })
                .collect();
            let records: Vec<_> = plains
                .iter()
                .zip(&group)
                .map(|(plain, &(_, _, envelope))| Record {
                    envelope: vec![7; envelope].into(),
                    ..record(&world.heap, plain)
                })
                .collect();
            let at = run(world.heap.append_group(records)).unwrap();
            expected.extend(at.into_iter().zip(plains));
        }
        for (at, plain) in &expected {
            prop_assert!(whole(&other, at).unwrap() == *plain);
            let (from, to) = (plain.len() as u64 / 3, plain.len() as u64 / 2);
            prop_assert!(read(&other, at, from..to).unwrap() == plain[from as usize..to as usize]);
        }
        let mut indexed = Vec::new();
        for segment in listed(&other) {
            let index = run(other.index(&segment)).unwrap();
            indexed.extend(index.into_iter().map(|entry| entry.location));
        }
        prop_assert_eq!(indexed, expected.into_iter().map(|(at, _)| at).collect::<Vec<_>>());
    }
}
