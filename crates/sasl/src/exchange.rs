//! One authentication: what the client says step by step, and what follows.

use crate::scram::{Fault, First, Last};
use crate::{Channel, Mechanism, MechanismSet, Password, ScramHash, ScramSecret, oauth, plain};

/// What follows from a response or an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Send it and hand in the client's response.
    Challenge(Vec<u8>),
    /// Ask the driver and hand in its answer.
    Ask(Question),
    /// The client is who it says.
    Succeeded {
        /// The name of the account, as the driver gave it.
        identity: Box<str>,
        /// What the server says last. A protocol whose final reply cannot carry it sends it as a challenge and waits
        /// for an empty response (RFC 4954 §4, RFC 3501 §6.2.2).
        data: Option<Vec<u8>>,
    },
    /// The client is not believed.
    Failed(Failure),
}

/// Why a client is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// What it said is not what the mechanism asks for.
    Invalid,
    /// Name, password, proof, token or certificate is wrong; which of them is not told.
    Refused,
    /// It cannot be checked now.
    Unavailable,
    /// All is right, but the account is disabled.
    Disabled,
}

/// A question to the driver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Question {
    /// Is this the password: [`Answer::Accepted`].
    Password {
        /// Who the client says it is.
        identity: Box<str>,
        /// Its password.
        password: Password,
        /// Whom it wants to act as, where it says so.
        authorization: Option<Box<str>>,
    },
    /// What is kept of the password of this account: [`Answer::Secret`], for unknown ones too.
    Scram {
        /// Of which kind.
        hash: ScramHash,
        /// Who the client says it is.
        identity: Box<str>,
        /// Whom it wants to act as, where it says so.
        authorization: Option<Box<str>>,
    },
    /// Whose token is this: [`Answer::Accepted`] or [`Answer::TokenRefused`].
    Token {
        /// The token. An empty one asks what would be wanted.
        token: Password,
        /// Who the client says it is, where it does.
        identity: Option<Box<str>>,
    },
    /// Whose certificate did the client show: [`Answer::Accepted`].
    Certificate {
        /// Whom it wants to act as, where it says so.
        authorization: Option<Box<str>>,
    },
    /// SCRAM: the proof was right; may this account log in: [`Answer::Accepted`].
    Proven {
        /// Who the client says it is.
        identity: Box<str>,
    },
    /// SCRAM: the proof was wrong. Nothing is asked, but a wrong login can be counted: [`Answer::Refused`].
    Disproven {
        /// Who the client says it is.
        identity: Box<str>,
    },
}

impl Question {
    /// Who the client says it is, where it does.
    pub fn identity(&self) -> Option<&str> {
        match self {
            Self::Password { identity, .. }
            | Self::Scram { identity, .. }
            | Self::Proven { identity }
            | Self::Disproven { identity } => Some(identity),
            Self::Token { identity, .. } => identity.as_deref(),
            Self::Certificate { authorization } => authorization.as_deref(),
        }
    }
}

/// What the driver answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The client is this account.
    Accepted {
        /// The account's name.
        identity: Box<str>,
    },
    /// What is kept of the password.
    Secret {
        /// The secret. That of an unknown account is derived from its name, so that it does not show.
        secret: ScramSecret,
        /// Printable ASCII without comma that no client can foresee; at least 18 octets of randomness.
        nonce: String,
    },
    /// It is not.
    Refused,
    /// It is, but the account is disabled.
    Disabled,
    /// That cannot be found out now.
    Unavailable,
    /// The token is not good.
    TokenRefused {
        /// What the client is told of it (RFC 7628 §3.2.2).
        json: Vec<u8>,
    },
}

/// Where an exchange is.
#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    /// The first response is awaited.
    First,
    /// LOGIN: the password of this name is awaited.
    LoginPassword(Box<str>),
    /// The question whether the client may log in is open.
    AskedForAccount,
    /// The question for a SCRAM secret is open.
    AskedForSecret(Box<First>),
    /// SCRAM: the proof is awaited.
    Proof(Box<Last>),
    /// SCRAM: the proof was right; the question whether the account may log in is open.
    AskedForProven(Vec<u8>),
    /// The client was told what is wrong with its token; its empty response is awaited.
    TokenRefused,
    Over,
}

/// One authentication, as the server sees it. Nothing is ever accepted after a failure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exchange {
    mechanism: Mechanism,
    offered: MechanismSet,
    channel: Channel,
    state: State,
}

impl Exchange {
    /// An exchange of the mechanism that the client chose, among those that it was offered.
    pub const fn new(mechanism: Mechanism, offered: MechanismSet, channel: Channel) -> Self {
        Self {
            mechanism,
            offered,
            channel,
            state: State::First,
        }
    }

