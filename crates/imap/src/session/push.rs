//! News of the selected mailbox: what of it is told, and telling it while no command runs (RFC 5465).

use super::{Line, Running, Session, State, Step};
use crate::command::Spec;
use crate::command::notify::SelectedWatch;
use crate::io::{Ask, Output};

impl Session {
    /// Whether updates of the selected mailbox are to be handed in although the client waits for nothing.
    pub fn pushes(&self) -> bool {
        self.watch
            .as_ref()
            .is_some_and(|watch| watch.tells_messages())
    }

    pub(crate) const fn selected_watch(&mut self) -> &mut Option<Box<SelectedWatch>> {
        &mut self.watch
    }

    /// Tells what is new and may be told now. `command`: the one in progress.
    pub(super) fn tell(&mut self, command: Option<&str>, expunges: bool) {
        let State::Selected(selected) = &mut self.state else {
            return;
        };
        let (view, out) = (&mut selected.view, self.outputs.text());
        let Some(watch) = &mut self.watch else {
            return view.tell(expunges, self.enabled, out);
        };
        if !watch.tells_flags() {
            view.forget_flag_news();
        }
        if !command.map_or(watch.tells_messages(), |name| watch.lets_tell(name)) {
            return view.tell_keywords(out);
        }
        let before = view.uids().last().copied();
        view.tell(expunges, self.enabled, out);
        let first = view.uids().partition_point(|uid| Some(*uid) <= before);
        if let (Some(first), Some(last)) = (view.uids().get(first), view.uids().last()) {
            watch.note_arrivals(*first, *last, command);
        }
    }

    /// Tells what the client wants to be told at any time.
    pub(super) fn push_news(&mut self) {
        if let Some(watch) = self.watch.as_ref().filter(|_| self.running.is_none()) {
            let expunges = watch.tells_expunges_at_once();
            self.tell(None, expunges);
        }
    }

    /// Between two commands, and while the client idles: tells what the last command kept back, then what is wanted
    /// of new messages.
    pub(super) fn push_between_commands(&mut self) {
        let waits = self.running.is_none() || self.idling;
        let Some(watch) = &self.watch else {
            return;
        };
        if !waits || self.is_asking() || self.line != Line::Open {
            return;
        }
        let at_once = watch.tells_expunges_at_once();
        if at_once && self.view().is_some_and(|view| view.has_kept_back()) {
            self.push_news();
        }
        self.push_arrivals();
    }

    /// Asks without a command, or in the midst of IDLE. `make` gets the step that goes on afterwards.
    pub(crate) fn begin_pushing(
        &mut self,
        spec: &'static Spec,
        make: impl FnOnce(Option<Box<dyn Step>>) -> (Ask, Box<dyn Step>),
    ) {
        let resume = match &mut self.running {
            Some(running) => running.step.take(),
            None => {
                self.running = Some(Running::new("", spec));
                None
            }
        };
        let (ask, step) = make(resume);
        self.outputs.push(Output::Ask(ask));
        self.await_more(step);
    }

    /// Nothing more is told; what waited goes on.
    pub(crate) fn end_pushing(&mut self, resume: Option<Box<dyn Step>>) {
        match resume {
            Some(step) => self.wait(step, false),
            None => self.finish(),
        }
    }
}
