//! THREAD (RFC 5256 §3): messages as conversations.

use bytes::{BufMut, BytesMut};

use super::search::SearchKey;
use crate::io::{Answer, Ask, ThreadRow};
use crate::parse::{ParseError, Parser, Result};
use crate::session::{Session, Step};
use crate::set::UidSet;
use crate::view::View;
use crate::write;

/// By what messages are taken to belong together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Threading {
    /// ORDEREDSUBJECT: the base subject.
    OrderedSubject,
    /// REFERENCES: what they answer, and the base subject.
    References,
}

/// Reads the name of the algorithm.
pub(super) fn parse_threading(parser: &mut Parser<'_>) -> Result<Threading> {
    match parser.atom()?.to_ascii_uppercase().as_str() {
        "ORDEREDSUBJECT" => Ok(Threading::OrderedSubject),
        "REFERENCES" => Ok(Threading::References),
        _ => Err(ParseError::Syntax("no such threading algorithm")),
    }
}

pub(super) fn ask(
    session: &mut Session,
    key: SearchKey<UidSet>,
    threading: Threading,
    by_uid: bool,
) {
    let key = Box::new(key);
    session.ask(Ask::Thread { key, threading }, Asking { by_uid });
}

struct Asking {
    by_uid: bool,
}

impl Step for Asking {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::Threads(rows) => {
                let (out, view) = session.text_and_view();
                if let Some(view) = view {
                    write_threads(out, &known(view, &rows, self.by_uid));
                }
                session.ok("Threaded");
            }
            other => session.refuse_unexpected(other),
        }
    }
}

/// A message, or what stands for one that is not there, and how many there are between it and its thread's first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Node {
    depth: u32,
    number: Option<u32>,
}

/// The rows with the numbers to tell. A message that the client does not know is left out; what answers it moves up.
fn known(view: &View, rows: &[ThreadRow], by_uid: bool) -> Vec<Node> {
    let mut nodes = Vec::with_capacity(rows.len());
    let mut left_out: Vec<u32> = Vec::new();
    let mut hint = 0;
    for row in rows {
        while left_out.last().is_some_and(|depth| *depth >= row.depth) {
            left_out.pop();
        }
        let number = row.uid.map(|uid| {
            let seq = view.seq_of(uid, &mut hint)?;
            if by_uid {
                Some(uid.get())
            } else {
                u32::try_from(seq).ok()
            }
        });
        if number == Some(None) {
            left_out.push(row.depth);
            continue;
        }
        nodes.push(Node {
            depth: row.depth - u32::try_from(left_out.len()).unwrap_or(row.depth),
            number: number.flatten(),
        });
    }
    nodes
}

/// How many nodes are directly below each.
fn children_of(nodes: &[Node]) -> Vec<u32> {
    let mut counts = vec![0u32; nodes.len()];
    let mut above: Vec<usize> = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        above.truncate(node.depth as usize);
        if let Some(count) = above.last().and_then(|parent| counts.get_mut(*parent)) {
            *count += 1;
        }
        above.push(index);
    }
    counts
}

/// Writes `* THREAD (2)(3 6 (4 23)(44 7 96))`: a node goes on in its parent's list where it is the only one below it.
fn write_threads(out: &mut BytesMut, nodes: &[Node]) {
    let children = children_of(nodes);
    // The depth at which each open list begins, and how many nodes are below each node above this one.
    let mut open: Vec<u32> = Vec::new();
    let mut above: Vec<(u32, bool)> = Vec::new();
    out.put_slice(b"* THREAD");
    for (index, (node, count)) in nodes.iter().zip(&children).enumerate() {
        above.truncate(node.depth as usize);
        while open.last().is_some_and(|depth| *depth >= node.depth) {
            open.pop();
            out.put_u8(b')');
        }
        let parent = above.last().copied();
        let is_first_below = index > 0 && parent.is_some() && is_deeper(nodes, index);
        let parent_is_written = parent.is_some_and(|(_, written)| written);
        if index == 0 || is_first_below && parent_is_written {
            out.put_u8(b' ');
        }
        if parent.is_none_or(|(siblings, _)| siblings > 1) {
            open.push(node.depth);
            out.put_u8(b'(');
        }
        if let Some(number) = node.number {
            write::number(out, u64::from(number));
        }
        above.push((*count, node.number.is_some()));
    }
    out.put_bytes(b')', open.len());
    out.put_slice(b"\r\n");
}

/// Whether a node lies deeper than the one before it: it is the first below its parent.
fn is_deeper(nodes: &[Node], index: usize) -> bool {
    let depth = |index: usize| nodes.get(index).map(|node| node.depth);
    depth(index) > depth(index - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(nodes: &[(u32, u32)]) -> String {
        let nodes: Vec<Node> = nodes
            .iter()
            .map(|(depth, number)| Node {
                depth: *depth,
                number: (*number > 0).then_some(*number),
            })
            .collect();
        let mut out = BytesMut::new();
        write_threads(&mut out, &nodes);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn threads_are_written_as_the_rfc_shows() {
        let nodes = [
            (0, 2),
            (0, 3),
            (1, 6),
            (2, 4),
            (3, 23),
            (2, 44),
            (3, 7),
            (4, 96),
        ];
        assert_eq!(written(&nodes), "* THREAD (2)(3 6 (4 23)(44 7 96))\r\n");
        let orphans = [(0, 0), (1, 3), (1, 5)];
        assert_eq!(written(&orphans), "* THREAD ((3)(5))\r\n");
        let both = [(0, 1), (0, 0), (1, 3), (2, 4), (1, 5), (0, 6)];
        assert_eq!(written(&both), "* THREAD (1)((3 4)(5))(6)\r\n");
        assert_eq!(written(&[]), "* THREAD\r\n");
    }

    #[test]
    fn a_thread_as_deep_as_a_mailbox_is_long_is_written() {
        let nodes: Vec<(u32, u32)> = (0..200_000).map(|depth| (depth, depth + 1)).collect();
        assert!(written(&nodes).starts_with("* THREAD (1 2 3 4 "));
    }
}
