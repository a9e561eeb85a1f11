//! Output waiting for the driver: text collected in one buffer, and whatever must go between.

use std::collections::VecDeque;

use bytes::BytesMut;

use crate::io::Output;

#[derive(Debug, Default)]
pub(crate) struct Outputs {
    text: BytesMut,
    queue: VecDeque<Output>,
    queued_octets: usize,
}

impl Outputs {
    /// The text that is being written. It follows everything pushed so far.
    pub(crate) const fn text(&mut self) -> &mut BytesMut {
        &mut self.text
    }

    /// Appends what is not text, after the text so far.
    pub(crate) fn push(&mut self, output: Output) {
        if !self.text.is_empty() {
            self.queue
                .push_back(Output::Send(self.text.split().freeze()));
        }
        self.queued_octets += octets_of(&output);
        self.queue.push_back(output);
    }

    /// The next output.
    pub(crate) fn pop(&mut self) -> Option<Output> {
        if let Some(output) = self.queue.pop_front() {
            self.queued_octets = self.queued_octets.saturating_sub(octets_of(&output));
            return Some(output);
        }
        (!self.text.is_empty()).then(|| Output::Send(self.text.split().freeze()))
    }

    /// Octets held.
    pub(crate) fn octets(&self) -> usize {
        self.text.len() + self.queued_octets
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.text.capacity() + self.queue.capacity()
    }

    /// Gives memory back; called where nothing waits.
    pub(crate) fn release(&mut self) {
        if self.text.is_empty() && self.queue.is_empty() {
            *self = Self::default();
        }
    }
}

const fn octets_of(output: &Output) -> usize {
    match output {
        Output::Body(bytes) => bytes.len(),
        _ => 0,
    }
}
