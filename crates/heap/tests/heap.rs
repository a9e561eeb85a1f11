//! What the heap promises, through its public face.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use nightmail_heap::{
    BlobBuilder, BlobReader, Heap, HeapError, HeapKey, HeapOptions, Location, PreparedBlob, Record,
    SegmentInfo,
};
use proptest::prelude::*;
use support::{CHUNK, TinyDisk, noise, prepare, record, run, text};

mod support;

fn open(dir: &Path) -> Heap {
    Heap::open(dir, HeapOptions::default()).unwrap()
}

fn open_with_segments_of(dir: &Path, segment_bytes: u64) -> Heap {
    let options = HeapOptions {
        segment_bytes,
        open_files_max: 2,
        ..HeapOptions::default()
    };
    Heap::open(dir, options).unwrap()
}

fn append(heap: &Heap, plain: &[u8]) -> Location {
    run(heap.append_group(vec![record(heap, plain)])).unwrap()[0]
}

fn segment_file(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:016x}.seg"))
}

fn reader(heap: &Heap, location: &Location) -> BlobReader {
    run(heap.reader(location, 0..u64::MAX)).unwrap()
}

fn segments(heap: &Heap) -> Vec<SegmentInfo> {
    run(heap.segments(None, usize::MAX)).unwrap()
}

fn whole(heap: &Heap, location: &Location) -> Result<Bytes, HeapError> {
    run(heap.read(location, 0..u64::MAX))
}

#[test]
fn a_blob_reads_back_whole_and_by_any_range() {
    let dir = tempfile::tempdir().unwrap();
    let heap = open(dir.path());
    for plain in [text(1, 3 * CHUNK + 17), noise(1, 2 * CHUNK), noise(2, 40)] {
        let location = append(&heap, &plain);
        assert_eq!(location.size, plain.len() as u64);
        assert!(whole(&heap, &location).unwrap() == plain);
        let edges: Vec<usize> = [0, 1, CHUNK, 2 * CHUNK, 3 * CHUNK, plain.len()]
            .into_iter()
            .flat_map(|edge| [edge.saturating_sub(1), edge, edge + 1])
            .collect();
        for &from in &edges {
            for &to in &edges {
                let found = run(heap.read(&location, from as u64..to as u64)).unwrap();
                let to = to.min(plain.len());
                let expected = plain.get(from..to).unwrap_or(&[]);
                assert!(found == expected, "{from}..{to} of {}", plain.len());
            }
        }
    }
}

#[test]
fn blobs_and_heaps_pass_between_threads() {
    fn passes<T: Send + Sync + 'static>() {}
    passes::<Heap>();
    passes::<PreparedBlob>();
    passes::<BlobReader>();
    passes::<Record>();
    fn moves<T: Send + 'static>() {}
    moves::<BlobBuilder>();
}

#[test]
fn an_empty_blob_is_a_blob() {
    let dir = tempfile::tempdir().unwrap();
    let heap = open(dir.path());
    let location = append(&heap, b"");
    assert_eq!(location.size, 0);
    assert_eq!(whole(&heap, &location).unwrap(), Bytes::new());
    assert_eq!(run(reader(&heap, &location).next_chunk()).unwrap(), None);
    assert_eq!(run(heap.append_group(Vec::new())).unwrap(), []);
}

#[test]
fn a_reader_gives_chunk_after_chunk() {
    let dir = tempfile::tempdir().unwrap();
    let heap = open(dir.path());
    let plain = text(3, 5 * CHUNK / 2);
    let location = append(&heap, &plain);
    let mut reader = reader(&heap, &location);
    let mut lengths = Vec::new();
    let mut all = Vec::new();
    while let Some(chunk) = run(reader.next_chunk()).unwrap() {
        lengths.push(chunk.len());
        all.extend_from_slice(&chunk);
    }
    assert_eq!(lengths, [CHUNK, CHUNK, CHUNK / 2]);
    assert!(all == plain);
}

#[test]
fn the_id_depends_on_the_bytes_and_the_key_alone() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let with_key = |dir: &Path, key| {
        let options = HeapOptions {
            key: Some(HeapKey::new(key)),
            ..HeapOptions::default()
        };
        Heap::open(dir, options).unwrap()
    };
    let (first, second) = (with_key(one.path(), [1; 32]), with_key(two.path(), [2; 32]));
    let plain = text(4, 1000);
    let id = prepare(&first, &plain).id();
    let mut builder = BlobBuilder::new(&first);
    builder.push(&plain).unwrap();
    assert_eq!(builder.finish().unwrap().id(), id);
    assert_ne!(prepare(&second, &plain).id(), id);
    assert_ne!(prepare(&first, &plain[1..]).id(), id);
}

