//! The commands (RFC 3501 §6 and extensions): one file each, or one for a few that are alike.
//!
//! A file holds a command's grammar, what it does, and how it goes on when an answer comes. [`TABLE`] says of each
//! when it is allowed; a command is added by a file, a variant of [`Command`], a row of the table and a line in
//! `Session::run`.

pub mod acl;
pub(crate) mod append;
pub mod append_grammar;
pub mod authenticate;
pub(crate) mod compress;
pub mod copy;
pub(crate) mod enable;
pub mod esearch;
pub(crate) mod expunge;
pub mod fetch;
mod fetch_rows;
pub(crate) mod id;
pub(crate) mod idle;
pub mod list;
pub mod login;
pub mod mailbox;
pub mod metadata;
pub mod multisearch;
pub mod namespace;
pub mod notify;
pub mod quota;
pub mod search;
mod search_grammar;
pub mod section;
pub mod select;
pub(crate) mod session;
pub mod sort;
pub mod status;
pub mod store;
mod synchronize;
pub mod thread;
pub mod uidbatches;
pub mod urlauth;

use bytes::Bytes;

use crate::limits::Limits;
use crate::name::MailboxName;
use crate::parse::{ParseError, Parser, Result};
use crate::view::Messages;

/// A command, understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// CAPABILITY
    Capability,
    /// NOOP
    Noop,
    /// CHECK
    Check,
    /// LOGOUT
    Logout,
    /// STARTTLS
    StartTls,
    /// AUTHENTICATE
    Authenticate(authenticate::Authenticate),
    /// LOGIN
    Login(login::Login),
    /// ID (RFC 2971)
    Id(Vec<(String, Option<String>)>),
    /// ENABLE (RFC 5161): the capabilities named
    Enable(Vec<String>),
    /// NAMESPACE (RFC 2342)
    Namespace,
    /// SELECT and EXAMINE
    Select(select::Select),
    /// CREATE
    Create {
        /// Its name.
        mailbox: MailboxName,
        /// USE (RFC 6154 §3)
        special_use: mailbox::UseWanted,
    },
    /// DELETE
    Delete(MailboxName),
    /// RENAME
    Rename {
        /// The old name.
        from: MailboxName,
        /// The new name.
        to: MailboxName,
    },
    /// SUBSCRIBE
    Subscribe(MailboxName),
    /// UNSUBSCRIBE
    Unsubscribe(MailboxName),
    /// LIST and LSUB
    List(list::List),
    /// NOTIFY (RFC 5465)
    Notify(Box<notify::Notify>),
    /// STATUS
    Status {
        /// Which mailbox.
        mailbox: MailboxName,
        /// What of it.
        items: Vec<status::StatusItem>,
    },
    /// GETACL, MYRIGHTS, LISTRIGHTS, SETACL and DELETEACL (RFC 4314)
    Acl(acl::AclAsk),
    /// GETQUOTA, GETQUOTAROOT and SETQUOTA (RFC 9208)
    Quota(quota::QuotaAsk),
    /// GETMETADATA (RFC 5464)
    GetMetadata(metadata::GetMetadata),
    /// SETMETADATA (RFC 5464)
    SetMetadata {
        /// Of which mailbox; none: of the server.
        mailbox: Option<MailboxName>,
        /// Annotations and their values; none takes one away.
        values: Vec<(String, Option<Bytes>)>,
    },
    /// IDLE (RFC 2177)
    Idle,
    /// CLOSE
    Close,
    /// UNSELECT (RFC 3691)
    Unselect,
    /// EXPUNGE and UID EXPUNGE (RFC 4315)
    Expunge(Option<Messages>),
    /// SEARCH, SORT, THREAD (RFC 5256) and their UID forms
    Search(search::Search),
    /// ESEARCH (RFC 7377)
    MultiSearch(multisearch::MultiSearch),
    /// UIDBATCHES (RFC 10022)
    UidBatches(uidbatches::UidBatches),
    /// FETCH and UID FETCH
    Fetch(fetch::Fetch),
    /// STORE and UID STORE
    Store(store::Store),
    /// COPY, MOVE (RFC 6851) and their UID forms
    Copy(copy::Copy),
    /// COMPRESS (RFC 4978): the algorithm
    Compress(String),
    /// UNAUTHENTICATE (RFC 8437)
    Unauthenticate,
    /// GENURLAUTH (RFC 4467): URLs, each with its mechanism
    GenUrlAuth(Vec<(String, String)>),
    /// URLFETCH (RFC 4467)
    UrlFetch(Vec<String>),
    /// RESETKEY (RFC 4467)
    ResetKey(urlauth::ResetKey),
    /// APPEND or REPLACE without any literal that is a message, which no parsed command holds
    Append(Box<append_grammar::Text>),
}

