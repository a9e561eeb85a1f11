//! Conversations (RFC 5256 §3): which messages belong together, by subject or by what they answer.
//!
//! Owns the tree while it is being found. Works in time about linear in what it is given: a chain of messages may be as
//! long as a mailbox, so nothing here recurses.
//!
//! **Invariant:** no message is above itself.

use std::collections::HashMap;

/// References read of one message: the last ones.
const REFERENCES_MAX: usize = 1000;
/// Steps that may be spent on proving that links make no loop. Links that would need more are not made.
const STEPS_MAX: usize = 100_000_000;

/// What threading looks at in a message.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// The base subject, folded.
    pub subject: String,
    /// Whether the subject is marked as that of an answer or a forward.
    pub is_reply: bool,
    /// When it was sent, in milliseconds since 1970.
    pub sent_millis: i64,
}

/// A message in a list of threads. Each stands before what is below it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Threaded {
    /// How many are above it.
    pub depth: u32,
    /// Its place among the messages given; none: it is not there, and there are two or more below it.
    pub message: Option<u32>,
}

/// Threads of messages with one base subject: the first sent, the others below it.
pub fn by_subject(messages: &[Facts]) -> Vec<Threaded> {
    let mut order: Vec<(&Facts, u32)> = messages.iter().zip(0..).collect();
    order.sort_unstable_by_key(|(facts, place)| (&facts.subject, facts.sent_millis, *place));
    let mut threads: Vec<&[(&Facts, u32)]> = order
        .chunk_by(|(one, _), (other, _)| one.subject == other.subject)
        .collect();
    threads.sort_by_key(|thread| {
        thread
            .first()
            .map(|(facts, place)| (facts.sent_millis, *place))
    });
    let mut rows = Vec::with_capacity(messages.len());
    for thread in threads {
        for (index, (_, place)) in thread.iter().enumerate() {
            rows.push(Threaded {
                depth: u32::from(index > 0),
                message: Some(*place),
            });
        }
    }
    rows
}

/// A message, or one that others refer to and that is not there.
#[derive(Clone, Copy, Default)]
struct Node {
    message: Option<u32>,
    parent: Option<u32>,
    children: u32,
}

/// Threads by references. Messages are given in the order of the mailbox.
#[derive(Default)]
pub struct Threader {
    messages: Vec<Facts>,
    nodes: Vec<Node>,
    ids: HashMap<Box<[u8]>, u32>,
    steps: usize,
}

impl Threader {
    /// Takes a message in: its Message-ID and the ids of References, or of In-Reply-To in their place, without
    /// brackets.
    pub fn add<'a>(
        &mut self,
        id: Option<&[u8]>,
        references: impl IntoIterator<Item = &'a [u8]>,
        facts: Facts,
    ) {
        let message = u32::try_from(self.messages.len()).unwrap_or(u32::MAX);
        self.messages.push(facts);
        let own = self.node_of_message(id, message);
        let references: Vec<&[u8]> = references.into_iter().collect();
        let skipped = references.len().saturating_sub(REFERENCES_MAX);
        let mut above = None;
        for reference in references.into_iter().skip(skipped) {
            let node = self.node_of(reference);
            if let Some(parent) = above
                && self.get(node).parent.is_none()
            {
                self.link(parent, node);
            }
            above = Some(node);
        }
        self.unlink(own);
        if let Some(parent) = above {
            self.link(parent, own);
        }
    }

    fn node_of(&mut self, id: &[u8]) -> u32 {
        let id = unquoted(id);
        if let Some(node) = self.ids.get(&*id) {
            return *node;
        }
        let node = self.new_node(None);
        self.ids.insert(id, node);
        node
    }

    /// The node of a message; another one with the same id makes it one without.
    fn node_of_message(&mut self, id: Option<&[u8]>, message: u32) -> u32 {
        if let Some(id) = id {
            let node = self.node_of(id);
            if self.get(node).message.is_none() {
                self.change(node, |node| node.message = Some(message));
                return node;
            }
        }
        self.new_node(Some(message))
    }

    fn new_node(&mut self, message: Option<u32>) -> u32 {
        let place = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        self.nodes.push(Node {
            message,
            ..Node::default()
        });
        place
    }

    fn get(&self, node: u32) -> Node {
        self.nodes.get(node as usize).copied().unwrap_or_default()
    }

    fn change(&mut self, node: u32, how: impl FnOnce(&mut Node)) {
        if let Some(node) = self.nodes.get_mut(node as usize) {
            how(node);
        }
    }

    fn unlink(&mut self, node: u32) {
        if let Some(parent) = self.get(node).parent {
            self.change(parent, |parent| parent.children -= 1);
            self.change(node, |node| node.parent = None);
        }
    }

    /// Puts a node without a parent below another, unless that would be a loop.
    fn link(&mut self, parent: u32, node: u32) {
        if parent == node || self.is_above(node, parent) {
            return;
        }
        self.change(parent, |parent| parent.children += 1);
        self.change(node, |node| node.parent = Some(parent));
    }

    /// Whether `node` is above `other`; also where that would take too long to find out.
    fn is_above(&mut self, node: u32, other: u32) -> bool {
        if self.get(node).children == 0 {
            return false;
        }
        let mut above = self.get(other).parent;
        while let Some(next) = above {
            self.steps += 1;
            if next == node || self.steps > STEPS_MAX {
                return true;
            }
            above = self.get(next).parent;
        }
        false
    }

    /// The threads, by when they begin.
    pub fn finish(self) -> Vec<Threaded> {
        let mut forest = Forest::new(&self.messages, &self.nodes);
        forest.gather_subjects();
        forest.sort_all();
        forest.rows()
    }
}