#[test]
fn a_prepared_blob_can_be_read_before_it_is_appended() {
    let dir = tempfile::tempdir().unwrap();
    let heap = open(dir.path());
    for plain in [text(5, CHUNK + 5), noise(5, 9 * CHUNK + 5)] {
        let blob = prepare(&heap, &plain);
        assert_eq!(blob.size(), plain.len() as u64);
        assert!(blob.read(0..u64::MAX).unwrap() == plain);
        let middle = CHUNK - 2..CHUNK + 2;
        let found = blob.read(middle.start as u64..middle.end as u64).unwrap();
        assert!(found == plain[middle]);
    }
}

#[test]
fn records_are_there_after_reopening_and_scans_find_them() {
    let dir = tempfile::tempdir().unwrap();
    let heap = open(dir.path());
    let plains: Vec<_> = (0..10).map(|n| text(n, n * 1000)).collect();
    let records: Vec<_> = plains.iter().map(|plain| record(&heap, plain)).collect();
    let mut locations = run(heap.append_group(records[..6].to_vec())).unwrap();
    locations.extend(run(heap.append_group(records[6..].to_vec())).unwrap());
    drop((heap, records));

    let heap = open(dir.path());
    for (location, plain) in locations.iter().zip(&plains) {
        assert!(whole(&heap, location).unwrap() == *plain);
    }
    locations.push(append(&heap, b"one more"));
    let mut found = Vec::new();
    let (records, summary) = run(heap.scan_segment(0)).unwrap();
    for record in records {
        assert_eq!(&record.envelope[..], b"<a@example.org> <b@example.net>");
        assert_eq!(record.created.millis(), 1_795_364_520_123);
        let plain = whole(&heap, &record.location).unwrap();
        assert_eq!(prepare(&heap, &plain).id(), record.blob);
        found.push(record.location);
    }
    assert_eq!(found, locations);
    assert_eq!((summary.records, summary.damaged_bytes), (11, 0));
    assert_eq!(heap.stats().records, 1);
}

#[test]
fn a_full_segment_is_followed_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let heap = open_with_segments_of(dir.path(), 20_000);
    let locations: Vec<_> = (0..41).map(|n| append(&heap, &noise(n, 5000))).collect();
    let segments = segments(&heap);
    assert!(segments.len() >= 8, "{segments:?}");
    let (last, sealed) = segments.split_last().unwrap();
    assert!(!last.sealed && sealed.iter().all(|segment| segment.sealed));
    for (n, location) in locations.iter().enumerate() {
        assert!(whole(&heap, location).unwrap() == noise(n as u64, 5000));
    }
    drop(heap);
    let heap = open_with_segments_of(dir.path(), 20_000);
    let ids = |heap: &Heap| {
        self::segments(heap)
            .iter()
            .map(|s| s.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        ids(&heap),
        segments.iter().map(|s| s.id).collect::<Vec<_>>()
    );
    append(&heap, b"on");
    assert_eq!(ids(&heap).len(), segments.len());
}

#[test]
fn compaction_moves_records_and_the_old_segment_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let heap = open_with_segments_of(dir.path(), 10_000);
    let plains = [noise(1, 6000), text(2, 2 * CHUNK), noise(3, CHUNK + 9)];
    let old: Vec<_> = plains.iter().map(|plain| append(&heap, plain)).collect();
    assert_eq!(
        run(heap.remove_segment(old[2].segment)),
        Err(HeapError::Newest {
            segment: old[2].segment
        })
    );
    let moved = run(heap.copy_records(old.clone())).unwrap();
    assert_eq!(moved[0].blob.id(), prepare(&heap, &plains[0]).id());
    append(&heap, &noise(9, 20_000));
    let new = run(heap.append_group(moved)).unwrap();
    let slow = reader(&heap, &old[2]);
    for segment in segments(&heap).iter().filter(|s| s.id < new[0].segment) {
        run(heap.remove_segment(segment.id)).unwrap();
    }
    for ((old, new), plain) in old.iter().zip(&new).zip(&plains) {
        let gone = HeapError::Gone {
            segment: old.segment,
        };
        assert_eq!(whole(&heap, old), Err(gone.clone()));
        assert_eq!(run(heap.remove_segment(old.segment)), Err(gone));
        assert!(whole(&heap, new).unwrap() == *plain);
    }
    assert!(
        run(slow.read_to_end()).unwrap() == plains[2],
        "readers read on"
    );
}

