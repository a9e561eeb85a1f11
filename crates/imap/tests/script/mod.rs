//! The language of transcripts.

pub mod answer;
pub mod player;
pub mod question;