/// An id whose left side is quoted without need is the same without the quotes.
fn unquoted(id: &[u8]) -> Box<[u8]> {
    let inner = id.strip_prefix(b"\"").and_then(|rest| {
        let end = memchr::memmem::find(rest, b"\"@")?;
        Some((rest.get(..end)?, rest.get(end + 1..)?))
    });
    match inner {
        Some((left, right)) => [left, right].concat().into(),
        None => id.into(),
    }
}

/// The trees without what is not there, but for such as stand above two or more roots.
struct Forest<'a> {
    messages: &'a [Facts],
    /// The message of each node.
    of: Vec<Option<u32>>,
    children: Vec<Vec<u32>>,
    roots: Vec<u32>,
}

impl<'a> Forest<'a> {
    /// Steps 2 to 4 of RFC 5256 §3.
    fn new(messages: &'a [Facts], nodes: &[Node]) -> Self {
        let of: Vec<_> = nodes.iter().map(|node| node.message).collect();
        let mut below: Vec<Vec<u32>> = vec![Vec::new(); nodes.len()];
        let mut tops = Vec::new();
        for (node, place) in nodes.iter().zip(0..) {
            match node.parent {
                Some(parent) => list_of(&mut below, parent).push(place),
                None => tops.push(place),
            }
        }
        let mut forest = Self {
            messages,
            children: vec![Vec::new(); nodes.len()],
            of,
            roots: Vec::new(),
        };
        for place in 0..u32::try_from(nodes.len()).unwrap_or(u32::MAX) {
            if forest.message(place).is_some() {
                let found = forest.nearest_below(place, &below);
                *list_of(&mut forest.children, place) = found;
            }
        }
        for top in tops {
            forest.add_top(top, &below);
        }
        forest.sort_roots();
        forest
    }

    fn add_top(&mut self, top: u32, below: &[Vec<u32>]) {
        if self.message(top).is_some() {
            return self.roots.push(top);
        }
        let found = self.nearest_below(top, below);
        match found.as_slice() {
            [] => {}
            [only] => self.roots.push(*only),
            _ => {
                *list_of(&mut self.children, top) = found;
                self.roots.push(top);
            }
        }
    }

    /// The messages below a node with nothing but missing ones between.
    fn nearest_below(&self, node: u32, below: &[Vec<u32>]) -> Vec<u32> {
        let list = |node: u32| below.get(node as usize).map_or(&[][..], Vec::as_slice);
        let mut found = Vec::new();
        let mut open: Vec<u32> = list(node).iter().rev().copied().collect();
        while let Some(node) = open.pop() {
            match self.message(node) {
                Some(_) => found.push(node),
                None => open.extend(list(node).iter().rev()),
            }
        }
        found
    }

    fn message(&self, node: u32) -> Option<u32> {
        self.of.get(node as usize).copied().flatten()
    }