#[test]
fn a_heap_is_open_once_and_under_one_key() {
    let dir = tempfile::tempdir().unwrap();
    let heap = open(dir.path());
    append(&heap, b"x");
    let again = Heap::open(dir.path(), HeapOptions::default());
    assert!(matches!(again.err(), Some(HeapError::Locked(_))));
    drop(heap);
    let other = HeapOptions {
        key: Some(HeapKey::new([0; 32])),
        ..HeapOptions::default()
    };
    let wrong = Heap::open(dir.path(), other);
    assert_eq!(wrong.err(), Some(HeapError::WrongKey { segment: 0 }));
    open(dir.path());
}

#[test]
fn a_tail_torn_at_any_byte_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let heap = open(dir.path());
    let kept = append(&heap, b"kept");
    let torn = append(&heap, &noise(1, 300));
    drop(heap);
    let file = segment_file(dir.path(), 0);
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(bytes.len() as u64, torn.offset + torn.length);
    for len in torn.offset..=bytes.len() as u64 {
        for zeros in [0, 5000] {
            let mut cut = bytes[..len as usize].to_vec();
            cut.resize(cut.len() + zeros, 0);
            std::fs::write(&file, cut).unwrap();
            let heap = open(dir.path());
            assert_eq!(whole(&heap, &kept).unwrap(), "kept");
            let read = whole(&heap, &torn);
            assert_eq!(read.is_ok(), len == bytes.len() as u64, "{len}");
            let next = append(&heap, b"next");
            let expected = if read.is_ok() { len } else { torn.offset };
            assert_eq!(next.offset, expected, "appended where the good part ends");
            assert_eq!(whole(&heap, &next).unwrap(), "next");
        }
    }
}

#[test]
fn a_segment_whose_creation_was_cut_short_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    for len in 0..24 {
        std::fs::write(segment_file(dir.path(), 0), vec![0; len]).unwrap();
        let heap = open(dir.path());
        let location = append(&heap, b"first");
        assert_eq!(location.segment, 0);
        drop(heap);
        assert_eq!(whole(&open(dir.path()), &location).unwrap(), "first");
    }
}

/// Damage before the end is no torn tail: what comes after it was acknowledged and must stay.
#[test]
fn a_flipped_bit_is_an_error_and_costs_no_other_record() {
    let dir = tempfile::tempdir().unwrap();
    let heap = open(dir.path());
    let locations: Vec<_> = (0..3).map(|n| append(&heap, &noise(n, 60))).collect();
    drop(heap);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(segment_file(dir.path(), 0))
        .unwrap();
    let hurt = locations[1];
    for at in hurt.offset..hurt.offset + hurt.length {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
        let heap = open(dir.path());
        assert!(matches!(
            whole(&heap, &hurt),
            Err(HeapError::Corrupt { segment: 0, offset, .. }) if offset == hurt.offset
        ));
        assert!(whole(&heap, &locations[0]).unwrap() == noise(0, 60));
        assert!(whole(&heap, &locations[2]).unwrap() == noise(2, 60));
        let next = append(&heap, b"elsewhere");
        assert_eq!(next.segment, 1, "a damaged segment takes no more");
        drop(heap);
        std::fs::remove_file(segment_file(dir.path(), 1)).unwrap();
        file.write_all_at(&byte, at).unwrap();
    }
    file.write_all_at(&[0xff], hurt.offset + 40).unwrap();
    let heap = open(dir.path());
    let (records, summary) = run(heap.scan_segment(0)).unwrap();
    let found: Vec<_> = records.iter().map(|record| record.location).collect();
    assert_eq!(found, [locations[0], locations[2]]);
    assert_eq!(summary.damaged_bytes, hurt.length);
}

#[test]
fn a_location_that_names_no_record_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let heap = open(dir.path());
    append(&heap, b"first");
    let real = append(&heap, &text(1, 100_000));
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
    ];
    for location in wrong {
        let read = whole(&heap, &location);
        assert!(
            matches!(read, Err(HeapError::Corrupt { .. })),
            "{location:?}"
        );
    }
    let elsewhere = Location { segment: 9, ..real };
    assert_eq!(
        whole(&heap, &elsewhere),
        Err(HeapError::Gone { segment: 9 })
    );
}