/// In which states a command is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allowed {
    /// In every state.
    Always,
    /// Before login only.
    BeforeLogin,
    /// After login.
    AfterLogin,
    /// With a mailbox selected.
    Selected,
}

/// A row of the command table.
pub(crate) struct Spec {
    /// The name, the word UID included.
    pub(crate) name: &'static str,
    /// When it is allowed.
    pub(crate) allowed: Allowed,
    /// Whether it carries a password, so that it needs a private connection.
    pub(crate) secret: bool,
    /// Whether expunges may be told before it ends (RFC 3501 §7.4.1).
    pub(crate) tells_expunges: bool,
    /// Whether it carries a message, which is never part of a parsed command.
    pub(crate) takes_message: bool,
    /// Where it is defined.
    pub(crate) rfc: &'static str,
    /// Reads its arguments, to the end.
    pub(crate) parse: fn(&mut Parser<'_>) -> Result<Command>,
}

impl Spec {
    const fn new(
        name: &'static str,
        allowed: Allowed,
        rfc: &'static str,
        parse: fn(&mut Parser<'_>) -> Result<Command>,
    ) -> Self {
        Self {
            name,
            allowed,
            secret: false,
            tells_expunges: true,
            takes_message: false,
            rfc,
            parse,
        }
    }

    /// What goes on without a command of the client.
    pub(crate) const fn pushing(rfc: &'static str) -> Self {
        let parse = |_: &mut Parser<'_>| Err(ParseError::Syntax("no command"));
        Self::new("", AfterLogin, rfc, parse).keeping_numbers()
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Whether it names messages by their sequence numbers.
    pub(crate) fn is_numbered(&self) -> bool {
        let by_number = [
            "FETCH", "STORE", "COPY", "MOVE", "SEARCH", "SORT", "THREAD", "REPLACE",
        ];
        by_number.contains(&self.name)
    }

    const fn taking_message(mut self) -> Self {
        self.takes_message = true;
        self
    }

    const fn keeping_numbers(mut self) -> Self {
        self.tells_expunges = false;
        self
    }
}

use Allowed::{AfterLogin, Always, BeforeLogin, Selected};

/// Every command.
pub(crate) static TABLE: &[Spec] = &[
    Spec::new("CAPABILITY", Always, "RFC 3501 6.1.1", |p| {
        bare(p, Command::Capability)
    }),
    Spec::new("NOOP", Always, "RFC 3501 6.1.2", |p| bare(p, Command::Noop)),
    Spec::new("LOGOUT", Always, "RFC 3501 6.1.3", |p| {
        bare(p, Command::Logout)
    }),
    Spec::new("ID", Always, "RFC 2971", id::parse),
    Spec::new("STARTTLS", BeforeLogin, "RFC 3501 6.2.1", |p| {
        bare(p, Command::StartTls)
    }),
    Spec::new(
        "AUTHENTICATE",
        BeforeLogin,
        "RFC 3501 6.2.2, RFC 4959",
        authenticate::parse,
    )
    .secret(),
    Spec::new("LOGIN", BeforeLogin, "RFC 3501 6.2.3", login::parse).secret(),
    Spec::new("UNAUTHENTICATE", AfterLogin, "RFC 8437", |p| {
        bare(p, Command::Unauthenticate)
    }),
    Spec::new("COMPRESS", AfterLogin, "RFC 4978", compress::parse),
    Spec::new(
        "GENURLAUTH",
        AfterLogin,
        "RFC 4467",
        urlauth::parse_generate,
    ),
    Spec::new("URLFETCH", AfterLogin, "RFC 4467", urlauth::parse_fetch),
    Spec::new("RESETKEY", AfterLogin, "RFC 4467", urlauth::parse_reset),
    Spec::new("ENABLE", AfterLogin, "RFC 5161", enable::parse),
    Spec::new("NAMESPACE", AfterLogin, "RFC 2342", |p| {
        bare(p, Command::Namespace)
    }),
    Spec::new("SELECT", AfterLogin, "RFC 3501 6.3.1", |p| {
        select::parse(p, false)
    }),
    Spec::new("EXAMINE", AfterLogin, "RFC 3501 6.3.2", |p| {
        select::parse(p, true)
    }),
    Spec::new(
        "CREATE",
        AfterLogin,
        "RFC 3501 6.3.3",
        mailbox::parse_create,
    ),
    Spec::new("DELETE", AfterLogin, "RFC 3501 6.3.4", |p| {
        mailbox::parse(p, Command::Delete)
    }),
    Spec::new(
        "RENAME",
        AfterLogin,
        "RFC 3501 6.3.5",
        mailbox::parse_rename,
    ),
    Spec::new("SUBSCRIBE", AfterLogin, "RFC 3501 6.3.6", |p| {
        mailbox::parse(p, Command::Subscribe)
    }),
    Spec::new("UNSUBSCRIBE", AfterLogin, "RFC 3501 6.3.7", |p| {
        mailbox::parse(p, Command::Unsubscribe)
    }),
    Spec::new(
        "LIST",
        AfterLogin,
        "RFC 3501 6.3.8, RFC 5258",
        list::parse_list,
    ),
    Spec::new("NOTIFY", AfterLogin, "RFC 5465", notify::parse),
    Spec::new("LSUB", AfterLogin, "RFC 3501 6.3.9", list::parse_lsub),
    Spec::new("STATUS", AfterLogin, "RFC 3501 6.3.10", status::parse),
    Spec::new(
        "APPEND",
        AfterLogin,
        "RFC 3501 6.3.11",
        append::parse_without_message,
    )
    .taking_message(),
    Spec::new("REPLACE", Selected, "RFC 8508", |p| {
        append::parse_replace(p, false)
    })
    .taking_message(),
    Spec::new("UID REPLACE", Selected, "RFC 8508", |p| {
        append::parse_replace(p, true)
    })
    .taking_message(),
    Spec::new("GETACL", AfterLogin, "RFC 4314 3.3", acl::parse_get),
    Spec::new("MYRIGHTS", AfterLogin, "RFC 4314 3.5", acl::parse_my_rights),
    Spec::new(
        "LISTRIGHTS",
        AfterLogin,
        "RFC 4314 3.4",
        acl::parse_list_rights,
    ),
    Spec::new("SETACL", AfterLogin, "RFC 4314 3.1", acl::parse_set),
    Spec::new("DELETEACL", AfterLogin, "RFC 4314 3.2", acl::parse_delete),
    Spec::new("GETQUOTA", AfterLogin, "RFC 9208 4.1.2", quota::parse_get),
    Spec::new(
        "GETQUOTAROOT",
        AfterLogin,
        "RFC 9208 4.1.3",
        quota::parse_roots,
    ),
    Spec::new("SETQUOTA", AfterLogin, "RFC 9208 4.1.1", quota::parse_set),
    Spec::new(
        "GETMETADATA",
        AfterLogin,
        "RFC 5464 4.2",
        metadata::parse_get,
    ),
    Spec::new(
        "SETMETADATA",
        AfterLogin,
        "RFC 5464 4.3",
        metadata::parse_set,
    ),
    Spec::new("IDLE", AfterLogin, "RFC 2177", |p| bare(p, Command::Idle)),
    Spec::new("CHECK", Selected, "RFC 3501 6.4.1", |p| {
        bare(p, Command::Check)
    }),
    Spec::new("CLOSE", Selected, "RFC 3501 6.4.2", |p| {
        bare(p, Command::Close)
    }),
    Spec::new("UNSELECT", Selected, "RFC 3691", |p| {
        bare(p, Command::Unselect)
    }),
    Spec::new("EXPUNGE", Selected, "RFC 3501 6.4.3", |p| {
        bare(p, Command::Expunge(None))
    }),
    Spec::new("SEARCH", Selected, "RFC 3501 6.4.4", |p| {
        search_grammar::parse_search(p, false)
    })
    .keeping_numbers(),
    Spec::new("SORT", Selected, "RFC 5256", |p| {
        search_grammar::parse_sort(p, false)
    })
    .keeping_numbers(),
    Spec::new("THREAD", Selected, "RFC 5256", |p| {
        search_grammar::parse_thread(p, false)
    })
    .keeping_numbers(),
    Spec::new("ESEARCH", AfterLogin, "RFC 7377", multisearch::parse),
    Spec::new("UIDBATCHES", Selected, "RFC 10022", uidbatches::parse),
    Spec::new("FETCH", Selected, "RFC 3501 6.4.5", |p| {
        fetch::parse(p, false)
    })
    .keeping_numbers(),
    Spec::new("STORE", Selected, "RFC 3501 6.4.6", |p| {
        store::parse(p, false)
    })
    .keeping_numbers(),
    Spec::new("COPY", Selected, "RFC 3501 6.4.7", |p| {
        copy::parse(p, false, false)
    }),
    Spec::new("MOVE", Selected, "RFC 6851", |p| {
        copy::parse(p, false, true)
    }),
    Spec::new("UID EXPUNGE", Selected, "RFC 4315", expunge::parse_uid),
    Spec::new("UID SEARCH", Selected, "RFC 3501 6.4.8", |p| {
        search_grammar::parse_search(p, true)
    }),
    Spec::new("UID SORT", Selected, "RFC 5256", |p| {
        search_grammar::parse_sort(p, true)
    }),
    Spec::new("UID THREAD", Selected, "RFC 5256", |p| {
        search_grammar::parse_thread(p, true)
    }),
    Spec::new("UID FETCH", Selected, "RFC 3501 6.4.8", |p| {
        fetch::parse(p, true)
    }),
    Spec::new("UID STORE", Selected, "RFC 3501 6.4.8", |p| {
        store::parse(p, true)
    }),
    Spec::new("UID COPY", Selected, "RFC 3501 6.4.8", |p| {
        copy::parse(p, true, false)
    }),
    Spec::new("UID MOVE", Selected, "RFC 6851", |p| {
        copy::parse(p, true, true)
    }),
];

/// The name of every command, the word UID included, and in which states it is allowed.
pub fn names() -> impl Iterator<Item = (&'static str, Allowed)> {
    TABLE.iter().map(|spec| (spec.name, spec.allowed))
}

/// A command that takes no arguments.
fn bare(parser: &mut Parser<'_>, command: Command) -> Result<Command> {
    parser.end().map(|()| command)
}

/// The messages of a command that has a UID form, after the space before them.
fn messages(parser: &mut Parser<'_>, by_uid: bool) -> Result<Messages> {
    parser.space()?;
    if parser.eat(b'$') {
        return Ok(Messages::Saved { by_uid });
    }
    if by_uid {
        parser.uid_set().map(Messages::Uid)
    } else {
        parser.seq_set().map(Messages::Seq)
    }
}

/// Reads a command's name.
pub(crate) fn parse_name(parser: &mut Parser<'_>) -> Result<&'static Spec> {
    let word = parser.atom()?;
    let find = |name: &str| {
        TABLE
            .iter()
            .find(|spec| spec.name.eq_ignore_ascii_case(name))
    };
    let found = if word.eq_ignore_ascii_case("UID") {
        parser.space()?;
        find(&format!("UID {}", parser.atom()?))
    } else {
        find(word)
    };
    found.ok_or(ParseError::Syntax("unknown command"))
}

/// Parses a whole command without its final line end, literals in their place. Gives its tag and what it says.
pub fn parse<'a>(text: &'a [u8], limits: &'a Limits) -> Result<(&'a str, Command)> {
    let mut parser = Parser::new(text, limits);
    let tag = parser.tag()?;
    parser.space()?;
    let spec = parse_name(&mut parser)?;
    Ok((tag, (spec.parse)(&mut parser)?))
}