    fn facts(&self, node: u32) -> Option<&'a Facts> {
        self.messages.get(self.message(node)? as usize)
    }

    fn below(&self, node: u32) -> &[u32] {
        self.children.get(node as usize).map_or(&[], Vec::as_slice)
    }

    /// The message that speaks for a node: itself, or the first below what is not there.
    fn speaker(&self, node: u32) -> u32 {
        match self.message(node) {
            Some(_) => node,
            None => self.below(node).first().copied().unwrap_or(node),
        }
    }

    /// When it was sent, then its place in the mailbox.
    fn time(&self, node: u32) -> (i64, Option<u32>) {
        let speaker = self.speaker(node);
        let sent = self.facts(speaker).map_or(0, |facts| facts.sent_millis);
        (sent, self.message(speaker))
    }

    fn sort_below(&mut self, node: u32) {
        let mut children = std::mem::take(list_of(&mut self.children, node));
        children.sort_by_key(|child| self.time(*child));
        *list_of(&mut self.children, node) = children;
    }

    fn sort_roots(&mut self) {
        let mut roots = std::mem::take(&mut self.roots);
        for root in &roots {
            if self.message(*root).is_none() {
                self.sort_below(*root);
            }
        }
        roots.sort_by_key(|root| self.time(*root));
        self.roots = roots;
    }

    fn sort_all(&mut self) {
        for place in 0..u32::try_from(self.children.len()).unwrap_or(u32::MAX) {
            self.sort_below(place);
        }
        self.sort_roots();
    }

    fn subject(&self, root: u32) -> &'a str {
        self.facts(self.speaker(root))
            .map_or("", |facts| facts.subject.as_str())
    }

    /// Whether it is there and an answer or a forward by its subject.
    fn is_reply(&self, root: u32) -> bool {
        self.facts(root).is_some_and(|facts| facts.is_reply)
    }

    /// Step 5: threads with the same base subject become one.
    fn gather_subjects(&mut self) {
        let mut first = self.first_of_subjects();
        let roots = std::mem::take(&mut self.roots);
        let mut merged: Vec<bool> = vec![false; self.children.len()];
        let mut made = Vec::new();
        for root in &roots {
            let place = *root as usize;
            let Some(first) = first.get_mut(self.subject(*root)) else {
                continue;
            };
            if *first == *root || merged.get(place) != Some(&false) {
                continue;
            }
            if let Some(merged) = merged.get_mut(place) {
                *merged = true;
            }
            if self.goes_below(*root, *first) {
                self.put_below(*root, *first);
                continue;
            }
            if let Some(merged) = merged.get_mut(*first as usize) {
                *merged = true;
            }
            let both = vec![*first, *root];
            *first = u32::try_from(self.of.len()).unwrap_or(u32::MAX);
            made.push(*first);
            self.of.push(None);
            self.children.push(both);
        }
        let stays = |root: &u32| merged.get(*root as usize) != Some(&true);
        self.roots = roots.into_iter().filter(stays).chain(made).collect();
    }

    /// For each base subject the root that others of that subject are put to.
    fn first_of_subjects(&self) -> HashMap<&'a str, u32> {
        let mut first: HashMap<&'a str, u32> = HashMap::new();
        for root in &self.roots {
            let subject = self.subject(*root);
            if subject.is_empty() {
                continue;
            }
            let known = first.entry(subject).or_insert(*root);
            let is_better =
                self.message(*root).is_none() || self.is_reply(*known) && !self.is_reply(*root);
            if self.message(*known).is_some() && is_better {
                *known = *root;
            }
        }
        first
    }

    /// Whether a root belongs below another of its subject, rather than beside it.
    fn goes_below(&self, root: u32, first: u32) -> bool {
        self.message(first).is_none() || self.is_reply(root) && !self.is_reply(first)
    }

    fn put_below(&mut self, root: u32, first: u32) {
        let added = match self.message(root) {
            Some(_) => vec![root],
            None => std::mem::take(list_of(&mut self.children, root)),
        };
        list_of(&mut self.children, first).extend(added);
    }

    fn rows(&self) -> Vec<Threaded> {
        let mut rows = Vec::with_capacity(self.of.len());
        let mut open: Vec<(u32, u32)> = self.roots.iter().rev().map(|root| (*root, 0)).collect();
        while let Some((node, depth)) = open.pop() {
            rows.push(Threaded {
                depth,
                message: self.message(node),
            });
            let below = self.below(node).iter().rev();
            open.extend(below.map(|child| (*child, depth + 1)));
        }
        rows
    }
}