#[test]
fn readers_read_while_groups_are_appended() {
    let dir = tempfile::tempdir().unwrap();
    let heap = open_with_segments_of(dir.path(), 200_000);
    let plain = |n: usize| text(n, 500 + n * 37 % 9000);
    let done = AtomicBool::new(false);
    let written = parking_lot::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let (heap, written) = (&heap, &written);
            scope.spawn(move || {
                for group in 0..30 {
                    let numbers: Vec<usize> =
                        (0..8).map(|n| writer * 1000 + group * 8 + n).collect();
                    let records: Vec<_> =
                        numbers.iter().map(|&n| record(heap, &plain(n))).collect();
                    let locations = run(heap.append_group(records)).unwrap();
                    written.lock().extend(numbers.into_iter().zip(locations));
                }
            });
        }
        scope.spawn(|| {
            let mut round = 0;
            while !done.load(Ordering::Relaxed) {
                let some = written.lock().get(round * 7 % 480).copied();
                if let Some((n, location)) = some {
                    assert!(whole(&heap, &location).unwrap() == plain(n));
                }
                round += 1;
                if written.lock().len() == 480 {
                    done.store(true, Ordering::Relaxed);
                }
            }
        });
    });
    for (n, location) in written.into_inner() {
        assert!(whole(&heap, &location).unwrap() == plain(n));
    }
    assert_eq!((heap.stats().groups, heap.stats().syncs), (60, 60));
}

#[test]
fn a_full_disk_keeps_nothing_of_the_group_and_the_heap_goes_on() {
    let Some(disk) = TinyDisk::mount(8) else {
        return;
    };
    let dir = disk.path().join("heap");
    let heap = open_with_segments_of(&dir, 3 << 20);
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1; 2 << 20]).unwrap();
    let mut written = Vec::new();
    let refused = loop {
        let seed = written.len() as u64 * 2;
        let plains = [noise(seed, 70_000), noise(seed + 1, 70_000)];
        let group = plains.iter().map(|plain| record(&heap, plain)).collect();
        match run(heap.append_group(group)) {
            Ok(locations) => written.push((plains, locations)),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, HeapError::Full(_)), "{refused}");
    let before = segments(&heap);
    let small = append(&heap, b"a small one still fits");
    assert!(small.offset >= before.last().unwrap().bytes);
    let mut builder = BlobBuilder::new(&heap);
    let spilled = (0..200).find_map(|n| builder.push(&noise(n, 70_000)).err());
    assert!(matches!(spilled, Some(HeapError::Full(_))), "{spilled:?}");
    drop(builder);

    std::fs::remove_file(&ballast).unwrap();
    let later = append(&heap, &noise(999, 500_000));
    drop(heap);
    let heap = open_with_segments_of(&dir, 3 << 20);
    for (plains, locations) in &written {
        for (plain, location) in plains.iter().zip(locations) {
            assert!(whole(&heap, location).unwrap() == *plain);
        }
    }
    assert_eq!(whole(&heap, &small).unwrap(), "a small one still fits");
    assert!(whole(&heap, &later).unwrap() == noise(999, 500_000));
    let found: u64 = segments(&heap)
        .iter()
        .map(|segment| run(heap.scan_segment(segment.id)).unwrap().1.records)
        .sum();
    assert_eq!(found, written.len() as u64 * 2 + 2, "and nothing else");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_groups_read_back_after_reopening(
        groups in proptest::collection::vec(
            proptest::collection::vec((0usize..600_000, any::<bool>(), 0usize..300), 1..4),
            1..5,
        ),
        segment_bytes in 1u64..400_000,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let heap = open_with_segments_of(dir.path(), segment_bytes);
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
                    ..record(&heap, plain)
                })
                .collect();
            let locations = run(heap.append_group(records)).unwrap();
            expected.extend(locations.into_iter().zip(plains));
        }
        drop(heap);
        let heap = open_with_segments_of(dir.path(), segment_bytes);
        for (location, plain) in &expected {
            prop_assert!(whole(&heap, location).unwrap() == *plain);
        }
        let mut found = Vec::new();
        for segment in segments(&heap) {
            let (records, _) = run(heap.scan_segment(segment.id)).unwrap();
            found.extend(records.iter().map(|record| record.location));
        }
        prop_assert_eq!(found, expected.into_iter().map(|(location, _)| location).collect::<Vec<_>>());
    }
}
