//! NAMESPACE (RFC 2342): one personal namespace without a prefix, none of others.

use bytes::BufMut;

use crate::session::Session;

pub(crate) fn run(session: &mut Session) {
    session
        .text()
        .put_slice(b"* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n");
    session.ok("Namespaces listed");
}
