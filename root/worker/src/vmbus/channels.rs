//! The channels: opened and closed as the guest wants it, and served.

use alloc::format;

use vmbus::protocol::{GpadlHandle, Relid, Status};
use vmbus::ring::RingError;
use vmbus::server::{ChannelOpen, Effect};

use super::dynamic::Dynamic;
use super::link::Link;
use super::peer::Utility;
use super::{Services, Vmbus};
use crate::system::{SharedRam, System};

impl<R: SharedRam> Vmbus<R> {
    /// Does what the server wants to be done.
    pub(super) fn carry_out_effects<S: System<Ram = R>>(
        &mut self,
        system: &mut S,
        ram: &R,
        now: u64,
    ) {
        while let Some(effect) = self.server.take_effect() {
            match effect {
                Effect::Connected { version } => {
                    self.forget_messages();
                    self.guest.connected(system, version);
                    self.news.say(system, &format!("VMBus {version}"), now);
                }
                Effect::Disconnected => {
                    self.forget_messages();
                    self.guest.disconnected();
                    self.news.say(system, "VMBus: disconnected", now);
                }
                Effect::OpenChannel(open) => self.open(system, ram, &open, now),
                Effect::CloseChannel { relid } => {
                    self.close(system, ram, relid, now);
                    // It is being closed, as the effect says.
                    let _ = self.server.closed(relid);
                }
                Effect::ReleaseGpadl { handle, .. } => self.release(system, ram, handle, now),
                Effect::TargetVpChanged { relid } => {
                    if let Some(link) = self.link(relid) {
                        link.owes_flag = link.is_open();
                    }
                }
                // Nothing is ever taken back.
                Effect::ChannelRemoved { .. } => {}
            }
        }
    }

    /// Nobody waits for what was to be posted any more.
    fn forget_messages(&mut self) {
        self.full = None;
        self.messages.end();
    }

    fn open<S: System<Ram = R>>(&mut self, system: &mut S, ram: &R, open: &ChannelOpen, now: u64) {
        let relid = open.relid;
        let rings = self.server.open_rings(relid);
        let links = all(&mut self.links, &mut self.dynamic);
        let result = match (links.into_iter().find(|link| link.relid == relid), rings) {
            (Some(link), Some(rings)) => link
                .open(ram, open.ring_gpadl, &rings)
                .map_err(|_| Status::INVALID_PARAMETER),
            _ => Err(Status::UNSUCCESSFUL),
        };
        if result.is_ok() {
            match (self.service(relid), &mut self.dynamic) {
                (Some(at), _) => {
                    if let Some(service) = self.services.each().into_iter().nth(at) {
                        service.opened(now);
                    }
                }
                (None, Some(dynamic)) => dynamic.opened(system, ram, now),
                (None, None) => {}
            }
        }
        // It is being opened, as the effect says.
        let _ = self.server.open_result(relid, result);
    }

    /// Which of the services a channel is.
    fn service(&self, relid: Relid) -> Option<usize> {
        self.links.iter().position(|link| link.relid == relid)
    }

    fn close<S: System<Ram = R>>(&mut self, system: &mut S, ram: &R, relid: Relid, now: u64) {
        let links = self.links.iter_mut().zip(self.services.each());
        for (link, service) in links.filter(|(link, _)| link.relid == relid) {
            link.close();
            service.closed(now);
        }
        if let Some(dynamic) = &mut self.dynamic
            && dynamic.relid() == relid
        {
            dynamic.closed(system, ram, &self.server, &self.links, now);
        }
    }

    /// The server closes a channel before it releases the memory of its rings, so nothing uses it; if ever something does, it
    /// ends here.
    fn release<S: System<Ram = R>>(
        &mut self,
        system: &mut S,
        ram: &R,
        handle: GpadlHandle,
        now: u64,
    ) {
        let user = all(&mut self.links, &mut self.dynamic).find(|link| link.uses(handle));
        if let Some(relid) = user.map(|link| link.relid) {
            self.close(system, ram, relid, now);
            let _ = self.server.fail(relid);
        }
        let _ = self.server.gpadl_released(handle);
        if let Some(dynamic) = &mut self.dynamic {
            dynamic.unpinned(system, ram, &self.server, &self.links, now);
        }
    }

    /// As [`Self::serve_links`], of Dynamic Memory.
    pub(super) fn serve_memory<S: System<Ram = R>>(&mut self, system: &mut S, ram: &R, now: u64) {
        let Some(dynamic) = &mut self.dynamic else {
            return;
        };
        let Err(error) = dynamic.serve(system, ram, &self.server, &self.links, now) else {
            return;
        };
        let relid = dynamic.relid();
        self.break_off(system, ram, relid, &format!("memory: {error}"), now);
    }

    /// Takes packets of the services' channels, and sends theirs.
    pub(super) fn serve_links<S: System<Ram = R>>(&mut self, system: &mut S, ram: &R, now: u64) {
        let clocks = self.clocks;
        let mut broken: [Option<(Relid, &'static str, RingError)>; Services::COUNT] =
            [None; Services::COUNT];
        let links = self.links.iter_mut().zip(self.services.each());
        for ((link, service), broken) in links.zip(&mut broken) {
            service.tick(now);
            let name = service.id().name;
            let mut peer = Utility {
                service,
                now,
                clocks: &mut || clocks.read(system),
            };
            if let Err(error) = link.serve(&mut peer) {
                *broken = Some((link.relid, name, error));
            }
        }
        for (relid, name, error) in broken.into_iter().flatten() {
            self.break_off(system, ram, relid, &format!("{name}: {error}"), now);
        }
    }

    /// The guest broke a rule of a channel's rings.
    fn break_off<S: System<Ram = R>>(
        &mut self,
        system: &mut S,
        ram: &R,
        relid: Relid,
        text: &str,
        now: u64,
    ) {
        self.close(system, ram, relid, now);
        // Closed already if the guest was quicker.
        let _ = self.server.fail(relid);
        self.news.say(system, text, now);
    }
}

/// All links, that of Dynamic Memory last.
pub(super) fn all<'a, R: SharedRam>(
    links: &'a mut [Link<R>],
    dynamic: &'a mut Option<Dynamic<R>>,
) -> impl Iterator<Item = &'a mut Link<R>> {
    links.iter_mut().chain(dynamic.as_mut().map(Dynamic::link))
}