    /// The mechanism.
    pub const fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Begins. `initial` is the decoded initial response, where the client sent one with its command.
    pub fn start(&mut self, initial: Option<&[u8]>) -> Step {
        match (initial, self.mechanism) {
            (Some(initial), _) => self.respond(initial),
            (None, Mechanism::Login) => Step::Challenge(b"Username:".to_vec()),
            (None, _) => Step::Challenge(Vec::new()),
        }
    }

    /// Takes a decoded response.
    pub fn respond(&mut self, response: &[u8]) -> Step {
        if !self.offered.contains(self.mechanism) {
            return self.fail(Failure::Refused);
        }
        match std::mem::replace(&mut self.state, State::Over) {
            State::First => self.first(response),
            State::LoginPassword(identity) => self.login_password(identity, response),
            State::Proof(last) => self.proof(&last, response),
            State::TokenRefused => Step::Failed(Failure::Refused),
            _ => Step::Failed(Failure::Invalid),
        }
    }

    /// Takes the driver's answer to the question of [`Step::Ask`].
    pub fn answer(&mut self, answer: Answer) -> Step {
        let state = std::mem::replace(&mut self.state, State::Over);
        match (answer, state) {
            (Answer::Accepted { identity }, State::AskedForAccount) => Step::Succeeded {
                identity,
                data: None,
            },
            (Answer::Accepted { identity }, State::AskedForProven(data)) => Step::Succeeded {
                identity,
                data: Some(data),
            },
            (Answer::Secret { secret, nonce }, State::AskedForSecret(first)) => {
                let (last, challenge) = first.challenge(secret, &nonce);
                self.state = State::Proof(Box::new(last));
                Step::Challenge(challenge)
            }
            (Answer::TokenRefused { json }, State::AskedForAccount) => {
                self.state = State::TokenRefused;
                Step::Challenge(json)
            }
            (Answer::Refused, _) => Step::Failed(Failure::Refused),
            (Answer::Disabled, _) => Step::Failed(Failure::Disabled),
            // An answer to no question, or to another one, is trouble on this side.
            _ => Step::Failed(Failure::Unavailable),
        }
    }

    fn fail(&mut self, failure: Failure) -> Step {
        self.state = State::Over;
        Step::Failed(failure)
    }

    fn first(&mut self, response: &[u8]) -> Step {
        if let Some(scram) = self.mechanism.scram() {
            return self.scram_first(scram, response);
        }
        let question = match self.mechanism {
            Mechanism::Login => return self.login_name(response),
            Mechanism::External => external(response),
            Mechanism::OAuthBearer => oauth::bearer(response),
            Mechanism::XOAuth2 => oauth::xoauth2(response),
            _ => plain::plain(response),
        };
        if self.mechanism == Mechanism::External && !self.channel.certificate {
            return self.fail(Failure::Refused);
        }
        self.ask(question)
    }

    fn ask(&mut self, question: Option<Question>) -> Step {
        match question {
            Some(question) => {
                self.state = State::AskedForAccount;
                Step::Ask(question)
            }
            None => self.fail(Failure::Invalid),
        }
    }

    fn login_name(&mut self, response: &[u8]) -> Step {
        match plain::login_field(response) {
            Some(name) => {
                self.state = State::LoginPassword(name.into());
                Step::Challenge(b"Password:".to_vec())
            }
            None => self.fail(Failure::Invalid),
        }
    }

    fn login_password(&mut self, identity: Box<str>, response: &[u8]) -> Step {
        let question = plain::login_field(response).map(|password| Question::Password {
            identity,
            password: Password::new(password),
            authorization: None,
        });
        self.ask(question)
    }

    fn scram_first(&mut self, scram: (ScramHash, bool), response: &[u8]) -> Step {
        match First::parse(scram, response, self.offered, &self.channel) {
            Ok(first) => {
                let question = Question::Scram {
                    hash: first.hash,
                    identity: first.identity.clone(),
                    authorization: first.authorization.clone(),
                };
                self.state = State::AskedForSecret(Box::new(first));
                Step::Ask(question)
            }
            Err(fault) => self.fail(fault.into()),
        }
    }

    fn proof(&mut self, last: &Last, response: &[u8]) -> Step {
        let identity = last.identity.clone();
        match last.verify(response) {
            Ok(Some(signature)) => {
                self.state = State::AskedForProven(signature);
                Step::Ask(Question::Proven { identity })
            }
            // The state stays over: whatever is answered, this does not succeed.
            Ok(None) => Step::Ask(Question::Disproven { identity }),
            Err(fault) => self.fail(fault.into()),
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Malformed => Self::Invalid,
            Fault::Untrusted => Self::Refused,
        }
    }
}

/// EXTERNAL's response is whom the client wants to act as, or empty (RFC 4422 appendix A).
fn external(response: &[u8]) -> Option<Question> {
    let text = std::str::from_utf8(response).ok()?;
    (!text.contains('\0')).then(|| Question::Certificate {
        authorization: (!text.is_empty()).then(|| text.into()),
    })
}