/// The list of a node; every node has one.
fn list_of(lists: &mut Vec<Vec<u32>>, node: u32) -> &mut Vec<u32> {
    let place = node as usize;
    if place >= lists.len() {
        lists.resize(place + 1, Vec::new());
    }
    #[expect(
        clippy::indexing_slicing,
        reason = "the list was made long enough just before"
    )]
    &mut lists[place]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::casemap::fold;
    use crate::subject::BaseSubject;
    use proptest::prelude::*;

    /// Writes threads as IMAP does, with numbers from 1.
    fn shown(rows: &[Threaded]) -> String {
        fn write(rows: &[Threaded], at: &mut usize, out: &mut String) {
            let own = rows[*at];
            let mut below = Vec::new();
            *at += 1;
            while *at < rows.len() && rows[*at].depth > own.depth {
                let mut text = String::new();
                write(rows, at, &mut text);
                below.push(text);
            }
            if let Some(message) = own.message {
                out.push_str(&(message + 1).to_string());
            }
            match below.as_slice() {
                [] => {}
                [only] => out.push_str(&format!(" {only}")),
                several => {
                    let space = if own.message.is_some() { " " } else { "" };
                    out.push_str(&format!("{space}({})", several.join(")(")));
                }
            }
        }
        let (mut at, mut out) = (0, String::new());
        while at < rows.len() {
            out.push('(');
            write(rows, &mut at, &mut out);
            out.push(')');
        }
        out
    }

    fn facts(subject: &str, sent_millis: i64) -> Facts {
        let base = BaseSubject::of(subject);
        Facts {
            subject: fold(&base.text).into_owned(),
            is_reply: base.is_reply,
            sent_millis,
        }
    }

    /// Messages as `id`, ids referred to, subject; sent in the order given unless a time is named.
    fn threads(messages: &[(&str, &str, &str)]) -> String {
        let times: Vec<i64> = (0..messages.len() as i64).collect();
        threads_at(messages, &times)
    }

    fn threads_at(messages: &[(&str, &str, &str)], times: &[i64]) -> String {
        let mut threader = Threader::default();
        for ((id, references, subject), time) in messages.iter().zip(times) {
            let id = Some(id.as_bytes()).filter(|id| !id.is_empty());
            let references = references.split_whitespace().map(str::as_bytes);
            threader.add(id, references, facts(subject, *time));
        }
        shown(&threader.finish())
    }

    #[test]
    fn answers_stand_below_what_they_answer() {
        let found = threads(&[
            ("a", "", "one"),
            ("b", "a", "Re: one"),
            ("c", "a b", "Re: one"),
            ("d", "a", "Re: one"),
            ("e", "", "two"),
        ]);
        assert_eq!(found, "(1 (2 3)(4))(5)");
    }

    #[test]
    fn order_of_arrival_does_not_matter() {
        let found = threads_at(
            &[("c", "a b", "x"), ("b", "a", "y"), ("a", "", "z")],
            &[3, 2, 1],
        );
        assert_eq!(found, "(3 2 1)");
    }

    #[test]
    fn what_is_missing_holds_two_together_and_leaves_one() {
        assert_eq!(threads(&[("b", "a", "x"), ("c", "a", "y")]), "((1)(2))");
        assert_eq!(threads(&[("b", "a", "x"), ("c", "b z y", "y")]), "(1 2)");
        assert_eq!(threads(&[("d", "a b c", "x")]), "(1)");
        // The missing message between two that are there is passed over.
        let found = threads(&[("a", "", "x"), ("c", "a b", "y"), ("d", "a b", "z")]);
        assert_eq!(found, "(1 (2)(3))");
    }

    #[test]
    fn loops_are_not_made() {
        assert_eq!(threads(&[("a", "b", "x"), ("b", "a", "y")]), "(2 1)");
        assert_eq!(threads(&[("a", "a", "x")]), "(1)");
        let found = threads(&[("a", "c", "x"), ("b", "a", "y"), ("c", "b", "z")]);
        assert_eq!(found.matches(['1', '2', '3']).count(), 3);
    }

    #[test]
    fn of_two_with_one_id_the_second_has_none() {
        let found = threads(&[("a", "", "x"), ("a", "", "y"), ("b", "a", "z")]);
        assert_eq!(found, "(1 3)(2)");
        assert_eq!(threads(&[("", "", "x"), ("", "", "y")]), "(1)(2)");
    }

    #[test]
    fn a_messages_own_references_count_more_than_those_of_others() {
        let found = threads(&[
            ("z", "a b", "x"),
            ("a", "", "w"),
            ("b", "c", "y"),
            ("c", "", "v"),
        ]);
        assert_eq!(found, "(2)(4 3 1)");
    }

    #[test]
    fn subjects_bring_together_what_references_do_not() {
        // An answer goes below; what is no answer stands beside; what is missing takes both.
        assert_eq!(threads(&[("a", "", "one"), ("b", "", "re: ONE")]), "(1 2)");
        assert_eq!(threads(&[("b", "", "re: one"), ("a", "", "one")]), "(2 1)");
        assert_eq!(threads(&[("a", "", "one"), ("b", "", "one")]), "((1)(2))");
        assert_eq!(threads(&[("a", "", "Re: "), ("b", "", "")]), "(1)(2)");
        let found = threads(&[("a", "x", "one"), ("b", "x", "one"), ("c", "", "Re: one")]);
        assert_eq!(found, "((1)(2)(3))");
        let found = threads(&[
            ("a", "x", "s"),
            ("b", "x", "s"),
            ("c", "y", "s"),
            ("d", "y", "s"),
        ]);
        assert_eq!(found, "((1)(2)(3)(4))");
        let found = threads(&[("a", "", "s"), ("b", "", "s"), ("c", "", "s")]);
        assert_eq!(found, "((1)(2)(3))");
    }

    #[test]
    fn siblings_and_threads_stand_by_their_dates() {
        let messages = [
            ("a", "", "one"),
            ("b", "a", "x"),
            ("c", "a", "y"),
            ("d", "", "two"),
        ];
        assert_eq!(threads_at(&messages, &[9, 8, 7, 1]), "(4)(1 (3)(2))");
        assert_eq!(threads_at(&messages, &[5, 5, 5, 5]), "(1 (2)(3))(4)");
    }

    #[test]
    fn quotes_in_an_id_make_no_difference() {
        assert_eq!(threads(&[("\"a\"@b", "", "x"), ("c", "a@b", "y")]), "(1 2)");
    }

    #[test]
    fn ordered_subject_is_as_the_rfc_describes() {
        let messages = [
            facts("b", 3),
            facts("A", 2),
            facts("re: a", 1),
            facts("B", 9),
            facts("[x] fwd: b", 5),
        ];
        assert_eq!(shown(&by_subject(&messages)), "(3 2)(1 (5)(4))");
    }

    #[test]
    fn a_chain_as_long_as_a_mailbox_is_threaded() {
        for backwards in [false, true] {
            let mut threader = Threader::default();
            let count = 100_000u32;
            for number in 0..count {
                let number = if backwards {
                    count - 1 - number
                } else {
                    number
                };
                let (id, before) = (number.to_string(), number.wrapping_sub(1).to_string());
                threader.add(Some(id.as_bytes()), [before.as_bytes()], Facts::default());
            }
            let rows = threader.finish();
            assert_eq!(rows.len(), count as usize);
            assert_eq!(rows.last().unwrap().depth, count - 1);
        }
    }

    proptest! {
        #[test]
        fn every_message_is_told_once(
            messages in proptest::collection::vec(
                (0u8..8, proptest::collection::vec(0u8..8, 0..4), "(re: )?[ab]?", 0i64..4),
                0..24,
            )
        ) {
            let mut threader = Threader::default();
            for (id, references, subject, time) in &messages {
                let id = [*id];
                let id = Some(&id[..]).filter(|id| id[0] > 0);
                threader.add(id, references.chunks(1), facts(subject, *time));
            }
            let rows = threader.finish();
            let mut told: Vec<u32> = rows.iter().filter_map(|row| row.message).collect();
            told.sort_unstable();
            prop_assert_eq!(told, (0..messages.len() as u32).collect::<Vec<_>>());
            let mut depth = None;
            for (index, row) in rows.iter().enumerate() {
                prop_assert!(depth.map_or(row.depth == 0, |before: u32| row.depth <= before + 1));
                depth = Some(row.depth);
                if row.message.is_none() {
                    let below = rows[index + 1..].iter().take_while(|below| below.depth > row.depth);
                    prop_assert!(below.filter(|below| below.depth == row.depth + 1).count() > 1);
                    prop_assert_eq!(row.depth, 0);
                }
            }
        }
    }
}
