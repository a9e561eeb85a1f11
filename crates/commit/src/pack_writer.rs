//! A number for each process that writes packs.

use nightmail_core::codec::{RowReader, RowWriter};
use nightmail_engine::{Batch, CommitError, Durability, Engine, RowKey, Space};

use crate::intent::CommitFailure;

const VERSION: u8 = 1;

/// A number that no process which uses the same store was given before: the `writer` of a heap's
/// [`PackOptions`](nightmail_heap::PackOptions). Only its lowest 20 bits count there, so that it comes back after a
/// million starts.
///
/// Fails when the engine does.
pub async fn next_pack_writer(engine: &dyn Engine) -> Result<u32, CommitFailure> {
    let key = RowKey::new(Space::Meta, b"next-pack-writer".to_vec());
    loop {
        let found = engine.get_many(std::slice::from_ref(&key)).await?;
        let found = found.into_iter().next().flatten();
        let next = match &found {
            Some(row) => RowReader::new(row, VERSION)?.0.u32()?,
            None => 0,
        };
        let row = RowWriter::new(VERSION).u32(next.wrapping_add(1)).finish();
        let mut batch = Batch::new();
        batch.check(key.clone(), found).put(key.clone(), row);
        match engine.commit(batch, Durability::Synced).await {
            Ok(()) => return Ok(next),
            Err(CommitError::Conflict { .. }) => {}
            Err(CommitError::Engine(error)) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nightmail_engine::MemoryEngine;

    use super::*;

    #[tokio::test]
    async fn no_two_processes_are_given_the_same_number() {
        let engine = Arc::new(MemoryEngine::new());
        let processes = (0..20).map(|_| {
            let engine = Arc::clone(&engine);
            tokio::spawn(async move { next_pack_writer(&*engine).await.unwrap() })
        });
        let processes: Vec<_> = processes.collect();
        let mut given = Vec::new();
        for process in processes {
            given.push(process.await.unwrap());
        }
        given.sort_unstable();
        assert_eq!(given, (0..20).collect::<Vec<_>>());
    }
}
