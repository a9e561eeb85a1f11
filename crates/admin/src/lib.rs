//! The admin API: one set of requests and responses, one function that carries them out, HTTP around it.
//!
//! Owns what an operator may ask and how it is answered. The server serves [`router`] on a Unix-domain socket that
//! only its own user can open; the command line sends the same requests there with [`AdminClient`], or calls
//! [`execute`] itself on a store that no server holds. Knows no rows: the directory, the store and the queue change
//! themselves.
//!
//! **Invariant:** whoever can open the socket is the operator; nothing here asks for a password, so nothing here may
//! listen on a network address.

mod client;
mod context;
mod error;
mod execute;
mod http;
mod request;
mod response;
mod sending;
mod services;

pub use client::{AdminClient, ClientError};
pub use context::{
    AdminContext, HashPassword, ListCertificates, MaintenanceOptions, RenderMetrics, Site,
};
pub use error::{AdminError, ErrorKind};
pub use execute::execute;
pub use http::{bind_socket, router};
pub use request::{
    AdminRequest, DkimAlgorithm, DomainSettings, Password, QueueChange, UniqueIdLine,
};
pub use response::{
    AccountView, AclEntryView, AdminResponse, AliasView, CertificateView, CheckView,
    DestinationView, DkimKeyView, DomainKeyView, DomainView, EventView, FindingView, GreylistView,
    MailboxView, NodeView, QueueAlteredView, QueueRuleView, QueueView, QueueWhyView, QuotaUseView,
    QuotaView, RecipientView, RecipientWhyView, ReclaimView, ResolvedView, StatusView, TracedView,
};
pub use sending::{Sending, Whom};
pub use services::{
    AttachmentsSetting, DeletedView, ForwardView, LoginDelaySetting, OverQuotaSetting,
    RetentionView, ServicesChange, ServicesView, VacationSetting, VacationView,
};
