//! NAMESPACE (RFC 2342): one's own mailboxes, those of other users, and public ones.

use bytes::BufMut;

use crate::session::Session;

/// What the names of other users' mailboxes begin with.
pub const OTHER_USERS: &str = "Other Users/";
/// What the names of public mailboxes begin with.
pub const PUBLIC: &str = "Public/";

/// The namespaces are always the same, also where nothing is shared yet: a client may look in any of them.
pub(crate) fn run(session: &mut Session) {
    session.text().put_slice(
        b"* NAMESPACE ((\"\" \"/\")) ((\"Other Users/\" \"/\")) ((\"Public/\" \"/\"))\r\n",
    );
    session.ok("Namespaces listed");
}
